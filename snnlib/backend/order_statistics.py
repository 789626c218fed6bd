"""Exact order statistics of activations that come in batches and are never all kept.

A percentile near 100 needs few values: `Largest` keeps the k largest of every channel in one pass.
Where that would be too many, `Digits` finds the value in three passes, in fixed memory. Both work
on activations after a ReLU: floats of at least 0, whose bit patterns are whole numbers in the same
order. Chapter *Threshold balancing*.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snnlib.backend.layout import channels_last


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


class Digits:
    """The values of some ranks in every channel, digit by digit of their bit patterns.

    A pass counts, among the values that begin like the wanted one, each next digit; three passes
    fix all 31 bits, in memory that does not grow with their number. Threads may feed it at once.

    Args:
        channels: number of channels C.
        ranks: of the wanted values, 0 being the smallest.
    """

    def __init__(self, channels: int, ranks: tuple[int, ...]) -> None:
        self.ranks = torch.tensor(ranks)[:, None].repeat(1, channels)  # (R, C): rank among equals
        self.found = torch.zeros_like(self.ranks)  # the digits so far, as a number
        self.top = torch.zeros(channels)
        self._widths = [11, 10, 10]
        self._lock = threading.Lock()
        self._start()

    def _start(self) -> None:
        size = 1 << self._widths[0]
        self.counts = torch.zeros(*self.ranks.shape, size, dtype=torch.int64)  # (R, C, digits)

    @property
    def done(self) -> bool:
        """Whether all digits are known."""
        return not self._widths

    @property
    def values(self) -> Tensor:
        """The values, shape (R, C)."""
        return self.found.to(torch.int32).view(torch.float32)

    def add(self, values: Tensor) -> None:
        """Count values of shape (outer, C, inner), none below 0."""
        rows = values.transpose(0, 1).reshape(values.shape[1], -1).float().cpu() + 0.0  # −0 is 0
        bits = rows.contiguous().view(torch.int32)  # whole numbers in the same order
        low, size = sum(self._widths[1:]), self.counts.shape[2]
        digit = bits >> low & (size - 1)
        digit += torch.arange(len(rows), dtype=torch.int32)[:, None] * size
        begin, length = bits >> (low + self._widths[0]), len(rows) * size
        counted = [
            torch.bincount(digit[begin == wanted[:, None]], minlength=length).view(-1, size)
            for wanted in self.found.int()
        ]
        with self._lock:
            self.counts += torch.stack(counted)
            self.top = torch.maximum(self.top, rows.amax(1))

    def narrow(self) -> None:
        """After a pass: fix one more digit of every wanted value."""
        below = self.counts.cumsum(2)
        digit = (below <= self.ranks[:, :, None]).sum(2)  # (R, C)
        before = (below - self.counts).gather(2, digit[:, :, None])[:, :, 0]
        self.ranks, self.found = self.ranks - before, (self.found << self._widths.pop(0)) | digit
        if not self.done:
            self._start()
