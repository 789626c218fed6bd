"""``ablations``: what each choice in a conversion is worth, on validation images.

*One axis at a time*: from a fixed point (AugMapping with 4 levels, negative 0, v0 = ½, 99.9th
percentile per layer, constant input) one choice is changed and the others stay. The reset is
compared on IF neurons, the only ones that can be reset to zero. *The full grid* (balancing × scope
× v0 × negative × levels) is computed on the small networks, with fewer images.

Deep networks are run on fewer images. All are validation images: no number here is a test accuracy.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import product
from typing import NamedTuple

from book.experiments.frame import SEED, Cell, Context, Experiment, Row
from book.experiments.measure import OverTime, over_time
from book.experiments.setting import Setting, SettingRecord
from snnlib.conversion.balance import Balance, Max, MinError, Percentile
from snnlib.neurons import IF, Augmented
from snnlib.simulation.coding import Bernoulli, Coding, Constant
from snnlib.zoo import models
from snnlib.zoo.evaluate import evaluate

STEPS, IF_STEPS = 8, 32
IMAGES, GRID_IMAGES = 1000, 500
SMALL = ("digits-cnn", "mnist-mlp", "fashion-mlp")  # these get the full grid

LEVELS, NEGATIVES, V0S = (1, 2, 4, 8, 16), (0.0, 0.5, 1.0), (0.0, 0.5)
CENTER = Augmented(levels=4, negative=0.0)
# MinError for the levels of the center after half the steps.
BALANCES: dict[str, Balance] = {
    "max": Max(),
    "99": Percentile(99),
    "99.9": Percentile(99.9),
    "99.99": Percentile(99.99),
    "min-error": MinError(levels=4 * STEPS // 2),
}


class Choice(NamedTuple):
    """A point on an axis."""

    name: str
    setting: Setting
    coding: Coding = Constant()
    steps: int = STEPS


AXES: dict[str, list[Choice]] = {
    "balance": [Choice(name, Setting(CENTER, balance)) for name, balance in BALANCES.items()],
    "scope": [
        Choice(scope, Setting(CENTER, per_channel=scope == "channel"))
        for scope in ("layer", "channel")
    ],
    "v0": [Choice(f"{v0:g}", Setting(replace(CENTER, v0=v0))) for v0 in V0S],
    "negative": [Choice(f"{x:g}", Setting(replace(CENTER, negative=x))) for x in NEGATIVES],
    "levels": [Choice(str(levels), Setting(replace(CENTER, levels=levels))) for levels in LEVELS],
    "reset": [
        Choice(f"IF, {reset}", Setting(IF(reset=reset)), steps=IF_STEPS)
        for reset in ("subtract", "zero")
    ],
    "input": [
        Choice(name, Setting(CENTER), coding, IF_STEPS)
        for name, coding in (("constant", Constant()), ("bernoulli", Bernoulli(SEED)))
    ],
    "bias calibration": [
        Choice(name, Setting(CENTER, bias_steps=steps))
        for name, steps in (("none", None), ("for 2 steps", 2), ("for 8 steps", 8))
    ],
}


class Curves(Row, OverTime):
    """One setting on validation images."""

    n: int  # images
    images: str
    steps: int


class AblationRun(Curves):
    """A point on an axis."""

    axis: str
    choice: str
    label: str
    input: str  # constant or bernoulli
    setting: SettingRecord


class GridRow(Curves):
    """A point of the grid."""

    balance: str  # as `BALANCES` names it
    scope: str  # of a threshold: layer or channel
    levels: int  # these four: of the neuron
    negative: float
    v0: float
    cap: int | None


def cells(network: str) -> list[Cell]:
    """A cell an axis; on the small networks a cell for every balancing and scope of the grid."""
    found = [Cell(f"{network}/{axis}", partial(along, network, axis)) for axis in AXES]
    if network in SMALL:
        for balance, scope in product(BALANCES, ("layer", "channel")):
            name = f"{network}/grid/{balance}/{scope}"
            found.append(Cell(name, partial(grid, network, balance, scope), "grid"))
    return found


def along(network: str, axis: str, context: Context) -> list[AblationRun]:
    """One row for each choice on an axis."""
    return [
        {
            "axis": axis,
            "choice": choice.name,
            "label": f"{axis}: {choice.name}",
            "input": "bernoulli" if isinstance(choice.coding, Bernoulli) else "constant",
            "setting": choice.setting.record(),
            **_curves(context, network, choice, IMAGES),
        }
        for choice in AXES[axis]
    ]


def grid(network: str, balance: str, scope: str, context: Context) -> list[GridRow]:
    """One row for each v0, negative and number of levels."""
    rows: list[GridRow] = []
    for v0, negative, levels in product(V0S, NEGATIVES, LEVELS):
        neuron = Augmented(levels=levels, negative=negative, v0=v0)
        choice = Choice("grid", Setting(neuron, BALANCES[balance], scope == "channel"))
        rows.append(
            {
                "balance": balance,
                "scope": scope,
                "levels": levels,
                "negative": negative,
                "v0": v0,
                "cap": neuron.cap,
                **_curves(context, network, choice, GRID_IMAGES),
            }
        )
    return rows


def _curves(context: Context, network: str, choice: Choice, images: int) -> Curves:
    subject = context.subject(network)
    split = subject.validation[: subject.affordable(images, least=500)]
    net = subject.convert(choice.setting)
    found = evaluate(net, subject.ann, split, choice.steps, coding=choice.coding)
    return {
        "model": network,
        "n": found.n,
        "images": "validation",
        "steps": choice.steps,
        **over_time(found, net),
    }


EXPERIMENT = Experiment(
    name="ablations",
    summary="what each choice of a conversion is worth, one at a time and in a grid (validation)",
    networks=models.NAMES,
    cells=cells,
)
