"""The scoreboard: what every method took to come close to its ANN, both accounts of energy beside.

Markdown for the README, from the runs of ``accuracy-over-time``. Chapter *Scoreboard* makes the
same rows in the open and says what they leave out.
"""

from __future__ import annotations

from pathlib import Path

from book.tools.tables import ABSENT, Run, best, settled
from snnlib.simulation import costs
from snnlib.zoo import models
from snnlib.zoo.evaluate import LABELS

NEAR, CLOSE = 0.005, 0.001  # 0.5 and 0.1 points
NETWORKS = tuple(name for name in models.NAMES if models.dataset_of(name) != "digits")


def table(root: Path) -> str:
    """A row a network and method: steps to within 0.5 and 0.1 points, and what the former took.

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
    return "\n".join([*head, *(f"| {' | '.join(_cells(run))} |" for run in runs)])


def _cells(run: Run) -> list[str]:
    near, close = settled(run, NEAR), settled(run, CLOSE)
    ann = f"{100 * run['ann_accuracy']:.2f}"
    steps = ["–" if step is None else str(step) for step in (near, close)]
    return [run["model"], ann, LABELS[run["neuron"]], *steps, *_spent(run, near)]


def _spent(run: Run, step: int | None) -> list[str]:
    """Events a neuron, SynOps, and both accounts of energy relative to the ANN's."""
    sums = run["events_per_image"], run["synops_per_image"], run["energy_nj_per_image"]
    if step is None or None in sums:
        return ["–"] * 4
    events, synops, ours = (column[step - 1] for column in sums if column is not None)
    literature = costs.literature_energy(synops)
    shares = (f"{energy / run['ann_energy_nj']:.2f}" for energy in (ours, literature))
    return [f"{events / run['neurons']:.2f}", f"{synops / 1e6:.1f} M", *shares]
