"""Rounded activations: what augmented spikes send in one step, its penalties, its least bits.

A neuron with v0 = ½ that takes spikes back below 0 sends in one step (the closed form)::

    r = max(z, 0) / θ                       (B, ...)
    c = ⌊r + ½⌋                             zero below half a threshold
    a = c θ                                 backward as if a = max(z, 0): straight through

Three penalties push r toward zero; w is a weight a neuron that adds up to 1::

    P(r) = Σ w · r² / (r² + ¼)              *count*: ½ where c begins, flat far above
         = (Σ w r)² / Σ w r²                *Hoyer*: a share of active neurons without a scale
         = Σ w r                            *L1*, the control: it shrinks what stays, too

Element by element, autograd would keep a tensor and make a pass for every operation. `rounded` is
one function that keeps r alone.

Sources: the Hoyer measure squared, Yang et al., ICLR 2020 (for weights); entropy, Shannon, 1948.
Ours: the count, whose middle lies where rounding begins. Derived in chapter *Sparser than the
network you started from*.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, cast, get_args

import torch
from torch import Tensor, nn

from snnlib.neurons import Augmented

Penalty = Literal["count", "hoyer", "l1"]
HALF = 0.5  # v0 of the neurons, so that sums are rounded; and where the count is ½
_LEAST = 1e-12


class _Rounded(torch.autograd.Function):
    """Messages, penalty and share of active neurons; keeps the ratios z / θ alone."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, theta: Tensor, weight: Tensor, penalty: Penalty | None, rounding: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        theta = theta.to(z.dtype)
        ratio = (z / theta).clamp_min_(0)
        count = (ratio + HALF).floor_()
        active = _mean(count.clamp_max(1), weight)  # comparing and adding truths is slower
        sent = count.mul_(theta) if rounding else ratio * theta
        value, slope = _value(ratio, weight, penalty)
        ctx.save_for_backward(ratio, theta, weight, slope)
        ctx.penalty = penalty
        ctx.mark_non_differentiable(active)
        return sent, value, active

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        ratio, theta, weight, slope = ctx.saved_tensors
        through = torch.ops.aten.threshold_backward(gradients[0], ratio, 0)
        if ctx.penalty is None:
            return through, None, None, None, None
        scale = (gradients[1] / len(ratio) * weight / theta).to(ratio.dtype)
        if ctx.penalty == "count":  # 8 r u²
            through.addcmul_(_below(ratio).square_(), ratio * (8 * scale))
        elif ctx.penalty == "hoyer":  # 2 q (1 − q r), q = Σ w r / Σ w r²
            push = torch.addcmul(_like(ratio, 1.0), slope, ratio, value=-1).mul_(2 * slope)
            through.addcmul_(push.masked_fill_(ratio == 0, 0), scale)
        else:
            through.addcmul_((ratio > 0).to(ratio.dtype), scale)
        return through, None, None, None, None


def _like(tensor: Tensor, value: float) -> Tensor:
    return torch.full((), value, dtype=tensor.dtype, device=tensor.device)


def _below(ratio: Tensor) -> Tensor:
    """u = 1 / (1 + 4 r²): what the count leaves of 1."""
    return torch.addcmul(_like(ratio, 1.0), ratio, ratio, value=4).reciprocal_()


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """Weighted sum over neurons, mean over images, shape (); in float32 at least."""
    wide = torch.promote_types(weight.dtype, torch.float32)
    if values.dtype == torch.bfloat16:  # a product sums six times as fast; truths add up exactly
        total = (
            (values.new_ones(1, len(values)) @ values.flatten(1)).view(values.shape[1:]).to(wide)
        )
    else:
        total = values.sum(0, dtype=wide)
    return (total * weight).sum() / len(values)


def _value(ratio: Tensor, weight: Tensor, penalty: Penalty | None) -> tuple[Tensor, Tensor]:
    """The penalty, shape (); and Σ w r / Σ w r² of every image for Hoyer's."""
    none = weight.new_zeros(())
    if penalty is None:
        return none, none
    if penalty == "l1":
        return _mean(ratio, weight), none
    if penalty == "count":
        return _mean(_below(ratio).neg_().add_(1), weight), none
    total = (ratio * weight).flatten(1).sum(1, dtype=weight.dtype)
    square = (ratio.square() * weight).flatten(1).sum(1, dtype=weight.dtype).clamp_min_(_LEAST)
    slope = (total / square).view(-1, *[1] * (ratio.ndim - 1))
    return (total.square() / square).mean(), slope.to(ratio.dtype)


def check_penalty(penalty: str | None) -> None:
    """Raise a ValueError unless it is one that there is."""
    if penalty not in (None, *get_args(Penalty)):
        known = ", ".join(get_args(Penalty))
        raise ValueError(f"penalty={penalty!r} must be one of {known}, or None")


def rounded(
    z: Tensor, theta: Tensor, weight: Tensor, penalty: Penalty | None = "count",
    rounding: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """What neurons send for a current, and what of them is to become less.

    Args:
        z: current, shape (B, ...).
        theta: θ > 0, broadcastable to one image's z; it is not trained.
        weight: w, of one image's shape, adds up to 1; or one number for all, 1 / neurons.
        penalty: P, ``"count"``, ``"hoyer"`` or ``"l1"``; None: 0.
        rounding: send ⌊z/θ + ½⌋ θ; else max(z, 0), and P alone knows of θ.

    Returns:
        Messages, shape (B, ...); P, mean over images, shape (); the weighted share of neurons that
        send something when rounded, shape (), without gradient.

    Raises:
        ValueError: there is no such penalty.

    Example:
        >>> z = torch.tensor([[-1.0, 0.4, 0.5, 1.7]], requires_grad=True)
        >>> a, p, share = rounded(z, torch.tensor(1.0), torch.full((4,), 0.25))
        >>> a.tolist(), float(share)
        ([[0.0, 0.0, 1.0, 2.0]], 0.5)
    """
    check_penalty(penalty)
    return cast(
        "tuple[Tensor, Tensor, Tensor]", _Rounded.apply(z, theta, weight, penalty, rounding)
    )


class Rounded(nn.Module):
    """A layer that rounds, in the place of a ReLU.

    Args:
        theta, weight, penalty, rounding: as for `rounded`.
        shape: of one image's z.

    Attributes:
        zone: silent below so many thresholds, ½ or more; one number a channel.
        shift: added to z, one number a channel.
        look: shown P and the share of active neurons; None: P is not computed.
    """

    theta: Tensor
    weight: Tensor
    zone: Tensor
    shift: Tensor

    def __init__(
        self, theta: Tensor, weight: Tensor, shape: tuple[int, ...], penalty: Penalty | None,
        rounding: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        channels = weight.new_ones(shape[0], *[1] * (len(shape) - 1))
        self.register_buffer("theta", theta.clone())
        self.register_buffer("weight", weight)
        self.register_buffer("zone", HALF * channels)
        self.register_buffer("shift", 0 * channels)
        self.penalty, self.rounding = penalty, rounding
        self.look: Callable[[Tensor, Tensor], None] | None = None

    def forward(self, z: Tensor) -> Tensor:
        """(B, ...) → the same shape."""
        z = z + self.shift if bool(self.shift.any()) else z
        penalty = self.penalty if self.look is not None else None
        sent, value, active = rounded(z, self.theta, self.weight, penalty, self.rounding)
        if bool((self.zone > HALF).any()):
            heard = z >= self.zone * self.theta
            sent, active = sent * heard, _mean(heard.to(self.weight), self.weight)
        if self.look is not None:
            self.look(value, active)
        return sent

    def extra_repr(self) -> str:
        return f"theta={float(self.theta.mean()):.4g}, penalty={self.penalty}"


@dataclass(frozen=True, eq=False)
class DeadZone(Augmented):
    """An augmented neuron that is silent until its sum reaches a zone, and then rounds as before.

    Args:
        zone: in thresholds, at least ½; broadcastable to one image's activation.
    """

    kind: ClassVar[str] = "dead-zone"
    zone: Tensor | float = HALF
    __eq__, __hash__ = object.__eq__, object.__hash__  # a tensor says neither

    def decide(self, potential: Tensor, count: Tensor, theta: Tensor) -> Tensor:
        total = potential / theta + count  # the sum so far, and v0
        return torch.where(total >= self.zone + self.v0, torch.floor(total), 0.0) - count


class Bits(NamedTuple):
    """The least bits that tell what a neuron sends, by any code without memory.

    No code from which each c can be read back has a mean length below the entropy of c (Shannon,
    1948), and that is one choice after another: whether anything is sent, then what::

        H(c) = h(d) + d · H(c | c ≠ 0)       h(d) = −d log₂ d − (1 − d) log₂ (1 − d)

    so few events save the first part, few levels the second. Neurons counted together are treated
    alike; codes of their own need no more (the entropy is concave).
    """

    active: float  # d
    where: float  # h(d)
    what: float  # d · H(c | c ≠ 0)

    @property
    def total(self) -> float:
        """H(c)."""
        return self.where + self.what


def bits(counts: Tensor) -> Bits:
    """The bound, from how often c = 0, 1, 2, … was sent, shape (K,).

    Raises:
        ValueError: nothing was counted.

    Example:
        >>> bits(torch.tensor([2, 1, 1]))  # half are silent, the others toss a coin
        Bits(active=0.5, where=1.0, what=0.5)
    """
    total, sent = float(counts.sum()), float(counts[1:].sum())
    if not total:
        raise ValueError("bits: nothing was counted")
    share = sent / total
    split = counts.new_tensor([total - sent, sent], dtype=torch.float64) / total
    what = share * _entropy(counts[1:].double() / sent) if sent else 0.0
    return Bits(share, _entropy(split), what)


def _entropy(shares: Tensor) -> float:
    return float(-torch.special.xlogy(shares, shares).sum() / torch.log(shares.new_tensor(2.0)))
