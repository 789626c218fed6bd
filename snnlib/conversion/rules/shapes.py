"""The rules of conversion for shapes, padding, parts, joins, copies, and what is dropped.

None of these changes a message: they only say where it goes.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnlib.conversion.registry import Builder, Compare, Ref, Unsupported, rule
from snnlib.conversion.rules.pieces import affine, pad, permuted, picked, reshaped, same_for_all
from snnlib.conversion.rules.units import where
from snnlib.conversion.tracer import leaves, mapped

# padding and resizing


@rule(
    F.pad, becomes="padding; a constant is a bias current",
    modules=(
        nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ConstantPad1d, nn.ConstantPad2d,
        nn.ConstantPad3d, nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d,
        nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d, nn.CircularPad1d,
        nn.CircularPad2d, nn.CircularPad3d,
    ),
)  # fmt: skip
def _pad(
    b: Builder, input: Ref, pad: Any, mode: str = "constant", value: float | None = None
) -> str:
    if len(pad) > 2 * len(b.shape(input)):
        raise Unsupported("it pads the batch: pad image dimensions only")
    sides = [int(side) for side in pad]
    return b.emit("pad", input, pad=sides, mode=mode, value=float(value or 0.0))


@rule(
    F.interpolate, F.upsample, becomes="copies of messages", note='mode="nearest"',
    modules=(nn.Upsample, nn.UpsamplingNearest2d),
)  # fmt: skip
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


# where every number goes

_RESHAPES = (
    "flatten", "view", "reshape", "squeeze", "unsqueeze", "unflatten", "view_as", "reshape_as",
)  # fmt: skip
_ORDERS = ("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "mT")
_PARTS = (
    "__getitem__", "narrow", "select", "index_select", "chunk", "split", "tensor_split", "unbind",
    "diagonal",
)  # fmt: skip
_COPIES = (
    "expand", "expand_as", "broadcast_to", "repeat", "tile", "repeat_interleave", "flip", "roll",
    "rot90", "Tensor.unfold", F.channel_shuffle,
)  # fmt: skip


@rule(
    *_RESHAPES, becomes="reshape", note="the batch dimension stays",
    modules=(nn.Flatten, nn.Unflatten),
)  # fmt: skip
@rule(*_ORDERS, becomes="reordered dimensions", note="the batch dimension stays first")
@rule(*_PARTS, becomes="part of the messages", note="of every image the same: x[:, 0:4]")
@rule(
    *_COPIES, becomes="copies of messages, or another order", note="in every image the same",
    modules=(nn.ChannelShuffle,),
)  # fmt: skip
def _moved(b: Builder, *args: Any, **kwargs: Any) -> list[str]:
    """The function is tried on the positions of the numbers: that shows where each one goes."""
    x, *others = leaves((args, kwargs), (Ref, Compare))
    assert b.function is not None
    lends = b.function.__name__.endswith("_as")  # another activation lends its shape
    if isinstance(x, Compare) or (others and not lends):
        raise Unsupported("a choice that depends on the images: use torch.where(x > 0, x, 0)")
    shape, images, device = b.shape(x), len(b.like), b.like.device
    numbers = torch.arange(images * math.prod(shape), device=device).reshape(images, *shape)

    def tried(value: Any) -> Any:
        if not isinstance(value, Ref):
            return value
        return numbers if value == x else numbers.new_empty(images, *b.shape(value))

    found = b.function(*mapped(args, tried), **mapped(kwargs, tried))
    return [_following(b, x, sources.cpu()).name for sources in leaves(found, Tensor)]


def _following(b: Builder, x: Ref, sources: Tensor) -> Ref:
    """x with its numbers moved: ``sources`` (B, ...) says which number of x goes there."""
    count, images = math.prod(b.shape(x)), len(b.like)
    kept = sources.dim() > 0 and len(sources) == images
    if kept:  # the same in every image, each from its own
        own = sources.reshape(images, -1) - torch.arange(images)[:, None] * count
        kept = bool(((own == own[:1]) & (own < count)).all())
    if not kept:
        raise Unsupported(
            "it mixes the images of a batch or leaves some out: keep the first dimension"
        )
    source = sources[0]  # one image's value
    shape = tuple(source.shape)
    if torch.equal(source.flatten(), torch.arange(count)):
        return reshaped(b, x, shape, "")
    places = torch.unravel_index(source, b.shape(x))  # a coordinate in x each, of that shape
    varies = [
        [axis for axis in range(len(shape)) if bool((place != place.narrow(axis, 0, 1)).any())]
        for place in places
    ]
    used = [axes[0] for axes in varies if axes]
    if any(len(axes) > 1 for axes in varies) or len({*used}) < len(used):
        flat = picked(b, reshaped(b, x, (count,)), 1, source.flatten().tolist())
        return reshaped(b, flat, shape, "")
    for dim, (place, axes) in enumerate(zip(places, varies, strict=True), 1):
        first = place.movedim(axes[0], 0).reshape(shape[axes[0]], -1)[:, 0] if axes else place
        x = picked(b, x, dim, first.flatten().tolist() if axes else [int(first.flatten()[0])])
    if used != sorted(used):  # dimensions of size 1 go last
        order = sorted(range(len(varies)), key=lambda dim: varies[dim] or [len(shape)])
        x = permuted(b, x, [0, *[dim + 1 for dim in order]], "")
    x = reshaped(b, x, tuple(n if axis in used else 1 for axis, n in enumerate(shape)), "")
    for axis, n in enumerate(shape):
        x = x if axis in used else picked(b, x, axis + 1, [0] * n)
    return x


@rule(F.pixel_shuffle, becomes="reordered dimensions", modules=(nn.PixelShuffle,))
def _pixel_shuffle(b: Builder, input: Ref, upscale_factor: int) -> str:
    r, (channels, height, width) = upscale_factor, b.shape(input)
    x = reshaped(b, input, (channels // r**2, r, r, height, width), ".split")
    return reshaped(b, permuted(b, x, [0, 1, 4, 2, 5, 3]), tuple(b.result.shape[1:]), "").name


@rule(F.pixel_unshuffle, becomes="reordered dimensions", modules=(nn.PixelUnshuffle,))
def _pixel_unshuffle(b: Builder, input: Ref, downscale_factor: int) -> str:
    r, (channels, height, width) = downscale_factor, b.shape(input)
    x = reshaped(b, input, (channels, height // r, r, width // r, r), ".split")
    return reshaped(b, permuted(b, x, [0, 1, 3, 5, 2, 4]), tuple(b.result.shape[1:]), "").name


# joins

_JOIN = "concatenation of messages; a constant is a bias current"


@rule("cat", "concat", "concatenate", becomes=_JOIN)
def _cat(b: Builder, tensors: Any, dim: int = 0) -> str:
    dim %= 1 + len(b.shape(leaves(tensors, Ref)[0]))
    if dim == 0:
        raise Unsupported("it joins along the batch: choose an image dimension")
    groups: list[tuple[list[Tensor], Ref, list[Tensor]]] = []
    ahead: list[Tensor] = []  # a constant goes with the activation before it, or the first one
    for part in tensors:
        if isinstance(part, Tensor):
            (groups[-1][2] if groups else ahead).append(same_for_all(part).double())
        else:
            groups.append((ahead if not groups else [], part, []))
    parts = [_framed(b, *group, dim) for group in groups]
    return b.emit("cat", *parts, dim=dim) if len(parts) > 1 else parts[0].name


def _framed(b: Builder, before: list[Tensor], x: Ref, after: list[Tensor], dim: int) -> Ref:
    """x between constants along a dimension: padded, and the constants are a bias current."""
    if not before and not after:
        return x
    values = [*before, torch.zeros(b.shape(x), dtype=torch.float64, device=b.like.device), *after]
    widths = [sum(value.shape[dim - 1] for value in side) for side in (before, after)]
    x = pad(b, x, [0, 0] * (len(b.shape(x)) - dim) + widths)
    return affine(b, x, shift=torch.cat(values, dim - 1))


@rule("stack", becomes=_JOIN)
def _stack(b: Builder, tensors: Any, dim: int = 0) -> str:
    dim %= 2 + len(b.shape(leaves(tensors, Ref)[0]))
    if dim == 0:
        raise Unsupported("it stacks before the batch: choose an image dimension")
    shape = list(b.result.shape[1:])  # (..., the joined dimension, ...)
    shape[dim - 1] = 1
    parts = [
        reshaped(b, t, tuple(shape), ".unsqueeze") if isinstance(t, Ref) else t.unsqueeze(dim)
        for t in tensors
    ]
    return _cat(b, parts, dim)


@rule("__setitem__", becomes="padding, sums and a bias current", note="x[:, 0:4] = y")
def _setitem(b: Builder, x: Any, index: Any, value: Any) -> Ref:
    if isinstance(index, Compare):
        return where(b, index, value, x)
    numbers = torch.zeros((), dtype=torch.int64, device=b.like.device)
    if isinstance(value, Ref):
        numbers = torch.arange(len(b.like) * math.prod(b.shape(value)), device=b.like.device)
        numbers = numbers.reshape(len(b.like), *b.shape(value))
    places = torch.full(tuple(b.result.shape), -1, device=b.like.device)
    places[index] = numbers  # which number of the value goes there
    rest = same_for_all((places < 0).double())
    if not isinstance(value, Ref):
        written = torch.zeros(tuple(b.result.shape), dtype=torch.float64, device=b.like.device)
        written[index] = value.double() if isinstance(value, Tensor) else value
        return affine(b, x, rest, same_for_all(written))
    block = [(int(at.min()), int(at.max()) + 1) for at in (rest == 0).nonzero(as_tuple=True)]
    inner = places[0][tuple(slice(*ends) for ends in block)]
    if not torch.equal(inner.flatten(), numbers[0].flatten()):
        raise Unsupported("it writes into what is no block: join the parts with torch.cat")
    ends = zip(block[::-1], rest.shape[::-1], strict=True)
    sides = [n for (low, high), size in ends for n in (low, size - high)]
    put = pad(b, reshaped(b, value, tuple(inner.shape)), sides)
    if isinstance(x, Ref):
        return b.then("add", affine(b, x, rest, name=".rest"), put, alpha=1)
    return affine(b, put, shift=same_for_all(torch.where(places < 0, x, 0)).double())


# what is dropped
_NOTHING = "nothing (dropped)"
_CASTS = ("to", "type_as", "type", "float", "double", "half", "bfloat16", "cpu", "cuda")


@rule(
    "contiguous", "clone", "detach", "positive", "data", "requires_grad_", becomes=_NOTHING,
    modules=(nn.Identity,),
)  # fmt: skip
@rule(*_CASTS, becomes=_NOTHING, note="where it changes neither dtype nor device")
def _identity(b: Builder, input: Any, *args: Any, **kwargs: Any) -> Any:
    return input.name if isinstance(input, Ref) else input


@rule(
    F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout,
    becomes=_NOTHING, note="training=self.training",
    modules=(
        nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout,
        nn.FeatureAlphaDropout,
    ),
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
