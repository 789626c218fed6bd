"""What a simulation returned: answers after every step, events, costs, recorded potentials.

Definitions (one for the whole book; chapter *Rates, counts and ReLU*): an **event** is a neuron
that sent c ≠ 0 in a step, a −1 included; **spikes** are Σ|c|; SynOps are defined in
`snnlib.simulation.costs`.

Classes are dimension 1 of the output (B, classes, ...), as everywhere in PyTorch. A dense output
has an answer at every position; an output of one value has no classes, so its results are an
error (`Run.error`) and no accuracy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from snnlib.graph.network import Network
from snnlib.simulation.coding import Coding
from snnlib.simulation.costs import Account, Sums, SynOps
from snnlib.simulation.early_exit import Decision, confident, first_sure


@dataclass
class Trace:
    """Recorded steps of one spiking layer; tensors of shape (T, B, ...) once the run is done."""

    potential: list[Tensor] | Tensor  # after reset, in the ANN's units (whole numbers: the layer's)
    coefficient: list[Tensor] | Tensor  # spike coefficients c

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
    """Counts of one run: per source and step, exact sums over the images (`costs.Sums`)."""

    def __init__(self, sources: Iterable[str], steps: int, device: torch.device) -> None:
        self.table = {
            name: torch.zeros(steps, len(Sums._fields), dtype=torch.float64, device=device)
            for name in sources
        }

    def add_rows(self, source: str, done: int, rows: Tensor) -> None:
        """Add the sums of steps ``done`` + 1, … (`snnlib.backend.updates.advance`), (K, 5)."""
        self.table[source][done : done + len(rows)] += rows

    def add(self, other: Statistics) -> None:
        """Add another chunk's counts."""
        for name, table in other.table.items():
            self.table[name] += table

    def of(self, *sources: str) -> Sums:
        """The sums of some sources together, shapes (T,)."""
        return Sums(*torch.stack([self.table[name] for name in sources]).sum(0).unbind(1))


def of_classes(logits: Tensor, what: str) -> Tensor:
    """The logits (T, B, classes, ...); ValueError naming ``what`` if they are of one value."""
    if logits.dim() < 3 or logits.shape[2] < 2:
        raise ValueError(f"{what}: the output has one value and so no classes; see run.logits")
    return logits


def right_answers(logits: Tensor, labels: Tensor) -> Tensor:
    """Fraction of right answers, (T,), as `Run.accuracy` documents and checks it."""
    labels, classes = torch.as_tensor(labels), of_classes(logits, "accuracy").shape[2]
    count, places = logits.shape[1], tuple(logits.shape[3:])
    if labels.shape != (count, *places):
        each = f", {places} each" if places else ""
        raise ValueError(f"labels: {tuple(labels.shape)} answers for {count} images here{each}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels are {labels.dtype}: pass the numbers of the classes")
    labels = labels.long()
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(
            f"labels lie in [{int(labels.min())}, {int(labels.max())}]; this network has the "
            f"classes 0 to {classes - 1}"
        )
    return shares(logits, labels.to(logits.device))


def predicted(logits: Tensor) -> Tensor:
    """Classes that logits (T, B, classes, ...) name, int64; −1 where they are not a number."""
    return logits.argmax(2).masked_fill(logits[:, :, 0].isnan(), -1)


def shares(logits: Tensor, answers: Tensor) -> Tensor:
    """Fraction of predicted classes that are the answers (B, ...), (T,); nan: there are none."""
    found = predicted(logits)
    same = (found == answers).double().masked_fill(found < 0, torch.nan)
    return same.flatten(1).mean(1)


def distance(logits: Tensor, outputs: Tensor) -> Tensor:
    """Root-mean-square difference from outputs (B, classes, ...) relative to theirs, (T,)."""
    outputs = outputs.double()
    square = (logits.double() - outputs).square().flatten(1).mean(1)  # (T,)
    return (square / outputs.square().mean().clamp_min(1e-60)).sqrt()


class Run:
    """Result of ``net(x, steps)``.

    Attributes:
        logits: what the read-out makes of the last layer's input: by default (1/t) × its sum;
            shape (T, B, classes), with ``only_last`` (1, B, classes). Not a number before the
            first step that the read-out counts (`snnlib.Mean`), when there is no answer yet.
        steps: number of time steps T.
        trace: for every recorded layer a `Trace`.
    """

    def __init__(
        self,
        logits: Tensor,
        steps: int,
        net: Network,
        account: Account,
        coding: Coding,
        statistics: Statistics | None = None,
        trace: Mapping[str, Trace] | None = None,
    ) -> None:
        self.logits, self.steps, self.trace = logits, steps, dict(trace or {})
        self._net, self._account, self._coding = net, account, coding
        self._statistics = statistics

    def __len__(self) -> int:
        """Number of images."""
        return self.logits.shape[1]

    def __repr__(self) -> str:
        shape = " × ".join(str(n) for n in self.logits.shape[2:])
        told = f"Run of {len(self)} images, {self.steps} steps: logits {shape} each"
        if self.events is not None and len(self):
            told += f", {float(self.events[-1]):,.0f} events an image"
        return f"<{told}{', recorded ' + ', '.join(self.trace) if self.trace else ''}>"

    @property
    def predictions(self) -> Tensor:
        """Answer after every step, int64 (T, B), or (T, B, ...) if dense; −1: there is none yet.

        Raises:
            ValueError: the output is one value, so there are no classes.
        """
        return predicted(of_classes(self.logits, "predictions"))

    def accuracy(self, labels: Tensor) -> Tensor:
        """Fraction of right answers after every step, shape (T,); nan where there are none yet.

        Args:
            labels: classes, int64 (B,), or (B, ...) for dense outputs: every position counts.

        Raises:
            ValueError: there is not one label for every answer, they are no whole numbers of the
                classes, or the output has no classes.
        """
        return right_answers(self.logits, labels)

    def agreement(self, ann_logits: Tensor) -> Tensor:
        """Fraction of images answered as the ANN does, shape (T,); nan where there are none yet.

        Args:
            ann_logits: the ANN's logits, shape (B, classes), or (B, classes, ...).

        Raises:
            ValueError: they have another shape, or the output has no classes.
        """
        wanted = of_classes(self.logits, "agreement").shape[1:]
        ann_logits = torch.as_tensor(ann_logits)
        if ann_logits.shape != wanted:
            raise ValueError(
                f"ann_logits: {tuple(ann_logits.shape)}, not {tuple(wanted)} as in this run"
            )
        return shares(self.logits, ann_logits.argmax(1).to(self.logits.device))

    def error(self, outputs: Tensor) -> Tensor:
        """Root-mean-square difference from some outputs, relative to theirs, shape (T,).

        Args:
            outputs: what is compared with: the ANN's or the wanted ones, shape (B, classes, ...).

        Raises:
            ValueError: they have another shape.
        """
        outputs = torch.as_tensor(outputs).to(self.logits.device)
        if outputs.shape != self.logits.shape[1:]:
            raise ValueError(
                f"outputs of shape {tuple(outputs.shape)} for {tuple(self.logits.shape[1:])} in "
                "this run"
            )
        return distance(self.logits, outputs)

    @property
    def events(self) -> Tensor | None:
        """Cumulative events an image, all spiking layers, shape (T,); None with only_last."""
        return None if self._statistics is None else self._per_image(self._spiking().events)

    @property
    def spikes(self) -> Tensor | None:
        """Cumulative Σ|c| an image, all spiking layers, shape (T,); None with only_last."""
        return None if self._statistics is None else self._per_image(self._spiking().spikes)

    def _spiking(self) -> Sums:
        assert self._statistics is not None
        return self._statistics.of(*self._net.graph.spiking)

    def _per_image(self, sums: Tensor) -> Tensor:
        return sums.cumsum(0) / len(self)

    @property
    def layers(self) -> list[Layer]:
        """Totals of every spiking layer over all images and steps; empty with only_last."""
        if self._statistics is None:
            return []
        found = []
        for name, size in self._net.sizes.items():
            sums, theta = self._statistics.of(name), self._net.thresholds[name]
            found.append(Layer(name, theta, size, int(sums.events.sum()), int(sums.spikes.sum())))
        return found

    def synops(self) -> SynOps | None:
        """Synaptic operations and energy (`snnlib.simulation.costs`); None with only_last."""
        if self._statistics is None:
            return None
        sums = Sums(*map(self._per_image, self._statistics.of(*self._statistics.table)))
        return self._account.synops(sums, self._coding.spikes, self._coding.constant)

    def first_confident(self, confidence: float) -> Decision:
        """First step at which the largest softmax reaches ``confidence`` (0…1), and its answer.

        Raises:
            ValueError: confidence out of range, the run kept the last step only, or the output
                is no vector of classes.
        """
        sure = confident(of_classes(self.logits, "first_confident"), confidence)  # (T, B)
        if len(self.logits) != self.steps:
            raise ValueError("first_confident needs every step: run without only_last=True")
        return first_sure(sure, self.predictions)
