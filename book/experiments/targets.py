"""What the best settings were asked to reach, and whether they did.

A target was set before the measurement: at most so much accuracy lost against the ANN of the same
run after at most so many steps, with at most so many events a neuron. It counts as reached if some
step up to that number fulfills all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NotRequired, TypedDict

from book.experiments.measure import Interval

if TYPE_CHECKING:
    from book.experiments.accuracy_over_time import AccuracyRun


@dataclass(frozen=True)
class Target:
    """Loss in percentage points, number of steps, events a neuron (None: no limit)."""

    points: float
    steps: int
    events: float | None = None


class Nearest(TypedDict):
    """The step that comes nearest to a target; None where no step keeps to the events."""

    step: int | None
    loss_points: float | None
    loss_interval: NotRequired[Interval | None]  # fractions; of runs beside their ANN
    events_per_neuron: float | None


class Verdict(Nearest):
    """A target, asked of one run, and what was found."""

    model: str
    label: str
    n: int  # images
    loss_points_at_most: float
    steps_at_most: int
    events_per_neuron_at_most: float | None
    loss_points_at_last: NotRequired[float]  # after ``steps_at_most``, where more are judged
    reached: bool


_SMALL: dict[str, tuple[Target, ...]] = {
    "augmented": (Target(0.05, 2, 0.6),),
    "ternary": (Target(0.1, 12),),
    "if": (Target(0.1, 48),),
}
_DEEP = {"augmented": (Target(0.1, 3, 1.0), Target(0.05, 8)), "ternary": (Target(0.3, 24),)}
TARGETS: dict[str, dict[str, tuple[Target, ...]]] = {
    "mnist-cnn": _SMALL,
    "fashion-cnn": _SMALL,
    "cifar10-vgg": _DEEP,
    "cifar10-resnet": _DEEP,
}


def targets(runs: list[AccuracyRun]) -> list[Verdict]:
    """One row a target and run that is long enough to judge it, best settings only."""
    found = []
    for run in runs:
        if run["form"] != "best":
            continue
        for target in TARGETS.get(run["model"], {}).get(run["neuron"], ()):
            if run["steps"] >= target.steps:
                found.append(_judge(run, target))
    return found


def _judge(run: AccuracyRun, target: Target) -> Verdict:
    """The first step that fulfills the target, else that of the least loss that keeps its events.

    Where no step keeps to the events, step, loss, its interval and events are None.
    """
    assert run["events_per_image"] is not None
    events = [value / run["neurons"] for value in run["events_per_image"]]
    loss = [100 * (run["ann_accuracy"] - accuracy) for accuracy in run["accuracy"]]
    kept = [i for i in range(target.steps) if target.events is None or events[i] <= target.events]
    fit = [i for i in kept if loss[i] <= target.points + 1e-6]
    nearest: Nearest = {
        "step": None, "loss_points": None, "loss_interval": None, "events_per_neuron": None
    }  # fmt: skip
    if kept:
        at = fit[0] if fit else min(kept, key=lambda i: loss[i])
        nearest = {
            "step": at + 1,
            "loss_points": loss[at],
            "loss_interval": run["loss_interval"][at],
            "events_per_neuron": events[at],
        }
    return {
        "model": run["model"],
        "label": run["label"],
        "n": run["n"],
        "loss_points_at_most": target.points,
        "steps_at_most": target.steps,
        "events_per_neuron_at_most": target.events,
        **nearest,
        "loss_points_at_last": loss[target.steps - 1],
        "reached": bool(fit),
    }
