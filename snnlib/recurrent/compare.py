"""Rank coding beside its baselines on one task and seed: the same epochs, read the same way."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TypedDict

import torch
from torch import Tensor
from tqdm import tqdm

from snnlib.recurrent import crossing
from snnlib.recurrent.coder import RankCoder
from snnlib.recurrent.contest import Task
from snnlib.recurrent.observers import BitsObserver, RatioTest
from snnlib.recurrent.training import Recipe, Training
from snnlib.zoo.sequences import Sequences

METHODS = ("first", "every", "end")  # what the command shows; "scratch": without warm start
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
_TIMED = 2000


class Reading(TypedDict):
    """What a threshold gives."""

    threshold: float
    accuracy: float  # at the first crossing
    mean_time: float  # t*, in steps
    share: float  # of all steps up to t*: what is left is skipped


class Timing(TypedDict):
    """What skipping saves: an epoch of training on at most 2,000 sequences."""

    threshold: float
    computed: float  # share of all steps
    seconds: float
    seconds_padded: float  # nothing skipped


class Read(TypedDict):
    """The answers to some sequences, at one threshold and along a sweep."""

    read: float  # threshold that the following are at
    accuracy: float
    mean_time: float
    share: float
    times: list[int]  # sequences answered after 1, 2, … steps
    waited: float  # accuracy of those who are made to wait for the end
    first_step: float  # accuracy after step 1
    sweep: list[Reading]


class Measured(Read):
    """One method on one part of a task."""

    task: str
    # "first" (rank coding), "scratch" (without warm start), "recorded" (sound as it was recorded),
    # "β = …" (entropy rewarded), "every", "end", "observer"
    method: str
    seed: int
    n: int
    epochs: int
    timing: list[Timing]


def warm_start(
    task: Task,
    fit: Sequences,
    begin: str,
    seed: int,
    *,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> RankCoder:
    """The first half of a training: with the loss at every step, or as ``begin`` says."""
    torch.manual_seed(seed)
    coder = task.network(fit)
    first = replace(task.every, when=begin, seed=seed)
    coder.fit(fit, first, device=device, progress=progress)
    return coder


def train(
    task: Task,
    fit: Sequences,
    method: str,
    seed: int,
    *,
    start: RankCoder | None = None,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> RankCoder:
    """The network of a method: see `snnlib.recurrent.contest`.

    Args:
        task: what on.
        fit: sequences to train on.
        method: one of `METHODS`, or ``"scratch"``: at the first crossing from the beginning.
        seed: of the first weights and the order of the sequences.
        start: what `warm_start` gave for the method; it is copied.
        device: where.
        progress: show a progress bar.

    Raises:
        ValueError: there is no such method.
    """
    if method not in (*METHODS, "scratch"):
        raise ValueError(f"method={method!r} must be scratch or one of {', '.join(METHODS)}")
    begin = {"end": "end", "scratch": "first"}.get(method, "every")
    then = "first" if method == "scratch" else method
    if start is None:
        start = warm_start(task, fit, begin, seed, device=device, progress=progress)
    coder = copy.deepcopy(start)
    more = replace(task.more, when=then, seed=seed + 1)
    coder.fit(fit, more, device=device, progress=progress)
    return coder


def measure(
    task: Task,
    coder: RankCoder,
    part: Sequences,
    method: str,
    seed: int,
    timed: Sequences | None = None,
    thresholds: Sequence[float] = (),
) -> Measured:
    """Read a network on some sequences.

    Args:
        task: what it was trained on.
        coder: the network.
        part: validation or test sequences.
        method: how it was trained.
        seed: with which seed.
        timed: sequences to time training on, at each of the ``thresholds``.
        thresholds: for those.
    """
    logits = coder.outputs(part.values, part.lengths).cpu()
    found = read(logits, part, task.read)
    timing = []
    if timed is not None:
        few = timed.take(slice(_TIMED))
        timing = [epoch_timing(coder, few, replace(task.more, threshold=p)) for p in thresholds]
    return {
        "task": task.name,
        "method": method,
        "seed": seed,
        "n": len(part),
        "epochs": task.every.epochs + task.more.epochs,
        **found,
        "timing": timing,
    }


def read(logits: Tensor, part: Sequences, threshold: float) -> Read:
    """What is the same for networks and observers: logits (N, T, C) after every step."""
    ends = torch.full((len(part),), logits.shape[1]) if part.lengths is None else part.lengths

    def right(times: Tensor) -> float:
        answers = crossing.answer(crossing.at(logits, times))
        return float((answers == part.labels).double().mean())

    def reading(p: float) -> Reading:
        times = crossing.first_crossing(logits, p, ends)
        mean = float(times.double().mean())
        share = float(times.sum()) / float(ends.sum())
        return {"threshold": p, "accuracy": right(times), "mean_time": mean, "share": share}

    at = reading(threshold)
    times = crossing.first_crossing(logits, threshold, ends)
    return {
        "read": threshold,
        "accuracy": at["accuracy"],
        "mean_time": at["mean_time"],
        "share": at["share"],
        "times": torch.bincount(times, minlength=logits.shape[1] + 1)[1:].tolist(),
        "waited": right(ends),
        "first_step": right(torch.ones_like(ends)),
        "sweep": [reading(p) for p in sorted({*THRESHOLDS, threshold})],
    }


def epoch_timing(coder: RankCoder, part: Sequences, recipe: Recipe) -> Timing:
    """An epoch of rank coding with skipping and without; the better of two, on a copy.

    Processor time on a CPU, which other programs disturb less; wall time elsewhere.
    """
    device = coder.readout.weight.device
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    best, computed = [], 1.0
    for skip in (True, False):
        found = []
        for _ in range(2):
            own = replace(recipe, when="first", skip=skip)
            run = Training(copy.deepcopy(coder), part, own, device)
            began = clock()
            epoch = run.epoch(tqdm(disable=True))
            found.append(clock() - began)
        best.append(min(found))
        computed = min(computed, epoch["computed"])
    assert isinstance(recipe.threshold, float)
    return {
        "threshold": recipe.threshold,
        "computed": computed,
        "seconds": best[0],
        "seconds_padded": best[1],
    }


def observer(task: Task, part: Sequences, seed: int) -> Measured | None:
    """The exact observer of a task that has one, read as a network is."""
    x = part.values[..., 0] if part.values.dim() == 3 else part.values
    if task.name == "bits":
        logits = torch.logit(BitsObserver().probabilities(x))
    elif task.name == "noisy-mean":
        logits = RatioTest().ratios(x)
    else:
        return None
    found = read(logits[..., None], part, task.read)
    return {
        "task": task.name,
        "method": "observer",
        "seed": seed,
        "n": len(part),
        "epochs": 0,
        **found,
        "timing": [],
    }


def compare(
    task: Task, seed: int = 0, progress: bool = False, device: torch.device | str = "cpu"
) -> list[Measured]:
    """All methods on the test sequences of a task."""
    fit, _, test = task.parts(seed)
    found = []
    for method in METHODS:
        coder = train(task, fit, method, seed, device=device, progress=progress)
        timed = fit if method == "first" else None
        found.append(measure(task, coder, test, method, seed, timed, (task.read,)))
    best = observer(task, test, seed)
    return found + ([best] if best else [])
