"""What an experiment was to reach, set before it was run, beside what was found."""

from __future__ import annotations

from typing import TypedDict


class Goal(TypedDict):
    """One goal; exactly one of the limits is a number."""

    goal: str
    at_least: float | None
    at_most: float | None
    found: float | None  # None: cannot be said of these rows
    reached: bool


def goal(
    what: str, found: float | None, *, at_least: float | None = None, at_most: float | None = None
) -> Goal:
    """A goal and what was found.

    Raises:
        ValueError: not exactly one limit was given.
    """
    if (at_least is None) == (at_most is None):
        raise ValueError(f"goal {what!r}: give either at_least or at_most")
    reached = found is not None and (
        found >= at_least if at_least is not None else found <= (at_most or 0.0)
    )
    return Goal(goal=what, at_least=at_least, at_most=at_most, found=found, reached=reached)
