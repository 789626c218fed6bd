"""``playground``: λ of the networks on the page *Playground*, for the percentiles it offers.

The site is built without the data sets, so the thresholds of a network whose training images a
build may lack are worked out here. Nothing is chosen and no test image is looked at.
"""

from __future__ import annotations

from functools import partial

from book.experiments.frame import Cell, Context, Experiment, Labeled
from book.experiments.integer import rounded
from book.experiments.setting import Setting
from snnlib.conversion.balance import Percentile
from snnlib.neurons import IF

PERCENTILES = (99.0, 99.9, 100.0)


class ThresholdRun(Labeled):
    """One percentile; n counts the training images whose activations were measured."""

    percentile: float
    balanced: dict[str, float]  # λ of every layer, rounded


def cells(network: str) -> list[Cell]:
    """A cell for all percentiles of a network."""
    return [Cell(f"{network}/thresholds", partial(measure, network))]


def measure(network: str, context: Context) -> list[ThresholdRun]:
    """λ of every layer at every percentile."""
    subject = context.subject(network)
    found = []
    for q in PERCENTILES:
        net = rounded(subject.convert(Setting(IF(), Percentile(q))))
        found.append(
            ThresholdRun(
                model=network,
                label=f"percentile {q:g}",
                n=len(subject.calibration),
                percentile=q,
                balanced={name: float(value) for name, value in net.balanced.items()},
            )
        )
    return found


EXPERIMENT = Experiment(
    name="playground",
    summary="thresholds at several percentiles for the page that simulates in the browser",
    networks=("mnist-cnn",),
    cells=cells,
)
