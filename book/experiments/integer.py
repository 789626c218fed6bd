"""``integer``: what whole numbers of 8 bits cost in accuracy, and that they are the same anywhere.

Every network, in two fixed settings of AugMapping, over all test images: the spiking network in
real numbers beside ``net.quantize()`` of it, after every step. The settings are not chosen here, so
the test images come in once.

The whole-number network's summed outputs, of every image and step, go into a SHA-256. Another
machine has to get the same digest. λ is rounded to four digits before anything else, because the
balancing itself runs in floating point and may end in other last bits elsewhere; the row holds the
rounded λ, so `rebuild` needs no balancing at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any, TypedDict

import torch
from torch import Tensor

from book.experiments.frame import Cell, Context, Experiment, Labeled, Rows
from book.experiments.measure import INTERVAL, Accuracies, Interval, loss_intervals
from book.experiments.setting import Setting, SettingRecord, Subject
from book.experiments.targets import Verdict
from snnlib.conversion.convert import convert
from snnlib.neurons import Augmented
from snnlib.simulation.network import SpikingNetwork
from snnlib.zoo import models
from snnlib.zoo.data import Split
from snnlib.zoo.evaluate import LABELS, evaluate

STEPS, WEIGHT_BITS = 4, 8
SETTINGS = {
    f"augmented-{levels}": Setting(Augmented(levels=levels, negative=0.0, cap=15))
    for levels in (4, 8)
}
SPOT_IMAGES = 200  # a test computes these again
TRACED_IMAGES = 50
POINTS = {"mnist": 0.1, "fashion_mnist": 0.1, "cifar10": 0.3}  # accuracy lost at most
_PART, _TRACED_PART = 250, 10


class Traced(TypedDict):
    """The largest numbers that were met, in whole numbers, on the first images."""

    n: int  # images
    largest_current: int
    largest_potential: int


class Spot(TypedDict):
    """The digest of the first images alone."""

    n: int  # images
    sha256: str


class IntegerRun(Labeled, Accuracies):
    """The whole-number network beside the real one, with which it agrees; lists along the steps."""

    dataset: str
    steps: int
    setting: SettingRecord
    weight_bits: int
    balanced: dict[str, float]  # λ of every layer, rounded
    ann_accuracy: float
    real_accuracy: list[float]  # of the network in real numbers
    events_per_image: list[float]  # so far, of the network in real numbers
    neurons: int
    loss_interval: list[Interval]  # against real numbers, fractions
    largest_possible_sum: int
    traced: Traced
    sha256: str  # of the summed outputs of all images and steps
    spot: Spot


def cells(network: str) -> list[Cell]:
    """A cell a setting."""
    return [Cell(f"{network}/{name}", partial(measure, network, name)) for name in SETTINGS]


def measure(network: str, name: str, context: Context) -> list[IntegerRun]:
    """Real against whole numbers in one setting."""
    subject, setting = context.subject(network), SETTINGS[name]
    net = rounded(subject.convert(setting))
    whole = net.quantize(weight_bits=WEIGHT_BITS)
    real = evaluate(net, subject.ann, subject.test, STEPS)
    events = real.events
    assert events is not None
    labels, answers, digest, spot = subject.test.labels, [], hashlib.sha256(), ""
    for seen, (sums, answer) in outputs(whole, subject.test):
        digest.update(sums)
        answers.append(answer)
        if seen == min(SPOT_IMAGES, len(subject.test)):
            spot = digest.hexdigest()
    found = torch.cat(answers, 1)
    current, potential = largest(whole, subject.test[:TRACED_IMAGES])
    return [
        {
            "model": network,
            "label": (
                f"{LABELS['augmented']}, {setting.neuron.levels} levels, "
                f"whole numbers of {WEIGHT_BITS} bits"
            ),
            "n": len(subject.test),
            "dataset": subject.dataset,
            "steps": STEPS,
            "setting": setting.record(),
            "weight_bits": WEIGHT_BITS,
            "balanced": {key: value.item() for key, value in net.balanced.items()},
            "ann_accuracy": real.ann_accuracy,
            "real_accuracy": real.accuracy,
            "events_per_image": events,
            "neurons": sum(net.neurons.values()),
            "accuracy": (found == labels).double().mean(1).tolist(),
            "agreement": (found == real.answers).double().mean(1).tolist(),
            "loss_interval": [
                interval
                for whole_step, real_step in zip(found, real.answers, strict=True)
                for interval in loss_intervals(whole_step[None], real_step, labels)
            ],
            "largest_possible_sum": int(max(whole.sums.values())),
            "traced": {
                "n": min(TRACED_IMAGES, len(subject.test)),
                "largest_current": current,
                "largest_potential": potential,
            },
            "sha256": digest.hexdigest(),
            "spot": {"n": min(SPOT_IMAGES, len(subject.test)), "sha256": spot},
        }
    ]


def rounded(net: SpikingNetwork) -> SpikingNetwork:
    """The network with every λ rounded to four significant digits."""
    balanced = {
        name: torch.tensor([float(f"{v:.4g}") for v in value.flatten().tolist()])
        .reshape(value.shape)
        .to(value)
        for name, value in net.balanced.items()
    }
    return net.replace(balanced=balanced)


def rebuild(row: IntegerRun, subject: Subject) -> SpikingNetwork:
    """The whole-number network of a row, from the trained weights and the λ in the row."""
    setting = Setting.of(row["setting"])
    net = convert(subject.ann, subject.calibration[:10], setting.neuron, balance=setting.balance)
    balanced = {
        name: torch.full_like(value, row["balanced"][name]) for name, value in net.balanced.items()
    }
    return net.replace(balanced=balanced).quantize(weight_bits=row["weight_bits"])


def outputs(net: SpikingNetwork, split: Split) -> Iterator[tuple[int, tuple[bytes, Tensor]]]:
    """Summed outputs of a split as whole numbers, part by part.

    Yields:
        The number of images so far; of those added, the sums as little-endian 64-bit integers in
        the order (image, step, class), and the answers after each step, int64 (T, B).
    """
    done = 0
    edges = sorted({*range(0, len(split), _PART), min(SPOT_IMAGES, len(split)), len(split)})
    times = torch.arange(1, STEPS + 1, dtype=torch.float64).reshape(-1, 1, 1)
    for start, stop in pairwise(edges):
        run = net(split.images[start:stop].to(net.device), STEPS)
        sums = torch.round(run.logits.cpu() * times / net.output_unit.cpu()).long()
        done += stop - start
        content = sums.transpose(0, 1).contiguous().numpy().astype("<i8").tobytes()
        yield done, (content, run.predictions.cpu())


def largest(net: SpikingNetwork, split: Split) -> tuple[int, int]:
    """Largest |current| that any neuron got in a step, and largest |potential| after one."""
    current = potential = 0.0
    for start in range(0, len(split), _TRACED_PART):
        images = split.images[start : start + _TRACED_PART].to(net.device)
        run = net(images, STEPS, record=net.graph.spiking)
        for name, theta in net.thresholds.items():
            trace = run.trace[name]
            v, c = torch.as_tensor(trace.potential), torch.as_tensor(trace.coefficient)
            first = torch.round(net.neuron.v0 * theta).expand(v.shape[1:])
            z = v - torch.cat([first[None], v[:-1]]) + c * theta
            current = max(current, float(z.abs().max()))
            potential = max(potential, float(v.abs().max()))
    return int(current), int(potential)


def conclude(sections: Rows) -> dict[str, Any]:
    """Accuracy lost against real numbers after the last step, beside what was asked for."""
    runs: list[IntegerRun] = sections["runs"]
    targets: list[Verdict] = []
    for run in runs:
        if (points := POINTS.get(run["dataset"])) is not None:
            lost = 100 * (run["real_accuracy"][-1] - run["accuracy"][-1])
            targets.append(
                {
                    "model": run["model"],
                    "label": f"{run['label']}, against real ones",
                    "n": run["n"],
                    "loss_points_at_most": points,
                    "steps_at_most": run["steps"],
                    "events_per_neuron_at_most": None,
                    "step": run["steps"],
                    "loss_points": lost,
                    "events_per_neuron": run["events_per_image"][-1] / run["neurons"],
                    "reached": lost <= points + 1e-6,
                }
            )
    return {"interval": INTERVAL.replace("ANN accuracy", "accuracy in real numbers").replace(
        "SNN accuracy", "accuracy in whole numbers"), "targets": targets}  # fmt: skip


EXPERIMENT = Experiment(
    name="integer",
    summary="whole numbers of 8 bits against real ones, with a digest for other machines",
    networks=models.NAMES,
    cells=cells,
    conclude=conclude,
)
