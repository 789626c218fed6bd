"""How the answer is read from the output layer, which never spikes: it sums what it receives.

A read-out turns the summed inputs S_1, S_2, … after every step into logits. The start-up of a deep
network of integrate-and-fire neurons is a transient of their mean: leaving it out costs nothing.

Source: the late answer is the delayed evaluation of Hwang et al., Frontiers in Neuroscience
15:629000, 2021. Chapter *Rates, counts and ReLU*.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from snnlib._arguments import whole


class Reader:
    """The read-out of one chunk of images on its way through time."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.before: Tensor | None = None  # S of the last step that is left out

    def read(self, totals: Tensor, done: int) -> Tensor:
        """Logits after each of the next steps.

        Args:
            totals: S of steps ``done`` + 1, …, shape (K, B, ...).
            done: steps before them.
        """
        count = len(totals)
        t = torch.arange(done + 1, done + count + 1).to(totals)
        if self.first == 1:
            return totals / t.view(-1, *[1] * (totals.dim() - 1))
        start = self.first - 1  # S_start is taken off from step ``first`` on
        if self.before is None and done < start <= done + count:
            self.before = totals[start - done - 1].clone()
        late = t > start
        t = torch.where(late, t - start, t).view(-1, *[1] * (totals.dim() - 1))
        if self.before is not None and bool(late.any()):
            totals = totals - self.before * late.to(totals).view_as(t)
        return totals / t

    def keep(self, which: Tensor) -> None:
        """Go on with some of the images only; ``which`` is a mask of shape (B,)."""
        if self.before is not None:
            self.before = self.before[which]


@dataclass(frozen=True)
class Mean:
    """The mean of the output's input over steps ``first`` … t (the default: over all of them).

    Before step ``first`` the answer is the mean over all steps so far.

    Args:
        first: the first step that counts; choose it on validation images.

    Raises:
        ValueError: first is not a whole number of at least 1.

    Source: Hwang et al., Frontiers in Neuroscience 15:629000, 2021 (delayed evaluation). Chapter
    *Rates, counts and ReLU*.
    """

    first: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "first", whole("Mean: first", self.first))

    def reader(self) -> Reader:
        """A reader for one chunk of images."""
        return Reader(self.first)


Readout = Mean
READOUTS: dict[str, type[Readout]] = {"mean": Mean}
