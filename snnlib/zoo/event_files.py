"""Recordings of an event camera, in memory, and the binary files of N-MNIST and N-Caltech101.

An event is 40 bits, the highest first (as the authors of both data sets document it)::

    bit 39–32  x    bit 31–24  y    bit 23  polarity (0 OFF, 1 ON)    bit 22–0  time in µs

The authors' first readers (and most since) take an event with y = 240 for no event, but a sign that
the clock had run over: from there on 2¹³ µs are added to every time. The authors' later MATLAB
function adds nothing. Files of N-MNIST have 34 × 34 pixels and hold no such row; N-Caltech101 has
up to 240 × 180.

Folders are as in the archives: ``Train/0/00002.bin`` … ``Test/9/….bin`` for N-MNIST,
``Caltech101/airplanes/image_0001.bin`` … for N-Caltech101, which has no split of its own. Neither
could be had when this was written: tests write tiny files in this format, and no digest of the real
archives is known here.

Source: G. Orchard, A. Jayawant, G. K. Cohen and N. Thakor, *Converting Static Image Datasets to
Spiking Neuromorphic Datasets Using Saccades*, Frontiers in Neuroscience 9:437, 2015; CC BY-SA 4.0.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from snnlib.zoo.fetch import DatasetUnavailable

ADDRESS = "https://www.garrickorchard.com/datasets"
SIZES = {"n-mnist": (34, 34), "n-caltech101": (240, 180)}  # width, height
_BYTES, _OVERFLOW, _INCREMENT = 5, 240, 2**13


@dataclass(frozen=True)
class Recordings:
    """Some recordings with labels, one after another; events of each in the order of time.

    Attributes:
        x: column of each event, uint8 (E,).
        y: row, uint8 (E,), from the top.
        t: time in ms from the beginning of its recording, float32 (E,).
        p: polarity, int8 (E,): 1 ON, −1 OFF.
        starts: int64 (N + 1,): events of recording i are ``starts[i]`` to ``starts[i + 1]``.
        labels: int64 (N,), indices into ``classes``.
        classes: names.
        size: width and height in pixels.

    Raises:
        ValueError: lengths do not go together, or an event lies outside the sensor.
    """

    x: np.ndarray
    y: np.ndarray
    t: np.ndarray
    p: np.ndarray
    starts: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    size: tuple[int, int]

    def __post_init__(self) -> None:
        events = {len(column) for column in (self.x, self.y, self.t, self.p)}
        if events != {int(self.starts[-1])} or len(self.starts) != len(self.labels) + 1:
            raise ValueError(f"Recordings: {events} events, {len(self.labels)} labels do not fit")
        if len(self.x) and (self.x.max() >= self.size[0] or self.y.max() >= self.size[1]):
            raise ValueError(f"Recordings: an event lies outside {self.size[0]} × {self.size[1]}")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def counts(self) -> np.ndarray:
        """Events of each recording, int64 (N,)."""
        counts: np.ndarray = np.diff(self.starts)
        return counts

    def take(self, which: Sequence[int] | np.ndarray | slice) -> Recordings:
        """Some of the recordings: indices or a slice."""
        rows = np.arange(len(self))[which]
        counts = self.counts[rows]
        starts = np.concatenate([[0], counts.cumsum()]).astype(np.int64)
        events = np.arange(starts[-1]) + np.repeat(self.starts[rows] - starts[:-1], counts)
        return Recordings(
            self.x[events], self.y[events], self.t[events], self.p[events], starts,
            self.labels[rows], self.classes, self.size,
        )  # fmt: skip


def read(
    path: str | Path, *, overflow: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """One file: x, y (uint8), t in ms (float32) and p (int8, ±1) of its events.

    Args:
        path: the file.
        overflow: take events with y = 240 for a clock that ran over (above).

    Raises:
        DatasetUnavailable: it is not there, or no whole number of events long; times run backwards.
    """
    where = Path(path)
    try:
        raw = np.frombuffer(where.read_bytes(), dtype=np.uint8)
    except OSError as error:
        raise DatasetUnavailable(f"{where} cannot be read: {error.strerror or error}") from error
    if len(raw) % _BYTES:
        raise DatasetUnavailable(
            f"{where} is damaged: {len(raw):,} bytes are no whole number of events of {_BYTES}"
        )
    x, y, high, middle, low = raw.reshape(-1, _BYTES).T
    t = (high & 127).astype(np.int64) << 16 | middle.astype(np.int64) << 8 | low
    p = np.where(high >> 7, 1, -1).astype(np.int8)
    if overflow:
        over = y == _OVERFLOW
        t = t + _INCREMENT * over.cumsum()
        x, y, t, p = x[~over], y[~over], t[~over], p[~over]
    if (np.diff(t) < 0).any():
        raise DatasetUnavailable(f"{where} is damaged: time runs backwards in it")
    return x.copy(), y.copy(), (t / 1000).astype(np.float32), p


def load(
    folder: str | Path, name: str = "n-mnist", *, part: str = "Train", limit: int | None = None,
    sha256: str | None = None,
) -> Recordings:  # fmt: skip
    """The recordings of a folder, a class a folder in it.

    Args:
        folder: of the unpacked archive: that with ``Train`` and ``Test``, or with the 101 classes.
        name: ``n-mnist`` or ``n-caltech101``: the size of the sensor.
        part: ``Train`` or ``Test``, of N-MNIST.
        limit: the first so many files of each class; None: all.
        sha256: of names and contents of all files read, in their order (`digest`); None: not
            compared.

    Raises:
        DatasetUnavailable: there is no such folder or no file in it; a file is damaged or of
            another sensor; the digest is another.
        ValueError: there is no such data set.
    """
    if name not in SIZES:
        raise ValueError(f"name={name!r} must be one of {', '.join(SIZES)}")
    where = Path(folder).expanduser() / (part if name == "n-mnist" else "")
    files = {
        place.name: sorted(place.glob("*.bin"))[:limit]
        for place in (sorted(where.iterdir()) if where.is_dir() else [])
        if place.is_dir()
    }
    paths = [path for held in files.values() for path in held]
    if not paths:
        raise DatasetUnavailable(
            f"{name}: there is no folder of a class with .bin files in {where}. Download the data "
            f"set from {ADDRESS}, unpack it, and give its folder"
        )
    if sha256 is not None and (found := digest(paths)) != sha256:
        raise DatasetUnavailable(
            f"{name}: the files in {where} have the SHA-256 {found}, not {sha256}"
        )
    held = [read(path) for path in paths]
    width, height = SIZES[name]
    for path, (x, y, _, _) in zip(paths, held, strict=True):
        if len(x) and (x.max() >= width or y.max() >= height):
            raise DatasetUnavailable(f"{path}: an event lies outside {width} × {height} pixels")
    classes = tuple(files)
    columns = [np.concatenate([row[i] for row in held]) for i in range(4)]
    starts = np.concatenate([[0], np.cumsum([len(row[0]) for row in held])]).astype(np.int64)
    labels = np.repeat(np.arange(len(classes)), [len(files[label]) for label in classes])
    return Recordings(
        columns[0], columns[1], columns[2], columns[3], starts, labels, classes, (width, height)
    )


def digest(paths: Sequence[Path]) -> str:
    """SHA-256 of the names and contents of files, in the order of ``paths``."""
    found = hashlib.sha256()
    for path in paths:
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()
