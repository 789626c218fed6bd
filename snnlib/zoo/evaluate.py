"""Evaluation over a data set: accuracy after every time step beside the ANN's, and what it costs.

`evaluate` runs a spiking network and its ANN over a split in parts, so memory does not grow with
the number of images; `report` makes one JSON-ready object of it, the one that
``snnlib evaluate --json`` prints. Chapters *Converting a network* and *What it costs*.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from snnlib.conversion.balance import Balance
from snnlib.neurons import NEURONS
from snnlib.simulation import costs
from snnlib.simulation.coding import Bernoulli, Coding, Constant
from snnlib.simulation.network import SpikingNetwork
from snnlib.simulation.run import Run
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


def evaluate(
    net: SpikingNetwork,
    ann: nn.Module,
    split: Split,
    steps: int,
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
        ConversionError, ValueError: as for calling the network; an empty split.
    """
    if len(split) == 0:
        raise ValueError("the split holds no image: nothing to evaluate")
    coding = Constant() if coding is None else coding
    part = _PART if batch is None else max(batch, _PART // batch * batch)
    macs = _macs(net, coding)
    starts = list(range(0, len(split), part))
    found_parts = []
    silent = not progress or distributed.rank() > 0
    with tqdm(total=len(split), unit="image", disable=silent, mininterval=0.5) as bar:
        for start in distributed.mine(starts):
            piece = split[start : start + part]
            found_parts.append(_part(net, ann, piece, steps, coding, batch, only_last, start))
            # One bar for all processes: the others are about as far.
            bar.update(min(len(split) - bar.n, part * distributed.size()))
    parts = distributed.gather(found_parts)
    right = torch.stack([found.right for found in parts]).sum(0)
    same = torch.stack([found.same for found in parts]).sum(0)
    ann_right = sum(found.ann_right for found in parts)
    seconds = sum(found.seconds for found in parts) / distributed.size()
    sums: dict[str, Tensor] = {}
    for name in parts[0].sums:
        sums[name] = torch.stack([found.sums[name] for found in parts]).sum(0)
    n = len(split)
    mean = {name: total / n for name, total in sums.items()}
    found = Evaluation(
        n, ann_right / n, (right / n).tolist(), (same / n).tolist(), seconds=seconds,
        answers=torch.cat([found.answers for found in parts], 1),
        ann_answers=torch.cat([found.ann_answers for found in parts]),
    )  # fmt: skip
    if mean:
        found.events, found.spikes = mean["events"].tolist(), mean["spikes"].tolist()
        every = macs[0] * torch.arange(1, steps + 1)
        found.synops = costs.SynOps(
            mean["total"], mean["multiplications"], mean["unit_spikes"], macs[0], every, macs[1]
        )
    return found


@dataclass
class _Found:
    """One part's result: sums over its images, whole numbers, so that any order adds up alike."""

    right: Tensor
    same: Tensor
    ann_right: int
    seconds: float
    sums: dict[str, Tensor]
    answers: Tensor
    ann_answers: Tensor


def _part(
    net: SpikingNetwork, ann: nn.Module, piece: Split, steps: int, coding: Coding,
    batch: int | None, only_last: bool, first: int,
) -> _Found:  # fmt: skip
    x, labels = data.to_float(piece.images).to(net.device), piece.labels.to(net.device)
    with torch.no_grad():
        answers = ann(x)
    x = x.to(net.dtype)
    _wait(net.device)
    began = time.perf_counter()
    run = net(x, steps, coding, only_last=only_last, batch=batch, first=first)
    _wait(net.device)
    seconds = time.perf_counter() - began
    return _Found(
        (len(piece) * run.accuracy(labels).cpu()).round(),
        (len(piece) * run.agreement(answers).cpu()).round(),
        int((answers.argmax(1) == labels).sum()),
        seconds,
        _sums(run, len(piece)),
        run.predictions.cpu(),
        answers.argmax(1).cpu(),
    )


def _sums(run: Run, images: int) -> dict[str, Tensor]:
    synops, events, spikes = run.synops(), run.events, run.spikes
    if synops is None or events is None or spikes is None:
        return {}
    found = {"events": events, "spikes": spikes, "total": synops.total}
    found |= {"multiplications": synops.multiplications, "unit_spikes": synops.unit_spikes}
    return {name: (value.double().cpu() * images).round() for name, value in found.items()}


def _macs(net: SpikingNetwork, coding: Coding) -> tuple[int, int]:
    """MACs an image: the analog first layer's (0 for spiking input), and the whole ANN's."""
    first = 0 if isinstance(coding, Bernoulli) else costs.macs(net.graph, analog_only=True)
    return first, costs.macs(net.graph)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def report(
    found: Evaluation, net: SpikingNetwork, model: str, dataset: str, steps: int, coding: Coding,
    balance: Balance,
) -> dict[str, Any]:  # fmt: skip
    """One JSON-ready object: the setting, the accuracies (fractions), the costs an image.

    ``events_per_image``, ``spikes_per_image``, ``synops_per_image`` and ``energy_nj_per_image``
    are cumulative, one entry a step, and None with only_last; ``levels``, ``negative``, ``cap``
    and ``reset`` are None where the neuron has no such parameter.
    """
    import snnlib

    neuron, synops = net.neuron, found.synops
    first, every = _macs(net, coding)
    return {
        "model": model,
        "dataset": dataset,
        "n": found.n,
        "neuron": neuron.kind,
        "levels": neuron.levels,
        "negative": getattr(neuron, "negative", None),
        "v0": neuron.v0,
        "cap": getattr(neuron, "cap", None),
        "reset": getattr(neuron, "reset", "subtract"),
        "balance": balance.kind,
        "percentile": getattr(balance, "q", None),
        "per_channel": net.report.get("per_channel"),
        "calibration_images": net.report.get("images"),
        "input": "bernoulli" if isinstance(coding, Bernoulli) else "constant",
        "seed": coding.seed if isinstance(coding, Bernoulli) else None,
        "steps": steps,
        "ann_accuracy": found.ann_accuracy,
        "accuracy": found.accuracy,
        "agreement": found.agreement,
        "events_per_image": found.events,
        "spikes_per_image": found.spikes,
        "neurons": sum(net.neurons.values()),
        "synops_per_image": None if synops is None else synops.total.tolist(),
        "multiplications_per_image": None if synops is None else synops.multiplications.tolist(),
        "unit_spike_synops_per_image": None if synops is None else synops.unit_spikes.tolist(),
        "energy_nj_per_image": None if synops is None else synops.energy().tolist(),
        "ann_energy_nj": every * costs.MAC_PICOJOULE / 1000,
        "macs_first_layer": first,
        "ann_macs": every,
        "seconds": round(found.seconds, 3),
        "images_per_second": round(found.n / found.seconds, 1),
        "device": str(net.device),
        "hardware": provenance.hardware(net.device),
        "dtype": str(net.dtype).removeprefix("torch."),
        "versions": {"snnlib": snnlib.__version__, **provenance.versions("torch", "numpy")},
    }


def table(result: dict[str, Any]) -> str:
    """A `report` as text: the setting, then one line a time step."""
    names = ("levels", "negative", "v0", "cap", "reset")
    parameters = {f.name for f in fields(NEURONS[result["neuron"]])}  # type: ignore[arg-type]
    own = [k for k in names if k in parameters and result[k] is not None]
    setting = ", ".join(f"{k} {result[k]}" for k in own)
    quantile = "" if result["percentile"] is None else f" {result['percentile']:g}"
    scope = "channel" if result["per_channel"] else "layer"
    lines = [
        f"{result['model']} on {result['n']:,} test images of {result['dataset']}",
        f"{LABELS[result['neuron']]}: {setting}; {result['input']} input",
        f"thresholds: {result['balance']}{quantile} per {scope}, on the first "
        f"{result['calibration_images']:,} training images (validation images left out)",
        f"ANN: {100 * result['ann_accuracy']:.2f} %, {result['ann_macs']:,} MACs, "
        f"{result['ann_energy_nj']:,.0f} nJ an image",
        f"SNN: {result['neurons']:,} neurons; analog first layer {result['macs_first_layer']:,} "
        "MACs, computed once",
        "",
        f"{'step':>5}{'accuracy':>11}{'- ANN':>9}{'same as ANN':>13}",
    ]
    first = result["steps"] - len(result["accuracy"]) + 1
    costly = result["events_per_image"] is not None
    if costly:
        lines[-1] += f"{'events':>12}{'spikes':>12}{'SynOps':>14}{'energy (nJ)':>13}"
    for i, accuracy in enumerate(result["accuracy"]):
        loss = 100 * (accuracy - result["ann_accuracy"])
        line = f"{first + i:>5}{100 * accuracy:>9.2f} %{loss:>+9.2f}"
        line += f"{100 * result['agreement'][i]:>11.2f} %"
        if costly:
            line += (
                f"{result['events_per_image'][i]:>12,.0f}{result['spikes_per_image'][i]:>12,.0f}"
            )
            line += f"{result['synops_per_image'][i]:>14,.0f}"
            line += f"{result['energy_nj_per_image'][i]:>13,.0f}"
        lines.append(line)
    speed = f"{result['seconds']:.1f} s, {result['images_per_second']:,.0f} images/s"
    return "\n".join([*lines, "", f"{speed} on {result['hardware']}, {result['dtype']}"])
