"""``allocation``: thresholds chosen layer by layer, for the fewest events at the same answers.

One factor for all thresholds is a *uniform* setting. The best one is the factor and number of steps
with the fewest events among those whose agreement with the ANN on validation images is at least
99.5 %. From there a greedy search raises the threshold of one layer at a time, always the one that
saves most events for each answer that changes, as long as the agreement holds; then it tries again
with smaller moves. Both are then measured on the test images. The search sees validation images
only, and stores every move that it made.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from snnlib import models
from snnlib.data import Split
from snnlib.evaluate import evaluate
from snnlib.experiments.frame import Cell, Context, Experiment, Row
from snnlib.experiments.measure import loss_intervals
from snnlib.experiments.setting import Setting, Subject
from snnlib.neurons import Augmented
from snnlib.simulator import SpikingNetwork

AGREEMENT = 0.995
IMAGES = 1000
START = Setting(Augmented(levels=4, negative=0.0))
STEPS = (1, 2, 3, 4)
UNIFORM = tuple(2 ** (k / 4) for k in range(-8, 5))  # factors of all thresholds, θ/4 … 2θ
MOVES = (1.3, 1.1)  # factors of one layer's threshold, coarse moves first
ROUNDS = 40  # at most so many moves of a size

Scales = dict[str, float]


@dataclass(frozen=True)
class Found:
    """Agreement with the ANN, and events an image, after a number of steps."""

    agreement: float
    events: float

    @property
    def holds(self) -> bool:
        """Whether the answers are as close to the ANN's as asked for."""
        return self.agreement >= AGREEMENT - 1e-9


def scaled(net: SpikingNetwork, scales: Scales) -> SpikingNetwork:
    """The network with the threshold of every named layer multiplied by its factor."""
    balanced: dict[str, Tensor] = {
        name: value * scales.get(name, 1.0) for name, value in net.balanced.items()
    }
    return net.replace(balanced=balanced)


def uniform(net: SpikingNetwork, subject: Subject, split: Split) -> tuple[float, int, Found] | None:
    """Factor and steps of the fewest events among those that hold; None where none does."""
    best: tuple[float, int, Found] | None = None
    for factor in UNIFORM:
        everywhere = dict.fromkeys(net.balanced, factor)
        found = evaluate(scaled(net, everywhere), subject.ann, split, max(STEPS))
        assert found.events is not None
        for steps in STEPS:
            here = Found(found.agreement[steps - 1], found.events[steps - 1])
            if here.holds and (best is None or here.events < best[2].events):
                best = factor, steps, here
    return best


def search(
    net: SpikingNetwork, subject: Subject, split: Split, scales: Scales, steps: int, now: Found
) -> tuple[Scales, Found, list[Row]]:
    """Raise thresholds, one layer a move, as long as the agreement holds.

    Returns:
        The factors, what they give, and the moves that led there.
    """
    moves: list[Row] = []
    for move in MOVES:
        for _ in range(ROUNDS):
            options = []
            for layer in scales:
                tried = {**scales, layer: scales[layer] * move}
                here = measure(scaled(net, tried), subject, split, steps)
                if here.holds and here.events < now.events:
                    lost = max(0.0, now.agreement - here.agreement) + 0.5 / len(split)
                    options.append(((now.events - here.events) / lost, layer, tried, here))
            if not options:
                break
            _, layer, scales, now = max(options, key=lambda option: option[0])
            moves.append(
                {
                    "layer": layer,
                    "factor": scales[layer],
                    "agreement": now.agreement,
                    "events_per_image": now.events,
                }
            )
    return scales, now, moves


def measure(net: SpikingNetwork, subject: Subject, split: Split, steps: int) -> Found:
    """Agreement and events after the last of so many steps."""
    found = evaluate(net, subject.ann, split, steps)
    assert found.events is not None
    return Found(found.agreement[-1], found.events[-1])


def cells(network: str) -> list[Cell]:
    """The search, then the test images."""
    return [
        Cell(f"{network}/search", partial(choose, network), "choices"),
        Cell(f"{network}/test", partial(judge, network)),
    ]


def choose(network: str, context: Context) -> list[Row]:
    """The best uniform setting and the allocated one, on validation images."""
    subject = context.subject(network)
    split = subject.validation[:IMAGES]
    net = subject.convert(START)
    best = uniform(net, subject, split)
    if best is None:
        return []
    factor, steps, found = best
    start = dict.fromkeys(net.balanced, factor)
    scales, allocated, moves = search(net, subject, split, start, steps, found)
    common = {"model": network, "n": len(split), "images": "validation", "steps": steps}
    return [
        {
            **common,
            "label": label,
            "scales": factors,
            "agreement": here.agreement,
            "events_per_image": here.events,
            "moves": made,
        }
        for label, factors, here, made in (
            ("uniform", start, found, []), ("allocated", scales, allocated, moves)
        )
    ]  # fmt: skip


def judge(network: str, context: Context) -> list[Row]:
    """Both settings on the test images; no row where no uniform setting agreed enough."""
    subject = context.subject(network)
    net = subject.convert(START)
    rows: list[Row] = []
    for choice in context.rows[f"{network}/search"]:
        found = evaluate(scaled(net, choice["scales"]), subject.ann, subject.test, choice["steps"])
        assert found.events is not None
        assert found.spikes is not None
        assert found.synops is not None
        rows.append(
            {
                "model": network,
                "label": f"AugMapping, {choice['label']} thresholds",
                "n": found.n,
                "steps": choice["steps"],
                "setting": START.record(),
                "scales": choice["scales"],
                "neurons": sum(net.neurons.values()),
                "ann_accuracy": found.ann_accuracy,
                "accuracy": found.accuracy,
                "agreement": found.agreement,
                "events_per_image": found.events,
                "spikes_per_image": found.spikes,
                "synops_per_image": found.synops.total.tolist(),
                "loss_interval": loss_intervals(
                    found.answers, found.ann_answers, subject.test.labels
                ),
            }
        )
    if rows:
        first, last = (row["events_per_image"][-1] for row in rows)
        rows[1]["events_saved"] = 1 - last / first
    return rows


EXPERIMENT = Experiment(
    name="allocation",
    summary="thresholds layer by layer: the fewest events at 99.5 % of the ANN's answers",
    networks=models.NAMES,
    cells=cells,
)
