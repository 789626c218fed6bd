"""``accuracy-over-time``: how soon each neuron answers as well as the ANN, and what it costs.

Every network is converted in two forms. *Plain*: balanced on the largest activation, starting from
zero potential, negative threshold as large as the positive one. *Best*: the candidate that needs
the fewest events among those whose agreement with the ANN after ``horizon`` steps, on validation
images, is within 0.1 points of the best candidate's. All candidates are stored with their numbers.

Test images come in once, for the runs: all of them to 32 steps (IF neurons to 48), and for the
slower neurons the first 2,000 to 256 steps. On slow networks IF and TerMapping run in bfloat16 with
float32 potentials where the processor gains by it; the field ``dtype`` of a row says so, and the
ANN beside them is always in float32. Beside AugMapping stands the ANN with activations rounded to
as many levels: wide spikes in one step are a quantized network.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import NotRequired, TypedDict, cast, final

from book.experiments.frame import Cell, Context, Experiment, Labeled
from book.experiments.late_answer import LateRun
from book.experiments.measure import (
    IF_STEPS,
    INTERVAL,
    STEPS,
    Accuracies,
    AtSteps,
    Interval,
    loss_intervals,
    pack,
    quantized_ann,
)
from book.experiments.setting import Setting, SettingRecord, Subject
from book.experiments.targets import targets
from snnlib.conversion.balance import Max, Percentile
from snnlib.neurons import IF, Augmented, Ternary
from snnlib.simulation.coding import Constant
from snnlib.zoo import models
from snnlib.zoo.data import Split
from snnlib.zoo.evaluate import LABELS, Measured, evaluate, report

LONG_STEPS, LONG_IMAGES = 256, 2000
VALIDATION_IMAGES = 1000
HEADLINE_IMAGES = 1000
QUANTIZED_STEPS = (1, 2, 3, 4, 6, 8, 16, 32)
TOLERANCE = 0.001  # of the agreement, when the candidate with the fewest events is chosen
CAP = 15  # |c| fits in four bits and a sign


@dataclass(frozen=True)
class Method:
    """A neuron's plain setting, the candidates for its best, and the steps it is judged at.

    Attributes:
        plain: the plain setting.
        candidates: those for the best setting.
        horizon: step at which the candidates are compared.
        deep_horizon: the same on the deep networks.
        slow: needs many steps. So there are runs of 256 steps, and on the smaller networks
            candidates with calibrated biases come in.
    """

    plain: Setting
    candidates: tuple[Setting, ...]
    horizon: int
    deep_horizon: int
    slow: bool

    def judged(self, deep: bool) -> int:
        """The step at which the candidates are compared."""
        return self.deep_horizon if deep else self.horizon

    def settings(self, deep: bool) -> list[Setting]:
        """All candidates; calibrating the biases of a deep network takes as long as its runs."""
        if deep or not self.slow:
            return list(self.candidates)
        best = [setting for setting in self.candidates if setting.balance == Percentile(99.9)]
        calibrated = [replace(setting, bias_steps=self.horizon) for setting in best]
        return [*self.candidates, *calibrated]


class Headline(TypedDict):
    """The answers to the first images at the step where candidates are compared."""

    step: int
    n: int  # images
    answers: str  # classes, as `pack` packs them


@final
class AccuracyRun(Measured, Accuracies):
    """One run over test images."""

    cell: NotRequired[str]
    label: str
    form: str  # plain or best
    setting: SettingRecord
    loss_interval: list[Interval]  # one a step, fractions
    quantized_ann: NotRequired[AtSteps]  # beside AugMapping
    headline: NotRequired[Headline]  # of the best setting on all images
    late: NotRequired[LateRun]  # not stored here: tables set ``late-answer``'s row beside it


class Candidate(Labeled):
    """A setting on validation images; its numbers are those after the last step."""

    images: str
    steps: int
    setting: SettingRecord
    agreement: float
    accuracy: float
    ann_accuracy: float
    events_per_image: float
    chosen: bool


LAYER, CHANNEL, CLIPPED, WIDE = (
    (Percentile(99.9), False),
    (Percentile(99.9), True),
    (Percentile(99), False),
    (Percentile(99.99), False),
)

METHODS = {
    "if": Method(
        Setting(IF(v0=0.0), Max()),
        tuple(Setting(IF(), *how) for how in (LAYER, CHANNEL, CLIPPED)),
        horizon=IF_STEPS,
        deep_horizon=STEPS,
        slow=True,
    ),
    "ternary": Method(
        Setting(Ternary(negative=1.0, v0=0.0), Max()),
        tuple(Setting(Ternary(negative=0.0), *how) for how in (LAYER, CHANNEL, CLIPPED)),
        horizon=12,
        deep_horizon=24,
        slow=True,
    ),
    "augmented": Method(
        Setting(Augmented(levels=4, negative=1.0, v0=0.0, cap=CAP), Max()),
        tuple(
            Setting(Augmented(levels=levels, negative=0.0, cap=CAP), *how)
            for levels in (4, 8, 12)
            for how in (LAYER, CHANNEL, WIDE)
        ),
        horizon=2,
        deep_horizon=3,
        slow=False,
    ),
}


def cells(network: str) -> list[Cell]:
    """Choice, plain and best run of every neuron; runs of 256 steps for the slower ones."""
    found = []
    for kind, method in METHODS.items():
        name = f"{network}/{kind}"
        found.append(Cell(f"{name}/choice", partial(choose, network, kind), "choices"))
        for form in ("plain", "best"):
            found.append(Cell(f"{name}/{form}", partial(measure, network, kind, form)))
            if method.slow:
                found.append(
                    Cell(f"{name}/{form}/long", partial(measure, network, kind, form, long=True))
                )
    return found


def choose(network: str, kind: str, context: Context) -> list[Candidate]:
    """All candidates on validation images, one of them marked as chosen."""
    subject, method = context.subject(network), METHODS[kind]
    split, horizon = subject.validation[:VALIDATION_IMAGES], method.judged(subject.deep)
    rows: list[Candidate] = []
    for setting in method.settings(subject.deep):
        net = subject.affordably(subject.convert(setting))
        found = evaluate(net, subject.ann, split, horizon)
        assert found.events is not None
        rows.append(
            {
                "model": network,
                "label": LABELS[kind],
                "n": found.n,
                "images": "validation",
                "steps": horizon,
                "setting": setting.record(),
                "agreement": found.agreement[-1],
                "accuracy": found.accuracy[-1],
                "ann_accuracy": found.ann_accuracy,
                "events_per_image": found.events[-1],
                "chosen": False,
            }
        )
    best = max(row["agreement"] for row in rows)
    close = [row for row in rows if row["agreement"] >= best - TOLERANCE - 1e-9]
    min(close, key=lambda row: row["events_per_image"])["chosen"] = True
    return rows


def chosen(network: str, kind: str, context: Context) -> Setting:
    """The setting that `choose` marked."""
    rows: list[Candidate] = context.rows[f"{network}/{kind}/choice"]
    return Setting.of(next(row["setting"] for row in rows if row["chosen"]))


def measure(
    network: str, kind: str, form: str, context: Context, long: bool = False
) -> list[AccuracyRun]:
    """One run over test images."""
    subject, method = context.subject(network), METHODS[kind]
    setting = method.plain if form == "plain" else chosen(network, kind, context)
    if long:
        return [_row(subject, kind, form, setting, subject.test[:LONG_IMAGES], LONG_STEPS, None)]
    steps = IF_STEPS if kind == "if" else STEPS
    headline = method.judged(subject.deep)
    return [_row(subject, kind, form, setting, subject.test, steps, headline)]


def _row(
    subject: Subject, kind: str, form: str, setting: Setting, split: Split, steps: int,
    headline: int | None,
) -> AccuracyRun:  # fmt: skip
    net = subject.affordably(subject.convert(setting))
    found = evaluate(net, subject.ann, split, steps)
    label = f"{LABELS[kind]}, {form}"
    if headline is None:
        label += f", {steps} steps on {len(split):,} images"
    about = report(
        found, net, subject.name, dataset=subject.dataset, steps=steps, coding=Constant(),
        balance=setting.balance,
    )  # fmt: skip
    once = ("versions", "hardware", "device")  # stand at the head of the file
    own = {key: value for key, value in about.items() if key not in once}
    row = cast("AccuracyRun", {"label": label, "form": form, "setting": setting.record(), **own})
    row["loss_interval"] = loss_intervals(found.answers, found.ann_answers, split.labels)
    if kind == "augmented":
        row["quantized_ann"] = quantized_ann(net, split, found.ann_answers, QUANTIZED_STEPS)
    if form == "best" and headline is not None:
        answers = found.answers[headline - 1, :HEADLINE_IMAGES]
        row["headline"] = {"step": headline, "n": len(answers), "answers": pack(answers)}
    return row


EXPERIMENT = Experiment(
    name="accuracy-over-time",
    summary="accuracy, agreement with the ANN and costs after every step, plain and best settings",
    networks=models.NAMES,
    cells=cells,
    conclude=lambda sections: {"interval": INTERVAL, "targets": targets(sections["runs"])},
    version=2,
)
