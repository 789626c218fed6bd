"""``negative``: how large the negative threshold of TerMapping should be, and what it takes back.

From −θ (``negative`` 1) to 0 in quarters, IF beside; all else is the same: the
99.9th percentile per layer, v0 = ½, constant input. Measured of each:

- on validation images the answers that are the ANN's, and the events: these choose;
- on test images accuracy over time in both readings, from step 1 and from the start that
  validation images chose (`book.experiments.late_answer`), and the events;
- on a few validation images, neuron by neuron: how many of those whose ANN activation is zero have
  a net count above zero (*false*), which share of the events they sent, and which share of the
  events took a spike back.

Source: the double threshold, Yu et al., TNNLS 2022; a threshold below θ and this count are ours.
"""

from __future__ import annotations

from functools import partial
from typing import TypedDict

import torch
from torch import Tensor

from book.experiments.frame import Cell, Context, Experiment
from book.experiments.late_answer import LateRun, readings
from book.experiments.measure import INTERVAL
from book.experiments.setting import Setting
from snnlib.graph.operations import Node, rectify
from snnlib.neurons import IF, Neuron, Ternary
from snnlib.simulation.network import SpikingNetwork
from snnlib.simulation.reference import Stepper
from snnlib.zoo.data import Split
from snnlib.zoo.evaluate import LABELS

NETWORKS = ("digits-cnn", "mnist-cnn", "fashion-cnn", "cifar10-vgg")
STEPS = 32
NEGATIVES = (1.0, 0.75, 0.5, 0.25, 0.0)
# Images, and the least of them where a pass over the network takes long.
VALIDATION_IMAGES = (500, 200)
TEST_IMAGES = (1000, 300)
WATCHED_IMAGES = (100, 30)
_PART = 20  # images whose neurons are watched at a time

NEURONS: dict[str, Neuron] = {
    "if": IF(),
    **{f"ternary/{negative:g}": Ternary(negative=negative) for negative in NEGATIVES},
}


class Silent(TypedDict):
    """The neurons whose ANN activation is zero; lists have one entry a step.

    Attributes:
        images: validation images that were watched.
        neurons: share of all neurons that are silent in the ANN.
        false: share of the silent ones whose net count is above zero.
        events: share of all events so far that silent ones sent.
        taken_back: share of all events so far that are negative.
    """

    images: int
    neurons: float
    false: list[float]
    events: list[float]
    taken_back: list[float]


class Choice(TypedDict):
    """What validation images say, after each step."""

    images: int
    agreement: list[float]  # of the answers from step 1, with the ANN's
    events_per_image: list[float]


class NegativeRun(LateRun):
    """A setting: both readings over test images, and what chose and explains it."""

    validation: Choice
    silent: Silent


def watched(net: SpikingNetwork, split: Split, steps: int) -> Silent:
    """Follow every neuron's net count beside its ANN activation.

    Args:
        net: an IF or TerMapping network, with |c| ≤ 1.
        split: images.
        steps: of the run.
    """
    sums = torch.zeros(4, steps, dtype=torch.float64)
    all_neurons = silent_neurons = 0
    for start in range(0, len(split), _PART):
        x = split[start : start + _PART].floats().to(net.device, net.dtype)
        silent = silence(net, x)
        all_neurons += sum(mask.numel() for mask in silent.values())
        silent_neurons += sum(int(mask.sum()) for mask in silent.values())
        stepper = Stepper(net.network, x)
        before = {name: torch.zeros(()) for name in silent}
        for t in range(steps):
            stepper.step()
            for name, mask in silent.items():
                count = stepper.states[name].count
                sent, before[name] = count - before[name], count
                parts = ((count > 0) & mask, (sent != 0) & mask, sent < 0, sent != 0)
                sums[:, t] += torch.stack([part.sum() for part in parts]).cpu()
    sums[1:] = sums[1:].cumsum(1)  # events are counted so far, false neurons now
    false, events, back, total = sums
    return {
        "images": len(split),
        "neurons": silent_neurons / all_neurons,
        "false": (false / max(silent_neurons, 1)).tolist(),
        "events": (events / total.clamp_min(1)).tolist(),
        "taken_back": (back / total.clamp_min(1)).tolist(),
    }


def silence(net: SpikingNetwork, x: Tensor) -> dict[str, Tensor]:
    """Per spiking layer, which neurons have an ANN activation of zero: (B, ...)."""
    found: dict[str, Tensor] = {}

    def keep(node: Node, z: Tensor) -> Tensor:
        found[node.name] = z <= 0
        return rectify(node, z)

    net.graph.evaluate(x, activation=keep)
    return found


def measure(network: str, name: str, context: Context) -> list[NegativeRun]:
    """One neuron on one network."""
    subject, neuron = context.subject(network), NEURONS[name]
    counts = VALIDATION_IMAGES, TEST_IMAGES, WATCHED_IMAGES
    choosing, judging, few = (subject.affordable(*count) for count in counts)
    setting, validation = Setting(neuron), subject.validation[:choosing]
    run, chosen = readings(
        subject, setting, LABELS[neuron.kind], STEPS, validation, subject.test[:judging]
    )
    same = chosen.logits.argmax(2) == chosen.ann
    return [
        {
            **run,
            "validation": {
                "images": len(validation),
                "agreement": same.double().mean(1).tolist(),
                "events_per_image": chosen.events,
            },
            "silent": watched(subject.convert(setting), validation[:few], STEPS),
        }
    ]


def cells(network: str) -> list[Cell]:
    """A cell a neuron."""
    return [Cell(f"{network}/{name}", partial(measure, network, name)) for name in NEURONS]


EXPERIMENT = Experiment(
    name="negative",
    summary="the negative threshold from −θ to 0: accuracy, events, false spikes of silent neurons",
    networks=NETWORKS,
    cells=cells,
    conclude=lambda sections: {"interval": INTERVAL},
)
