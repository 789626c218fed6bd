"""Exact spike times and their exact gradients, with one spike a neuron or several.

Source: Yamamoto, Aihara and Sakemi, *Timing-Based Backpropagation in Spiking Neural Networks
Without Single-Spike Restrictions*, arXiv:2211.16113, 2022.

No steps: a spike has a time, a real number. A neuron with input spikes at s_j (weights w_j) and
its own spikes at t_1 < t_2 < …::

    V(t) = Σ_{s_j < t} w_j ε(t − s_j) − θ Σ_{t_m < t} e^{−(t − t_m)/τ}
    ε(u) = 4 (e^{−u/τ} − e^{−2u/τ})                    peak 1, at u = τ ln 2
    t_k  : V reaches θ from below

    dt_k = −(1/V′(t_k)) [Σ_j ε(t_k − s_j) dw_j − Σ_j w_j ε′(t_k − s_j) ds_j
                         − (θ/τ) Σ_{m<k} e^{−(t_k − t_m)/τ} dt_m]

Between two input spikes V is a quadratic polynomial of x = e^{−t/τ}, so t_k has a closed form. The
last line is the implicit function theorem: an exact gradient wherever no spike appears or
vanishes. Earlier spikes of the same neuron shift later ones by their reset: the last sum, which is
empty if a neuron may fire only once.

The paper's: gradients of all spike times, several a neuron, and the question which time constant
serves best. Ours: that the current's time constant is half of the membrane's (what makes V
quadratic: Göltz et al., Nature Machine Intelligence 3, 2021), a loss on the first output spikes,
the weight that revives silent neurons (a neuron without a spike has no gradient), the bound on
1/V′ (it has no limit where V only just reaches θ), at most `most` spikes a neuron.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnlib._arguments import real, whole

LONGEST = 80.0  # horizon / τ: beyond, e^{2t/τ} leaves the range of float32
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
        flat = flat.masked_fill(flat >= horizon, math.inf)
        events = max(1, int(torch.isfinite(flat).sum(1).max()))
        when, order = flat.topk(events, dim=1, largest=False)  # (B, E)
        sender = order // times.shape[2]
        spikes, slopes = _simulate(when, sender, weight, tau, theta, most, horizon)
        ctx.save_for_backward(when, order, weight, spikes, slopes)
        ctx.shape, ctx.tau, ctx.theta, ctx.horizon = times.shape, tau, theta, horizon
        return spikes

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        when, order, weight, spikes, slopes = ctx.saved_tensors
        tau, middle = ctx.tau, ctx.horizon / 2
        fired = torch.isfinite(spikes)
        share = _own_spikes(gradients[0], spikes, slopes, tau, ctx.theta)  # dL/dV at each spike
        # Sums over all spikes after an input spike: put each at its last input spike, then sum
        # from the end. Times count from the middle, so that e^{2t/τ} stays in range.
        late = torch.where(fired, spikes, 0) - middle
        early = torch.where(torch.isfinite(when), when, ctx.horizon) - middle
        place = torch.searchsorted(when, spikes.flatten(1)).clamp(1, when.shape[1]) - 1
        place = place.view(spikes.shape).transpose(1, 2)  # (B, K, n)
        after = []
        for rate in (1 / tau, 2 / tau):
            part = (share * torch.exp(-rate * late)).transpose(1, 2)
            sums = share.new_zeros(*when.shape, spikes.shape[1]).scatter_add_(1, place, part)
            sums = sums.flip(1).cumsum(1).flip(1)
            after.append(sums * torch.exp(rate * early)[..., None])
        slow, fast = after  # (B, E, n)
        sender = order // ctx.shape[2]
        for_weight = torch.zeros_like(weight.T).index_add_(
            0, sender.flatten(), (4 * (slow - fast)).flatten(0, 1)
        )
        for_times = None
        if ctx.needs_input_grad[0]:
            change = (4 / tau) * ((slow - 2 * fast) * weight.T[sender]).sum(2)  # (B, E)
            change = change.masked_fill(torch.isinf(when), 0)
            for_times = change.new_zeros(len(when), ctx.shape[1] * ctx.shape[2])
            for_times = for_times.scatter_(1, order, change).view(ctx.shape)
        return for_times, for_weight.T, None, None, None, None


def _simulate(
    when: Tensor, sender: Tensor, weight: Tensor, tau: float, theta: float, most: int,
    horizon: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Spike times and the slopes V′ there, (B, n, most); infinite where there is no spike.

    After each input spike V = a x − b x² with x = e^{−(t − now)/τ}, from 1 downward.
    """
    batch, n = len(when), len(weight)
    spikes = weight.new_full((batch, n, most), math.inf)
    slopes = torch.full_like(spikes, math.inf)
    count = torch.zeros(batch, n, dtype=torch.int64, device=weight.device)
    a, b = weight.new_zeros(batch, n), weight.new_zeros(batch, n)
    gaps = torch.cat([when, torch.full_like(when[:, :1], math.inf)], 1).clamp_max(horizon).diff()
    for e, now in enumerate(when.T):  # (B,)
        arrives = 4 * weight.T[sender[:, e]] * torch.isfinite(now)[:, None]
        a, b = a + arrives, b + arrives
        left = torch.exp(-gaps[:, e, None] / tau)  # x at the next input spike
        while True:
            root = a * a - 4 * theta * b
            x = (a + root.clamp_min(0).sqrt()) / (2 * b)
            fires = (b > 0) & (root > 0) & (x <= 1) & (x > left) & (count < most)
            if not fires.any():
                break
            where = fires.nonzero(as_tuple=True)
            at = x[where]
            slot = (*where, count[where])
            spikes[slot] = now[where[0]] - tau * torch.log(at)
            slopes[slot] = at * root[where].sqrt() / tau
            a = a.index_put(where, a[where] - theta / at)
            count[where] += 1
        a, b = a * left, b * left * left
    return spikes, slopes


def _own_spikes(
    gradient: Tensor, spikes: Tensor, slopes: Tensor, tau: float, theta: float
) -> Tensor:
    """dL/dV at each spike: −(1/V′) dL/dt_k, what later spikes owe to t_k included; (B, n, K)."""
    inverse = (1 / slopes).clamp_max(STEEPEST * tau / theta)  # 0 where there is no spike
    share = torch.zeros_like(spikes)
    total = torch.where(torch.isfinite(spikes), gradient, 0)
    for k in reversed(range(spikes.shape[2])):
        share[..., k] = -inverse[..., k] * total[..., k]
        if k:
            gap = spikes[..., k, None] - spikes[..., :k]
            decay = torch.where(torch.isfinite(gap), torch.exp(-gap / tau), 0)
            total[..., :k] -= share[..., k, None] * (theta / tau) * decay
    return share


def spike_times(
    times: Tensor, weight: Tensor, tau: float, theta: float = 1.0, most: int = 1,
    horizon: float = 2.0,
) -> Tensor:  # fmt: skip
    """Spike times of a layer, with exact gradients.

    Args:
        times: of the inputs, (B, n_in, K_in), ≥ 0; infinite where there is no spike.
        weight: (n, n_in).
        tau: time constant of the membrane; that of the current is half of it.
        theta: threshold, > 0.
        most: spikes a neuron may fire; 1 is the single-spike restriction.
        horizon: spikes from here on do not count.

    Returns:
        Times, (B, n, most), ascending, infinite where there is no spike.

    Raises:
        ValueError: a number out of range; τ is too short for the horizon.
    """
    real("spike_times: theta", theta, 0.0, above=True)
    real("spike_times: horizon", horizon, 0.0, above=True)
    real("spike_times: tau", tau, horizon / LONGEST)
    whole("spike_times: most", most)
    return cast(Tensor, _Times.apply(times, weight, tau, theta, most, horizon))


class ExactTiming(nn.Module):
    """A network that answers by the time of its first output spikes.

    Args:
        sizes: neurons a layer, the input first.
        tau: time constant τ; inputs arrive within [0, 1).
        most: spikes a hidden neuron may fire; an output neuron's first is all that counts.
        horizon: when the answer is due.
        drive: mean initial weight of a neuron, times its inputs, in thresholds.
        seed: of the initial weights.
    """

    def __init__(
        self, sizes: tuple[int, ...], tau: float = 0.1, most: int = 1, horizon: float = 2.0,
        drive: float = 8.0, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.tau = real("ExactTiming: tau", tau, horizon / LONGEST)
        self.most, self.horizon = whole("ExactTiming: most", most), horizon
        generator = torch.Generator().manual_seed(whole("ExactTiming: seed", seed, 0))
        self.weights = nn.ParameterList()
        for inputs, size in zip(sizes, sizes[1:], strict=False):
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

    def loss(self, times: Tensor, labels: Tensor, softness: float = 0.05) -> Tensor:
        """Cross-entropy of softmax(−t/softness) over the first output times, plus `revival`."""
        return F.cross_entropy(-self(times, labels) / softness, labels) + self.revival
