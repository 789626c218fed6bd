"""snnlib: from a trained ReLU network to a spiking network, simulated fast, with its costs counted.

    import snnlib as snn
    ann = snn.models.load("digits-cnn")
    train, test = snn.data.load("digits")
    images = snn.data.to_float(train.images)
    net = snn.convert(ann, calibration=images, neuron=snn.Augmented(levels=4))
    run = net(snn.data.to_float(test.images), steps=8)
    run.accuracy(test.labels)

The book *From trained network to spiking network* explains every function; each docstring names
its chapter. Submodules and names load when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from snnlib.balance import Max, MinError, Percentile
from snnlib.coding import Bernoulli, Constant, Frames
from snnlib.convert import convert
from snnlib.graph import ConversionError
from snnlib.neurons import IF, Augmented, Ternary
from snnlib.run import Run
from snnlib.simulator import SpikingNetwork

if TYPE_CHECKING:
    from snnlib import checkpoints, data, models, plots, train
    from snnlib.checkpoints import CheckpointError
    from snnlib.data import DatasetUnavailable
    from snnlib.storage import load

__version__ = "0.1.0"

# Loaded when first used: they bring scikit-learn, safetensors or matplotlib.
_LAZY_MODULES = ("checkpoints", "data", "models", "plots", "train")
_LAZY_NAMES = {"CheckpointError": "checkpoints", "DatasetUnavailable": "data", "load": "storage"}

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
    if name in _LAZY_MODULES:
        return importlib.import_module(f"snnlib.{name}")
    if name in _LAZY_NAMES:
        return getattr(importlib.import_module(f"snnlib.{_LAZY_NAMES[name]}"), name)
    raise AttributeError(f"module 'snnlib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
