"""When a sequence is answered: at the first step at which an output crosses the threshold.

::

    y_t  = softmax(z_t)                      z_t: logits after step t, shape (C,)
    t*   = min {t : max_c y_tc ≥ p}          the last step of the sequence if there is none
    loss = CE(z_t*, label) − β H(y_t*)       at t* alone; no gradient goes through t*

A network with two classes may have one output, whose logit is that of the second class: then
y_t = σ(z_t), and a crossing is y_t ≥ p or y_t ≤ 1 − p. Steps count from 1.

Chapter *Rank coding* proves that t* needs no gradient. Source: Jeffares, Guo, Stenetorp and
Moraitis, *Spike-inspired Rank Coding for Fast and Accurate Recurrent Neural Networks*, ICLR 2022.
The loss is computed from logits here. The form of the entropy reward is ours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sure(logits: Tensor, threshold: float) -> Tensor:
    """Whether an output has crossed: logits (..., C) → bool (...), C = 1 for one output."""
    if logits.shape[-1] == 1:
        return logits[..., 0].abs().sigmoid() >= threshold
    return logits.softmax(-1).amax(-1) >= threshold


def answer(logits: Tensor) -> Tensor:
    """The class of the largest output: logits (..., C) → int64 (...)."""
    return (logits[..., 0] > 0).long() if logits.shape[-1] == 1 else logits.argmax(-1)


def first_crossing(logits: Tensor, threshold: float, lengths: Tensor | None = None) -> Tensor:
    """The decision times t* of sequences that were computed to their ends.

    Args:
        logits: after every step, shape (B, T, C).
        threshold: p, 0…1; what lies below one over the number of classes is crossed at once.
        lengths: steps of each sequence, int64 (B,); default: T.

    Returns:
        t*, 1…length, int64 (B,), without gradient.
    """
    with torch.no_grad():
        steps = torch.arange(1, logits.shape[1] + 1, device=logits.device)
        last = steps[-1] if lengths is None else lengths[:, None]
        return (sure(logits, threshold) | (steps >= last)).int().argmax(1) + 1


def at(logits: Tensor, times: Tensor) -> Tensor:
    """The logits of each sequence after its own step: (B, T, C) and (B,) → (B, C)."""
    return logits[torch.arange(len(logits), device=logits.device), times - 1]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """−ln y of the label in nats: logits (..., C), labels (...) → (...)."""
    if logits.shape[-1] == 1:
        goal = labels.to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits[..., 0], goal, reduction="none")
    return F.cross_entropy(logits.movedim(-1, 1), labels, reduction="none")


def entropy(logits: Tensor) -> Tensor:
    """H(y) in nats: logits (..., C) → (...)."""
    if logits.shape[-1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], -1)
    logs = logits.log_softmax(-1)
    return -(logs.exp() * logs).sum(-1)
