"""The tasks: sequences that one can know the answer of before they end."""

from __future__ import annotations

import torch
from torch import Tensor

from snnlib._arguments import real, whole
from snnlib.zoo.sequences import Sequences


def bits(n: int, seed: int = 0, length: int = 25, run: int = 5) -> Sequences:
    """Random bits; class 1 if ``run`` equal ones in a row occur, values uint8 (n, length, 1).

    >>> bits(2, seed=0, length=6, run=3).values[..., 0].tolist()
    [[0, 1, 1, 0, 1, 1], [1, 1, 1, 1, 1, 0]]
    """
    whole("n", n)
    whole("run", run, 2)
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(2, (n, length), generator=generator, dtype=torch.uint8)
    labels = longest_run(values) >= run
    return Sequences(values[..., None], labels.long(), ("no run", f"run of {run}"))


def longest_run(values: Tensor) -> Tensor:
    """The most equal values in a row: (n, T) → int64 (n,)."""
    now = torch.ones(len(values), dtype=torch.int64)
    most = now.clone()
    for before, value in zip(values.T[:-1], values.T[1:], strict=True):
        now = torch.where(before == value, now + 1, 1)
        most = torch.maximum(most, now)
    return most


def noisy_mean(
    n: int,
    seed: int = 0,
    steps: int = 40,
    mean: float = 0.05,
    noise: tuple[float, float] = (0.05, 0.25),
) -> Sequences:
    """Samples around ±mean, values float32 (n, steps, 1); class 1: the mean is positive.

    The noise is Gaussian; its σ is drawn for each sequence, uniformly from the range ``noise``, and
    kept in ``info["sigma"]``.
    """
    whole("n", n)
    real("mean", mean, 0.0, above=True)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (n,), generator=generator)
    low, high = noise
    sigma = low + (high - low) * torch.rand(n, generator=generator)
    samples = torch.randn(n, steps, generator=generator) * sigma[:, None]
    values = samples + mean * (2 * labels - 1)[:, None]
    return Sequences(values[..., None], labels, ("negative", "positive"), info={"sigma": sigma})
