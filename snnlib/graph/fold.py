"""Folding: batch norm and other per-channel scales go into the weighted layer before them.

Exact: W' = s·W and b' = s·b + shift per output channel, computed in float64. What cannot be folded
stays a node that runs every step, its offset a bias current; a zero-padded convolution after it
then pads with the zero it was trained with, so the borders are right without special care.

Source: Rueckauer et al., Frontiers in Neuroscience 2017. Chapter *Converting a network*.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from snnlib.graph.channels import per_channel
from snnlib.graph.graph import Graph
from snnlib.graph.operations import Node


def fold_affine(graph: Graph) -> Graph:
    """Fold every per-channel affine node into the weighted layer right before it.

    The affine stays where the layer before is read by others too, is not weighted, or where scale
    and shift differ within a channel.
    """
    nodes = dict(graph.nodes)
    renamed: dict[str, str] = {}
    for node in graph:
        if node.op != "affine":
            continue
        before = node.inputs[0]
        source = nodes[renamed.get(before, before)]
        alone = len(graph.users(before)) == 1 and graph.output != before
        if source.kind != "weighted" or not alone:
            continue
        shape = graph.shapes[node.name]
        token_wise = source.op == "linear" and len(shape) > 1  # its channels come last
        channels = None if token_wise else _scale_and_shift(node, shape)
        if channels is None or graph.shapes[before] != shape:
            continue
        nodes[source.name] = scaled(source, *channels)
        renamed[node.name] = source.name
        del nodes[node.name]
    for name, node in nodes.items():
        nodes[name] = replace(node, inputs=tuple(renamed.get(i, i) for i in node.inputs))
    notes = [*graph.notes, *(f"{name} folded into {into}" for name, into in renamed.items())]
    output = renamed.get(graph.output, graph.output)
    return replace(graph, nodes=nodes, output=output, notes=notes)


def _scale_and_shift(node: Node, shape: tuple[int, ...]) -> tuple[Tensor, Tensor] | None:
    """Scale and shift of an affine node as vectors of one entry a channel, if they are that."""
    scale = per_channel(node.tensors.get("scale", torch.tensor(1.0)), shape)
    shift = per_channel(node.tensors.get("shift", torch.tensor(0.0)), shape)
    return None if scale is None or shift is None else (scale.double(), shift.double())


def scaled(node: Node, scale: Tensor, shift: Tensor) -> Node:
    """A weighted node whose output channels are multiplied by ``scale`` and moved by ``shift``."""
    weight, bias = node.tensors["weight"], node.tensors.get("bias")
    scale, shift = scale.to(weight.device), shift.to(weight.device)
    wide = weight.double()
    if node.op == "conv_transpose":  # weight (in, out / groups, ...)
        groups = node.attrs["groups"]
        per_group = scale.reshape(groups, 1, -1, *[1] * (weight.dim() - 2))
        wide = (wide.reshape(groups, -1, *weight.shape[1:]) * per_group).reshape(weight.shape)
    else:
        wide = wide * scale.reshape(-1, *[1] * (weight.dim() - 1))
    offset = shift if bias is None else shift + scale * bias.double()
    tensors = {"weight": wide.to(weight.dtype), "bias": offset.to(weight.dtype)}
    return replace(node, tensors=tensors)


def prune(graph: Graph) -> Graph:
    """Drop the nodes that the output does not depend on."""
    needed, todo = {"input"}, [graph.output]
    while todo:
        name = todo.pop()
        if name not in needed:
            needed.add(name)
            todo.extend(graph.nodes[name].inputs)
    nodes = {name: node for name, node in graph.nodes.items() if name in needed}
    return replace(graph, nodes=nodes, shapes={name: graph.shapes[name] for name in nodes})
