"""Checks of single arguments: each returns the value in plain Python, or says what is wrong."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any


def whole(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """A whole number (NumPy's too) from ``least`` to ``most``; else ValueError."""
    if isinstance(value, Integral) and not isinstance(value, bool):
        number = int(value)
        if least <= number and (most is None or number <= most):
            return number
    bound = f"of at least {least}" if most is None else f"from {least} to {most}"
    raise ValueError(f"{name}={value!r} must be a whole number {bound}")


def real(name: str, value: Any, low: float, high: float) -> float:
    """A real number (NumPy's too) from ``low`` to ``high``; else ValueError."""
    if isinstance(value, Real) and not isinstance(value, bool):
        number = float(value)
        if math.isfinite(number) and low <= number <= high:
            return number
    raise ValueError(f"{name}={value!r} must be a number from {low:g} to {high:g}")


def flag(name: str, value: Any) -> bool:
    """True or False (NumPy's too); else ValueError."""
    if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"):
        return bool(value)
    raise ValueError(f"{name}={value!r} must be True or False")
