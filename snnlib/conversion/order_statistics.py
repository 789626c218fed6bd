"""Exact order statistics of activations that come in batches and are never all kept.

A percentile near 100 needs few values: `Largest` keeps the k largest of every channel in one pass.
Where that would be too many, `Bracket` closes in on the value in a few passes, in fixed memory.
Both work on activations after a ReLU: floats of at least 0, whose bit patterns are whole numbers in
the same order. Chapter *Threshold balancing*.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snnlib.graph.layout import channels_last

_SAMPLE = 1 << 17  # activations sampled per layer to guess where a percentile lies


def grouped(value: Tensor, groups: int) -> Tensor:
    """Activations as (outer, groups, inner), in the order they lie in memory: no copy.

    Args:
        value: activations (B, C, ...).
        groups: C for one group a channel, 1 for all in one.
    """
    if channels_last(value):
        return value.movedim(1, -1).reshape(-1, groups, 1)
    return value.reshape(-1 if groups == 1 else len(value), groups, -1 if groups > 1 else 1)


class Largest:
    """The ``count`` largest values of every channel of a stream, in one pass.

    Values that are at most ``low`` (C,) cannot be among them: that many values of at least ``low``
    have been seen. So nearly all values fall to one comparison, and the few others are kept with
    their channel in the upper half of a whole number, sorted now and then. May be fed from several
    threads at once: they compare side by side, with whatever bound holds then, and take turns to
    hand in what they found. A bound only rises, and what was compared with a lower one than holds
    by its turn is compared again.

    Args:
        channels: number of channels C.
        count: how many to keep of each; every channel must get at least as many in the end.
    """

    def __init__(self, channels: int, count: int) -> None:
        self.channels, self.count = channels, count
        self.low = np.zeros(channels, np.float32)
        self._kept = np.zeros(0, np.int64)
        self._new: list[Any] = []
        self._waiting, self._room = 0, max(channels * count, 1 << 14)
        self._lock = threading.Lock()

    def add(self, values: Tensor) -> None:
        """Take in values of shape (outer, C, inner), none below 0."""
        self._take(self._candidates(values))

    def _candidates(self, values: Tensor) -> Any:
        """Values above the bounds, as whole numbers: channel above 32 bits, pattern below."""
        where, found = _above(values, self.low)
        channel = where // values.shape[2] % self.channels if self.channels > 1 else 0
        return (found.view(np.int32).astype(np.int64)) | (channel << 32)

    def _take(self, keys: Any) -> None:
        with self._lock:
            self._new.append(keys)
            self._waiting += len(keys)
            if self._waiting > self._room:
                self._prune()

    def from_top(self, place: int) -> Tensor:
        """The values at a place from the top, 0 being the largest, below ``count``; shape (C,)."""
        with self._lock:
            self._prune()
        if len(self._kept) == 0:
            return torch.from_numpy(self.low.copy())
        ends = np.cumsum(self._sizes(self._kept))
        index, first = ends - 1 - place, ends - np.diff(ends, prepend=0)
        bits = (self._kept[np.maximum(index, 0)] & 0xFFFFFFFF).astype(np.int32)
        return torch.from_numpy(np.where(index >= first, bits.view(np.float32), self.low))

    def _sizes(self, keys: Any) -> Any:
        return np.bincount(keys >> 32, minlength=self.channels)

    def _prune(self) -> None:
        keys = self._over(np.concatenate([self._kept, *self._new]), self.low)
        keys.sort()
        sizes = self._sizes(keys)
        ends = np.cumsum(sizes)
        full = sizes >= self.count
        bits = (keys[(ends - self.count)[full]] & 0xFFFFFFFF).astype(np.int32)
        low = self.low.copy()
        low[full] = bits.view(np.float32)
        self._kept = self._over(keys, low)
        self.low, self._new, self._waiting = low, [], 0

    def _over(self, keys: Any, low: Any) -> Any:
        """The keys whose values exceed their channel's bound."""
        bound = low.view(np.int32) | (np.arange(self.channels, dtype=np.int64) << 32)
        return keys[keys > bound[keys >> 32]]


def _above(values: Tensor, low: Any) -> tuple[Any, Any]:
    """Where the values exceed their channel's bound, as flat indices, and those values."""
    values = values.float().contiguous()
    if values.device.type == "cpu":  # NumPy finds the few true ones several times faster
        array = values.numpy()
        where = np.flatnonzero(array > low[:, None])
        return where, array.reshape(-1)[where]
    bound = torch.from_numpy(low).to(values.device)[:, None]
    found = (values > bound).flatten().nonzero().flatten()
    return found.cpu().numpy(), values.flatten()[found].cpu().numpy()


def _rows(values: Tensor) -> Tensor:
    """(outer, C, inner) as one row a channel."""
    return values.transpose(0, 1).reshape(values.shape[1], -1)


def _bits(values: Tensor) -> Tensor:
    """Bit patterns of non-negative float32 values: whole numbers in the same order."""
    return (values.float() + 0.0).contiguous().view(torch.int32)  # + 0.0 turns −0 into 0


class Sample:
    """The largest value of every channel, and a regular sample of its values.

    Args:
        total: number of values of all channels together that will come.
    """

    def __init__(self, total: int) -> None:
        self.stride = max(1, total // _SAMPLE) | 1  # odd: does not lock onto image rows
        self._tops: list[Tensor] = []
        self._parts: list[Tensor] = []

    @property
    def top(self) -> Tensor:
        """The largest values, shape (C,)."""
        return torch.stack(self._tops).amax(0)

    def add(self, values: Tensor) -> None:
        """Take in values of shape (outer, C, inner)."""
        rows = _rows(values)
        self._tops.append(rows.amax(1).float().cpu())
        self._parts.append(rows[:, :: self.stride].float().cpu())

    def bracket(self, rank: int, q: float) -> Bracket:
        """Where the values of a rank near the q-th percentile probably lie."""
        top = _bits(self.top).long()
        values = torch.cat(self._parts, 1).sort(1).values
        guess, margin = q / 100 * (values.shape[1] - 1), 2 + 2 * math.sqrt(values.shape[1] * 0.01)
        low, high = max(0, int(guess - margin)), math.ceil(guess + margin)
        upper = top if high >= values.shape[1] else _bits(values[:, high]).long()
        return Bracket(rank, _bits(values[:, low]).long(), upper.clone(), top)


class Bracket:
    """Finds the value of a given rank in every channel of one layer, by bracketing its bits.

    Each pass counts the values inside the bracket in ``bins`` bins and keeps the bin that holds
    the rank, so the bracket closes on one float32 after a few passes, in fixed memory.
    """

    def __init__(self, rank: int, low: Tensor, high: Tensor, top: Tensor) -> None:
        self.rank, self.low, self.high, self.top = rank, low, high, top
        self.bins = max(1 << 11, (1 << 20) // len(low))
        self._lock = threading.Lock()
        self._start()

    @property
    def found(self) -> bool:
        return bool((self.low == self.high).all())

    @property
    def value(self) -> Tensor:
        """The values found, shape (C,)."""
        return self.low.to(torch.int32).view(torch.float32)

    def _start(self) -> None:
        self.below = torch.zeros_like(self.low)
        self.histogram = torch.zeros(len(self.low) * self.bins, dtype=torch.int64)

    def add(self, values: Tensor) -> None:
        """Count more values, shape (outer, C, inner)."""
        rows = _bits(_rows(values))
        low, high = self.low.to(rows)[:, None], self.high.to(rows)[:, None]
        below = (rows < low).sum(1).cpu()
        inside = (rows >= low) & (rows <= high)
        group = inside.nonzero()[:, 0].cpu()
        offset = rows[inside].cpu().long() - self.low[group]
        index = offset * self.bins // (self.high - self.low + 1)[group]
        found = torch.bincount(group * self.bins + index, minlength=len(self.histogram))
        with self._lock:
            self.below += below
            self.histogram += found

    def narrow(self) -> None:
        """Close the bracket on the bin that holds the rank, or move it if it was missed."""
        cumulative = self.histogram.reshape(-1, self.bins).cumsum(1)
        rank = self.rank - self.below
        width = self.high - self.low + 1
        chosen = (cumulative <= rank[:, None]).sum(1)
        inside = (rank >= 0) & (chosen < self.bins)
        low = self.low + (chosen * width + self.bins - 1) // self.bins
        high = self.low + ((chosen + 1) * width + self.bins - 1) // self.bins - 1
        missed_low = torch.where(rank < 0, torch.zeros_like(low), self.high + 1)
        missed_high = torch.where(rank < 0, self.low - 1, self.top)
        self.low = torch.where(inside, low, missed_low)
        self.high = torch.where(inside, high, missed_high)
        self._start()
