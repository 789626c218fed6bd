"""Networks that learn to spike, as tables of the results page: a row is a mean over seeds.

Each is on one data set, so the page shows them whatever network of the book is looked at.
"""

from __future__ import annotations

from statistics import mean
from typing import TYPE_CHECKING, Any

from book.tools.tables import loss
from bookext.networks import by_network
from bookext.results import Result, average, images, spread
from bookext.table import Table
from snnlib.zoo import models

if TYPE_CHECKING:
    from book.experiments.norms import Distance
    from book.experiments.rate_norm import ConvertedRow
    from book.experiments.tandem import TandemRun
    from book.experiments.throughput import FormSpeed, Speed

DATASETS = {
    "digits": "the digits", "mnist": "MNIST", "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
}  # fmt: skip
STEPS = (4, 8, 16, 32, 64)  # of Rate Norm Layers that answer as IF neurons
LOST = "Points lost, 95 % interval"


def tables(result: Result) -> list[Table]:
    """The tables of a result on training."""
    sections = [row for name in ("runs", "trained", "populations") for row in result.get(name, [])]
    kinds = (
        (_trained, [row for row in sections if "test_accuracy" in row and _images(row)]),
        (_tandem, [row for row in sections if "insertions" in row]),
        (_rate_norm, [row for row in sections if "late_steps_to_points" in row]),
        (_distances, result.get("distances", [])),
        (_speeds, [row for row in sections if "precision" in row and "batch" in row]),
        (_forms, result.get("forms", [])),
    )
    return [make(*each) for make, rows in kinds for each in by_network(rows).items()]


def _images(row: dict[str, Any]) -> bool:
    """Was it trained on images? (Recordings have tables of their own.)"""
    return row["model"] in models.NAMES


def _trained(model: str, rows: list[Any]) -> Table:
    """Accuracy, steps, spikes, time and memory of each way to train."""
    groups: dict[tuple[str, int | None, int], list[Any]] = {}
    for row in rows:
        groups.setdefault((row["label"], row.get("steps"), row["epochs"]), []).append(row)
    head = ["Trained", "T", "Seeds", "Images × epochs", "Right (%)", "Spikes a neuron"]
    head += ["Seconds an epoch", "MB kept, images a batch"]
    cells = [
        [
            label,
            "" if steps in (None, 0) else f"{steps}",
            f"{len(same)}",
            f"{same[0]['fitted_images']:,} × {epochs}",
            spread(row["test_accuracy"] for row in same),
            average(same, "spikes_per_neuron", "{:.2f}"),
            average(same, "seconds_per_epoch", "{:.0f}"),
            _kept(same),
        ]
        for (label, steps, epochs), same in groups.items()
    ]
    kept = [i for i in range(len(head)) if any(row[i] for row in cells)]
    title = f"trained on {DATASETS[models.dataset_of(model)]}, {images(rows)}"
    return Table(title, [head[i] for i in kept], [[row[i] for i in kept] for row in cells])


def _kept(rows: list[Any]) -> str:
    if "kept_megabytes" not in rows[0]:
        return ""
    return f"{mean(row['kept_megabytes'] for row in rows):.0f}, {rows[0]['kept_batch']}"


def _tandem(model: str, rows: list[TandemRun]) -> Table:
    """What tuning in tandem wins over plain conversion, read early and late."""
    cells = [
        [
            row["label"],
            f"{row['steps']}",
            loss(row["ann_accuracy"] - row["full"]["test_accuracy"], row["full"]["loss_interval"]),
            loss(row["ann_accuracy"] - row["late"]["test_accuracy"], row["late"]["loss_interval"]),
            f"{row['late']['start']}",
            f"{row['spikes_per_neuron']:.2f}",
            f"{row['seconds']:.0f}",
        ]
        for row in rows
    ]
    head = ["Weights", "T", LOST, "the same, late answer", "from step", "Spikes a neuron"]
    title = f"{model} against its ANN, {images(rows)}"
    return Table(title, [*head, "Seconds of training"], cells)


def _rate_norm(model: str, rows: list[ConvertedRow]) -> Table:
    """Points lost over steps, and when the answer is good enough."""
    cells = []
    for row in rows:
        lost = [row["ann_accuracy"] - row["accuracy"][t - 1] for t in STEPS]
        arrivals = [row["steps_to_points"], row["late_steps_to_points"]]
        cells.append(
            [
                row["label"],
                *(f"{100 * value:.2f}" for value in lost),
                *("never" if arrival is None else f"{arrival}" for arrival in arrivals),
            ]
        )
    head = ["Thresholds", *(f"T = {t}" for t in STEPS), "Steps to 0.5 points", "read late"]
    return Table(f"points that {model} loses, {images(rows)}", head, cells)


def _distances(model: str, rows: list[Distance]) -> Table:
    """Decay left out, and mimicked: how far from decay, in validation accuracy and in loss."""
    groups: dict[float, list[Distance]] = {}
    for row in rows:
        groups.setdefault(row["momentum"], []).append(row)
    cells = [
        [
            f"momentum {momentum:g}",
            f"{len(same)}",
            f"{100 * mean(row['off'] for row in same):.2f}",
            f"{100 * mean(row['mimic'] for row in same):.2f}",
            f"{mean(row['off_loss'] for row in same):.4f}",
            f"{mean(row['mimic_loss'] for row in same):.4f}",
        ]
        for momentum, same in groups.items()
    ]
    head = ["Training", "Seeds", "Decay off: points away", "mimicked: points away"]
    head += ["Decay off: loss away", "mimicked: loss away"]
    dataset = DATASETS[models.dataset_of(model)]
    return Table(f"mean distance from training with decay, {dataset}", head, cells)


def _speeds(model: str, rows: list[Speed]) -> Table:
    """Images a second: a row a batch and precision, a column a number of steps."""
    steps = sorted({row["steps"] for row in rows})
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        name = f"{row['precision']}, batch {row['batch']}"
        found.setdefault(name, {})[row["steps"]] = row["images_per_second"]
    cells = [[name, *(f"{speeds[t]:,.0f}" for t in steps)] for name, speeds in found.items()]
    return Table(f"images a second of {model} over steps", ["Simulator", *map(str, steps)], cells)


def _forms(model: str, rows: list[FormSpeed]) -> Table:
    """Images a second of many steps and of a wide output: a row a device, precision and batch."""
    found: dict[tuple[str, str, int], dict[str, FormSpeed]] = {}
    for row in rows:
        found.setdefault((row["device"], row["precision"], row["n"]), {})[row["method"]] = row
    cells = [
        [
            f"{'GPU' if device == 'cuda' else 'CPU'}, {precision}, batch {batch:,}",
            *(f"{both[form]['images_per_second']:,.0f}" for form in ("time", "width")),
            f"{both['width']['images_per_second'] / both['time']['images_per_second']:.1f}",
        ]
        for (device, precision, batch), both in found.items()
    ]
    head = ["Population code", "Ten steps", "One step, ten neurons a class", "times as fast"]
    return Table(f"images a second of both forms, on images as {model} sees", head, cells)
