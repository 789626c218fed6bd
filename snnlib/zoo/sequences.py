"""Sequences with labels, in memory: what `Split` is for images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Sequences:
    """One part of a data set of sequences.

    Attributes:
        values: (N, T, ...), padded at the end; or images (N, ...) that a coding makes into
            sequences.
        labels: (N,), int64, indices into ``classes``.
        classes: the names of the classes.
        lengths: steps of each sequence, int64 (N,); None: all are as long as ``values``.
        info: whatever else is known of each, by name, shapes (N, ...).

    Raises:
        ValueError: shapes do not go together, or a label is no index into ``classes``.
    """

    values: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    lengths: Tensor | None = None
    info: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.values)
        others = {"labels": self.labels, **self.info}
        others |= {} if self.lengths is None else {"lengths": self.lengths}
        for name, value in others.items():
            if len(value) != n:
                raise ValueError(f"Sequences: {len(value)} {name} for {n} sequences")
        if self.labels.dtype != torch.int64 or self.labels.ndim != 1:
            raise ValueError(f"Sequences.labels must be int64 (N,), not {self.labels.dtype}")
        if n and not 0 <= int(self.labels.amin()) <= int(self.labels.amax()) < len(self.classes):
            raise ValueError(f"Sequences: labels must lie in 0…{len(self.classes) - 1}")

    def __len__(self) -> int:
        return len(self.values)

    def take(self, which: np.ndarray | Tensor | slice) -> Sequences:
        """Some of the sequences: a mask, indices, or a slice."""
        if isinstance(which, np.ndarray):
            which = torch.from_numpy(which)
        lengths = None if self.lengths is None else self.lengths[which]
        info = {name: value[which] for name, value in self.info.items()}
        return replace(
            self, values=self.values[which], labels=self.labels[which], lengths=lengths, info=info
        )

    def batch(self, rows: Tensor, cut: bool = True) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values, labels and lengths of some rows.

        ``cut``: values no longer than the longest of them, where dimension 1 is time.
        """
        values, labels = self.values[rows], self.labels[rows]
        if self.lengths is None:
            return values, labels, None
        lengths = self.lengths[rows]
        return values[:, : int(lengths.amax())] if cut else values, labels, lengths
