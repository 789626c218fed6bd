"""Ways to train for ``sparsity``, each from where another one ended: paths along the frontier.

A frontier from the dense network to very few events is one path: a few epochs of rounding alone,
then a little pressure, then twice as much, and so on. Each stage is a training of its own with its
own cycle of the learning rate, so its end is a point of the frontier, and later points have had
more epochs than they could be given singly. How many says `Method.stage`; the control without a
penalty has a second stage for that reason.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from snnlib.learning.rounding import Penalty

EPOCHS = {"digits-cnn": 3, "mnist-cnn": 3, "fashion-cnn": 5}  # of a stage
DEEP_EPOCHS = 6


@dataclass(frozen=True)
class Method:
    """One stage.

    Attributes:
        penalty: P; None: none.
        levels: thresholds in the balanced activation.
        strength: of the penalty, where there is no target.
        target: share of what the book's network sends at these levels, in SynOps; None: none.
        each: the target is for each layer, in events.
        rounding: round while training.
        distillation: share of the teacher in the task.
        epochs: of the stage, where the network's number does not do; None: it does.
        start: the stage before; None: the book's network.
    """

    penalty: Penalty | None = None
    levels: int = 4
    strength: float = 0.0
    target: float | None = None
    each: bool = False
    rounding: bool = True
    distillation: float = 0.5
    epochs: int | None = None
    start: Method | None = None

    @property
    def stage(self) -> int:
        """1 for the first."""
        return 1 if self.start is None else self.start.stage + 1

    @property
    def name(self) -> str:
        """As cells and tables call it."""
        words: list[str] = [self.penalty or "control"]
        if self.target is not None:
            words = [f"{'each layer' if self.each else 'SynOps'} to {self.target:g}"]
        elif self.strength:
            words.append(f"{self.strength:g}")
        words.append(f"{self.levels} levels")
        words += [] if self.rounding else ["unrounded"]
        words += [] if self.distillation else ["no teacher"]
        if self.start is not None and self == replace(self.start, start=self.start):
            words.append(f"stage {self.stage}")  # the same again, for longer
        return ", ".join(words)


def path(start: Method, *changes: dict[str, Any]) -> tuple[Method, ...]:
    """Stages one after another; each differs from the one before as it says."""
    found: list[Method] = []
    for change in changes:
        start = replace(start, start=start, **change)
        found.append(start)
    return tuple(found)


_CONTROL = Method()
_COUNT = path(
    _CONTROL,
    {"penalty": "count", "strength": 0.5},
    *({"strength": s} for s in (1.0, 2.0, 4.0, 8.0)),
)
_FEW = path(_COUNT[1], {"levels": 2}, {"strength": 2.0}, {"strength": 4.0})
_HOYER = path(_CONTROL, {"penalty": "hoyer", "strength": 1.0}, {"strength": 2.0}, {"strength": 4.0})
_L1 = path(_CONTROL, {"penalty": "l1", "strength": 0.5}, {"strength": 1.0})
_BETWEEN = (
    *path(_CONTROL, {"penalty": "hoyer", "strength": 1.2}),
    *path(_CONTROL, {"penalty": "l1", "strength": 0.6}),
)
_SYNOPS = path(
    _CONTROL, {"penalty": "count", "target": 0.6}, *({"target": t} for t in (0.3, 0.15, 0.08))
)
_EACH = path(_CONTROL, {"penalty": "count", "target": 0.6, "each": True}, {"target": 0.3})
# Four levels cost larger networks a third of a point and more, so there are eight; pressure that
# hardly moves the networks of CIFAR-10 halves the events of Fashion-MNIST's.
_EIGHT = path(_COUNT[0], {"levels": 8})
_GENTLE = path(_CONTROL, {"penalty": "count", "strength": 0.1, "levels": 8}, {"strength": 0.2})
_CONTROLS = (_CONTROL, *path(_CONTROL, {}), Method(rounding=False))
_UNROUNDED = path(Method(rounding=False), {"penalty": "count", "strength": 1.0})
_ALONE = Method(distillation=0.0)
_ALL = (
    *_CONTROLS, *_COUNT, *_FEW, *_HOYER, *_L1, *_SYNOPS, *_EACH, *_UNROUNDED,
    _ALONE, *path(_ALONE, {"penalty": "count", "strength": 1.0}),
    *path(_CONTROL, {"penalty": "count", "strength": 1.0, "levels": 8}),
)  # fmt: skip
_MOST = (
    *_CONTROLS, *_COUNT, *_FEW, *path(_COUNT[0], {"levels": 2}),
    *path(_COUNT[1], {}), *path(_FEW[0], {}), *_BETWEEN, *_HOYER[:2], *path(_HOYER[0], {}),
    *_L1, *_SYNOPS[:2], _EACH[0], _ALONE,
)  # fmt: skip
# One long stage has a cycle of the learning rate to itself; the way down to few events is short.
_LONG = path(_COUNT[0], {"strength": 0.7, "levels": 8, "epochs": 10})
_DOWN = path(
    _COUNT[2], {"strength": 8.0, "epochs": 3}, {"strength": 30.0}, {"strength": 100.0}
)  # fmt: skip
_STRAIGHT = Method(penalty="count", strength=2.0)  # no stage without a price before it
_HARD = (_STRAIGHT, *path(_STRAIGHT, {"strength": 10.0}))
_DEEP = (*_CONTROLS, *_COUNT[:3], *_EIGHT, *_LONG, *_DOWN)
_OF = {
    "digits-cnn": _ALL,
    "mnist-cnn": _MOST,
    "fashion-cnn": (_CONTROL, _COUNT[0], *_EIGHT, *_GENTLE, *_HARD),
}


def methods(network: str) -> dict[str, Method]:
    """Those of a network, by name, each after the one that it starts from; fewer where they take
    long."""
    return {method.name: method for method in _OF.get(network, _DEEP)}


def epochs(network: str, method: Method) -> int:
    """Of its stage."""
    return method.epochs or EPOCHS.get(network, DEEP_EPOCHS)


def epochs_in_all(network: str, method: Method) -> int:
    """From the book's network on."""
    before = 0 if method.start is None else epochs_in_all(network, method.start)
    return before + epochs(network, method)
