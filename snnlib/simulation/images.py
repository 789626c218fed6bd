"""The check of images: what a network takes, and a message that helps for anything else."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snnlib.graph.errors import ConversionError
from snnlib.graph.network import Network

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def checked(net: Network, x: Any, frames: bool = False) -> Tensor:
    """Images as the network takes them, in its dtype.

    Args:
        net: the network.
        x: images, shape (B, ...); for ``frames`` (T, B, ...).
        frames: the first dimension is time.

    Raises:
        ConversionError: they are of another shape, type or device, or not finite.
    """
    expected = net.graph.shapes["input"]
    if not isinstance(x, Tensor):
        raise ConversionError(f"images must be a torch.Tensor, not {type(x).__name__}")
    if x.layout != torch.strided:
        raise ConversionError(f"images are {x.layout}: pass dense ones (x.to_dense())")
    if net.whole is not None and x.dtype == torch.uint8:
        x = _in_unit_range(x)
    if x.dtype not in FLOATS:
        raise ConversionError(
            f"images are {x.dtype}: pass floating-point images, as the ANN was trained on "
            "(snnlib.data.to_float makes them from uint8)"
        )
    shape = x.shape[1:] if frames else x.shape
    if tuple(shape[1:]) != expected or x.numel() == 0:
        none = "no frame among them" if frames and not len(x) else f"shape {tuple(shape)}"
        raise ConversionError(
            f"images have {none}; this network takes (B, {str(expected)[1:-1]}) "
            "with B ≥ 1; to run it on another image size, convert it again with such images"
        )
    if x.device != net.device:
        raise ConversionError(
            f"images are on {x.device}, the network on {net.device}: move one with .to(...)"
        )
    own = x.to(net.dtype)
    if not bool(own.isfinite().all()):
        held = "NaN or infinite values"
        if bool(x.isfinite().all()):
            held = f"values too large for the network's {net.dtype}"
        raise ConversionError(f"the images hold {held}")
    return _in_unit_range(own) if net.whole is not None else own


def _in_unit_range(x: Tensor) -> Tensor:
    """Images as a whole-number network takes them: in [0, 1], of any type, or uint8.

    Raises:
        ConversionError: they lie outside [0, 1].
    """
    if x.dtype == torch.uint8:
        return x.float() / 255
    low, high = float(x.min()), float(x.max())
    if low < 0 or high > 1:
        raise ConversionError(
            f"images lie in [{low:.4g}, {high:.4g}]: a whole-number network takes [0, 1] or uint8 "
            "(put the normalization into the network)"
        )
    return x
