"""The rules of conversion for pooling, reductions, and the heads of classifiers.

Maxima are taken over summed messages: chapter *Converting a network*.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from snnlib.conversion.registry import Builder, Ref, Unsupported, rule, wrong_rank
from snnlib.conversion.rules.pieces import affine, image_dimensions, per_dimension
from snnlib.conversion.rules.units import maximum

_AVERAGE, _MAXIMUM = "average of messages", "maximum of summed messages"
_INDICES = "it uses the indices: only the maximum itself converts"


def _ranked(b: Builder, x: Ref, dims: int) -> None:
    if len(b.shape(x)) != dims + 1:
        raise Unsupported(wrong_rank(b.shape(x), dims))


def _avg_pool(
    b: Builder, input: Ref, kernel_size: Any, stride: Any = None, padding: Any = 0,
    ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None,
    *, dims: int,
) -> Any:  # fmt: skip
    _ranked(b, input, dims)
    stride = kernel_size if stride is None or stride == [] else stride
    return b.then(
        "avg_pool", input, kernel_size=per_dimension(kernel_size, dims),
        stride=per_dimension(stride, dims), padding=per_dimension(padding, dims),
        ceil_mode=ceil_mode, count_include_pad=count_include_pad, divisor_override=divisor_override,
    )  # fmt: skip


def _max_pool(
    b: Builder, input: Ref, kernel_size: Any, stride: Any = None, padding: Any = 0,
    dilation: Any = 1, ceil_mode: bool = False, return_indices: bool = False, *, dims: int,
) -> Any:  # fmt: skip
    _ranked(b, input, dims)
    stride = kernel_size if stride is None or stride == [] else stride
    name = b.then(
        "max_pool", input, kernel_size=per_dimension(kernel_size, dims),
        stride=per_dimension(stride, dims), padding=per_dimension(padding, dims),
        dilation=per_dimension(dilation, dims), ceil_mode=ceil_mode,
    )  # fmt: skip
    return [name, Unsupported(_INDICES)]


def _adaptive(
    b: Builder, input: Ref, output_size: Any, return_indices: bool = False, *, dims: int, op: str
) -> Any:
    _ranked(b, input, dims)
    name = b.then(op, input, output_size=list(b.result.shape[2:]))
    return [name, Unsupported(_INDICES)]


_adaptive_avg_pool = partial(_adaptive, op="adaptive_avg_pool")
_adaptive_max_pool = partial(_adaptive, op="adaptive_max_pool")
for _dims in (1, 2, 3):
    for _name, _title, _becomes, _emit in (
        ("avg_pool", "AvgPool", _AVERAGE, _avg_pool),
        ("max_pool", "MaxPool", _MAXIMUM, _max_pool),
        ("adaptive_avg_pool", "AdaptiveAvgPool", _AVERAGE, _adaptive_avg_pool),
        ("adaptive_max_pool", "AdaptiveMaxPool", _MAXIMUM, _adaptive_max_pool),
    ):
        _names = [f"{_name}{_dims}d"] + [f"{_name}{_dims}d_with_indices"] * ("max" in _name)
        rule(*_names, becomes=_becomes, modules=(getattr(nn, f"{_title}{_dims}d"),))(
            partial(_emit, dims=_dims)
        )


# reductions


@rule("mean", "sum", becomes="average or sum of messages", note="not over the batch")
def _reduced(b: Builder, input: Ref, dim: Any = None, keepdim: bool = False, **_: Any) -> Ref:
    op = "mean" if "mean" in b.kind else "sum"
    return b.then(op, input, dims=image_dimensions(b, input, dim), keepdim=keepdim)


@rule("amax", becomes=_MAXIMUM, note="not over the batch")
def _amax(b: Builder, input: Ref, dim: Any = None, keepdim: bool = False, sign: int = 1) -> Ref:
    """The largest of ``sign`` · x along dimensions, times ``sign``."""
    dims = image_dimensions(b, input, dim)
    largest = b.then("amax", affine(b, input, sign, name=".sign"), dims=dims, keepdim=keepdim)
    return affine(b, largest, sign, name=".signed")


@rule("max", becomes=_MAXIMUM, note="along a dimension, without the indices; or of two")
def _max(
    b: Builder, input: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None,
    sign: int = 1,
) -> Any:  # fmt: skip
    second = dim if other is None else other
    if isinstance(second, Ref | Tensor) or not isinstance(input, Ref):
        return maximum(b, input, second, sign)
    return [_amax(b, input, dim, keepdim, sign), Unsupported(_INDICES)]


rule("maximum", becomes=_MAXIMUM, note="of two activations, or with a constant")(
    lambda b, input, other: maximum(b, input, other)
)
rule("amin", becomes=_MAXIMUM, note="of the negative, as amax")(partial(_amax, sign=-1))
rule("min", becomes=_MAXIMUM, note="of the negative, as max")(partial(_max, sign=-1))
rule("minimum", becomes=_MAXIMUM, note="of the negative, as maximum")(
    lambda b, input, other: maximum(b, input, other, -1)
)

# heads


def _last(b: Builder, input: Ref, dim: int | None = None, *_: Any, head: str, **__: Any) -> Ref:
    if dim is not None and dim % (len(b.shape(input)) + 1) != 1:
        raise Unsupported(f"dim={dim}: only a softmax over the classes (dim=1) can be dropped")
    return b.refused("softmax", "only a last softmax can be dropped", input, head=head)


for _head, _modules in (("softmax", (nn.Softmax, nn.Softmax2d)), ("log_softmax", (nn.LogSoftmax,))):
    rule(
        _head, becomes="nothing (dropped and reported)", note="at the end, over the classes",
        modules=_modules,
    )(partial(_last, head=_head))  # fmt: skip
