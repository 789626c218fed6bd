"""Augmentation of whole batches: shift, flip, rotate and scale, cut out.

Every function takes images (B, C, H, W) and draws its numbers from the generator it is given, so
that a seed fixes the run. No loop over images: a shift with a flip is one gather.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


def shift_flip(images: Tensor, shift: int, flip: Tensor | None, generator: Generator) -> Tensor:
    """Move every image by up to ``shift`` pixels each way, mirrored outside its border.

    Args:
        images: (B, C, H, W), any dtype.
        shift: largest displacement in pixels.
        flip: (B,) bool, which images are mirrored left to right; or none.
        generator: the source of the displacements (on the CPU).
    """
    batch, _, height, width = images.shape
    span = 2 * shift + 1
    rows = torch.randint(span, (batch, 1), generator=generator) - shift + torch.arange(height)
    columns = torch.randint(span, (batch, 1), generator=generator) - shift + torch.arange(width)
    rows, columns = _mirror(rows, height), _mirror(columns, width)
    if flip is not None:
        columns = torch.where(flip[:, None], columns.flip(1), columns)
    rows, columns = rows.to(images.device), columns.to(images.device)
    which = torch.arange(batch, device=images.device)[:, None, None]
    # Advanced indexing with the channels left whole puts them last: (B, H, W, C).
    return images.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


def warp(
    images: Tensor,
    degrees: float,
    scale: float,
    shift: float,
    generator: Generator,
    mode: str = "bilinear",
) -> Tensor:
    """Rotate, scale, shear and shift every image by random amounts, black outside its border.

    Args:
        images: (B, C, H, W), float.
        degrees: largest rotation, and largest shear.
        scale: largest relative change of each side.
        shift: largest displacement in pixels.
        generator: the source of the amounts (on the CPU).
        mode: ``"nearest"`` keeps the brightness of every pixel, which ``"bilinear"`` blurs.
    """
    batch, _, height, width = images.shape

    def amounts(largest: float) -> Tensor:
        return largest * (2 * torch.rand(batch, generator=generator) - 1)

    angle, shear = amounts(math.radians(degrees)), amounts(math.radians(degrees))
    x, y = 1 + amounts(scale), 1 + amounts(scale)
    cos, sin = angle.cos(), angle.sin()
    top = torch.stack([x * cos, y * (shear * cos - sin), amounts(2 * shift / width)], 1)
    bottom = torch.stack([x * sin, y * (shear * sin + cos), amounts(2 * shift / height)], 1)
    matrices = torch.stack([top, bottom], 1).to(images.device, images.dtype)
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode, align_corners=False)


def cutout(images: Tensor, size: int, generator: Generator) -> Tensor:
    """Gray out one square a picture (DeVries & Taylor, 2017); changes ``images`` and returns it.

    Args:
        images: (B, C, H, W), float in [0, 1].
        size: side of the square in pixels; its center lies anywhere in the image.
        generator: the source of the positions (on the CPU).
    """
    batch, _, height, width = images.shape
    masks = []
    for side in (height, width):
        start = torch.randint(side, (batch, 1), generator=generator) - size // 2
        offset = torch.arange(side) - start
        masks.append((offset >= 0) & (offset < size))
    rows, columns = masks
    square = (rows[:, None, :, None] & columns[:, None, None, :]).to(images.device)
    return images.masked_fill_(square, 0.5)


def _mirror(index: Tensor, size: int) -> Tensor:
    """Indices outside 0…size−1 reflected at the borders (the border itself not repeated)."""
    index = index.abs()
    return torch.where(index >= size, 2 * (size - 1) - index, index)
