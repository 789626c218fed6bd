"""``event-graph``: a graph of events, trained whole and heard one event at a time.

The *networks* of this experiment are what the simulated sensor sees (`snnlib.events.sensor`):
``moved-mnist`` are MNIST images moved by three saccades, a stand-in for recordings such as those of
N-MNIST; ``moved-digits`` the embedded digits, moved twice as far, for a look that takes minutes.

Two networks (`snnlib.events.aegnn`) are trained on whole graphs: ``mutual`` has edges both ways, as
in AEGNN; in ``past`` events hear of earlier ones only. Validation images are seen, nothing is
chosen by them. Test recordings are answered once, whole; some of them then event by event: nodes
and multiplications computed again, beside those of the whole graph after every event; how far both
answers are apart; seconds an event; and how many are right after each tenth of their events.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial
from statistics import mean
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch

from book.experiments.frame import SEED, Cell, Context, Experiment, Rows
from book.experiments.goals import Goal, goal
from book.experiments.material import TrainedRow
from snnlib.events import training
from snnlib.events.aegnn import AEGNN
from snnlib.events.asynchronous import Touched
from snnlib.events.graph import Rule, edges
from snnlib.events.sensor import TRIANGLE, WIDE, look
from snnlib.events.training import Plan, Walked
from snnlib.zoo import data
from snnlib.zoo.data import Split
from snnlib.zoo.event_files import Recordings

NETWORKS = {"moved-mnist": "mnist", "moved-digits": "digits"}
SENSORS: dict[str, dict[str, Any]] = {  # the embedded digits fill their images and have soft edges
    "moved-mnist": {"path": TRIANGLE},
    "moved-digits": {"path": WIDE, "margin": 4},
}
PLANS = {"moved-mnist": Plan(epochs=6), "moved-digits": Plan(epochs=20, batch=32)}
METHODS = {"mutual": "edges both ways", "past": "events hear the past alone"}
WALKED, TENTHS = 100, 10  # test recordings that are heard event by event

Three = tuple[Recordings, Recordings, Recordings]


class Trace(TypedDict):
    """One test recording."""

    digit: int
    t: list[float]  # ms, of each event
    updates: list[int]  # nodes computed again
    all_updates: list[int]
    answers: list[int]  # after each event


class Graphed(TrainedRow):
    """One trained network; counts are means an event of the recordings heard event by event."""

    method: str
    parameters: int
    events: float  # a test recording, mean
    neighbors: float  # that an event of the test recordings hears, mean
    walked: int  # recordings heard event by event
    updates: float
    all_updates: float
    layers: list[float]  # updates: events, events, pooled cells, cells, cells
    macs: float
    all_macs: float
    difference: float  # largest
    event_ms: float
    whole_ms: float
    right: list[float]  # fraction of them after each tenth of their events
    trace: NotRequired[Trace]


@lru_cache(maxsize=1)
def seen(network: str, limit: int | None) -> Three:
    """What the sensor sends: to fit, for validation, for the test."""
    train, test = data.load(NETWORKS[network])
    fit, validation = data.validation_split(train)
    many = None if limit is None else 5 * limit

    def recorded(part: Split) -> Recordings:
        return look(part.images, part.labels, part.classes, **SENSORS[network])

    return recorded(fit[:many]), recorded(validation[:limit]), recorded(test[:limit])


def made(recordings: Recordings, method: str, seed: int) -> AEGNN:
    """The untrained network of a method."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        rule = Rule(mutual=method == "mutual")
        return AEGNN(recordings.size, len(recordings.classes), rule)


def cells(network: str) -> list[Cell]:
    """A cell a method."""
    return [Cell(f"{network}/{m}", partial(measure, network, m, SEED)) for m in METHODS]


def measure(network: str, method: str, seed: int, context: Context) -> list[Graphed]:
    """Train a network, and hear test recordings with it."""
    fit, validation, test = seen(network, context.limit)
    net, plan = made(fit, method, seed), PLANS[network]
    if context.limit is not None:
        plan = Plan(epochs=1, batch=min(plan.batch, max(1, len(fit) // 4)))
    name = f"{network}/{method}"
    history = training.fit(net, fit, plan, seed=seed, state=context.state(name), label=name)
    heard = [training.walk(net, test.take([i])) for i in range(min(WALKED, len(test)))]
    accounts, labels = [walked for walked, _ in heard], test.labels.tolist()
    row: Graphed = {
        "model": network,
        "label": METHODS[method],
        "n": len(test),
        "seed": seed,
        "epochs": plan.epochs,
        "fitted_images": len(fit),
        "validation_accuracy": training.accuracy(net, validation),
        "test_accuracy": training.accuracy(net, test),
        "seconds_per_epoch": mean(epoch["seconds"] for epoch in history),
        "method": method,
        "parameters": sum(p.numel() for p in net.parameters()),
        "events": float(test.counts.mean()),
        "neighbors": edges(test.take(slice(WALKED)), net.rule).shape[1]
        / int(test.counts[:WALKED].sum()),
        "walked": len(heard),
        "updates": over_events(accounts, "updates"),
        "all_updates": over_events(accounts, "all_updates"),
        "layers": [
            sum(w["layers"][i] * w["events"] for w in accounts) / sum(w["events"] for w in accounts)
            for i in range(5)
        ],
        "macs": over_events(accounts, "macs"),
        "all_macs": over_events(accounts, "all_macs"),
        "difference": max(walked["difference"] for walked in accounts),
        "event_ms": 1000 * over_events(accounts, "seconds"),
        "whole_ms": 1000 * over_events(accounts, "all_seconds"),
        "right": [right(heard, labels, k) for k in range(1, TENTHS + 1)],
        "trace": trace(test.take([0]), heard[0][1]),
    }  # fmt: skip
    return [row]


def over_events(accounts: list[Walked], key: str) -> float:
    """The mean over all events of some recordings."""
    values: list[float] = [walked[key] * walked["events"] for walked in accounts]  # type: ignore[literal-required]
    return sum(values) / sum(walked["events"] for walked in accounts)


def right(heard: list[tuple[Walked, list[Touched]]], labels: list[int], tenths: int) -> float:
    """The fraction of recordings that are right after so many tenths of their events."""
    hits = []
    for (_, touched), label in zip(heard, labels[: len(heard)], strict=True):
        last = touched[max(1, round(tenths * len(touched) / TENTHS)) - 1]
        hits.append(int(np.argmax(last.logits)) == label)
    return mean(hits)


def trace(recording: Recordings, touched: list[Touched]) -> Trace:
    """What happened, event by event."""
    return {
        "digit": int(recording.labels[0]),
        "t": [round(t, 2) for t in recording.t.tolist()],
        "updates": [one.updates for one in touched],
        "all_updates": [one.all_updates for one in touched],
        "answers": [int(np.argmax(one.logits)) for one in touched],
    }


def conclude(sections: Rows) -> Mapping[str, list[Goal]]:
    """The goals beside what was found, on moved MNIST with edges both ways."""
    rows = [
        row for row in sections["runs"]
        if row["model"] == "moved-mnist" and row["method"] == "mutual"
    ]  # fmt: skip
    row = rows[0] if rows else {}
    fewer = row["all_updates"] / row["updates"] if rows else None
    return {
        "goals": [
            goal("accuracy on moved MNIST", row.get("test_accuracy"), at_least=0.97),
            goal("times fewer node updates an event", fewer, at_least=10.0),
            goal("largest difference to the whole graph", row.get("difference"), at_most=1e-5),
        ]
    }


EXPERIMENT = Experiment(
    name="event-graph",
    summary="a growing graph of events: accuracy, and what one event at a time computes again",
    networks=("moved-mnist",),
    cells=cells,
    conclude=conclude,
    datasets={name: None if held == "digits" else held for name, held in NETWORKS.items()},
)
