"""The step that simulates and trains: a leaky neuron whose spike function is a parameter.

::

    V ← leak · V + z_t           integrate (V starts at v0 · θ)
    s ← spike(V / θ − 1)         forward: 1 if V ≥ θ, else 0; backward: a surrogate's slope
    V ← V − s · θ                reset by subtraction (or V ← V · (1 − s): to zero)

A spike is a step, whose slope is zero almost everywhere, so gradients take another function's: a
`Surrogate`, which knows its shape and width. `LIF` is a `snnlib.neurons.Neuron`: what was trained
with it runs in the simulator, step by step.

Source: surrogate gradients, Neftci, Mostafa and Zenke, IEEE Signal Processing Magazine 36, 2019.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from snnlib._arguments import real
from snnlib.neurons import IF, State

# Slope at distance x from the threshold, in widths: 1 at x = 0.
SHAPES: dict[str, Callable[[Tensor], Tensor]] = {
    "rectangle": lambda x: (x.abs() <= 0.5).to(x.dtype),
    "triangle": lambda x: (1 - x.abs()).clamp_min(0),
    "fast-sigmoid": lambda x: (1 + x.abs()).square().reciprocal(),
    "arctan": lambda x: (1 + (math.pi / 2 * x).square()).reciprocal(),
    "sigmoid": lambda x: 4 * torch.sigmoid(4 * x) * torch.sigmoid(-4 * x),
}
# Their integrals over x.
AREAS = {"rectangle": 1.0, "triangle": 1.0, "fast-sigmoid": 2.0, "arctan": 2.0, "sigmoid": 1.0}


class _Spike(torch.autograd.Function):
    """1 where x ≥ 0, else 0; backward with a slope of one's choice."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.slope = slope
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return gradients[0] * ctx.slope(x), None


@dataclass(frozen=True)
class Surrogate:
    """Spike function: 1 if x ≥ 0, else 0, with x = V/θ − 1; backward the slope of its shape.

    Args:
        shape: ``"rectangle"``, ``"triangle"``, ``"fast-sigmoid"``, ``"arctan"`` or ``"sigmoid"``.
        width: how far from the threshold the slope reaches, in thresholds.
        area: scale the slope so that its integral is 1; without, its peak is 1.

    Raises:
        ValueError: there is no such shape, or the width is not positive.
    """

    shape: str = "triangle"
    width: float = 1.0
    area: bool = False

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ValueError(f"Surrogate: shape={self.shape!r} must be one of {', '.join(SHAPES)}")
        real("Surrogate: width", self.width, 1e-6, 1e6)

    def slope(self, x: Tensor) -> Tensor:
        """Slope at x = V/θ − 1, shape of x."""
        peak = 1 / (AREAS[self.shape] * self.width) if self.area else 1.0
        return peak * SHAPES[self.shape](x / self.width)

    def __call__(self, x: Tensor) -> Tensor:
        return cast(Tensor, _Spike.apply(x, self.slope))


@dataclass(frozen=True)
class LIF(IF):
    """Leaky integrate-and-fire neuron through which gradients go.

    Args:
        v0: initial membrane potential, a fraction of θ.
        reset: ``"subtract"`` or ``"zero"``.
        leak: what is left of the potential after a step, 0…1 (1: no leak, an `IF`).
        spike: spike function of V/θ − 1, shapes alike.
        detach: no gradient through the reset.

    Raises:
        ValueError: a parameter is out of range.
    """

    kind: ClassVar[str] = "lif"
    v0: float = 0.0
    leak: float = 1.0
    spike: Callable[[Tensor], Tensor] = Surrogate()
    detach: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        real("LIF: leak", self.leak, 0.0, 1.0)

    def step(
        self, state: State, current: Tensor, theta: Tensor, ceiling: Tensor | None = None
    ) -> tuple[Tensor, State]:
        leaked = State(self.leak * state.potential, state.count)
        return super().step(leaked, current, theta, ceiling)

    def decide(self, potential: Tensor, count: Tensor, theta: Tensor) -> Tensor:
        return self.spike(potential / theta - 1)

    def reset_potential(self, potential: Tensor, coefficient: Tensor, theta: Tensor) -> Tensor:
        sent = coefficient.detach() if self.detach else coefficient
        return potential * (1 - sent) if self.reset == "zero" else potential - sent * theta


def places_of_relus(chain: nn.Sequential, owner: str) -> list[int]:
    """Where in a chain of layers neurons are to stand.

    Raises:
        ValueError: there is no ReLU, or one inside another layer; ``owner`` says who asks.
    """
    places = [i for i, layer in enumerate(chain) if isinstance(layer, nn.ReLU)]
    if not places:
        raise ValueError(f"{owner}: there is no nn.ReLU to put neurons in the place of")
    inside = (layer for layer in chain if not isinstance(layer, nn.ReLU))
    if any(isinstance(module, nn.ReLU) for layer in inside for module in layer.modules()):
        raise ValueError(f"{owner}: an nn.ReLU inside a layer would stay: make it flat")
    return places


def run(neuron: LIF, currents: Tensor, theta: Tensor, leaks: Tensor | None = None) -> Tensor:
    """Spikes of one layer over all steps, through which gradients go.

    With a `Surrogate`, and neither threshold nor leaks trained, the backward pass is written out:
    it keeps one potential a neuron and step, and is some times faster than autograd's.

    Args:
        neuron: the neuron model.
        currents: z_t of every step, shape (T, B, ...).
        theta: firing threshold, broadcastable to one step's currents.
        leaks: a leak for every step, shape (T, ...), beside the neuron's own: one that is learned.

    Returns:
        Spikes, shape (T, B, ...), in the dtype of the currents; potentials of 16-bit currents (in
        autocast) are float32.
    """
    if currents.dtype in (torch.bfloat16, torch.float16):
        wide = None if leaks is None else leaks.float()
        return run(neuron, currents.float(), theta.float(), wide).to(currents.dtype)
    fixed = leaks is None and not theta.requires_grad
    if fixed and type(neuron) is LIF and isinstance(neuron.spike, Surrogate):
        return cast(Tensor, _Run.apply(currents, theta, neuron))
    return run_by_steps(neuron, currents, theta, leaks)


def run_by_steps(
    neuron: LIF, currents: Tensor, theta: Tensor, leaks: Tensor | None = None
) -> Tensor:
    """`run` by the step itself, for any neuron and any spike function; arguments as there."""
    state, spikes = neuron.initial(currents[0], theta), []
    for t, current in enumerate(currents):  # (B, ...)
        if leaks is not None:
            state = State(leaks[t] * state.potential, state.count)
        spike, state = neuron.step(state, current, theta)
        spikes.append(spike)
    return torch.stack(spikes)  # (T, B, ...)


class _Run(torch.autograd.Function):
    """All steps of a layer; backward is back-propagation through time, derived by hand::

        dL/dV_t = dL/ds_t · slope/θ + leak · dL/dV_(t+1) · dV'_t/dV_t

    where V' is the potential after the reset, and dV'/dV = 1 − slope (by subtraction) or
    1 − s − V · slope/θ (to zero), without the terms of the slope where the reset is detached.
    """

    @staticmethod
    def forward(ctx: Any, currents: Tensor, theta: Tensor, neuron: LIF) -> Tensor:
        potentials, spikes = torch.empty_like(currents), torch.empty_like(currents)  # (T, B, ...)
        after = neuron.initial(currents[0], theta).potential
        for z, before, spike in zip(currents, potentials, spikes, strict=True):
            torch.add(z, after, alpha=neuron.leak, out=before)
            torch.ge(before, theta, out=spike)
            after = torch.addcmul(before, spike, before if neuron.reset == "zero" else theta,
                                  value=-1)  # fmt: skip
        ctx.save_for_backward(potentials, theta)
        ctx.neuron = neuron
        return spikes

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        potentials, theta = ctx.saved_tensors
        at_once = potentials.is_cuda  # it waits for small kernels; a CPU likes what fits its cache
        return _backward(ctx.neuron, potentials, theta, gradients[0], at_once), None, None


def _backward(
    neuron: LIF, potentials: Tensor, theta: Tensor, gradients: Tensor, at_once: bool
) -> Tensor:
    """dL/dz of every step, (T, B, ...), from dL/ds; slopes of all steps at once, or one by one."""
    found, later = torch.empty_like(potentials), torch.zeros_like(potentials[0])
    slopes = _slopes(neuron, potentials, theta) if at_once else None
    for t in reversed(range(len(potentials))):
        if slopes is None:
            slope, through = _slopes(neuron, potentials[t], theta)
        else:
            slope, through = slopes[0][t], slopes[1][t]
        torch.mul(gradients[t], slope, out=found[t])
        later = found[t].addcmul_(later, through, value=neuron.leak)
    return found


def _slopes(neuron: LIF, before: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """ds/dV and dV'/dV, shape of the potentials before the reset."""
    slope = neuron.spike.slope(before / theta - 1) / theta  # type: ignore[attr-defined]
    to_zero = neuron.reset == "zero"
    through = (before < theta).to(before) if to_zero else torch.ones_like(before)
    if not neuron.detach:
        through = through - slope * (before if to_zero else theta)
    return slope, through
