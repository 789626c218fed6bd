"""What all chunks of a run share: which nodes move, and in which units messages travel.

A `Plan` is made of plain values once for each network and kind of input, and never changes; the
engine needs nothing else of a network. Chapter *The simulator*.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from snnlib.backend.layout import channels_last, laid_out
from snnlib.graph.graph import Graph
from snnlib.graph.network import Network
from snnlib.graph.operations import OPERATIONS, Function, Kind, Node
from snnlib.neurons import Neuron
from snnlib.simulation.costs import Account


class Step(NamedTuple):
    """What one node does in a time step."""

    node: Node  # its weights in the memory format and the units of the simulation
    kind: Kind
    function: Function
    freed: tuple[str, ...]  # the values that nobody needs after it


@dataclass(frozen=True)
class Plan:
    """What all chunks of a run share: which nodes move, in which units messages travel."""

    changing: tuple[Step, ...]  # the nodes whose value changes from step to step, in order
    static: tuple[Step, ...]  # the others: computed once
    kept: frozenset[str]  # those of them that the changing ones read
    output: str
    unit: Tensor | None  # what one unit of the output stands for; None: 1
    neurons: dict[str, Neuron]  # of every spiking layer
    thresholds: dict[str, Tensor]
    counts: frozenset[str]  # spiking layers that send the coefficient c; the others send c·θ
    pooled: dict[str, Tensor]  # max poolings that compare counts, whose sums are exact; their θ
    inside: frozenset[str]  # spiking layers whose θ is in the weights that read them
    fresh: frozenset[str]  # spiking layers whose input nobody else reads: messages may overwrite it
    whole: bool  # potentials and messages are whole numbers
    dtype: torch.dtype  # of weights and messages
    wide: torch.dtype  # of potentials, counts and thresholds
    account: Account  # fan-outs, for the counting of events
    _fan_outs: dict[tuple[str, bool, torch.device], Tensor] = field(default_factory=dict)

    def fan_out(self, name: str, like: Tensor) -> Tensor:
        """Synapses that each neuron of a source reaches, int32, lying in memory as ``like``."""
        key = name, channels_last(like), like.device
        found = self._fan_outs.get(key)
        if found is None:
            found = self.account.fan_outs[name].to(like.device, torch.int32)
            if key[1]:
                found = found.movedim(0, -1).contiguous().movedim(-1, 0)
            self._fan_outs[key] = found
        return found


def make_plan(net: Network, account: Account, constant_input: bool) -> Plan:
    """The plan of a network under a constant or a changing input."""
    graph, moving = net.graph, net.graph.dynamic(constant_input)
    counts, inside, nodes = _units(graph, net)
    last = graph.last_use
    steps = []
    for node in nodes.values():
        ready, operation = _laid_out(node, net.dtype), OPERATIONS[node.op]
        freed = tuple({name for name in node.inputs if last[name] == node.name})
        steps.append(Step(ready, operation.kind, operation.function, freed))
    changing = tuple(step for step in steps if step.node.name in moving)
    return Plan(
        changing=changing,
        static=tuple(step for step in steps if step.node.name not in moving),
        kept=frozenset({name for step in changing for name in step.node.inputs} | {graph.output}),
        output=graph.output,
        unit=net.whole.output_unit if net.whole else None,
        neurons=net.neurons,
        thresholds=dict(net.thresholds),
        counts=counts,
        pooled={} if net.whole else _pooled(graph, net),
        inside=inside,
        fresh=frozenset(graph.overwritable(moving)),
        whole=net.whole is not None,
        dtype=net.dtype,
        wide=net.wide,
        account=account,
    )


def _pooled(graph: Graph, net: Network) -> dict[str, Tensor]:
    """The max poolings right behind spiking layers whose θ is the same for all they compare."""
    return {
        node.name: theta
        for node in graph
        if node.kind == "max"
        and (theta := net.thresholds.get(node.inputs[0])) is not None
        and (theta.numel() == 1 or OPERATIONS[node.op].units == "pools")
    }


def _units(graph: Graph, net: Network) -> tuple[frozenset[str], frozenset[str], dict[str, Node]]:
    """The layers that send counts; those of them whose θ is in the weights behind; the nodes.

    A narrow dtype holds small whole numbers exactly, but not their multiples of θ: there the
    layer sends counts, and θ goes into the weights that read them. Where only max pooling reads a
    layer's messages, θ follows after it.
    """
    nodes = dict(graph.nodes)
    if net.whole is not None:
        return frozenset(graph.spiking), frozenset(), nodes
    counts, inside, pooled = set(), set(), _pooled(graph, net)
    for name in graph.spiking:
        theta, readers = net.thresholds[name], _weighted_readers(graph, name)
        if net.dtype.itemsize < 4 and theta.numel() == 1 and readers:
            inside.add(name)
            for reader in readers:
                held = dict(nodes[reader].tensors)
                scaled = held["weight"].double() * theta.double()
                held["weight"] = scaled.to(held["weight"].dtype)
                nodes[reader] = replace(nodes[reader], tensors=held)
        elif (users := graph.users(name)) and all(user.name in pooled for user in users):
            counts.add(name)
    return frozenset(counts | inside), frozenset(inside), nodes


def _weighted_readers(graph: Graph, name: str) -> list[str]:
    """The weighted nodes that a message reaches; none if it also reaches anything but those."""
    readers: list[str] = []
    for user in graph.users(name):
        if user.kind == "weighted":
            readers.append(user.name)
        elif OPERATIONS[user.op].homogeneous and (more := _weighted_readers(graph, user.name)):
            readers += more
        else:
            return []
    return [] if name == graph.output else readers


def _laid_out(node: Node, dtype: torch.dtype) -> Node:
    return node.with_tensors(lambda tensor: laid_out(tensor, dtype)) if node.tensors else node
