"""Figures in one style, and helpers of the notebooks. Needs NumPy and Matplotlib alone.

`style` fixes colors, markers and fonts; `figures` draws; `twins` serves light and dark pages with
one picture; `notebook` serves the chapters.
"""

from __future__ import annotations

import warnings

from snnlib.plots.figures import accuracy_over_time, layer_errors, membrane, raster
from snnlib.plots.style import (
    CARD,
    EXTRA,
    GRID,
    INK,
    METHODS,
    MODES,
    NEGATIVE,
    POSITIVE,
    Look,
    Mode,
    color,
    look,
    parameters,
    shades,
    style,
)  # fmt: skip
from snnlib.plots.twins import use_style

__all__ = [
    "CARD", "EXTRA", "GRID", "INK", "METHODS", "MODES", "NEGATIVE", "POSITIVE", "Look", "Mode",
    "accuracy_over_time", "color", "layer_errors", "look", "membrane", "parameters", "raster",
    "shades", "style", "use_style",
]  # fmt: skip


def colour(name: str, mode: Mode = "light") -> str:
    """The old spelling of `color`; goes with version 0.3."""
    warnings.warn("plots.colour is plots.color now", DeprecationWarning, stacklevel=2)
    return color(name, mode)
