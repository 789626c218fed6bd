"""Drawings of the experiment ``frontier``: accuracy against its costs, and the size of spikes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from bookext.axes import CLOSE, MARKED, cost_axis, loss_axis, number
from bookext.modes import Key, Panel
from bookext.results import Result, of
from snnlib import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from book.experiments.frontier import AnnPoint, Cost, FrontierRun, ParetoSet, Point


class Scale(NamedTuple):
    """How a cost is shown: label of its axis, unit in a text, and the factor to that."""

    label: str
    unit: str
    factor: float = 1.0


COSTS: dict[Cost, Scale] = {
    "steps": Scale("time steps", "steps"),
    "events_per_neuron": Scale("events per neuron and image", "events per neuron"),
    "bits_per_neuron": Scale("bits per neuron and image", "bits per neuron"),
    "energy_nj_per_image": Scale("energy per image (µJ, our account)", "µJ", 1e-3),
    "literature_energy_nj_per_image": Scale("energy per image (µJ, literature's)", "µJ", 1e-3),
}
FREE, PARETO = "AugMapping, |c| without bound", "Pareto set"
ROUNDED, SKIPPING = "ANN, rounded activations", "ANN, zeros skipped"
LATE = {name: f"{name}, late answer" for name in ("IF", "TerMapping")}
HOLLOW = {FREE, ROUNDED, SKIPPING, *LATE.values()}
LOOKS = {  # in the order of the legend and the alt text
    "IF": plots.METHODS["IF"],
    LATE["IF"]: plots.METHODS["IF"],
    "TerMapping": plots.METHODS["TerMapping"],
    LATE["TerMapping"]: plots.METHODS["TerMapping"],
    "AugMapping": replace(plots.METHODS["AugMapping"], line=""),
    FREE: replace(plots.METHODS["AugMapping"], line=""),
    ROUNDED: replace(plots.METHODS["ANN"], marker="D", line=""),
    SKIPPING: replace(plots.METHODS["ANN"], marker="d", line=""),
    "ANN": replace(plots.METHODS["ANN"], marker="D"),
    PARETO: replace(plots.EXTRA[0], marker=""),
}
SPARSEST = 1e-5  # a share of the events that is still drawn


@dataclass(frozen=True)
class Points:
    """One setting's points, one a step: what it cost and by how much it misses the ANN."""

    method: str
    name: str
    steps: Sequence[int]
    costs: Sequence[float]
    losses: Sequence[float]


def read(result: Result, model: str, cost: Cost) -> list[Points]:
    """All settings of a network that have this cost, losses in points against the ANN."""
    rows: list[FrontierRun | AnnPoint] = [*of(result, model), *of(result, model, "anns")]
    found = []
    for row in rows:
        if cost not in row:
            continue
        losses = [100 * (accuracy_of_ann(result, model) - value) for value in row["accuracy"]]
        found.append(
            Points(
                method(row),
                row["cell"].rpartition("/")[-1],
                row["steps"],
                [value * COSTS[cost].factor for value in row[cost]],
                losses,
            )
        )
    return found


def accuracy_of_ann(result: Result, model: str) -> float:
    anns: list[AnnPoint] = of(result, model, "anns")
    for row in anns:
        if row["label"] == "ANN":
            (accuracy,) = row["accuracy"]
            return accuracy
    runs: list[FrontierRun] = of(result, model)
    return runs[0]["ann_accuracy"]


def method(row: FrontierRun | AnnPoint) -> str:
    """The entry of the legend that a row belongs to."""
    label = row["label"]
    if label.startswith("ANN"):
        return label if row["levels"] is None else ROUNDED
    bounded = "setting" not in row or row["setting"]["neuron"].get("cap", 0) is not None
    return label if label != "AugMapping" or bounded else FREE


def frontier(result: Result, model: str) -> tuple[list[Panel], list[Key]]:
    """Accuracy against each cost, all methods and the ANNs on the same axes."""
    sets: list[ParetoSet] = of(result, model, "pareto")
    panels, seen = [], set()
    for cost in COSTS:
        points = read(result, model, cost)
        if not points:
            continue
        seen |= {setting.method for setting in points}
        best = next((row["points"] for row in sets if row["cost"] == cost), [])
        panels.append(cost_panel(points, best, accuracy_of_ann(result, model), model, cost))
    keys = [Key(name, look, name in HOLLOW) for name, look in LOOKS.items() if name in seen]
    if keys and sets:
        keys.append(Key(PARETO, LOOKS[PARETO]))
    return panels, keys


def cost_panel(
    points: list[Points], best: list[Point], ann: float, model: str, cost: Cost
) -> Panel:
    label, _, factor = COSTS[cost]

    def draw(ax: Axes, mode: plots.Mode) -> None:
        for setting in points:
            look, several = LOOKS[setting.method], len(setting.steps) > 16
            kept = [i for i, t in enumerate(setting.steps) if not several or t in MARKED]
            hollow = setting.method in HOLLOW
            ax.plot(
                [setting.costs[i] for i in kept],
                [setting.losses[i] for i in kept],
                linestyle=look.line if several else "none",
                color=look.color(mode),
                marker=look.marker,
                markersize=4,
                markerfacecolor="none" if hollow else None,
                linewidth=1.2,
            )
        ax.axhline(0, color=LOOKS["ANN"].color(mode), linestyle="--", linewidth=1.5, zorder=1)
        if best:
            ax.plot(
                [point[cost] * factor for point in best],
                [100 * (ann - point["accuracy"]) for point in best],
                drawstyle="steps-post",
                color=LOOKS[PARETO].color(mode),
                linewidth=1.4,
                zorder=1.5,
            )
        loss_axis(ax, [loss for setting in points for loss in setting.losses])
        cost_axis(ax, label)

    return Panel(draw, describe(points, best, model, cost))


def describe(points: list[Points], best: list[Point], model: str, cost: Cost) -> str:
    """Alt text: the least cost at which each method is as good as the ANN, and the Pareto set."""
    unit, said = COSTS[cost].unit, dict[str, str]()
    for name in LOOKS:
        settings = [setting for setting in points if setting.method == name]
        close = [
            value
            for setting in settings
            for value, loss in zip(setting.costs, setting.losses, strict=True)
            if loss <= CLOSE + 1e-9
        ]
        if close:
            said[name] = f"from {amount(min(close), unit)} on"
        elif settings:
            said[name] = "nowhere"
    twins = {**{late: name for name, late in LATE.items()}, SKIPPING: "ANN"}
    parts = [  # another reading or count of the same only where it differs
        f"{name} {where}" for name, where in said.items() if said.get(twins.get(name, "")) != where
    ]
    text = (
        f"Points lost against the ANN over {COSTS[cost].label}, {model}. "
        f"Within {CLOSE:g} points of the ANN: {'; '.join(parts)}."
    )
    if best:
        rounded = sum(point["label"].startswith("ANN") for point in best)
        text += f" The Pareto set has {len(best)} points, {rounded} of them ANNs."
    return text


def amount(value: float, unit: str) -> str:
    return f"{number(value)} {'step' if unit == 'steps' and value == 1 else unit}"


def coefficients(result: Result, model: str) -> tuple[list[Panel], list[Key]]:
    """How large the spikes are: the share of |c| among the events, by number of levels."""
    groups: dict[bool, dict[str, list[int]]] = {False: {}, True: {}}
    runs: list[FrontierRun] = of(result, model)
    for row in runs:
        setting = row.get("setting", {})
        neuron = setting.get("neuron", {})
        # The histogram hardly changes with the negative threshold: one of them is enough.
        if neuron.get("kind") == "augmented" and not row["negative"]:
            bound = "" if neuron.get("cap") else ", no bound"
            sizes = row.get("events_by_size")
            if sizes and sum(sizes):
                per_channel = bool(setting.get("per_channel"))
                word = "level" if row["levels"] == 1 else "levels"
                groups[per_channel][f"{row['levels']} {word}{bound}"] = sizes
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    names.sort(key=lambda name: (int(name.split()[0]), name))
    looks = dict(zip(names, plots.shades(len(names)), strict=True))
    # Both panels have the same axis.
    largest = max(
        (k for g in groups.values() for s in g.values() for k, n in enumerate(s, 1) if n), default=0
    )
    panels = [
        size_panel(group, looks, largest, model, "channel" if per_channel else "layer")
        for per_channel, group in groups.items()
        if group
    ]
    return panels, [Key(name, look) for name, look in looks.items()]


def size_panel(
    group: dict[str, list[int]], looks: dict[str, plots.Look], largest: int, model: str, each: str
) -> Panel:
    def draw(ax: Axes, mode: plots.Mode) -> None:
        for name in [name for name in looks if name in group]:
            shares = [n / sum(group[name]) for n in group[name]]
            shown = [(k, 100 * share) for k, share in enumerate(shares, 1) if share >= SPARSEST]
            ax.plot(
                *zip(*shown, strict=True),
                color=looks[name].color(mode),
                marker="o",
                markersize=3,
                markevery=[i for i, (k, _) in enumerate(shown) if k <= 16 or k in MARKED],
            )
        ax.set_yscale("log")
        ax.set_ylim(100 * SPARSEST, 130)
        ax.set(ylabel="share of the events (%)", title=f"One threshold a {each}")
        ax.yaxis.set_major_formatter("{x:g}")
        if largest > 20:
            cost_axis(ax, "|c|")
            ax.set_xlim(0.85, 1.2 * largest)
        else:
            ax.set(xlabel="|c|", xticks=range(1, largest + 1, 2), xlim=(0.3, largest + 0.7))

    parts = []
    for name in [name for name in looks if name in group]:
        sizes = group[name]
        ones = 100 * sizes[0] / sum(sizes)
        most = max(k for k, n in enumerate(sizes, 1) if n)
        parts.append(f"{name}: {ones:.0f} % of the events have |c| = 1, the largest has {most}")
    return Panel(
        draw,
        f"Share of each |c| among the events of AugMapping on {model}, one threshold a {each}. "
        + "; ".join(parts)
        + ".",
    )
