"""How the values of a layer lie in memory: convolutions are fastest with the channels last."""

from __future__ import annotations

import torch
from torch import Tensor


def in_memory_order(value: Tensor, lead: int, like: Tensor) -> Tensor:
    """``value`` with its last dimensions as they lie in memory in ``like``, flattened.

    Args:
        value: shape (*lead, C, H, W) or any other (*lead, ...).
        lead: number of leading dimensions to keep.
        like: a tensor (B, C, H, W) or (B, ...) whose memory format decides.
    """
    if channels_last(like):
        value = value.movedim(lead, -1)
    return value.flatten(lead) if value.dim() > lead else value.unsqueeze(-1)


def lies_as(value: Tensor, lead: int, like: Tensor) -> bool:
    """Whether ``value`` fills its memory without gaps, in the order of `in_memory_order`."""
    if channels_last(like):
        value = value.movedim(lead, -1)
    return value.is_contiguous()


def channels_last(value: Tensor) -> bool:
    """Whether a tensor (B, C, H, W) lies in memory as (B, H, W, C)."""
    return (
        value.dim() == 4
        and not value.is_contiguous()
        and value.is_contiguous(memory_format=torch.channels_last)
    )


def laid_out(value: Tensor, dtype: torch.dtype) -> Tensor:
    """Images (B, C, H, W) or weights in the memory format that convolutions are fastest in."""
    if dtype != torch.float64 and value.dim() == 4:
        return value.contiguous(memory_format=torch.channels_last)
    return value
