"""A stored result as tables and drawings read it."""

from __future__ import annotations

from typing import Any

Result = dict[str, Any]


def of(result: Result, model: str, section: str = "runs") -> list[Any]:
    """The rows of a network, of the type that the experiment declares for the section."""
    return [row for row in result.get(section, ()) if row["model"] == model]
