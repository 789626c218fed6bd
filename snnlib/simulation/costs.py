"""What a network costs to run: synaptic operations, multiply-accumulates, energy.

A **SynOp** is one event arriving at one synapse of the next weighted layer. How many synapses an
event of a given neuron reaches (its fan-out) is exact at image borders: it is the gradient, with
respect to that neuron, of the network between it and the next weighted layers, with all weights
one. Pooling, flattening, concatenation and sums pass events on; an identity skip counts at the
next weighted layer it reaches. Convolutions' padding costs nothing, for the ANN as for the SNN.

Energy is arithmetic in a 45 nm process (Horowitz, ISSCC 2014): 4.6 pJ a MAC, 0.9 pJ an AC, memory
traffic excluded. Two accounts stand side by side (chapter *What does a spike cost?*): **ours**
(`SynOps.energy`: an event with |c| > 1 is a multiplication, the analog first layer counts) and
**the literature's** (`literature_energy`: every event is an addition, the first layer is left out).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from snnlib.backend.modes import own_mode
from snnlib.graph.graph import Graph
from snnlib.graph.operations import count_paths

MAC_PICOJOULE = 4.6
AC_PICOJOULE = 0.9

Count = TypeVar("Count", float, Tensor)


def literature_energy(synops: Count) -> Count:
    """The literature's account in nanojoules: 0.9 pJ a SynOp, whatever its coefficient."""
    return synops * AC_PICOJOULE / 1000


class Sums(NamedTuple):
    """What is counted of a source's messages; in kernels the columns of a tensor (steps, 5)."""

    events: Tensor  # neurons that sent c ≠ 0
    spikes: Tensor  # Σ|c|
    synops: Tensor  # events × fan-out
    multiplications: Tensor  # the part of ``synops`` with |c| ≠ 1
    unit_spikes: Tensor  # Σ|c| × fan-out


@dataclass(frozen=True)
class SynOps:
    """Synaptic operations and energy an image, cumulative over the steps; tensors of shape (T,).

    Attributes:
        total: events × fan-out: one operation an event and synapse, whatever the coefficient.
        multiplications: the part of `total` whose coefficient is not −1 or 1: multiplications.
        unit_spikes: Σ|c| × fan-out: additions, if an event is sent as |c| unit spikes.
        macs_first_layer: MACs of the analog first layer in one step (0 for spiking input).
        macs_first_layer_every_step: the same × T, as hardware without that reuse needs.
        ann_macs: MACs of the ANN, one pass.
        reusable: the input is the same in every step, so its layer can be computed once; analog
            frames differ, and are charged at every step.
    """

    total: Tensor
    multiplications: Tensor
    unit_spikes: Tensor
    macs_first_layer: int
    macs_first_layer_every_step: Tensor
    ann_macs: int
    reusable: bool = True

    def energy(self, reuse: bool = True, unit_spikes: bool = False) -> Tensor:
        """This book's account: arithmetic energy an image in nanojoules, shape (T,).

        Args:
            reuse: compute the analog first layer once where that is possible, or in every step.
            unit_spikes: send c as |c| unit spikes, additions only; else |c| > 1 costs a MAC.
        """
        once = reuse and self.reusable
        macs = self.macs_first_layer if once else self.macs_first_layer_every_step
        additions = self.unit_spikes if unit_spikes else self.total - self.multiplications
        macs = macs if unit_spikes else macs + self.multiplications
        return (additions * AC_PICOJOULE + macs * MAC_PICOJOULE) / 1000

    @property
    def literature_energy(self) -> Tensor:
        """The literature's account (`literature_energy`), nanojoules an image, shape (T,)."""
        return literature_energy(self.total)

    @property
    def ann_energy(self) -> float:
        """Arithmetic energy of one ANN pass, in nanojoules an image."""
        return self.ann_macs * MAC_PICOJOULE / 1000


class Account:
    """What a graph's connections cost, each number computed when first asked for and kept."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    fan_outs = cached_property(lambda self: fan_outs(self.graph))
    macs = cached_property(lambda self: macs(self.graph))
    macs_first_layer = cached_property(lambda self: macs(self.graph, analog_only=True))

    def synops(self, sums: Sums, spiking_input: bool, constant: bool) -> SynOps:
        """Costs of a run: sums are means an image of all sources, cumulative, shapes (T,).

        ``spiking_input``: it is among the sums; ``constant``: every step saw the same input.
        """
        first = 0 if spiking_input else self.macs_first_layer
        every = first * torch.arange(1, len(sums.synops) + 1, device=sums.synops.device)
        return SynOps(
            sums.synops, sums.multiplications, sums.unit_spikes, first, every, self.macs, constant
        )


def macs(graph: Graph, analog_only: bool = False) -> int:
    """Multiply-accumulates of one ANN pass over one image, padding not counted.

    ``analog_only``: only of the weighted layers that see the image itself, not spikes.
    """
    spikes, total = graph.dynamic(constant_input=True), 0
    with own_mode():
        for node in graph:
            if node.kind == "weighted" and not (analog_only and node.inputs[0] in spikes):
                ones = torch.ones(1, *graph.shapes[node.inputs[0]], dtype=torch.float64)
                total += round(float(count_paths(node, [ones]).sum()))
    return total


def fan_outs(graph: Graph) -> dict[str, Tensor]:
    """Synapses that an event of each neuron reaches: per source, a tensor of one image's shape.

    Sources are the spiking layers, the max-pooling layers (which send changes) and the input
    (whose events are spikes under Bernoulli coding only). float64, exact.
    """
    with own_mode(), torch.enable_grad():
        return {
            node.name: _fan_out(graph, node.name)
            for node in graph
            if node.op == "input" or node.kind in ("spiking", "max")
        }


def _fan_out(graph: Graph, source: str) -> Tensor:
    start = torch.ones(1, *graph.shapes[source], dtype=torch.float64, requires_grad=True)
    values, reached = {source: start}, torch.zeros((), dtype=torch.float64)
    for node in graph:
        if node.kind in ("spiking", "max") or not values.keys() & set(node.inputs):
            continue
        filled = [
            values[name] if name in values else torch.zeros(1, *graph.shapes[name]).double()
            for name in node.inputs
        ]
        value = count_paths(node, filled)
        if node.kind == "weighted":
            reached = reached + value.sum()
        else:
            values[node.name] = value
    if not reached.requires_grad:
        return torch.zeros(graph.shapes[source], dtype=torch.float64)
    return torch.autograd.grad(reached, start)[0][0].round()
