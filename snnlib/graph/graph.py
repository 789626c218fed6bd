"""The converted network as plain data: named nodes, in order, with their tensors and shapes.

`snnlib.conversion.trace` turns a trained model into a `Graph`; `snnlib.simulation` runs it in time.
What a node can be, and what is known of it, stands in `snnlib.graph.operations`. Chapter
*Converting a network*.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from snnlib.backend.layout import laid_out
from snnlib.graph.operations import OPERATIONS, Node, apply, rectify


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in topological order; the first is ``input``, ``output`` names the last to be read.

    A graph never changes: whatever rewrites one makes another.
    """

    nodes: dict[str, Node]
    output: str
    shapes: dict[str, tuple[int, ...]]  # per image, without the batch dimension
    notes: list[str] = field(default_factory=list)  # what was dropped or folded, for the reader
    head: str = ""  # "softmax" or "log_softmax" if the model ended in one, which was dropped

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    @cached_property
    def spiking(self) -> list[str]:
        """Names of the spiking layers, in order."""
        return [node.name for node in self.nodes.values() if node.kind == "spiking"]

    @cached_property
    def _users(self) -> dict[str, list[Node]]:
        found: dict[str, list[Node]] = {name: [] for name in self.nodes}
        for node in self.nodes.values():
            for name in dict.fromkeys(node.inputs):
                found[name].append(node)
        return found

    def users(self, name: str) -> list[Node]:
        """The nodes that read ``name``."""
        return self._users[name]

    def map_tensors(self, function: Callable[[Tensor], Tensor]) -> Graph:
        """The same graph with ``function`` applied to every tensor."""
        nodes = {name: node.with_tensors(function) for name, node in self.nodes.items()}
        return replace(self, nodes=nodes)

    def laid_out(self, dtype: torch.dtype) -> Graph:
        """The same graph with its weights in the memory format that is fastest in ``dtype``."""
        return self.map_tensors(lambda tensor: laid_out(tensor, dtype))

    def without_corrections(self) -> Graph:
        """The ANN as trained: without the bias currents of `snnlib.conversion.calibrate`."""
        bypassed = {
            node.name: node.inputs[0]
            for node in self.nodes.values()
            if node.attrs.get("correction")
        }
        if not bypassed:
            return self
        nodes = {
            name: replace(node, inputs=tuple(bypassed.get(i, i) for i in node.inputs))
            for name, node in self.nodes.items()
            if name not in bypassed
        }
        return replace(self, nodes=nodes, shapes={name: self.shapes[name] for name in nodes})

    def dynamic(self, constant_input: bool) -> set[str]:
        """Names of the nodes whose value changes from step to step.

        Under a constant input all before the first spiking layer stays the same: computed once.
        """
        changing: set[str] = set()
        for node in self.nodes.values():
            if node.op == "input":
                moves = not constant_input
            else:
                moves = node.kind == "spiking" or any(i in changing for i in node.inputs)
            if moves:
                changing.add(node.name)
        return changing

    @cached_property
    def last_use(self) -> dict[str, str]:
        """For every node, the last node that reads it: its value can be freed after that."""
        last = {name: name for name in self.nodes}
        for node in self.nodes.values():
            for source in node.inputs:
                last[source] = node.name
        last[self.output] = ""
        return last

    @cached_property
    def peak(self) -> tuple[int, int]:
        """Numbers an image takes at most while it goes through the graph, and those kept in time.

        The first counts the values alive at once, with the copies that a node works on; the second
        potentials and counts of spiking layers, sums and maxima of max pooling.
        """
        sizes = {name: math.prod(shape) for name, shape in self.shapes.items()}
        live, peak, kept = dict.fromkeys(sizes, 0), 0, 0
        for node in self.nodes.values():
            live[node.name], kind = sizes[node.name], node.kind
            extra = 3 * sizes[node.inputs[0]] if kind == "max" else sizes[node.name]
            peak = max(peak, sum(live.values()) + extra)
            kept += 2 * sizes[node.name] * (kind in ("spiking", "max"))
            for name in {*node.inputs, node.name}:
                if self.last_use[name] == node.name:
                    live[name] = 0
        return peak, kept

    def overwritable(self, among: Collection[str]) -> set[str]:
        """Spiking layers whose input is new memory that nobody else reads, so they may reuse it.

        Args:
            among: names of the nodes that are computed anew; others keep their values.
        """
        return {
            name
            for name in self.spiking
            if not OPERATIONS[(source := self.nodes[self.nodes[name].inputs[0]]).op].view
            and source.name in among
            and len(self.users(source.name)) == 1
            and source.name != self.output
        }

    def evaluate(
        self,
        x: Tensor,
        activation: Callable[[Node, Tensor], Tensor] | None = None,
        visit: Callable[[Node, Tensor], None] | None = None,
    ) -> Tensor:
        """The graph as an ANN.

        Args:
            x: images, shape (B, ...).
            activation: what a spiking node does to its input (default: the ReLU it stands for).
            visit: called with every node and its value.

        Returns:
            The value of the output node, shape (B, classes).
        """
        activation = activation or rectify
        last = self.last_use
        values: dict[str, Tensor] = {}
        for node in self.nodes.values():
            inputs = [values[name] for name in node.inputs]
            if node.op == "input":
                value = x
            elif node.kind == "spiking":
                value = activation(node, inputs[0])
            else:
                value = apply(node, inputs)
            values[node.name] = value
            if visit is not None:
                visit(node, value)
            for name in {*node.inputs, node.name}:
                if last[name] == node.name and name != self.output:
                    del values[name]
        return values[self.output]
