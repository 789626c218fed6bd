"""``late-answer``: what an answer gains that leaves out the first steps of the same run.

The output layer's mean over all steps contains the start-up of the network, in which deep layers
wait for input. The mean over steps s … t of the same run costs no step and no event more. For every
number of steps t the start s is chosen on validation images: the one with which most answers are
the ANN's, the earliest of those. Both readings of the test run are stored, with intervals: from
step 1 (``accuracy``) and from the chosen start (``late``).

IF, TerMapping and AugMapping stand in the best settings of ``accuracy-over-time``, so that its
baselines have their late answer beside them; and IF and TerMapping once more as first described:
from zero potential, and with a negative threshold as large as the positive one.

Source: Hwang et al., Frontiers in Neuroscience 15:629000, 2021 (delayed evaluation); that the start
depends on t and is chosen on validation images is ours.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, NotRequired

import torch
from torch import Tensor

from book.experiments.frame import FOLDER, Cell, Context, Experiment, ExperimentError, Labeled
from book.experiments.measure import (
    IF_STEPS,
    INTERVAL,
    STEPS,
    Accuracies,
    Interval,
    loss_intervals,
)
from book.experiments.setting import Setting, SettingRecord, Subject
from snnlib.simulation.network import SpikingNetwork
from snnlib.zoo import models
from snnlib.zoo.data import Split
from snnlib.zoo.evaluate import LABELS

DEEP_AUGMENTED_STEPS = 8  # AugMapping is settled long before
VALIDATION_IMAGES, DEEP_VALIDATION_IMAGES = 1000, 500
CONTRAST_IMAGES, DEEP_CONTRAST_IMAGES = 2000, 500
BEST = FOLDER / "accuracy-over-time.json"
_PART = 250  # images held as floating point at a time


@dataclass(frozen=True)
class Method:
    """One method of the experiment.

    Attributes:
        kind: of the neuron.
        form: the label's second half.
        change: of the neuron of the best setting; without any the method is a baseline of
            ``accuracy-over-time``, with one it stands here for contrast.
    """

    kind: str
    form: str
    change: Mapping[str, float] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """As in tables and figures."""
        return f"{LABELS[self.kind]}, {self.form}"

    @property
    def baseline(self) -> bool:
        """Whether it is judged on all images, and not on the first of them."""
        return not self.change and self.kind != "augmented"

    def steps(self, deep: bool) -> int:
        """As many as ``accuracy-over-time`` runs; AugMapping fewer on deep networks."""
        if self.kind == "if":
            return IF_STEPS
        return DEEP_AUGMENTED_STEPS if deep and self.kind == "augmented" else STEPS


METHODS = {
    "if/best": Method("if", "best"),
    "if/zero": Method("if", "v0 0", {"v0": 0.0}),
    "ternary/best": Method("ternary", "best"),
    "ternary/one": Method("ternary", "negative 1", {"negative": 1.0}),
    "augmented/best": Method("augmented", "best"),
}


class Reading(Accuracies):
    """What depends on how a run is read; lists have one entry a step."""

    loss_interval: list[Interval]  # fractions


class Late(Reading):
    """The same run, answered from the start chosen for each number of steps.

    ``gain_interval`` is the 95 % interval of its accuracy minus that from step 1, on the same
    images.
    """

    start: list[int]  # first step that counts
    gain_interval: list[Interval]


class LateRun(Labeled, Reading):
    """One run over test images; lists have one entry a step."""

    cell: NotRequired[str]
    neuron: str  # its kind
    setting: SettingRecord
    levels: int | None
    negative: float | None
    v0: float
    balance: str
    percentile: float | None
    dtype: str
    steps: int
    validation_images: int
    neurons: int  # spiking ones
    ann_accuracy: float
    late: Late
    events_per_image: list[float]  # so far, the same for both readings


class Answers(NamedTuple):
    """What a network and its ANN answered to a split.

    Attributes:
        logits: running means of the output's input, shape (T, n, classes).
        ann: classes that the ANN answers, int64 (n,).
        events: so far, an image, after every step.
        energy: so far, nanojoules an image, in this book's account (`snnlib.simulation.costs`).
        literature_energy: the same in the literature's.
    """

    logits: Tensor
    ann: Tensor
    events: list[float]
    energy: list[float]
    literature_energy: list[float]


def sums(logits: Tensor) -> Tensor:
    """Summed input of the output before step 1, 2, … and after step T.

    Args:
        logits: running means m_1 … m_T, shape (T, n, classes).

    Returns:
        0, m_1, 2 m_2, …, T m_T in float64, shape (T + 1, n, classes). The mean over steps s … t is
        (sums[t] − sums[s − 1]) / (t − s + 1), without another run.
    """
    t = torch.arange(1, len(logits) + 1, dtype=torch.float64, device=logits.device)
    return torch.cat([torch.zeros_like(logits[:1], dtype=torch.float64),
                      logits.double() * t[:, None, None]])  # fmt: skip


def best_starts(logits: Tensor, answers: Tensor) -> list[int]:
    """For each number of steps t the start s from which most answers are those asked for.

    Args:
        logits: running means on validation images, shape (T, n, classes).
        answers: classes asked for, int64 (n,).

    Returns:
        s for t = 1 … T, from 1 to t; the earliest where several are as good, so that step 1 stays
        where nothing is gained.
    """
    total, found = sums(logits), []
    for t in range(1, len(logits) + 1):
        late = (total[t] - total[:t]).argmax(2)  # (t, n): from step 1 … t; a mean needs no division
        right = (late == answers).sum(1)
        found.append(1 + int((right == right.max()).int().argmax()))  # the first of the largest
    return found


def from_starts(logits: Tensor, starts: list[int]) -> Tensor:
    """Answers after every step t, from step ``starts[t − 1]``: classes, int64 (T, n)."""
    total = sums(logits)
    return torch.stack([
        (total[t] - total[start - 1]).argmax(1) for t, start in enumerate(starts, 1)
    ])  # fmt: skip


def setting_of(network: str, method: Method) -> Setting:
    """The setting of a method: the best one that ``accuracy-over-time`` chose, or near it.

    Raises:
        ExperimentError: that experiment is not stored for the network.
    """
    stored = json.loads(BEST.read_text(encoding="utf-8"))["runs"] if BEST.is_file() else []
    asked = (network, method.kind, "best")
    rows = [row for row in stored if (row["model"], row["neuron"], row["form"]) == asked]
    if not rows:
        raise ExperimentError(
            f"{BEST.name} holds no best setting of {method.kind} for {network}: run "
            "snnlib experiment accuracy-over-time first"
        )
    best = Setting.of(rows[0]["setting"])
    if not method.change:
        return best
    neuron: Any = best.neuron
    # A correction of the biases is for one neuron.
    return replace(best, neuron=replace(neuron, **method.change), bias_steps=None)


def answered(
    net: SpikingNetwork, ann: Callable[[Tensor], Tensor], split: Split, steps: int
) -> Answers:
    """Run a network and its ANN over a split, and keep what the output has summed."""
    logits, answers, costs = [], [], torch.zeros(3, steps, dtype=torch.float64)
    for start in range(0, len(split), _PART):
        piece = split[start : start + _PART]
        x = piece.floats().to(net.device)
        with torch.no_grad():
            answers.append(ann(x).argmax(1).cpu())
        run = net(x.to(net.dtype), steps)
        logits.append(run.logits.cpu())
        synops = run.synops()
        assert run.events is not None
        assert synops is not None
        spent = run.events, synops.energy(), synops.literature_energy
        costs += torch.stack(spent).double().cpu() * len(piece)
    return Answers(torch.cat(logits, 1), torch.cat(answers), *(costs / len(split)).tolist())


def images(subject: Subject, method: Method) -> tuple[Split, Split]:
    """Validation images that choose, and test images that judge; all of them the baselines."""
    chosen = DEEP_VALIDATION_IMAGES if subject.deep else VALIDATION_IMAGES
    contrast = DEEP_CONTRAST_IMAGES if subject.deep else CONTRAST_IMAGES
    test = subject.test if method.baseline else subject.test[:contrast]
    return subject.validation[:chosen], test


def measure(network: str, name: str, context: Context) -> list[LateRun]:
    """Starts from validation images, then both readings of one run over test images."""
    subject, method = context.subject(network), METHODS[name]
    setting, (validation, test) = setting_of(network, method), images(subject, method)
    steps = method.steps(subject.deep)
    run, _ = readings(subject, setting, method.label, steps, validation, test)
    return [run]


def readings(
    subject: Subject, setting: Setting, label: str, steps: int, validation: Split, test: Split
) -> tuple[LateRun, Answers]:
    """Both readings of one run over test images, and the answers that chose the starts.

    Args:
        subject: the network.
        setting: to convert it in.
        label: of the row.
        steps: of the run.
        validation: images that choose the first step that counts.
        test: images that judge.
    """
    net = subject.affordably(subject.convert(setting))
    chosen = answered(net, subject.ann, validation, steps)
    starts = best_starts(chosen.logits, chosen.ann)
    found = answered(net, subject.ann, test, steps)
    record = setting.record()
    plain, late = found.logits.argmax(2), from_starts(found.logits, starts)
    run: LateRun = {
        "model": subject.name,
        "label": label,
        "n": len(test),
        "neuron": setting.neuron.kind,
        "setting": record,
        "levels": record["neuron"].get("levels"),
        "negative": record["neuron"].get("negative"),
        "v0": record["neuron"]["v0"],
        "balance": record["balance"]["kind"],
        "percentile": record["balance"].get("q"),
        "dtype": str(net.dtype).removeprefix("torch."),
        "steps": steps,
        "validation_images": len(validation),
        "neurons": sum(net.sizes.values()),
        "ann_accuracy": float((found.ann == test.labels).double().mean()),
        **reading(plain, found, test),
        "late": {
            "start": starts,
            **reading(late, found, test),
            "gain_interval": loss_intervals(plain, late, test.labels),
        },
        "events_per_image": found.events,
    }
    return run, chosen


def reading(answers: Tensor, found: Answers, split: Split) -> Reading:
    """What some answers of a run, int64 (T, n), are worth beside the labels and the ANN's."""
    return {
        "accuracy": (answers == split.labels).double().mean(1).tolist(),
        "agreement": (answers == found.ann).double().mean(1).tolist(),
        "loss_interval": loss_intervals(answers, found.ann, split.labels),
    }


def cells(network: str) -> list[Cell]:
    """A cell a method."""
    return [Cell(f"{network}/{name}", partial(measure, network, name)) for name in METHODS]


EXPERIMENT = Experiment(
    name="late-answer",
    summary="answers that leave out the first steps, from a start chosen on validation images",
    networks=models.NAMES,
    cells=cells,
    version=2,
    conclude=lambda sections: {"interval": INTERVAL},
)
