"""What experiments measure beyond an evaluation: paired intervals, rounded ANN, answers, time.

Spiking network and ANN answer the same images, so their difference in accuracy is far surer than
either accuracy: only images that exactly one of them gets right count. `paired_interval` is the
adjusted Wald interval for paired proportions, which stays honest where the two never differ.

Source: Bonett and Price, Journal of Educational and Behavioral Statistics 37, 2012.
"""

from __future__ import annotations

import base64
import statistics
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict, TypeVar

import numpy as np
import torch
from torch import Tensor

from snnlib.simulation.closed_form import rounded
from snnlib.simulation.network import SpikingNetwork
from snnlib.zoo.data import Split, to_float
from snnlib.zoo.evaluate import Evaluation

INTERVAL = (
    "95 % interval of ANN accuracy minus SNN accuracy on the same images, as fractions: adjusted "
    "Wald interval for paired proportions (Bonett and Price 2012)"
)
STEPS, IF_STEPS = 32, 48  # of runs over test images
_NORMAL_975 = 1.959964
_PART = 500  # images held as floating point at a time

Interval = tuple[float, float]  # low and high end
Key = TypeVar("Key")


class Accuracies(TypedDict):
    """Shares of the images, one after each step."""

    accuracy: list[float]  # answered right
    agreement: list[float]  # answered as the ANN does


class AtSteps(Accuracies):
    """The same after some steps only."""

    steps: list[int]


class OverTime(Accuracies):
    """What an evaluation measured after each step; costs are sums so far, an image."""

    neurons: int  # spiking ones
    ann_accuracy: float
    events_per_image: list[float]
    spikes_per_image: list[float]
    synops_per_image: list[float]


def over_time(found: Evaluation, net: SpikingNetwork) -> OverTime:
    """An evaluation of all steps as rows hold it."""
    assert found.events is not None
    assert found.spikes is not None
    assert found.synops is not None
    return {
        "neurons": sum(net.neurons.values()),
        "ann_accuracy": found.ann_accuracy,
        "accuracy": found.accuracy,
        "agreement": found.agreement,
        "events_per_image": found.events,
        "spikes_per_image": found.spikes,
        "synops_per_image": found.synops.total.tolist(),
    }


def paired_interval(ann_only: int, snn_only: int, n: int) -> Interval:
    """95 % interval of (accuracy of the ANN − accuracy of the SNN), both on the same n images.

    Args:
        ann_only: images that the ANN alone answers right.
        snn_only: images that the SNN alone answers right.
        n: all images.

    Raises:
        ValueError: the counts are no counts of n ≥ 1 images.

    Example:
        >>> low, high = paired_interval(9, 4, 10_000)
        >>> f"{low:.4f} {high:.4f}"
        '-0.0003 0.0013'
    """
    if min(ann_only, snn_only) < 0 or n < 1 or ann_only + snn_only > n:
        raise ValueError(f"ann_only={ann_only}, snn_only={snn_only} are no counts of n={n} images")
    lost, won = (ann_only + 1) / (n + 2), (snn_only + 1) / (n + 2)
    loss = lost - won
    half = _NORMAL_975 * float(np.sqrt((lost + won - loss**2) / (n + 2)))
    return max(-1.0, loss - half), min(1.0, loss + half)


def loss_intervals(answers: Tensor, ann_answers: Tensor, labels: Tensor) -> list[Interval]:
    """`paired_interval` after every step.

    Args:
        answers: the SNN's, int64 (T, n).
        ann_answers: the ANN's, int64 (n,), or those of another reading of the run, (T, n).
        labels: int64 (n,).
    """
    right, ann_right = answers == labels, ann_answers == labels
    lost, won = (ann_right & ~right).sum(1).tolist(), (right & ~ann_right).sum(1).tolist()
    return [paired_interval(a, b, len(labels)) for a, b in zip(lost, won, strict=True)]


def quantized(net: SpikingNetwork, x: Tensor, steps: int) -> Tensor:
    """Logits of the ANN with activations rounded to the levels a neuron has after so many steps.

    As many levels as the spiking network can tell apart, and none of its time. After one step an
    augmented network with v0 = ½ *is* this network (`snnlib.simulation.closed_form.rounded`).

    Args:
        net: the spiking network, for thresholds and largest coefficients.
        x: images, shape (B, ...).
        steps: number of steps.
    """
    with torch.no_grad():
        return rounded(net.network, net.graph, net.checked(x), steps, clip=True, v0=0.5)


def quantized_ann(
    net: SpikingNetwork, split: Split, ann_answers: Tensor, steps: Sequence[int]
) -> AtSteps:
    """Accuracy of `quantized` on a split, and how often it answers as the ANN, at some steps."""
    right, same = np.zeros(len(steps)), np.zeros(len(steps))
    for start in range(0, len(split), _PART):
        piece = split[start : start + _PART]
        x = to_float(piece.images).to(net.device)
        for i, t in enumerate(steps):
            answer = quantized(net, x, t).argmax(1).cpu()
            right[i] += int((answer == piece.labels).sum())
            same[i] += int((answer == ann_answers[start : start + _PART]).sum())
    n = len(split)
    return {
        "steps": list(steps),
        "accuracy": (right / n).tolist(),
        "agreement": (same / n).tolist(),
    }


def pack(answers: Tensor) -> str:
    """Predicted classes, int64 (n,) below 256, as base64 of zlib-compressed bytes."""
    return base64.b64encode(zlib.compress(answers.to(torch.uint8).numpy().tobytes(), 9)).decode()


def unpack(text: str) -> Tensor:
    """The classes that `pack` packed, int64 (n,)."""
    raw = zlib.decompress(base64.b64decode(text))
    return torch.from_numpy(np.frombuffer(raw, np.uint8).astype(np.int64))


def in_turns(
    ways: Mapping[Key, Callable[[], None]],
    turns: int,
    clock: Callable[[], float] | None = None,
) -> dict[Key, float]:
    """Median seconds of each way to do something, taken in turns.

    So whatever else the machine does slows all of them. The first turn, which compiles and sets up
    what is needed, is not counted.

    Args:
        ways: by name; each waits until its work is done, on a GPU too.
        turns: that are counted.
        clock: seconds; None: those that pass. Of a single thread `time.process_time` does not count
            what other processes take.
    """
    clock = clock or time.perf_counter
    taken: dict[Key, list[float]] = {key: [] for key in ways}
    for turn in range(turns + 1):
        for key, way in ways.items():
            began = clock()
            way()
            if turn:
                taken[key].append(clock() - began)
    return {key: statistics.median(seconds) for key, seconds in taken.items()}
