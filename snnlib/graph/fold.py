"""Folding: batch norm and other per-channel scales go into the weighted layer before them.

Exact: W' = s·W and b' = s·b + shift per output channel, computed in float64. What cannot be folded
stays a node that runs every step, its offset a bias current; a zero-padded convolution after it
then pads with the zero it was trained with, so the borders are right without special care.

Source: Rueckauer et al., Frontiers in Neuroscience 2017. Chapter *Converting a network*.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import torch
from torch import Tensor

from snnlib.graph.channels import per_channel
from snnlib.graph.graph import Graph
from snnlib.graph.operations import Node


def fold_affine(graph: Graph) -> Graph:
    """Fold every per-channel affine node into the weighted layer or affine node right before it.

    The affine stays where the layer before is read by others too, is neither weighted nor affine,
    or where scale and shift differ within a channel of a weighted layer.
    """
    nodes, shapes = dict(graph.nodes), dict(graph.shapes)
    renamed: dict[str, str] = {}
    reads = Counter([graph.output, *(name for node in graph for name in node.inputs)])
    for node in graph:
        if node.op != "affine":
            continue
        before, shape = node.inputs[0], graph.shapes[node.name]
        source = nodes[_latest(renamed, before)]
        if reads[source.name] > 1:
            continue
        if source.op == "affine":
            new = _merged(source, node)
        else:
            token_wise = source.op == "linear" and len(shape) > 1  # its channels come last
            if source.kind != "weighted" or token_wise or graph.shapes[before] != shape:
                continue
            if (channels := _scale_and_shift(node, shape)) is None:
                continue
            new = scaled(source, *channels)
        nodes[source.name], shapes[source.name] = new, shape
        renamed[node.name] = source.name
        reads[source.name] = reads[node.name]
        del nodes[node.name]
        if new.op == "affine" and shapes[new.inputs[0]] == shape and _neutral(new):
            renamed[new.name] = _latest(renamed, new.inputs[0])
            reads[renamed[new.name]] += reads[new.name] - 1
            del nodes[new.name]
    for name, node in nodes.items():
        inputs = tuple(_latest(renamed, source) for source in node.inputs)
        nodes[name] = replace(node, inputs=inputs)
    notes = [f"{name} folded into {_latest(renamed, into)}" for name, into in renamed.items()]
    output = _latest(renamed, graph.output)
    return replace(graph, nodes=nodes, output=output, notes=[*graph.notes, *notes], shapes=shapes)


def _latest(renamed: dict[str, str], name: str) -> str:
    while name in renamed:
        name = renamed[name]
    return name


def _merged(first: Node, second: Node) -> Node:
    """One affine node for two."""
    given = [*first.tensors, *second.tensors]
    neutral = {"scale": torch.ones(()), "shift": torch.zeros(())}
    (s, t), (u, v) = (
        [value.double() for value in {**neutral, **node.tensors}.values()]
        for node in (first, second)
    )
    found = {"scale": s * u, "shift": t * u + v}
    return replace(first, tensors={role: found[role] for role in found if role in given})


def _neutral(node: Node) -> bool:
    """Whether an affine node is the identity to rounding, as where two undo each other."""
    scale, shift = node.tensors.get("scale"), node.tensors.get("shift")
    same = scale is None or bool(((scale - 1).abs() < 1e-14).all())
    return same and (shift is None or bool((shift.abs() < 1e-14).all()))


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
