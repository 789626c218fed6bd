"""The drawings of the negative threshold: accuracy over steps, and silent neurons that spike."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bookext.axes import MARKED, cost_axis, loss_axis
from bookext.modes import Key, Panel
from bookext.results import Result, images, of
from snnlib import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from book.experiments.negative import NegativeRun

AFTER = 8  # steps, for the sentence
LINES = {1.0: ":", 0.5: "-.", 0.0: "-"}  # the sizes that are drawn; IF is solid


def size(run: NegativeRun) -> float | None:
    """The negative threshold / θ of a run; None: IF, which has none."""
    return run["setting"]["neuron"].get("negative")


def negative(result: Result, model: str) -> tuple[list[Panel], list[Key]]:
    """Points lost over time steps, and the share of silent neurons with a count above zero."""
    runs: list[NegativeRun] = [
        row for row in of(result, model) if size(row) is None or size(row) in LINES
    ]
    if not runs:
        return [], []
    looks = [
        replace(plots.look(run["label"]), line=LINES.get(size(run), "-"))  # type: ignore[arg-type]
        for run in runs
    ]

    def curves(ax: Axes, mode: plots.Mode, values: list[list[float]]) -> None:
        for look, y in zip(looks, values, strict=True):
            ax.plot(
                range(1, len(y) + 1),
                y,
                look.line,
                color=look.color(mode),
                marker=look.marker,
                markersize=4,
                markevery=[t - 1 for t in MARKED if t <= len(y)],
                linewidth=1.8,
            )
        cost_axis(ax, "time steps")
        ax.set_title(model)

    losses = [[100 * (run["ann_accuracy"] - share) for share in run["accuracy"]] for run in runs]

    def lost(ax: Axes, mode: plots.Mode) -> None:
        curves(ax, mode, losses)
        loss_axis(ax, [loss for curve in losses for loss in curve])
        ax.axhline(0, color=plots.color("ANN", mode), linestyle="--", linewidth=1.5, zorder=1)

    def false(ax: Axes, mode: plots.Mode) -> None:
        curves(ax, mode, [[100 * share for share in run["silent"]["false"]] for run in runs])
        ax.set(ylim=(0, None), ylabel="silent neurons with N > 0 (%)")

    keys = [Key(name(run), look) for run, look in zip(runs, looks, strict=True)]
    keys.append(Key("ANN", plots.METHODS["ANN"]))
    alt = (
        f"Points lost on {model} with negative thresholds from −θ to 0. {answer(result, model)}",
        f"Neurons of {model} that are silent in the ANN and have a count above zero. From 1 to "
        f"{runs[0]['steps']} steps: {'; '.join(_course(run) for run in runs)}.",
    )
    return [Panel(lost, alt[0]), Panel(false, alt[1])], keys


def name(run: NegativeRun) -> str:
    """The method and the size of its negative threshold."""
    found = size(run)
    return run["label"] if found is None else f"{run['label']}, negative {found:g}"


def _course(run: NegativeRun) -> str:
    shares = run["silent"]["false"]
    return f"{name(run)} from {100 * shares[0]:.1f} to {100 * shares[-1]:.1f} %"


def answer(result: Result, model: str) -> str:
    """What the smallest negative threshold gains and costs after a few steps, in a sentence."""
    runs: dict[float | None, NegativeRun] = {size(row): row for row in of(result, model)}
    one, zero, plain = runs[1.0], runs[0.0], runs[None]
    at = min(AFTER, zero["steps"]) - 1
    more = zero["events_per_image"][at] / one["events_per_image"][at] - 1
    shares = (f"{100 * run['silent']['false'][at]:.1f} %" for run in (plain, one, zero))
    false = " / ".join(shares)
    return (
        f"After {at + 1} steps a negative threshold at 0 gives {100 * zero['accuracy'][at]:.1f} %, "
        f"one at −θ {100 * one['accuracy'][at]:.1f} %, for {100 * more:+.0f} % events; the ANN has "
        f"{100 * zero['ann_accuracy']:.1f} %. Of the neurons that are silent in the ANN {false} "
        f"have a net count above zero (IF / −θ / 0). On {images([zero])}, silent neurons on "
        f"{zero['silent']['images']} validation images."
    )
