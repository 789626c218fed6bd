"""The headline tables: Markdown from the runs that ``accuracy-over-time`` stored.

One table a network, best settings only: accuracy after some time steps, when it has reached the
ANN, and what that took. Below AugMapping stands the ANN with activations rounded to as many levels:
wide spikes in one step are a quantized network. Below IF and TerMapping stands the late answer of
the same setting (``late-answer``): leaving out the first steps is free, so a baseline has a right
to it. `targets` says what was asked for and what found.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from book.experiments.accuracy_over_time import AccuracyRun
from book.experiments.late_answer import LateRun
from book.experiments.measure import Accuracies
from book.experiments.targets import Verdict
from snnlib.neurons import NEURONS
from snnlib.simulation import costs
from snnlib.zoo import models
from snnlib.zoo.evaluate import LABELS, Measured

STEPS = (1, 2, 4, 8, 16, 32)
LOSS = 0.001  # 0.1 points: when a spiking network counts as having reached its ANN
COSTS = ("reached", "events/neuron", "SynOps", "energy", "literature's")
ROUNDED = "ANN rounded to as many levels"
ABSENT = "Not measured yet."
SOURCE = Path("book", "results", "accuracy-over-time.json")
LATE = Path("book", "results", "late-answer.json")


@final
class Evaluated(Measured, Accuracies):
    """What ``snnlib evaluate`` stored, read from step 1: so there is an answer at every step."""

    label: str
    device: str
    hardware: str
    versions: dict[str, str]


Run = AccuracyRun | Evaluated

_NOTE = (
    "Accuracy in percent on the full test set after so many time steps; thresholds come from "
    "training images, settings from validation images. *Reached* is the first step from which on "
    f"it stays within {100 * LOSS:g} "
    "points of the ANN; the columns after it say what that took an image: events (neurons that "
    "sent something, a −1 included) a neuron, synaptic operations, and arithmetic energy relative "
    "to the ANN's (45 nm: 4.6 pJ a MAC, 0.9 pJ an addition, memory traffic excluded), in two "
    "accounts. *Energy* is ours: an event with |c| > 1 is a MAC, the analog first layer counts. "
    "*Literature's* is what papers usually state: every event is an addition, and the first layer "
    "is left out. *Late answer* is the same run with its first steps left out of the answer, which "
    "costs nothing; the first step that counts is chosen on validation images, for each number of "
    "steps ([late-answer.json](book/results/late-answer.json), in the precision that the row "
    "names); without such a row it is step 1 in all columns. Losses are points lost against the "
    "ANN: positive is worse. All settings, plain ones too, runs of 256 steps, intervals, commands, "
    "versions and machine: [accuracy-over-time.json](book/results/accuracy-over-time.json)."
)


def settled(run: Run, at_most: float = LOSS) -> int | None:
    """The first step from which on the accuracy stays within ``at_most`` of the ANN's, or None."""
    return _settled(run["accuracy"], run["ann_accuracy"], at_most)


def late_of(run: Run) -> LateRun | None:
    """The late answer of a run, if it is known on the same images."""
    late = run["late"] if "setting" in run and "late" in run else None
    return late if late is not None and late["n"] == run["n"] else None


def settled_late(late: LateRun, at_most: float = LOSS) -> int | None:
    """`settled` of a late answer."""
    return _settled(late["late"]["accuracy"], late["ann_accuracy"], at_most)


def _settled(accuracies: Iterable[float], ann: float, at_most: float = LOSS) -> int | None:
    reached = None
    for step, accuracy in enumerate(accuracies, 1):
        close = ann - accuracy <= at_most + 1e-9
        reached = (reached or step) if close else None
    return reached


def headline(root: Path, dataset: str) -> str:
    """The tables of all networks of a data set.

    Args:
        root: the repository.
        dataset: one of `snnlib.data.NAMES`.
    """
    names = [name for name in models.NAMES if models.dataset_of(name) == dataset]
    parts = [_network(name, runs) for name, runs in best(root, names).items()]
    return "\n\n".join(parts) if parts else ABSENT


def best(root: Path, names: Iterable[str]) -> dict[str, list[Run]]:
    """The networks that were measured, with their best settings: IF, TerMapping, AugMapping.

    A network that the experiment has not reached is shown with its stored ``snnlib evaluate`` runs.
    """
    headlines = [run for run in _record(root).get("runs", []) if "headline" in run]
    found = {
        name: [run for run in headlines if run["model"] == name]
        or evaluations((root / SOURCE).parent, name)
        for name in names
    }
    late = {(row["model"], row["neuron"]): row for row in _baselines(root)}
    for runs in found.values():
        for run in runs:
            if "setting" in run and (row := late.get((run["model"], run["neuron"]))) is not None:
                run["late"] = row
    return {name: runs for name, runs in found.items() if runs}


def _baselines(root: Path) -> list[LateRun]:
    """The late answers of the best settings of IF and TerMapping."""
    rows: list[LateRun] = _record(root, LATE).get("runs", [])
    return [row for row in rows if row["label"].endswith("best") and row["neuron"] != "augmented"]


def evaluations(folder: Path, model: str) -> list[Run]:
    """The runs of a network that ``snnlib evaluate`` stored, with an answer at every step."""
    paths = [folder / f"{model}-{method}.json" for method in NEURONS]
    found = [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]
    runs: list[Run] = [run for record in found for run in record["runs"]]
    every = [run for run in runs if run["events_per_image"] is not None]
    return [run for run in every if run.get("answer_from", 1) == 1]


def note(root: Path) -> str:
    """What the columns of `headline` mean."""
    return textwrap.fill(_NOTE, 100, break_on_hyphens=False) if _record(root) else ""


def targets(root: Path) -> str:
    """What was asked for before the measurement, the first step that fulfills it, the last one."""
    rows: list[Verdict] = _record(root).get("targets", [])
    if not rows:
        return ABSENT
    lines = [
        "| network | neuron | asked for | found | loss, 95 % interval | events/neuron "
        "| loss at the last step | |",
        "|---|---|---|--:|--:|--:|--:|---|",
    ]
    for row in rows:
        asked = f"≤ {row['loss_points_at_most']:g} points in {row['steps_at_most']} steps"
        if row["events_per_neuron_at_most"] is not None:
            asked += f", ≤ {row['events_per_neuron_at_most']:g} events/neuron"
        found, lost, events = "–", "–", "–"
        if row["loss_points"] is not None and (interval := row["loss_interval"]) is not None:
            found, lost = f"step {row['step']}", loss(row["loss_points"] / 100, interval)
            events = f"{row['events_per_neuron']:.2f}"
        verdict = "reached" if row["reached"] else "**missed**"
        label = row["label"].split(",")[0]
        size = "" if row["n"] == 10_000 else f" (n = {row['n']:,})"
        last = points(row["loss_points_at_last"] / 100)
        cells = [row["model"], label + size, asked, found, lost, events, last, verdict]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def label(run: Run) -> str:
    """The method and what sets it apart from its namesakes."""
    parts = [LABELS[run["neuron"]]]
    if run["neuron"] == "augmented":
        parts.append(f"{run['levels']} levels")
    if run["negative"] is not None:
        parts.append(f"negative {run['negative']:g}")
    return ", ".join(parts)


@dataclass(frozen=True)
class Line:
    """One row of a headline table.

    Attributes:
        name: the method and its setting.
        accuracy: fractions after `STEPS`; None where the run is shorter.
        costs: the first step from which on it stays close to the ANN, and what that took: events a
            neuron, synaptic operations, energy relative to the ANN's in this book's account and in
            the literature's. Empty texts for an ANN.
        method: what the row is of, in a word.
        ann: the ANN's accuracy on the images of the row.
    """

    name: str
    accuracy: list[float | None]
    costs: list[str]
    method: str
    ann: float


def lines(runs: Iterable[Run]) -> list[Line]:
    """The rows of a network: its runs, below AugMapping the ANN rounded to as many levels."""
    found = []
    for run in runs:
        method = LABELS[run["neuron"]]
        ann, costs = run["ann_accuracy"], _costs(run, settled(run))
        found.append(Line(_setting(run), _after(run["accuracy"]), costs, method, ann))
        if "setting" in run and "late" in run and _begins_later(run["late"]):
            found += _late(run, run["late"], method)
        if "quantized_ann" in run:
            rounded = run["quantized_ann"]
            at = dict(zip(rounded["steps"], rounded["accuracy"], strict=True))
            cells = [at.get(t) for t in STEPS]
            found.append(Line(ROUNDED, cells, [""] * len(COSTS), "ANN", ann))
    return found


def about(run: Run) -> str:
    """The ANN of a network: its accuracy, on how many images, its size."""
    return (
        f"ANN {100 * run['ann_accuracy']:.2f} % on {run['n']:,} images, "
        f"{run['ann_macs'] / 1e6:.1f} M MACs; {run['neurons']:,} spiking neurons"
    )


def points(share: float, digits: int = 2) -> str:
    """A fraction as points with its sign; of a loss, positive is worse than the ANN."""
    text = f"{100 * share:+.{digits}f}"
    return f"{0:.{digits}f}" if float(text) == 0 else text.replace("-", "−")


def loss(value: float, interval: Iterable[float]) -> str:
    """Points lost against the ANN with their 95 % interval; fractions in."""
    low, high = interval
    return f"{points(value)} ({points(low)} … {points(high)})"


def _setting(run: Run) -> str:
    balance = f"{run['percentile']:g} %" if run["percentile"] is not None else run["balance"]
    parts = [label(run), f"{balance} a channel" if run["per_channel"] else f"{balance}"]
    if "setting" in run and (steps := run["setting"]["bias_steps"]) is not None:
        parts.append(f"biases for {steps}")
    if run["dtype"] != "float32":
        parts.append(run["dtype"])
    return ", ".join(parts)


def _network(name: str, runs: list[Run]) -> str:
    head = [
        f"**{name}**: {about(runs[0])}",
        "",
        f"| network | {' | '.join([*map(str, STEPS), *COSTS])} |",
        f"|---|{'--:|' * (len(STEPS) + len(COSTS))}",
    ]
    rows = ([line.name, *map(percent, line.accuracy), *line.costs] for line in lines(runs))
    return "\n".join([*head, *(f"| {' | '.join(cells)} |" for cells in rows)])


def percent(share: float | None) -> str:
    """A fraction in percent; nothing where there is none."""
    return "" if share is None else f"{100 * share:.2f}"


def _begins_later(late: LateRun) -> bool:
    """Whether the answer leaves out a step after any of `STEPS`; else its row is that above."""
    starts = late["late"]["start"]
    return any(starts[t - 1] > 1 for t in STEPS if t <= len(starts))


def _after(accuracies: Iterable[float | None]) -> list[float | None]:
    """The accuracies after `STEPS`; None where the run is shorter."""
    after = dict(enumerate(accuracies, 1))
    return [after.get(t) for t in STEPS]


def _late(run: Run, late: LateRun, method: str) -> list[Line]:
    """The row of the late answer; of fewer images, the same images from step 1 stand above it.

    It has cost what the whole run has until the step at which the ANN is reached.
    """
    ann, fewer = late["ann_accuracy"], late["n"] != run["n"]
    first = f"… first {late['n']:,} images (ANN {100 * ann:.2f} %)"
    rows = [(first, late["accuracy"])] if fewer else []
    name = "… their late answer" if fewer else "… late answer"
    name += f", {late['dtype']}" if late["dtype"] != run["dtype"] else ""
    rows.append((name, late["late"]["accuracy"]))
    return [
        Line(name, _after(values), _costs(run, _settled(values, ann)), method, ann)
        for name, values in rows
    ]


def _costs(run: Run, step: int | None) -> list[str]:
    """When the ANN was reached, and what that took an image."""
    if step is None:
        return ["–"] * len(COSTS)
    sums = run["events_per_image"], run["synops_per_image"], run["energy_nj_per_image"]
    events, synops, energy = (column[step - 1] for column in sums if column is not None)
    return [
        f"step {step}",
        f"{events / run['neurons']:.2f}",
        f"{synops / 1e6:.1f} M",
        f"{energy / run['ann_energy_nj']:.2f}",
        f"{costs.literature_energy(synops) / run['ann_energy_nj']:.2f}",
    ]


def _record(root: Path, source: Path = SOURCE) -> dict[str, Any]:
    path = root / source
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
