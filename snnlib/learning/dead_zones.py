"""Fewer events without training: channels fall silent below zones of their own, biases make up.

A channel's small activations are many, and hold little of what it sends. Those below a zone κ_c
are left out, in thresholds::

    c = ⌊r + ½⌋ if r ≥ κ_c, else 0          κ_c ≥ ½;  `snnlib.learning.rounding.DeadZone`
    Σ_{r < κ_c} ⌊r + ½⌋² ≤ ε Σ ⌊r + ½⌋²     over calibration images and positions

What is left out is missing in the mean current of every later channel. It is measured layer by
layer and given back as a bias, to the answers as well.

Sources: a threshold for each layer's activations, Kurtz et al., ICML 2020; calibrated biases, Li et
al., ICML 2021. Ours: zones a channel, by what they lose; biases of currents in place of outputs, so
that no bias works against a zone. Chapter *Sparser than the network you started from* keeps them
apart from training.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from snnlib.learning.rounding import HALF, Rounded
from snnlib.learning.sparsity import Answering, Sparse

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
        lost: that share, at least 0 and below 1; at 0 nothing that these images send is left out,
            and a zone exceeds ½ only below the smallest value that a channel sends.
        batch: images at a time.

    Raises:
        ValueError: ``lost`` is out of range.
    """
    if not 0 <= lost < 1:
        raise ValueError(f"dead_zones: lost={lost} must be at least 0 and below 1")
    made = copy.deepcopy(model).eval()
    dense, parts = model.dense(), images.split(batch)
    body = dense.body if isinstance(dense, Answering) else dense
    wanted = _mean_currents(body, model.names, parts)
    for name, layer, goal in zip(made.names, made.layers, wanted, strict=True):
        (now,) = _mean_currents(made.body, [name], parts)
        layer.shift.add_((goal - now).view_as(layer.shift))
        layer.zone.copy_(_zones(made.body, name, parts, lost).view_as(layer.zone))
    answers = [torch.cat([net(x) for x in parts]).mean(0) for net in (dense, made)]
    made.answer.add_(answers[0] - answers[1])
    return made


class _Reached(Exception):
    """What was asked for is known, the rest of the network need not be computed."""


def _currents(model: nn.Module, names: Sequence[str], x: Tensor) -> list[Tensor]:
    """z of some layers, in order, by channel, shapes (C, ·)."""
    found: list[Tensor] = []

    def look(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        found.append(given[0].transpose(0, 1).flatten(1))
        if len(found) == len(names):
            raise _Reached

    hooks = [model.get_submodule(name).register_forward_pre_hook(look) for name in names]
    try:
        model(x)
    except _Reached:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _mean_currents(model: nn.Module, names: Sequence[str], parts: Sequence[Tensor]) -> list[Tensor]:
    """Mean z of every channel of some layers, shapes (C,)."""
    sums = [[z.mean(1) * len(x) for z in _currents(model, names, x)] for x in parts]
    return [torch.stack(each).sum(0) / sum(map(len, parts)) for each in zip(*sums, strict=True)]


def _zones(model: nn.Module, name: str, parts: Sequence[Tensor], lost: float) -> Tensor:
    """The zone of every channel, shape (C,)."""
    layer = cast(Rounded, model.get_submodule(name))
    theta = layer.theta.expand_as(layer.zone).flatten()[:, None]
    power = torch.zeros(len(theta), _BINS, device=theta.device, dtype=torch.float64)
    for x in parts:
        (z,) = _currents(model, [name], x)
        ratio = ((z + layer.shift.flatten()[:, None]) / theta).clamp_min(0)
        where = (ratio * _FINEST).long().clamp_max(_BINS - 1)
        power.scatter_add_(1, where, (ratio + HALF).floor().square().double())
    held = power.cumsum(1) <= lost * power.sum(1, keepdim=True)
    held &= power.sum(1, keepdim=True) > 0  # nothing is known of a channel that is silent
    return (held.sum(1) / _FINEST).clamp_min(HALF).to(theta)
