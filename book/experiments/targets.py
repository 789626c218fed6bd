"""What the best settings were asked to reach, and whether they did.

A target was set before the measurement: at most so much accuracy lost against the ANN of the same
run after at most so many steps, with at most so many events a neuron. It counts as reached if some
step up to that number fulfils all of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from book.experiments.frame import Row


@dataclass(frozen=True)
class Target:
    """Loss in percentage points, number of steps, events a neuron (None: no limit)."""

    points: float
    steps: int
    events: float | None = None


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


def targets(runs: list[Row]) -> list[Row]:
    """One row a target and run that is long enough to judge it, best settings only."""
    found = []
    for run in runs:
        if run["form"] != "best":
            continue
        for target in TARGETS.get(run["model"], {}).get(run["neuron"], ()):
            if run["steps"] >= target.steps:
                found.append(_judge(run, target))
    return found


def _judge(run: Row, target: Target) -> Row:
    """The first step that fulfils the target, else the one of the least loss that keeps its events.

    Where no step keeps to the events, step, loss, its interval and events are None.
    """
    tried = []
    for step in range(1, target.steps + 1):
        events = run["events_per_image"][step - 1] / run["neurons"]
        loss = 100 * (run["ann_accuracy"] - run["accuracy"][step - 1])
        if target.events is None or events <= target.events:
            tried.append(
                {
                    "step": step,
                    "loss_points": loss,
                    "loss_interval": run["loss_interval"][step - 1],
                    "events_per_neuron": events,
                }
            )
    fit = [found for found in tried if found["loss_points"] <= target.points + 1e-6]
    nothing = dict.fromkeys(("step", "loss_points", "loss_interval", "events_per_neuron"))
    least = min(tried, key=lambda found: found["loss_points"], default=nothing)
    return {
        "model": run["model"],
        "label": run["label"],
        "n": run["n"],
        "loss_points_at_most": target.points,
        "steps_at_most": target.steps,
        "events_per_neuron_at_most": target.events,
        **(fit[0] if fit else least),
        "loss_points_at_last": 100 * (run["ann_accuracy"] - run["accuracy"][target.steps - 1]),
        "reached": bool(fit),
    }
