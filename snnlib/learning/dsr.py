"""Gradients without time: forward the spikes, backward the map of rates (DSR).

Source: Meng, Xiao, Yan, Wang, Lin and Luo, *Training High-Performance Low-Latency Spiking Neural
Networks by Differentiation on Spike Representation*, CVPR 2022. Derived in chapter *Gradients
without time*.

What a layer has sent is summed up by a weighted mean over the T steps, and that mean is nearly a
clipped line of the mean current::

    w_n = leak^(T−n) / Σ_m leak^(T−m)              weights of the steps n = 1 … T
    Ī = Σ_n w_n z_n                                (B, ...)   mean current
    ō = θ Σ_n w_n s_n = clip(Ī, 0, θ) + O(θ / Σ_m leak^(T−m))

Forward, the network runs step by step and ō is what the spikes say; backward, ō has the derivative
of the line::

    ∂ō/∂Ī = 1 where 0 ≤ Ī ≤ θ, else 0              ∂ō/∂θ = 1 where Ī > θ, else 0

Layers between neurons are linear, so means pass through them as any step does. Autograd therefore
sees an ANN of the means and keeps as much as that ANN needs, whatever T is.

The paper's: the map, trained thresholds θ, and that a neuron fires at α θ and then subtracts θ,
which halves the error for α = ½ (without leak that is an initial potential of (1 − α) θ, the
*v0* of conversion). Ours: batch norm takes its statistics from the mean currents, so that one
affine map serves means and steps; `DSR.ann` and `DSR.spiking`, which hand the result over to the
simulator.
"""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnlib._arguments import real, whole
from snnlib.conversion.balance import Max
from snnlib.conversion.convert import convert
from snnlib.learning.lif import LIF, Surrogate, run
from snnlib.neurons import IF
from snnlib.simulation.network import SpikingNetwork

_LINEAR = (
    nn.Linear, nn.Conv2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Identity
)  # fmt: skip
_NORM = (nn.BatchNorm1d, nn.BatchNorm2d)
_LEAST = 1e-3  # threshold: training cannot push it to zero


class _RateMap(torch.autograd.Function):
    """What the spikes say, with the derivative of clip(Ī, 0, θ)."""

    @staticmethod
    def forward(ctx: Any, current: Tensor, theta: Tensor, rate: Tensor) -> Tensor:
        ctx.save_for_backward(current, theta)
        return rate.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        current, theta = ctx.saved_tensors
        above = current > theta
        inside = (current >= 0) & ~above
        return gradients[0] * inside, (gradients[0] * above).sum(), None


class Neurons(nn.Module):
    """A layer of neurons with a trained threshold.

    Args:
        theta: firing threshold θ at first.
        fire_at: α, a neuron fires at α θ; the reset subtracts θ.
        leak: what is left of a potential after a step.
    """

    def __init__(self, theta: float, fire_at: float, leak: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta))
        if leak == 1.0:
            self.neuron = LIF(v0=1 - fire_at)  # the same spikes: both ways V/θ is behind by 1 − α
        else:
            spike = Surrogate()
            self.neuron = LIF(leak=leak, spike=lambda x: spike(x + (1 - fire_at)))

    def threshold(self) -> Tensor:
        """θ, shape ()."""
        return self.theta.clamp_min(_LEAST)

    def forward(self, current: Tensor, currents: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Mean of what is sent, with gradients, and what is sent in every step, without.

        Args:
            current: Ī, shape (B, ...).
            currents: z_n, shape (T, B, ...).
            weights: w_n, shape (T,).
        """
        theta = self.threshold()
        with torch.no_grad():
            sent = run(self.neuron, currents, theta.detach()) * theta
            rate = torch.tensordot(weights, sent.to(weights.dtype), 1)
        return cast(Tensor, _RateMap.apply(current.to(weights.dtype), theta, rate)), sent


class DSR(nn.Module):
    """A spiking network over T steps, trained through its rates: images in, logits out.

    Args:
        ann: a chain of linear layers, batch norms, average poolings and ReLUs, which become
            neurons; it is copied.
        steps: T.
        theta: firing threshold of every layer at first, in the units of its currents.
        fire_at: α, a fraction of θ.
        leak: what is left of a potential after a step (1: integrate and fire).

    Raises:
        ValueError: the chain holds something else, by name; or steps is less than 1.

    Example:
        >>> ann = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
        >>> net = DSR(ann, steps=5)
        >>> net(torch.rand(6, 4)).sum().backward()
        >>> ann[0].weight.grad is None, net.layers[0].weight.grad.shape
        (True, torch.Size([8, 4]))
    """

    def __init__(
        self, ann: nn.Sequential, steps: int, theta: float = 2.0, fire_at: float = 0.5,
        leak: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        steps, fire_at = whole("DSR: steps", steps), real("DSR: fire_at", fire_at, 0.0, 1.0)
        self.steps, self.leak, self.fire_at = steps, leak, fire_at
        self.layers = nn.Sequential()
        for name, layer in ann._modules.items():  # a module in two places counts twice
            if isinstance(layer, nn.ReLU):
                self.layers.add_module(name, Neurons(theta, fire_at, leak))
            elif isinstance(layer, (*_LINEAR, *_NORM)):
                self.layers.add_module(name, copy.deepcopy(layer))
            else:
                raise ValueError(
                    f"DSR: {name} is {type(layer).__name__}; between neurons only linear layers, "
                    "average poolings and batch norm let means pass"
                )

    def weights(self, like: Tensor) -> Tensor:
        """w_n of the steps, shape (T,)."""
        exponents = torch.arange(self.steps - 1, -1, -1, device=like.device, dtype=like.dtype)
        powers = torch.as_tensor(self.leak, dtype=like.dtype, device=like.device) ** exponents
        return powers / powers.sum()

    def forward(self, x: Tensor) -> Tensor:
        """Weighted mean current of the last layer, (B, classes), for images (B, C, H, W)."""
        weights, mean = self.weights(x), x
        sent: Tensor | None = None  # (T, B, ...); None: the same in every step
        for layer in self.layers:
            if isinstance(layer, Neurons):
                currents = mean.detach().expand(self.steps, *mean.shape) if sent is None else sent
                mean, sent = layer(mean, currents, weights)
            elif isinstance(layer, _NORM):
                mean, sent = self._normalize(layer, mean, sent)
            else:
                mean, sent = layer(mean), self._each_step(layer, sent)
        return mean

    def _each_step(self, layer: nn.Module, sent: Tensor | None) -> Tensor | None:
        if sent is None:
            return None
        with torch.no_grad():
            made: Tensor = layer(sent.flatten(0, 1))
        return made.unflatten(0, (self.steps, -1))

    def _normalize(
        self, norm: Any, mean: Tensor, sent: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Batch norm of the means; the steps get the affine map that it was for this batch."""
        mean = mean.to(norm.running_mean.dtype)  # 16 bits, in autocast, are too few for statistics
        if sent is not None:
            with torch.no_grad():
                center, spread = norm.running_mean, norm.running_var
                if norm.training:
                    axes = [0, *range(2, mean.ndim)]
                    center, spread = mean.mean(axes), mean.var(axes, unbiased=False)
                sent = F.batch_norm(
                    sent.flatten(0, 1), center, spread, norm.weight, norm.bias, eps=norm.eps
                ).unflatten(0, (self.steps, -1))
        return norm(mean), sent

    def ann(self) -> nn.Sequential:
        """The network of the means: every layer of neurons is clip(z, 0, θ); a copy."""
        made = nn.Sequential()
        for name, layer in self.layers.named_children():
            if isinstance(layer, Neurons):
                made.add_module(name, nn.Hardtanh(0.0, float(layer.threshold().detach())))
            else:
                made.add_module(name, copy.deepcopy(layer))
        return made.eval()

    def spiking(self, images: Tensor) -> SpikingNetwork:
        """The same network for the simulator, which counts what it costs.

        Args:
            images: a few, shape (N, C, H, W): the graph is checked on them.

        Raises:
            ValueError: neurons leak, which no compiled neuron does.
        """
        if self.leak != 1.0:
            raise ValueError("DSR.spiking: leak must be 1")
        net = convert(self.ann(), images, IF(v0=1 - self.fire_at), balance=Max())
        thetas = [layer.threshold().detach() for layer in self.layers if isinstance(layer, Neurons)]
        balanced = dict(zip(net.balanced, thetas, strict=True))
        return net.replace(balanced=balanced)
