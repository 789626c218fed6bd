"""Training on whole graphs, and what hearing one event at a time then saves.

Recordings are made into graphs batch by batch: their edges take more room than their events, and
less time than a step of training. Chapter *One event at a time*.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from snnlib._arguments import real, whole
from snnlib.events.aegnn import AEGNN, graph
from snnlib.events.asynchronous import Asynchronous, Touched
from snnlib.zoo import epochs
from snnlib.zoo.event_files import Recordings
from snnlib.zoo.training import mixed, one_cycle

_ANSWERED = 100  # recordings at a time


@dataclass(frozen=True)
class Plan:
    """How to train.

    Args:
        epochs: passes over the recordings.
        batch: recordings a step of Adam.
        rate: the peak of its learning rate, which goes through one cycle.

    Raises:
        ValueError: a value is out of range.
    """

    epochs: int = 6
    batch: int = 64
    rate: float = 6e-3

    def __post_init__(self) -> None:
        whole("epochs", self.epochs)
        whole("batch", self.batch)
        real("rate", self.rate, 0.0, above=True)


class Epoch(TypedDict):
    """What an epoch left."""

    loss: float  # mean over its recordings, nats
    seconds: float


class Walked(TypedDict):
    """A recording heard one event at a time, beside the whole graph after every event.

    Updates are of nodes, in all layers, and those of the whole graph after each event are what
    computing everything again would take; means over the recording's events.
    """

    events: int
    updates: float
    all_updates: float
    layers: list[float]  # updates: events, events, pooled cells, cells, cells
    macs: float  # multiplications, without the last layer
    all_macs: float
    difference: float  # largest of the logits, relative to the largest of them, at least 1
    seconds: float  # an event; of this machine
    all_seconds: float  # of the whole graph, after every 20th event


def fit(
    net: AEGNN,
    recordings: Recordings,
    plan: Plan,
    *,
    seed: int = 0,
    state: str | Path | None = None,
    label: str = "",
    progress: bool = False,
) -> list[Epoch]:
    """Train in place, from the weights that there are; left in evaluation mode.

    Args:
        net: the network.
        recordings: to train on.
        plan: for how long.
        seed: of the order of the recordings.
        state: a file that keeps the state after each epoch and that a later call with the same
            plan, seed, label and number of recordings goes on from. None: nothing is kept.
        label: of the progress bar, and part of what the state is for.
        progress: show a progress bar.

    Raises:
        ValueError: there are less recordings than a batch, or the state file is of another
            training.
        CheckpointError: the state file cannot be written.
    """
    steps = len(recordings) // plan.batch
    if not steps:
        raise ValueError(f"fit: {len(recordings)} recordings are less than a batch of {plan.batch}")
    adam = torch.optim.Adam(net.parameters(), plan.rate)
    settings = {"plan": asdict(plan), "seed": seed, "label": label, "recordings": len(recordings)}

    def one(number: int, bar: tqdm) -> Epoch:
        began, total = time.perf_counter(), 0.0
        for step, rows in enumerate(_batches(len(recordings), plan.batch, seed, number)):
            share = (number * steps + step + 0.5) / (plan.epochs * steps)
            for group in adam.param_groups:
                group["lr"] = plan.rate * one_cycle(share, 0.2)
            data = graph(recordings.take(rows), net.rule)
            loss = F.cross_entropy(net(data), data.y)
            adam.zero_grad()
            loss.backward()
            adam.step()
            total += float(loss.detach())
            bar.update()
        return Epoch(loss=total / steps, seconds=time.perf_counter() - began)

    return epochs.run(
        net, adam, plan.epochs, steps, one, settings, state=state, label=label, progress=progress
    )


def _batches(n: int, batch: int, seed: int, epoch: int) -> Iterator[np.ndarray]:
    """Whole batches of an epoch; their order depends on seed and epoch alone."""
    generator = torch.Generator().manual_seed(mixed(seed, epoch))
    order = torch.randperm(n, generator=generator).numpy()
    for start in range(0, n - batch + 1, batch):
        yield order[start : start + batch]


def answers(net: AEGNN, recordings: Recordings) -> Tensor:
    """The class of each recording, from its whole graph, int64 (N,)."""
    found = []
    with torch.no_grad():
        for start in range(0, len(recordings), _ANSWERED):
            rows = np.arange(start, min(start + _ANSWERED, len(recordings)))
            found.append(net.eval()(graph(recordings.take(rows), net.rule)).argmax(1))
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.int64)


def accuracy(net: AEGNN, recordings: Recordings) -> float:
    """The fraction that is right."""
    right = answers(net, recordings).numpy() == recordings.labels
    return float(right.mean())


def first(recording: Recordings, n: int) -> Recordings:
    """The first n events of one recording.

    Raises:
        ValueError: it is not one recording.
    """
    if len(recording) != 1:
        raise ValueError(f"first takes one recording, not {len(recording)}")
    return Recordings(
        recording.x[:n], recording.y[:n], recording.t[:n], recording.p[:n],
        np.array([0, min(n, len(recording.x))]), recording.labels, recording.classes,
        recording.size,
    )  # fmt: skip


def events(recording: Recordings) -> Iterator[tuple[int, int, float, int]]:
    """Column, row, time in ms and polarity of each event."""
    columns = (recording.x, recording.y, recording.t, recording.p)
    yield from zip(*(column.tolist() for column in columns), strict=True)


def walk(net: AEGNN, recording: Recordings, every: int = 20) -> tuple[Walked, list[Touched]]:
    """Hear one recording event by event; compute the whole graph after every 20th beside it.

    Whoever computes everything again knows the graph already: only the network is timed.

    Raises:
        ValueError: it is not one recording, or it has no event.
    """
    if not len(first(recording, 1).x):
        raise ValueError("walk: the recording has no event")
    running, touched, spent = Asynchronous(net.eval()), list[Touched](), 0.0
    whole_spent, difference = list[float](), 0.0
    dtype = net.out.weight.dtype
    for n, event in enumerate(events(recording), start=1):
        began = time.perf_counter()
        touched.append(running.add(*event))
        spent += time.perf_counter() - began
        if n % every and n < len(recording.x):
            continue
        data = graph(first(recording, n), net.rule, dtype)
        began = time.perf_counter()
        with torch.no_grad():
            logits = net(data)[0].numpy()
        whole_spent.append(time.perf_counter() - began)
        apart = np.abs(touched[-1].logits - logits).max() / max(1.0, np.abs(logits).max())
        difference = max(difference, float(apart))

    def mean(values: list[int]) -> float:
        return float(np.mean(values))

    layers = [[len(one.again[i]) for one in touched] for i in range(len(touched[0].again))]
    walked: Walked = {
        "events": len(touched),
        "updates": mean([one.updates for one in touched]),
        "all_updates": mean([one.all_updates for one in touched]),
        "layers": [mean(layer) for layer in layers],
        "macs": mean([one.macs for one in touched]),
        "all_macs": mean([one.all_macs for one in touched]),
        "difference": difference,
        "seconds": spent / len(touched),
        "all_seconds": float(np.mean(whole_spent)),
    }
    return walked, touched
