"""The closed form: T steps of memoryless neurons are one pass of an ANN that rounds.

Augmented spikes with negative = 0 and no cap send N_t = max(0, floor(S_t/θ + v0)) in all, S_t being
the summed input, whatever the order in which it came. So after t steps each ReLU is a rounding
quantizer of step θ/t. The same ANN, clipped at what a neuron can send, is the quantized network
that any spiking network is compared with. Chapters *Rates, counts and ReLU*, *Augmented spikes*.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from snnlib.backend import updates as kernels
from snnlib.backend.layout import laid_out, lies_as
from snnlib.graph.graph import Graph
from snnlib.graph.network import Network
from snnlib.graph.operations import Node
from snnlib.graph.readout import Readout


def logits(net: Network, graph: Graph, mean_input: Tensor, steps: int, readout: Readout) -> Tensor:
    """Read-out after ``steps`` steps of memoryless neurons; shape (B, classes).

    Args:
        net: the network.
        graph: its graph, in the memory format to compute in.
        mean_input: mean of the input over the steps, shape (B, ...).
        steps: number of time steps T.
        readout: how the answer is read.
    """
    late = readout.check(steps).first - 1
    whole = rounded(net, graph, mean_input, steps)
    if not late:
        return whole
    return (steps * whole - late * rounded(net, graph, mean_input, late)) / (steps - late)


def rounded(
    net: Network, graph: Graph, x: Tensor, steps: int, clip: bool = False, v0: float | None = None
) -> Tensor:
    """Logits of the ANN whose ReLUs round to what a neuron sends in so many steps, (B, classes).

    Each ReLU becomes (θ/t) · max(0, floor(t z/θ + v0)), for bounded activations at most
    floor(bound · t/θ + v0) thresholds.

    Args:
        net: the spiking network, for thresholds, neurons and dtype.
        graph: its graph, in the memory format to compute in.
        x: images, shape (B, ...).
        steps: t.
        clip: send at most κ t thresholds, κ the largest coefficient a step.
        v0: initial potential, a fraction of θ; by default the neurons' own.
    """
    thresholds, fresh = net.thresholds, graph.overwritable(graph.nodes)

    def quantize(node: Node, z: Tensor) -> Tensor:
        neuron = net.neurons[node.name]
        z = z if lies_as(z, 1, z) else z.contiguous()  # a sum of turned activations has gaps
        return kernels.quantize(
            z, thresholds[node.name], steps, neuron.v0 if v0 is None else v0,
            node.attrs.get("bound"), z if node.name in fresh else torch.empty_like(z),
            most=neuron.largest * steps if clip else math.inf,
        )  # fmt: skip

    images = laid_out(x.to(net.dtype), net.dtype)
    return graph.evaluate(images, activation=quantize).to(net.wide)
