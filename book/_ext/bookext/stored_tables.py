"""What the stored results hold, as Markdown tables of the results page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from bookext import grid_panels
from bookext.results import Result, of

if TYPE_CHECKING:
    from book.experiments.ablations import AblationRun, GridRow
    from book.experiments.allocation import AllocationRun
    from book.experiments.early_exit import ExitRun
    from book.experiments.frontier import FrontierRun, Least, ParetoSet, Point
    from book.experiments.late_answer import Late
    from book.experiments.layer_errors import LayerErrors
    from book.experiments.robustness import RobustnessRun
    from book.experiments.targets import Verdict

MILESTONES = (1, 2, 4, 8, 16, 32)
LONG_MILESTONES = (*MILESTONES, 64, 128, 256)


@dataclass(frozen=True)
class Table:
    """A title, the heads of the columns, and rows of as many cells.

    Attributes:
        open: it is short and asked for, so it is shown unfolded.
    """

    title: str
    head: list[str]
    rows: list[list[str]]
    open: bool = False

    def lines(self) -> list[str]:
        """Markdown; the first column is text, the others are numbers."""
        align = ["---", *["--:"] * (len(self.head) - 1)]
        rows = [[cell.replace("|", "&#124;") for cell in row] for row in self.rows]  # |c| ≤ 15
        return [f"| {' | '.join(cells)} |" for cells in (self.head, align, *rows)]


def tables(result: Result) -> list[Table]:
    """The tables that a stored result asks for; none where it has nothing of the kind."""
    runs = result.get("runs", [])
    kinds: tuple[tuple[Callable[[str, list[Any]], Table], list[Any]], ...] = (
        (_accuracies, [run for run in runs if _tested(run)]),
        (_ablations, [run for run in runs if "axis" in run]),
        (_layers, [run for run in runs if "layers" in run]),
        (_robustness, [run for run in runs if "disturbance" in run]),
        (_exits, [run for run in runs if "sweep" in run]),
        (_allocation, [run for run in runs if "scales" in run]),
    )
    found = [
        _targets(result.get("targets", [])),
        *(make(*each) for make, rows in kinds for each in _by_network(rows).items()),
        *(_grid(*each) for each in _by_network(result.get("grid", [])).items()),
        *_paretos(result),
        _least(result.get("least", [])),
    ]
    return [table for table in found if table.rows]


def _by_network(runs: list[Any]) -> dict[str, list[Any]]:
    """The rows of each network, networks in alphabetical order: each gets a table of its own."""
    found: dict[str, list[Any]] = {}
    for run in runs:
        found.setdefault(str(run["model"]), []).append(run)
    return dict(sorted(found.items()))


def _tested(run: dict[str, Any]) -> bool:
    """Is it accuracy over time steps on test images, and nothing that has a table of its own?"""
    if {"axis", "sweep", "scales"} & run.keys() or run.get("images") == "validation":
        return False
    last_alone = run.get("events_per_image", ()) is None
    return isinstance(run.get("accuracy"), list) and not last_alone


def _accuracies(model: str, rows: list[dict[str, Any]]) -> Table:
    """A row a run: accuracy over time steps, the ANN last."""
    longest = max(len(run["accuracy"]) for run in rows)
    steps = [t for t in LONG_MILESTONES if t <= longest]
    timed = any("processor_seconds" in run for run in rows)
    cells = []
    for run in rows:
        ann, seconds = f"{100 * run['ann_accuracy']:.2f}", f"{run.get('seconds', 0):.1f}"
        row = [settings(run), f"{run['n']:,}", *_at(run["accuracy"], steps), ann]
        cells.append([*row, seconds] if timed else row)
        late = run.get("delayed_readout")
        if late:  # the same run, its first steps left out of the answer
            first = late["after_steps"]
            row = [f"the same, read out after {first} steps", f"{run['n']:,}"]
            cells.append([*row, *_at([None] * first + late["accuracy"], steps), ann, ""])
        if "late" in run:
            cells += late_rows(run["late"], f"{run['n']:,}", steps, ann)
    title = f"{model}: accuracy (%) over time steps"
    head = ["Neuron", "Images", *map(str, steps), "ANN", *(["Seconds"] if timed else [])]
    return Table(title, head, cells)


def late_rows(late: Late, n: str, steps: Sequence[int], ann: str) -> list[list[str]]:
    """The late answer of the run above, and the step from which it is read."""
    starts = [str(late["start"][t - 1]) if t <= len(late["start"]) else "" for t in steps]
    return [
        ["the same, late answer", n, *_at(late["accuracy"], steps), ann],
        ["read from step", "", *starts, ""],
    ]


def _at(values: Sequence[float | None], steps: Sequence[int]) -> list[str]:
    """The accuracy in percent after each of these steps; nothing where there is none."""
    found = [values[t - 1] if t <= len(values) else None for t in steps]
    return ["" if value is None else f"{100 * value:.2f}" for value in found]


def settings(run: dict[str, Any]) -> str:
    """The run's label and what it was run with."""
    parts = [f"**{run.get('label', run.get('neuron'))}**"]
    parts += [
        f"{key} {run[key]}" for key in ("levels", "negative", "v0") if run.get(key) is not None
    ]
    balance = run.get("balance")
    if balance == "percentile":
        balance = f"{run.get('percentile')} %"
    return ", ".join([*parts, *([str(balance)] if balance else [])])


def _targets(targets: list[Verdict]) -> Table:
    """What was asked for before the measurement, and the step that comes nearest to it."""
    rows = []
    for row in targets:
        events, last = row["events_per_neuron_at_most"], row.get("loss_points_at_last")
        asked = [
            f"≤ {row['loss_points_at_most']:g}",
            f"≤ {row['steps_at_most']}",
            "" if events is None else f"≤ {events:g}",
        ]
        found = ["none", "", ""]  # no step keeps to the events
        if row["step"] is not None:
            found = [
                f"{row['loss_points']:.2f}",
                f"{row['step']}",
                f"{row['events_per_neuron']:.2f}",
            ]
        # Integer mode is judged at the last step alone.
        ends = ["" if last is None else f"{last:.2f}", "yes" if row["reached"] else "no"]
        rows.append([f"{row['model']}, {row['label']}", f"{row['n']:,}", *asked, *found, *ends])
    head = ["Run", "Images", "Loss asked for", "Steps", "Events"]
    head += ["Loss found", "Step", "Events", "Loss at the end", "Reached"]
    kept = [i for i in range(len(head)) if any(row[i] for row in rows)]  # not all are asked for
    rows = [[row[i] for i in kept] for row in rows]
    return Table("Targets set before the measurement", [head[i] for i in kept], rows, open=True)


def _ablations(model: str, rows: list[AblationRun]) -> Table:
    cells = []
    for run in rows:
        row = [run["label"], f"{run['n']:,}", *_at(run["accuracy"], MILESTONES)]
        cells.append([*row, f"{100 * run['ann_accuracy']:.2f}"])
    title = f"{model}: accuracy (%) over time steps"
    head = ["One choice changed", "Images", *map(str, MILESTONES), "ANN"]
    return Table(title, head, cells)


def _grid(model: str, rows: list[GridRow]) -> Table:
    """A row for each balancing, scope and v0: the range over all second thresholds."""
    cells = [
        [
            f"{grid_panels.name(balance)}, one a {scope}, v0 = {v0:g}",
            *(f"{p.low:.1f}" + (f" … {p.high:.1f}" if p.high > p.low else "") for p in points),
        ]
        for v0 in grid_panels.V0S
        for (balance, scope), points in grid_panels.curves(rows, v0).items()
    ]
    title = f"{model}: answers that differ from the ANN's (%) after {grid_panels.AFTER} steps"
    levels = [f"{levels} level{'s' * (levels > 1)}" for levels in grid_panels.LEVELS]
    return Table(title, ["Thresholds", *levels], cells)


def _layers(model: str, rows: list[LayerErrors]) -> Table:
    cells = [
        [f"{run['label']}: {layer['name']}", *(f"{error:.3f}" for error in layer["error"])]
        for run in rows
        for layer in run["layers"]
    ]
    head = ["Layer", *map(str, rows[0]["steps"])]
    title = f"{model}: error over time steps"
    return Table(title, head, cells)


def _robustness(model: str, rows: list[RobustnessRun]) -> Table:
    cells = [
        [
            f"{run['label']}, {run['steps']} steps: {run['disturbance']}",
            f"{row['size']:g}",
            f"{100 * row['accuracy']:.2f} ± {100 * row['accuracy_std']:.2f}",
            f"{100 * row['ann_accuracy']:.2f} ± {100 * row['ann_accuracy_std']:.2f}",
        ]
        for run in rows
        for row in run["sizes"]
    ]
    title = f"{model}: accuracy by size"
    return Table(title, ["Run", "Size", "SNN (%)", "ANN (%)"], cells)


def _exits(model: str, rows: list[ExitRun]) -> Table:
    cells = [
        [
            f"{run['label']}{', chosen' if row['chosen'] else ''}",
            f"{row['confidence']:g}",
            f"{100 * row['accuracy']:.2f}",
            f"{row['mean_steps']:.2f}",
            f"{row['seconds'] / run['seconds_all_steps']:.2f}",
        ]
        for run in rows
        for row in run["sweep"]
    ]
    head = ["Run", "Confidence", "Accuracy (%)", "Mean steps", "Time / all steps"]
    title = f"{model}: accuracy by confidence"
    return Table(title, head, cells)


def _allocation(model: str, rows: list[AllocationRun]) -> Table:
    cells = [
        [
            run["label"],
            f"{run['steps']}",
            f"{100 * run['agreement'][-1]:.2f}",
            f"{100 * (run['ann_accuracy'] - run['accuracy'][-1]):+.2f}",
            f"{run['events_per_image'][-1] / run['neurons']:.3f}",
            f"{100 * run['events_saved']:.1f}" if "events_saved" in run else "",
        ]
        for run in rows
    ]
    head = ["Thresholds", "Steps", "Same answers (%)", "Loss (points)"]
    head += ["Events a neuron", "Saved (%)"]
    title = f"{model}: one factor and one a layer"
    return Table(title, head, cells)


def _setting(run: FrontierRun) -> str:
    setting = run["setting"]
    scope = "per channel" if setting["per_channel"] else "per layer"
    levels = f", {run['levels']} levels" if run["levels"] > 1 else ""
    negative = f", negative {run['negative']:g}" if run["negative"] is not None else ""
    free = ", |c| without bound" if setting["neuron"].get("cap", 0) is None else ""
    return f"{run['label']}{levels}{negative}{free}, {scope}"


class _Member(NamedTuple):
    """A point in one or more Pareto sets, and the costs that they are of."""

    setting: str
    point: Point
    costs: list[str]


def _paretos(result: Result) -> list[Table]:
    """A table for each network: the points that no other one beats by one cost or more."""
    tables = []
    for model in _by_network(result.get("pareto", [])):
        runs: list[FrontierRun] = of(result, model)
        sets: list[ParetoSet] = of(result, model, "pareto")
        named = {run["cell"]: _setting(run) for run in runs}
        found: dict[tuple[str, int], _Member] = {}
        for row in sets:
            for point in row["points"]:
                name = named.get(f"{model}/{point['setting']}", point["label"])
                member = found.setdefault((name, point["steps"]), _Member(name, point, []))
                member.costs.append(row["cost"].split("_")[0])
        members = sorted(found.values(), key=lambda one: one.point["events_per_neuron"])
        cells = [
            [
                name,
                f"{point['steps']}",
                f"{100 * point['accuracy']:.2f}",
                f"{point['events_per_neuron']:.3f}",
                f"{point['bits_per_neuron']:.3f}",
                f"{point['energy_nj_per_image'] / 1000:.2f}",
                ", ".join(costs),
            ]
            for name, point, costs in members
        ]
        head = ["Setting", "Steps", "Accuracy (%)", "Events a neuron", "Bits a neuron"]
        head += ["Energy (µJ)", "In the set of"]
        tables.append(Table(f"{model}: the Pareto sets, on validation images", head, cells))
    return tables


def _least(runs: list[Least]) -> Table:
    rows = []
    for run in runs:
        low, high = (100 * bound for bound in run["loss_interval"][-1])
        loss = 100 * (run["ann_accuracy"] - run["accuracy"][-1])
        rows.append(
            [
                f"{run['model']}, {run['cost'].split('_')[0]}: {_setting(run)}",
                f"{run['steps'][-1]}",
                f"{loss:+.2f} ({low:+.2f} … {high:+.2f})",
                f"{run['events_per_neuron'][-1]:.3f}",
                f"{run['bits_per_neuron'][-1]:.3f}",
            ]
        )
    head = ["Fewest", "Steps", "Loss, 95 % interval (points)", "Events a neuron", "Bits a neuron"]
    title = "The least that keeps the accuracy, on test images"
    return Table(title, head, rows, open=True)
