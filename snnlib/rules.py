"""The rules of conversion: one short function for each PyTorch operation that converts.

Importing this module fills `snnlib.trace.RULES`. A rule emits nodes of `snnlib.graph` and returns
the name of the last; it raises `Unsupported` for a use that does not convert, with the way out.
The book's page *What converts* is generated from the registry. Chapter *Converting a network*.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnlib.trace import REJECTED, Builder, Ref, Unsupported, rule


def _tuple(value: Any, dims: int) -> tuple[int, ...]:
    if isinstance(value, tuple | list):
        return tuple(int(v) for v in value) * (dims if len(value) == 1 else 1)
    return (int(value),) * dims


# weighted layers


@rule(nn.Linear, becomes="weights and a bias current")
def _linear_module(b: Builder, m: nn.Linear, x: Ref) -> str:
    return b.emit("linear", x, tensors={"weight": m.weight, "bias": m.bias})


@rule(F.linear, becomes="weights and a bias current")
def _linear(b: Builder, x: Ref, weight: Tensor, bias: Tensor | None = None) -> str:
    return b.emit("linear", x, tensors={"weight": weight, "bias": bias})


@rule(nn.Conv1d, nn.Conv2d, becomes="weights and a bias current (any padding mode)")
def _conv_module(b: Builder, m: Any, x: Ref) -> str:
    return _conv(b, x, m.weight, m.bias, m.stride, m.padding, m.dilation, m.groups, m.padding_mode)


@rule(F.conv1d, F.conv2d, torch.conv1d, torch.conv2d, becomes="weights and a bias current")
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
        raise Unsupported("its weights depend on the images: use fixed weights")
    dims = weight.dim() - 2
    dilation = _tuple(dilation, dims)
    if padding == "valid":
        padding = 0
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        before, after = [t // 2 for t in total], [t - t // 2 for t in total]
    else:
        before = after = list(_tuple(padding, dims))
    if mode != "zeros" or before != after:
        sides = [n for pair in zip(before[::-1], after[::-1], strict=True) for n in pair]
        x = _pad(b, x, sides, "constant" if mode == "zeros" else mode, 0.0)
        before = [0] * dims
    return b.emit(
        "conv", x, tensors={"weight": weight, "bias": bias}, stride=list(_tuple(stride, dims)),
        padding=list(before), dilation=list(dilation), groups=groups,
    )  # fmt: skip


def _pad(b: Builder, x: Ref, sides: list[int], mode: str, value: float) -> Ref:
    shape = list(b.shape(x))
    for i in range(len(sides) // 2):
        shape[-1 - i] += sides[2 * i] + sides[2 * i + 1]
    name = f"{b.current}.pad"
    return Ref(b.emit("pad", x, name=name, shape=tuple(shape), pad=sides, mode=mode, value=value))


@rule(nn.ConvTranspose1d, nn.ConvTranspose2d, becomes="weights and a bias current")
def _conv_transpose_module(b: Builder, m: Any, x: Ref, output_size: Any = None) -> str:
    if output_size is not None:
        raise Unsupported("output_size at call time: set output_padding instead")
    return b.emit(
        "conv_transpose", x, tensors={"weight": m.weight, "bias": m.bias}, stride=list(m.stride),
        padding=list(m.padding), output_padding=list(m.output_padding), groups=m.groups,
        dilation=list(m.dilation),
    )  # fmt: skip


# normalisation and other affine maps


@rule(
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    becomes="folded into the layer before, else a scale and a bias current",
)
def _batch_norm(b: Builder, m: Any, x: Ref) -> str:
    if m.running_mean is None or m.running_var is None:
        raise Unsupported("no running statistics: train it with track_running_stats=True")
    deviation = torch.sqrt(m.running_var.double() + m.eps)
    scale = (m.weight.double() if m.affine else 1.0) / deviation
    shift = (m.bias.double() if m.affine else 0.0) - m.running_mean.double() * scale
    column = (-1, *[1] * (len(b.shape(x)) - 1))
    dtype = m.running_mean.dtype
    tensors = {"scale": scale.to(dtype).reshape(column), "shift": shift.to(dtype).reshape(column)}
    return b.emit("affine", x, tensors=tensors)


def _constant(b: Builder, value: Any, shape: tuple[int, ...]) -> Tensor:
    """A number or tensor as something broadcastable to one image's value of ``shape``."""
    reference = next(b.model.parameters()).detach()
    tensor = torch.as_tensor(value, dtype=reference.dtype, device=reference.device).detach()
    if tensor.dim() > len(shape):
        if tensor.shape[0] != 1:
            raise Unsupported("a constant with a batch dimension: use one value for all images")
        tensor = tensor.squeeze(0)
    return tensor


def _add(b: Builder, x: Any, y: Any, alpha: float, beta: float) -> str:
    """alpha · x + beta · y, of which at least one depends on the images."""
    if isinstance(x, Ref) and isinstance(y, Ref):
        if alpha != 1:
            x = Ref(_scale(b, x, alpha))
        if b.shape(x) != b.shape(y):
            raise Unsupported(f"a sum of shapes {b.shape(x)} and {b.shape(y)}: make them equal")
        return b.emit("add", x, y, alpha=beta)
    ref, factor, other, weight = (x, alpha, y, beta) if isinstance(x, Ref) else (y, beta, x, alpha)
    shift = _constant(b, other, b.shape(ref)) * weight
    scale = None if factor == 1 else torch.full_like(shift, factor)
    return b.emit("affine", ref, tensors={"scale": scale, "shift": shift})


def _scale(b: Builder, x: Ref, factor: Any) -> str:
    return b.emit("affine", x, tensors={"scale": _constant(b, factor, b.shape(x))})


@rule(
    operator.add,
    operator.iadd,
    torch.add,
    "add",
    "add_",
    becomes="sum of messages, or a bias current",
)
def _add_rule(b: Builder, input: Any, other: Any, *, alpha: float = 1) -> str:
    return _add(b, input, other, 1, alpha)


@rule(operator.sub, operator.isub, torch.sub, "sub", "sub_", becomes="difference of messages")
def _sub_rule(b: Builder, input: Any, other: Any, *, alpha: float = 1) -> str:
    return _add(b, input, other, 1, -alpha)


@rule(operator.neg, torch.neg, "neg", becomes="scale")
def _neg(b: Builder, input: Ref) -> str:
    return _scale(b, input, -1.0)


@rule(operator.mul, operator.imul, torch.mul, "mul", "mul_", becomes="scale (constants only)")
def _mul(b: Builder, input: Any, other: Any) -> str:
    if isinstance(input, Ref) and isinstance(other, Ref):
        raise Unsupported("a product of two activations: spikes can be added, not multiplied")
    return _scale(b, input, other) if isinstance(input, Ref) else _scale(b, other, input)


@rule(
    operator.truediv, operator.itruediv, torch.div, "div", "div_", becomes="scale (constants only)"
)
def _div(b: Builder, input: Any, other: Any) -> str:
    if isinstance(other, Ref):
        raise Unsupported("a division by an activation: only constants can divide")
    return _scale(b, input, 1.0 / _constant(b, other, b.shape(input)))


# activations


@rule(nn.ReLU, becomes="spiking neurons")
def _relu_module(b: Builder, m: nn.ReLU, x: Ref) -> str:
    return b.emit("relu", x)


@rule(F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_", becomes="spiking neurons")
def _relu(b: Builder, input: Ref, inplace: bool = False) -> str:
    return b.emit("relu", input)


@rule(nn.ReLU6, becomes="spiking neurons with a bounded count")
def _relu6_module(b: Builder, m: nn.ReLU6, x: Ref) -> str:
    return b.emit("relu", x, bound=6.0)


@rule(F.relu6, becomes="spiking neurons with a bounded count")
def _relu6(b: Builder, input: Ref, inplace: bool = False) -> str:
    return b.emit("relu", input, bound=6.0)


@rule(nn.Hardtanh, becomes="spiking neurons with a bounded count (min_val = 0)")
def _hardtanh_module(b: Builder, m: nn.Hardtanh, x: Ref) -> str:
    return _hardtanh(b, x, m.min_val, m.max_val)


@rule(F.hardtanh, torch.clamp, "clamp", "clamp_", becomes="spiking neurons (lower limit 0)")
def _hardtanh(
    b: Builder, input: Ref, min_val: float = -1.0, max_val: float | None = 1.0,
    inplace: bool = False, *, min: float | None = None, max: float | None = None,
) -> str:  # fmt: skip
    if min is not None or max is not None:
        min_val, max_val = min, max  # type: ignore[assignment]
    if min_val != 0 or isinstance(max_val, Ref | Tensor):
        raise Unsupported(f"limits {min_val}…{max_val}: only 0…m converts (a ReLU, bounded at m)")
    return b.emit("relu", input) if max_val is None else b.emit("relu", input, bound=float(max_val))


@rule(F.threshold, torch.threshold, nn.Threshold, becomes="spiking neurons (threshold 0, value 0)")
def _threshold(b: Builder, *args: Any, inplace: bool = False) -> str:
    x, limit, value = args if len(args) == 3 else (args[1], args[0].threshold, args[0].value)
    if limit != 0 or value != 0:
        raise Unsupported("only threshold 0 and value 0 convert (a ReLU)")
    return b.emit("relu", x)


# pooling and resizing


@rule(nn.AvgPool1d, nn.AvgPool2d, becomes="average of messages")
def _avg_pool_module(b: Builder, m: Any, x: Ref) -> str:
    return _avg_pool(
        b, x, m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad,
        getattr(m, "divisor_override", None),
    )  # fmt: skip


@rule(F.avg_pool1d, F.avg_pool2d, torch.avg_pool1d, becomes="average of messages")
def _avg_pool(
    b: Builder, input: Ref, kernel_size: Any, stride: Any = None, padding: Any = 0,
    ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None,
) -> str:  # fmt: skip
    dims = len(b.shape(input)) - 1
    stride = kernel_size if stride is None or stride == [] else stride
    return b.emit(
        "avg_pool", input, kernel_size=list(_tuple(kernel_size, dims)),
        stride=list(_tuple(stride, dims)), padding=list(_tuple(padding, dims)),
        ceil_mode=ceil_mode, count_include_pad=count_include_pad, divisor_override=divisor_override,
    )  # fmt: skip


@rule(nn.MaxPool1d, nn.MaxPool2d, becomes="maximum of summed messages")
def _max_pool_module(b: Builder, m: Any, x: Ref) -> str:
    if m.return_indices:
        raise Unsupported("return_indices=True: only the maximum itself converts")
    return _max_pool(b, x, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode)


@rule(
    F.max_pool1d,
    F.max_pool2d,
    torch.max_pool1d,
    torch.max_pool2d,
    becomes="maximum of summed messages",
)
def _max_pool(
    b: Builder, input: Ref, kernel_size: Any, stride: Any = None, padding: Any = 0,
    dilation: Any = 1, ceil_mode: bool = False, return_indices: bool = False,
) -> str:  # fmt: skip
    if return_indices:
        raise Unsupported("return_indices=True: only the maximum itself converts")
    dims = len(b.shape(input)) - 1
    stride = kernel_size if stride is None or stride == [] else stride
    return b.emit(
        "max_pool", input, kernel_size=list(_tuple(kernel_size, dims)),
        stride=list(_tuple(stride, dims)), padding=list(_tuple(padding, dims)),
        dilation=list(_tuple(dilation, dims)), ceil_mode=ceil_mode,
    )  # fmt: skip


@rule(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, becomes="average of messages")
def _adaptive_avg_module(b: Builder, m: Any, x: Ref) -> str:
    return _adaptive_avg(b, x, m.output_size)


@rule(
    F.adaptive_avg_pool1d,
    F.adaptive_avg_pool2d,
    torch.adaptive_avg_pool1d,
    becomes="average of messages",
)
def _adaptive_avg(b: Builder, input: Ref, output_size: Any) -> str:
    return b.emit("adaptive_avg_pool", input, output_size=list(b.result.shape[2:]))


@rule(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, becomes="maximum of summed messages")
def _adaptive_max_module(b: Builder, m: Any, x: Ref) -> str:
    return b.emit("adaptive_max_pool", x, output_size=list(b.result.shape[2:]))


@rule(F.adaptive_max_pool1d, F.adaptive_max_pool2d, becomes="maximum of summed messages")
def _adaptive_max(b: Builder, input: Ref, output_size: Any, return_indices: bool = False) -> str:
    return b.emit("adaptive_max_pool", input, output_size=list(b.result.shape[2:]))


@rule(torch.mean, "mean", becomes="average of messages (not over the batch)")
def _mean(b: Builder, input: Ref, dim: Any = None, keepdim: bool = False) -> str:
    return b.emit("mean", input, dims=_image_dims(b, input, dim), keepdim=keepdim)


@rule(torch.sum, "sum", becomes="sum of messages (not over the batch)")
def _sum(b: Builder, input: Ref, dim: Any = None, keepdim: bool = False) -> str:
    return b.emit("sum", input, dims=_image_dims(b, input, dim), keepdim=keepdim)


def _image_dims(b: Builder, x: Ref, dim: Any) -> list[int]:
    rank = len(b.shape(x)) + 1
    dims = [] if dim is None else [dim] if isinstance(dim, int) else list(dim)
    dims = [d % rank for d in dims]
    if not dims or 0 in dims:
        raise Unsupported("it reduces over the batch: name the image dimensions in dim")
    return dims


@rule(nn.Upsample, nn.UpsamplingNearest2d, becomes="copies of messages (nearest only)")
def _upsample_module(b: Builder, m: nn.Upsample, x: Ref) -> str:
    return _upsample(b, x, mode=m.mode)


@rule(F.interpolate, F.upsample, becomes="copies of messages (nearest only)")
def _upsample(b: Builder, input: Ref, *args: Any, mode: str = "nearest", **kwargs: Any) -> str:
    if mode != "nearest":
        raise Unsupported(f'mode="{mode}": use mode="nearest"')
    return b.emit("upsample", input, size=list(b.result.shape[2:]))


@rule(
    nn.ZeroPad1d,
    nn.ZeroPad2d,
    nn.ConstantPad1d,
    nn.ConstantPad2d,
    becomes="padding; a constant is a bias current",
)
def _pad_module(b: Builder, m: Any, x: Ref) -> str:
    return _pad_function(b, x, m.padding, "constant", m.value)


@rule(nn.ReflectionPad1d, nn.ReflectionPad2d, becomes="padding")
def _reflect_module(b: Builder, m: Any, x: Ref) -> str:
    return _pad_function(b, x, m.padding, "reflect")


@rule(nn.ReplicationPad1d, nn.ReplicationPad2d, becomes="padding")
def _replicate_module(b: Builder, m: Any, x: Ref) -> str:
    return _pad_function(b, x, m.padding, "replicate")


@rule(F.pad, becomes="padding; a constant is a bias current")
def _pad_function(
    b: Builder, input: Ref, pad: Any, mode: str = "constant", value: float | None = None
) -> str:
    return b.emit("pad", input, pad=list(pad), mode=mode, value=float(value or 0.0))


# shapes


@rule(nn.Flatten, nn.Unflatten, becomes="reshape")
def _reshape_module(b: Builder, m: Any, x: Ref) -> str:
    return _reshape(b, x)


@rule(
    torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze, "flatten", "view", "reshape",
    "squeeze", "unsqueeze", "view_as", becomes="reshape (the batch dimension stays)",
)  # fmt: skip
def _reshape(b: Builder, input: Ref, *args: Any, **kwargs: Any) -> str:
    shape = tuple(b.result.shape[1:])
    if math.prod(shape) != math.prod(b.shape(input)):
        raise Unsupported("it mixes the images of a batch: keep the first dimension")
    return b.emit("reshape", input, to=list(shape))


@rule(torch.permute, "permute", becomes="reordered dimensions (the batch stays first)")
def _permute(b: Builder, input: Ref, *dims: Any) -> str:
    order = dims[0] if len(dims) == 1 and not isinstance(dims[0], int) else dims
    rank = len(b.shape(input)) + 1
    order = [d % rank for d in order]
    if order[0] != 0:
        raise Unsupported("it moves the batch dimension: keep it first")
    return b.emit("permute", input, dims=order)


@rule(
    torch.transpose, "transpose", "swapaxes", becomes="reordered dimensions (the batch stays first)"
)
def _transpose(b: Builder, input: Ref, dim0: int, dim1: int) -> str:
    order = list(range(len(b.shape(input)) + 1))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return _permute(b, input, order)


@rule("contiguous", "clone", "detach", torch.clone, nn.Identity, becomes="nothing (dropped)")
def _identity(b: Builder, *args: Any, **kwargs: Any) -> str:
    return next(a for a in args if isinstance(a, Ref)).name


@rule(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout, becomes="nothing (dropped)")
def _dropout_module(b: Builder, m: nn.Module, x: Ref) -> str:
    return x.name


@rule(
    F.dropout,
    F.dropout1d,
    F.dropout2d,
    F.alpha_dropout,
    becomes="nothing (training=self.training only)",
)
def _dropout(
    b: Builder, input: Ref, p: float = 0.5, training: bool = True, inplace: bool = False
) -> str:
    if training and p > 0:
        raise Unsupported(
            "F.dropout without training=self.training stays random in evaluation: pass it, or use "
            "nn.Dropout"
        )
    return input.name


@rule(torch.cat, torch.concat, becomes="concatenation of messages")
def _cat(b: Builder, tensors: Any, dim: int = 0) -> str:
    if not all(isinstance(t, Ref) for t in tensors):
        raise Unsupported("it joins a constant: join activations only")
    dim = dim % (len(b.shape(tensors[0])) + 1)
    if dim == 0:
        raise Unsupported("it joins along the batch: choose an image dimension")
    return b.emit("cat", *tensors, dim=dim)


@rule(torch.narrow, "narrow", becomes="part of the messages")
def _narrow(b: Builder, input: Ref, dim: int, start: int, length: int) -> str:
    return b.emit("slice", input, dim=dim, start=start, length=length)


# heads


@rule(nn.Softmax, becomes="nothing at the end (dropped, reported)")
def _softmax_module(b: Builder, m: nn.Module, x: Ref) -> str:
    return _softmax(b, x)


@rule(F.softmax, torch.softmax, "softmax", becomes="nothing at the end (dropped, reported)")
def _softmax(b: Builder, input: Ref, *args: Any, **kwargs: Any) -> str:
    return _drop_last(b, input, "softmax")


@rule(nn.LogSoftmax, becomes="nothing at the end (dropped, reported)")
def _log_softmax_module(b: Builder, m: nn.Module, x: Ref) -> str:
    return _log_softmax(b, x)


@rule(
    F.log_softmax,
    torch.log_softmax,
    "log_softmax",
    becomes="nothing at the end (dropped, reported)",
)
def _log_softmax(b: Builder, input: Ref, *args: Any, **kwargs: Any) -> str:
    return _drop_last(b, input, "log_softmax")


def _drop_last(b: Builder, x: Ref, kind: str) -> str:
    b.head = kind
    b.notes.append(f"{b.current}: {kind} dropped; the logits before it have the same order")
    b.final[b.current] = f"a {kind} inside the network: only the last one can be dropped"
    return x.name


_REJECTED: dict[Any, str] = (
    {
        **dict.fromkeys(
            (nn.GELU, F.gelu, nn.SiLU, F.silu, nn.Mish, nn.ELU, F.elu, nn.SELU, nn.CELU,
             nn.Softplus, nn.Hardswish, F.hardswish, nn.LeakyReLU, F.leaky_relu, nn.PReLU),
            "a spike count is a ReLU: train with nn.ReLU in its place",
        ),
        **dict.fromkeys(
            (nn.Tanh, torch.tanh, nn.Sigmoid, torch.sigmoid, nn.Hardsigmoid, F.hardsigmoid),
            "not a ReLU: train with nn.ReLU, or nn.Hardtanh(0, 1) for a bounded unit",
        ),
        **dict.fromkeys(
            (nn.LayerNorm, F.layer_norm, nn.GroupNorm, F.group_norm, nn.InstanceNorm2d,
             nn.LocalResponseNorm),
            "its statistics depend on the image: train with nn.BatchNorm2d, which folds",
        ),
        **dict.fromkeys(
            (nn.MultiheadAttention, F.scaled_dot_product_attention, torch.matmul, operator.matmul,
             torch.bmm, torch.einsum),
            "products of activations have no spiking form: use convolutions or linear layers",
        ),
        **dict.fromkeys(
            (nn.LSTM, nn.GRU, nn.RNN),
            "recurrent in its own time: see the chapter on rank coding",
        ),
    }
)  # fmt: skip
REJECTED.update(_REJECTED)
