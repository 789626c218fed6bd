"""``ablations``: what each choice in a conversion is worth, on validation images.

*One axis at a time*: from a fixed point (AugMapping with 4 levels, negative 0, v0 = ½, 99.9th
percentile per layer, constant input) one choice is changed and the others stay. The reset is
compared on IF neurons, the only ones that can be reset to zero. *The full grid* (balancing × scope
× v0 × negative × levels) is computed on the small networks, with fewer images.

Deep networks are run on fewer images. All are validation images: no number here is a test accuracy.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from itertools import product
from typing import Any

from book.experiments.frame import SEED, Cell, Context, Experiment, Row
from book.experiments.setting import Setting
from snnlib.conversion.balance import Balance, Max, MinError, Percentile
from snnlib.neurons import IF, Augmented, Neuron
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

Choice = tuple[str, Setting, Coding, int]  # name, setting, input, steps


def _neuron(name: str, neuron: Neuron, steps: int = STEPS) -> Choice:
    return name, Setting(neuron), Constant(), steps


AXES: dict[str, list[Choice]] = {
    "balance": [
        (name, Setting(CENTER, balance), Constant(), STEPS) for name, balance in BALANCES.items()
    ],
    "scope": [
        (name, Setting(CENTER, per_channel=name == "channel"), Constant(), STEPS)
        for name in ("layer", "channel")
    ],
    "v0": [_neuron(f"{v0:g}", replace(CENTER, v0=v0)) for v0 in V0S],
    "negative": [_neuron(f"{value:g}", replace(CENTER, negative=value)) for value in NEGATIVES],
    "levels": [_neuron(str(levels), replace(CENTER, levels=levels)) for levels in LEVELS],
    "reset": [_neuron(f"IF, {name}", IF(reset=name), IF_STEPS) for name in ("subtract", "zero")],
    "input": [
        (name, Setting(CENTER), coding, IF_STEPS)
        for name, coding in (("constant", Constant()), ("bernoulli", Bernoulli(SEED)))
    ],
    "bias calibration": [
        (name, Setting(CENTER, bias_steps=steps), Constant(), STEPS)
        for name, steps in (("none", None), ("for 2 steps", 2), ("for 8 steps", 8))
    ],
}


def cells(network: str) -> list[Cell]:
    """A cell an axis; on the small networks a cell for every balancing and scope of the grid."""
    found = [Cell(f"{network}/{axis}", partial(along, network, axis)) for axis in AXES]
    if network in SMALL:
        for balance, scope in product(BALANCES, ("layer", "channel")):
            name = f"{network}/grid/{balance}/{scope}"
            found.append(Cell(name, partial(grid, network, balance, scope), "grid"))
    return found


def along(network: str, axis: str, context: Context) -> list[Row]:
    """One row for each choice on an axis."""
    rows = []
    for name, setting, coding, steps in AXES[axis]:
        row = _row(context, network, setting, coding, steps, IMAGES)
        about = {"axis": axis, "choice": name, "label": f"{axis}: {name}"}
        about["input"] = "bernoulli" if isinstance(coding, Bernoulli) else "constant"
        rows.append({**about, "setting": setting.record(), **row})
    return rows


def grid(network: str, balance: str, scope: str, context: Context) -> list[Row]:
    """One row for each v0, negative and number of levels."""
    rows = []
    for v0, negative, levels in product(V0S, NEGATIVES, LEVELS):
        neuron = Augmented(levels=levels, negative=negative, v0=v0)
        setting = Setting(neuron, BALANCES[balance], scope == "channel")
        row = _row(context, network, setting, Constant(), STEPS, GRID_IMAGES)
        rows.append({"balance": balance, "scope": scope, **asdict(neuron), **row})
    return rows


def _row(
    context: Context, network: str, setting: Setting, coding: Coding, steps: int, images: int
) -> Row:
    subject = context.subject(network)
    split = subject.validation[: subject.affordable(images, least=500)]
    net = subject.convert(setting)
    found = evaluate(net, subject.ann, split, steps, coding=coding)
    synops = found.synops
    row: dict[str, Any] = {
        "model": network,
        "n": found.n,
        "images": "validation",
        "steps": steps,
        "neurons": sum(net.neurons.values()),
        "ann_accuracy": found.ann_accuracy,
        "accuracy": found.accuracy,
        "agreement": found.agreement,
        "events_per_image": found.events,
        "spikes_per_image": found.spikes,
        "synops_per_image": None if synops is None else synops.total.tolist(),
    }
    return row


EXPERIMENT = Experiment(
    name="ablations",
    summary="what each choice of a conversion is worth, one at a time and in a grid (validation)",
    networks=models.NAMES,
    cells=cells,
)
