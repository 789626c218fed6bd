"""The rules of conversion: weighted layers, normalisation, arithmetic.

Importing this module fills `snnlib.registry.RULES`, with the rules of `snnlib.rules_units`
(activations, pooling, heads) and `snnlib.rules_shapes` (shapes, parts, copies) and the refusals
of `snnlib.rejected`. A rule emits nodes of `snnlib.graph` and returns the name of the last; it
raises `Unsupported` for a use that does not convert, with the way out. Chapter *Converting a
network*.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnlib.conversion.registry import Builder, Ref, Unsupported, rule
from snnlib.conversion.rules import refused, shapes, units  # noqa: F401  (their rules)
from snnlib.conversion.rules.shapes import pad, per_dimension

_WEIGHTS = "weights and a bias current"

# weighted layers


@rule(nn.Linear, becomes=_WEIGHTS)
def _linear_module(b: Builder, m: nn.Linear, x: Ref) -> str:
    return b.emit("linear", x, tensors={"weight": m.weight, "bias": m.bias})


@rule(F.linear, becomes=_WEIGHTS)
def _linear(b: Builder, input: Ref, weight: Tensor, bias: Tensor | None = None) -> str:
    return b.emit("linear", input, tensors={"weight": weight, "bias": bias})


@rule(
    nn.Conv1d, nn.Conv2d, nn.Conv3d, becomes=_WEIGHTS,
    note="any stride, padding, padding mode, dilation, groups",
)  # fmt: skip
def _conv_module(b: Builder, m: Any, x: Ref) -> str:
    return _conv(b, x, m.weight, m.bias, m.stride, m.padding, m.dilation, m.groups, m.padding_mode)


@rule(F.conv1d, F.conv2d, F.conv3d, becomes=_WEIGHTS)
def _conv_function(
    b: Builder, input: Ref, weight: Tensor, bias: Tensor | None = None, stride: Any = 1,
    padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> str:  # fmt: skip
    return _conv(b, input, weight, bias, stride, padding, dilation, groups, "zeros")


def _conv(
    b: Builder, x: Ref, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any,
    dilation: Any, groups: int, mode: str,
) -> str:  # fmt: skip
    if isinstance(weight, Ref):
        raise Unsupported("its weight depends on the images: use fixed weights")
    dims = weight.dim() - 2
    if len(b.shape(x)) != dims + 1:
        raise Unsupported(
            f"it takes a batch of shape (B, C{', …' * dims}) and sees (B, "
            f"{str(b.shape(x))[1:-1]}): is the batch dimension missing?"
        )
    dilation = per_dimension(dilation, dims)
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        before, after = [t // 2 for t in total], [t - t // 2 for t in total]
    else:
        before = after = per_dimension(0 if padding == "valid" else padding, dims)
    if mode != "zeros" or before != after:
        sides = [n for pair in zip(before[::-1], after[::-1], strict=True) for n in pair]
        x = pad(b, x, sides, "constant" if mode == "zeros" else mode, 0.0)
        before = [0] * dims
    return b.emit(
        "conv", x, tensors={"weight": weight, "bias": bias}, stride=per_dimension(stride, dims),
        padding=before, dilation=dilation, groups=groups,
    )  # fmt: skip


@rule(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, becomes=_WEIGHTS)
def _conv_transpose_module(b: Builder, m: Any, x: Ref, output_size: Any = None) -> str:
    if output_size is not None:
        raise Unsupported("output_size at call time: set output_padding instead")
    return _conv_transpose(
        b, x, m.weight, m.bias, m.stride, m.padding, m.output_padding, m.groups, m.dilation
    )


@rule(F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d, becomes=_WEIGHTS)
def _conv_transpose(
    b: Builder, input: Ref, weight: Tensor, bias: Tensor | None = None, stride: Any = 1,
    padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> str:  # fmt: skip
    if isinstance(weight, Ref):
        raise Unsupported("its weight depends on the images: use fixed weights")
    dims = weight.dim() - 2
    return b.emit(
        "conv_transpose", input, tensors={"weight": weight, "bias": bias}, groups=groups,
        stride=per_dimension(stride, dims), padding=per_dimension(padding, dims),
        output_padding=per_dimension(output_padding, dims),
        dilation=per_dimension(dilation, dims),
    )  # fmt: skip


# normalisation

_FOLDED = "folded into the weighted layer before it, else a scale and a bias current"


@rule(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, becomes=_FOLDED)
def _batch_norm_module(b: Builder, m: Any, x: Ref) -> str:
    return _batch_norm(b, x, m.running_mean, m.running_var, m.weight, m.bias, eps=m.eps)


@rule(F.batch_norm, becomes=_FOLDED, note="training=False")
def _batch_norm(
    b: Builder, input: Ref, running_mean: Tensor | None, running_var: Tensor | None,
    weight: Tensor | None = None, bias: Tensor | None = None, training: bool = False,
    momentum: float = 0.1, eps: float = 1e-5,
) -> str:  # fmt: skip
    if training or running_mean is None or running_var is None:
        raise Unsupported(
            "its statistics depend on the batch: train it with track_running_stats=True"
        )
    scale = 1 / torch.sqrt(running_var.double() + eps)
    if weight is not None:
        scale = scale * weight.double()
    shift = -running_mean.double() * scale
    if bias is not None:
        shift = shift + bias.double()
    column = (-1, *[1] * (len(b.shape(input)) - 1))
    tensors: dict[str, Tensor | None] = {
        "scale": scale.reshape(column),
        "shift": shift.reshape(column),
    }
    return b.emit("affine", input, tensors=tensors)


@rule(
    "torchvision.transforms.transforms.Normalize",
    "torchvision.transforms.v2._misc.Normalize",
    becomes="a scale and a bias current, computed once",
    note="in front of the network",
)
def _normalize(b: Builder, m: Any, x: Ref) -> str:
    mean, std = (
        torch.as_tensor(values, dtype=torch.float64, device=b.like.device).reshape(-1, 1, 1)
        for values in (m.mean, m.std)
    )
    return b.emit("affine", x, tensors={"scale": 1 / std, "shift": -mean / std})


# arithmetic


def _constant(b: Builder, value: Any, shape: tuple[int, ...]) -> Tensor:
    """A number or tensor as something broadcastable to one image's value of ``shape``."""
    tensor = torch.as_tensor(value, dtype=torch.float64, device=b.like.device).detach()
    if tensor.dim() > len(shape):
        if tensor.shape[0] != 1:
            raise Unsupported("a constant with a batch dimension: use one value for all images")
        tensor = tensor[0]
    return tensor


def _scale(b: Builder, x: Ref, factor: Any, name: str | None = None) -> str:
    shape = b.shape(x) if name else None
    tensors: dict[str, Tensor | None] = {"scale": _constant(b, factor, b.shape(x))}
    return b.emit("affine", x, name=name, shape=shape, tensors=tensors)


def _sum(b: Builder, x: Any, y: Any, alpha: float, beta: float) -> str:
    """alpha · x + beta · y, of which at least one depends on the images."""
    if isinstance(x, Ref) and isinstance(y, Ref):
        if len(b.shape(x)) != len(b.shape(y)):
            raise Unsupported(
                f"a sum of shapes {('B', *b.shape(x))} and {('B', *b.shape(y))} mixes the images "
                "of a batch: give both the same number of dimensions"
            )
        if alpha != 1:
            x = Ref(_scale(b, x, alpha, f"{b.current}.scale"))
        return b.emit("add", x, y, alpha=beta)
    ref, factor, other, weight = (x, alpha, y, beta) if isinstance(x, Ref) else (y, beta, x, alpha)
    shift = _constant(b, other, b.shape(ref)) * weight
    scale = None if factor == 1 else torch.full_like(shift, factor)
    return b.emit("affine", ref, tensors={"scale": scale, "shift": shift})


@rule(
    operator.add, operator.iadd, torch.add, "add", "add_",
    becomes="sum of messages; a constant is a bias current",
)  # fmt: skip
def _add(b: Builder, input: Any, other: Any, *, alpha: float = 1) -> str:
    return _sum(b, input, other, 1, alpha)


@rule(
    operator.sub, operator.isub, torch.sub, "sub", "sub_", torch.subtract,
    becomes="difference of messages; a constant is a bias current",
)  # fmt: skip
def _sub(b: Builder, input: Any, other: Any, *, alpha: float = 1) -> str:
    return _sum(b, input, other, 1, -alpha)


@rule(torch.rsub, becomes="difference of messages; a constant is a bias current")
def _rsub(b: Builder, input: Any, other: Any, *, alpha: float = 1) -> str:
    return _sum(b, other, input, 1, -alpha)


_SCALE, _BY_CONSTANT = "scale of the messages", "by a constant"


@rule(operator.neg, torch.neg, "neg", becomes=_SCALE)
def _neg(b: Builder, input: Ref) -> str:
    return _scale(b, input, -1.0)


@rule(operator.pos, torch.positive, "positive", becomes="nothing (dropped)")
def _pos(b: Builder, input: Ref) -> str:
    return input.name


@rule(
    operator.mul, operator.imul, torch.mul, "mul", "mul_", torch.multiply,
    becomes=_SCALE, note=_BY_CONSTANT,
)  # fmt: skip
def _mul(b: Builder, input: Any, other: Any) -> str:
    if isinstance(input, Ref) and isinstance(other, Ref):
        raise Unsupported(
            "a product of two activations: spikes can be added, not multiplied (a gate or "
            "attention block has to go, or become a residual sum)"
        )
    return _scale(b, input, other) if isinstance(input, Ref) else _scale(b, other, input)


@rule(
    operator.truediv, operator.itruediv, torch.div, "div", "div_", torch.divide,
    becomes=_SCALE, note=_BY_CONSTANT,
)  # fmt: skip
def _div(b: Builder, input: Any, other: Any) -> str:
    if isinstance(other, Ref):
        raise Unsupported("a division by an activation: only constants can divide")
    return _scale(b, input, 1.0 / _constant(b, other, b.shape(input)))
