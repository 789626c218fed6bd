"""Messages of a code on their way through a network, one plane a time step.

A code sends one number as messages s_1 … s_T, and a receiver adds up what arrives, ::

    V_t = r · V_{t−1} + W s_t        with the bias in one of the steps

r = 1 sums (frames, slots of time), r > 1 shifts (digits, the most significant first). What is
affine in the network does that to every plane alike. A maximum of numbers is sent the same way,
m_t = max(V_t) − r · max(V_{t−1}): of digits that is again a digit, known before the next one
arrives. Convolutions, folded batch norm, averages, sums, concatenations and changes of shape are
all one of these two; whatever else there is is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from snnlib._arguments import names, whole
from snnlib.graph.errors import ConversionError
from snnlib.graph.graph import Graph
from snnlib.graph.operations import OPERATIONS, Node, apply
from snnlib.graph.readout import Mean
from snnlib.neurons import Augmented
from snnlib.simulation.network import SpikingNetwork

MOST_BITS = 12


class Clock(NamedTuple):
    """How a receiver adds up planes."""

    steps: int  # T
    base: int  # r
    constant_at: int  # the step, from 0, at which biases and what does not change arrive


def recorded(there: Iterable[str], record: Sequence[str] | None) -> tuple[str, ...]:
    """The names of layers to record, of those that a code records.

    Raises:
        ValueError: one of them sends nothing, or is not there.
    """
    asked, known = names("record", record), list(there)
    if unknown := [name for name in asked if name not in known]:
        raise ValueError(f"record={unknown} names no layer that sends: {', '.join(known)}")
    return asked


def senders(graph: Graph, constant_input: bool) -> list[str]:
    """The spiking layers, and the max poolings whose value is not there from the first."""
    moving = graph.dynamic(constant_input)
    return [n.name for n in graph if n.kind == "spiking" or (n.kind == "max" and n.name in moving)]


Fire = Callable[[Node, Tensor], Tensor]  # (layer, arriving planes) → planes that it sends
Align = Callable[[Node, list[Tensor]], list[Tensor]]


def flow(
    graph: Graph,
    x: Tensor,
    clock: Clock,
    fire: Fire,
    sent: Callable[[Node, Tensor], None],
    given: Mapping[str, Tensor] | None = None,
    known: Mapping[str, Tensor] | None = None,
    align: Align | None = None,
) -> Tensor:
    """Planes that arrive at the output, shape (T, B, classes).

    Args:
        graph: the network.
        x: images, shape (B, ...).
        clock: how planes add up.
        fire: what a spiking layer sends, (T, B, ...), for the planes that arrive, (T, B, ...).
        sent: called with every layer and max pooling that sends, and its planes.
        given: planes of nodes that are known already.
        known: values (B, ...) of others that are.
        align: makes planes of layers whose clocks differ fit the clock of the node they enter.
    """
    values: dict[str, Tensor] = {}
    planes = set(given or ())  # names of the nodes whose value is (T, B, ...), not (B, ...)
    for node in graph:
        moves = not planes.isdisjoint(node.inputs) or node.kind == "spiking"
        if given and node.name in given:
            value = given[node.name]
        elif known and node.name in known:
            value = known[node.name]
        elif node.op == "input":
            value = x
        elif not moves:
            value = apply(node, [_typed(node, values[name]) for name in node.inputs])
        else:
            inputs = [
                values[name] if name in planes else _at(clock, values[name]) for name in node.inputs
            ]
            inputs = inputs if align is None else align(node, inputs)
            if node.kind == "spiking":
                value = fire(node, inputs[0])
            elif node.kind == "max":
                value = _maximum(node, inputs[0], clock.base)
            else:
                value = _affine(node, inputs, clock)
            planes.add(node.name)
            if node.kind in ("spiking", "max"):
                sent(node, value)
        values[node.name] = value
        for name in {*node.inputs, node.name}:
            if graph.last_use[name] == node.name and name != graph.output:
                del values[name]
    output = values[graph.output]
    return output if graph.output in planes else _at(clock, output)


def added(planes: Tensor, base: int) -> Tensor:
    """V_t = r · V_{t−1} + s_t after every step, shape (T, ...)."""
    if base == 1:
        return planes.cumsum(0)
    found = [planes[0]]
    for plane in planes[1:]:
        found.append(base * found[-1] + plane)
    return torch.stack(found)


def changes(values: Tensor, base: int = 1) -> Tensor:
    """The planes that `added` makes these values of: v_t − r · v_{t−1}."""
    return torch.cat([values[:1], values[1:] - base * values[:-1]])


def _at(clock: Clock, value: Tensor) -> Tensor:
    """A value that does not change, as planes of which one holds it."""
    planes = value.new_zeros(clock.steps, *value.shape)
    planes[clock.constant_at] = value
    return planes


def _typed(node: Node, value: Tensor) -> Tensor:
    """What a node computes with: a weighted one in the type of its weights."""
    return value.to(node.tensors["weight"].dtype) if node.kind == "weighted" else value


def _affine(node: Node, inputs: list[Tensor], clock: Clock) -> Tensor:
    """A node's function on every plane, what it adds in one of them only."""
    flat = [_typed(node, value.flatten(0, 1)) for value in inputs]
    value = apply(node, flat).unflatten(0, (clock.steps, -1))
    constant = apply(node, [torch.zeros_like(one[:1]) for one in flat])[None]  # (1, 1, ...)
    if not bool(constant.any()):
        return value
    others = torch.ones(clock.steps, *[1] * (value.dim() - 1), dtype=value.dtype)
    others[clock.constant_at] = 0
    return value - constant * others.to(value.device)


def _maximum(node: Node, planes: Tensor, base: int) -> Tensor:
    largest = apply(node, [added(planes, base).flatten(0, 1)])
    return changes(largest.unflatten(0, (len(planes), -1)), base)


def check(graph: Graph, code: str) -> None:
    """Raise ConversionError unless each max pooling reads what spiking layers send.

    A potential may be negative and has no digit and no spike of its own.
    """
    moving = graph.dynamic(constant_input=True)
    for node in graph:
        source = graph.nodes[node.inputs[0]] if node.inputs else node
        if node.kind != "max" or source.name not in moving:
            continue
        while (
            OPERATIONS[source.op].units in ("moves", "pads")
            and len(source.inputs) == 1
            and not source.attrs.get("value")
        ):
            source = graph.nodes[source.inputs[0]]
        if source.kind not in ("spiking", "max"):
            raise ConversionError(
                f"{node.name} ({node.op}): {code} cannot send the maximum of what {source.name} "
                f"({source.op}) gives, which are no spikes. Put the ReLU before the pooling, "
                "with nothing in between; one that follows may change places with it: both orders "
                "give the same numbers"
            )


def in_whole_numbers(net: SpikingNetwork, bits: int, weight_bits: int) -> SpikingNetwork:
    """The network whose neurons send 0 … 2^bits − 1 in one step: the ANN, rounded.

    Raises:
        ConversionError: it has no form in whole numbers (`snnlib.deploy.quantize`).
        ValueError: bits or weight_bits is out of range, or there is no spiking network.
    """
    real = real_valued(net)
    most = 2 ** whole("bits", bits, most=MOST_BITS) - 1
    neuron = Augmented(levels=most, negative=0.0, v0=0.5, cap=most)
    # Read after one step; bias currents that were measured for other neurons have no part in it.
    graph, readout = real.graph.without_corrections(), Mean()
    record = replace(real.network, graph=graph, neuron=neuron, readout=readout)
    return SpikingNetwork.of(record).quantize(weight_bits)


def real_valued(net: SpikingNetwork) -> SpikingNetwork:
    """The network in real numbers that a code is made from.

    Raises:
        ValueError: it is no spiking network.
    """
    if not isinstance(net, SpikingNetwork):
        raise ValueError(f"a code takes what snnlib.convert returns, not {type(net).__name__}")
    return net if net.whole is None else net.source


def fired(net: SpikingNetwork, node: Node, z: Tensor) -> Tensor:
    """What a layer of whole numbers sends in one step from rest, for its input, shapes (..., ...).

    The rule is the neuron's own, so the numbers are those of ``net(x, steps=1)``.
    """
    neuron, theta = net.network.neurons[node.name], net.thresholds[node.name]
    z, bound = z.to(net.potential_dtype), node.attrs.get("bound")
    state = neuron.initial(z, theta)
    state = state._replace(potential=state.potential.round())
    ceiling = None if bound is None else neuron.ceiling(bound, theta, 1)
    return neuron.step(state, z, theta, ceiling)[0].to(net.dtype)


def depths(graph: Graph) -> dict[str, int]:
    """How many spiking layers lie on the longest way to each node, itself included."""
    found: dict[str, int] = {}
    for node in graph:
        before = max((found[name] for name in node.inputs), default=0)
        found[node.name] = before + (node.kind == "spiking")
    return found
