"""``layer-errors``: where in the network the error arises, and which error it is.

For every spiking layer and 1, 2, 4, … 64 steps: the error of the mean output relative to the ANN's
activation, and its four parts as `snnlib.simulation.verify` defines them (propagated from the
layers before, clipping, rounding, unevenness), root mean square and mean. Settings are fixed
beforehand: each neuron as first described (largest activation, v0 = 0, negative 1) and as this book
uses it. The images are validation images.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TypedDict, cast

from book.experiments.frame import Cell, Context, Experiment, Labeled
from book.experiments.setting import Setting, SettingRecord
from snnlib.conversion.balance import Max
from snnlib.neurons import IF, Augmented, Ternary
from snnlib.zoo import models
from snnlib.zoo.data import to_float
from snnlib.zoo.evaluate import LABELS

STEPS, IMAGES = 64, 200

SETTINGS = {
    "if/plain": Setting(IF(v0=0.0), Max()),
    "if/book": Setting(IF()),
    "ternary/plain": Setting(Ternary(negative=1.0, v0=0.0), Max()),
    "ternary/book": Setting(Ternary(negative=0.0)),
    "augmented/plain": Setting(Augmented(levels=4, negative=1.0, v0=0.0), Max()),
    "augmented/book": Setting(Augmented(levels=4, negative=0.0)),
}


class Layer(TypedDict):
    """`snnlib.simulation.verify.LayerReport`, which says what each key is."""

    name: str
    scale: float
    error: list[float]
    parts: dict[str, list[float]]
    bias: dict[str, list[float]]
    dead: list[int]
    saturated: list[int]
    channels: int


class LayerErrors(Labeled):
    """The errors of all layers in one setting; lists run along ``steps``."""

    images: str
    setting: SettingRecord
    steps: list[int]
    agreement: list[float]  # of the answers, with the ANN's
    graph_error: float | None
    layers: list[Layer]


def cells(network: str) -> list[Cell]:
    """A cell a setting."""
    return [Cell(f"{network}/{name}", partial(measure, network, name)) for name in SETTINGS]


def measure(network: str, name: str, context: Context) -> list[LayerErrors]:
    """The errors of all layers in one setting."""
    subject, setting = context.subject(network), SETTINGS[name]
    net = subject.convert(setting)
    split = subject.validation[:IMAGES]
    found = net.verify(to_float(split.images).to(net.device), steps=STEPS)
    kind, form = name.split("/")
    return [
        {
            "model": network,
            "label": f"{LABELS[kind]}, {form}",
            "n": found.images,
            "images": "validation",
            "setting": setting.record(),
            "steps": list(found.steps),
            "agreement": found.agreement,
            "graph_error": found.graph_error,
            "layers": [cast("Layer", asdict(layer)) for layer in found.layers],
        }
    ]


EXPERIMENT = Experiment(
    name="layer-errors",
    summary="error of every layer after 1 to 64 steps: propagated, clipping, rounding, unevenness",
    networks=models.NAMES,
    cells=cells,
)
