"""``allocation``: thresholds chosen layer by layer, for the fewest events at the same answers.

One factor for all thresholds is a *uniform* setting. From each a greedy search raises the threshold
of one layer at a time, always the one that saves most events for each answer that changes, as long
as at least 99.5 % of the answers agree with the ANN's; then it tries again with smaller moves.

A search bends its own measure: what it accepts on the images it sees does less well on others. So
it sees one part of the validation images, and every state it passes is judged on another part, with
a margin. The uniform setting compared with, and the allocated one, are the states with the fewest
events that hold there. Both are measured on the test images, once; every move is stored.

Beside them stands a yardstick: a threshold saves events by keeping the smallest activations back.
So the ANN leaves out a growing share of the smallest activations, the same in every layer, and
sends the others exactly, one event each.
Chapter *CIFAR-10* proves why little can be saved.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, NotRequired, TypedDict

import torch
from torch import Tensor

from book.experiments.frame import Cell, Context, Experiment, Labeled
from book.experiments.measure import Interval, OverTime, loss_intervals, over_time
from book.experiments.setting import Setting, SettingRecord, Subject
from snnlib.graph.graph import Graph
from snnlib.graph.operations import Node, rectify
from snnlib.neurons import Augmented
from snnlib.simulation.network import SpikingNetwork
from snnlib.zoo import models
from snnlib.zoo.data import Split, to_float
from snnlib.zoo.evaluate import evaluate

AGREEMENT, MARGIN = 0.995, 0.001
SEEN, JUDGED = 1000, 2000  # validation images that the search sees, and that judge its states
START = Setting(Augmented(levels=4, negative=0.0))
STEPS = (1, 2, 3, 4)
UNIFORM = tuple(2 ** (k / 2) for k in range(-10, 3))  # factors of all thresholds, θ/32 … 2θ
MOVES = (1.3, 1.1)  # factors of one layer's threshold, coarse moves first
ROUNDS = 40  # at most so many moves of a size
SHARES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)  # left out in every layer; first 0
STARTS, DEEP_STARTS = 2, 1  # so many of the best uniform settings are searched from

Scales = dict[str, float]


@dataclass(frozen=True)
class Found:
    """Agreement with the ANN, and events an image, after a number of steps."""

    agreement: float
    events: float

    def holds(self, agreement: float = AGREEMENT) -> bool:
        """Whether so many of the answers agree."""
        return self.agreement >= agreement - 1e-9


@dataclass(frozen=True)
class State:
    """Factors of all thresholds, a number of steps, and what judges say of them."""

    scales: Scales
    steps: int
    judged: Found


class Tried(TypedDict):
    """A uniform setting on the judges' images, after the last step."""

    factor: float  # of all thresholds
    steps: int
    agreement: float
    events_per_image: float


class Move(TypedDict):
    """One threshold raised."""

    layer: str
    factor: float  # of the layer's threshold from now on
    agreement: float  # on the images that the search sees
    judged_agreement: float
    events_per_image: float  # on the judges' images


class AllocationChoice(Labeled):
    """A chosen setting on the judges' images, after the last step."""

    images: str
    steps: int
    scales: Scales  # factors of the thresholds, by layer
    agreement: float
    events_per_image: float
    tried: NotRequired[list[Tried]]  # where all have one factor
    moves: NotRequired[list[Move]]  # where each layer has its own


class AllocationRun(Labeled, OverTime):
    """A chosen setting on the test images."""

    steps: int
    setting: SettingRecord  # before the thresholds were changed
    scales: Scales
    loss_interval: list[Interval]  # one a step, fractions
    events_saved: NotRequired[float]  # share of the uniform setting's, by a factor a layer
    holds: bool  # the answers agree as often as asked for


class LeftOut(Labeled):
    """The ANN without its smallest activations; lists run along ``left_out``."""

    images: str
    left_out: list[float]  # share of every layer's activations
    neurons: int
    agreement: list[float]  # with the whole ANN
    events_per_image: list[float]


class Searched(NamedTuple):
    """The state with the fewest events that the judges let pass, and all moves of the path."""

    best: State
    moves: list[Move]


def scaled(net: SpikingNetwork, scales: Scales) -> SpikingNetwork:
    """The network with the threshold of every named layer multiplied by its factor."""
    balanced: dict[str, Tensor] = {
        name: value * scales.get(name, 1.0) for name, value in net.balanced.items()
    }
    return net.replace(balanced=balanced)


def uniform(net: SpikingNetwork, subject: Subject, split: Split) -> list[State]:
    """All uniform settings, fewest events first."""
    found: list[State] = []
    for factor in UNIFORM:
        everywhere = dict.fromkeys(net.balanced, factor)
        run = evaluate(scaled(net, everywhere), subject.ann, split, max(STEPS))
        assert run.events is not None
        for steps in STEPS:
            here = Found(run.agreement[steps - 1], run.events[steps - 1])
            found.append(State(everywhere, steps, here))
    return sorted(found, key=lambda state: state.judged.events)


def search(
    net: SpikingNetwork, subject: Subject, start: State, seen: Split, judges: Split
) -> Searched:
    """Raise thresholds, one layer a move, as long as the answers to ``seen`` hold."""
    scales, steps, best = start.scales, start.steps, start
    now = measure(scaled(net, scales), subject, seen, steps)
    asked = min(AGREEMENT, now.agreement)  # what holds for the judges may not for these images
    moves: list[Move] = []
    for move in MOVES:
        for _ in range(ROUNDS):
            worth, after = {}, {}  # of each layer's next move
            for layer in scales:
                tried = {**scales, layer: scales[layer] * move}
                here = measure(scaled(net, tried), subject, seen, steps)
                if here.holds(asked) and here.events < now.events:
                    lost = max(0.0, now.agreement - here.agreement) + 0.5 / len(seen)
                    worth[layer], after[layer] = (now.events - here.events) / lost, here
            if not worth:
                break
            layer = max(worth, key=lambda name: worth[name])
            scales, now = {**scales, layer: scales[layer] * move}, after[layer]
            judged = measure(scaled(net, scales), subject, judges, steps)
            if judged.holds(AGREEMENT + MARGIN) and judged.events < best.judged.events:
                best = State(scales, steps, judged)
            moves.append(
                {
                    "layer": layer,
                    "factor": scales[layer],
                    "agreement": now.agreement,
                    "judged_agreement": judged.agreement,
                    "events_per_image": judged.events,
                }
            )
            if not judged.holds(AGREEMENT - MARGIN):
                break
        scales, now = best.scales, measure(scaled(net, best.scales), subject, seen, steps)
    return Searched(best, moves)


def measure(net: SpikingNetwork, subject: Subject, split: Split, steps: int) -> Found:
    """Agreement and events after the last of so many steps."""
    found = evaluate(net, subject.ann, split, steps)
    assert found.events is not None
    return Found(found.agreement[-1], found.events[-1])


def cells(network: str) -> list[Cell]:
    """The search, then the test images; what there is to win."""
    return [
        Cell(f"{network}/search", partial(choose, network), "choices"),
        Cell(f"{network}/test", partial(judge, network)),
        Cell(f"{network}/left-out", partial(left_out, network), "left_out"),
    ]


def seen_and_judges(subject: Subject) -> tuple[Split, Split]:
    """Validation images that the search sees, and those that judge its states."""
    seen = min(SEEN, len(subject.validation) // 2)
    return subject.validation[:seen], subject.validation[seen : seen + JUDGED]


def choose(network: str, context: Context) -> list[AllocationChoice]:
    """The best uniform setting and the allocated one, on validation images."""
    subject = context.subject(network)
    seen, judges = seen_and_judges(subject)
    net = subject.convert(START)
    tried = uniform(net, subject, judges)
    settings = [state for state in tried if state.judged.holds(AGREEMENT + MARGIN)]
    if not settings:
        return []
    first = {state.steps: state for state in reversed(settings)}  # the best for each of the steps
    starts = sorted(first.values(), key=lambda state: state.judged.events)
    starts = starts[: DEEP_STARTS if subject.deep else STARTS]
    found = [search(net, subject, start, seen, judges) for start in starts]
    best, moves = min(found, key=lambda path: path.best.judged.events)
    uniformly = _choice(network, judges, "uniform", settings[0])
    uniformly["tried"] = [_tried(state) for state in tried]
    allocated = _choice(network, judges, "allocated", best)
    allocated["moves"] = moves
    return [uniformly, allocated]


def _choice(network: str, judges: Split, label: str, state: State) -> AllocationChoice:
    return {
        "model": network,
        "n": len(judges),
        "images": "validation",
        "label": label,
        "steps": state.steps,
        "scales": state.scales,
        "agreement": state.judged.agreement,
        "events_per_image": state.judged.events,
    }


def _tried(state: State) -> Tried:
    """A uniform setting in short."""
    return {
        "factor": next(iter(state.scales.values())),
        "steps": state.steps,
        "agreement": state.judged.agreement,
        "events_per_image": state.judged.events,
    }


def judge(network: str, context: Context) -> list[AllocationRun]:
    """Both settings on the test images; no row where no uniform setting agreed enough."""
    subject = context.subject(network)
    net = subject.convert(START)
    choices: list[AllocationChoice] = context.rows[f"{network}/search"]
    rows: list[AllocationRun] = []
    for choice in choices:
        found = evaluate(scaled(net, choice["scales"]), subject.ann, subject.test, choice["steps"])
        rows.append(
            {
                "model": network,
                "label": f"AugMapping, {choice['label']} thresholds",
                "n": found.n,
                "steps": choice["steps"],
                "setting": START.record(),
                "scales": choice["scales"],
                **over_time(found, net),
                "loss_interval": loss_intervals(
                    found.answers, found.ann_answers, subject.test.labels
                ),
                "holds": found.agreement[-1] >= AGREEMENT - 1e-9,
            }
        )
    if rows:
        uniformly, allocated = rows
        share = allocated["events_per_image"][-1] / uniformly["events_per_image"][-1]
        allocated["events_saved"] = 1 - share
    return rows


def left_out(network: str, context: Context) -> list[LeftOut]:
    """Agreement and active neurons of the ANN without its smallest activations, on the judges."""
    subject = context.subject(network)
    _, split = seen_and_judges(subject)
    net = subject.convert(START)
    graph = net.graph.laid_out(net.dtype)
    bounds: dict[str, Tensor] = {}  # of every layer, a bound for each of the shares

    def observe(node: Node, z: Tensor) -> Tensor:
        value = rectify(node, z)
        active = value[value > 0]
        some = active[:: 1 + len(active) // 1_000_000]
        bounds[node.name] = some.quantile(torch.tensor(SHARES).to(some))
        bounds[node.name][0] = 0.0  # nothing is left out, not even the least of these
        return value

    with torch.no_grad():
        graph.evaluate(subject.calibration[:100], activation=observe)
        parts = [to_float(part).to(subject.device) for part in split.images.split(100)]
        found = [
            above(graph, parts, {name: layer[i] for name, layer in bounds.items()})
            for i in range(len(SHARES))
        ]
    everything, _ = found[0]
    return [
        {
            "model": network,
            "n": len(split),
            "images": "validation",
            "label": "ANN, smallest activations left out",
            "left_out": list(SHARES),
            "neurons": sum(net.neurons.values()),
            "agreement": [float((answers == everything).double().mean()) for answers, _ in found],
            "events_per_image": [sent / len(split) for _, sent in found],
        }
    ]


def above(graph: Graph, parts: list[Tensor], bounds: dict[str, Tensor]) -> tuple[Tensor, int]:
    """Answers of the ANN with the activations above their layer's bound alone, and their number."""
    sent = 0

    def keep(node: Node, z: Tensor) -> Tensor:
        nonlocal sent
        value = rectify(node, z)
        kept = value > bounds[node.name]
        sent += int(kept.sum())
        return value * kept

    answers = torch.cat([graph.evaluate(part, activation=keep).argmax(1) for part in parts])
    return answers, sent


EXPERIMENT = Experiment(
    name="allocation",
    summary="thresholds layer by layer: the fewest events at 99.5 % of the ANN's answers",
    networks=models.NAMES,
    cells=cells,
    version=3,
)
