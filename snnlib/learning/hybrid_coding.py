"""Hybrid coding and neurons that change from step to step, on a plain stack of layers.

Source: He, *Adaptive Spiking Neural Networks with Hybrid Coding*, arXiv:2408.12407, 2024.

Layer l at step t, of T, on images in [0, 1]::

    I_t = BN(W s_t)                  (B, ...)  what the layer before sent; BN sees all T·B at once
    u_t = λ_t u_{t−1} + γ_t I_t      leak and gain learned, one a layer and step
    s_t = 1 if u_t ≥ 1, u_t ← u_t − s_t
    y   = (1/T) Σ κ_t o_t            (B, classes)  o_t: what the last layer computes from s_t

What enters at step t (`encode`), pixels x of shape (B, C, H, W):

========  ==================================================================
direct    x at every step
time      1 where x lies in (1 − t/T, 1 − (t−1)/T]: bright pixels first
mixed     x at step 1; at step t + 1, 1 where x lies in (1 − t/T, 1 − (t−1)/T]
========  ==================================================================

The paper's: the per-step leak, gain and weight of the answer (start ½, ½, 1), the mixed input,
whose first step has its own first layer, the surrogate (slope of a sigmoid, peak 1).

Ours: any chain of layers with ReLUs in their places; intervals are closed above, so x = 1 is in
the brightest; a black pixel never fires and none fires twice, also in the time code, whose last
interval in the released code is met by all pixels again. With T = 1, direct input, it is the plain
network with a step for each ReLU: the test. Chapter *Time in the input, time in the gradient*.
"""

from __future__ import annotations

import copy
from typing import Literal, cast

import torch
from torch import Tensor, nn

from snnlib._arguments import whole
from snnlib.learning.lif import LIF, Surrogate, places_of_relus, run

Input = Literal["direct", "time", "mixed"]
INPUTS: tuple[Input, ...] = ("direct", "time", "mixed")
NEURON = LIF(spike=Surrogate("sigmoid"))  # the leak is learned, so its own is 1


def encode(x: Tensor, steps: int, form: Input) -> Tensor:
    """What enters at every step: images in [0, 1], shape (B, ...) → (T, B, ...).

    Raises:
        ValueError: there is no such form.
    """
    if form not in INPUTS:
        raise ValueError(f"encode: form={form!r} must be one of {', '.join(INPUTS)}")
    if form == "direct":
        return x.expand(steps, *x.shape)
    # The interval of a pixel, 1 for the brightest; rounding must not put it in two, or in none.
    interval = (torch.floor((1 - x) * steps) + 1).masked_fill(x <= 0, 0)
    first = 2 if form == "mixed" else 1
    frames = [(interval == t - first + 1).to(x.dtype) for t in range(first, steps + 1)]
    return torch.stack([x, *frames] if form == "mixed" else frames)  # (T, B, ...)


class Adaptive(nn.Module):
    """Neurons whose leak and gain are learned, one a step or one for all.

    Args:
        steps: T.
        per_step: own leak and gain for every step; else the same for all.
        gain: what the gains start from.
    """

    def __init__(self, steps: int, per_step: bool, gain: float = 0.5) -> None:
        super().__init__()
        self.steps = steps
        self.leak = nn.Parameter(torch.full((steps if per_step else 1,), 0.5))
        self.gain = nn.Parameter(torch.full((steps if per_step else 1,), gain))
        self.sent: Tensor | None = None  # spikes of the last pass, for who counts them

    def forward(self, currents: Tensor) -> Tensor:
        """Currents (T, B, ...) → spikes, the same shape."""
        gain = self.gain.expand(self.steps).view(-1, *[1] * (currents.ndim - 1))
        leak = self.leak.expand(self.steps)
        spikes = run(NEURON, gain * currents, torch.ones_like(self.leak[:1]), leak)
        self.sent = spikes.detach()
        return spikes


class HybridCoding(nn.Module):
    """A chain of layers in time: images (B, C, H, W) in [0, 1] → logits (B, classes).

    Args:
        layers: the chain; every ``nn.ReLU`` becomes `Adaptive` neurons. It is copied.
        steps: T.
        form: what enters, see `encode`.
        per_step: own leaks, gains and weights of the answer for every step.
        gain: what the gains start from. The paper's ½ leaves most neurons silent at first, which
            takes long to mend; 1 does not.

    Raises:
        ValueError: no ReLU, or one inside another layer, an unknown form, steps below 1; one step
            leaves the mixed input nothing to code in time.
    """

    def __init__(
        self, layers: nn.Sequential, steps: int, form: Input = "mixed", per_step: bool = True,
        gain: float = 0.5,
    ) -> None:  # fmt: skip
        super().__init__()
        self.steps = whole("HybridCoding: steps", steps, least=2 if form == "mixed" else 1)
        if form not in INPUTS:
            raise ValueError(f"HybridCoding: form={form!r} must be one of {', '.join(INPUTS)}")
        self.form = form
        chain = copy.deepcopy(layers)
        places = places_of_relus(chain, "HybridCoding")
        for i in places:
            chain[i] = Adaptive(steps, per_step, gain)
        self.first = chain[: places[0]]  # weighted layer and batch norm before the first neurons
        self.analog = copy.deepcopy(self.first) if form == "mixed" else None
        self.rest = cast("nn.Sequential", chain[places[0] :])
        self.weight = nn.Parameter(torch.ones(steps if per_step else 1))  # κ

    def forward(self, x: Tensor) -> Tensor:
        """The weighted mean over all steps."""
        frames = encode(x, self.steps, self.form)  # (T, B, C, H, W)
        if self.form == "direct":  # the same at every step: compute it once
            once = self.first(x)
            value = once.expand(self.steps, *once.shape)
        elif self.analog is None:
            value = _folded(self.first, frames)
        else:
            value = torch.cat([self.analog(x)[None], _folded(self.first, frames[1:])])
        for layer in self.rest:
            value = layer(value) if isinstance(layer, Adaptive) else _folded(layer, value)
        weight = self.weight.expand(self.steps)  # (T,)
        return torch.einsum("t,tbc->bc", weight, value) / self.steps

    def spikes(self) -> float:
        """Spikes an image in the last pass, all layers."""
        sent = [m.sent for m in self.modules() if isinstance(m, Adaptive) and m.sent is not None]
        return sum(float(s.sum()) / s.shape[1] for s in sent)


def _folded(layer: nn.Module, value: Tensor) -> Tensor:
    """A layer without time on all steps at once: (T, B, ...) as T·B images."""
    out: Tensor = layer(value.flatten(0, 1))
    return out.unflatten(0, value.shape[:2])
