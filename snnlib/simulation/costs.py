"""What a network costs to run: synaptic operations, multiply-accumulates, energy.

A **SynOp** is one event arriving at one synapse of the next weighted layer. How many synapses an
event of a given neuron reaches (its fan-out) is exact at image borders: it is the gradient, with
respect to that neuron, of the network between it and the next weighted layers, with all weights
one. Pooling, flattening, concatenation and sums pass events on; an identity skip counts at the
next weighted layer it reaches. Convolutions' padding costs nothing, for the ANN as for the SNN.

Energy is arithmetic in a 45 nm process (Horowitz, ISSCC 2014): 4.6 pJ a MAC, 0.9 pJ an AC, memory
traffic excluded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from snnlib.graph.graph import Graph
from snnlib.graph.operations import Node, apply

MAC_PICOJOULE = 4.6
AC_PICOJOULE = 0.9


@dataclass(frozen=True)
class SynOps:
    """Synaptic operations and energy an image, cumulative over the steps; tensors of shape (T,).

    Attributes:
        total: events × fan-out: one operation an event and synapse, whatever the coefficient.
        multiplications: the part of `total` whose coefficient is not −1 or 1: multiplications.
        unit_spikes: Σ|c| × fan-out: additions, if an event is sent as |c| unit spikes.
        macs_first_layer: MACs of the analog first layer, computed once (0 for spiking input).
        macs_first_layer_every_step: the same × T, as hardware without that reuse needs.
        ann_macs: MACs of the ANN, one pass.
    """

    total: Tensor
    multiplications: Tensor
    unit_spikes: Tensor
    macs_first_layer: int
    macs_first_layer_every_step: Tensor
    ann_macs: int

    def energy(self, reuse: bool = True, unit_spikes: bool = False) -> Tensor:
        """Arithmetic energy an image in nanojoules, shape (T,); memory traffic excluded.

        Args:
            reuse: compute the analog first layer once (True) or in every step.
            unit_spikes: send c as |c| unit spikes (additions only); otherwise an event with
                |c| > 1 costs a MAC.
        """
        first = self.macs_first_layer if reuse else self.macs_first_layer_every_step
        if unit_spikes:
            picojoule = self.unit_spikes * AC_PICOJOULE
        else:
            additions = self.total - self.multiplications
            picojoule = additions * AC_PICOJOULE + self.multiplications * MAC_PICOJOULE
        return (picojoule + first * MAC_PICOJOULE) / 1000

    @property
    def ann_energy(self) -> float:
        """Arithmetic energy of one ANN pass, in nanojoules an image."""
        return self.ann_macs * MAC_PICOJOULE / 1000


def macs(graph: Graph, analog_only: bool = False) -> int:
    """Multiply-accumulates of one ANN pass over one image, padding not counted.

    Args:
        graph: the network.
        analog_only: only the weighted layers that see the image itself, not spikes.
    """
    spikes = graph.dynamic(constant_input=True)
    total = 0
    for node in graph.nodes.values():
        if node.kind == "weighted" and not (analog_only and node.inputs[0] in spikes):
            ones = torch.ones(1, *graph.shapes[node.inputs[0]], dtype=torch.float64)
            total += round(float(_structural(node, [ones]).sum()))
    return total


def fan_outs(graph: Graph) -> dict[str, Tensor]:
    """Synapses that an event of each neuron reaches: per source, a tensor of one image's shape.

    Sources are the spiking layers, the max-pooling layers (which send changes) and the input
    (whose events are spikes under Bernoulli coding only). float64, exact.
    """
    found = {}
    with torch.enable_grad():
        for node in graph.nodes.values():
            if node.op == "input" or node.kind in ("spiking", "max"):
                found[node.name] = _fan_out(graph, node.name)
    return found


def _fan_out(graph: Graph, source: str) -> Tensor:
    start = torch.ones(1, *graph.shapes[source], dtype=torch.float64, requires_grad=True)
    values, reached = {source: start}, torch.zeros((), dtype=torch.float64)
    for node in graph.nodes.values():
        inputs = [values.get(name) for name in node.inputs]
        if node.name == source or node.kind in ("spiking", "max") or not any_tensor(inputs):
            continue
        shapes = [graph.shapes[name] for name in node.inputs]
        filled = [
            torch.zeros(1, *shape, dtype=torch.float64) if value is None else value
            for value, shape in zip(inputs, shapes, strict=True)
        ]
        value = _structural(node, filled)
        if node.kind == "weighted":
            reached = reached + value.sum()
        else:
            values[node.name] = value
    if not reached.requires_grad:
        return torch.zeros(graph.shapes[source], dtype=torch.float64)
    return torch.autograd.grad(reached, start)[0][0].round()


def any_tensor(values: list[Tensor | None]) -> bool:
    """Whether any of the values is there."""
    return any(value is not None for value in values)


def _structural(node: Node, inputs: list[Tensor]) -> Tensor:
    """The node with every connection of weight one and no offset: it counts paths."""
    if node.kind == "weighted":
        weight = torch.ones(node.tensors["weight"].shape, dtype=torch.float64)
        return apply(replace(node, tensors={"weight": weight}), inputs)
    if node.op == "affine":
        return inputs[0]
    if node.op == "avg_pool":
        kernel = math.prod(node.attrs["kernel_size"])
        if len(node.attrs["kernel_size"]) == 1:
            plain = replace(node, attrs={**node.attrs, "count_include_pad": True})
            return apply(plain, inputs) * kernel
        return apply(replace(node, attrs={**node.attrs, "divisor_override": 1}), inputs)
    if node.op == "mean":
        return inputs[0].sum(node.attrs["dims"], keepdim=node.attrs["keepdim"])
    if node.op == "adaptive_avg_pool":
        return apply(node, inputs) * _window_sizes(node, inputs[0])
    if node.op == "add":
        return inputs[0] + inputs[1]
    if node.op == "pad" and node.attrs["mode"] == "constant":
        return apply(replace(node, attrs={**node.attrs, "value": 0.0}), inputs)
    return apply(node, inputs)


def _window_sizes(node: Node, x: Tensor) -> Tensor:
    """How many inputs each output of an adaptive average pooling averages."""
    sizes = torch.ones((), dtype=x.dtype)
    for n, m in zip(x.shape[2:], node.attrs["output_size"], strict=True):
        side = [math.ceil((i + 1) * n / m) - i * n // m for i in range(m)]
        sizes = sizes[..., None] * torch.tensor(side, dtype=x.dtype)
    return sizes
