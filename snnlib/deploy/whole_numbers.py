"""Whole-number networks: what a neuromorphic chip computes, bit for bit.

``net.quantize()`` (`snnlib.deploy.quantize`) turns a spiking network into one of whole numbers:
weights of 8 bits with one scale per output channel, whole-number biases, thresholds and potentials,
pixels from 0 to 255, average pooling as a plain sum. Its sums are small enough for the floating
type they are computed in to hold every partial sum exactly (2^24 for float32, 2^53 for float64), so
the order of the additions does not matter: a run gives the same bits on every machine, for every
batch size and number of threads. Convolutions of values of 8 bits use 8-bit instructions where the
processor has them (`snnlib.deploy.int8`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from snnlib.deploy import int8  # noqa: F401  (registers its operation)
from snnlib.graph.operations import Node, operation


@operation("pixels", "pass", paths=lambda node, x: x)
def _pixels(node: Node, x: Tensor) -> Tensor:
    """Images in [0, 1] as whole numbers 0…255."""
    return torch.round(x * 255)
