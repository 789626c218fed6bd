"""Events as a graph that grows: who is whose neighbor, for whole recordings and one at a time.

A node is an event at (x, y, β t). It gets edges to what it finds around it when it comes: at each
pixel at most r columns and rows away the last event, unless that is older than the window τ::

    N(i) = {last event j < i at pixel (x, y):  |x − xᵢ| ≤ r,  |y − yᵢ| ≤ r,  tᵢ − tⱼ ≤ τ}

So a node finds at most (2r + 1)² neighbors, with no search: a sensor keeps the number of the last
event of each pixel. Edges never go: the graph of the first n events is a part of that of n + 1.

``mutual`` edges go both ways, as in AEGNN: an old node hears of a new one. Otherwise events hear
of the past only, as in Gehrig and Scaramuzza (2024): old nodes stay as they are.

AEGNN (Schaefer, Gehrig and Scaramuzza, CVPR 2022) takes at most 32 events within a radius in x, y
and β t; the last event of a pixel, the box and the window are ours.

**Pooling** puts nodes into cells of a grid in x, y and t. A cell is a node as soon as there is an
event in it, at the middle of the cell; two cells have an edge as soon as two of their events do. So
it grows too. (PyTorch Geometric puts a cell at the mean of its events: then each of them would move
it, and every edge that it has.) Chapter *One event at a time*.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass

import numpy as np

from snnlib._arguments import real, whole
from snnlib.zoo.event_files import Recordings

Cell = tuple[int, int, int]


@dataclass(frozen=True)
class Rule:
    """What makes two events neighbors, and cells of them.

    Args:
        radius: r, columns and rows.
        window: τ in ms.
        mutual: edges go both ways.
        side: pixels of a cell, at least r.
        span: ms of a cell, at least τ.

    Raises:
        ValueError: a value is out of range.
    """

    radius: int = 2
    window: float = 25.0
    mutual: bool = True
    side: int = 4
    span: float = 100.0

    def __post_init__(self) -> None:
        whole("radius", self.radius, 1)
        whole("side", self.side, self.radius)  # then cells with an edge touch
        real("window", self.window, 0.0, above=True)
        real("span", self.span, self.window)

    def cells(self, x: np.ndarray, y: np.ndarray, t: np.ndarray) -> np.ndarray:
        """The cells of events, int64 (n, 3): column, row and span of time."""
        columns = (x // self.side, y // self.side, t // self.span)
        return np.stack([np.asarray(c, dtype=np.int64) for c in columns], axis=-1)

    def between(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Where an edge's source lies, seen from its target: (E, 3) in [0, 1]³.

        Args:
            source: x, y and t in ms of its source, (E, 3).
            target: of its target.
        """
        reach = np.array([self.radius, self.radius, self.window])
        return (1 + (source - target) / reach) / 2

    def between_cells(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """The same for cells (E, 3): those with an edge are neighbors in the grid."""
        return (1 + np.asarray(source - target, dtype=np.float64)) / 2


class Growing:
    """The neighbors of each new event, found in the last event of the pixels around it.

    Args:
        size: width and height of the sensor.
        rule: which events are neighbors.

    Example:
        >>> graph = Growing((28, 28), Rule())
        >>> [graph.add(x, 5, t).tolist() for x, t in ((5, 0.0), (6, 10.0), (6, 20.0), (5, 40.0))]
        [[], [0], [0, 1], [2]]
    """

    def __init__(self, size: tuple[int, int], rule: Rule) -> None:
        width, height = size
        border = 2 * rule.radius
        self.rule, self.times = rule, list[float]()
        self._last = np.full((height + border, width + border), -1)

    def add(self, x: int, y: int, t: float) -> np.ndarray:
        """Add an event; returns its neighbors among those before, int64, ascending.

        Raises:
            ValueError: it is outside the sensor, at no time, or earlier than the last one.
        """
        x, y, t = operator.index(x), operator.index(y), float(t)  # a byte ends at 255
        r = self.rule.radius
        height, width = (n - 2 * r for n in self._last.shape)
        if not (0 <= x < width and 0 <= y < height):
            raise ValueError(f"the event ({x}, {y}) is outside the sensor of {width} × {height}")
        if not math.isfinite(t):
            raise ValueError(f"an event at {t} ms has no time")
        if self.times and t < self.times[-1]:
            raise ValueError(f"an event at {t} ms comes after one at {self.times[-1]} ms")
        found = self._last[y : y + 2 * r + 1, x : x + 2 * r + 1].ravel()
        oldest = t - self.rule.window
        near = np.array([j for j in found if j >= 0 and self.times[j] >= oldest], dtype=np.int64)
        self._last[y + r, x + r] = len(self.times)
        self.times.append(float(t))
        return np.sort(near)


def edges(recordings: Recordings, rule: Rule) -> np.ndarray:
    """All edges of some recordings at once, int64 (2, E): sources, then targets.

    Nodes are numbered as the events of ``recordings``. The same edges as `Growing` finds.
    """
    width, height = recordings.size
    r, n = rule.radius, len(recordings.x)
    x, y = recordings.x.astype(np.int64), recordings.y.astype(np.int64)
    t = recordings.t.astype(np.float64)  # as one at a time: ties at the window are the same
    recording = np.repeat(np.arange(len(recordings)), recordings.counts)
    rows, columns = height + 2 * r, width + 2 * r  # a border, so that no pixel is another row's
    pixel = (recording * rows + y + r) * columns + x + r
    order = np.argsort(pixel, kind="stable")
    key = pixel[order] * n + order  # ascending: by pixel, then by time
    sources, targets = [], []
    for dy in range(-r, r + 1):
        for dx in range(-r, r + 1):
            at = pixel + dy * columns + dx
            place = np.searchsorted(key, at * n + np.arange(n)) - 1
            j = order[place.clip(0)]
            near = (place >= 0) & (pixel[j] == at) & (t[j] >= t - rule.window)
            targets.append(np.flatnonzero(near))
            sources.append(j[near])
    found = np.stack([np.concatenate(sources), np.concatenate(targets)])
    return np.concatenate([found, found[::-1]], axis=1) if rule.mutual else found
