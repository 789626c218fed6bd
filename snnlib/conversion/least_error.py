"""The clipping threshold of the smallest squared error, from a histogram of activations.

A quantizer with L levels rounds x to the nearest of 0, θ, …, Lθ = λ. A small λ clips much, a large
one rounds coarsely. Chapter *Threshold balancing*.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

BINS = 4096  # λ is found within the largest activation / 4096
_CELLS = BINS // 4  # of the quantizer, at most, are told apart in the histogram


class Histogram:
    """Counts of every channel's values in equal bins up to its largest; threads may add at once.

    Args:
        top: the largest value of every channel, shape (C,).
    """

    def __init__(self, top: Tensor) -> None:
        wide = top.to(torch.promote_types(top.dtype, torch.float32))
        limits = torch.finfo(wide.dtype)
        self.scale = (BINS / wide.clamp_min(limits.tiny)).clamp_max(limits.max)[:, None]
        # a bin for the largest value itself, which is counted with the last
        first = torch.arange(len(top), dtype=torch.int32, device=top.device) * (BINS + 1)
        self.first = first[:, None]
        self.counts = torch.zeros(len(top) * (BINS + 1), dtype=torch.int64)
        self._lock = threading.Lock()

    def add(self, values: Tensor) -> None:
        """Count values of shape (outer, C, inner), none below 0."""
        bins = (values * self.scale).int()
        if len(self.first) > 1:
            bins += self.first
        found = torch.bincount(bins.flatten(), minlength=len(self.counts)).cpu()
        with self._lock:
            self.counts += found

    @property
    def rows(self) -> Tensor:
        """Counts, shape (C, bins)."""
        rows = self.counts.reshape(-1, BINS + 1).double()
        rows[:, -2] += rows[:, -1]
        return rows[:, :-1]


def least_error(counts: Tensor, levels: int) -> Tensor:
    """The best λ of every row of a histogram, in units of its largest value, shape (C,).

    Args:
        counts: shape (C, bins), float64.
        levels: of the quantizer.
    """
    cells, errors = (levels, _rounding_errors) if levels <= _CELLS else (1, _clipping_errors)
    parts = counts.split(max(1, BINS // cells))  # bounds the memory
    return torch.cat([_search(part, levels, errors) for part in parts])


def _search(counts: Tensor, levels: int, errors: Callable[[Tensor, Tensor, int], Tensor]) -> Tensor:
    """A coarse grid of candidates, then a fine one.

    Errors follow from running sums of 1, x and x² over the bins, shape (3, C, bins + 1).
    """
    centers = (torch.arange(BINS, dtype=torch.float64) + 0.5) / BINS
    moments = torch.stack([counts, counts * centers, counts * centers.square()])
    sums = F.pad(moments.cumsum(2), (1, 0))
    low, high = torch.zeros(len(counts), 1).double(), torch.ones(len(counts), 1).double()
    for _ in range(2):
        candidates = low + (high - low) * torch.linspace(0, 1, 129, dtype=torch.float64)[1:]
        chosen = errors(sums, candidates, levels).argmin(1, keepdim=True)
        best, step = candidates.gather(1, chosen), (high - low) / 128
        low, high = (best - step).clamp_min(0), (best + step).clamp_max(1)
    return best[:, 0]


def _rounding_errors(sums: Tensor, candidates: Tensor, levels: int) -> Tensor:
    """Squared error Σ (x − jθ)² over all cells j of the quantizer, for every candidate λ = θL."""
    cell = torch.arange(levels + 1, dtype=torch.float64)
    theta = candidates[:, :, None] / levels
    edges = ((theta * (cell[1:] - 0.5)) * BINS - 0.5).ceil().long().clamp(0, BINS)
    edges = F.pad(F.pad(edges, (1, 0)), (0, 1), value=BINS)
    index = edges.flatten(1).expand(3, -1, -1)
    number, total, square = sums.gather(2, index).unflatten(2, edges.shape[1:]).diff(dim=3)
    sent = theta * cell
    return (square - 2 * sent * total + sent.square() * number).sum(2)


def _clipping_errors(sums: Tensor, candidates: Tensor, levels: int) -> Tensor:
    """The same for narrow cells, in which values lie evenly: θ²/12 each, and what exceeds λ.

    What is clipped counts with the upper end of its bin, so that without rounding λ is the largest.
    """
    edge = (candidates * BINS).floor().long()
    below = sums[0].gather(1, edge)
    number, total, square = sums[:, :, -1:] - sums.gather(2, edge.expand(3, -1, -1))
    center = candidates - 0.5 / BINS  # of a bin that ends at λ
    clipped = square - 2 * center * total + center.square() * number
    return below * (candidates / levels).square() / 12 + clipped
