"""Exact spike times and their exact gradients, with one spike a neuron or several.

Source: Yamamoto, Aihara and Sakemi, *Timing-Based Backpropagation in Spiking Neural Networks
Without Single-Spike Restrictions*, arXiv:2211.16113, 2022.

No steps: a spike has a time, a real number. A neuron with input spikes at s_j (weights w_j) and
its own spikes at t_1 < t_2 < …::

    V(t) = Σ_{s_j < t} w_j ε(t − s_j) − θ · (spikes before t)
    ε(u) = 1 − e^{−u/τ}                 the charge of a current that decays with τ
    t_k  : V reaches θ from below

    t_k  = τ ln (Σ w_j e^{s_j/τ} / (Σ w_j − kθ))       sums over the inputs before t_k
    dt_k = −(1/V′(t_k)) Σ_j [ε(t_k − s_j) dw_j − w_j ε′(t_k − s_j) ds_j]

The last line is the implicit function theorem: an exact gradient wherever no spike appears or
vanishes. The membrane does not leak, so a reset by θ is the same whenever it came, and the k-th
spike is the first one of a neuron with threshold kθ. Derived in chapter *Time in the input, time in
the gradient*.

The paper's: gradients of all spike times, several a neuron, and the question which time constant
serves best. Ours: a membrane without leak (the closed form of Mostafa, TNNLS 29(7), 2018, whose
neurons fire once), a loss on the first output spikes, the weight that revives silent neurons (a
neuron without a spike has no gradient), the bound on 1/V′ (it has no limit where V only just
reaches θ), at most `most` spikes a neuron.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnlib._arguments import real, whole

STEEPEST = 100.0  # bound on 1/V′, in units of τ/θ


def latencies(x: Tensor, span: float = 1.0) -> Tensor:
    """Images in [0, 1], shape (B, ...) → times (B, n, 1): bright pixels early, black ones never."""
    pixels = x.flatten(1)
    return torch.where(pixels > 0, span * (1 - pixels), math.inf)[..., None]


class _Times(torch.autograd.Function):
    """Spike times of a layer; backward by the implicit function theorem."""

    @staticmethod
    def forward(
        ctx: Any, times: Tensor, weight: Tensor, tau: float, theta: float, most: int, horizon: float
    ) -> Tensor:
        # All input spikes of an image in the order of their times; which neuron sent each.
        flat = times.flatten(1)  # (B, n_in · K)
        events = max(1, int((flat < horizon).sum(1).max()))
        when, order = flat.topk(events, dim=1, largest=False)  # (B, E)
        numbers = np.array([tau, theta, horizon], _dtype(weight))
        found = weight.new_full((2, len(when), len(weight), most), math.inf)
        columns = weight.detach().T.contiguous()
        _loop(_fire)(when.numpy(), (order // times.shape[2]).numpy(), columns.numpy(), numbers,
                     found.numpy())  # fmt: skip
        ctx.save_for_backward(when, order, columns, found)
        ctx.shape, ctx.numbers = times.shape, numbers
        return found[0].clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        when, order, columns, (spikes, slopes) = ctx.saved_tensors
        tau, theta, _ = ctx.numbers.tolist()
        steep = (1 / slopes).clamp_max(STEEPEST * tau / theta)  # 0 where there is no spike
        share = -steep * torch.where(torch.isfinite(spikes), gradients[0], 0)  # dL/dV at each
        for_weight, for_events = torch.zeros_like(columns), torch.zeros_like(when)
        arrays = [t.numpy() for t in (when, order // ctx.shape[2], columns, spikes, share)]
        _loop(_reach)(*arrays, ctx.numbers, for_weight.numpy(), for_events.numpy())
        for_times = for_events.new_zeros(len(when), ctx.shape[1] * ctx.shape[2])
        for_times = for_times.scatter_(1, order, for_events).view(ctx.shape)
        return for_times, for_weight.T, None, None, None, None


def _dtype(like: Tensor) -> np.dtype[Any]:
    return like.detach().numpy().dtype


@functools.cache
def _loop(function: Callable[..., None]) -> Callable[..., None]:
    """Compiled where numba is (the extra ``fast``); else it runs as it is, far slower."""
    if find_spec("numba") is None:
        return function
    from numba import njit

    return cast("Callable[..., None]", njit(nogil=True, error_model="numpy")(function))


def _fire(
    when: np.ndarray, sender: np.ndarray, columns: np.ndarray, numbers: np.ndarray,
    found: np.ndarray,
) -> None:  # fmt: skip
    """Spike times and the slopes V′ there into ``found``, (2, B, n, most).

    After each input spike V = a − b x with x = e^{−(t − now)/τ}, from 1 downward.

    Args:
        when: input spikes of an image in order, (B, E), from the horizon on none.
        sender: who sent them, (B, E).
        columns: weights, (n_in, n).
        numbers: τ, θ, horizon, in the precision of all.
        found: infinite throughout.
    """
    tau, theta, horizon = numbers
    n, most = columns.shape[1], found.shape[3]
    for image in range(len(when)):
        a, b, count = np.zeros_like(columns[0]), np.zeros_like(columns[0]), np.zeros(n, np.int64)
        for e in range(when.shape[1]):
            now = when[image, e]
            if not now < horizon:
                break
            last = e + 1 == when.shape[1] or not when[image, e + 1] < horizon
            left = np.exp((now - (horizon if last else when[image, e + 1])) / tau)
            column = columns[sender[image, e]]
            for i in range(n):
                a[i] += column[i]
                b[i] += column[i]
                while b[i] > 0 and count[i] < most and a[i] - theta > left * b[i]:
                    x = (a[i] - theta) / b[i]
                    found[0, image, i, count[i]] = now - tau * np.log(x)
                    found[1, image, i, count[i]] = (a[i] - theta) / tau
                    a[i] -= theta
                    count[i] += 1
                b[i] *= left


def _reach(
    when: np.ndarray, sender: np.ndarray, columns: np.ndarray, spikes: np.ndarray,
    share: np.ndarray, numbers: np.ndarray, for_weight: np.ndarray, for_events: np.ndarray,
) -> None:  # fmt: skip
    """From dL/dV at the spikes (``share``) to weights (n_in, n) and input times (B, E).

    Backward through the input spikes of an image: for each neuron the sum of dL/dV over its later
    spikes, as it is (``held``) and decayed with τ back to now (``left``).
    """
    tau, _, horizon = numbers
    n, most = spikes.shape[1], spikes.shape[2]
    for image in range(len(when)):
        held, left = np.zeros_like(columns[0]), np.zeros_like(columns[0])
        k = np.full(n, most - 1)
        later = horizon
        for e in range(when.shape[1] - 1, -1, -1):
            now = when[image, e]
            if not now < horizon:
                continue
            decay, total = np.exp((now - later) / tau), 0 * tau
            for i in range(n):
                left[i] *= decay
                while k[i] >= 0 and spikes[image, i, k[i]] > now:
                    if spikes[image, i, k[i]] < horizon:
                        held[i] += share[image, i, k[i]]
                        left[i] += share[image, i, k[i]] * np.exp(
                            (now - spikes[image, i, k[i]]) / tau
                        )
                    k[i] -= 1
                for_weight[sender[image, e], i] += held[i] - left[i]
                total -= left[i] * columns[sender[image, e], i]
            for_events[image, e] = total / tau
            later = now


def spike_times(
    times: Tensor, weight: Tensor, tau: float, theta: float = 1.0, most: int = 1,
    horizon: float = 2.0,
) -> Tensor:  # fmt: skip
    """Spike times of a layer, with exact gradients.

    Args:
        times: of the inputs, (B, n_in, K_in), on the CPU; infinite where there is no spike.
        weight: (n, n_in).
        tau: time constant of the current.
        theta: threshold, > 0.
        most: spikes a neuron may fire; 1 is the single-spike restriction.
        horizon: spikes from here on do not count.

    Returns:
        Times, (B, n, most), ascending, infinite where there is no spike.

    Raises:
        ValueError: a number out of range, or times and weights that do not fit each other: compiled
            code would look beyond their ends.
    """
    if (
        times.ndim != 3 or weight.ndim != 2 or times.shape[1] != weight.shape[1] or not len(times)
        or not {times.dtype, weight.dtype} <= {torch.float32, torch.float64}
        or times.device.type != "cpu" or weight.device.type != "cpu"
    ):  # fmt: skip
        given = " and ".join(f"{t.dtype} {tuple(t.shape)} on {t.device}" for t in (times, weight))
        raise ValueError(
            f"spike_times: times and weight are {given}: pass (B, n_in, K) with B ≥ 1 and (n, n_in)"
            ", each float32 or float64, on the CPU"
        )
    real("spike_times: theta", theta, 0.0, above=True)
    real("spike_times: horizon", horizon, 0.0, above=True)
    real("spike_times: tau", tau, 0.0, above=True)
    whole("spike_times: most", most)
    return cast(Tensor, _Times.apply(times, weight, tau, theta, most, horizon))


class ExactTiming(nn.Module):
    """A network that answers by the time of its first output spikes.

    Args:
        sizes: neurons a layer, the input first.
        tau: time constant τ; inputs arrive within [0, 1).
        most: spikes a hidden neuron may fire; an output neuron's first is all that counts.
        horizon: when the answer is due, above 0.
        drive: mean initial weight of a neuron, times its inputs, in thresholds.
        seed: of the initial weights.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(
        self, sizes: tuple[int, ...], tau: float = 0.1, most: int = 1, horizon: float = 2.0,
        drive: float = 8.0, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        for size in sizes:
            whole("ExactTiming: sizes", size)
        if len(sizes) < 2:
            raise ValueError(f"ExactTiming: sizes={sizes} need an input and an output")
        self.tau = real("ExactTiming: tau", tau, 0.0, above=True)
        self.most = whole("ExactTiming: most", most)
        self.horizon = real("ExactTiming: horizon", horizon, 0.0, above=True)
        generator = torch.Generator().manual_seed(whole("ExactTiming: seed", seed, 0))
        self.weights = nn.ParameterList()
        for inputs, size in pairwise(sizes):
            drawn = torch.randn(size, inputs, generator=generator)
            self.weights.append(nn.Parameter(drive / inputs + drawn / math.sqrt(inputs)))
        self.sent = 0.0  # spikes an image in the last pass, all layers
        self.revival = torch.zeros(())

    def forward(self, times: Tensor, labels: Tensor | None = None) -> Tensor:
        """Input times (B, n, K) → first output times (B, classes), the horizon where none came.

        With labels (B,) `revival` becomes what training adds to the loss for neurons that are
        silent: hidden ones for the whole batch, the output of the label for its image.
        """
        self.sent, self.revival = 0.0, times.new_zeros(())
        for i, weight in enumerate(self.weights):
            last = i == len(self.weights) - 1
            most = 1 if last else self.most
            spikes = spike_times(times, weight, self.tau, 1.0, most, self.horizon)
            fired = torch.isfinite(spikes.detach())
            self.sent += float(fired.sum()) / len(fired)
            if labels is not None:
                silent = ~fired.any(2)  # (B, n)
                wanted = F.one_hot(labels, silent.shape[1]) > 0 if last else silent.all(0)
                active = torch.isfinite(times.detach()).any(2).to(weight)  # (B, n_in)
                mean = active @ weight.T / active.sum(1, keepdim=True).clamp_min(1)
                self.revival = self.revival - (mean * (silent & wanted)).sum(1).mean()
            times = spikes
        return torch.where(torch.isfinite(times), times, self.horizon)[..., 0]

    def __getstate__(self) -> dict[str, Any]:
        """For copies: without the graph of the last pass."""
        return {**self.__dict__, "revival": self.revival.detach()}

    def loss(self, times: Tensor, labels: Tensor, softness: float = 0.05) -> Tensor:
        """Cross-entropy of softmax(−t/softness) over the first output times, plus `revival`."""
        return F.cross_entropy(-self(times, labels) / softness, labels) + self.revival
