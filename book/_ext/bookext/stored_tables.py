"""What the stored results hold, as tables of the results page, most of them one a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from book.tools.scoreboard import code_cells
from book.tools.tables import loss, percent, points
from bookext import exit_panels, grid_panels, learned_tables, rank_tables, sequence_tables
from bookext.networks import by_network
from bookext.results import Result, of, shown
from bookext.table import Table, folded

if TYPE_CHECKING:
    from book.experiments.ablations import AblationRun, GridRow
    from book.experiments.activity import Activity
    from book.experiments.allocation import AllocationRun
    from book.experiments.codes import CodeRun
    from book.experiments.early_exit import ExitRun
    from book.experiments.frontier import FrontierRun, Least, ParetoSet, Point
    from book.experiments.late_answer import Late
    from book.experiments.layer_errors import LayerErrors
    from book.experiments.robustness import RobustnessRun
    from book.experiments.targets import Verdict

MILESTONES = (1, 2, 4, 8, 16, 32)
LONG_MILESTONES = (*MILESTONES, 64, 128, 256)
SHORT = {"literature_energy_nj_per_image": "literature's"}
LOST = "Points lost, 95 % interval"


def tables(result: Result) -> list[Table]:
    """The tables that a stored result asks for; none where it has nothing of the kind."""
    runs = result.get("runs", [])
    kinds: tuple[tuple[Callable[[str, list[Any]], Table], list[Any]], ...] = (
        (_targets, result.get("targets", [])),
        (_least, result.get("least", [])),
        (_accuracies, [run for run in runs if _tested(run)]),
        (_ablations, [run for run in runs if "axis" in run]),
        (_layers, [run for run in runs if _layered(run)]),
        (_activity, [run for run in runs if "macs_with_input" in run]),
        (_codes, [run for run in runs if _coded(run) and "every" not in run]),
        (_changes, [run for run in runs if "every" in run]),
        (_troubled, [*result.get("greedy", []), *result.get("noise", [])]),
        (_robustness, [run for run in runs if "disturbance" in run]),
        (_exits, [run for run in runs if "sweep" in run and "method" not in run]),
        (exit_panels.table, [run for run in runs if "curves" in run]),
        (_allocation, [run for run in runs if "scales" in run]),
        (_grid, result.get("grid", [])),
    )
    found = [make(*each) for make, rows in kinds for each in by_network(rows).items()]
    own = [*found, *_paretos(result)]
    for others in (rank_tables, learned_tables, sequence_tables):
        own += others.tables(result)
    return [table for table in own if table.rows]


def _layered(run: dict[str, Any]) -> bool:
    """Does it say the error of every layer? (Some count their layers, or what each does.)"""
    layers = run.get("layers")
    return isinstance(layers, list) and all(isinstance(x, dict) and "error" in x for x in layers)


def _tested(run: dict[str, Any]) -> bool:
    """Is it accuracy over time steps on test images, and nothing that has a table of its own?"""
    own = {"axis", "sweep", "curves", "scales", "variant", "late_steps_to_points"}
    if own & run.keys() or run.get("images") == "validation":
        return False
    last_alone = run.get("events_per_image", ()) is None
    return isinstance(run.get("accuracy"), list) and not last_alone


def _coded(run: dict[str, Any]) -> bool:
    """Is it a code with one answer an image?"""
    return "variant" in run and run.get("code") is not None


def _codes(model: str, rows: list[CodeRun]) -> Table:
    """A row a code and setting: points lost, and what an image took."""
    head = ["Code", "Images", LOST, "Latency", "Events a neuron", "Bits a neuron", "SynOps"]
    cells = [code_cells(run) for run in rows]
    return Table("other codes", [*head, "Energy, ours", "literature's"], folded(cells), model)


def _changes(model: str, rows: list[CodeRun]) -> Table:
    """Moving pictures: what changes cost, and what every frame anew does."""
    cells = []
    for run in rows:
        anew = run["anew_events_per_image"]
        assert anew is not None
        mine, theirs = (sums[-1] / run["neurons"] for sums in (run["events_per_image"], anew))
        lost = points(run["ann_accuracy"] - run["accuracy"][0])
        spent = [f"{mine:.2f}", f"{theirs:.2f}", f"{100 * (1 - mine / theirs):.0f}"]
        cells.append([run["label"], f"{run['n']:,}", f"{run['frames']}", lost, *spent])
    head = ["Code", "Images", "Frames", "Points lost in the first"]
    head += ["Events a neuron", "every frame anew", "Saved (%)"]
    return Table("changes of moving pictures", head, cells, model)


def _troubled(model: str, rows: list[CodeRun]) -> Table:
    """First spikes whose windows overlap, that come at a wrong time, or not at all."""
    cells = []
    for run in rows:
        lost = loss(run["ann_accuracy"] - run["accuracy"][0], run["loss_interval"][0])
        events = run["events_per_image"][0] / run["neurons"]
        agree = f"{100 * run['agreement'][0]:.1f}"
        latency = f"{run['latency_steps']}"
        cells.append([run["label"], f"{run['n']:,}", latency, lost, agree, f"{events:.3f}"])
    head = ["Code", "Images", "Latency (slots)", LOST, "Answers as the ANN (%)"]
    return Table("first spikes in trouble", [*head, "Events a neuron"], folded(cells), model)


def _accuracies(model: str, rows: list[dict[str, Any]]) -> Table:
    """A row a run: accuracy over time steps; the ANN of the same images last."""
    longest = max(len(run["accuracy"]) for run in rows)
    steps = [t for t in LONG_MILESTONES if t <= longest]
    timed = any("processor_seconds" in run for run in rows)
    cells = []
    for run in rows:
        ann, seconds = percent(run["ann_accuracy"]), f"{run.get('seconds', 0):.1f}"
        row = [settings(run), f"{run['n']:,}", *_at(run["accuracy"], steps), ann]
        cells.append([*row, seconds] if timed else row)
        late = run.get("delayed_readout")
        if late:  # the same run, its first steps left out of the answer
            first = late["after_steps"]
            row = [f"the same, read out after {first} steps", f"{run['n']:,}"]
            cells.append([*row, *_at([None] * first + late["accuracy"], steps), ann, ""])
        if "late" in run:
            cells += late_rows(run["late"], f"{run['n']:,}", steps, ann)
    head = ["Neuron", "Images", *map(str, steps), "ANN", *(["Seconds"] if timed else [])]
    return Table("accuracy (%) over time steps", head, folded(cells), model)


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
    return [percent(value) for value in found]


def settings(run: dict[str, Any]) -> str:
    """The run's label and what it was run with."""
    parts = [shown(str(run.get("label", run.get("neuron"))))]
    parts += [
        f"{key} {run[key]:g}" for key in ("levels", "negative", "v0") if run.get(key) is not None
    ]
    balance = run.get("balance")
    if balance == "percentile":
        balance = f"{run.get('percentile')} %"
    return ", ".join([*parts, *([str(balance)] if balance else [])])


def _targets(model: str, targets: list[Verdict]) -> Table:
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
        if row["step"] is not None and row["loss_points"] is not None:
            interval, lost = row.get("loss_interval"), row["loss_points"] / 100
            found = [
                loss(lost, interval) if interval else points(lost),
                f"{row['step']}",
                f"{row['events_per_neuron']:.2f}",
            ]
        # Integer mode is judged at the last step alone.
        ends = ["" if last is None else points(last / 100), "yes" if row["reached"] else "no"]
        rows.append([row["label"], f"{row['n']:,}", *asked, *found, *ends])
    head = ["Run", "Images", "Asked: points lost", "Steps", "Events a neuron"]
    head += ["Found: points lost", "Step", "Events a neuron", "Lost at the last step", "Reached"]
    kept = [i for i in range(len(head)) if any(row[i] for row in rows)]  # not all are asked for
    rows = [[row[i] for i in kept] for row in rows]
    return Table("targets set before the measurement", [head[i] for i in kept], rows, model)


def _ablations(model: str, rows: list[AblationRun]) -> Table:
    last = max(len(run["accuracy"]) for run in rows)
    steps = [t for t in MILESTONES if t <= last]
    cells = [
        [run["label"], f"{run['n']:,}", *_at(run["accuracy"], steps), percent(run["ann_accuracy"])]
        for run in rows
    ]
    head = ["One choice changed", "Images", *map(str, steps), "ANN"]
    return Table("accuracy (%) over time steps", head, folded(cells), model)


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
    title = f"answers that differ from the ANN's (%) after {grid_panels.AFTER} steps"
    levels = [f"{levels} level{'s' * (levels > 1)}" for levels in grid_panels.LEVELS]
    return Table(title, ["Thresholds", *levels], cells, model)


def _layers(model: str, rows: list[LayerErrors]) -> Table:
    cells = [
        [f"{run['label']}: {layer['name']}", *(f"{error:.3f}" for error in layer["error"])]
        for run in rows
        for layer in run["layers"]
    ]
    head = ["Layer", *map(str, rows[0]["steps"])]
    return Table("error of each layer over time steps", head, folded(cells), model)


def _activity(model: str, rows: list[Activity]) -> Table:
    """What an exact ANN does not leave at zero: a row a layer, then all of it."""
    cells = []
    for run in rows:
        found = [(x["name"], float(x["neurons"]), x["active"]) for x in run["layers"]]
        found.append(("all", run["neurons"], run["active"]))
        useful = run["macs_with_input"] / run["ann_macs"]
        found.append(("MACs whose input is not zero", run["ann_macs"], useful))
        cells += [[name, f"{number:,.0f}", f"{100 * share:.1f}"] for name, number, share in found]
    head = ["Layer", "Neurons, MACs", "Not zero (%)"]
    return Table("what the exact ANN activates, on validation images", head, cells, model)


def _robustness(model: str, rows: list[RobustnessRun]) -> Table:
    """A row a disturbance and size, a column a network; ANNs that say the same stand there once."""
    columns: dict[str, dict[str, str]] = {}
    for run in rows:
        name = f"{run['label']}, {run['steps']} steps"
        for row in run["sizes"]:
            at = f"{run['disturbance']}: {row['size']:g}"
            columns.setdefault(name, {})[at] = _spread(row["accuracy"], row["accuracy_std"])
            ann = _spread(row["ann_accuracy"], row["ann_accuracy_std"])
            columns.setdefault(f"ANN beside {run['label']}", {})[at] = ann
    names = [name for name in columns if not name.startswith("ANN")]
    anns: dict[tuple[str, ...], list[str]] = {}
    for name in [name for name in columns if name.startswith("ANN")]:
        anns.setdefault(tuple(columns[name].values()), []).append(name.removeprefix("ANN beside "))
    head = [*names, *(f"ANN beside {' and '.join(same)}" for same in anns.values())]
    values = [columns[name] for name in names]
    values += [columns[f"ANN beside {first}"] for first, *_ in anns.values()]
    sizes = dict.fromkeys(at for column in values for at in column)
    cells = [[at, *(column.get(at, "") for column in values)] for at in sizes]
    title = "accuracy (%), mean ± standard deviation over the draws"
    return Table(title, ["Disturbance: size", *head], cells, model)


def _spread(mean: float, deviation: float) -> str:
    return f"{percent(mean)} ± {percent(deviation)}"


def _exits(model: str, rows: list[ExitRun]) -> Table:
    """A row a confidence; of each network accuracy, mean steps and time relative to all steps."""
    found: dict[float, list[str]] = {}
    head = ["Confidence"]
    for place, run in enumerate(rows):
        name = run["label"]
        head += [f"{name}: accuracy (%)", "mean steps", "time / all steps"]
        for row in run["sweep"]:
            cells = found.setdefault(row["confidence"], [])
            cells += [""] * (3 * place - len(cells))
            cells += [
                f"{percent(row['accuracy'])}{' (chosen)' if row['chosen'] else ''}",
                f"{row['mean_steps']:.2f}",
                f"{row['seconds'] / run['seconds_all_steps']:.2f}",
            ]
    width = len(head) - 1
    lines = [
        [f"{confidence:g}", *cells, *[""] * (width - len(cells))]
        for confidence, cells in sorted(found.items())
    ]
    return Table("accuracy by the confidence asked for", head, lines, model)


def _allocation(model: str, rows: list[AllocationRun]) -> Table:
    cells = [
        [
            run["label"],
            f"{run['steps']}",
            percent(run["agreement"][-1]),
            loss(run["ann_accuracy"] - run["accuracy"][-1], run["loss_interval"][-1]),
            f"{run['events_per_image'][-1] / run['neurons']:.3f}",
            f"{100 * run['events_saved']:.1f}" if "events_saved" in run else "",
        ]
        for run in rows
    ]
    head = ["Thresholds", "Steps", "Same answers (%)", LOST, "Events a neuron", "Saved (%)"]
    return Table("one factor and one a layer, on test images", head, cells, model)


def setting(run: FrontierRun | Least) -> str:
    """A setting of the experiment ``frontier`` in words."""
    chosen = run["setting"]
    scope = "per channel" if chosen["per_channel"] else "per layer"
    levels = f", {run['levels']} levels" if run["levels"] > 1 else ""
    negative = f", negative {run['negative']:g}" if run["negative"] is not None else ""
    free = ", |c| without bound" if chosen["neuron"].get("cap", 0) is None else ""
    biases = f", biases for {chosen['bias_steps']}" if chosen["bias_steps"] is not None else ""
    return f"{run['label']}{levels}{negative}{free}, {scope}{biases}"


class _Member(NamedTuple):
    """A point in one or more Pareto sets, and the costs that they are of."""

    setting: str
    point: Point
    costs: list[str]


def _paretos(result: Result) -> list[Table]:
    """A table for each network: the points that no other one beats by one cost or more."""
    tables = []
    for model in by_network(result.get("pareto", [])):
        runs: list[FrontierRun] = of(result, model)
        sets: list[ParetoSet] = of(result, model, "pareto")
        named = {(run["cell"], run["label"]): setting(run) for run in runs}
        found: dict[tuple[str, int], _Member] = {}
        for row in sets:
            for point in row["points"]:
                key = f"{model}/{point['setting']}", point["label"]
                name = named.get(key, shown(point["label"]))
                member = found.setdefault((name, point["steps"]), _Member(name, point, []))
                member.costs.append(SHORT.get(row["cost"], row["cost"].split("_")[0]))
        members = sorted(found.values(), key=lambda one: one.point["events_per_neuron"])
        cells = [
            [
                name,
                f"{point['steps']}",
                f"{100 * point['accuracy']:.2f}",
                f"{point['events_per_neuron']:.3f}",
                f"{point['bits_per_neuron']:.3f}",
                f"{point['energy_nj_per_image'] / 1000:.2f}",
                f"{point['literature_energy_nj_per_image'] / 1000:.2f}",
                ", ".join(costs),
            ]
            for name, point, costs in members
        ]
        head = ["Setting", "Steps", "Accuracy (%)", "Events a neuron", "Bits a neuron"]
        head += ["Energy (µJ)", "Literature's (µJ)", "In the set of"]
        tables.append(Table("the Pareto sets, on validation images", head, cells, model))
    return tables


def _least(model: str, runs: list[Least]) -> Table:
    """The points chosen for the fewest events and for the fewest bits; often they are the same."""
    rows = [
        [
            setting(run),
            run["cost"].split("_")[0],
            f"{run['steps'][-1]}",
            loss(run["ann_accuracy"] - run["accuracy"][-1], run["loss_interval"][-1]),
            f"{run['events_per_neuron'][-1]:.3f}",
            f"{run['bits_per_neuron'][-1]:.3f}",
        ]
        for run in runs
    ]
    if len(rows) > 1 and all(row[:1] + row[2:] == rows[0][:1] + rows[0][2:] for row in rows):
        rows = [[rows[0][0], " and ".join(row[1] for row in rows), *rows[0][2:]]]
    head = ["Setting", "Fewest", "Steps", LOST, "Events a neuron", "Bits a neuron"]
    return Table("the least that keeps the accuracy, on test images", head, rows, model)
