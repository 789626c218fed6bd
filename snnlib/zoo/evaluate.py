"""Evaluation over a data set: accuracy after every time step beside the ANN's, and what it costs.

`evaluate` runs a spiking network and its ANN over a split in parts, so memory does not grow with
the number of images; `report` makes one JSON-ready object of it, the one that
``snnlib evaluate --json`` prints. Chapter *Converting a network*.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NotRequired, TypedDict, final

import torch
from torch import Tensor
from tqdm import tqdm

from snnlib._arguments import whole
from snnlib._compatibility import by_name_after
from snnlib.conversion.balance import Balance
from snnlib.simulation import costs
from snnlib.simulation.coding import Bernoulli, Coding, Constant
from snnlib.simulation.network import SpikingNetwork
from snnlib.zoo import data, distributed, provenance
from snnlib.zoo.data import Split

CALIBRATION_IMAGES = 1000
LABELS = {"if": "IF", "ternary": "TerMapping", "augmented": "AugMapping"}
_PART = 250  # images held as floating point at a time, and a process's share of work


def calibration_images(train: Split, count: int = CALIBRATION_IMAGES) -> Tensor:
    """The images that thresholds are balanced on, float32 in [0, 1], shape (count, C, H, W).

    They are the first ``count`` of the training set after the validation images are taken out, so
    neither a validation nor a test image has a say in a threshold.
    """
    fit, _ = data.validation_split(train)
    return data.to_float(fit.images[:count])


@dataclass
class Evaluation:
    """What an evaluation found. Lists have one entry a time step (one in all with only_last).

    Before the first step that the network's read-out counts, there is no answer: accuracy and
    agreement are not a number, ``answers`` are −1.

    Attributes:
        n: number of images.
        ann_accuracy: fraction of images that the ANN, in float32, answers right.
        accuracy: fraction that the spiking network answers right.
        agreement: fraction that it answers as the ANN does.
        events: cumulative events an image, all spiking layers; None with only_last.
        spikes: cumulative Σ|c| an image; None with only_last.
        synops: cumulative costs an image (`snnlib.costs.SynOps`); None with only_last.
        seconds: time in the simulation alone, without the ANN and the loading.
        answers: predicted class of every image after each step, int64 (T, n).
        ann_answers: the ANN's, int64 (n,).
    """

    n: int = 0
    ann_accuracy: float = 0.0
    accuracy: list[float] = field(default_factory=list)
    agreement: list[float] = field(default_factory=list)
    events: list[float] | None = None
    spikes: list[float] | None = None
    synops: costs.SynOps | None = None
    seconds: float = 0.0
    answers: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.int64))
    ann_answers: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))


@by_name_after(4)
def evaluate(
    net: SpikingNetwork,
    ann: Callable[[Tensor], Tensor],
    split: Split,
    steps: int,
    *,
    coding: Coding | None = None,
    batch: int | None = None,
    only_last: bool = False,
    progress: bool = False,
) -> Evaluation:
    """Run a spiking network and its ANN over a split.

    Args:
        net: the spiking network.
        ann: the network it was converted from; in float32 and on the device of ``net``.
        split: images and labels.
        steps: number of time steps T.
        coding: `Constant` (default) or `Bernoulli`.
        batch: images simulated together; chosen by the simulator by default.
        only_last: step T alone, without events (the closed form where it holds).
        progress: show a progress bar on stderr.

    Raises:
        ConversionError, ValueError: as for calling the network; an empty split; an output that is
            not one number a class, or has fewer classes than the split.
    """
    if len(split) == 0:
        raise ValueError("the split holds no image: nothing to evaluate")
    check_classes(net, split)
    coding = Constant() if coding is None else coding
    batch = None if batch is None else whole("batch", batch)
    part = _PART if batch is None else max(batch, _PART // batch * batch)
    found = []
    silent = not progress or distributed.rank() > 0
    with tqdm(total=len(split), unit="image", disable=silent, mininterval=0.5) as bar:
        for start in distributed.mine(list(range(0, len(split), part))):
            piece = split[start : start + part]
            options = {"coding": coding, "only_last": only_last, "batch": batch, "first": start}
            found.append(_part(net, ann, piece, steps, options))
            # One bar for all processes: the others are about as far.
            bar.update(min(len(split) - bar.n, part * distributed.size()))
    return _together(distributed.gather(found), steps, _macs(net, coding))


def check_classes(net: SpikingNetwork, split: Split) -> None:
    """Raise ValueError unless the network answers with one number a class of the split."""
    shape = tuple(net.graph.shapes[net.graph.output])
    if len(shape) != 1 or shape[0] < 2:
        raise ValueError(
            f"the network's output has shape {shape} an image: accuracy needs one number for each "
            "of two classes or more. Compare real or dense outputs with the ANN's: net.verify "
            "(snnlib verify), or net(x, steps).logits"
        )
    if shape[0] < len(split.classes):
        raise ValueError(
            f"the images have {len(split.classes)} classes, the network answers with {shape[0]}: "
            "is it another data set's?"
        )


class _Found(NamedTuple):
    """One part's result; sums over its images are whole numbers, so any order adds up alike."""

    sums: dict[str, Tensor]
    seconds: float
    answers: Tensor
    ann_answers: Tensor


def _part(
    net: SpikingNetwork, ann: Callable[[Tensor], Tensor], piece: Split, steps: int,
    options: dict[str, Any],
) -> _Found:  # fmt: skip
    x, labels = piece.floats().to(net.device), piece.labels.to(net.device)
    with torch.no_grad():
        answers = ann(x)
    x = x.to(net.dtype)
    _wait(net.device)
    began = time.perf_counter()
    run = net(x, steps, **options)
    _wait(net.device)
    seconds = time.perf_counter() - began
    means = {"accuracy": run.accuracy(labels), "agreement": run.agreement(answers)}
    means["ann_accuracy"] = (answers.argmax(1) == labels).double().mean()
    synops, events, spikes = run.synops(), run.events, run.spikes
    if synops is not None and events is not None and spikes is not None:
        means |= {"events": events, "spikes": spikes, "total": synops.total}
        means |= {"multiplications": synops.multiplications, "unit_spikes": synops.unit_spikes}
    sums = {name: (value.double().cpu() * len(piece)).round() for name, value in means.items()}
    return _Found(sums, seconds, run.predictions.cpu(), answers.argmax(1).cpu())


def _together(parts: list[_Found], steps: int, macs: tuple[int, int]) -> Evaluation:
    """The parts of all processes as one result, in means an image."""
    answers = torch.cat([part.answers for part in parts], 1)
    n = answers.shape[1]
    mean = {
        name: torch.stack([part.sums[name] for part in parts]).sum(0) / n for name in parts[0].sums
    }
    found = Evaluation(
        n, float(mean["ann_accuracy"]), mean["accuracy"].tolist(), mean["agreement"].tolist(),
        seconds=sum(part.seconds for part in parts) / distributed.size(), answers=answers,
        ann_answers=torch.cat([part.ann_answers for part in parts]),
    )  # fmt: skip
    if "total" in mean:
        found.events, found.spikes = mean["events"].tolist(), mean["spikes"].tolist()
        first, ann = macs
        found.synops = costs.SynOps(
            mean["total"], mean["multiplications"], mean["unit_spikes"],
            first, first * torch.arange(1, steps + 1), ann,
        )  # fmt: skip
    return found


def _macs(net: SpikingNetwork, coding: Coding) -> tuple[int, int]:
    """MACs an image: the analog first layer's (0 for spiking input), and the whole ANN's."""
    first = 0 if isinstance(coding, Bernoulli) else costs.macs(net.graph, analog_only=True)
    return first, costs.macs(net.graph)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Measured(TypedDict):
    """A setting, and what an evaluation found in it, but for the accuracies.

    Lists have one entry a step (one in all with only_last). Costs are sums so far, an image, and
    None with only_last.
    """

    model: str
    dataset: str
    n: int  # images
    neuron: str  # its kind; "several" where layers have their own
    levels: int | None  # None, here and below: the neuron has no such parameter, or no bound
    negative: float | None
    v0: float | None
    cap: int | None
    reset: str
    balance: str | None  # the kind of balancing
    percentile: float | None
    per_channel: bool | None
    calibration_images: int | None
    input: str  # constant or bernoulli
    seed: int | None  # of a random input
    steps: int
    answer_from: NotRequired[int]  # first step that counts for the answer; absent: 1
    ann_accuracy: float
    events_per_image: list[float] | None
    spikes_per_image: list[float] | None
    neurons: int  # spiking ones
    synops_per_image: list[float] | None
    multiplications_per_image: list[float] | None  # the SynOps with |c| > 1
    unit_spike_synops_per_image: list[float] | None  # an event sent as |c| unit spikes
    energy_nj_per_image: list[float] | None  # this book's account
    literature_energy_nj_per_image: NotRequired[list[float] | None]
    ann_energy_nj: float
    macs_first_layer: int
    ann_macs: int
    seconds: float  # in the simulation alone
    images_per_second: float
    dtype: str


@final
class Report(Measured):
    """`Measured`, the accuracies, and the machine that did it.

    Accuracies are fractions of the images, one a step (one in all with only_last); None before
    ``answer_from``, when there is no answer.
    """

    accuracy: list[float | None]
    agreement: list[float | None]  # answered as the ANN does
    device: str
    hardware: str
    versions: dict[str, str]
    images_from: NotRequired[str]  # these three: added by ``snnlib evaluate``
    calibration_from: NotRequired[str]
    label: NotRequired[str]


@by_name_after(3)
def report(
    found: Evaluation,
    net: SpikingNetwork,
    model: str,
    *,
    dataset: str,
    steps: int,
    coding: Coding,
    balance: Balance | None = None,
) -> Report:
    """One JSON-ready object: the setting, the accuracies, the costs an image.

    Without ``balance`` (a network from a file) it is what the network itself says.
    """
    neuron, synops = net.neuron, found.synops
    first, every = _macs(net, coding)
    return {
        "model": model,
        "dataset": dataset,
        "n": found.n,
        "neuron": getattr(neuron, "kind", "several"),  # a neuron a layer
        "levels": getattr(neuron, "levels", None),
        "negative": getattr(neuron, "negative", None),
        "v0": getattr(neuron, "v0", None),
        "cap": getattr(neuron, "cap", None),
        "reset": getattr(neuron, "reset", "subtract"),
        "balance": net.report.get("balance") if balance is None else balance.kind,
        "percentile": getattr(balance, "q", None),
        "per_channel": net.report.get("per_channel"),
        "calibration_images": net.report.get("images"),
        "input": "bernoulli" if isinstance(coding, Bernoulli) else "constant",
        "seed": coding.seed if isinstance(coding, Bernoulli) else None,
        "steps": steps,
        "answer_from": net.readout.first,
        "ann_accuracy": found.ann_accuracy,
        "accuracy": _stored(found.accuracy),
        "agreement": _stored(found.agreement),
        "events_per_image": found.events,
        "spikes_per_image": found.spikes,
        "neurons": sum(net.neurons.values()),
        "synops_per_image": None if synops is None else synops.total.tolist(),
        "multiplications_per_image": None if synops is None else synops.multiplications.tolist(),
        "unit_spike_synops_per_image": None if synops is None else synops.unit_spikes.tolist(),
        "energy_nj_per_image": None if synops is None else synops.energy().tolist(),
        "literature_energy_nj_per_image": (
            None if synops is None else synops.literature_energy.tolist()
        ),
        "ann_energy_nj": every * costs.MAC_PICOJOULE / 1000,
        "macs_first_layer": first,
        "ann_macs": every,
        "seconds": round(found.seconds, 3),
        "images_per_second": round(found.n / found.seconds, 1),
        "device": str(net.device),
        "hardware": provenance.hardware(net.device),
        "dtype": str(net.dtype).removeprefix("torch."),
        "versions": provenance.versions("numpy"),
    }


def _stored(shares: list[float]) -> list[float | None]:
    """As JSON can hold them: None where there is no number."""
    return [None if math.isnan(share) else share for share in shares]
