"""The one place that imports torchvision.

The torchvision wheel of the Python package index is built against CUDA. On a CPU-only torch its
import stops with ``operator torchvision::nms does not exist``: it registers shape functions for
operators whose compiled half did not load. Declaring the two schemas first is enough for
everything that does not run those operators, that is: data sets, transforms and models.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

_NMS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_library: torch.library.Library | None = None  # the schemas live as long as this object


def torchvision() -> ModuleType:
    """Import torchvision and return the module.

    Raises:
        ImportError: torchvision is not installed, or it does not fit the installed torch.
    """
    global _library
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error) or _library is not None:
            raise ImportError(
                f"torchvision does not fit torch {torch.__version__}: {error}. Install the version "
                "of torchvision that belongs to it (see requirements.txt)."
            ) from error
    for name in [m for m in sys.modules if m == "torchvision" or m.startswith("torchvision.")]:
        del sys.modules[name]
    _library = torch.library.Library("torchvision", "DEF")
    _library.define("nms" + _NMS)
    _library.define("qnms" + _NMS)
    return importlib.import_module("torchvision")
