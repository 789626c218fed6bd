"""How the answer is read from the output layer, which never spikes: it sums what it receives.

With S_t the summed input after t steps and a the ANN's logits, the sum is off by D_t = S_t − t a.
The mean over all steps is off by D_t / t, that over steps s … t by (D_t − D_{s−1}) / (t − s + 1).

- **IF**: deep layers wait for input, and what is sent too much is never taken back. So D_t grows
  while the network starts up and hardly afterward: a mean that begins later never saw it.
- **TerMapping** pays the start-up back with negative spikes, so D_t falls again: a later start
  helps until then; after that it counts only what is paid back.
- **AugMapping with negative = 0** sums like a rounding ANN at once (closed form): |D_t| ≤ B for all
  t. A later start turns the bound B/t into 2B/(t − s + 1), so it gains nothing.

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
        """Logits after each of the next steps; not a number (no answer) before step ``first``.

        Args:
            totals: S of steps ``done`` + 1, …, shape (K, B, ...).
            done: steps before them.
        """
        count, start = len(totals), self.first - 1  # S_start is taken off
        t = torch.arange(done + 1, done + count + 1).to(totals)
        window = torch.where(t > start, t - start, torch.nan)  # steps that count, (K,)
        if self.before is None and done < start <= done + count:
            self.before = totals[start - done - 1].clone()
        if self.before is not None:
            totals = totals - self.before
        return totals / window.view(-1, *[1] * (totals.dim() - 1))

    def keep(self, which: Tensor) -> None:
        """Go on with some of the images only; ``which`` is a mask of shape (B,)."""
        if self.before is not None:
            self.before = self.before[which]


@dataclass(frozen=True)
class Mean:
    """The mean of the output's input over steps ``first`` … t (the default: over all of them).

    Before step ``first`` there is no answer: logits and accuracy are not a number, the predicted
    class is −1, and an early exit waits. Costs count from step 1 on, as the steps are made.

    Args:
        first: the first step that counts; choose it on validation images. It pays for IF, not for
            AugMapping with negative = 0 (`snnlib.graph.readout` says why).

    Raises:
        ValueError: first is not a whole number of at least 1.

    Source: Hwang et al., 2021 (delayed evaluation). Chapter *Rates, counts and ReLU*.
    """

    first: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "first", whole("Mean: first", self.first))

    def reader(self) -> Reader:
        """A reader for one chunk of images."""
        return Reader(self.first)

    def check(self, steps: int) -> Mean:
        """This read-out; a ValueError if so many steps end before the first one that counts."""
        if self.first > steps:
            raise ValueError(
                f"steps={steps}, but the answer is read from step {self.first} on, so there is "
                f"none: take {self.first} steps or more, or an earlier snnlib.Mean(first=…)"
            )
        return self


Readout = Mean
READOUTS: dict[str, type[Readout]] = {"mean": Mean}
