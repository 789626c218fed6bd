"""``tandem``: a trained network whose weights learn to live with spikes, against free tricks.

The book's network, integrate-and-fire neurons, 4 and 8 steps. The baseline costs nothing: plain
conversion with 99 % thresholds, v0 = ½, and the late answer. From the same thresholds, weights are
tuned in tandem (`snnlib.learning.tandem`): all layers at once; layer by layer, all going on
learning; layer by layer, each frozen as it is inserted, but for the first (as in the paper's
release). All trainings see as many images. ``insertions`` is the saw-tooth: accuracy on the first
validation images before a layer was inserted, after, and when the rest had been trained.

``late`` leaves out first steps, chosen on all validation images. Intervals are paired, against the
ANN, on the test images.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypedDict

import torch
from torch import Tensor

from book.experiments import learning
from book.experiments.frame import Cell, Context, Experiment, Labeled, Rows
from book.experiments.goals import goal
from book.experiments.learning import Recipe
from book.experiments.material import material
from book.experiments.measure import INTERVAL, Interval, loss_intervals
from book.experiments.setting import Setting, Subject
from snnlib.conversion.balance import Percentile
from snnlib.learning.loop import Plan
from snnlib.learning.tandem import Tandem
from snnlib.neurons import IF
from snnlib.zoo.data import Split, to_float
from snnlib.zoo.models import Network
from snnlib.zoo.training import accuracy

STEPS = (8, 4)
IMAGES = 8_000
RECIPE = Recipe(Plan(epochs=1, batch=50, clip=5.0), rate=3e-4)
SETTING = Setting(IF(v0=0.5), Percentile(99.0))
METHODS = {
    "conversion": "conversion, 99 %, v0 = ½",
    "at-once": "tandem, all layers at once",
    "layers": "tandem, layer by layer",
    "frozen": "tandem, layer by layer, frozen",
}
LOOK = 1000  # validation images of the saw-tooth

InTime = Callable[[Tensor], Tensor]  # images to the last layer's values at every step (T, B, 10)


class Insertion(TypedDict):
    """Accuracy on validation images around the insertion of one spiking layer."""

    layer: str
    before: float
    inserted: float
    trained: float


class Reading(TypedDict):
    """The answer as the mean over steps ``start`` to T."""

    start: int
    validation_accuracy: float
    test_accuracy: float
    loss_interval: Interval


class TandemRun(Labeled):
    """One method at one number of steps."""

    method: str
    steps: int
    training_images: int
    seconds: float
    kept_megabytes: float
    ann_accuracy: float
    full: Reading  # all steps
    late: Reading
    spikes_per_neuron: float
    insertions: list[Insertion]


def cells(network: str) -> list[Cell]:
    """A cell a method and number of steps."""
    return [
        Cell(f"{network}/{method}/{steps}", partial(measure, network, method, steps))
        for steps in STEPS
        for method in METHODS
    ]


def measure(network: str, method: str, steps: int, context: Context) -> list[TandemRun]:
    """Convert, and tune where the method says so; then answer validation and test images."""
    subject = context.subject(network)
    net = subject.convert(SETTING)
    spiking = {"images": 0.0, "sent": 0.0}
    insertions: list[Insertion] = []
    images, seconds, held = 0, 0.0, 0.0
    if method == "conversion":

        def values(x: Tensor) -> Tensor:
            run = net(x, steps)
            assert run.spikes is not None
            spiking["images"] += len(x)
            spiking["sent"] += float(run.spikes[-1]) * len(x)
            return in_time(run.logits)
    else:
        assert isinstance(subject.ann, Network)
        tuned = Tandem(copy.deepcopy(subject.ann), net.balanced, steps)
        images, seconds, held = tune(tuned, method, subject, context, insertions)

        def values(x: Tensor) -> Tensor:
            found = tuned.over_time(x)[1]
            spiking["images"] += len(x)
            spiking["sent"] += tuned.spikes() * len(x)
            return found

    full, late, ann = readings(values, subject)
    return [
        {
            "model": network,
            "label": METHODS[method],
            "n": len(subject.test),
            "method": method,
            "steps": steps,
            "training_images": images,
            "seconds": seconds,
            "kept_megabytes": held,
            "ann_accuracy": ann,
            "full": full,
            "late": late,
            "spikes_per_neuron": spiking["sent"] / spiking["images"] / sum(net.sizes.values()),
            "insertions": insertions,
        }
    ]


def tune(
    tuned: Tandem, method: str, subject: Subject, context: Context, insertions: list[Insertion]
) -> tuple[int, float, float]:
    """Train by one of the methods; images seen, seconds, largest MB kept of a batch."""
    images = material(subject.name, context, IMAGES)
    look, name = images.validation[:LOOK], f"{subject.name}/{method}/{tuned.steps}"

    if method == "at-once":
        tuned.spiking = len(tuned.names)
        done = learning.train(tuned, images, RECIPE, 0, context, name)
        return done.images * done.epochs, done.seconds * done.epochs, done.kept
    share = len(images.fit) // len(tuned.names)
    seen, seconds, held = 0, 0.0, 0.0
    for i in range(len(tuned.names)):
        before = accuracy(tuned, look)
        layer = tuned.insert(freeze=method == "frozen" and i > 0)
        inserted = accuracy(tuned, look)
        # Other images for every insertion, as many in all as the other methods see.
        piece = replace(images, fit=images.fit[i * share : (i + 1) * share])
        done = learning.train(tuned, piece, RECIPE, i, context, f"{name}/{i}")
        seen, seconds = seen + done.images * done.epochs, seconds + done.seconds * done.epochs
        held, after = max(held, done.kept), accuracy(tuned, look)
        insertions.append(
            {"layer": layer, "before": before, "inserted": inserted, "trained": after}
        )
    return seen, seconds, held


def in_time(logits: Tensor) -> Tensor:
    """The last layer's values at every step from their means so far, (T, B, classes)."""
    steps = torch.arange(1, len(logits) + 1, device=logits.device).view(-1, 1, 1)
    sums = logits * steps
    return torch.cat([sums[:1], sums.diff(dim=0)])


def by_start(values: InTime, split: Split, device: torch.device) -> Tensor:
    """Answers of the means over steps s…T for every s, int64 (T, n)."""
    found = []
    with torch.no_grad():
        for part in split.images.split(200):
            each = values(to_float(part).to(device)).flip(0)  # (T, B, classes), last step first
            found.append(each.cumsum(0).flip(0).argmax(2).cpu())  # a mean's largest is the sum's
    return torch.cat(found, 1)


def readings(values: InTime, subject: Subject) -> tuple[Reading, Reading, float]:
    """From all steps, from the start that is best on validation, and the ANN's accuracy."""
    validation = by_start(values, subject.validation, subject.device)
    share = (validation == subject.validation.labels).double().mean(1)
    test = by_start(values, subject.test, subject.device)
    labels = subject.test.labels
    ann = learning.answers(subject.ann, subject.test)
    intervals = loss_intervals(test, ann, labels)
    made: list[Reading] = [
        {
            "start": s + 1,
            "validation_accuracy": float(share[s]),
            "test_accuracy": float((test[s] == labels).double().mean()),
            "loss_interval": intervals[s],
        }
        for s in (0, int(share.argmax()))
    ]
    return made[0], made[1], float((ann == labels).double().mean())


def conclude(sections: Rows) -> dict[str, Any]:
    """The goals beside what was found: the method that the validation images prefer."""
    goals = []
    for steps, most in ((8, 0.005), (4, 0.01)):
        rows: list[TandemRun] = [row for row in sections["runs"] if row["steps"] == steps]
        tuned = [row for row in rows if row["method"] != "conversion"]
        best = max(tuned, key=lambda row: row["full"]["validation_accuracy"], default=None)
        lost = best and learning.differ(best["ann_accuracy"], best["full"]["test_accuracy"])
        goals.append(goal(f"T = {steps}: below the ANN", lost, at_most=most))
    return {"interval": INTERVAL, "goals": goals}


EXPERIMENT = Experiment(
    name="tandem",
    summary="weights tuned in tandem with spiking layers, against plain conversion read late",
    networks=("fashion-cnn",),
    cells=cells,
    conclude=conclude,
)
