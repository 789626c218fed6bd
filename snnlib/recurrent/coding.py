"""From an image to a sequence: when a pixel fires says how bright it is.

A coding is asked for a few steps at a time, for the sequences that still have no answer: what is
not looked at is never made. `IntensityRank` sends every pixel exactly once, brightest first;
`Latency` too, but dark pixels never.

Source: Jeffares et al., ICLR 2022 (intensity bins); Thorpe and Gautrais, *Rank order coding*, 1998.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from snnlib._arguments import whole


class Coding(Protocol):
    """What a recurrent network sees after each step."""

    def prepare(self, x: Tensor) -> Tensor:
        """What is kept of a batch, shape (B, ...): made once."""

    def steps(self, x: Tensor) -> int:
        """The number of steps T that a batch is made into."""

    def frames(self, held: Tensor, start: int, stop: int) -> Tensor:
        """Steps start + 1 … stop of what `prepare` made (some rows of it), shape (b, k, ...)."""


@dataclass(frozen=True)
class Given:
    """Sequences as they are: shape (B, T, ...)."""

    def prepare(self, x: Tensor) -> Tensor:
        return x

    def steps(self, x: Tensor) -> int:
        return x.shape[1]

    def frames(self, held: Tensor, start: int, stop: int) -> Tensor:
        return held[:, start:stop]


@dataclass(frozen=True)
class IntensityRank:
    """Every pixel fires exactly once, brightest first: value v in 0…1 at step 1 + ⌊(1 − v)·n⌋.

    Black pixels fire at the last step n. Images are uint8 or real numbers in 0…1.

    >>> image = torch.tensor([[255, 128, 0]], dtype=torch.uint8)
    >>> coding = IntensityRank(4)
    >>> coding.frames(coding.prepare(image), 0, 4)[0].tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]

    Args:
        bins: the number of steps n, 1…256.

    Raises:
        ValueError: n is out of range; or the images are none.
    """

    bins: int = 20

    def __post_init__(self) -> None:
        whole("bins", self.bins, 1, 256)

    def prepare(self, x: Tensor) -> Tensor:
        """The bin of every pixel, 0…n − 1, int16: computed in whole numbers where x is uint8."""
        if x.dtype == torch.uint8:
            return ((255 - x.int()) * self.bins // 256).short()
        if not x.is_floating_point() or not bool(((x >= 0) & (x <= 1)).all()):
            raise ValueError(
                f"{type(self).__name__} takes uint8 images or real numbers in 0…1, not {x.dtype} "
                f"from {x.amin():g} to {x.amax():g}"
            )
        return ((1 - x) * self.bins).floor().clamp_max(self.bins - 1).short()

    def steps(self, x: Tensor) -> int:
        return self.bins

    def frames(self, held: Tensor, start: int, stop: int) -> Tensor:
        steps = torch.arange(start, stop, device=held.device, dtype=held.dtype)
        steps = steps.view(1, -1, *(1,) * (held.dim() - 1))
        return (held[:, None] == steps).to(torch.get_default_dtype())  # (b, k, ...)


@dataclass(frozen=True)
class Latency(IntensityRank):
    """As `IntensityRank`, but what is darker than all but the last bin never fires.

    Most of a digit's image is background: it says nothing here, and the last frame is empty.
    """

    def prepare(self, x: Tensor) -> Tensor:
        bins = super().prepare(x)
        return bins.masked_fill(bins == self.bins - 1, self.bins)
