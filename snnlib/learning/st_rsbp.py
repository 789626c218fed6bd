"""ST-RSBP: gradients on spike counts, through recurrent layers, without unrolling time.

Source: Zhang and Li, *Spike-Train Level Backpropagation for Training Deep Recurrent Spiking Neural
Networks*, Advances in Neural Information Processing Systems 32, 2019. Derived in chapter *Gradients
without time*.

A layer of n neurons with presynaptic trains s_j(t), its own of the step before among them if it is
recurrent; leak β, threshold θ, reset to zero::

    V_i(t) = β V_i(t−1) + Σ_j w_ij s_j(t);  fires and becomes 0 where V_i(t) ≥ θ
    p_j(t) = β p_j(t−1) + s_j(t)                        trace of a train, (T, B, n_in)
    e_ij   = Σ over i's spikes of what j has left since i's spike before
    a_i    = Σ_j w_ij e_ij ≥ θ o_i                      o_i: spikes of i, (B, n)
    ∂o_i/∂w_ij ≈ e_ij / (θ D_i),   ∂o_i/∂o_j ≈ w_ij (e_ij / o_j) / (θ D_i)

A potential that fires is θ and a little more, so o_i ≈ a_i / θ; D_i is the correction for the
sums e_ij, which themselves depend on how often i fires. Where i or j is silent, ½ stands for
e_ij / o_j.

The paper's: all of the above. Ours:

- No pairwise matrix, and a batch at once. What j has left at a spike of i is the trace then, less
  the decayed trace at the spike before, so e_ij = Σ_t r_i(t) p_j(t) with
  r_i(t) = s_i(t) (1 − β^{steps to i's next spike}), and both gradients are matrix products over
  time. A test compares with the sum over pairs of spikes.
- The correction in closed form. For even trains, Δ = T / o_i steps apart, e_ij is proportional to
  o_i (1 − β^Δ), so D_i = 1 − ρ, ρ = 1 − Δ |ln β| β^Δ / (1 − β^Δ): 0 without leak. The paper fits
  a polynomial to random trains. D is kept at `LEAST` or more.
- A recurrent layer's error is a sum over rounds through its own weights, cut after `rounds`.
- No synaptic filter, no refractory time; any loss of the output counts.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnlib._arguments import real, whole
from snnlib.learning.lif import LIF

LEAST = 0.1  # of the correction D: it tends to 0 as a neuron's spikes become rare


def simulate(
    trains: Tensor, weight: Tensor, recurrent: Tensor | None, leak: float, theta: float
) -> Tensor:
    """Spikes of a layer, shape (T, B, n): the common step with reset to zero.

    Args:
        trains: presynaptic spikes, (T, B, n_in).
        weight: (n, n_in).
        recurrent: (n, n), on the layer's spikes of the step before; None: there are none.
        leak: β.
        theta: θ.
    """
    wide = torch.promote_types(weight.dtype, torch.float32)  # 16 bits do not integrate
    neuron, level = LIF(leak=leak, reset="zero"), torch.tensor(theta).to(weight.device, wide)
    currents = F.linear(trains, weight).to(wide)  # (T, B, n)
    state, spike, sent = neuron.initial(currents[0], level), torch.zeros_like(currents[0]), []
    for current in currents:
        if recurrent is not None:
            current = current + F.linear(spike.to(recurrent), recurrent)
        spike, state = neuron.step(state, current, level)
        sent.append(spike)
    return torch.stack(sent)


def traces(trains: Tensor, leak: float) -> Tensor:
    """p_j(t) = β p_j(t−1) + s_j(t), shape (T, B, n)."""
    held, kept = torch.zeros_like(trains[0]), []
    for train in trains:
        held = leak * held + train
        kept.append(held)
    return torch.stack(kept)


def readings(spikes: Tensor, leak: float) -> Tensor:
    """r_i(t) = s_i(t) (1 − β^{steps to the next spike of i}), shape (T, B, n).

    After the last spike nothing is subtracted: r = 1 there.
    """
    ahead, kept = torch.zeros_like(spikes[0]), []  # β^{steps to the next spike}
    for spike in spikes.flip(0):
        kept.append(spike * (1 - ahead))
        ahead = leak * torch.where(spike > 0, 1.0, ahead)
    return torch.stack(kept[::-1])


def responses(presynaptic: Tensor, spikes: Tensor, leak: float) -> Tensor:
    """The accumulated responses e_ij, shape (B, n, n_in); training never forms them.

    Args:
        presynaptic: trains of the inputs, (T, B, n_in).
        spikes: those of the layer, (T, B, n).
        leak: β.
    """
    return torch.einsum("tbi,tbj->bij", readings(spikes, leak), traces(presynaptic, leak))


def correction(counts: Tensor, steps: int, leak: float) -> Tensor:
    """D of a neuron that fires so often, evenly, in so many steps; silent ones: as one spike."""
    if leak == 1:
        return torch.ones_like(counts)
    if leak == 0:
        return torch.full_like(counts, LEAST)
    gap = steps / counts.clamp_min(1)  # Δ
    left = leak**gap
    return (gap * -math.log(leak) * left / (1 - left)).clamp_min(LEAST)


class _Layer(torch.autograd.Function):
    """Spike trains forward; backward from the gradient of the counts alone."""

    @staticmethod
    def forward(
        ctx: Any, trains: Tensor, counts: Tensor, weight: Tensor, recurrent: Tensor | None,
        leak: float, theta: float, rounds: int,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        spikes = simulate(trains.to(weight), weight, recurrent, leak, theta)
        # Trains of a single byte a step: all that is kept until the backward pass.
        kept = spikes.to(torch.uint8)
        ctx.save_for_backward(trains, kept, weight, recurrent)
        ctx.leak, ctx.theta, ctx.rounds = leak, theta, rounds
        ctx.mark_non_differentiable(kept)
        return kept, spikes.sum(0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        trains, kept, weight, recurrent = ctx.saved_tensors
        wide = torch.promote_types(weight.dtype, torch.float32)
        weight, recurrent = weight.to(wide), None if recurrent is None else recurrent.to(wide)
        spikes, leak = kept.to(weight), ctx.leak
        counts = spikes.sum(0)  # (B, n)
        scale = 1 / (ctx.theta * correction(counts, len(spikes), leak))
        read, error = readings(spikes, leak), gradients[1]  # (T, B, n), (B, n): dL/do
        for_recurrent = None
        if recurrent is not None:
            before = F.pad(spikes[:-1], (0, 0, 0, 0, 1, 0))  # of the step before
            trace, inner = traces(before, leak), error
            for _ in range(ctx.rounds):  # dL/do of all ways through the layer's own weights
                inner = error + _back(inner * scale, read, trace, before.sum(0), recurrent)
            error = inner
            for_recurrent = torch.einsum("tbi,tbj->ij", (error * scale) * read, trace)
        error = error * scale
        real_trains = trains.to(weight)
        trace = traces(real_trains, leak)  # (T, B, n_in)
        for_weight = torch.einsum("tbi,tbj->ij", error * read, trace)
        for_counts = None
        if ctx.needs_input_grad[1]:
            for_counts = _back(error, read, trace, real_trains.sum(0), weight)
        return None, for_counts, for_weight, for_recurrent, None, None, None


def _back(error: Tensor, read: Tensor, trace: Tensor, counts: Tensor, weight: Tensor) -> Tensor:
    """dL/do_j = Σ_i error_i w_ij ∂e_ij/∂o_j, shape (B, n_in), without the matrix e.

    Args:
        error: dL/do_i / (θ D_i), (B, n).
        read: r_i, (T, B, n).
        trace: p_j, (T, B, n_in).
        counts: o_j, (B, n_in).
        weight: (n, n_in).
    """
    weighted = (error * read) @ weight  # (T, B, n_in)
    active = (weighted * trace).sum(0) / counts.clamp_min(1)
    silent = error * (read.sum(0) == 0)  # neurons of this layer that never fired
    half = 0.5 * error @ weight
    return torch.where(counts > 0, active + 0.5 * silent @ weight, half)


class STRSBP(nn.Module):
    """A network of spiking layers that learns from spike counts.

    Args:
        sizes: neurons a layer, the input first; every layer between first and last is recurrent.
        leak: β.
        theta: θ.
        rounds: how often an error goes through a layer's own weights.
        seed: of the initial weights.

    Raises:
        ValueError: fewer than two sizes; a number out of range.
    """

    def __init__(
        self, sizes: tuple[int, ...], leak: float = 0.95, theta: float = 1.0, rounds: int = 2,
        seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        if len(sizes) < 2:
            raise ValueError(f"STRSBP: sizes={sizes} must name the input and at least one layer")
        self.leak = real("STRSBP: leak", leak, 0.0, 1.0)
        self.theta = real("STRSBP: theta", theta, 0.0, above=True)
        self.rounds = whole("STRSBP: rounds", rounds, 0)
        generator = torch.Generator().manual_seed(whole("STRSBP: seed", seed, 0))
        self.weights, self.recurrent = nn.ParameterList(), nn.ParameterList()
        for inputs, size in pairwise(sizes):
            drawn = torch.randn(size, inputs, generator=generator)
            self.weights.append(nn.Parameter(drawn / math.sqrt(inputs)))
        for size in sizes[1:-1]:
            drawn = torch.randn(size, size, generator=generator)
            self.recurrent.append(nn.Parameter(0.2 * drawn / math.sqrt(size)))

    def forward(self, trains: Tensor) -> Tensor:
        """Spike trains (T, B, n_in), any dtype → output counts (B, n_out)."""
        counts = trains.sum(0, dtype=self.weights[0].dtype)
        self.sent = 0.0  # spikes an image, all layers
        for i, weight in enumerate(self.weights):
            recurrent = self.recurrent[i] if i < len(self.recurrent) else None
            trains, counts = cast(
                "tuple[Tensor, Tensor]",
                _Layer.apply(
                    trains, counts, weight, recurrent, self.leak, self.theta, self.rounds
                ),
            )  # fmt: skip
            self.sent += float(counts.detach().sum(1).mean())
        return counts


def even_trains(x: Tensor, steps: int) -> Tensor:
    """Spike trains as even as they can be: x in [0, 1], (B, ...) → uint8 (T, B, n).

    The count after t steps is floor(t x + ½), an integrate-and-fire neuron's.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))  # t·x of 16 bits is off by whole spikes
    t = torch.arange(steps + 1, device=x.device, dtype=x.dtype).view(-1, 1, 1)
    return torch.floor(t * x.flatten(1) + 0.5).diff(dim=0).to(torch.uint8)
