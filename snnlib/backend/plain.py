"""The neuron update in plain PyTorch, for all devices, tensors and neurons: the reference."""

from __future__ import annotations

import torch
from torch import Tensor

from snnlib.neurons import Neuron, State


def update(
    neuron: Neuron, state: State, current: Tensor, theta: Tensor, ceiling: Tensor | None = None
) -> Tensor:
    """One time step by the neuron's own rule, the state in place; returns the coefficients c_t.

    Args:
        neuron: the neuron model.
        state: potential and count of the layer, shape (B, ...); overwritten.
        current: z_t, shape (B, ...).
        theta: firing threshold, broadcastable to ``current``.
        ceiling: largest net count allowed now, for bounded activations.
    """
    coefficient, after = neuron.step(state, current, theta, ceiling)
    for old, new in zip(state, after, strict=True):
        old.copy_(new)
    return coefficient


def tally(coefficient: Tensor, fan_out: Tensor) -> Tensor:
    """Sums of one step's coefficients, shape (B, ...): a row of what `advance` returns."""
    size = coefficient.abs()
    sent = (size > 0).sum(0)
    wide = ((size > 0) & (size != 1)).sum(0)  # of whole numbers: above 1
    spikes = size.sum(0, dtype=torch.float64)
    fan_out = fan_out.double()
    weighted = [(value * fan_out).sum() for value in (sent, wide, spikes)]
    return torch.stack([sent.sum().double(), spikes.sum(), *weighted])
