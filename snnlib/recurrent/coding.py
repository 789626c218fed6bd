"""What a recurrent network sees after each step, made from what it is given.

A coding is asked for a few steps at a time, for the sequences that still have no answer: what is
not looked at is never made. In an image, when a pixel fires says how bright it is: `IntensityRank`
sends every pixel exactly once, brightest first; `Latency` too, but dark pixels never; `Trace` keeps
what has fired in view. Sequences stay as they are (`Given`), or become independent of how loud they
were recorded (`Leveled`).

Source: Jeffares et al., ICLR 2022 (intensity bins); Thorpe and Gautrais, *Rank order coding*, 1998.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from snnlib._arguments import real, whole


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
class Leveled(Given):
    """Log energies relative to the loudest frame so far: a listener who turns the volume down.

    Frame x_t has the energy e_t = ln of the mean over the bands of exp(x_t). The reference after t
    frames is r_t = max(least, e_1, …, e_t), and the network gets max(x_t − r_t, −depth): a louder
    recording gives the same numbers, and a room's noise far below the voice none. What comes later
    has no part in it. Ours; chapter *Rank coding* shows what it does for a voice never heard.

    >>> quiet = torch.tensor([[[4.0, 2.0], [14.0, 12.0], [13.0, 15.0]]])
    >>> loud, coding = quiet + 5, Leveled()
    >>> torch.allclose(coding.prepare(quiet)[:, 1:], coding.prepare(loud)[:, 1:], atol=1e-5)
    True

    Args:
        least: the smallest reference, in nats of the log energies: what is quieter from the
            beginning on is silence, not a voice.
        depth: how far below the reference the network still hears, in nats, > 0.

    Raises:
        ValueError: a number is out of range; or the sequences are not of shape (B, T, F).
    """

    least: float = 10.0
    depth: float = 6.0

    def __post_init__(self) -> None:
        real("least", self.least)
        real("depth", self.depth, 0.0, above=True)

    def prepare(self, x: Tensor) -> Tensor:
        if x.dim() != 3 or not x.is_floating_point():
            raise ValueError(
                f"Leveled takes log energies (B, T, bands), not {x.dtype} of shape {tuple(x.shape)}"
            )
        energy = x.logsumexp(-1, keepdim=True) - math.log(x.shape[-1])  # (B, T, 1)
        reference = energy.cummax(1).values.clamp_min(self.least)
        return (x - reference).clamp_min(-self.depth)


@dataclass(frozen=True)
class IntensityRank:
    """Every pixel fires exactly once, brightest first: value v in 0…1 at step 1 + ⌊(1 − v)·n⌋.

    Black pixels fire at the last step n. Images are real numbers in 0…1, or uint8 x: then v is
    (x + 1) / 256, so that all bins are about equally wide, and a few grays fire a step earlier.

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
        return self._seen(held[:, None], steps).to(torch.get_default_dtype())  # (b, k, ...)

    def _seen(self, bins: Tensor, step: Tensor) -> Tensor:
        """Whether a pixel of a bin is shown at a step."""
        return bins == step


@dataclass(frozen=True)
class Latency(IntensityRank):
    """As `IntensityRank`, but what is darker than all but the last bin never fires.

    Most of a digit's image is background: it says nothing here, and the last frame is empty.
    """

    def prepare(self, x: Tensor) -> Tensor:
        bins = super().prepare(x)
        return bins.masked_fill(bins == self.bins - 1, self.bins)


@dataclass(frozen=True)
class Trace(IntensityRank):
    """As `IntensityRank`, but seen through synapses that do not leak: a pixel stays once it fired.

    Frame t is the sum of the frames up to t. A network that looks at it frame by frame has the
    whole race so far before it and need not remember where a pixel was. Ours.

    >>> coding = Trace(4, stop=2)
    >>> coding.frames(coding.prepare(torch.tensor([[255, 130, 0]], dtype=torch.uint8)), 0, 2)[0]
    tensor([[1., 0., 0.],
            [1., 1., 0.]])

    Args:
        bins: the number of steps of the whole race, 1…256.
        stop: the race is stopped after so many of them; default: after all.

    Raises:
        ValueError: a number is out of range; or the images are none.
    """

    stop: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stop is not None:
            whole("stop", self.stop, 1, self.bins)

    def steps(self, x: Tensor) -> int:
        return self.stop or self.bins

    def _seen(self, bins: Tensor, step: Tensor) -> Tensor:
        return bins <= step
