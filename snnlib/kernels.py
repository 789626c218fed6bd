"""The neuron update in place: the same arithmetic as `snnlib.neurons`, without new tensors.

`update` overwrites potential and count and returns the coefficients. It is tested equal to the
pure step functions, which stay the reference.
"""

from __future__ import annotations

import torch
from torch import Tensor

from snnlib.neurons import IF, Neuron, State


def update(
    neuron: Neuron, state: State, current: Tensor, theta: Tensor, ceiling: Tensor | None = None
) -> Tensor:
    """One time step in place; returns the spike coefficients c_t.

    Args:
        neuron: the neuron model.
        state: potential and count of the layer, shape (B, ...); overwritten.
        current: z_t, shape (B, ...).
        theta: firing threshold, broadcastable to ``current``.
        ceiling: largest net count allowed now, for bounded activations.
    """
    potential, count = state
    potential += current
    coefficient = neuron.decide(potential, count, theta)
    if ceiling is not None:
        coefficient = torch.minimum(coefficient, ceiling - count)
    if isinstance(neuron, IF) and neuron.reset == "zero":
        potential.masked_fill_(coefficient != 0, 0.0)
    else:
        potential -= coefficient * theta
    count += coefficient
    return coefficient
