"""AEGNN, event by event: only what a new event can change is computed again.

A convolution hands a change one hop on; nothing else does. With S the nodes whose input changed and
F those that got an edge (or came)::

    again = S, and all i with a neighbor in S, and F       then  S ← those of again that changed

`add` walks so through all layers, from the new event to the answer, and keeps every value between.
ELU, batch normalization (trained: a scale and a shift) and residuals stay where they are; pooling
takes a node's change to its cell, whose maximum is taken again over all its events. A value that
comes out as it was, to the last bit, is no change and goes no further: often so at a maximum
(pruning there is of Gehrig and Scaramuzza, 2024). The answer's last layer sees everything, and is
computed whole.

The law: after every event, all values are those of the whole graph. What is computed again is the
same sum in another order: to 1e-10 in float64.

Schaefer, Gehrig and Scaramuzza, *AEGNN*, CVPR 2022. Written in NumPy, and from the equations, not
from the trained network's code: so the law compares two independent computations. Chapter *One
event at a time*.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from snnlib.events.aegnn import AEGNN, Block
from snnlib.events.graph import Cell, Growing


@dataclass(frozen=True)
class Touched:
    """What one event did.

    Attributes:
        again: nodes computed again, a layer an array: events, events, pooled cells, cells, cells.
        changed: those of them that came out different.
        nodes: all nodes of each layer.
        macs: multiplications of what was computed again, without the last layer.
        all_macs: of the whole graph.
        logits: (classes,) after it.
    """

    again: tuple[np.ndarray, ...]
    changed: tuple[np.ndarray, ...]
    nodes: tuple[int, ...]
    macs: int
    all_macs: int
    logits: np.ndarray

    @property
    def updates(self) -> int:
        """Nodes computed again, all layers."""
        return sum(len(layer) for layer in self.again)

    @property
    def all_updates(self) -> int:
        """Nodes that there are, all layers: what computing everything again would take."""
        return sum(self.nodes)


class _Layer:
    """A block on a growing graph: every node's value and neighbors."""

    def __init__(self, block: Block, residual: bool) -> None:
        def numbers(value: torch.Tensor) -> np.ndarray:
            return value.detach().cpu().numpy().copy()

        norm, self.residual = block.norm, residual
        self.spline, self.root = numbers(block.conv.lin.weight).T, numbers(block.conv.root.weight).T
        self.bias = numbers(block.conv.root.bias)
        mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
        self.scale = numbers(norm.weight / (variance + norm.eps).sqrt())
        self.shift = numbers(norm.bias) - numbers(mean) * self.scale
        self.values = np.zeros((16, len(self.bias)), self.bias.dtype)

    def compute(self, nodes: np.ndarray, x: np.ndarray, graph: _Graph) -> np.ndarray:
        """Compute nodes again from their inputs; returns those that changed."""
        heard = np.zeros((len(nodes), *self.shape(graph)), self.bias.dtype)
        for row, i in enumerate(nodes):
            if graph.heard[i]:
                b = graph.basis[i][: len(graph.heard[i])]
                heard[row] = b.T @ x[graph.heard[i]] / len(b)
        z = (
            heard.reshape(len(nodes), len(self.spline)) @ self.spline
            + x[nodes] @ self.root
            + self.bias
        )
        found = np.where(z > 0, z, np.expm1(np.minimum(z, 0))) * self.scale + self.shift
        if self.residual:
            found = found + x[nodes]
        self.values = _grown(self.values, graph.size)
        different = (found != self.values[nodes]).any(1) | (nodes >= graph.known)
        self.values[nodes] = found
        return nodes[different]

    def shape(self, graph: _Graph) -> tuple[int, int]:
        """K, C."""
        return graph.corners, self.spline.shape[0] // graph.corners

    def macs(self, nodes: int, edges: int, graph: _Graph) -> int:
        """Of some nodes that hear some edges: weighing, the K matrices, R."""
        corners, channels = self.shape(graph)
        outputs = self.spline.shape[1]
        return edges * corners * channels + nodes * (corners + 1) * channels * outputs


class _Graph:
    """Nodes with what they hear, and who hears them; each list has a place a node."""

    def __init__(self, knots: int, dtype: np.dtype) -> None:
        self.knots, self.corners, self.dtype = knots, knots**3, dtype
        self.heard: list[list[int]] = []
        self.basis: list[np.ndarray] = []
        self.hearers: list[list[int]] = []
        self.known, self.edges = 0, 0  # nodes before this event

    @property
    def size(self) -> int:
        return len(self.heard)

    def node(self) -> int:
        """A new node."""
        self.heard.append([])
        self.hearers.append([])
        self.basis.append(np.zeros((4, self.corners), self.dtype))
        return self.size - 1

    def edge(self, source: int, target: int, e: np.ndarray) -> None:
        """A new edge, from a place in [0, 1]³."""
        place = len(self.heard[target])
        self.heard[target].append(source)
        self.hearers[source].append(target)
        self.basis[target] = _grown(self.basis[target], place + 1)
        self.basis[target][place] = weights(e, self.knots)
        self.edges += 1

    def reached(self, changed: np.ndarray, fresh: Iterable[int]) -> np.ndarray:
        """What has to be computed again, ascending."""
        again = {*changed.tolist(), *fresh}
        for i in changed:
            again.update(self.hearers[i])
        return np.array(sorted(again), dtype=np.int64)

    def degree(self, nodes: np.ndarray) -> int:
        """Edges that some nodes hear."""
        return sum(len(self.heard[i]) for i in nodes)


def weights(e: np.ndarray, knots: int) -> np.ndarray:
    """b_k of one place in [0, 1]³, as `snnlib.events.aegnn.basis`."""
    x, y, t = np.maximum(0, 1 - np.abs(e[:, None] * (knots - 1) - np.arange(knots)))
    found: np.ndarray = (x[:, None, None] * y[:, None] * t).ravel()
    return found


def _grown(values: np.ndarray, rows: int) -> np.ndarray:
    """With room for so many rows: twice as many where there are too few."""
    while len(values) < rows:
        values = np.concatenate([values, np.zeros_like(values)])
    return values


def _wave(
    layers: list[_Layer], graph: _Graph, x: np.ndarray, changed: np.ndarray, fresh: set[int]
) -> tuple[list[np.ndarray], list[np.ndarray], int]:
    """Compute again what a change reaches, layer by layer: nodes, those that changed, MACs.

    Args:
        layers: of one graph.
        graph: theirs.
        x: inputs of the first layer, a row a node.
        changed: nodes whose inputs changed.
        fresh: nodes that are new, or have a new edge.
    """
    again, moved, macs = [], [], 0
    for layer in layers:
        nodes = graph.reached(changed, fresh)
        changed = layer.compute(nodes, x, graph)
        macs += layer.macs(len(nodes), graph.degree(nodes), graph)
        again.append(nodes)
        moved.append(changed)
        x = layer.values
    return again, moved, macs


class Asynchronous:
    """A trained network that hears one event after another.

    Args:
        network: in evaluation mode; its weights are copied, its precision is kept.

    Raises:
        ValueError: the network is in training mode, where batch normalization depends on all.
    """

    def __init__(self, network: AEGNN) -> None:
        if network.training:
            raise ValueError("Asynchronous: call network.eval() first")
        self.network, self.rule = network, network.rule
        out: nn.Linear = network.out
        self._weight, self._bias = (
            value.detach().cpu().numpy().copy() for value in (out.weight, out.bias)
        )
        dtype = self._bias.dtype
        self._growing = Growing(network.size, network.rule)
        self.events, self.cells = (_Graph(network.knots, dtype) for _ in range(2))
        self._of_events, self._of_cells = (
            [_Layer(block, i > 0) for i, block in enumerate(level) if isinstance(block, Block)]
            for level in (network.events, network.cells)
        )
        self._input, self._at = np.zeros((16, 1), dtype), np.zeros((16, 3))
        self._pooled = np.zeros((16, self._of_cells[0].spline.shape[0] // network.knots**3), dtype)
        self._number: dict[Cell, int] = {}  # of a cell
        self._keys: list[Cell] = []  # the cells, by number
        self._cell: list[int] = []  # of an event
        self._members: list[list[int]] = []
        self._places: dict[int, list[int]] = {}  # of the answer: their cells
        self._held = np.zeros((network.grid**2, self._of_cells[1].spline.shape[1]), dtype)

    @property
    def logits(self) -> np.ndarray:
        """The answer so far, (classes,)."""
        found: np.ndarray = self._weight @ self._held.ravel() + self._bias
        return found

    @property
    def keys(self) -> tuple[Cell, ...]:
        """Column, row and span of time of each cell, in the order in which they came."""
        return tuple(self._keys)

    @property
    def values(self) -> tuple[np.ndarray, ...]:
        """Values of all nodes now: of both layers of events, of pooled cells, of both of cells."""
        n, m = self.events.size, self.cells.size
        events = tuple(layer.values[:n] for layer in self._of_events)
        return (*events, self._pooled[:m], *(layer.values[:m] for layer in self._of_cells))

    def add(self, x: int, y: int, t: float, p: int) -> Touched:
        """Hear an event: column, row, time in ms, polarity ±1.

        Raises:
            ValueError: it is outside the sensor, or earlier than the last one.
        """
        fresh, fresh_cells = self._grow(x, y, t, p)
        new = np.array([self.events.size - 1])
        again, changed, macs = _wave(self._of_events, self.events, self._input, new, fresh)
        pooled = np.array(sorted({self._cell[i] for i in changed[-1]}), dtype=np.int64)
        again.append(pooled)
        changed.append(self._pool(pooled, self._of_events[-1].values))
        wave = _wave(self._of_cells, self.cells, self._pooled, changed[-1], fresh_cells)
        again, changed, macs = again + wave[0], changed + wave[1], macs + wave[2]
        self._answer(changed[-1], self._of_cells[-1].values)
        n, m = self.events.size, self.cells.size
        self.events.known, self.cells.known = n, m
        every = sum(layer.macs(n, self.events.edges, self.events) for layer in self._of_events)
        every += sum(layer.macs(m, self.cells.edges, self.cells) for layer in self._of_cells)
        return Touched(tuple(again), tuple(changed), (n, n, m, m, m), macs, every, self.logits)

    def _grow(self, x: int, y: int, t: float, p: int) -> tuple[set[int], set[int]]:
        """Nodes and edges of an event; returns events and cells that are new or got an edge."""
        near = self._growing.add(x, y, t)
        new = self.events.node()
        at = np.array([x, y, t], dtype=np.float64)
        self._at, self._input = _grown(self._at, new + 1), _grown(self._input, new + 1)
        self._at[new], self._input[new] = at, p
        key = tuple(self.rule.cells(*at[:, None])[0].tolist())
        fresh, fresh_cells = {new}, set()
        if key not in self._number:
            number = self._number[key] = self.cells.node()
            self._keys.append(key)
            fresh_cells.add(number)
            self._members.append([])
            place = int(self.network.places(np.array(key[0]), np.array(key[1])))
            self._places.setdefault(place, []).append(number)
        self._cell.append(self._number[key])
        self._members[self._cell[new]].append(new)
        for j in near.tolist():
            for source, target in ((j, new), (new, j))[: 1 + self.rule.mutual]:
                e = self.rule.between(self._at[source], self._at[target])
                self.events.edge(source, target, e)
                fresh.add(target)
                fresh_cells |= self._join(self._cell[source], self._cell[target])
        return fresh, fresh_cells

    def _join(self, source: int, target: int) -> set[int]:
        """An edge between two cells that have none; the target, if there is a new one."""
        if source == target or source in self.cells.heard[target]:
            return set()
        e = self.rule.between_cells(np.array(self._keys[source]), np.array(self._keys[target]))
        self.cells.edge(source, target, e)
        return {target}

    def _pool(self, cells: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Take the maxima of cells again; returns those that changed."""
        self._pooled = _grown(self._pooled, self.cells.size)
        different = []
        for cell in cells:
            found = x[self._members[cell]].max(0)
            if cell >= self.cells.known or (found != self._pooled[cell]).any():
                different.append(cell)
            self._pooled[cell] = found
        return np.array(different, dtype=np.int64)

    def _answer(self, cells: np.ndarray, x: np.ndarray) -> None:
        """Take the maxima of the places where cells changed again."""
        where = np.array([self._keys[cell][:2] for cell in cells], dtype=np.int64).reshape(-1, 2)
        for place in np.unique(self.network.places(*where.T)):
            self._held[place] = x[self._places[int(place)]].max(0)
