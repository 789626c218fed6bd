"""One spike a neuron at most: the image at the first step, its code in time afterward.

Source: Datta, Kundu and Beerel, *Training Energy-Efficient Deep Spiking Neural Networks with
Single-Spike Hybrid Input Encoding*, International Joint Conference on Neural Networks, 2021.

Layer l at step t, of T, on images in [0, 1]::

    I_t = W s_t (+ batch norm)         (B, ...)  what the layer before sent
    u_t = λ u_{t−1} + I_t              leak λ and threshold θ learned, one a layer
    s_t = [u_t ≥ θ] · (1 − N_{t−1})    N: spikes so far, so a neuron that fired is silent from then
    U   = Σ_t o_t                      (B, classes)  o_t: what the last layer computes from s_t
    f_t = [Σ_{k≤t} o_k ≥ θ_out] · (1 − N_{t−1}),  F = Σ_t (T + 1 − t) f_t   earlier is more
    loss = CE(U) + μ CE(F)

The paper's: the input (analog image at step 1, then every pixel once, bright ones first), the
restriction to one spike, a loss of both potential and spike time, learned θ and λ.

Ours: the exact form of the loss above, which the abstract does not give; batch norm on currents
over all T·B; the surrogate (`SPIKE`); answers are the largest U; `single=False` lifts the
restriction, for comparison; how a trained ReLU network becomes the start (`from_relu`). Shown in
chapter *Time in the input, time in the gradient*.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnlib._arguments import real, whole
from snnlib.learning.lif import LIF, Surrogate, places_of_relus, run

SPIKE = Surrogate("triangle")
_LEAST = 0.05  # threshold: one that learning drives to 0 divides by it


@dataclass(frozen=True)
class Once(LIF):
    """A leaky neuron that fires at most once: its count is the mask."""

    kind: ClassVar[str] = "once"

    def decide(self, potential: Tensor, count: Tensor, theta: Tensor) -> Tensor:
        return super().decide(potential, count, theta) * (1 - count)


def encode(x: Tensor, steps: int) -> Tensor:
    """Images in [0, 1], shape (B, ...) → (T, B, ...): x itself, then each pixel once, bright first.

    At step t + 1 fire the pixels in (1 − t/(T−1), 1 − (t−1)/(T−1)]; black ones never.
    """
    span = max(steps - 1, 1)
    interval = (torch.floor((1 - x) * span) + 1).masked_fill(x <= 0, 0)
    return torch.stack([x] + [(interval == t).to(x.dtype) for t in range(1, steps)])


class Neurons(nn.Module):
    """A layer of neurons with learned threshold and leak.

    Args:
        single: at most one spike a neuron.
    """

    def __init__(self, single: bool) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.ones(1))
        self.leak = nn.Parameter(torch.full((1,), 0.9))
        self.neuron = Once(spike=SPIKE) if single else LIF(spike=SPIKE)
        self.sent: Tensor | None = None  # spikes of the last pass

    def forward(self, currents: Tensor) -> Tensor:
        """Currents (T, B, ...) → spikes, the same shape."""
        theta = self.theta.clamp_min(_LEAST)
        leaks = self.leak.clamp(0, 1).expand(len(currents))
        spikes = run(self.neuron, currents, theta, leaks)
        self.sent = spikes.detach()
        return spikes


class SingleSpike(nn.Module):
    """A chain of layers in time: images (B, C, H, W) in [0, 1] → U and F, both (B, classes).

    Args:
        layers: the chain; every ``nn.ReLU`` becomes `Neurons`. It is copied.
        steps: T.
        single: at most one spike a neuron; else as many as steps.

    Raises:
        ValueError: no ReLU, or one inside another layer, steps below 1.
    """

    def __init__(self, layers: nn.Sequential, steps: int, single: bool = True) -> None:
        super().__init__()
        self.steps = whole("SingleSpike: steps", steps)
        self.layers = copy.deepcopy(layers)
        for i in places_of_relus(layers, "SingleSpike"):
            self.layers[i] = Neurons(single)
        self.out = Once(spike=SPIKE)
        self.theta_out = nn.Parameter(torch.ones(1))

    @classmethod
    @torch.no_grad()
    def from_relu(
        cls, ann: nn.Sequential, images: Tensor, steps: int, single: bool = True,
        percentile: float = 99.0,
    ) -> SingleSpike:  # fmt: skip
        """A network that begins with the weights of a trained ReLU network.

        θ of a layer is a percentile of the ReLU network's activations there. A spike is 1 and
        stands for θ, so the weights behind it are multiplied by θ; those of the last layer are
        divided by T, so that U is a mean over steps, as large as the ReLU network's logits. θ_out
        is the same percentile of the logits.

        Args:
            ann: the chain, trained; it stays as it is.
            images: some it was trained on, (N, C, H, W).
            steps: T.
            single: at most one spike a neuron.
            percentile: 0…100; what lies above it fires at once.
        """
        made = cls(ann, steps, single)
        ann = copy.deepcopy(ann).eval()
        value, theta, weighted = images, torch.ones(1, device=images.device), None
        for layer, own in zip(ann, made.layers, strict=True):
            value = layer(value)
            if isinstance(own, Neurons):
                theta = _percentile(value, percentile)
                own.theta.copy_(theta)
            elif isinstance(own, nn.Linear | nn.Conv2d):
                own.weight.mul_(theta)
                weighted = own
        if weighted is not None:
            for parameter in weighted.parameters():
                parameter.div_(steps)
        made.theta_out.copy_(_percentile(value, percentile))
        return made.to(images.device)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The potentials after the last step, and how early each output fired (0: never)."""
        value = encode(x, self.steps)  # (T, B, C, H, W)
        for layer in self.layers:
            if isinstance(layer, Neurons):
                value = layer(value)
            else:  # no time in it: all steps at once
                value = layer(value.flatten(0, 1)).unflatten(0, value.shape[:2])
        first = run(self.out, value, self.theta_out.clamp_min(_LEAST))  # (T, B, classes)
        early = torch.arange(self.steps, 0, -1, device=x.device, dtype=x.dtype)  # T + 1 − t
        return value.sum(0), torch.einsum("t,tbc->bc", early, first)

    def spikes(self) -> float:
        """Spikes an image in the last pass, all layers."""
        sent = [m.sent for m in self.modules() if isinstance(m, Neurons) and m.sent is not None]
        return sum(float(s.sum()) / s.shape[1] for s in sent)


def _percentile(values: Tensor, percentile: float) -> Tensor:
    """The smallest value that so many percent do not exceed, at least 0.05; shape (1,)."""
    real("percentile", percentile, 0.0, 100.0)
    rank = max(1, math.ceil(percentile / 100 * values.numel()))
    return values.flatten().kthvalue(rank).values.clamp_min(_LEAST).view(1)


def loss(outputs: tuple[Tensor, Tensor], labels: Tensor, mu: float = 0.1) -> Tensor:
    """CE(U) + μ CE(F) of what `SingleSpike` returns; labels int64 (B,)."""
    potential, early = outputs
    return F.cross_entropy(potential, labels) + mu * F.cross_entropy(early, labels)
