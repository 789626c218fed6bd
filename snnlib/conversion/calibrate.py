"""Bias calibration: take each layer's mean conversion error away, without retraining.

With few steps a spiking layer's mean output differs from the ANN's activation by a bias: clipping
takes away, rounding and unevenness add or take. Layer by layer, in order, the difference is
measured per channel on the calibration images after a stated number of steps, with the layers
before it already corrected, and added as a constant bias current.

The corrections are nodes of their own in the graph, so that the ANN inside the network stays what
it was: `Graph.without_corrections` leaves them out.

Source: Li et al., ICML 2021 (bias calibration). Chapter *Converting a network*.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from snnlib._arguments import whole
from snnlib.graph.channels import column
from snnlib.graph.errors import ConversionError
from snnlib.graph.fold import prune
from snnlib.graph.graph import Graph
from snnlib.graph.network import Network
from snnlib.graph.operations import Node
from snnlib.graph.readout import Mean
from snnlib.simulation.network import SpikingNetwork


def calibrate_bias(
    net: SpikingNetwork, images: Tensor, steps: int, batch: int = 100
) -> SpikingNetwork:
    """A network whose layers' mean errors after ``steps`` steps are corrected by bias currents.

    Args:
        net: the spiking network, not changed; corrections it has are measured anew.
        images: calibration images, shape (N, ...), from the training set.
        steps: the number of steps you plan to run; the correction is for that number.
        batch: images looked at together.

    Raises:
        ValueError: steps or batch is not a whole number of at least 1.
        ConversionError: images of another shape, type or device, or not finite; or a network in
            whole numbers.
    """
    if net.network.whole is not None:
        raise ConversionError("biases are calibrated before net.quantize(): use net.source")
    steps, batch, images = whole("steps", steps), whole("batch", batch), net.checked(images)
    record, ann = net.network, net.graph.without_corrections()
    graph = ann
    for name in ann.spiking:
        target = prune(replace(ann, output=name))
        part = SpikingNetwork.of(_up_to(record, graph, name))
        error = torch.zeros(ann.shapes[name][0], dtype=torch.float64, device=images.device)
        for chunk in images.split(batch):
            with torch.no_grad():
                wanted = target.evaluate(chunk).double()
            sent = part(chunk, steps, only_last=True).logits[-1].double()
            error += (wanted - sent).transpose(0, 1).flatten(1).mean(1) * len(chunk)
        graph = _corrected(graph, name, error / len(images), net.dtype)
    report = {**net.report, "bias_calibrated_for_steps": steps}
    return SpikingNetwork.of(replace(record, graph=graph, report=report), net.reference)


def _up_to(net: Network, graph: Graph, name: str) -> Network:
    """The network whose output is what spiking layer ``name`` sends."""
    source = prune(replace(graph, output=name))
    neurons = {layer: net.neurons[layer] for layer in source.spiking}
    balanced = {layer: net.balanced[layer] for layer in source.spiking}
    return replace(net, graph=source, neuron=neurons, balanced=balanced, readout=Mean())


def _corrected(graph: Graph, name: str, shift: Tensor, dtype: torch.dtype) -> Graph:
    """The graph with a bias current, one number a channel, in front of spiking layer ``name``."""
    layer, shape = graph.nodes[name], graph.shapes[name]
    tensors = {"shift": column(shift.to(dtype), len(shape))}
    new = Node(f"{name}.correction", "affine", layer.inputs, {"correction": True}, tensors)
    nodes: dict[str, Node] = {}
    for node in graph:
        if node.name == name:
            nodes[new.name] = new
            node = replace(node, inputs=(new.name,))
        nodes[node.name] = node
    return replace(graph, nodes=nodes, shapes={**graph.shapes, new.name: shape})
