"""What stays the same of a layer while its neurons are updated."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from snnlib.neurons import Fused


class Layer(NamedTuple):
    """A layer as the fused updates take it.

    Attributes:
        rule: what decides a spike.
        v0: initial potential, a fraction of θ (for the ceiling of bounded activations).
        theta: firing threshold, broadcastable to one image's activation.
        bound: upper bound of the activation (ReLU6: 6).
        counts: send the coefficients c instead of c·θ.
        fan_out: synapses reached by each neuron of an image; None to count nothing.
    """

    rule: Fused
    v0: float
    theta: Tensor
    bound: float | None
    counts: bool
    fan_out: Tensor | None


class Rounding(NamedTuple):
    """The closed form's numbers: steps, v0, the activation's bound, the largest count."""

    steps: int
    v0: float
    bound: float | None
    most: float
