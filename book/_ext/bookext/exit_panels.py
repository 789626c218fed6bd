"""What ``seenn`` stored: a drawing, a table and the answer of a network's exits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from book.tools.tables import percent, points
from bookext.axes import CLOSE, MARKED, cost_axis, loss_axis, number
from bookext.modes import Key, Panel
from bookext.results import Result, of
from bookext.table import Table
from snnlib import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from book.experiments.exit_curves import Curve
    from book.experiments.seenn import SeennRun

# What is drawn of the many curves: label and reading → look. One more is in the table.
READINGS = {"sum": plots.EXTRA[3], "mean": plots.EXTRA[1], "temperature": plots.EXTRA[0]}
POLICY = plots.EXTRA[2]
HEAD = ["Network and rule", "Images", "Asked for", "Mean steps", "Accuracy (%)", "Points lost"]


def exits(result: Result, model: str) -> tuple[list[Panel], list[Key]]:
    """Points lost over mean steps: three readings of the confidence, the policy, all alike."""
    runs = {run["label"]: run for run in _converted(result, model)}
    if "SEENN-I" not in runs:
        return [], []
    one, two = runs["SEENN-I"], runs.get("SEENN-II")
    ann = one["ann_accuracy"] or 0.0
    curves = {
        curve["reading"]: curve
        for curve in one["curves"]
        if curve["score"] == "confidence" and curve["reading"] in READINGS
    }
    policy = two["curves"][0] if two else None

    def loss(accuracy: float) -> float:
        return 100 * (ann - accuracy)

    def draw(ax: Axes, mode: plots.Mode) -> None:
        shown = []
        for reading, look in READINGS.items():
            x, y = _sorted(curves[reading])
            y = [loss(value) for value in y]
            ax.plot(x, y, color=look.color(mode), marker=look.marker, ms=3.5, lw=1.4)
            shown += y
        if policy:
            x, y = _sorted(policy)
            y = [loss(value) for value in y]
            ax.plot(x, y, POLICY.marker, color=POLICY.color(mode), ms=7)
            shown += y
        marks = [t for t in MARKED if t <= one["steps"]]
        alike = [loss(one["accuracy"][t - 1]) for t in marks]
        ax.plot(marks, alike, ":", color=plots.INK[mode], lw=1.8)
        ax.axhline(0, color=plots.color("ANN", mode), linestyle="--", linewidth=1.5, zorder=1)
        loss_axis(ax, [*shown, *alike])
        cost_axis(ax, "mean time steps")

    said = []
    for name, curve in [*curves.items(), *([("policy", policy)] if policy else [])]:
        pairs = zip(curve["mean_steps"], curve["accuracy"], strict=True)
        close = [steps for steps, accuracy in pairs if loss(accuracy) <= CLOSE + 1e-9]
        said.append(f"{name} from {number(min(close))} steps on" if close else f"{name} nowhere")
    alt = (
        f"Points lost against the ANN over mean steps, {model}. Within {CLOSE:g} points: "
        f"{'; '.join(said)}."
    )
    keys = [Key(f"confidence of the {_words(name)}", look) for name, look in READINGS.items()]
    keys.append(Key("policy", replace(POLICY, line="")))
    keys.append(Key("the same steps for all images", replace(plots.METHODS["ANN"], line=":")))
    return [Panel(draw, alt)], [*keys, Key("ANN", plots.METHODS["ANN"])]


def _words(reading: str) -> str:
    return "sum, with temperatures" if reading == "temperature" else reading


def _sorted(curve: Curve) -> tuple[list[float], list[float]]:
    """Mean steps and accuracy, by steps."""
    pairs = sorted(zip(curve["mean_steps"], curve["accuracy"], strict=True))
    return [x for x, _ in pairs], [y for _, y in pairs]


def _converted(result: Result, model: str) -> list[SeennRun]:
    return [run for run in of(result, model) if "curves" in run and run["setting"] is not None]


def table(model: str, rows: list[SeennRun]) -> Table:
    """What validation images chose, of each run and reading; the last row of a run: all steps."""
    cells = []
    for run in rows:
        name, n = run["label"], f"{run['n']:,}"
        if run["thresholds_of"]:
            name += f", {run['thresholds_of']}"
        whole = run["ann_accuracy"] if run["ann_accuracy"] is not None else run["accuracy"][-1]
        for curve in run["curves"]:
            rule = f"{name}: {curve['score']}, {curve['reading']}"
            k = curve["chosen"]
            if k is None:
                cells.append([rule, n, "none", "", "", ""])
                continue
            found = curve["accuracy"][k]
            asked, steps = f"{curve['thresholds'][k]:g}", f"{curve['mean_steps'][k]:.2f}"
            cells.append([rule, n, asked, steps, percent(found), points(whole - found)])
        last = run["accuracy"][-1]
        cells.append(
            [f"{name}: all steps", n, "", f"{run['steps']}", percent(last), points(whole - last)]
        )
    return Table("exits that validation images chose", HEAD, cells, model)


def answer(result: Result, model: str) -> str:
    """Mean steps and loss of the choices: by confidence, by a policy."""
    said, thresholds, n = [], "", 0
    for run in _converted(result, model):
        if run["label"] not in ("SEENN-I", "SEENN-II"):
            continue
        rule = "by confidence" if run["label"] == "SEENN-I" else "by a policy"
        thresholds, n, best = run["thresholds_of"], run["n"], run["best"]
        if best is None:
            said.append(f"{rule} no exit stays within {CLOSE:g} points on validation images")
            continue
        curve = run["curves"][best]
        k = curve["chosen"] or 0
        lost = (run["ann_accuracy"] or 0.0) - curve["accuracy"][k]
        said.append(
            f"{rule} an image takes {curve['mean_steps'][k]:.2f} of {run['steps']} steps in the "
            f"mean, {points(lost)} points lost"
        )
    return (
        f"AugMapping with 4 levels and thresholds of {thresholds}: {'; '.join(said)}. "
        f"All choices on validation images, numbers on {n:,} test images."
    )
