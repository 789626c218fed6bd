"""Input codings: how an image becomes the input current of each time step.

`Constant` feeds the image itself, as a current, in every step: no sampling noise, and whatever
depends on the image alone is computed once. `Bernoulli` sends a spike with the pixel's
probability. `Frames` passes on input that varies in time by itself.

The random numbers of `Bernoulli` are a function of (seed, image index, step, pixel): a run gives
the same spikes for every batch size, device, thread and process count.

Chapter: *Rates, counts and ReLU* (constant current against Bernoulli input).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from snnlib._arguments import flag, whole

_GOLDEN, _MIX_A, _MIX_B = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


def _mix(bits: Tensor) -> Tensor:
    """SplitMix64's finalizer on int64 tensors (two's complement, logical shifts)."""
    for shift, factor in ((30, _MIX_A), (27, _MIX_B)):
        bits = (bits ^ ((bits >> shift) & ((1 << (64 - shift)) - 1))) * factor
    return bits ^ ((bits >> 31) & ((1 << 33) - 1))


class Coding:
    """What all input codings share; subclass it for a coding of your own.

    Attributes:
        constant: every step sees the same input, so what depends on it alone is computed once.
        spikes: the input is spikes: they are counted, and the first layer adds. Otherwise it is
            analog, and the first layer's multiplications are charged.
        timed: the input has one frame a step, shape (T, B, ...).
    """

    constant: bool = False
    spikes: bool = False
    timed: bool = False

    def check(self, images: Tensor, steps: int) -> None:
        """Raise ValueError where these images cannot be coded; any will do by default."""

    def frame(self, images: Tensor, step: int, first: int) -> Tensor:
        """Input of step ``step`` (1, 2, …), shape (B, ...).

        Args:
            images: a chunk of images, shape (B, ...), or (T, B, ...) if ``timed``.
            step: number of the step.
            first: number of the chunk's first image in the data set.
        """
        raise NotImplementedError(f"{type(self).__name__} has no frame")

    def mean(self, images: Tensor, steps: int, first: int) -> Tensor:
        """Mean input over ``steps`` steps, shape (B, ...)."""
        wide = torch.promote_types(images.dtype, torch.float32)  # 256 + 1 is 256 in bfloat16
        total = self.frame(images, 1, first).to(wide)
        for step in range(2, steps + 1):
            total = total + self.frame(images, step, first)
        return (total / steps).to(images.dtype)


@dataclass(frozen=True)
class Constant(Coding):
    """The image as a constant current: the same real numbers in every step (the default).

    Example:
        >>> import torch
        >>> bool((Constant().frame(torch.ones(2, 1, 4, 4), step=3, first=0) == 1).all())
        True
    """

    constant = True

    def frame(self, images: Tensor, step: int, first: int) -> Tensor:
        return images

    def mean(self, images: Tensor, steps: int, first: int) -> Tensor:
        return images


@dataclass(frozen=True)
class Bernoulli(Coding):
    """Bernoulli spikes: in each step a pixel p ∈ [0, 1] sends 1 with probability p, else 0.

    Args:
        seed: of the random numbers. The same seed gives the same spikes on every device and for
            every batch size.
        generator: a `torch.Generator` to draw the seed from instead (advanced by one draw when
            the coding is made).

    Raises:
        ValueError: when used on images outside [0, 1].

    Source: Yu et al., TNNLS 2022, and the rate coding of Diehl et al., 2015. The mean of T steps
    has variance p(1−p)/T, against (θ/T)² for a constant current: chapter *Rates, counts and ReLU*.
    """

    seed: int = 0
    generator: torch.Generator | None = None
    spikes = True

    def __post_init__(self) -> None:
        if self.generator is not None:
            if not isinstance(self.generator, torch.Generator):
                raise ValueError(f"Bernoulli: generator={self.generator!r} is no torch.Generator")
            draw = torch.randint(2**62, (), generator=self.generator, device=self.generator.device)
            object.__setattr__(self, "seed", int(draw))
            object.__setattr__(self, "generator", None)
        seed = whole("Bernoulli: seed", self.seed, least=-(2**63), most=2**63 - 1)
        object.__setattr__(self, "seed", seed)

    def check(self, images: Tensor, steps: int) -> None:
        low, high = float(images.min()), float(images.max())
        if low < 0 or high > 1:
            raise ValueError(
                f"Bernoulli coding needs images in [0, 1], these lie in [{low:.4g}, {high:.4g}]: "
                "pass them unnormalized (put the normalization into the network) or use Constant()"
            )

    def frame(self, images: Tensor, step: int, first: int) -> Tensor:
        device, pixels = images.device, images[0].numel()
        index = torch.arange(first, first + len(images), device=device)
        clock = torch.full((1,), step, dtype=torch.int64, device=device)
        stream = _mix(_mix(index * _GOLDEN + self.seed) + clock * _GOLDEN)
        bits = _mix(stream[:, None] + torch.arange(pixels, device=device) * _GOLDEN)
        uniform = ((bits >> 40) & 0xFFFFFF).to(torch.float32) / 2**24
        return (uniform.reshape(images.shape) < images).to(images.dtype)


@dataclass(frozen=True)
class Frames(Coding):
    """Input that varies in time: ``x`` has shape (T, B, ...), step t sees ``x[t − 1]``.

    Args:
        spikes: the frames hold spikes (events), which cost additions; real numbers by default,
            whose first layer multiplies at every step.

    Raises:
        ValueError: when T differs from the number of steps asked for.
    """

    spikes: bool = False
    timed = True

    def __post_init__(self) -> None:
        flag("Frames: spikes", self.spikes)

    def check(self, images: Tensor, steps: int) -> None:
        if len(images) != steps:
            raise ValueError(
                f"Frames coding: the input has {len(images)} frames (first dimension) but "
                f"steps={steps}: pass x of shape (T, B, ...) with T = steps"
            )

    def frame(self, images: Tensor, step: int, first: int) -> Tensor:
        return images[step - 1]

    def mean(self, images: Tensor, steps: int, first: int) -> Tensor:
        return images.mean(0)
