"""snnlib: from a trained ReLU network to a spiking network, simulated fast, with its costs counted.

    import snnlib as snn
    ann = snn.models.load("digits-cnn")
    train, test = snn.data.load("digits")
    images = snn.data.to_float(train.images)
    net = snn.convert(ann, calibration=images, neuron=snn.Augmented(levels=4))
    run = net(snn.data.to_float(test.images), steps=8)
    run.accuracy(test.labels)

The rooms, in the order in which they build on each other: `neurons` (read it first), `graph` (a
network as plain data), `simulation` (a network in time), `conversion` (a trained network becomes a
spiking one), `codes` (digits, single spikes or changes instead of neurons in time), `zoo` (data
sets, trained networks, training), `recurrent` (networks that decide when to answer), `events`
(graphs that grow, one event at a time), `learning` (spiking networks that are trained, one file a
paper), `deploy` (whole numbers, files, exchange formats), `backend` (how it is computed fast),
`plots` and `cli`. The book *From trained network to spiking network* explains every function.
Modules that are heavy load when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from snnlib import _compatibility
from snnlib._version import __version__
from snnlib.conversion.balance import Max, MinError, Percentile
from snnlib.conversion.convert import convert
from snnlib.graph.errors import CheckpointError, ConversionError
from snnlib.graph.readout import Mean
from snnlib.neurons import IF, Augmented, Ternary
from snnlib.simulation.coding import Bernoulli, Constant, Frames
from snnlib.simulation.network import SpikingNetwork, load
from snnlib.simulation.run import Run

if TYPE_CHECKING:
    from snnlib import plots
    from snnlib.zoo import checkpoints, data, models, train
    from snnlib.zoo.data import DatasetUnavailable

# Loaded when first used: they bring scikit-learn, safetensors or matplotlib.
_LAZY = {"DatasetUnavailable": "snnlib.zoo.fetch"}

__all__ = [
    "IF",
    "Augmented",
    "Bernoulli",
    "CheckpointError",
    "Constant",
    "ConversionError",
    "DatasetUnavailable",
    "Frames",
    "Max",
    "Mean",
    "MinError",
    "Percentile",
    "Run",
    "SpikingNetwork",
    "Ternary",
    "__version__",
    "checkpoints",
    "convert",
    "data",
    "load",
    "models",
    "plots",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name == "plots":
        return importlib.import_module("snnlib.plots")
    if name in _compatibility.PUBLIC or name in _compatibility.MOVED:
        return _compatibility.moved(name)
    raise AttributeError(f"module 'snnlib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


_compatibility.install()
