"""The checks of arguments, one each: whole numbers, real numbers, switches, names, sizes of memory.

They take what Python and NumPy call a number and return a plain Python value, or raise ValueError
with the argument's name, what was given and what is allowed.
"""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Iterable

_UNITS = {"": 1, "B": 1}
_UNITS |= {f"{letter}B": 10 ** (3 * (i + 1)) for i, letter in enumerate("KMG")}
_UNITS |= {f"{letter}IB": 2 ** (10 * (i + 1)) for i, letter in enumerate("KMG")}


def whole(name: str, value: object, least: int = 1, most: int | None = None) -> int:
    """A whole number from ``least`` to ``most``, as an int.

    Args:
        name: of the argument, for the message.
        value: an int, or what stands for one (``numpy.int64``); no bool, no float.
        least: smallest allowed.
        most: largest allowed; None for no limit.

    Raises:
        ValueError: it is something else, or out of range.
    """
    known = isinstance(value, numbers.Integral) and not _is_flag(value)
    number = int(value) if known else None  # type: ignore[call-overload]
    if number is None or number < least or (most is not None and number > most):
        limit = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name}={_shown(value)} must be a whole number {limit}")
    return number


def real(
    name: str, value: object, low: float = -math.inf, high: float = math.inf, *,
    above: bool = False, what: str = "a number",
) -> float:  # fmt: skip
    """A finite number from ``low`` to ``high``, as a float.

    Args:
        name: of the argument, for the message.
        value: an int or float, or what stands for one (``numpy.float32``); no bool.
        low: smallest allowed, or with ``above`` the number it must exceed.
        high: largest allowed.
        above: leave ``low`` itself out.
        what: what it is, for the message.

    Raises:
        ValueError: it is something else, not finite, or out of range.
    """
    number = math.nan
    if isinstance(value, numbers.Real) and not _is_flag(value):
        number = float(value)
    inside = low < number <= high if above else low <= number <= high
    if not (inside and math.isfinite(number)):
        limits = [f"{'above' if above else 'of at least'} {low:g}"] * (low > -math.inf)
        limits += [f"at most {high:g}"] * (high < math.inf)
        raise ValueError(f"{name}={_shown(value)} must be {what} {' and '.join(limits)}".rstrip())
    return number


def flag(name: str, value: object) -> bool:
    """A switch: True or False and nothing that merely counts as one.

    Raises:
        ValueError: it is something else.
    """
    if not _is_flag(value):
        raise ValueError(f"{name}={_shown(value)} must be True or False")
    return bool(value)


def names(name: str, value: object) -> tuple[str, ...]:
    """Names of layers: one text, several, or None for none.

    Raises:
        ValueError: it is something else.
    """
    given = (value,) if isinstance(value, str) else () if value is None else value
    found = tuple(given) if isinstance(given, Iterable) else (given,)
    if not all(isinstance(one, str) for one in found):
        raise ValueError(f"{name}={_shown(value)} must be the name of a layer, or several")
    return found


def number_of_bytes(name: str, value: object) -> int:
    """A size in bytes, given as a number of them or as text such as ``"512MB"``.

    Raises:
        ValueError: it is something else, or nothing.
    """
    text = str(value).upper() if isinstance(value, str | numbers.Integral) else ""
    match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([KMG]?I?B?)\s*", text)
    size = float(match[1]) * _UNITS[match[2]] if match and match[2] in _UNITS else 0
    if not 1 <= size < math.inf:
        raise ValueError(f'{name}={value!r}: write it as "512MB", "1GB" or a number of bytes')
    return int(size)


def _is_flag(value: object) -> bool:
    return isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")


def _shown(value: object) -> str:
    """The value as the message quotes it: never longer than a line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:40]}… ({type(value).__name__})"
