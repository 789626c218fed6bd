"""What a simulation returned: answers after every step, events, costs, recorded potentials.

Definitions (one for the whole book; chapter *Rates, counts and ReLU*): an **event** is a neuron
that sent c ≠ 0 in a step, a −1 included; **spikes** are Σ|c|; SynOps are defined in
`snnlib.costs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from snnlib.simulation import costs

if TYPE_CHECKING:
    from snnlib.simulation.network import SpikingNetwork


class Decision(NamedTuple):
    """When each image was answered, and how.

    Attributes:
        step: first step (1 … T) at which the answer was confident, T if never; int64 (B,).
        prediction: the class answered then, int64 (B,).
    """

    step: Tensor
    prediction: Tensor


@dataclass
class Trace:
    """Recorded steps of one spiking layer; tensors of shape (T, B, ...) once the run is done.

    Attributes:
        potential: membrane potential after reset, in the ANN's units.
        coefficient: spike coefficients c.
    """

    potential: list[Tensor] | Tensor
    coefficient: list[Tensor] | Tensor

    @staticmethod
    def join(parts: Sequence[Trace]) -> Trace:
        """Stack the steps and put the chunks of images side by side."""
        return Trace(
            torch.cat([torch.stack(list(part.potential)) for part in parts], 1),
            torch.cat([torch.stack(list(part.coefficient)) for part in parts], 1),
        )


@dataclass(frozen=True)
class Layer:
    """Totals of one spiking layer over all images and steps of a run."""

    name: str
    threshold: Tensor
    neurons: int
    events: int
    spikes: int


class Statistics:
    """Counts of one run: per source and step, exact sums over the images.

    Columns: events, spikes, SynOps, SynOps with |c| > 1, Σ|c| × fan-out.
    """

    def __init__(self, net: SpikingNetwork, steps: int) -> None:
        self.table = {
            name: torch.zeros(steps, 5, dtype=torch.float64, device=net.device)
            for name in net.fan_outs
        }

    def add_rows(self, source: str, done: int, rows: Tensor) -> None:
        """Add the sums of steps ``done`` + 1, … (`snnlib.kernels.advance`), shape (K, 5)."""
        self.table[source][done : done + len(rows)] += rows

    def add(self, other: Statistics) -> None:
        """Add another chunk's counts."""
        for name, table in other.table.items():
            self.table[name] += table


class Run:
    """Result of ``net(x, steps)``.

    Attributes:
        logits: (1/t) × accumulated input of the last layer, shape (T, B, classes); with
            ``only_last`` (1, B, classes).
        steps: number of time steps T.
        trace: for every recorded layer a `Trace`.
    """

    def __init__(
        self,
        logits: Tensor,
        steps: int,
        net: SpikingNetwork,
        statistics: Statistics | None,
        trace: dict[str, Trace],
    ) -> None:
        self.logits, self.steps, self.trace = logits, steps, trace
        self._net, self._statistics = net, statistics

    def __len__(self) -> int:
        """Number of images."""
        return self.logits.shape[1]

    @property
    def predictions(self) -> Tensor:
        """Answer after every step: int64, shape (T, B)."""
        return self.logits.argmax(-1)

    def accuracy(self, labels: Tensor) -> Tensor:
        """Fraction of right answers after every step, shape (T,).

        Args:
            labels: int64, shape (B,).

        Raises:
            ValueError: the number of labels is not the number of images.
        """
        return self._agreement(labels, "labels")

    def agreement(self, ann_logits: Tensor) -> Tensor:
        """Fraction of images answered as the ANN does, after every step, shape (T,).

        Args:
            ann_logits: the ANN's logits, shape (B, classes).
        """
        return self._agreement(ann_logits.argmax(-1), "ann_logits")

    def _agreement(self, answers: Tensor, name: str) -> Tensor:
        if answers.shape != self.logits.shape[1:2]:
            raise ValueError(
                f"{name}: {tuple(answers.shape)} answers for {len(self)} images in this run"
            )
        same = self.predictions == answers.to(self.logits.device)
        return same.double().mean(1)

    @property
    def events(self) -> Tensor | None:
        """Cumulative events an image, all spiking layers, shape (T,); None with only_last."""
        return self._per_image(0)

    @property
    def spikes(self) -> Tensor | None:
        """Cumulative Σ|c| an image, all spiking layers, shape (T,); None with only_last."""
        return self._per_image(1)

    def _per_image(self, column: int) -> Tensor | None:
        if self._statistics is None:
            return None
        tables = [self._statistics.table[name] for name in self._net.graph.spiking]
        return torch.stack([table[:, column] for table in tables]).sum(0).cumsum(0) / len(self)

    @property
    def layers(self) -> list[Layer]:
        """Totals of every spiking layer over all images and steps; empty with only_last."""
        if self._statistics is None:
            return []
        neurons, thresholds = self._net.neurons, self._net.thresholds
        return [
            Layer(name, thresholds[name], neurons[name], *(int(v) for v in table[:, :2].sum(0)))
            for name, table in self._statistics.table.items()
            if name in neurons
        ]

    def synops(self) -> costs.SynOps | None:
        """Synaptic operations and energy (`snnlib.costs.SynOps`); None with only_last."""
        if self._statistics is None:
            return None
        summed = torch.stack(list(self._statistics.table.values())).sum(0).cumsum(0) / len(self)
        graph = self._net.graph
        spiking_input = bool(self._statistics.table["input"].any())
        first = 0 if spiking_input else costs.macs(graph, analog_only=True)
        every = first * torch.arange(1, self.steps + 1, device=summed.device)
        return costs.SynOps(
            summed[:, 2], summed[:, 3], summed[:, 4], first, every, costs.macs(graph)
        )

    def first_confident(self, confidence: float) -> Decision:
        """First step at which the softmax of the logits reaches ``confidence``, and its answer.

        Args:
            confidence: probability of the most likely class, above 0 and at most 1.

        Raises:
            ValueError: confidence out of range, or the run kept the last step only.
        """
        check_confidence(confidence)
        if len(self.logits) != self.steps:
            raise ValueError("first_confident needs every step: run without only_last=True")
        sure = self.logits.softmax(-1).amax(-1) >= confidence
        sure[-1] = True
        step = sure.int().argmax(0)
        answer = self.predictions.gather(0, step[None])[0]
        return Decision(step + 1, answer)


def check_confidence(confidence: float) -> None:
    """Raise ValueError unless ``confidence`` is a probability above 0."""
    if not 0 < confidence <= 1:
        raise ValueError(f"confidence={confidence!r} must be above 0 and at most 1")
