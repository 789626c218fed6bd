"""Drawings of the experiment ``allocation``: one factor for all thresholds, or one a layer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from book.experiments.allocation import AGREEMENT
from bookext.axes import differ_axis, layer_axis, number
from bookext.modes import Key, Panel
from bookext.results import Result, of
from snnlib import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from book.experiments.allocation import AllocationChoice, AllocationRun, LeftOut

LAYERWISE, EXACT = plots.EXTRA[0], replace(plots.EXTRA[1], line=":")
UNIFORM = plots.METHODS["AugMapping"]
FURTHEST = 0.2  # share of changed answers beyond which a setting is of no interest
LIMIT = Key(f"{100 * AGREEMENT:g} % of the answers", plots.METHODS["ANN"])


class Exact(NamedTuple):
    """The ANN without a share of its activations."""

    left_out: float
    events: float
    agreement: float


def allocation(result: Result, model: str) -> tuple[list[Panel], list[Key]]:
    """Changed answers against events, and the factors that were chosen."""
    choices: list[AllocationChoice] = of(result, model, "choices")
    runs: list[AllocationRun] = of(result, model)
    anns: list[LeftOut] = of(result, model, "left_out")
    if len(choices) != 2:
        return [], []
    uniform, layerwise = choices
    steps = sorted({row["steps"] for row in uniform["tried"]})
    looks = dict(zip(steps, plots.shades(len(steps)), strict=True))
    keys = [Key(f"uniform, {t} step{'s' * (t > 1)}", look) for t, look in looks.items()]
    keys += [
        Key("chosen, uniform", UNIFORM, hollow=True),
        Key("layer by layer", LAYERWISE),
        Key("ANN, smallest activations left out", EXACT),
        LIMIT,
    ]
    exact = [
        Exact(*values)
        for row in anns
        for values in zip(row["left_out"], row["events_per_image"], row["agreement"], strict=True)
    ]
    left = search(uniform, layerwise, exact, looks, runs[0]["neurons"], model)
    return [left, factors(choices, model)], keys


def search(
    uniform: AllocationChoice, layerwise: AllocationChoice, exact: list[Exact],
    looks: dict[int, plots.Look], neurons: int, model: str,
) -> Panel:  # fmt: skip
    """All uniform settings, the path of the search from the best of them, and the exact ANN."""

    def point(events: float, agreement: float) -> tuple[float, float]:
        return events / neurons, 100 * (1 - agreement)

    def near(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
        return sorted((events, differ) for events, differ in points if differ <= 100 * FURTHEST)

    curves = {
        steps: near(
            point(row["events_per_image"], row["agreement"])
            for row in uniform["tried"]
            if row["steps"] == steps
        )
        for steps in looks
    }
    path = [point(row["events_per_image"], row["judged_agreement"]) for row in layerwise["moves"]]
    chosen = [point(row["events_per_image"], row["agreement"]) for row in (uniform, layerwise)]
    bound = near(point(row.events, row.agreement) for row in exact)

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


def _left_out(exact: list[Exact], neurons: int) -> str:
    """How many of the smallest activations the exact ANN can do without, in words."""
    if not exact:
        return ""
    first, *_ = exact
    *_, last = (row for row in exact if row.agreement >= AGREEMENT - 1e-9)
    return (
        f" {number(first.events / neurons)} of the ANN's neurons are active; with exact values its "
        f"answers hold without the smallest {100 * last.left_out:g} % of them, at "
        f"{number(last.events / neurons)}."
    )


def factors(choices: list[AllocationChoice], model: str) -> Panel:
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
