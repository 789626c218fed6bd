"""The drawing of the late answer: one run read from step 1, and from a start chosen later."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bookext.axes import MARKED, cost_axis
from bookext.modes import Key, Panel
from bookext.results import Result, images, of
from snnlib import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from book.experiments.late_answer import LateRun

BASELINES = ("IF, best", "TerMapping, best")
AFTER = 8  # steps, for the sentence: where the start-up still weighs


def late(result: Result, model: str) -> tuple[list[Panel], list[Key]]:
    """Accuracy over time of the baselines: dotted from step 1, solid from the chosen start.

    They share their images, and so the line of the ANN; what is there for contrast has fewer.
    """
    runs: list[LateRun] = [row for row in of(result, model) if row["label"] in BASELINES]
    if not runs:
        return [], []
    ann = runs[0]["ann_accuracy"]

    def draw(ax: Axes, mode: plots.Mode) -> None:
        for run in runs:
            look, steps = plots.look(run["label"]), range(1, run["steps"] + 1)
            for accuracy, line in ((run["accuracy"], ":"), (run["late"]["accuracy"], "-")):
                ax.plot(
                    steps,
                    [100 * share for share in accuracy],
                    line,
                    color=look.color(mode),
                    marker=look.marker,
                    markersize=4,
                    markevery=[t - 1 for t in MARKED if t <= len(steps)],
                    linewidth=1.8,
                )
        ax.axhline(
            100 * ann, color=plots.color("ANN", mode), linestyle="--", linewidth=1.5, zorder=1
        )
        cost_axis(ax, "time steps")
        ax.set(ylim=(0, 104), ylabel="accuracy (%)", title=model)

    keys = [
        Key(f"{name}, {reading}", replace(plots.look(name), line=line))
        for name in dict.fromkeys(run["label"].split(",")[0] for run in runs)
        for reading, line in (("late answer", "-"), ("from step 1", ":"))
    ]
    keys.append(Key("ANN", plots.METHODS["ANN"]))
    alt = f"Accuracy on {model}, read from step 1 and from a start chosen on validation images."
    return [Panel(draw, f"{alt} {answer(result, model)}")], keys


def answer(result: Result, model: str) -> str:
    """What the late answer is worth after a few steps, in a sentence."""
    said = []
    for run in of(result, model):
        row: LateRun = run
        at = min(AFTER, row["steps"]) - 1
        low, high = (100 * end for end in row["late"]["gain_interval"][at])
        said.append(
            f"{row['label']} {100 * row['accuracy'][at]:.1f} % from step 1 and "
            f"{100 * row['late']['accuracy'][at]:.1f} % from step {row['late']['start'][at]} "
            f"(gain {low:+.1f} to {high:+.1f} points; {images([run])})".replace("-", "−")
        )
    return f"After {AFTER} steps: {'; '.join(said)}."
