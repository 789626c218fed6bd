"""The rules of conversion for shapes, padding, parts, copies, and what is dropped.

See `snnlib.rules`. None of these changes a message: they only say where it goes.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from snnlib.conversion.registry import Builder, Ref, Unsupported, rule


def per_dimension(value: Any, dims: int) -> list[int]:
    """A size given once, or once a dimension, as one whole number a dimension."""
    if isinstance(value, tuple | list):
        return [int(v) for v in value] * (dims if len(value) == 1 else 1)
    return [int(value)] * dims


def image_dimensions(b: Builder, x: Ref, dim: Any) -> list[int]:
    """Dimensions to reduce over, as positive numbers; the batch must not be among them."""
    rank = len(b.shape(x)) + 1
    dims = [] if dim is None else [dim] if isinstance(dim, int) else list(dim)
    dims = [d % rank for d in dims]
    if not dims or 0 in dims:
        raise Unsupported("it reduces over the batch: name the image dimensions in dim")
    return dims


# padding and resizing


def pad(b: Builder, x: Ref, sides: list[int], mode: str, value: float) -> Ref:
    """Emit the padding of a convolution, under a name of its own."""
    shape = list(b.shape(x))
    for i in range(len(sides) // 2):
        shape[-1 - i] += sides[2 * i] + sides[2 * i + 1]
    name = f"{b.current}.pad"
    return Ref(b.emit("pad", x, name=name, shape=tuple(shape), pad=sides, mode=mode, value=value))


_PAD = "padding; a constant is a bias current"


@rule(
    nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d,
    becomes=_PAD,
)  # fmt: skip
def _pad_module(b: Builder, m: Any, x: Ref) -> str:
    return _pad(b, x, m.padding, "constant", m.value)


@rule(nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d, becomes=_PAD)
def _reflect_module(b: Builder, m: Any, x: Ref) -> str:
    return _pad(b, x, m.padding, "reflect")


@rule(nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d, becomes=_PAD)
def _replicate_module(b: Builder, m: Any, x: Ref) -> str:
    return _pad(b, x, m.padding, "replicate")


@rule(nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d, becomes=_PAD)
def _circular_module(b: Builder, m: Any, x: Ref) -> str:
    return _pad(b, x, m.padding, "circular")


@rule(F.pad, becomes=_PAD)
def _pad(
    b: Builder, input: Ref, pad: Any, mode: str = "constant", value: float | None = None
) -> str:
    if len(pad) > 2 * len(b.shape(input)):
        raise Unsupported("it pads the batch: pad image dimensions only")
    sides = [int(side) for side in pad]
    return b.emit("pad", input, pad=sides, mode=mode, value=float(value or 0.0))


@rule(
    nn.Upsample, nn.UpsamplingNearest2d, becomes="copies of messages", note='mode="nearest"'
)  # fmt: skip
def _upsample_module(b: Builder, m: nn.Upsample, x: Ref) -> str:
    return _upsample(b, x, m.size, m.scale_factor, m.mode)


@rule(F.interpolate, F.upsample, becomes="copies of messages", note='mode="nearest"')
def _upsample(
    b: Builder, input: Ref, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
    align_corners: bool | None = None, recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> str:  # fmt: skip
    if mode not in ("nearest", "nearest-exact"):
        raise Unsupported(
            f'mode="{mode}": use mode="nearest", or an nn.ConvTranspose2d that interpolates'
        )
    if size is not None or recompute_scale_factor:
        return b.emit("upsample", input, size=list(b.result.shape[2:]), mode=mode)
    factors = list(scale_factor) if isinstance(scale_factor, tuple | list) else scale_factor
    return b.emit("upsample", input, scale_factor=factors, mode=mode)


# shapes


@rule(nn.Flatten, nn.Unflatten, becomes="reshape")
def _reshape_module(b: Builder, m: Any, x: Ref) -> str:
    return _reshape(b, x)


@rule(
    torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze, torch.unflatten, "flatten",
    "view", "reshape", "squeeze", "unsqueeze", "unflatten", "view_as", "reshape_as",
    becomes="reshape", note="the batch dimension stays",
)  # fmt: skip
def _reshape(b: Builder, input: Ref, *args: Any, **kwargs: Any) -> str:
    shape = tuple(b.result.shape[1:])
    if math.prod(shape) != math.prod(b.shape(input)) or len(b.result) != len(b.like):
        raise Unsupported("it mixes the images of a batch: keep the first dimension")
    return b.emit("reshape", input, to=list(shape))


_ORDER = "reordered dimensions"


@rule(torch.permute, "permute", becomes=_ORDER, note="the batch dimension stays first")
def _permute(b: Builder, input: Ref, *dims: Any) -> str:
    order = dims[0] if len(dims) == 1 and not isinstance(dims[0], int) else dims
    rank = len(b.shape(input)) + 1
    order = [d % rank for d in order]
    if order[0] != 0:
        raise Unsupported("it moves the batch dimension: keep it first")
    return b.emit("permute", input, dims=order)


@rule(
    torch.transpose, "transpose", torch.swapaxes, "swapaxes", becomes=_ORDER,
    note="the batch dimension stays first",
)  # fmt: skip
def _transpose(b: Builder, input: Ref, dim0: int, dim1: int) -> str:
    order = list(range(len(b.shape(input)) + 1))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return _permute(b, input, order)


@rule(nn.PixelShuffle, becomes=_ORDER)
def _pixel_shuffle(b: Builder, m: nn.PixelShuffle, x: Ref) -> str:
    r, (channels, height, width) = m.upscale_factor, b.shape(x)
    parts = (channels // r**2, r, r, height, width)
    return _regroup(b, x, parts, [0, 1, 4, 2, 5, 3])


@rule(nn.ChannelShuffle, becomes=_ORDER)
def _channel_shuffle(b: Builder, m: nn.ChannelShuffle, x: Ref) -> str:
    channels, *space = b.shape(x)
    parts = (m.groups, channels // m.groups, *space)
    return _regroup(b, x, parts, [0, 2, 1, *range(3, 3 + len(space))])


def _regroup(b: Builder, x: Ref, parts: tuple[int, ...], order: list[int]) -> str:
    name = b.current
    split = Ref(b.emit("reshape", x, name=f"{name}.split", shape=parts, to=list(parts)))
    moved = tuple(parts[d - 1] for d in order[1:])
    turned = Ref(b.emit("permute", split, name=f"{name}.order", shape=moved, dims=order))
    return b.emit("reshape", turned, to=list(b.result.shape[1:]))


# parts and joins


_PART = "part of the messages"


def _slice(b: Builder, x: Ref, dim: int, start: int, stop: int, step: int = 1) -> Ref:
    shape = list(b.shape(x))
    shape[dim - 1] = len(range(start, stop, step))
    return Ref(b.emit("slice", x, shape=tuple(shape), dim=dim, start=start, stop=stop, step=step))


@rule(operator.getitem, becomes=_PART, note="slices and indices of image dimensions: x[:, 0:4]")
def _getitem(b: Builder, input: Ref, index: Any) -> str:
    index = index if isinstance(index, tuple) else (index,)
    shape = (len(b.like), *b.shape(input))
    if any(not isinstance(i, int | slice | type(None) | type(...)) for i in index):
        raise Unsupported("only slices and whole numbers can index an activation")
    if any(i is ... for i in index):
        at = next(n for n, i in enumerate(index) if i is ...)
        missing = len(shape) - sum(i is not None and i is not ... for i in index)
        index = (*index[:at], *[slice(None)] * missing, *index[at + 1 :])
    if index[0] != slice(None):
        raise Unsupported("it picks images out of the batch: start the index with a full slice")
    x, dim = input, 0
    for part in index:
        if part is None:
            continue
        if isinstance(part, int):
            part = slice(part % shape[dim], part % shape[dim] + 1)
        start, stop, step = part.indices(shape[dim])
        if (start, stop, step) != (0, shape[dim], 1):
            x = _slice(b, x, dim, start, stop, step)
        dim += 1
    wanted = list(b.result.shape[1:])
    return b.emit("reshape", x, to=wanted) if list(b.shape(x)) != wanted else x.name


@rule(torch.narrow, "narrow", becomes=_PART)
def _narrow(b: Builder, input: Ref, dim: int, start: int, length: int) -> str:
    dim = dim % (len(b.shape(input)) + 1)
    if dim == 0:
        raise Unsupported("it picks images out of the batch: choose an image dimension")
    return _slice(b, input, dim, start, start + length).name


@rule(torch.select, "select", becomes=_PART)
def _select(b: Builder, input: Ref, dim: int, index: int) -> str:
    full = [slice(None)] * (dim % (len(b.shape(input)) + 1))
    return _getitem(b, input, (*full, index))


@rule(torch.chunk, torch.split, torch.tensor_split, "chunk", "split", becomes=_PART)
def _parts(b: Builder, input: Ref, *args: Any, dim: int | None = None, **kwargs: Any) -> list[str]:
    dim = (args[1] if len(args) > 1 else 0) if dim is None else dim
    dim = dim % (len(b.shape(input)) + 1)
    if dim == 0:
        raise Unsupported("it splits the batch: give an image dimension in dim")
    names, start = [], 0
    for part in b.result:
        names.append(_slice(b, input, dim, start, start + part.shape[dim]).name)
        start += part.shape[dim]
    return names


_JOIN = "concatenation of messages"


@rule(torch.cat, torch.concat, torch.concatenate, becomes=_JOIN)
def _cat(b: Builder, tensors: Any, dim: int = 0) -> str:
    if not all(isinstance(t, Ref) for t in tensors):
        raise Unsupported("it joins a constant: pad with F.pad, or join activations only")
    dim = dim % (len(b.shape(tensors[0])) + 1)
    if dim == 0:
        raise Unsupported("it joins along the batch: choose an image dimension")
    return b.emit("cat", *tensors, dim=dim)


@rule(torch.stack, becomes=_JOIN)
def _stack(b: Builder, tensors: Any, dim: int = 0) -> str:
    if not all(isinstance(t, Ref) for t in tensors):
        raise Unsupported("it joins a constant: join activations only")
    dim = dim % (len(b.shape(tensors[0])) + 2)
    if dim == 0:
        raise Unsupported("it stacks before the batch: choose an image dimension")
    shape = (*b.shape(tensors[0])[: dim - 1], 1, *b.shape(tensors[0])[dim - 1 :])
    name = f"{b.current}.unsqueeze"
    parts = [Ref(b.emit("reshape", t, name=name, shape=shape, to=list(shape))) for t in tensors]
    return b.emit("cat", *parts, dim=dim)


# what is dropped

_NOTHING = "nothing (dropped)"


@rule("contiguous", "clone", "detach", torch.clone, torch.detach, nn.Identity, becomes=_NOTHING)
def _identity(b: Builder, *args: Any, **kwargs: Any) -> str:
    return next(a for a in args if isinstance(a, Ref)).name


@rule("to", "type_as", "float", "double", "half", "bfloat16", "type", "cpu", "cuda",
      becomes=_NOTHING, note="where it changes neither dtype nor device")  # fmt: skip
def _to(b: Builder, input: Ref, *args: Any, **kwargs: Any) -> str:
    if b.result.dtype != b.like.dtype or b.result.device != b.like.device:
        raise Unsupported(
            f"it turns {b.like.dtype} on {b.like.device} into {b.result.dtype} on "
            f"{b.result.device}: keep one dtype and device in the whole network"
        )
    return input.name


@rule(
    nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout,
    becomes=_NOTHING,
)  # fmt: skip
def _dropout_module(b: Builder, m: nn.Module, x: Ref) -> str:
    return x.name


@rule(
    F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, becomes=_NOTHING,
    note="training=self.training",
)  # fmt: skip
def _dropout(
    b: Builder, input: Ref, p: float = 0.5, training: bool = True, inplace: bool = False
) -> str:
    if training and p > 0:
        raise Unsupported(
            "F.dropout without training=self.training stays random in evaluation: pass it, or use "
            "nn.Dropout"
        )
    return input.name


@rule(
    "torchvision.ops.stochastic_depth.stochastic_depth",
    "torchvision.ops.stochastic_depth.StochasticDepth",
    becomes=_NOTHING,
)
def _stochastic_depth(b: Builder, *args: Any, **kwargs: Any) -> str:
    return next(a for a in args if isinstance(a, Ref)).name
