"""Drawings of the experiments whose numbers run along steps, layers or sizes of a disturbance."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bookext.axes import CLOSE, MARKED, cost_axis, layer_axis, loss_axis, number
from bookext.figures import describe as describe_curves
from bookext.modes import WHOLE, Key, Panel
from bookext.results import Result, of
from snnlib import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from book.experiments.accuracy_over_time import AccuracyRun
    from book.experiments.early_exit import Exit, ExitRun
    from book.experiments.frame import Labeled
    from book.experiments.layer_errors import LayerErrors
    from book.experiments.robustness import RobustnessRun

Drawn = tuple[list[Panel], list[Key]]

PARTS_AFTER = 8  # steps: late enough for all methods to say something, early enough to differ
SMALLEST = 1e-3  # of the ANN's activation: a part that is less than that is not drawn
LEAST_SPAN = 3.0  # points of accuracy on an axis
ROUNDED = "ANN, rounded to as many levels"
ROUNDED_LOOK = replace(plots.METHODS["ANN"], marker="D", line="")


def method(row: Labeled) -> str:
    name, *_ = row["label"].split(",")
    return name


def accuracy(result: Result, model: str) -> Drawn:
    """Accuracy over time on all test images, plain and best, the rounded ANN beside."""
    runs: list[AccuracyRun] = of(result, model)
    runs = [row for row in runs if not row["cell"].endswith("/long")]
    runs.sort(key=lambda row: row["form"] != "best")
    curves = {row["label"]: row["accuracy"] for row in runs}
    if not curves:
        return [], []
    ann = runs[0]["ann_accuracy"]
    rounded = next(
        (row["quantized_ann"] for row in runs if "quantized_ann" in row and method(row) != "ANN"),
        None,
    )

    def draw(ax: Axes, mode: plots.Mode) -> None:
        losses = []
        for place, (row, values) in enumerate(zip(runs, curves.values(), strict=True)):
            look, best = plots.look(method(row)), row["form"] == "best"
            marks = [t for t in MARKED if t <= len(values)]
            loss = [100 * (ann - value) for value in values]
            losses += loss
            ax.plot(
                range(1, len(loss) + 1),
                loss,
                "-" if best else ":",
                color=look.color(mode),
                marker=look.marker,
                markersize=4,
                markevery=[t - 1 for t in marks],
                linewidth=max(1.3, 2.2 - 0.3 * place),  # where curves coincide, all stay visible
            )
        if rounded:
            loss = [100 * (ann - value) for value in rounded["accuracy"]]
            losses += loss
            color = ROUNDED_LOOK.color(mode)
            ax.plot(rounded["steps"], loss, "D", color=color, mfc="none", ms=6)
        ax.axhline(0, color=plots.color("ANN", mode), linestyle="--", linewidth=1.5, zorder=1)
        loss_axis(ax, losses)
        cost_axis(ax, "time steps")
        ax.set_title(model)

    alt = describe_curves(curves, ann, f"{model}, {runs[0]['n']:,} test images")
    keys = [
        Key(label, replace(plots.look(label), line="-" if row["form"] == "best" else ":"))
        for label, row in zip(curves, runs, strict=True)
    ]
    keys.append(Key("ANN", plots.METHODS["ANN"]))
    if rounded:
        keys.append(Key(ROUNDED, ROUNDED_LOOK, hollow=True))
    return [Panel(draw, alt, WHOLE)], keys


def layer_errors(result: Result, model: str) -> Drawn:
    """For each method the error of the layers as steps grow, and its parts along the layers."""
    runs: list[LayerErrors] = of(result, model)
    runs = [row for row in runs if not row["label"].endswith("plain")]
    panels = [panel for row in runs for panel in (growth(row, model), parts(row, model))]
    if not runs:
        return [], []
    layers = [layer["name"] for layer in runs[0]["layers"]]
    keys = [
        Key(name, look)
        for i, (name, look) in enumerate(zip(layers, plots.shades(len(layers)), strict=True))
        if len(layers) <= 8 or i in (0, len(layers) - 1)
    ]
    keys += [
        Key(part, look)
        for part, look in zip(runs[0]["layers"][0]["parts"], plots.EXTRA, strict=False)
    ]
    return panels, keys


def growth(row: LayerErrors, model: str) -> Panel:
    """The error of every layer after more and more steps."""
    layers, steps = row["layers"], row["steps"]

    def draw(ax: Axes, mode: plots.Mode) -> None:
        for layer, look in zip(layers, plots.shades(len(layers)), strict=True):
            ax.plot(steps, layer["error"], color=look.color(mode), marker="o", ms=3.5, lw=1.6)
        _log_error(ax)
        cost_axis(ax, "time steps")
        ax.set(ylabel="error relative to the ANN", title=method(row))

    first, last = layers[0], layers[-1]
    between = f"{steps[0]} to {steps[-1]} steps"
    return Panel(
        draw,
        f"Error of each layer relative to the ANN's activation, {method(row)} on {model}. From "
        f"{between} it goes from {number(first['error'][0])} to {number(first['error'][-1])} in "
        f"the first layer, {first['name']}, and from {number(last['error'][0])} to "
        f"{number(last['error'][-1])} in the last, {last['name']}.",
    )


def parts(row: LayerErrors, model: str) -> Panel:
    """What the error is made of along the layers, after a few steps."""
    layers, steps = row["layers"], row["steps"]
    at = steps.index(PARTS_AFTER) if PARTS_AFTER in steps else len(steps) - 1
    names = [layer["name"] for layer in layers]
    found = {part: [layer["parts"][part][at] for layer in layers] for part in layers[0]["parts"]}

    def draw(ax: Axes, mode: plots.Mode) -> None:
        for (_, values), look in zip(found.items(), plots.EXTRA, strict=False):
            ax.plot(
                range(len(names)),
                [value if value >= SMALLEST else float("nan") for value in values],
                color=look.color(mode), marker=look.marker, ms=4.5, lw=1.6,
            )  # fmt: skip
        _log_error(ax)
        layer_axis(ax, names)
        ax.set(ylabel="part of the error", title=f"{method(row)} after {steps[at]} steps")

    last = ", ".join(f"{part} {number(values[-1])}" for part, values in found.items())
    inner = {part: max(values) for part, values in found.items()}
    largest = max(inner, key=lambda part: inner[part])
    return Panel(
        draw,
        f"Parts of the error along the layers, {method(row)} on {model} after {steps[at]} steps. "
        f"In the last layer, {names[-1]}: {last}. The largest part of any layer is "
        f"{largest}, {number(inner[largest])}.",
    )


def _log_error(ax: Axes) -> None:
    ax.set_yscale("log")
    ax.set_ylim(SMALLEST, 4)
    ax.yaxis.set_major_formatter("{x:g}")


def robustness(result: Result, model: str) -> Drawn:
    """A panel a disturbance: accuracy as it grows, the ANN under the same beside."""
    axes = {
        "input noise": "standard deviation of the pixels' noise",
        "weight noise": "standard deviation, relative to a weight",
        "lost spikes": "probability that a spike is lost",
    }
    runs: list[RobustnessRun] = of(result, model)
    kinds = list(dict.fromkeys(row["disturbance"] for row in runs))
    panels = [
        disturbance([row for row in runs if row["disturbance"] == kind], model, kind, axes)
        for kind in kinds
    ]
    labels = dict.fromkeys((method(row), row["steps"]) for row in runs)
    keys = [Key(f"{name}, {steps} steps", plots.look(name)) for name, steps in labels]
    return panels, [*keys, Key("ANN", plots.METHODS["ANN"])] if keys else []


def disturbance(rows: list[RobustnessRun], model: str, kind: str, axes: dict[str, str]) -> Panel:
    """The networks and the ANN under one disturbance; bars of one standard deviation."""

    def curve(row: RobustnessRun, ann: bool = False) -> tuple[tuple[float, float, float], ...]:
        return tuple(
            (size["size"], 100 * size["ann_accuracy"], 100 * size["ann_accuracy_std"])
            if ann
            else (size["size"], 100 * size["accuracy"], 100 * size["accuracy_std"])
            for size in row["sizes"]
        )

    # The ANN beside a slow network is in bfloat16, too: another curve. The same one is drawn once.
    anns = dict.fromkeys(curve(row, ann=True) for row in rows)

    def draw(ax: Axes, mode: plots.Mode) -> None:
        for points in anns:
            x, y, spread = zip(*points, strict=True)
            color = plots.color("ANN", mode)
            ax.errorbar(x, y, spread, color=color, ls="--", lw=1.6, capsize=2, elinewidth=1)
        for place, row in enumerate(rows):
            x, y, spread = zip(*curve(row), strict=True)
            look = plots.look(method(row))
            width = max(1.2, 3.4 - 1.1 * place)  # where curves coincide, all stay visible
            ax.errorbar(
                x, y, spread, color=look.color(mode), marker=look.marker, ms=4 + width, lw=width,
                capsize=2, elinewidth=1, markerfacecolor="none",
            )  # fmt: skip
        bottom, top = ax.get_ylim()
        if top - bottom < LEAST_SPAN:  # else noise would look like a difference
            top = min((top + bottom + LEAST_SPAN) / 2, 100.2)
            ax.set_ylim(top - LEAST_SPAN, top)
        ax.set(xlabel=axes.get(kind, "size"), ylabel="accuracy (%)", title=kind.capitalize())

    said = []
    for row in rows:
        start, end = row["sizes"][0], row["sizes"][-1]
        said.append(
            f"{method(row)} goes from {100 * start['accuracy']:.1f} % to "
            f"{100 * end['accuracy']:.1f} % at {end['size']:g}, the ANN under the same from "
            f"{100 * start['ann_accuracy']:.1f} % to {100 * end['ann_accuracy']:.1f} %"
        )
    return Panel(draw, f"Accuracy under {kind}, {model}. {'; '.join(said)}.")


def early_exit(result: Result, model: str) -> Drawn:
    """Accuracy against the mean number of steps, and against the measured time."""
    rows: list[ExitRun] = of(result, model)
    if not rows:
        return [], []
    panels = [exits(rows, model, "steps"), exits(rows, model, "time")]
    keys = [Key(f"{method(row)}, early exit", plots.look(method(row))) for row in rows]
    fixed = replace(plots.METHODS["ANN"], line=":")
    ring = replace(plots.EXTRA[0], marker="o", line="")
    keys.append(Key("the same steps for all images", fixed))
    if any(size["chosen"] for row in rows for size in row["sweep"]):
        keys.append(Key("chosen on validation images", ring, hollow=True))
    if any(row["seconds_closed_form"] for row in rows):
        keys.append(Key("all steps at once, closed form", replace(ring, marker="P")))
    return [*panels], [*keys, Key("ANN", plots.METHODS["ANN"])]


def exits(rows: list[ExitRun], model: str, cost: str) -> Panel:
    """The sweep of the confidence; the chosen one has a ring."""
    ring = plots.EXTRA[0]

    def x(row: ExitRun, size: Exit) -> float:
        if cost == "steps":
            return size["mean_steps"]
        return 1000 * size["seconds"] / row["timed_images"]

    def loss(row: ExitRun, value: float) -> float:
        return 100 * (row["ann_accuracy"] - value)

    def draw(ax: Axes, mode: plots.Mode) -> None:
        shown = []
        for row in rows:
            look = plots.look(method(row))
            points = sorted((x(row, size), loss(row, size["accuracy"])) for size in row["sweep"])
            ax.plot(
                *zip(*points, strict=True),
                color=look.color(mode),
                marker=look.marker,
                ms=4,
                lw=1.4,
            )
            shown += [y for _, y in points]
            if cost == "steps":
                marks = [t for t in MARKED if t <= len(row["accuracy"])]
                values = [loss(row, row["accuracy"][t - 1]) for t in marks]
                shown += values
                ax.plot(marks, values, ":", color=look.color(mode), lw=1.6)
            elif (closed := row["seconds_closed_form"]) is not None:
                at = 1000 * closed / row["timed_images"]
                y = loss(row, row["accuracy"][-1])
                ax.plot([at], [y], "P", color=ring.color(mode), ms=7)
            for size in row["sweep"]:
                if size["chosen"]:
                    y = loss(row, size["accuracy"])
                    color = ring.color(mode)
                    ax.plot([x(row, size)], [y], "o", color=color, mfc="none", ms=9, mew=1.6)
        ax.axhline(0, color=plots.color("ANN", mode), linestyle="--", linewidth=1.5, zorder=1)
        loss_axis(ax, shown)
        label = "mean time steps" if cost == "steps" else "milliseconds an image, measured"
        cost_axis(ax, label)

    unit, said = ("steps in the mean" if cost == "steps" else "ms an image"), []
    for row in rows:
        close = [size for size in row["sweep"] if loss(row, size["accuracy"]) <= CLOSE + 1e-9]
        if close:
            least = min(x(row, size) for size in close)
            said.append(f"{method(row)} from {number(least)} {unit} on")
        else:
            said.append(f"{method(row)} nowhere")
    against = "the mean number of steps" if cost == "steps" else "the measured time"
    return Panel(
        draw,
        f"Early exit: points lost against the ANN over {against}, {model}. "
        f"Within {CLOSE:g} points of the ANN: {'; '.join(said)}.",
    )
