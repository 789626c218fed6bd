"""The rules of conversion for layers with weights, products with fixed weights, normalization."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnlib.conversion.registry import Builder, Ref, Unsupported, rule
from snnlib.conversion.rules import pieces
from snnlib.conversion.rules.pieces import per_dimension, permuted, reshaped
from snnlib.conversion.rules.refused import PRODUCT, STATISTICS

_WEIGHTS = "weights and a bias current"
_MIXED = "its weight depends on the images: use fixed weights"


@rule(F.linear, modules=(nn.Linear,), becomes=_WEIGHTS)
def _linear(b: Builder, input: Ref, weight: Tensor, bias: Tensor | None = None) -> str:
    return b.emit("linear", input, tensors={"weight": weight, "bias": bias})


@rule(
    F.conv1d, F.conv2d, F.conv3d, modules=(nn.Conv1d, nn.Conv2d, nn.Conv3d), becomes=_WEIGHTS,
    note="any stride, padding, padding mode, dilation, groups",
)  # fmt: skip
def _conv(
    b: Builder, input: Ref, weight: Tensor, bias: Tensor | None = None, stride: Any = 1,
    padding: Any = 0, dilation: Any = 1, groups: int = 1,
) -> str:  # fmt: skip
    if not isinstance(weight, Tensor):
        raise Unsupported(_MIXED)
    dims = weight.dim() - 2
    dilation = per_dimension(dilation, dims)
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        before, after = [t // 2 for t in total], [t - t // 2 for t in total]
    else:
        before = after = per_dimension(0 if padding == "valid" else padding, dims)
    if before != after:
        sides = [n for pair in zip(before[::-1], after[::-1], strict=True) for n in pair]
        input, before = pieces.pad(b, input, sides), [0] * dims
    return b.emit(
        "conv", input, tensors={"weight": weight, "bias": bias}, stride=per_dimension(stride, dims),
        padding=before, dilation=dilation, groups=groups,
    )  # fmt: skip


@rule(
    F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d, becomes=_WEIGHTS,
    modules=(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)  # fmt: skip
def _conv_transpose(
    b: Builder, input: Ref, weight: Tensor, bias: Tensor | None = None, stride: Any = 1,
    padding: Any = 0, output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> str:  # fmt: skip
    if not isinstance(weight, Tensor):
        raise Unsupported(_MIXED)
    dims = weight.dim() - 2
    return b.emit(
        "conv_transpose", input, tensors={"weight": weight, "bias": bias}, groups=groups,
        stride=per_dimension(stride, dims), padding=per_dimension(padding, dims),
        output_padding=per_dimension(output_padding, dims),
        dilation=per_dimension(dilation, dims),
    )  # fmt: skip


# products with fixed weights
_FIXED = "where one of the two is fixed"


def contract(b: Builder, terms: list[str], factors: tuple[Any, ...], out: str) -> str:
    """Σ x · weight over the axes that ``out`` lacks, as in einsum; an axis is one letter.

    An axis that x, weight and ``out`` share runs along groups, one that the weight lacks along
    places. So this is a linear layer where there is one place, else a convolution of width 1.

    Args:
        b: the builder.
        terms: letters for the axes of each factor, for x with the batch first.
        factors: x of shape (B, ...), or x and a fixed weight in either order.
        out: letters for the axes of the result.
    """
    found = [n for n, factor in enumerate(factors) if isinstance(factor, Ref)]
    if len(found) > 1 or len(factors) > 2:
        raise Unsupported(PRODUCT if len(found) > 1 else "more than one fixed factor: join them")
    x, axes = factors[found[0]], terms[found[0]]
    weight, own = (torch.ones(()), "") if len(factors) < 2 else (
        factors[1 - found[0]], terms[1 - found[0]])  # fmt: skip
    if len({*axes}) < len(axes) or len({*own}) < len(own):
        raise Unsupported("it takes a diagonal: use torch.diagonal first")
    if not out.startswith(axes[0]):
        raise Unsupported("it sums over or moves the batch dimension: keep it first")
    size = dict(zip(axes, (len(b.like), *b.shape(x)), strict=True))
    for axis in own:  # what is the same for all images or all entries is one weight
        at = own.index(axis)
        if axis == axes[0] or weight.shape[at] < size.get(axis, 0):
            weight = pieces.same_for_all(weight.movedim(at, 0))
            own = own.replace(axis, "")
    for axis in [a for a in axes[1:] if a in own and size[a] < weight.shape[own.index(a)]]:
        axes = axes.replace(axis, "")  # x is the same all along it
        x = reshaped(b, x, tuple(size[a] for a in axes[1:]))
    weight = torch.einsum(
        weight, [*range(len(own))], [n for n, a in enumerate(own) if a in axes + out]
    )
    own = "".join(a for a in own if a in axes + out)
    if alone := [n for n, a in enumerate(axes) if a not in own + out]:
        axes = "".join(a for a in axes if a in own + out)
        x = b.then("sum", x, name=".sum", shape=tuple(size[a] for a in axes[1:]), dims=alone,
                   keepdim=False)  # fmt: skip
    if len(factors) < 2:
        return permuted(b, x, [axes.index(a) for a in out], "").name
    size |= dict(zip(own, weight.shape, strict=True))
    groups, places = ([a for a in axes[1:] if a in out and (a in own) == g] for g in (True, False))
    inner, new = [a for a in axes if a not in out], [a for a in out if a not in axes]
    g, k, n, m = (math.prod(size[a] for a in some) for some in (groups, inner, new, places))
    order = [own.index(a) for a in (*groups, *new, *inner)]
    weight = weight.permute(order).reshape(g * n, k)  # (groups · new, inner)
    if (
        not groups
        and axes[1:] == "".join((*places, *inner))
        and out[1:] == "".join((*places, *new))
        and len(inner) == len(new) == 1
    ):
        return b.emit("linear", x, shape=(*b.shape(x)[:-1], n), tensors={"weight": weight})
    x = permuted(b, x, [axes.index(a) for a in (axes[0], *groups, *inner, *places)])
    if g == m == 1:
        x = b.then("linear", reshaped(b, x, (k,)), shape=(n,), tensors={"weight": weight})
    else:
        x = b.then("conv", reshaped(b, x, (g * k, m)), shape=(g * n, m), groups=g, stride=[1],
                   padding=[0], dilation=[1], tensors={"weight": weight.unsqueeze(2)})  # fmt: skip
    made = (*groups, *new, *places)
    x = reshaped(b, x, tuple(size[a] for a in made))
    return permuted(b, x, [0, *[1 + made.index(a) for a in out[1:]]]).name


@rule("matmul", "mm", "bmm", "mv", becomes="weights", note=_FIXED)
def _matmul(b: Builder, input: Any, other: Any) -> str:
    left, right = (len(b.shape(v)) + 1 if isinstance(v, Ref) else v.dim() for v in (input, other))
    lead = "abcdefgh"[: max(left, right, 2) - 2]  # (lead, M, K) @ (lead, K, N); a vector is (K,)
    rows, columns = "m" * (left > 1), "n" * (right > 1)
    first, second = lead[len(lead) + 2 - max(left, 2) :], lead[len(lead) + 2 - max(right, 2) :]
    terms = [first + rows + "k", second + "k" + columns]
    return contract(b, terms, (input, other), lead + rows + columns)


@rule("__rmatmul__", becomes="weights", note=_FIXED)
def _rmatmul(b: Builder, input: Any, other: Any) -> str:
    return _matmul(b, other, input)


@rule("einsum", becomes="weights", note=f"{_FIXED}; an equation without dots")
def _einsum(b: Builder, equation: str, *operands: Any) -> str:
    terms, arrow, out = equation.replace(" ", "").partition("->")
    if "." in terms or not arrow:
        raise Unsupported("an equation with dots or without ->: write all its letters")
    given = operands[0] if isinstance(operands[0], tuple | list) else operands
    return contract(b, terms.split(","), tuple(given), out)


@rule("addmm", "baddbmm", "addmv", becomes=_WEIGHTS, note=_FIXED)
def _addmm(b: Builder, input: Any, one: Any, two: Any, *, beta: float = 1, alpha: float = 1) -> Ref:
    return pieces.add(b, Ref(_matmul(b, one, two)), input, alpha, beta)


# normalization


@rule(
    F.batch_norm, "batch_norm", F.instance_norm, note="training=False, track_running_stats=True",
    becomes="folded into the weighted layer before it, else a scale and a bias current",
    modules=(
        nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.InstanceNorm1d,
        nn.InstanceNorm2d, nn.InstanceNorm3d,
    ),
)  # fmt: skip
def _batch_norm(
    b: Builder, input: Ref, running_mean: Tensor | None = None, running_var: Tensor | None = None,
    weight: Tensor | None = None, bias: Tensor | None = None, training: bool = False,
    momentum: float = 0.1, eps: float = 1e-5, *_: Any, use_input_stats: bool = False,
) -> str:  # fmt: skip
    if b.function is torch.batch_norm:  # it takes the two pairs the other way round
        running_mean, running_var, weight, bias = weight, bias, running_mean, running_var
    if use_input_stats:
        raise Unsupported(STATISTICS)
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
    column = (-1, *[1] * (len(b.shape(input)) - 1))  # (C, 1, ...)
    return pieces.affine(b, input, scale.reshape(column), shift.reshape(column)).name
