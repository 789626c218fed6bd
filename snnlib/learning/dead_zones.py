"""Fewer events without training: channels fall silent below zones of their own, biases make up.

A channel's small activations are many, and hold little of what it sends. Those below a zone κ_c
are left out, in thresholds::

    c = ⌊r + ½⌋ if r ≥ κ_c, else 0          κ_c ≥ ½;  `snnlib.learning.rounding.DeadZone`
    Σ_{r < κ_c} ⌊r + ½⌋² ≤ ε Σ ⌊r + ½⌋²     over calibration images and positions

What is left out is missing in the mean current of every later channel. It is measured layer by
layer and given back as a bias, to the answers as well.

Sources: a threshold for each layer's activations, Kurtz et al., ICML 2020; calibrated biases, Li et
al., ICML 2021. Ours: zones a channel, by what they lose; biases of currents in place of outputs, so
that no bias works against a zone.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from snnlib.learning.rounding import HALF, Rounded
from snnlib.learning.sparsity import Sparse

_BINS, _FINEST = 256, 32  # zones end at multiples of 1/32 thresholds, at most at 8


@torch.no_grad()
def dead_zones(model: Sparse, images: Tensor, lost: float, batch: int = 100) -> Sparse:
    """A network that sends less without training: zones a channel, then biases in order.

    A channel's zone is the largest that leaves out at most a share of the sum of squares of what
    it sends. What rounding and zones take away from the mean current of a later channel, or of an
    answer, is given back as a bias.

    Args:
        model: not changed.
        images: training images, shape (N, C, H, W).
        lost: that share, at least 0 and below 1; at 0 biases alone are calibrated.
        batch: images at a time.

    Raises:
        ValueError: ``lost`` is out of range.
    """
    if not 0 <= lost < 1:
        raise ValueError(f"dead_zones: lost={lost} must be at least 0 and below 1")
    made = copy.deepcopy(model).eval()
    dense, parts = model.dense(), images.split(batch)
    wanted = [_mean_currents(dense, name, parts) for name in model.names]
    for name, layer, goal in zip(made.names, made.layers, wanted, strict=True):
        moved = goal - _mean_currents(made.body, name, parts)
        layer.shift.add_(moved.view_as(layer.shift))
        layer.zone.copy_(_zones(made.body, name, parts, lost).view_as(layer.zone))
    answers = [torch.cat([net(x) for x in parts]).mean(0) for net in (dense, made)]
    made.answer.add_(answers[0] - answers[1])
    return made


def _currents(model: nn.Module, name: str, x: Tensor) -> Tensor:
    """z of a layer by channel, shape (C, ·)."""
    found: list[Tensor] = []
    hook = model.get_submodule(name).register_forward_pre_hook(
        lambda module, given: found.append(given[0])
    )
    try:
        model(x)
    finally:
        hook.remove()
    return found[0].transpose(0, 1).flatten(1)


def _mean_currents(model: nn.Module, name: str, parts: Sequence[Tensor]) -> Tensor:
    """Mean z of every channel, shape (C,)."""
    sums = [_currents(model, name, x).mean(1) * len(x) for x in parts]
    return torch.stack(sums).sum(0) / sum(map(len, parts))


def _zones(model: nn.Module, name: str, parts: Sequence[Tensor], lost: float) -> Tensor:
    """The zone of every channel, shape (C,)."""
    layer = cast(Rounded, model.get_submodule(name))
    theta = layer.theta.expand_as(layer.zone).flatten()[:, None]
    power = torch.zeros(len(theta), _BINS, device=theta.device, dtype=torch.float64)
    for x in parts:
        z = _currents(model, name, x) + layer.shift.flatten()[:, None]
        ratio = (z / theta).clamp_min(0)
        where = (ratio * _FINEST).long().clamp_max(_BINS - 1)
        power.scatter_add_(1, where, (ratio + HALF).floor().square().double())
    held = power.cumsum(1) <= lost * power.sum(1, keepdim=True)
    held &= power.sum(1, keepdim=True) > 0  # of a channel that is silent anyway nothing is known
    return (held.sum(1) / _FINEST).clamp_min(HALF).to(theta)
