"""The simulation engine: one chunk of images on its way through time, a block of steps at a time.

There is no delay between layers, so a layer can take several steps at once before the next layer
starts: its weights see steps × images as one batch, and its neurons keep their potentials in the
cache while they go through the block (`snnlib.kernels`). Whatever depends on a constant input
alone is computed once. `Plan` holds what all chunks of a run share, `Simulation` the state of one.

Chapter *Converting a network*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from snnlib.graph.graph import Graph
from snnlib.graph.layout import channels_last, laid_out
from snnlib.graph.operations import Node, apply
from snnlib.neurons import State
from snnlib.simulation import kernels
from snnlib.simulation.coding import Coding, Frames
from snnlib.simulation.run import Statistics, Trace

if TYPE_CHECKING:
    from snnlib.simulation.network import SpikingNetwork

_TRANSPARENT = {
    "avg_pool", "adaptive_avg_pool", "mean", "sum", "reshape", "permute", "slice", "upsample",
    "max_pool", "adaptive_max_pool",
}  # fmt: skip


class Plan:
    """What all chunks of a run share: which nodes move, in which units messages travel.

    Attributes:
        nodes: the nodes by name, weights in the memory format the simulation computes in.
        changing: the nodes whose value changes from step to step, in order.
        counts: spiking layers that send the coefficient c; the others send c·θ.
        factor: what a max pooling over counts multiplies its output with (θ), by name.
        fresh: spiking layers whose input nobody else reads, so that messages may overwrite it.
    """

    def __init__(self, net: SpikingNetwork, constant_input: bool) -> None:
        graph = net.graph
        self.net, self.thresholds, self.last = net, net.thresholds, graph.last_use()
        self.nodes = dict(graph.nodes)
        self.counts: set[str] = set()
        self.factor: dict[str, Tensor] = {}
        moving = graph.dynamic(constant_input)
        self._units(graph, net)
        self.nodes = {name: _laid_out(node, net.dtype) for name, node in self.nodes.items()}
        self.changing = [node for node in self.nodes.values() if node.name in moving]
        self.static = [node for node in self.nodes.values() if node.name not in moving]
        self.fresh = graph.overwritable(moving)
        self._fan_outs: dict[tuple[str, bool], Tensor] = {}

    def fan_out(self, name: str, like: Tensor) -> Tensor:
        """Synapses that each neuron of a source reaches, int32, lying in memory as ``like``."""
        key = name, channels_last(like)
        if key not in self._fan_outs:
            value = self.net.fan_outs[name].to(torch.int32)
            if key[1]:
                value = value.movedim(0, -1).contiguous().movedim(-1, 0)
            self._fan_outs[key] = value
        return self._fan_outs[key]

    def _units(self, graph: Graph, net: SpikingNetwork) -> None:
        """Choose the unit of every layer's messages.

        A narrow dtype holds small whole numbers exactly, but not their multiples of θ: there the
        layer sends counts, and θ goes into the weights that read them. Max pooling compares summed
        messages, which are exact as counts: where nothing else reads them, θ follows after it.
        """
        if net.counts_only:
            self.counts = set(graph.spiking)
            return
        narrow = net.dtype.itemsize < 4
        for name in graph.spiking:
            theta, readers = self.thresholds[name], _weighted_readers(graph, name)
            if narrow and theta.numel() == 1 and readers:
                self.counts.add(name)
                for reader in readers:
                    node = self.nodes[reader]
                    weight = node.tensors["weight"]
                    scaled = (weight.double() * theta.double()).to(weight.dtype)
                    self.nodes[reader] = replace(node, tensors={**node.tensors, "weight": scaled})
            elif (users := graph.users(name)) and all(user.kind == "max" for user in users):
                self.counts.add(name)
                self.factor.update({user.name: theta for user in users})


def _weighted_readers(graph: Graph, name: str) -> list[str]:
    """The weighted nodes that a message reaches; none if it also reaches anything but those."""
    readers: list[str] = []
    for user in graph.users(name):
        if user.kind == "weighted":
            readers.append(user.name)
        elif user.op in _TRANSPARENT and (further := _weighted_readers(graph, user.name)):
            readers += further
        else:
            return []
    return [] if name == graph.output else readers


def _laid_out(node: Node, dtype: torch.dtype) -> Node:
    return replace(node, tensors={k: laid_out(v, dtype) for k, v in node.tensors.items()})


class Simulation:
    """One chunk of images on its way through time.

    Args:
        net: the network.
        x: images, shape (B, ...), or frames (T, B, ...).
        coding: input coding.
        first: number of the first image in the data set (for Bernoulli coding).
        statistics: where to count events; None to count nothing.
        record: spiking layers to keep potentials and coefficients of.
        plan: what the chunks of a run share; made here by default.

    Attributes:
        t: steps done so far.
        states: potential and count of every spiking layer, shapes (B, ...).
    """

    def __init__(
        self, net: SpikingNetwork, x: Tensor, coding: Coding, first: int,
        statistics: Statistics | None, record: Sequence[str] = (), plan: Plan | None = None,
    ) -> None:  # fmt: skip
        self.net, self.coding, self.first = net, coding, first
        self.plan = Plan(net, coding.constant) if plan is None else plan
        self.x = x
        self.statistics = statistics
        self._watched: dict[str, tuple[list[Tensor], list[Tensor]]] = {
            name: ([], []) for name in record
        }
        self.t = 0
        self.states: dict[str, State] = {}
        self.sums: dict[str, Tensor] = {}  # summed messages into a max pooling
        self.sent: dict[str, Tensor] = {}  # the largest of them
        self.total: Tensor | None = None
        self.static: dict[str, Tensor] = {}
        for node in self.plan.static:
            inputs = [self.static[name] for name in node.inputs]
            value = laid_out(x, net.dtype) if node.op == "input" else self._apply(node, inputs)
            self.static[node.name] = value
        needed = {name for node in self.plan.changing for name in node.inputs} | {net.graph.output}
        self.static = {name: value for name, value in self.static.items() if name in needed}

    def step(self) -> Tensor:
        """One time step; returns the summed input of the output so far, shape (B, classes)."""
        return self.advance(1)[0]

    def advance(self, steps: int) -> Tensor:
        """Several steps at once.

        Returns:
            The summed input of the output after each of them, shape (steps, B, classes).
        """
        values = dict(self.static)  # (B, ...); changing values (steps·B, ...), steps first
        for node in self.plan.changing:
            if node.op == "input":
                value = self._input(steps)
            elif node.kind == "spiking":
                value = self._fire(node, values[node.inputs[0]], steps)
            else:
                inputs = [self._every_step(name, values[name], steps) for name in node.inputs]
                if node.kind == "max":
                    value = self._pool(node, inputs[0], steps)
                else:
                    value = self._apply(node, inputs)
            values[node.name] = value
            for name in set(node.inputs):
                if self.plan.last[name] == node.name:
                    del values[name]
        output = values[self.net.graph.output].to(self.net.potential_dtype)
        output = output.unflatten(0, (steps, -1))
        first = output[:1] if self.total is None else output[:1] + self.total
        totals = torch.cat([first, output[1:]]).cumsum(0)
        self.total = totals[-1]
        self.t += steps
        unit = self.net.output_unit
        return totals if unit is None else totals * unit

    @property
    def traces(self) -> dict[str, Trace]:
        """The records so far."""
        return {name: Trace(*lists) for name, lists in self._watched.items()}

    def keep(self, which: Tensor) -> None:
        """Go on with some of the images only; ``which`` is a mask of shape (B,)."""
        self.x = self.x[which]
        self.static = {name: value[which] for name, value in self.static.items()}
        self.states = {
            name: State(*(_like(part[which], part) for part in state))
            for name, state in self.states.items()
        }
        self.sums = {name: value[which] for name, value in self.sums.items()}
        self.sent = {name: value[which] for name, value in self.sent.items()}
        assert self.total is not None
        self.total = self.total[which]

    def _input(self, steps: int) -> Tensor:
        frames = [
            self.coding.frame(self.x, t, self.first) for t in range(self.t + 1, self.t + steps + 1)
        ]
        value = torch.stack(frames)
        self._count("input", value, whole=not isinstance(self.coding, Frames))
        return laid_out(value.flatten(0, 1), self.net.dtype)

    def _every_step(self, name: str, value: Tensor, steps: int) -> Tensor:
        return value.repeat(steps, *[1] * (value.dim() - 1)) if name in self.static else value

    def _apply(self, node: Node, inputs: list[Tensor]) -> Tensor:
        if node.kind == "weighted":
            inputs = [value.to(node.tensors["weight"].dtype) for value in inputs]
        return apply(node, inputs)

    def _fire(self, node: Node, z: Tensor, steps: int) -> Tensor:
        plan, net, name = self.plan, self.net, node.name
        theta = plan.thresholds[name]
        constant = node.inputs[0] in self.static
        if name not in self.states:
            images = len(z) if constant else len(z) // steps
            state = net.neuron.initial(z[:images].to(net.potential_dtype), theta)
            if net.counts_only:
                state.potential.round_()
            self.states[name] = state
        state = self.states[name]
        z = _like(z, state.potential)
        current = z[None] if constant else z.unflatten(0, (steps, -1))
        if name in plan.fresh and z.dtype == net.dtype:
            out = z
        else:
            shape = (steps * current.shape[1], *z.shape[1:])
            order = torch.channels_last if channels_last(z) else torch.contiguous_format
            out = torch.empty(shape, dtype=net.dtype, device=z.device, memory_format=order)
        rows = kernels.advance(
            net.neuron, state, current, theta, out.unflatten(0, (steps, -1)),
            first=self.t + 1,
            bound=node.attrs.get("bound"),
            counts=name in plan.counts,
            fan_out=None if self.statistics is None else plan.fan_out(name, z),
            watch=partial(self._watch, name) if name in self._watched else None,
        )  # fmt: skip
        if self.statistics is not None and rows is not None:
            self.statistics.add_rows(name, self.t, rows)
        return out

    def _watch(self, name: str, step: int, coefficient: Tensor, potential: Tensor) -> None:
        potentials, coefficients = self._watched[name]
        potentials.append(potential.clone())
        coefficients.append(coefficient.clone())

    def _pool(self, node: Node, message: Tensor, steps: int) -> Tensor:
        """Send max(S_t) − max(S_{t−1}), S_t the summed messages: exact for signed spikes too."""
        source, name = node.inputs[0], node.name
        summed = message.to(self.net.potential_dtype, copy=True)
        if source in self.states and source not in self.plan.counts:
            summed = (summed / self.plan.thresholds[source]).round_()  # counts: sums stay exact
        by_step = summed.unflatten(0, (steps, -1))
        if name in self.sums:
            by_step[0] += self.sums[name]
        for t in range(1, steps):
            by_step[t] += by_step[t - 1]
        self.sums[name] = by_step[-1].clone()
        largest = apply(node, [summed])
        change = largest.clone()
        change_by_step = change.unflatten(0, (steps, -1))
        change_by_step[1:] -= largest.unflatten(0, (steps, -1))[:-1]
        if name in self.sent:
            change_by_step[0] -= self.sent[name]
        self.sent[name] = largest.unflatten(0, (steps, -1))[-1].clone()
        self._count(name, change_by_step, whole=source in self.states)
        if name in self.plan.factor:
            change *= self.plan.factor[name]
        elif source in self.states and source not in self.plan.counts:
            change *= self.plan.thresholds[source]
        return change.to(self.net.dtype)

    def _count(self, name: str, coefficients: Tensor, whole: bool) -> None:
        if self.statistics is not None:
            fan_out = self.plan.fan_out(name, coefficients[0])
            self.statistics.add_rows(name, self.t, kernels.tallies(coefficients, fan_out, whole))


def _like(value: Tensor, like: Tensor) -> Tensor:
    """The value in the memory format of ``like``."""
    if channels_last(like):
        return value.contiguous(memory_format=torch.channels_last)
    return value.contiguous()
