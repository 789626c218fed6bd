"""``frontier``: accuracy against what it costs, for all neurons and the quantized ANN together.

Every setting after every number of steps is one point: accuracy on the validation images, and per
neuron and image the steps, the events, the bits and (per image) the energy in both accounts of
`snnlib.simulation.costs`. *Bits* are the least that any code without memory could send: the entropy
of a layer's spike coefficients in each step, times its neurons, summed over layers and steps.
Silence and addresses are in it, so a quantized ANN is counted by the same rule, as one step. A
point is in the Pareto set of a cost if no other point is at least as accurate and costs no more,
and is better in one of the two.

No baseline stands here without what it can have for nothing. IF and TerMapping have two settings:
one threshold a layer, and the best one of ``accuracy-over-time``. Each is read from step 1 and with
a late answer (``late-answer``), whose start is chosen on training images, for each number of steps.
The exact ANN stands here with all its multiplications and with those alone whose input is not zero;
of the rounded ones only the latter are counted.

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
from typing import Literal, NamedTuple, NotRequired, TypedDict, cast, final, get_args

import torch
from torch import Tensor

from book.experiments.activity import count as count_work
from book.experiments.allocation import AGREEMENT
from book.experiments.frame import Cell, Context, Experiment, Labeled, Row
from book.experiments.late_answer import (
    METHODS,
    Reading,
    answered,
    best_starts,
    from_starts,
    reading,
    setting_of,
)
from book.experiments.measure import IF_STEPS, STEPS, quantized
from book.experiments.setting import Setting, SettingRecord, Subject
from snnlib.conversion.balance import Percentile
from snnlib.graph.operations import Node, rectify
from snnlib.neurons import IF, Augmented, Ternary
from snnlib.simulation import costs
from snnlib.simulation.network import SpikingNetwork
from snnlib.zoo import models
from snnlib.zoo.data import Split, to_float
from snnlib.zoo.evaluate import LABELS

COUNTED_IMAGES, COUNTED_PART = 200, 10
CAP = 15
LARGEST = 1023  # |c| that is counted as such; what is larger (never seen) counts as this
LOSS = 0.0005  # accuracy that the points of `least` may cost on validation images
Cost = Literal[
    "steps", "events_per_neuron", "bits_per_neuron", "energy_nj_per_image",
    "literature_energy_nj_per_image",
]  # fmt: skip
COSTS: tuple[Cost, ...] = get_args(Cost)
LEAST: tuple[Cost, ...] = ("events_per_neuron", "bits_per_neuron")
QUANTIZED_LEVELS = (1, 2, 3, 4, 6, 8, 15)

# With the steps of a run. None: the best setting of the network in ``accuracy-over-time``.
SETTINGS: dict[str, tuple[Setting | None, int]] = {
    "if-layer": (Setting(IF()), IF_STEPS),
    "if-best": (None, IF_STEPS),
    "ternary-layer": (Setting(Ternary(negative=0.0)), STEPS),
    "ternary-best": (None, STEPS),
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
START_IMAGES = 500  # training images that choose the first step of late answers
LATE = ", late answer"


class Costs(TypedDict):
    """What a setting's points cost, one entry a point; costs are sums over the steps so far."""

    steps: list[int]
    events_per_neuron: list[float]
    bits_per_neuron: list[float]
    energy_nj_per_image: list[float]
    literature_energy_nj_per_image: list[float]


class FrontierRun(Labeled, Costs, Reading):
    """One reading of one setting: a point a step."""

    neuron: str
    levels: int
    negative: float | None
    counted: int  # images whose bits and |c| were counted
    setting: SettingRecord
    dtype: str
    ann_accuracy: float
    events_by_size: list[int]  # with |c| = 1, 2, …
    start: NotRequired[list[int]]  # of late answers: the first step that counts, one a step
    images: NotRequired[str]  # validation; test images where it is not said


@final
class AnnPoint(Labeled, Costs):
    """The ANN, rounded or not, with all its products or without those of zeros: lists of one."""

    levels: int | None  # None: not rounded
    images: str
    accuracy: list[float]


class Point(TypedDict):
    """One point of a setting."""

    label: str
    setting: str  # its name in `SETTINGS`, or ann
    dtype: str
    accuracy: float
    agreement: NotRequired[float]  # of spiking networks, with the ANN
    steps: int
    events_per_neuron: float
    bits_per_neuron: float
    energy_nj_per_image: float
    literature_energy_nj_per_image: float


class ParetoSet(Row):
    """The points that no other beats by one cost, cheapest first."""

    cost: Cost
    points: list[Point]


class Least(FrontierRun):
    """The setting of the point with the least cost that loses little, on test images."""

    cost: Cost
    chosen: Point  # on validation images


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
    images = split.images[:COUNTED_IMAGES]
    found = Counts(len(images), net.neurons)
    for part in images.split(COUNTED_PART):
        run = net(to_float(part).to(net.device), steps, record=tuple(net.graph.spiking))
        for layer, trace in run.trace.items():
            for step in range(1, steps + 1):
                found.add(layer, step, steps, trace.coefficient[step - 1])
    return found


def cells(network: str) -> list[Cell]:
    """A cell a setting, one for the quantized ANNs, and one that finds the Pareto sets."""
    found = [Cell(f"{network}/{name}", partial(measure, network, name)) for name in names(network)]
    found.append(Cell(f"{network}/ann", partial(quantized_anns, network), "anns"))
    found.append(Cell(f"{network}/pareto", partial(pareto, network), "pareto"))
    return [*found, Cell(f"{network}/least", partial(least, network), "least")]


def names(network: str) -> list[str]:
    """The settings of a network: on CIFAR-10, whose runs are the longest, the likelier ones.

    Left out there are baselines with one threshold a layer, which is no network's best, and
    AugMapping with as large a negative threshold, which the Pareto sets hardly hold elsewhere.
    """
    likelier = models.dataset_of(network) == "cifar10"
    return [name for name in SETTINGS if not (likelier and name.endswith(("-layer", "-1")))]


def measure(network: str, name: str, context: Context) -> list[FrontierRun]:
    """One setting: its points, one a step, of each reading."""
    subject = context.subject(network)
    setting, steps = _setting(network, name)
    if subject.slow and setting.neuron.kind == "augmented":
        steps = min(steps, STEPS_SLOW)
    rows = _run(subject, setting, subject.validation, steps)
    return [{**row, "images": "validation"} for row in rows]


def _setting(network: str, name: str) -> tuple[Setting, int]:
    setting, steps = SETTINGS[name]
    if setting is None:
        setting = setting_of(network, METHODS[name.replace("-", "/")])
    return setting, steps


def _run(subject: Subject, setting: Setting, split: Split, steps: int) -> list[FrontierRun]:
    """The answers from step 1; of IF and TerMapping the late ones too."""
    net = subject.affordably(subject.convert(setting))
    found = answered(net, subject.ann, split, steps)
    counts = count(net, split, steps)
    neurons = sum(net.neurons.values())
    row: FrontierRun = {
        "model": subject.name,
        "label": LABELS[net.neuron.kind],
        "neuron": net.neuron.kind,
        "levels": net.neuron.levels,
        "negative": getattr(net.neuron, "negative", None),
        "n": len(split),
        "counted": counts.images,
        "setting": setting.record(),
        "dtype": str(net.dtype).removeprefix("torch."),
        "ann_accuracy": float((found.ann == split.labels).double().mean()),
        **reading(found.logits.argmax(2), found, split),
        "steps": list(range(1, steps + 1)),
        "events_per_neuron": [value / neurons for value in found.events],
        "bits_per_neuron": counts.bits().tolist(),
        "energy_nj_per_image": found.energy,
        "literature_energy_nj_per_image": found.literature_energy,
        "events_by_size": counts.sizes(),
    }
    if net.neuron.kind == "augmented":
        return [row]
    seen = answered(net, subject.ann, subject.training[:START_IMAGES], steps)
    starts = best_starts(seen.logits, seen.ann)
    late = reading(from_starts(found.logits, starts), found, split)
    return [row, {**row, "label": row["label"] + LATE, "start": starts, **late}]


def quantized_anns(network: str, context: Context) -> list[AnnPoint]:
    """The ANN itself, and with activations rounded to so many levels, as points of one step.

    Multiplications stay multiplications, so both accounts agree. Those of zeros are skipped, except
    in the last row, the ANN as it is.
    """
    subject = context.subject(network)
    every = costs.macs(subject.convert(Setting(IF())).graph)
    rows: list[AnnPoint] = []
    for levels in (*QUANTIZED_LEVELS, None):
        neuron = Augmented(levels=levels or 1, negative=0.0, cap=levels or CAP)
        net = subject.convert(Setting(neuron, Percentile(99.9)))
        label = "ANN, zeros skipped" if levels is None else f"ANN, {levels} levels"
        found = _one_pass(net, subject, levels is not None)
        rows.append(_ann_point(subject, label, levels, found))
    rows.append(_ann_point(subject, "ANN", None, found._replace(macs=every)))
    return rows


class _Pass(NamedTuple):
    """What one pass of an ANN gave and took."""

    accuracy: float
    active: float  # share of the neurons that are not zero
    bits: float  # a neuron; 32 where nothing is rounded
    macs: float  # an image


def _ann_point(subject: Subject, label: str, levels: int | None, found: _Pass) -> AnnPoint:
    energy = found.macs * costs.MAC_PICOJOULE / 1000
    return {
        "model": subject.name,
        "label": label,
        "levels": levels,
        "n": len(subject.validation),
        "images": "validation",
        "accuracy": [found.accuracy],
        "steps": [1],
        "events_per_neuron": [found.active],
        "bits_per_neuron": [found.bits],
        "energy_nj_per_image": [energy],
        "literature_energy_nj_per_image": [energy],
    }


def _one_pass(net: SpikingNetwork, subject: Subject, rounded: bool) -> _Pass:
    """Accuracy on the validation images, costs on the first of them; zeros are skipped."""
    right, split = 0, subject.validation
    for start in range(0, len(split), 500):
        piece = split[start : start + 500]
        x = to_float(piece.images).to(net.device)
        logits = quantized(net, x, 1) if rounded else net.ann(x)
        right += int((logits.argmax(1).cpu() == piece.labels).sum())
    images = to_float(split.images[:COUNTED_IMAGES]).to(net.device)
    counts, thresholds = Counts(len(images), net.neurons), net.thresholds
    most = getattr(net.neuron, "cap", None) or CAP

    def activation(node: Node, z: Tensor) -> Tensor:
        if not rounded:
            return rectify(node, z)
        theta = thresholds[node.name]
        sent = torch.floor(rectify(node, z) / theta + 0.5).clamp_max(most)
        counts.add(node.name, 1, 1, sent)
        return sent * theta

    active, work = 0.0, 0.0
    for part in images.split(COUNTED_PART):
        found, macs = count_work(net.graph, part, activation)
        active, work = active + sum(found.values()), work + macs
    return _Pass(
        accuracy=right / len(split),
        active=active / sum(net.neurons.values()) / len(images),
        bits=float(counts.bits()[0]) if rounded else 32.0,
        macs=costs.macs(net.graph, analog_only=True) + work / len(images),
    )


def pareto(network: str, context: Context) -> list[ParetoSet]:
    """For every cost the points that no other point beats, cheapest first."""
    points = _all_points(network, context, (*names(network), "ann"))
    return [{"model": network, "cost": cost, "points": best(points, cost)} for cost in COSTS]


def least(network: str, context: Context) -> list[Least]:
    """The spiking points with the fewest events, and bits, that lose little: on test images."""
    subject = context.subject(network)
    found: dict[tuple[str, int], list[FrontierRun]] = {}  # both costs may choose the same
    rows: list[Least] = []
    for cost, choice in cheapest(network, context).items():
        name, steps = key = choice["setting"], choice["steps"]
        if key not in found:
            setting, _ = _setting(network, name)
            found[key] = _run(subject, setting, subject.test, steps)
        (chosen,) = (row for row in found[key] if row["label"] == choice["label"])
        rows.append({"cost": cost, "chosen": choice, **chosen})
    return rows


def cheapest(network: str, context: Context) -> dict[Cost, Point]:
    """For events and bits the cheapest spiking point that holds; none where none does."""
    rows: list[AnnPoint] = context.rows[f"{network}/ann"]
    (ann,) = rows[-1]["accuracy"]
    points = _all_points(network, context, names(network))
    close = [
        point
        for point in points
        if point["accuracy"] >= ann - LOSS - 1e-9 and point["agreement"] >= AGREEMENT - 1e-9
    ]
    return {cost: min(close, key=lambda point: point[cost]) for cost in LEAST if close}


def _all_points(network: str, context: Context, chosen: Iterable[str]) -> list[Point]:
    points: list[Point] = []
    for name in chosen:
        for row in context.rows[f"{network}/{name}"]:
            about = {"label": row["label"], "setting": name, "dtype": row.get("dtype", "float32")}
            for i, accuracy in enumerate(row["accuracy"]):
                point = {**about, "accuracy": accuracy}
                if "agreement" in row:  # of spiking networks
                    point["agreement"] = row["agreement"][i]
                point |= {cost: row[cost][i] for cost in COSTS}
                points.append(cast("Point", point))
    return points


def best(points: Sequence[Point], cost: Cost) -> list[Point]:
    """The points of which no other is at least as accurate and cheaper, or as cheap and better."""
    found: list[Point] = []
    for point in sorted(points, key=lambda p: (p[cost], -p["accuracy"])):
        if not found or point["accuracy"] > found[-1]["accuracy"]:
            found.append(point)
    return found


EXPERIMENT = Experiment(
    name="frontier",
    summary="accuracy against steps, events, bits and energy, quantized ANNs beside; Pareto sets",
    networks=models.NAMES,
    cells=cells,
    version=5,
)
