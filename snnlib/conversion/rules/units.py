"""The rules of conversion for activations, pooling and the heads of classifiers.

See `snnlib.rules`. Bounded activations: chapter *Spiking neurons*; max pooling on summed messages:
chapter *Converting a network*.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnlib.conversion.registry import Builder, Ref, Unsupported, rule
from snnlib.conversion.rules.shapes import image_dimensions, per_dimension

# activations

_SPIKING, _BOUNDED = "spiking neurons", "spiking neurons with a bounded count"


@rule(nn.ReLU, becomes=_SPIKING)
def _relu_module(b: Builder, m: nn.ReLU, x: Ref) -> str:
    return b.emit("relu", x)


@rule(F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_", becomes=_SPIKING)
def _relu(b: Builder, input: Ref, inplace: bool = False) -> str:
    return b.emit("relu", input)


@rule(nn.ReLU6, becomes=_BOUNDED)
def _relu6_module(b: Builder, m: nn.ReLU6, x: Ref) -> str:
    return b.emit("relu", x, bound=6.0)


@rule(F.relu6, becomes=_BOUNDED)
def _relu6(b: Builder, input: Ref, inplace: bool = False) -> str:
    return b.emit("relu", input, bound=6.0)


@rule(nn.Hardtanh, becomes=_BOUNDED, note="min_val=0")
def _hardtanh_module(b: Builder, m: nn.Hardtanh, x: Ref) -> str:
    return _clip(b, x, m.min_val, m.max_val)


@rule(F.hardtanh, F.hardtanh_, becomes=_BOUNDED, note="min_val=0")
def _hardtanh(
    b: Builder, input: Ref, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> str:
    return _clip(b, input, min_val, max_val)


@rule(
    torch.clamp, torch.clip, "clamp", "clamp_", "clip", "clip_", torch.clamp_min, "clamp_min",
    becomes="spiking neurons, with a bounded count if there is a max", note="min=0",
)  # fmt: skip
def _clamp(b: Builder, input: Ref, min: Any = None, max: Any = None) -> str:
    return _clip(b, input, min, max)


def _clip(b: Builder, x: Ref, low: Any, high: Any) -> str:
    if isinstance(high, Ref | Tensor) or isinstance(low, Ref | Tensor):
        raise Unsupported("limits that are tensors: use two numbers, the lower one 0")
    if low != 0 or (high is not None and high <= 0):
        raise Unsupported(
            f"limits {low} … {high}: only 0 … m converts, a ReLU bounded at m, such as "
            "nn.Hardtanh(0, 1) or nn.ReLU6"
        )
    return b.emit("relu", x) if high is None else b.emit("relu", x, bound=float(high))


@rule(nn.Threshold, becomes=_SPIKING, note="threshold 0, value 0")
def _threshold_module(b: Builder, m: nn.Threshold, x: Ref) -> str:
    return _threshold(b, x, m.threshold, m.value)


@rule(F.threshold, torch.threshold, becomes=_SPIKING, note="threshold 0, value 0")
def _threshold(
    b: Builder, input: Ref, threshold: float, value: float, inplace: bool = False
) -> str:
    if threshold != 0 or value != 0:
        raise Unsupported("only threshold 0 and value 0 convert: that is nn.ReLU")
    return b.emit("relu", input)


# pooling

_AVERAGE, _MAXIMUM = "average of messages", "maximum of summed messages"


@rule(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, becomes=_AVERAGE)
def _avg_pool_module(b: Builder, m: Any, x: Ref) -> str:
    return _avg_pool(
        b, x, m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad,
        getattr(m, "divisor_override", None),
    )  # fmt: skip


@rule(F.avg_pool1d, F.avg_pool2d, F.avg_pool3d, becomes=_AVERAGE)
def _avg_pool(
    b: Builder, input: Ref, kernel_size: Any, stride: Any = None, padding: Any = 0,
    ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None,
) -> str:  # fmt: skip
    dims = len(b.shape(input)) - 1
    stride = kernel_size if stride is None or stride == [] else stride
    return b.emit(
        "avg_pool", input, kernel_size=per_dimension(kernel_size, dims),
        stride=per_dimension(stride, dims), padding=per_dimension(padding, dims),
        ceil_mode=ceil_mode, count_include_pad=count_include_pad, divisor_override=divisor_override,
    )  # fmt: skip


@rule(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, becomes=_MAXIMUM)
def _max_pool_module(b: Builder, m: Any, x: Ref) -> str:
    return _max_pool(
        b, x, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode, m.return_indices
    )


@rule(
    F.max_pool1d, F.max_pool2d, F.max_pool3d, torch.max_pool1d, torch.max_pool2d, torch.max_pool3d,
    becomes=_MAXIMUM,
)  # fmt: skip
def _max_pool(
    b: Builder, input: Ref, kernel_size: Any, stride: Any = None, padding: Any = 0,
    dilation: Any = 1, ceil_mode: bool = False, return_indices: bool = False,
) -> str:  # fmt: skip
    if return_indices:
        raise Unsupported("return_indices=True: only the maximum itself converts")
    dims = len(b.shape(input)) - 1
    stride = kernel_size if stride is None or stride == [] else stride
    return b.emit(
        "max_pool", input, kernel_size=per_dimension(kernel_size, dims),
        stride=per_dimension(stride, dims), padding=per_dimension(padding, dims),
        dilation=per_dimension(dilation, dims), ceil_mode=ceil_mode,
    )  # fmt: skip


@rule(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, becomes=_AVERAGE)
def _adaptive_avg_module(b: Builder, m: Any, x: Ref) -> str:
    return _adaptive_avg(b, x, m.output_size)


@rule(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d, becomes=_AVERAGE)
def _adaptive_avg(b: Builder, input: Ref, output_size: Any) -> str:
    return b.emit("adaptive_avg_pool", input, output_size=list(b.result.shape[2:]))


@rule(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d, becomes=_MAXIMUM)
def _adaptive_max_module(b: Builder, m: Any, x: Ref) -> str:
    return _adaptive_max(b, x, m.output_size, m.return_indices)


@rule(F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d, becomes=_MAXIMUM)
def _adaptive_max(b: Builder, input: Ref, output_size: Any, return_indices: bool = False) -> str:
    if return_indices:
        raise Unsupported("return_indices=True: only the maximum itself converts")
    return b.emit("adaptive_max_pool", input, output_size=list(b.result.shape[2:]))


@rule(torch.mean, "mean", becomes=_AVERAGE, note="not over the batch")
def _mean(b: Builder, input: Ref, dim: Any = None, keepdim: bool = False) -> str:
    return b.emit("mean", input, dims=image_dimensions(b, input, dim), keepdim=keepdim)


@rule(torch.sum, "sum", becomes="sum of messages", note="not over the batch")
def _sum(b: Builder, input: Ref, dim: Any = None, keepdim: bool = False) -> str:
    return b.emit("sum", input, dims=image_dimensions(b, input, dim), keepdim=keepdim)


@rule(torch.amax, "amax", becomes=_MAXIMUM, note="not over the batch")
def _amax(b: Builder, input: Ref, dim: Any = None, keepdim: bool = False) -> str:
    return b.emit("amax", input, dims=image_dimensions(b, input, dim), keepdim=keepdim)


# heads

_DROPPED = "nothing (dropped and reported)"


@rule(nn.Softmax, becomes=_DROPPED, note="at the end, over the classes")
def _softmax_module(b: Builder, m: nn.Softmax, x: Ref) -> str:
    return _drop_last(b, x, "softmax", m.dim)


@rule(F.softmax, torch.softmax, "softmax", becomes=_DROPPED, note="at the end, over the classes")
def _softmax(b: Builder, input: Ref, dim: int | None = None, *_: Any, **__: Any) -> str:
    return _drop_last(b, input, "softmax", dim)


@rule(nn.LogSoftmax, becomes=_DROPPED, note="at the end, over the classes")
def _log_softmax_module(b: Builder, m: nn.LogSoftmax, x: Ref) -> str:
    return _drop_last(b, x, "log_softmax", m.dim)


@rule(
    F.log_softmax, torch.log_softmax, "log_softmax", becomes=_DROPPED,
    note="at the end, over the classes",
)  # fmt: skip
def _log_softmax(b: Builder, input: Ref, dim: int | None = None, *_: Any, **__: Any) -> str:
    return _drop_last(b, input, "log_softmax", dim)


def _drop_last(b: Builder, x: Ref, kind: str, dim: int | None) -> str:
    rank = len(b.shape(x)) + 1
    if dim is not None and dim % rank != 1:
        raise Unsupported(f"dim={dim}: only a softmax over the classes (dim=1) can be dropped")
    b.head = kind
    b.notes.append(f"{b.current}: {kind} dropped; the logits before it have the same order")
    b.dropped.append(b.current)
    return x.name
