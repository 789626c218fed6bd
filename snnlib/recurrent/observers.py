"""The best that anyone could do: exact observers of two tasks, for networks to be measured by.

`BitsObserver` knows the probability that the rest of the sequence still brings a run; with it, an
answer at the first crossing of p is never earlier or later than the evidence. `RatioTest` is the
sequential probability ratio test: of all tests with its two error rates none takes fewer samples on
average (Wald and Wolfowitz, 1948). That holds without an end, for noise of known strength; with an
end after 40 samples, or unknown noise, it is a strong rule, not a proven optimum. Chapter *Rank
coding* proves what a posterior promises at its first crossing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from snnlib._arguments import real, whole


@dataclass(frozen=True)
class BitsObserver:
    """Fair random bits, class 1 if ``run`` equal ones in a row occur: the exact posterior.

    With k bits to come and r equal bits at the end, the probability f of a run still to come is ::

        f(k, r) = ½ f(k − 1, r + 1) + ½ f(k − 1, 1),   f(0, r) = 0,   f(·, run) = 1

    since the next bit is equal or starts anew.

    Args:
        length: bits of a sequence.
        run: equal bits in a row that make class 1.
    """

    length: int = 25
    run: int = 5

    def __post_init__(self) -> None:
        whole("run", self.run, 2)
        whole("length", self.length)

    @cached_property
    def table(self) -> np.ndarray:
        """The probabilities f(k, r), float64 (length + 1, run + 1); r = 0 before the first bit."""
        f = np.zeros((self.length + 1, self.run + 1))
        f[:, self.run] = 1
        for k in range(1, self.length + 1):
            f[k, :-1] = (f[k - 1, 1:] + f[k - 1, 1]) / 2
        return f

    def probabilities(self, bits: Tensor) -> Tensor:
        """P(class 1 | the bits so far): bits (N, T) → float64 (N, T).

        Raises:
            ValueError: more bits than ``length``.
        """
        if bits.shape[1] > self.length:
            raise ValueError(f"{bits.shape[1]} bits are more than the {self.length} of a sequence")
        run = torch.zeros(len(bits), dtype=torch.int64)
        table, found = torch.from_numpy(self.table), []
        for t in range(bits.shape[1]):
            same = bits[:, t] == bits[:, t - 1] if t else torch.zeros(len(bits), dtype=torch.bool)
            grown = torch.where(same, run + 1, 1)
            run = torch.where(run == self.run, self.run, grown)
            found.append(table[self.length - t - 1, run])
        return torch.stack(found, 1)

    def mean_time(self, p: float) -> float:
        """The exact mean of the first step at which the posterior is ≥ p or ≤ 1 − p."""
        real("p", p, 0.5, 1.0)
        there = np.zeros(self.run + 1)  # probability of run length r, undecided so far
        there[1], mean = 1.0, 0.0
        for t in range(1, self.length + 1):
            if t > 1:
                moved = np.zeros_like(there)
                moved[2:] += there[1:-1] / 2
                moved[1] += there[:-1].sum() / 2
                there = moved
            posterior = self.table[self.length - t]
            done = (np.maximum(posterior, 1 - posterior) >= p) | (t == self.length)
            mean += t * float(there[done].sum())
            there = np.where(done, 0.0, there)
        return mean


@dataclass(frozen=True)
class RatioTest:
    """Samples of mean +μ or −μ in Gaussian noise: the log-likelihood ratio after each.

    For noise of known σ it is ``2 μ S_t / σ²`` with S_t the sum of the samples. Where σ is unknown
    but uniform on a range, both likelihoods are averages over it (64 Gauss–Legendre points).

    Args:
        mean: μ.
        noise: the range of σ.
    """

    mean: float = 0.05
    noise: tuple[float, float] = (0.05, 0.25)

    def __post_init__(self) -> None:
        real("mean", self.mean, 0.0, above=True)
        low, high = self.noise
        real("noise", low, 0.0, above=True)
        real("noise", high, low, above=True)

    def ratios(self, samples: Tensor, sigma: Tensor | None = None) -> Tensor:
        """Logits of the posterior for equal priors, float64 (N, T).

        Args:
            samples: (N, T).
            sigma: the noise of each sequence, (N,), for an observer who knows it.
        """
        x = samples.double()
        if sigma is not None:
            return 2 * self.mean * x.cumsum(1) / sigma.double()[:, None].square()
        points, weights = np.polynomial.legendre.leggauss(64)
        low, high = self.noise
        s = torch.from_numpy((high - low) / 2 * points + (high + low) / 2)  # (64,)
        counts = torch.arange(1, x.shape[1] + 1, dtype=torch.float64)
        first, second = x.cumsum(1), x.square().cumsum(1)  # (N, T)
        sides = []
        for mean in (self.mean, -self.mean):
            squares = second - 2 * mean * first + counts * mean**2  # Σ (x − mean)²
            logs = -squares[..., None] / (2 * s.square()) - counts[:, None] * s.log()
            sides.append((logs + torch.from_numpy(weights).log()).logsumexp(-1))
        return sides[0] - sides[1]
