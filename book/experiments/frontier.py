"""``frontier``: accuracy against what it costs, for all neurons and the quantized ANN together.

Every setting after every number of steps is one point: accuracy on the validation images, and per
neuron and image the steps, the events, the bits and (per image) the energy. *Bits* are the least
that any code without memory could send: the entropy of a layer's spike coefficients in each step,
times its neurons, summed over layers and steps. Silence and addresses are in it, so a quantized ANN
is counted by the same rule, as one step. A point is in the Pareto set of a cost if no other point
is at least as accurate and costs less.

``least`` asks for the fewest events, and the fewest bits, at which spikes lose no more than 0.1
points against the ANN. It is chosen on the validation images and then measured once on all test
images. The best of many settings flatters itself: so half the loss is allowed there, and at least
99.5 % of the answers (as in ``allocation``) must be the ANN's, which is less a matter of luck than
how many of the others are right. Entropies and the histograms of |c| are those of the first few
images (``counted``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from book.experiments.allocation import AGREEMENT
from book.experiments.frame import Cell, Context, Experiment, Row
from book.experiments.measure import loss_intervals, quantized
from book.experiments.setting import Setting, Subject
from snnlib.conversion.balance import Percentile
from snnlib.graph.operations import Node, rectify
from snnlib.neurons import IF, Augmented, Ternary
from snnlib.simulation import costs
from snnlib.simulation.network import SpikingNetwork
from snnlib.zoo import models
from snnlib.zoo.data import Split, to_float
from snnlib.zoo.evaluate import LABELS, evaluate

COUNTED_IMAGES, COUNTED_PART = 200, 10
CAP = 15
LARGEST = 1023  # |c| that is counted as such; what is larger (never seen) counts as this
LOSS = 0.0005  # accuracy that the points of `least` may cost on validation images
COSTS = ("steps", "events_per_neuron", "bits_per_neuron", "energy_nj_per_image")
LEAST = ("events_per_neuron", "bits_per_neuron")
QUANTIZED_LEVELS = (1, 2, 3, 4, 6, 8, 15)

SETTINGS: dict[str, tuple[Setting, int]] = {
    "if": (Setting(IF()), 64),
    "ternary": (Setting(Ternary(negative=0.0)), 32),
    **{
        f"augmented-{levels}-{negative:g}": (
            Setting(Augmented(levels=levels, negative=negative, cap=CAP)), 8
        )
        for levels in (1, 2, 4, 8, 12)
        for negative in (0.0, 1.0)
    },
    **{
        f"augmented-{levels}-channel": (
            Setting(Augmented(levels=levels, negative=0.0, cap=CAP), per_channel=True), 8
        )
        for levels in (2, 4, 8, 12)
    },
    **{  # as good as real numbers in one step, at the price of large |c|
        f"fine-{levels}": (Setting(Augmented(levels=levels, negative=0.0)), 2)
        for levels in (16, 32, 64)
    },
}  # fmt: skip
STEPS_SLOW = 4  # of augmented neurons on slow networks: the cheap points come early


@dataclass
class Counts:
    """How often each spike coefficient was sent: per layer a table (steps, 2·LARGEST + 1)."""

    images: int
    neurons: dict[str, int]
    tables: dict[str, Tensor] = field(default_factory=dict)

    def add(self, layer: str, step: int, steps: int, coefficient: Tensor) -> None:
        """Count one layer's coefficients in one step (1, 2, …)."""
        sizes = 2 * LARGEST + 1
        table = self.tables.setdefault(layer, torch.zeros(steps, sizes, dtype=torch.int64))
        index = coefficient.flatten().long().cpu().clamp(-LARGEST, LARGEST) + LARGEST
        table[step - 1] += torch.bincount(index, minlength=sizes)

    def bits(self) -> Tensor:
        """Cumulative entropy a neuron and image, shape (T,)."""
        neurons = sum(self.neurons.values())
        each = [entropy(table) * self.neurons[name] for name, table in self.tables.items()]
        return torch.stack(each).sum(0).cumsum(0) / neurons

    def sizes(self) -> list[int]:
        """How many events had |c| = 1, 2, … over all layers, steps and images; 15 or more sizes."""
        total = torch.stack(list(self.tables.values())).sum((0, 1))
        sizes = total[LARGEST + 1 :] + total[:LARGEST].flip(0)
        seen = int(sizes.nonzero().max()) + 1 if sizes.any() else 0
        return sizes[: max(CAP, seen)].tolist()


def entropy(counts: Tensor) -> Tensor:
    """Entropy in bits of each row of counts, shape (T,)."""
    share = counts.double() / counts.sum(1, keepdim=True).clamp_min(1)
    return -(share * share.clamp_min(1e-300).log2()).sum(1)


def count(net: SpikingNetwork, split: Split, steps: int) -> Counts:
    """The coefficients of all spiking layers over the first images."""
    found = Counts(min(len(split), COUNTED_IMAGES), net.neurons)
    for start in range(0, found.images, COUNTED_PART):
        end = min(start + COUNTED_PART, found.images)
        x = to_float(split.images[start:end]).to(net.device)
        run = net(x, steps, record=tuple(net.graph.spiking))
        for layer, trace in run.trace.items():
            for step in range(1, steps + 1):
                found.add(layer, step, steps, trace.coefficient[step - 1])
    return found


def cells(network: str) -> list[Cell]:
    """A cell a setting, one for the quantized ANNs, and one that finds the Pareto sets."""
    found = [Cell(f"{network}/{name}", partial(measure, network, name)) for name in SETTINGS]
    found.append(Cell(f"{network}/ann", partial(quantized_anns, network), "anns"))
    found.append(Cell(f"{network}/pareto", partial(pareto, network), "pareto"))
    return [*found, Cell(f"{network}/least", partial(least, network), "least")]


def measure(network: str, name: str, context: Context) -> list[Row]:
    """One setting: its points, one a step."""
    subject = context.subject(network)
    net, steps = _network(subject, name), SETTINGS[name][1]
    if subject.slow and net.neuron.kind == "augmented":
        steps = min(steps, STEPS_SLOW)
    return [_points(net, subject, name, subject.validation, steps) | {"images": "validation"}]


def _network(subject: Subject, name: str) -> SpikingNetwork:
    return subject.affordably(subject.convert(SETTINGS[name][0]))


def _points(net: SpikingNetwork, subject: Subject, name: str, split: Split, steps: int) -> Row:
    found = evaluate(net, subject.ann, split, steps)
    assert found.events is not None
    assert found.synops is not None
    counts = count(net, split, steps)
    neurons = sum(net.neurons.values())
    return {
        "model": subject.name,
        "label": LABELS[net.neuron.kind],
        "neuron": net.neuron.kind,
        "levels": net.neuron.levels,
        "negative": getattr(net.neuron, "negative", None),
        "n": found.n,
        "counted": counts.images,
        "setting": SETTINGS[name][0].record(),
        "dtype": str(net.dtype).removeprefix("torch."),
        "ann_accuracy": found.ann_accuracy,
        "accuracy": found.accuracy,
        "agreement": found.agreement,
        "steps": list(range(1, steps + 1)),
        "events_per_neuron": [value / neurons for value in found.events],
        "bits_per_neuron": counts.bits().tolist(),
        "energy_nj_per_image": found.synops.energy().tolist(),
        "events_by_size": counts.sizes(),
        "loss_interval": loss_intervals(found.answers, found.ann_answers, split.labels),
    }


def quantized_anns(network: str, context: Context) -> list[Row]:
    """The ANN itself, and with activations rounded to so many levels, as points of one step.

    Energy of all of them is that of the ANN: multiplications stay multiplications.
    """
    subject = context.subject(network)
    energy = costs.macs(subject.convert(Setting(IF())).graph) * costs.MAC_PICOJOULE / 1000
    rows: list[Row] = []
    for levels in (*QUANTIZED_LEVELS, None):
        neuron = Augmented(levels=levels or 1, negative=0.0, cap=levels or CAP)
        net = subject.convert(Setting(neuron, Percentile(99.9)))
        right, events, bits = _one_pass(net, subject, levels is not None)
        rows.append(
            {
                "model": network,
                "label": "ANN" if levels is None else f"ANN, {levels} levels",
                "levels": levels,
                "n": len(subject.validation),
                "images": "validation",
                "accuracy": [right],
                "steps": [1],
                "events_per_neuron": [events],
                "bits_per_neuron": [bits],
                "energy_nj_per_image": [energy],
            }
        )
    return rows


def _one_pass(net: SpikingNetwork, subject: Subject, rounded: bool) -> tuple[float, float, float]:
    """Accuracy; share of neurons that are not zero; bits a neuron (32 where nothing is rounded)."""
    right, split = 0, subject.validation
    for start in range(0, len(split), 500):
        piece = split[start : start + 500]
        x = to_float(piece.images).to(net.device)
        logits = quantized(net, x, 1) if rounded else net.ann(x)
        right += int((logits.argmax(1).cpu() == piece.labels).sum())
    images = to_float(split.images[:COUNTED_IMAGES]).to(net.device)
    counts, active, thresholds = Counts(len(images), net.neurons), 0, net.thresholds
    most = getattr(net.neuron, "cap", None) or CAP

    def activation(node: Node, z: Tensor) -> Tensor:
        nonlocal active
        theta = thresholds[node.name]
        sent = rectify(node, z) / theta
        if rounded:
            sent = torch.floor(sent + 0.5).clamp_max(most)
            counts.add(node.name, 1, 1, sent)
        active += int((sent > 0).sum())
        return sent * theta

    with torch.no_grad():
        for part in images.split(COUNTED_PART):
            net.graph.evaluate(part, activation=activation)
    neurons = sum(net.neurons.values())
    bits = float(counts.bits()[0]) if rounded else 32.0
    return right / len(split), active / neurons / len(images), bits


def pareto(network: str, context: Context) -> list[Row]:
    """For every cost the points that no other point beats, cheapest first."""
    points = _all_points(network, context, (*SETTINGS, "ann"))
    return [{"model": network, "cost": cost, "points": best(points, cost)} for cost in COSTS]


def least(network: str, context: Context) -> list[Row]:
    """The spiking points with the fewest events, and bits, that lose little: on test images."""
    subject = context.subject(network)
    found: dict[tuple[str, int], Row] = {}  # both costs may choose the same
    rows: list[Row] = []
    for cost, choice in cheapest(network, context).items():
        name, steps = key = choice["setting"], choice["steps"]
        if key not in found:
            found[key] = _points(_network(subject, name), subject, name, subject.test, steps)
        rows.append({"cost": cost, "chosen": choice, **found[key]})
    return rows


def cheapest(network: str, context: Context) -> dict[str, dict[str, Any]]:
    """For events and bits the cheapest spiking point that holds; none where none does."""
    ann = context.rows[f"{network}/ann"][-1]["accuracy"][0]
    points = _all_points(network, context, SETTINGS)
    close = [
        point
        for point in points
        if point["accuracy"] >= ann - LOSS - 1e-9 and point["agreement"] >= AGREEMENT - 1e-9
    ]
    if not close:
        return {}
    return {cost: min(close, key=lambda point: point[cost]) for cost in LEAST}


def _all_points(network: str, context: Context, names: Iterable[str]) -> list[dict[str, Any]]:
    points: list[dict[str, Any]] = []
    for name in names:
        for row in context.rows[f"{network}/{name}"]:
            about = {"label": row["label"], "setting": name, "dtype": row.get("dtype", "float32")}
            for i, accuracy in enumerate(row["accuracy"]):
                costs = {cost: row[cost][i] for cost in COSTS}
                if "agreement" in row:  # of spiking networks
                    costs = {"agreement": row["agreement"][i], **costs}
                points.append({**about, "accuracy": accuracy, **costs})
    return points


def best(points: Sequence[dict[str, Any]], cost: str) -> list[dict[str, Any]]:
    """The points of which no other is at least as accurate and cheaper, or as cheap and better."""
    found: list[dict[str, Any]] = []
    for point in sorted(points, key=lambda p: (p[cost], -p["accuracy"])):
        if not found or point["accuracy"] > found[-1]["accuracy"]:
            found.append(point)
    return found


EXPERIMENT = Experiment(
    name="frontier",
    summary="accuracy against steps, events, bits and energy, quantized ANNs beside; Pareto sets",
    networks=models.NAMES,
    cells=cells,
    version=3,
)
