"""A stored result as tables and drawings read it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from statistics import mean, stdev
from typing import Any

from book.tools.tables import percent

Result = dict[str, Any]


def of(result: Result, model: str, section: str = "runs") -> list[Any]:
    """The rows of a network, of the type that the experiment declares for the section."""
    return [row for row in result.get(section, ()) if row["model"] == model]


def shown(label: str) -> str:
    """A stored label as a reader should see it.

    Example:
        >>> shown("ANN, 1 levels")
        'ANN, 1 level'
    """
    return re.sub(r"\b1 levels\b", "1 level", label)


def steps(count: int) -> str:
    """So many steps, in words."""
    return f"{count} step{'s' * (count != 1)}"


def spread(shares: Iterable[float]) -> str:
    """Mean in percent, and the standard deviation of the seeds where there are several."""
    found = list(shares)
    deviation = f" ± {100 * stdev(found):.2f}" if len(found) > 1 else ""
    return f"{percent(mean(found))}{deviation}"


def average(rows: Iterable[Any], key: str, form: str) -> str:
    """The mean of those that have it, in this form; nothing where none has."""
    found = [row[key] for row in rows if key in row]
    return form.format(mean(found)) if found else ""


def images(rows: list[Any]) -> str:
    """How many images of which split rows were measured on.

    Example:
        >>> images([{"n": 500}, {"n": 1000}, {"n": 500}])
        '500 or 1,000 test images'
        >>> images([{"n": n, "images": "validation"} for n in (100, 200, 500)])
        '100 to 500 validation images'
    """
    split = "validation" if rows[0].get("images") == "validation" else "test"
    numbers = sorted({row["n"] for row in rows})
    least, most = f"{numbers[0]:,}", f"{numbers[-1]:,}"
    between = {1: "", 2: f"{least} or "}.get(len(numbers), f"{least} to ")
    return f"{between}{most} {split} images"
