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
from snnlib.graph.channels import carried, compact
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


class Pooled(NamedTuple):
    """A max pooling that compares spikes of one layer and θ: counted in θ their sums are exact."""

    source: str  # the layer
    direct: bool  # nothing lies between
    before: Tensor | None  # θ of what arrives; None: counts arrive
    after: Tensor | None  # θ of what is sent on; None: counts are

    def where(self, counts: frozenset[str], inside: frozenset[str]) -> Pooled:
        """The same, if those layers send counts, and of those θ is in the weights that read."""
        arriving = self.source in (counts if self.direct else inside)
        return self._replace(
            before=None if arriving else self.before,
            after=None if self.source in inside else self.after,
        )


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
    pooled: dict[str, Pooled]  # max poolings that compare one layer's spikes
    beyond: frozenset[str]  # nodes that spikes reach
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
    pooled = _pooled(graph, net)
    counts, inside, nodes = _units(graph, net, pooled)
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
        pooled={name: one.where(counts, inside) for name, one in pooled.items()},
        beyond=frozenset(graph.dynamic(constant_input=True)),
        inside=inside,
        fresh=frozenset(graph.overwritable(moving)),
        whole=net.whole is not None,
        dtype=net.dtype,
        wide=net.wide,
        account=account,
    )


def _pooled(graph: Graph, net: Network) -> dict[str, Pooled]:
    """The max poolings behind a spiking layer whose θ is the same for all that they compare.

    What lies between may move messages, pad them with zeros, or be another such pooling.
    """
    units: dict[str, tuple[str, Tensor]] = {}  # nodes that send multiples of one layer's θ
    found: dict[str, Pooled] = {}
    for node in graph:
        if node.kind == "spiking":
            units[node.name] = node.name, net.thresholds[node.name].expand(graph.shapes[node.name])
        moves = node.kind == "max" or OPERATIONS[node.op].units in ("moves", "pads")
        if len(node.inputs) != 1 or node.inputs[0] not in units or not moves:
            continue
        source, before = units[node.inputs[0]]
        after = None if node.attrs.get("value") else carried(node, [before])
        if after is not None:
            units[node.name] = source, after.expand(graph.shapes[node.name])
        if after is not None and node.kind == "max":
            ends = (None, None) if net.whole else (compact(before), compact(after))
            found[node.name] = Pooled(source, source == node.inputs[0], *ends)
    return found


def _units(
    graph: Graph, net: Network, pooled: dict[str, Pooled]
) -> tuple[frozenset[str], frozenset[str], dict[str, Node]]:
    """The layers that send counts; those of them whose θ is in the weights behind; the nodes.

    A narrow dtype holds small whole numbers exactly, but not their multiples of θ: there the
    layer sends counts, and θ goes into the weights that read them. Where only max pooling reads a
    layer's messages, θ follows after it.
    """
    nodes = dict(graph.nodes)
    if net.whole is not None:
        return frozenset(graph.spiking), frozenset(), nodes
    counts, inside = set(), set()
    for name in graph.spiking:
        theta, readers = net.thresholds[name], _weighted_readers(graph, name)
        if net.dtype.itemsize < 4 and theta.numel() == 1 and readers:
            inside.add(name)
            for reader in readers:
                held = dict(nodes[reader].tensors)
                scaled = held["weight"].double() * theta.reshape(()).double()
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
