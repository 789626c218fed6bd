"""What some experiments hold beside accuracy over time, as Markdown tables of the results page."""

from __future__ import annotations

from typing import Any

MILESTONES = (1, 2, 4, 8, 16, 32)


def tables(result: dict[str, Any]) -> list[str]:
    """The tables that a stored result asks for; no lines where it has nothing of the kind."""
    runs = result.get("runs", [])
    return [
        *_targets(result.get("targets", [])),
        *_ablations([run for run in runs if "axis" in run]),
        *_layers([run for run in runs if "layers" in run]),
        *_robustness([run for run in runs if "disturbance" in run]),
        *_exits([run for run in runs if "sweep" in run]),
        *_allocation([run for run in runs if "scales" in run]),
        *_least(result.get("least", [])),
    ]


def _table(title: str, head: list[str], rows: list[list[str]]) -> list[str]:
    if not rows:
        return []
    align = ["---", *["--:"] * (len(head) - 1)]
    lines = [head, align, *rows]
    return ["", title, "", *(f"| {' | '.join(cells)} |" for cells in lines), ""]


def _targets(targets: list[dict[str, Any]]) -> list[str]:
    """What was asked for before the measurement, and the step that comes nearest to it."""
    rows = []
    for row in targets:
        asked = f"≤ {row['loss_points_at_most']:g} at ≤ {row['steps_at_most']} steps"
        if row["events_per_neuron_at_most"] is not None:
            asked += f", ≤ {row['events_per_neuron_at_most']:g} events a neuron"
        found = "no step keeps to the events"
        if row["step"] is not None:
            found = (
                f"{row['loss_points']:.2f} at step {row['step']}, "
                f"{row['events_per_neuron']:.2f} events a neuron"
            )
        last = row.get("loss_points_at_last")  # integer mode is judged at the last step alone
        reached = "yes" if row["reached"] else "no"
        run = f"{row['model']}, {row['label']}"
        rows.append(
            [run, f"{row['n']:,}", asked, found, "" if last is None else f"{last:.2f}", reached]
        )
    head = ["Run", "Images", "Loss asked for (points)", "Found", "At the last step", "Reached"]
    return _table("Targets set before the measurement.", head, rows)


def _ablations(runs: list[dict[str, Any]]) -> list[str]:
    rows = []
    for run in runs:
        values = run["accuracy"]
        cells = [f"{100 * values[t - 1]:.2f}" if t <= len(values) else "" for t in MILESTONES]
        ann = f"{100 * run['ann_accuracy']:.2f}"
        rows.append([f"{run['model']}, {run['label']}", f"{run['n']:,}", *cells, ann])
    head = ["One choice changed", "Images", *map(str, MILESTONES), "ANN"]
    return _table("Accuracy in percent on validation images after some time steps.", head, rows)


def _layers(runs: list[dict[str, Any]]) -> list[str]:
    rows = [
        [f"{run['model']}, {run['label']}: {layer['name']}"]
        + [f"{error:.3f}" for error in layer["error"]]
        for run in runs
        for layer in run["layers"]
    ]
    head = ["Layer", *(str(t) for run in runs[:1] for t in run["steps"])]
    title = "Error of each layer, relative to the ANN's activation, after some time steps."
    return _table(title, head, rows)


def _robustness(runs: list[dict[str, Any]]) -> list[str]:
    rows = [
        [
            f"{run['model']}, {run['label']}, {run['steps']} steps: {run['disturbance']}",
            f"{row['size']:g}",
            f"{100 * row['accuracy']:.2f} ± {100 * row['accuracy_std']:.2f}",
            f"{100 * row['ann_accuracy']:.2f} ± {100 * row['ann_accuracy_std']:.2f}",
        ]
        for run in runs
        for row in run["sizes"]
    ]
    head = ["Run", "Size", "SNN (%)", "ANN (%)"]
    title = "Accuracy under disturbances, mean and standard deviation over the draws of noise."
    return _table(title, head, rows)


def _exits(runs: list[dict[str, Any]]) -> list[str]:
    rows = [
        [
            f"{run['model']}, {run['label']}{', chosen' if row['chosen'] else ''}",
            f"{row['confidence']:g}",
            f"{100 * row['accuracy']:.2f}",
            f"{row['mean_steps']:.2f}",
            f"{row['seconds'] / run['seconds_all_steps']:.2f}",
        ]
        for run in runs
        for row in run["sweep"]
    ]
    head = ["Run", "Confidence", "Accuracy (%)", "Mean steps", "Time / all steps"]
    return _table("Early exit. The confidence was chosen on validation images.", head, rows)


def _allocation(runs: list[dict[str, Any]]) -> list[str]:
    rows = [
        [
            f"{run['model']}, {run['label']}",
            f"{run['steps']}",
            f"{100 * run['agreement'][-1]:.2f}",
            f"{100 * (run['ann_accuracy'] - run['accuracy'][-1]):+.2f}",
            f"{run['events_per_image'][-1] / run['neurons']:.3f}",
            f"{100 * run['events_saved']:.1f}" if "events_saved" in run else "",
        ]
        for run in runs
    ]
    head = [
        "Thresholds",
        "Steps",
        "Same answers (%)",
        "Loss (points)",
        "Events a neuron",
        "Saved (%)",
    ]
    return _table("On the test images; both were chosen on validation images.", head, rows)


def _least(runs: list[dict[str, Any]]) -> list[str]:
    rows = []
    for run in runs:
        low, high = (100 * bound for bound in run["loss_interval"][-1])
        loss = 100 * (run["ann_accuracy"] - run["accuracy"][-1])
        rows.append(
            [
                f"{run['model']}, {run['cost'].split('_')[0]}: {run['chosen']['setting']}",
                f"{run['steps'][-1]}",
                f"{loss:+.2f} ({low:+.2f} … {high:+.2f})",
                f"{run['events_per_neuron'][-1]:.3f}",
                f"{run['bits_per_neuron'][-1]:.3f}",
            ]
        )
    head = ["Fewest", "Steps", "Loss, 95 % interval (points)", "Events a neuron", "Bits a neuron"]
    title = "The least that keeps the accuracy: chosen on validation images, on the test images."
    return _table(title, head, rows)
