"""Norms that only set a scale: L1 and top-k batch norm, bounded weights, decay without decay.

Source: Hoffer, Banner, Golan and Soudry, *Norm matters: efficient and accurate normalization
schemes in deep networks*, NeurIPS 2018.

Batch norm makes a layer forget the scale of its weights, so any measure of spread will do that
scales alike. Of n values x a channel, with mean μ (`ScaleNorm`)::

    L2     s² = mean (x − μ)²
    L1     s = √(π/2) · mean |x − μ|                             = σ for Gaussians
    top-k  s = C_n · mean of the k largest |x − μ|,   C_n = (1 + √(π ln 4)) / (2 √(2 ln n))
    y = γ (x − μ) / √(s² + ε) + β                                shapes of nn.BatchNorm

Top-1 is L∞ batch norm. √(π/2) is exact for Gaussian values; C_n is a bound's, no limit: top-k is
not σ there, and γ has to learn the factor. L1 and top-k square no value, so sums in 16 bits do
not overflow; s itself is squared in 32, and running statistics want 32, too.

A bounded weight (`bound_weight`) keeps the norm ρ that the layer began with, channel i of it::

    w_i = ρ · g_i / ‖g‖ · v_i / ‖v_i‖        v (out, in, ...), g (out,)

With batch norm behind it the loss depends on w/‖w‖ alone, which a step of η moves by η/‖w‖². So
weight decay acts as a learning rate: steps that are multiplied, a channel at a time, by
‖w‖²/‖w^WD‖², where w^WD are the weights of a run with decay, go the same way without (`Mimic`)::

    w ← w − η · ‖w‖² / (‖w^WD‖² (1 − η λ)) · ∂L/∂w

For SGD without momentum directions are then equal, step for step; the factor 1 − η λ, without which
they are equal to first order, is ours. Running statistics follow PyTorch's momentum. In evaluation
mode all is an affine map or a fixed weight, written with PyTorch's own functions: `snnlib.convert`
folds it into the layer before, with no rule of its own. Derived in chapter *Why deep spiking
networks fail to learn, and what mends it*.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from snnlib._arguments import whole

KINDS = ("l2", "l1", "top-k")


def gaussian_factor(kind: str, n: int) -> float:
    """What the mean of |x − μ| (of the k largest of n) is multiplied by.

    >>> round(gaussian_factor("l1", 1000), 4), round(gaussian_factor("top-k", 1000), 4)
    (1.2533, 0.4153)
    """
    if kind == "l1":
        return math.sqrt(math.pi / 2)
    return (1 + math.sqrt(math.pi * math.log(4))) / (2 * math.sqrt(2 * math.log(max(n, 2))))


def spread(x: Tensor, center: Tensor, kind: str, k: int = 10) -> Tensor:
    """s of every channel, shape (C,), computed in the dtype of x.

    Args:
        x: values, shape (B, C, ...).
        center: μ, shape (C,).
        kind: ``"l2"``, ``"l1"`` or ``"top-k"``.
        k: how many of the largest, for ``"top-k"``; all, where there are fewer.
    """
    off = (x.transpose(0, 1).flatten(1) - center[:, None]).abs()  # (C, n)
    if kind == "l2":
        return off.square().mean(1).sqrt()
    largest = off if kind == "l1" else off.topk(min(k, off.shape[1]), dim=1).values
    return gaussian_factor(kind, off.shape[1]) * largest.mean(1)


class ScaleNorm(nn.Module):
    """Batch norm with another spread, for (B, C) and (B, C, H, W).

    Args:
        channels: C.
        kind: ``"l2"``, ``"l1"`` or ``"top-k"``.
        k: of ``"top-k"``; 1 is L∞.
        eps: ε.
        momentum: share of the newest batch in the running statistics.

    Raises:
        ValueError: another kind; k is no whole number of at least 1.

    Example:
        >>> norm = ScaleNorm(3, "l1")
        >>> y = norm(5 * torch.randn(100, 3, 4, 4) + 2)
        >>> bool(y.mean().abs() < 1e-5)
        True
    """

    running_mean: Tensor
    running_scale: Tensor

    def __init__(
        self, channels: int, kind: str = "l1", k: int = 10, eps: float = 1e-5, momentum: float = 0.1
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"ScaleNorm: kind={kind!r} must be one of {', '.join(KINDS)}")
        self.kind, self.k = kind, whole("ScaleNorm: k", k)
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_scale", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) → the same shape."""
        if not self.training:
            variance = self.running_scale.square()
            return F.batch_norm(
                x, self.running_mean, variance, self.weight, self.bias, eps=self.eps
            )
        center = x.transpose(0, 1).flatten(1).mean(1)
        wide = torch.promote_types(x.dtype, torch.float32)  # s fits 16 bits, not s²
        if self.kind == "l2":  # no root of it: that has no slope where a channel is constant
            off = x.transpose(0, 1).flatten(1) - center[:, None]
            square = off.to(wide).square().mean(1)
        else:
            square = spread(x, center, self.kind, self.k).to(wide).square()
        with torch.no_grad():
            self.running_mean.lerp_(center.to(self.running_mean.dtype), self.momentum)
            self.running_scale.lerp_(square.sqrt().to(self.running_scale.dtype), self.momentum)
        column = (-1, *[1] * (x.ndim - 2))
        slope = self.weight / (square + self.eps).sqrt().to(x.dtype)
        shift = self.bias - center * slope
        return x * slope.reshape(column) + shift.reshape(column)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, {self.kind}" + (f", k={self.k}" * (self.kind == "top-k"))


def with_norm(model: nn.Module, make: Callable[[int], nn.Module]) -> nn.Module:
    """Replace every batch norm of a model, in place; returns the model.

    Args:
        model: with ``nn.BatchNorm1d`` or ``nn.BatchNorm2d`` in it; one that stands in two places
            gives one new layer there. A model that is a batch norm itself is not changed: the new
            layer is returned.
        make: gives the new layer for a number of channels: ``lambda c: ScaleNorm(c, "l1")``.
    """
    made: dict[nn.Module, nn.Module] = {
        child: make(child.num_features)
        for child in model.modules()
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d)
    }
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child in made:
                parent._modules[name] = made[child]
    return made.get(model, model)


class _Bounded(nn.Module):
    """v, g ↦ ρ g/‖g‖ v/‖v‖, a channel a row."""

    norm: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("norm", weight.detach().norm())

    def forward(self, v: Tensor, g: Tensor) -> Tensor:
        each = v.flatten(1).norm(dim=1)
        whole = g.norm()  # a channel of zeros stays one
        each, whole = (torch.where(size > 0, size, 1) for size in (each, whole))
        factor = self.norm * (g / whole) / each
        return v * factor.reshape(-1, *[1] * (v.ndim - 1))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Of the weight that is there: v = w, g its norms."""
        return weight.clone(), weight.flatten(1).norm(dim=1)


def bound_weight(layer: nn.Module) -> nn.Module:
    """Keep the norm of a layer's weight at what it is now, in place; returns the layer.

    Raises:
        ValueError: the layer has no weight.

    ``torch.nn.utils.parametrize.remove_parametrizations(layer, "weight")`` makes it an ordinary
    layer with an ordinary weight again.

    Example:
        >>> layer = bound_weight(nn.Linear(4, 3))
        >>> layer.weight.shape
        torch.Size([3, 4])
    """
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor):
        raise ValueError(f"bound_weight: {type(layer).__name__} has no weight to bound")
    parametrize.register_parametrization(layer, "weight", _Bounded(weight))
    return layer


def channel_norms(weights: Sequence[Tensor]) -> Tensor:
    """‖w‖² of every output channel of all weights, one after another, shape (channels,)."""
    return torch.cat([w.detach().flatten(1).square().sum(1) for w in weights])


class Mimic:
    """Multiplies gradients so that SGD without decay turns weights as SGD with decay did.

    Args:
        weights: of the layers before a batch norm, shapes (out, in, ...).
        norms: `channel_norms` of the run with decay before every step, shape (steps, channels).
        decay: λ of that run.
        rate: gives η of now: the optimizer's.

    Call it before every step of the optimizer, which has no decay for these weights: it is an
    ``each_step`` of `snnlib.learning.loop.fit`.
    """

    def __init__(
        self, weights: Sequence[Tensor], norms: Tensor, decay: float, rate: Callable[[], float]
    ) -> None:
        self.weights, self.norms, self.decay, self.rate = list(weights), norms, decay, rate

    def __call__(self, step: int) -> None:
        """Scale the gradients of step ``step``, counted from 0."""
        kept = 1 - self.rate() * self.decay
        factor = channel_norms(self.weights) / (self.norms[step].to(self.weights[0]) * kept)
        start = 0
        for weight in self.weights:
            own = factor[start : start + len(weight)]
            start += len(weight)
            assert weight.grad is not None
            weight.grad.mul_(own.reshape(-1, *[1] * (weight.ndim - 1)))


def weights_before_norm(model: nn.Module) -> list[Any]:
    """The weights whose scale a batch norm right behind them takes away, in order."""
    layers = [m for m in model.modules() if not list(m.children())]
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, ScaleNorm)
    return [
        one.weight
        for one, other in pairwise(layers)
        if isinstance(one, nn.Linear | nn.Conv2d) and isinstance(other, norms)
    ]
