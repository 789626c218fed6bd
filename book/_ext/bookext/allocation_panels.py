"""Drawings of the experiment ``allocation``: one factor for all thresholds, or one a layer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from book.experiments.allocation import AGREEMENT
from bookext.axes import differ_axis, layer_axis, number
from bookext.modes import Key, Panel
from snnlib import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = dict[str, Any]
LAYERWISE, EXACT = plots.EXTRA[0], replace(plots.EXTRA[1], line=":")
UNIFORM = plots.METHODS["AugMapping"]
FURTHEST = 0.2  # share of changed answers beyond which a setting is of no interest
LIMIT = Key(f"{100 * AGREEMENT:g} % of the answers", plots.METHODS["ANN"])


def allocation(result: Row, model: str) -> tuple[list[Panel], list[Key]]:
    """Changed answers against events, and the factors that were chosen."""
    choices = [row for row in result.get("choices", ()) if row["model"] == model]
    if len(choices) != 2:
        return [], []
    uniform, layerwise = choices
    neurons = next(row["neurons"] for row in result["runs"] if row["model"] == model)
    steps = sorted({row["steps"] for row in uniform["tried"]})
    looks = dict(zip(steps, plots.shades(len(steps)), strict=True))
    keys = [Key(f"uniform, {t} step{'s' * (t > 1)}", look) for t, look in looks.items()]
    keys += [
        Key("chosen, uniform", UNIFORM, hollow=True),
        Key("layer by layer", LAYERWISE),
        Key("ANN, smallest activations left out", EXACT),
        LIMIT,
    ]
    columns = ("left_out", "events_per_image", "agreement")
    exact = [
        dict(zip(columns, values, strict=True))
        for row in result.get("left_out", ())
        if row["model"] == model
        for values in zip(*(row[column] for column in columns), strict=True)
    ]
    left = search(uniform, layerwise, exact, looks, neurons, model)
    return [left, factors(choices, model)], keys


def search(
    uniform: Row, layerwise: Row, exact: list[Row], looks: dict[int, plots.Look], neurons: int,
    model: str,
) -> Panel:  # fmt: skip
    """All uniform settings, the path of the search from the best of them, and the exact ANN."""

    def points(rows: Iterable[Row], agreement: str = "agreement") -> list[tuple[float, float]]:
        return [(row["events_per_image"] / neurons, 100 * (1 - row[agreement])) for row in rows]

    def near(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
        return sorted(point for point in points if point[1] <= 100 * FURTHEST)

    curves = {
        steps: near(points(row for row in uniform["tried"] if row["steps"] == steps))
        for steps in looks
    }
    path = points(layerwise["moves"], "judged_agreement")
    chosen = points((uniform, layerwise))
    bound = near(points(exact))

    def draw(ax: Axes, mode: plots.Mode) -> None:
        for steps, curve in curves.items():
            if curve:
                color = looks[steps].color(mode)
                ax.plot(*zip(*curve, strict=True), color=color, marker="o", ms=3, lw=1.3)
        if bound:
            line, marker, color = EXACT.line, EXACT.marker, EXACT.color(mode)
            ax.plot(*zip(*bound, strict=True), line, color=color, marker=marker, ms=4, lw=1.5)
        color = LAYERWISE.color(mode)
        if path:
            ax.plot(*zip(*path, strict=True), color=color, marker="D", ms=3.5, ls="none")
        for look, (x, y), size in zip((UNIFORM, LAYERWISE), chosen, (10, 8), strict=True):
            ax.plot([x], [y], look.marker, color=look.color(mode), mfc="none", ms=size, mew=1.8)
        limit = 100 * (1 - AGREEMENT)
        ax.axhline(limit, color=plots.color("ANN", mode), linestyle="--", lw=1.5, zorder=1)
        differ_axis(ax, 100 * FURTHEST)
        ax.set_xlabel("events per neuron and image")

    (before, _), (after, _) = chosen
    return Panel(
        draw,
        f"Answers that differ from the ANN's against events, {model}. The uniform setting with the "
        f"fewest events that holds takes {uniform['steps']} step{'s' * (uniform['steps'] > 1)} and "
        f"{number(before)} events per neuron; layer by layer it is {number(after)}."
        + _left_out(exact, neurons),
    )


def _left_out(exact: list[Row], neurons: int) -> str:
    """How many of the smallest activations the exact ANN can do without, in words."""
    if not exact:
        return ""
    last = [row for row in exact if row["agreement"] >= AGREEMENT - 1e-9][-1]
    every, least = (row["events_per_image"] / neurons for row in (exact[0], last))
    return (
        f" {number(every)} of the ANN's neurons are active; with exact values its answers hold "
        f"without the smallest {100 * last['left_out']:g} % of them, at {number(least)}."
    )


def factors(choices: list[Row], model: str) -> Panel:
    """The factor of every layer's threshold."""
    names = list(choices[0]["scales"])

    def draw(ax: Axes, mode: plots.Mode) -> None:
        for row, look in zip(choices, (UNIFORM, LAYERWISE), strict=True):
            values = [row["scales"][name] for name in names]
            ax.plot(values, color=look.color(mode), marker=look.marker, mfc="none", ms=6)
        ax.set_yscale("log", base=2)
        values = [value for row in choices for value in row["scales"].values()]
        ax.set_ylim(min(values) / 1.5, max(values) * 1.5)
        ax.yaxis.set_major_formatter("{x:g}")
        layer_axis(ax, names)
        ax.set(ylabel="factor of the threshold")

    same = next(iter(choices[0]["scales"].values()))
    said = ", ".join(f"{name} {number(value)}" for name, value in choices[1]["scales"].items())
    return Panel(
        draw,
        f"Factors of the thresholds, {model}. Uniform: {number(same)} for all layers. "
        f"Layer by layer: {said}.",
    )
