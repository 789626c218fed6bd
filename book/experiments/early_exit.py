"""``early-exit``: answer an image as soon as the network is sure, and what that saves.

For a sweep of confidences (softmax of the logits so far): accuracy, agreement with the ANN and mean
number of steps on the test images (the first ones, where the network is deep), with the time that
`SpikingNetwork.decide` really takes beside the time of all steps one by one (and of the closed
form, where there is one) on the same images.
The confidence marked ``chosen`` is the smallest whose accuracy on validation images is within 0.1
points of running all steps; none is marked where none gets there. Test images have no say.

An image is easy if its answer is settled early: from which step on does it not change any more?
Chapter *CIFAR-10* shows the easiest and the hardest ones.

Time is that of the processor (all threads together) on a CPU, which other programs on the machine
disturb least, and wall time on a GPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, TypedDict

import torch
from torch import Tensor

from book.experiments.frame import Cell, Context, Experiment, Labeled
from book.experiments.setting import Setting, SettingRecord, Subject
from snnlib.neurons import IF, Augmented, Ternary
from snnlib.simulation.coding import Constant
from snnlib.simulation.early_exit import first_sure
from snnlib.simulation.engine import Simulation
from snnlib.simulation.network import SpikingNetwork
from snnlib.zoo import models
from snnlib.zoo.data import Split, to_float
from snnlib.zoo.evaluate import LABELS

CONFIDENCES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0)
VALIDATION_IMAGES, TIMED_IMAGES, SHOWN_IMAGES = 1000, 500, 16
TOLERANCE = 0.001  # accuracy that the chosen confidence may cost on validation images
_PART = 500

SETTINGS = {
    "if": (Setting(IF()), 64),
    "ternary": (Setting(Ternary(negative=0.0)), 32),
    "augmented": (Setting(Augmented(levels=4, negative=0.0)), 8),
}


@dataclass(frozen=True)
class Sure:
    """Confidence and answer after every step, shape (T, n); labels and the ANN's answers, (n,)."""

    confidence: Tensor
    answers: Tensor
    labels: Tensor
    ann: Tensor

    def exit(self, confidence: float) -> tuple[Tensor, Tensor]:
        """Step (1 … T) and answer of every image, as `Run.first_confident` gives them."""
        return first_sure(self.confidence >= confidence, self.answers)

    def settled(self) -> Tensor:
        """Step (1 … T) from which on the answer to an image is that after the last step."""
        step = torch.arange(1, len(self.answers) + 1)[:, None]
        return (step * (self.answers != self.answers[-1])).amax(0) + 1


class Exit(TypedDict):
    """One confidence of a sweep."""

    confidence: float
    accuracy: float
    agreement: float  # with the ANN
    mean_steps: float
    images_by_step: list[int]  # how many left after step 1, 2, …
    seconds: float  # for the timed images
    chosen: bool


class ExitRun(Labeled):
    """The sweep of one neuron on test images."""

    setting: SettingRecord
    steps: int  # of images that never become sure
    ann_accuracy: float
    accuracy: list[float]  # after each step, where all images take it
    timed_images: int
    time: str  # what ``seconds`` count: wall or processor
    seconds_all_steps: float  # one by one
    seconds_closed_form: float | None  # all steps at once, where that is possible
    sweep: list[Exit]


class Settled(TypedDict):
    """One test image."""

    image: int  # its place among the test images
    settled: int  # step from which on the answer stays
    answer: int
    label: int
    confidence: float  # after the last step


class Order(Labeled):
    """The test images that one neuron settles first, and last."""

    steps: int
    easiest: list[Settled]  # easiest first
    hardest: list[Settled]  # hardest first


def cells(network: str) -> list[Cell]:
    """The sweep of each neuron; the order in which its images are settled."""
    found = []
    for kind in SETTINGS:
        found.append(Cell(f"{network}/{kind}", partial(measure, network, kind)))
        found.append(Cell(f"{network}/{kind}/images", partial(order, network, kind), "images"))
    return found


def observe(net: SpikingNetwork, subject: Subject, split: Split, steps: int) -> Sure:
    """Run all steps over a split."""
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for start in range(0, len(split), _PART):
        x = to_float(split.images[start : start + _PART]).to(net.device)
        run = net(x, steps)
        with torch.no_grad():
            ann = subject.ann(x).argmax(1)
        sure = run.logits.softmax(-1).amax(-1)
        found.append((sure.cpu(), run.predictions.cpu(), ann.cpu()))
    confidence, answers, anns = zip(*found, strict=True)
    return Sure(torch.cat(confidence, 1), torch.cat(answers, 1), split.labels, torch.cat(anns))


@lru_cache(maxsize=1)
def _tested(subject: Subject, kind: str) -> Sure:
    """The run over the test images, once for the sweep and for the order of the images."""
    setting, steps = SETTINGS[kind]
    return observe(subject.convert(setting), subject, subject.first(len(subject.test)), steps)


def measure(network: str, kind: str, context: Context) -> list[ExitRun]:
    """The sweep of one neuron."""
    subject = context.subject(network)
    setting, steps = SETTINGS[kind]
    net = subject.convert(setting)
    validation = observe(net, subject, subject.validation[:VALIDATION_IMAGES], steps)
    test = _tested(subject, kind)
    x = to_float(subject.first(TIMED_IMAGES).images).to(net.device)
    sweep = [_exit(net, test, confidence, x, steps) for confidence in CONFIDENCES]
    whole = seconds(net.device, lambda: step_by_step(net, x, steps))
    closed = None
    if net.neuron.memoryless:
        closed = seconds(net.device, lambda: net(x, steps, only_last=True))
    chosen = choose(validation)
    for row in sweep:
        row["chosen"] = row["confidence"] == chosen
    right = (test.ann == test.labels).double().mean()
    return [
        {
            "model": network,
            "label": LABELS[kind],
            "n": len(test.labels),
            "setting": setting.record(),
            "steps": steps,
            "ann_accuracy": float(right),
            "accuracy": (test.answers == test.labels).double().mean(1).tolist(),
            "timed_images": len(x),
            "time": "wall" if net.device.type == "cuda" else "processor",
            "seconds_all_steps": whole,
            "seconds_closed_form": closed,
            "sweep": sweep,
        }
    ]


def choose(sure: Sure) -> float | None:
    """The smallest confidence that costs no more than `TOLERANCE` of the accuracy of all steps."""
    whole = float((sure.answers[-1] == sure.labels).double().mean())
    for confidence in CONFIDENCES:
        _, answer = sure.exit(confidence)
        if float((answer == sure.labels).double().mean()) >= whole - TOLERANCE - 1e-9:
            return confidence
    return None


def step_by_step(net: SpikingNetwork, x: Tensor, steps: int) -> None:
    """All steps as `SpikingNetwork.decide` computes them, but no image leaves."""
    with torch.no_grad():
        for part in x.split(net.chunk(len(x), "1GB")):
            simulation = Simulation(net.plan(), part, Constant())
            for _ in range(steps):
                simulation.step()


def seconds(device: torch.device, work: Callable[[], Any]) -> float:
    """What the work takes: processor time on a CPU, wall time on a GPU; the better of two runs."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    found = []
    for _ in range(2):
        began = clock()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(clock() - began)
    return min(found)


def _exit(net: SpikingNetwork, test: Sure, confidence: float, x: Tensor, steps: int) -> Exit:
    step, answer = test.exit(confidence)
    return {
        "confidence": confidence,
        "accuracy": float((answer == test.labels).double().mean()),
        "agreement": float((answer == test.ann).double().mean()),
        "mean_steps": float(step.double().mean()),
        "images_by_step": torch.bincount(step, minlength=steps + 1)[1:].tolist(),
        "seconds": seconds(net.device, lambda: net.decide(x, confidence, steps)),
        "chosen": False,
    }


def order(network: str, kind: str, context: Context) -> list[Order]:
    """The easiest and the hardest test images of one neuron."""
    test = _tested(context.subject(network), kind)
    settled, sure = test.settled().tolist(), test.confidence[-1].tolist()
    # Of images settled at the same step those are easier that are answered with more confidence.
    ordered = sorted(range(len(settled)), key=lambda i: (settled[i], -sure[i], i))
    return [
        {
            "model": network,
            "label": LABELS[kind],
            "n": len(settled),
            "steps": len(test.answers),
            "easiest": [_image(test, i, settled[i]) for i in ordered[:SHOWN_IMAGES]],
            "hardest": [_image(test, i, settled[i]) for i in ordered[: -SHOWN_IMAGES - 1 : -1]],
        }
    ]


def _image(test: Sure, i: int, settled: int) -> Settled:
    return {
        "image": i,
        "settled": settled,
        "answer": int(test.answers[-1, i]),
        "label": int(test.labels[i]),
        "confidence": float(test.confidence[-1, i]),
    }


EXPERIMENT = Experiment(
    name="early-exit",
    summary="confidence sweep: accuracy against mean steps and time; easiest and hardest images",
    networks=models.NAMES,
    cells=cells,
    version=3,
)
