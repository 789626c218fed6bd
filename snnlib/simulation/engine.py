"""The simulation engine: one chunk of images on its way through time, a block of steps at a time.

There is no delay between layers, so a layer can take several steps at once before the next layer
starts: its weights see steps × images as one batch, and its neurons keep their potentials in the
cache while they go through the block (`snnlib.backend`). Whatever depends on a constant input alone
is computed once. Chapter *The simulator*.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor

from snnlib.backend import updates as kernels
from snnlib.backend.layout import channels_last, laid_out
from snnlib.graph.operations import Node
from snnlib.neurons import State
from snnlib.simulation.coding import Coding
from snnlib.simulation.plan import Plan, Step
from snnlib.simulation.run import Statistics, Trace


class Simulation:
    """One chunk of images on its way through time.

    Args:
        plan: what the chunks of a run share.
        x: images, shape (B, ...), or frames (T, B, ...).
        coding: input coding.
        first: number of the first image in the data set (for Bernoulli coding).
        statistics: where to count events; None to count nothing.
        record: spiking layers to keep potentials and coefficients of.

    Attributes:
        t: steps done so far.
        states: potential and count of every spiking layer, shapes (B, ...).
    """

    def __init__(
        self,
        plan: Plan,
        x: Tensor,
        coding: Coding,
        first: int = 0,
        statistics: Statistics | None = None,
        record: Iterable[str] = (),
    ) -> None:
        self.plan, self.coding, self.first = plan, coding, first
        self.x, self.statistics, self.t = x, statistics, 0
        self._watched: dict[str, tuple[list[Tensor], list[Tensor]]] = {
            name: ([], []) for name in record
        }
        self.states: dict[str, State] = {}
        self.sums: dict[str, Tensor] = {}  # summed messages into a max pooling
        self.sent: dict[str, Tensor] = {}  # the largest of them
        self.total: Tensor | None = None
        values: dict[str, Tensor] = {}
        for step in plan.static:
            inputs = [values[name] for name in step.node.inputs]
            if step.node.op == "input":
                values[step.node.name] = laid_out(x, plan.dtype)
            else:
                values[step.node.name] = self._apply(step, inputs)
        self.static = {name: value for name, value in values.items() if name in plan.kept}

    def step(self) -> Tensor:
        """One time step; returns the summed input of the output so far, shape (B, classes)."""
        return self.advance(1)[0]

    def advance(self, steps: int) -> Tensor:
        """Several steps at once.

        Returns:
            The summed input of the output after each of them, shape (K, B, classes).
        """
        values = dict(self.static)  # (B, ...); changing values (K·B, ...), steps first
        for step in self.plan.changing:
            node = step.node
            if step.kind == "spiking":
                values[node.name] = self._fire(node, values[node.inputs[0]], steps)
            elif node.op == "input":
                values[node.name] = self._input(steps)
            else:
                inputs = [self._every_step(name, values[name], steps) for name in node.inputs]
                if step.kind == "max":
                    values[node.name] = self._pool(step, inputs[0], steps)
                else:
                    values[node.name] = self._apply(step, inputs)
            for name in step.freed:
                del values[name]
        output = values[self.plan.output].to(self.plan.wide)
        output = output.unflatten(0, (steps, -1))  # (K, B, classes)
        first = output[:1] if self.total is None else output[:1] + self.total
        totals = torch.cat([first, output[1:]]).cumsum(0)
        self.total = totals[-1]
        self.t += steps
        return totals if self.plan.unit is None else totals * self.plan.unit

    @property
    def traces(self) -> dict[str, Trace]:
        """The records so far."""
        return {name: Trace(*lists) for name, lists in self._watched.items()}

    def keep(self, which: Tensor) -> None:
        """Go on with some of the images only; ``which`` is a mask of shape (B,)."""
        self.x = self.x[which]
        self.static = {name: value[which] for name, value in self.static.items()}
        self.states = {
            name: type(state)(*(_like(part[which], part) for part in state))
            for name, state in self.states.items()
        }
        self.sums = {name: value[which] for name, value in self.sums.items()}
        self.sent = {name: value[which] for name, value in self.sent.items()}
        if self.total is not None:
            self.total = self.total[which]

    def _input(self, steps: int) -> Tensor:
        frames = [
            self.coding.frame(self.x, t, self.first) for t in range(self.t + 1, self.t + steps + 1)
        ]
        value = torch.stack(frames)  # (K, B, ...)
        if self.coding.spikes:
            self._count("input", value, whole=not self.coding.timed)
        return laid_out(value.flatten(0, 1), self.plan.dtype)  # (K·B, ...)

    def _every_step(self, name: str, value: Tensor, steps: int) -> Tensor:
        return value.repeat(steps, *[1] * (value.dim() - 1)) if name in self.static else value

    def _apply(self, step: Step, inputs: list[Tensor]) -> Tensor:
        if step.kind == "weighted":
            inputs = [value.to(step.node.tensors["weight"].dtype) for value in inputs]
        return step.function(step.node, *inputs)

    def _fire(self, node: Node, z: Tensor, steps: int) -> Tensor:
        plan, name = self.plan, node.name
        neuron, theta = plan.neurons[name], plan.thresholds[name]
        constant = node.inputs[0] in self.static
        state = self.states.get(name)
        if state is None:
            images = len(z) if constant else len(z) // steps
            state = neuron.initial(z[:images].to(plan.wide), theta)
            if plan.whole:
                state.potential.round_()
            self.states[name] = state
        z = _like(z, state.potential)
        current = z[None] if constant else z.unflatten(0, (steps, -1))  # (1 or K, B, ...)
        if name in plan.fresh and z.dtype == plan.dtype:
            out = z
        else:
            shape = (steps * current.shape[1], *z.shape[1:])
            order = torch.channels_last if channels_last(z) else torch.contiguous_format
            out = torch.empty(shape, dtype=plan.dtype, device=z.device, memory_format=order)
        rows = kernels.advance(
            neuron, state, current, theta, out.unflatten(0, (steps, -1)),
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

    def _pool(self, step: Step, message: Tensor, steps: int) -> Tensor:
        """Send max(S_t) − max(S_{t−1}), S_t the summed messages: exact for signed spikes too."""
        node, plan, name = step.node, self.plan, step.node.name
        pooled = plan.pooled.get(name)
        summed = message.to(plan.wide, copy=True)  # (K·B, ...)
        if pooled is not None and pooled.before is not None:
            summed = (summed / pooled.before).round_()  # counts: sums stay exact
        by_step = summed.unflatten(0, (steps, -1))
        if name in self.sums:
            by_step[0] += self.sums[name]
        for t in range(1, steps):
            by_step[t] += by_step[t - 1]
        self.sums[name] = by_step[-1].clone()
        largest = step.function(node, summed)
        change = largest.clone()
        change_by_step = change.unflatten(0, (steps, -1))
        change_by_step[1:] -= largest.unflatten(0, (steps, -1))[:-1]
        if name in self.sent:
            change_by_step[0] -= self.sent[name]
        self.sent[name] = largest.unflatten(0, (steps, -1))[-1].clone()
        if self.coding.spikes or name in plan.beyond:  # else its reader's analog input
            self._count(name, change_by_step, whole=pooled is not None)
        if pooled is not None and pooled.after is not None:
            change *= pooled.after
        return change.to(plan.dtype)

    def _count(self, name: str, coefficients: Tensor, whole: bool) -> None:
        if self.statistics is not None:
            fan_out = self.plan.fan_out(name, coefficients[0])
            self.statistics.add_rows(name, self.t, kernels.tallies(coefficients, fan_out, whole))


def _like(value: Tensor, like: Tensor) -> Tensor:
    """The value in the memory format of ``like``."""
    if channels_last(like):
        return value.contiguous(memory_format=torch.channels_last)
    return value.contiguous()
