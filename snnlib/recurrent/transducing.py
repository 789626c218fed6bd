"""Training a transducer on strings of digits, and what is asked of it: which digits, and when.

Errors are counted as in speech recognition: the fewest digits that have to be replaced, left out or
put in, divided by the digits that were said. The **delay** of a digit that was recognized (`match`)
runs from its last sample to the moment at which the group of frames that made it come out was
complete; it is negative where the network knew before the digit was over.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypedDict

import torch
from torch import nn
from tqdm import tqdm

from snnlib._arguments import real, whole
from snnlib.recurrent.contest import Noise, Standardize
from snnlib.recurrent.strings import DIGITS, Strings, heard
from snnlib.recurrent.transducer import OBJECTIVES, Emission, Transducer
from snnlib.zoo import epochs, spoken
from snnlib.zoo.training import mixed, one_cycle

_ANSWERED = 50  # strings at a time


@dataclass(frozen=True)
class Plan:
    """How to train.

    Args:
        objective: one of `snnlib.recurrent.transducer.OBJECTIVES`.
        epochs: passes over the strings.
        batch: strings a step of Adam.
        rate: the peak of its learning rate, which goes through one cycle.
        clip: largest norm of the gradient.

    Raises:
        ValueError: a value is out of range.
    """

    objective: str = "transducer"
    epochs: int = 20
    batch: int = 32
    rate: float = 4e-3
    clip: float = 5.0

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective={self.objective!r} must be one of {', '.join(OBJECTIVES)}")
        whole("epochs", self.epochs)
        whole("batch", self.batch)
        for name in ("rate", "clip"):
            real(name, getattr(self, name), 0.0, above=True)


class Epoch(TypedDict):
    """What an epoch left."""

    loss: float  # mean over its strings, nats
    seconds: float


class Judged(TypedDict):
    """What came out of some strings."""

    n: int  # strings
    digits: int  # that were said
    digit_error: float  # fractions
    string_error: float  # strings that are not right throughout
    recognized: int  # digits: the delays are theirs
    delay_ms: float | None  # mean; None: no digit was recognized
    delay_median_ms: float | None
    delay_90_ms: float | None  # nine of ten come out no later


def network(strings: Strings, seed: int, hidden: int = 128) -> Transducer:
    """A transducer for log-mel frames like those of some strings, untrained.

    What it hears is standardized; in training it also gets noise and loses a fifth of the numbers,
    as the book's other networks that listen.
    """
    inside = torch.arange(strings.values.shape[1]) < strings.frames[:, None]
    x = strings.values[inside]  # (frames, 40)
    scaled = Standardize(x.mean(0), x.std(0).clamp_min(1e-6))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        front = nn.Sequential(scaled, Noise(0.5), nn.Dropout(0.2))
        return Transducer(spoken.MELS, DIGITS, hidden, front=front)


def fit(
    net: Transducer,
    strings: Strings,
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
        strings: to train on.
        plan: what to learn, and for how long.
        seed: of the order of the strings, of noise and dropout.
        state: a file that keeps the state after each epoch and that a later call with the same
            plan, seed, label and number of strings goes on from. None: nothing is kept.
        label: of the progress bar, and part of what the state is for.
        progress: show a progress bar.

    Raises:
        ValueError: there is no string, or the state file is of another training.
        CheckpointError: the state file cannot be written.
    """
    if not len(strings):
        raise ValueError("fit: there is no string to train on")
    adam = torch.optim.Adam(net.parameters(), plan.rate)
    settings = {"plan": asdict(plan), "seed": seed, "label": label, "strings": len(strings)}
    return epochs.run(
        net, adam, plan.epochs, -(-len(strings) // plan.batch),
        partial(_epoch, net, adam, strings, plan, seed), settings, state=state, label=label,
        progress=progress,
    )  # fmt: skip


def _epoch(
    net: Transducer, adam: torch.optim.Adam, strings: Strings, plan: Plan, seed: int, done: int,
    bar: tqdm,
) -> Epoch:  # fmt: skip
    """One pass in a new order; its random numbers depend on the seed and its number alone."""
    own = mixed(seed, done)
    order = torch.randperm(len(strings), generator=torch.Generator().manual_seed(own))
    batches, began, total = order.split(plan.batch), time.perf_counter(), 0.0
    with torch.random.fork_rng():
        torch.manual_seed(own)
        for i, rows in enumerate(batches):
            share = (done * len(batches) + i + 0.5) / (plan.epochs * len(batches))
            for group in adam.param_groups:
                group["lr"] = plan.rate * one_cycle(share, 0.2)
            loss = net.loss(strings.take(rows), plan.objective)
            adam.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), plan.clip)
            adam.step()
            total += float(loss.detach()) * len(rows)
            bar.update()
    return Epoch(loss=total / len(strings), seconds=time.perf_counter() - began)


def transcribe(net: Transducer, strings: Strings, width: int | None = None) -> list[Emission]:
    """What comes out of every string, by the best edge at each node or a beam of this width."""
    net.eval()
    device, found = net.out.weight.device, []
    for rows in torch.arange(len(strings)).split(_ANSWERED):
        some = strings.take(rows)
        sound = some.values.to(device)
        if width is None:
            found += net.greedy(sound, some.frames)
        else:
            found += net.beam(sound, some.frames, width)
    return found


def match(said: Sequence[int], out: Sequence[int]) -> tuple[int, list[tuple[int, int]]]:
    """The fewest changes that make ``said`` of ``out``, and which symbols stay: pairs of places.

    Example:
        >>> match([3, 1, 4], [3, 4, 4])  # one was taken for another
        (1, [(0, 0), (2, 2)])
        >>> match([3, 1, 4], [1, 4, 5])  # one is missing, one too many
        (2, [(1, 0), (2, 1)])
    """
    cost = [list(range(len(out) + 1))]  # cost[i][j]: of the first i against the first j
    for i, symbol in enumerate(said):
        row = [i + 1]
        for j, other in enumerate(out):
            row.append(min(cost[i][j] + (symbol != other), cost[i][j + 1] + 1, row[j] + 1))
        cost.append(row)
    i, j, pairs = len(said), len(out), []
    while i and j:
        same = said[i - 1] == out[j - 1]
        if cost[i][j] == cost[i - 1][j - 1] + (not same):
            i, j = i - 1, j - 1
            if same:
                pairs.append((i, j))
        elif cost[i][j] == cost[i - 1][j] + 1:
            i -= 1
        else:
            j -= 1
    return cost[-1][-1], pairs[::-1]


def delays(strings: Strings, found: Sequence[Emission], stack: int) -> torch.Tensor:
    """Milliseconds from the end of each recognized digit until it was out, float64."""
    late = []
    for i, emission in enumerate(found):
        for k, j in match(strings.said(i), emission.symbols)[1]:
            out = heard(torch.tensor(emission.groups[j]), stack)
            late.append(int(out) - int(strings.ends[i, k]))
    return torch.tensor(late, dtype=torch.float64) * 1000 / spoken.RATE


def judge(strings: Strings, found: Sequence[Emission], stack: int) -> Judged:
    """Errors and delays of what came out of some strings."""
    changes = [match(strings.said(i), one.symbols)[0] for i, one in enumerate(found)]
    said, late = int(strings.lengths.sum()), delays(strings, found, stack)
    mean, median, most = (
        (late.mean().item(), late.quantile(0.5).item(), late.quantile(0.9).item())
        if len(late)
        else (None, None, None)
    )
    return {
        "n": len(strings),
        "digits": said,
        "digit_error": sum(changes) / said,
        "string_error": sum(map(bool, changes)) / len(strings),
        "recognized": len(late),
        "delay_ms": mean,
        "delay_median_ms": median,
        "delay_90_ms": most,
    }
