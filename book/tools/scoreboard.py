"""The scoreboard: what every method took to come close to its ANN, both accounts of energy beside.

Markdown for the README, from the runs of ``accuracy-over-time``. Chapter *Scoreboard* makes the
same rows in the open and says what they leave out. `codes` does it for those of ``codes``, which
chapter *Other codes* explains, and `sparse` for ``sparsity``, chapter *Sparser than the network you
started from*.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from book.tools.tables import ABSENT, Run, best, late_of, loss, points, settled, settled_late
from snnlib.simulation import costs
from snnlib.zoo import models
from snnlib.zoo.evaluate import LABELS

if TYPE_CHECKING:
    from book.experiments.codes import CodeRun
    from book.experiments.sparse_points import Point

NEAR, CLOSE = 0.005, 0.001  # 0.5 and 0.1 points
CODES = Path("book", "results", "codes.json")
SPARSITY = Path("book", "results", "sparsity.json")
CODE_ROWS = ("radix, 5 bits, base 2", "first spike, analog times", "first spike, 32 slots")
NETWORKS = tuple(name for name in models.NAMES if models.dataset_of(name) != "digits")


def table(root: Path) -> str:
    """A row a network and method: steps to within 0.5 and 0.1 points, and what the former took.

    Below a baseline stands its late answer, where that arrives at another step.

    Args:
        root: the repository.
    """
    runs = [run for found in best(root, NETWORKS).values() for run in found]
    if not runs:
        return ABSENT
    head = [
        "| network | ANN | method | steps to 0.5 | to 0.1 | events/neuron | SynOps | energy, ours "
        "| literature's |",
        "|---|--:|---|--:|--:|--:|--:|--:|--:|",
    ]
    rows = [cells for run in runs for cells in _rows(run)]
    return "\n".join([*head, *(f"| {' | '.join(cells)} |" for cells in rows)])


def codes(root: Path) -> str:
    """A row a network and code: points lost, and what an image took.

    Args:
        root: the repository.
    """
    runs: list[CodeRun] = _stored(root / CODES)
    if not runs:
        return ABSENT
    head = [
        "| network | code | images | points lost, 95 % interval | latency | events/neuron "
        "| bits/neuron | SynOps | energy, ours | literature's |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    rows = [
        f"| {run['model']} | {' | '.join(code_cells(run))} |"
        for name in dict.fromkeys(run["model"] for run in runs)
        for run in runs
        if run["model"] == name and run["label"] in CODE_ROWS
    ]
    return "\n".join([*head, *rows])


def code_cells(run: CodeRun) -> list[str]:
    """Of a code with one answer an image: its name, images, loss and costs."""
    lost = loss(run["ann_accuracy"] - run["accuracy"][0], run["loss_interval"][0])
    latency, bits = run["latency_steps"], run["bits_per_neuron"]
    ann = costs.MAC_PICOJOULE * run["ann_macs"] / 1000  # nJ
    energies = (run["energy_nj_per_image"][0], run["literature_energy_nj_per_image"][0])
    analog = run["code"] == "first-spike" and run["slots"] is None
    return [
        run["label"],
        f"{run['n']:,}",
        lost,
        f"{latency} windows" if analog else f"{latency} steps",
        f"{run['events_per_image'][0] / run['neurons']:.2f}",
        "–" if bits is None else f"{bits[0]:.2f}",
        f"{run['synops_per_image'][0] / 1e6:.1f} M",
        *(f"{energy / ann:.2f}" for energy in energies),
    ]


def sparse(root: Path) -> str:
    """A row a network and choice: points lost, and what an image took in one step.

    Args:
        root: the repository.
    """
    chosen: dict[tuple[str, str, str], list[Point]] = {}
    for row in _stored(root / SPARSITY):
        chosen.setdefault((row["model"], row["way"], row["label"]), []).append(row)
    if not chosen:
        return ABSENT
    head = [
        "| network | way | chosen | points lost | events/neuron | bits/neuron | SynOps / MACs "
        "| energy, ours | literature's |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    rows = [f"| {' | '.join([*names, *sparse_cells(same)])} |" for names, same in chosen.items()]
    return "\n".join([*head, *rows])


def sparse_cells(rows: list[Point]) -> list[str]:
    """Means over the seeds of one choice: loss and costs, energies as shares of the dense ANN's."""
    losses = [row["dense_accuracy"] - row["accuracy"] for row in rows]
    lost = loss(losses[0], rows[0]["loss_interval"])
    if len(rows) > 1:
        lost = f"{points(mean(losses))} ± {100 * stdev(losses):.2f}"
    dense = mean(row["ann_energy_nj"] for row in rows)
    return [
        lost,
        f"{mean(row['events_per_neuron'] for row in rows):.3f}",
        f"{mean(row['bits_per_neuron'] for row in rows):.2f}",
        f"{mean(row['synops_share'] for row in rows):.2f}",
        f"{mean(row['energy_nj_per_image'] for row in rows) / dense:.3f}",
        f"{mean(row['literature_energy_nj_per_image'] for row in rows) / dense:.3f}",
    ]


def _stored(path: Path) -> list[Any]:
    """The runs of a result; none if it is not there."""
    return json.loads(path.read_text(encoding="utf-8"))["runs"] if path.is_file() else []


def _rows(run: Run) -> list[list[str]]:
    """The row of a run, and that of its late answer if that arrives earlier or later."""
    label, late = LABELS[run["neuron"]], late_of(run)
    arrivals = [settled(run, at_most) for at_most in (NEAR, CLOSE)]
    rows = [_cells(run, label, arrivals)]
    if late is not None:
        others = [settled_late(late, at_most) for at_most in (NEAR, CLOSE)]
        if others != arrivals:
            rows.append(_cells(run, f"{label}, late answer", others))
    return rows


def _cells(run: Run, label: str, arrivals: list[int | None]) -> list[str]:
    ann = f"{100 * run['ann_accuracy']:.2f}"
    steps = ["–" if step is None else str(step) for step in arrivals]
    return [run["model"], ann, label, *steps, *_spent(run, arrivals[0])]


def _spent(run: Run, step: int | None) -> list[str]:
    """Events a neuron, SynOps, and both accounts of energy relative to the ANN's."""
    sums = run["events_per_image"], run["synops_per_image"], run["energy_nj_per_image"]
    if step is None or None in sums:
        return ["–"] * 4
    events, synops, ours = (column[step - 1] for column in sums if column is not None)
    literature = costs.literature_energy(synops)
    shares = (f"{energy / run['ann_energy_nj']:.2f}" for energy in (ours, literature))
    return [f"{events / run['neurons']:.2f}", f"{synops / 1e6:.1f} M", *shares]
