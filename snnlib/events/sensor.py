"""A simulated event sensor in front of images that move: the world of an event camera, made up.

Each pixel watches the logarithm of its own brightness and remembers a level. Once the logarithm is
θ above or below, the pixel sends an event, ON or OFF, and moves its level by θ::

    L(t) = ln(ε + I(t))        I in [0, 1], ε: what a dark pixel still sees
    event (x, y, t, p):  |L(t) − level| reaches θ;   p = ±1;   level ← level + p θ

Nothing moves, nothing is sent. So the image moves: three **saccades** along a triangle, back to
where they began, as the data set N-MNIST was recorded from a screen. The path is cut into small
steps, brightness between them is a straight line in L, so times of events lie inside steps.

A simulation: it has no noise, no refractory time, no mismatch of thresholds. Thresholded changes of
the logarithm are how such sensors work (Lichtsteiner, Posch and Delbruck, 2008); that the eye is
moved by saccades is of N-MNIST (Orchard and others, 2015). Triangle, steps, ε and θ are ours.
Chapter *One event at a time*.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from snnlib._arguments import real, whole
from snnlib.zoo.event_files import Recordings

SACCADE_MS, STEPS = 100.0, 5  # of one saccade; steps of it
TRIANGLE = ((-1.0, 0.0), (0.0, 1.0), (1.0, 0.0), (-1.0, 0.0))  # (x, y) of the image, in pixels
WIDE = tuple((2 * x, 2 * y) for x, y in TRIANGLE)  # for blurred edges, as of the embedded digits
THRESHOLD, DARK = 1.5, 0.1  # θ, ε
_AT_ONCE = 500  # images


def look(
    images: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    *,
    threshold: float = THRESHOLD,
    dark: float = DARK,
    margin: int = 0,
    path: Sequence[tuple[float, float]] = TRIANGLE,
) -> Recordings:
    """What the sensor sends while images move in front of it.

    Args:
        images: uint8 (N, 1, H, W), with the margin at most 256 a side; around them it is black.
        labels: int64 (N,).
        classes: names of the classes.
        threshold: θ, above 0.
        dark: ε, above 0.
        margin: pixels that the sensor has more than the image, on each side.
        path: corners that the image passes, (x, y) in pixels; a saccade of `SACCADE_MS` each leg.

    Returns:
        N recordings, times in ms from 0. Events of one time are in the order of their pixels.

    Raises:
        ValueError: images are of another shape or type, or too large; or a number is not positive.

    Example:
        >>> from snnlib.zoo import data
        >>> digits, _ = data.load("digits")
        >>> seen = look(digits.images[:5], digits.labels[:5], digits.classes)
        >>> len(seen), seen.size
        (5, (28, 28))
    """
    real("threshold", threshold, 0.0, above=True)
    real("dark", dark, 0.0, above=True)
    if images.ndim != 4 or images.shape[1] != 1 or images.dtype != torch.uint8:
        raise ValueError(
            f"look: images must be uint8 (N, 1, H, W), not {images.dtype} {tuple(images.shape)}"
        )
    if whole("margin", margin, 0):
        images = F.pad(images, (margin,) * 4)
    if max(images.shape[2:]) > 256:
        raise ValueError(f"look: {tuple(images.shape[2:])} pixels, at most 256 a side can be told")
    places = positions(path)
    parts = [_seen(part[:, 0].numpy(), places, threshold, dark) for part in images.split(_AT_ONCE)]
    counts = np.concatenate([part[0] for part in parts]) if parts else np.zeros(0, np.int64)
    columns = [np.concatenate([part[i] for part in parts]) for i in range(1, 5)]
    return Recordings(
        x=columns[0].astype(np.uint8),
        y=columns[1].astype(np.uint8),
        t=columns[2].astype(np.float32),
        p=columns[3].astype(np.int8),
        starts=np.concatenate([[0], counts.cumsum()]),
        labels=labels.numpy(),
        classes=tuple(classes),
        size=(images.shape[3], images.shape[2]),
    )


def positions(path: Sequence[tuple[float, float]] = TRIANGLE) -> np.ndarray:
    """Where the image is after every step, (steps + 1, 2); `STEPS` steps from corner to corner."""
    corners = np.array(path, dtype=np.float64)
    shares = np.arange(1, STEPS + 1)[:, None] / STEPS
    legs = [a + shares * (b - a) for a, b in pairwise(corners)]
    return np.concatenate([corners[:1], *legs])


def shifted(images: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Images (N, H, W) moved right and down by (x, y) pixels, bilinear, black around them."""
    (left, fx), (up, fy) = ((int(np.floor(v)), float(v - np.floor(v))) for v in place)
    found = np.zeros_like(images)
    for dy, wy in ((0, 1 - fy), (1, fy)):
        for dx, wx in ((0, 1 - fx), (1, fx)):
            if wx * wy:
                found += wx * wy * _rolled(images, left + dx, up + dy)
    return found


def _rolled(images: np.ndarray, dx: int, dy: int) -> np.ndarray:
    """Moved by whole pixels; what leaves is gone."""
    found = np.zeros_like(images)
    height, width = images.shape[1:]

    def cut(d: int, n: int) -> tuple[slice, slice]:
        d = max(-n, min(n, d))
        return slice(max(d, 0), n + min(d, 0)), slice(max(-d, 0), n - max(d, 0))

    (to_y, from_y), (to_x, from_x) = cut(dy, height), cut(dx, width)
    found[:, to_y, to_x] = images[:, from_y, from_x]
    return found


def _seen(
    images: np.ndarray, places: np.ndarray, threshold: float, dark: float
) -> tuple[np.ndarray, ...]:
    """Events a recording (n,), then x, y, t in ms and p of all events, recording by recording."""
    x01 = images.astype(np.float64) / 255
    before = np.log(dark + shifted(x01, places[0]))
    level = before.copy()
    none = np.zeros(0, np.int64)
    rows = [(none, none, none, np.zeros(0), np.zeros(0))]  # recording, y, x, t, p
    step = SACCADE_MS / STEPS
    for k, place in enumerate(places[1:]):
        now = np.log(dark + shifted(x01, place))
        over = (now - level) / threshold
        count = np.floor(np.abs(over) + 1e-9).astype(np.int64)  # a level that is just met counts
        for i in range(1, int(count.max(initial=0)) + 1):
            n, y, x = np.nonzero(count >= i)
            sign = np.sign(over[n, y, x])
            crossed = level[n, y, x] + i * threshold * sign
            change = now[n, y, x] - before[n, y, x]
            share = np.divide(crossed - before[n, y, x], change, where=change != 0,
                              out=np.ones_like(change))  # fmt: skip
            rows.append((n, y, x, step * (k + share.clip(0, 1)), sign))
        level += threshold * count * np.sign(over)
        before = now
    n, y, x, t, p = (np.concatenate(column) for column in zip(*rows, strict=True))
    # Rounded to a microsecond, the clock of such sensors: so the order hangs on no last bit.
    t = np.round(t, 3)
    order = np.lexsort((x, y, t, n))
    counts = np.bincount(n, minlength=len(images))
    return counts, x[order], y[order], t[order], p[order]
