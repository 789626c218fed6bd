"""``peers``: the same trained weights, converted and simulated by SpikingJelly's own converter.

Same test images, same number of steps, thresholds from the same 1,000 training images. Each recipe
of SpikingJelly stands in its default form and in the forms that its documentation recommends
(`book.experiments.spikingjelly`). Our settings were fixed beforehand: IF as first described
(largest activation, v0 = 0), and every neuron as this book uses it, with one threshold a layer and
with one a channel. SpikingJelly's example of a deep network leaves the first steps out of the
answer; ``delayed_readout`` holds that reading of the same run.

All methods take turns on parts of the images, all in float32, each in its usual way: SpikingJelly
as in its examples, one step at a time on 50 images, snnlib as it schedules itself, counting spikes
and SynOps besides. ``benchmarks`` compare speed more thoroughly, each peer in its best layout.

``checks`` holds the proof that the peer is used rightly. With ReLUs for its neurons the converted
network is the ANN (``relu_error``, relative to the largest logit). In ever more steps it approaches
the ANN (``distance``, root mean square of the logits, relative). And integrate-and-fire neurons of
snnlib, given the peer's thresholds and initial potentials, answer as the peer does
(``same_as_snnlib``, over all steps).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple, NotRequired, TypedDict

import torch
from torch import Tensor, nn

from book.experiments import spikingjelly
from book.experiments.frame import Cell, Context, Experiment, Labeled, Row
from book.experiments.measure import INTERVAL, Accuracies, Interval, loss_intervals
from book.experiments.setting import Setting, SettingRecord, Subject
from book.experiments.spikingjelly import RECIPES, RecipeRecord
from snnlib.conversion.balance import Max
from snnlib.neurons import IF, Augmented, Ternary
from snnlib.simulation.network import SpikingNetwork
from snnlib.zoo import provenance
from snnlib.zoo.data import to_float
from snnlib.zoo.evaluate import LABELS

IMAGES = 1000
STEPS, DEEP_STEPS = 64, 32
CHECKED_IMAGES, CHECKED_STEPS = 10, 128
PART = 100  # images a turn
# Without max pooling: the peer takes the maximum step by step, not that of the activations.
NETWORKS = ("mnist-cnn", "fashion-cnn", "cifar10-vgg", "cifar10-resnet")

_NEURONS = (IF(), Ternary(negative=0.0), Augmented(levels=4, negative=0.0, cap=15))
SETTINGS = {"IF, plain": Setting(IF(v0=0.0), Max())} | {
    f"{LABELS[neuron.kind]}{scope}": Setting(neuron, per_channel=bool(scope))
    for neuron in _NEURONS
    for scope in ("", ", per channel")
}

Simulate = Callable[[Tensor], Tensor]  # images to logits after every step, shape (T, B, classes)


class PeerCheck(Labeled):
    """The proof that one recipe is used rightly."""

    relu_error: float
    steps: list[int]
    distance: list[float]  # from the ANN, after ``steps``
    same_as_snnlib: float  # share of the answers
    distance_from_snnlib: float


class Delayed(Accuracies):
    """The same run, its first steps left out of the answer; lists begin after them."""

    after_steps: int


class Method(TypedDict):
    """Who simulates, and how it was converted."""

    label: str
    simulator: str
    setting: SettingRecord | RecipeRecord
    images_together: NotRequired[int]  # these two: of the peer
    versions: NotRequired[dict[str, str]]


class PeerRun(Row, Method, Accuracies):
    """One method on the test images."""

    n: int  # images
    images: str
    steps: int
    calibration_images: int
    dtype: str
    ann_accuracy: float
    loss_interval: list[Interval]  # one a step, fractions
    seconds: float
    processor_seconds: float  # all threads
    delayed_readout: NotRequired[Delayed | None]  # of the peer; None: too few steps are left


class Timed(NamedTuple):
    """Logits of all images, and the seconds that they took; those of the processor: all threads."""

    logits: Tensor
    wall: float
    processor: float


def cells(network: str) -> list[Cell]:
    """The proof that the peer is used rightly, and the runs of all methods."""
    return [
        Cell(f"{network}/checks", partial(check, network), "checks"),
        Cell(f"{network}/runs", partial(measure, network)),
    ]


@lru_cache(maxsize=1)
def _converted(subject: Subject) -> dict[str, nn.Module]:
    """The peer's networks of one subject, one a recipe."""
    return {
        name: spikingjelly.convert(subject.ann, recipe, subject.calibration)
        for name, recipe in RECIPES.items()
    }


def check(network: str, context: Context) -> list[PeerCheck]:
    """Whether every recipe gives the ANN in the limit, and our own network step by step."""
    subject = context.subject(network)
    x = to_float(subject.test.images[:CHECKED_IMAGES]).to(subject.device)
    ours = subject.convert(SETTINGS["IF"])
    with torch.no_grad():
        ann = subject.ann(x)
    rows: list[PeerCheck] = []
    for name, net in _converted(subject).items():
        with torch.no_grad():
            relu = spikingjelly.rectified(net)(x)
        logits = spikingjelly.simulate(net, x, CHECKED_STEPS)
        again = spikingjelly.twin(net, ours)(x, CHECKED_STEPS).logits
        steps = [t for t in (1, 8, 32, 128, 512) if t <= CHECKED_STEPS]
        rows.append(
            {
                "model": network,
                "label": f"SpikingJelly, {RECIPES[name].label}",
                "n": len(x),
                "relu_error": float((relu - ann).abs().max() / ann.abs().max()),
                "steps": steps,
                "distance": [spikingjelly.distance(logits[t - 1], ann) for t in steps],
                "same_as_snnlib": float((logits.argmax(-1) == again.argmax(-1)).double().mean()),
                "distance_from_snnlib": spikingjelly.distance(logits, again),
            }
        )
    return rows


def measure(network: str, context: Context) -> list[PeerRun]:
    """All methods on the same test images, in turns."""
    subject = context.subject(network)
    split = subject.test[:IMAGES]
    steps = DEEP_STEPS if subject.deep else STEPS
    peers = _converted(subject)
    methods: dict[str, Simulate] = {}
    for name, setting in SETTINGS.items():
        methods[name] = partial(_ours, subject.convert(setting), steps=steps)
    for name, net in peers.items():
        methods[name] = partial(spikingjelly.simulate, net, steps=steps)
    x = to_float(split.images).to(subject.device)
    with torch.no_grad():
        ann = torch.cat([subject.ann(part).argmax(1).cpu() for part in x.split(PART)])
    timed = in_turns(methods, x, PART)
    rows: list[PeerRun] = []
    for name, (logits, wall, processor) in timed.items():
        row: PeerRun = {
            "model": network,
            **_method(name),
            "n": len(split),
            "images": "test",
            "steps": steps,
            "calibration_images": len(subject.calibration),
            "dtype": "float32",
            "ann_accuracy": float((ann == split.labels).double().mean()),
            **_accuracy(logits, split.labels, ann),
            "loss_interval": loss_intervals(logits.argmax(-1), ann, split.labels),
            "seconds": wall,
            "processor_seconds": processor,
        }
        if name in RECIPES:
            start = spikingjelly.readout_start(
                peers[name], RECIPES[name], subject.calibration, steps
            )
            row["delayed_readout"] = None if start is None else {
                "after_steps": start,
                **_accuracy(spikingjelly.delayed(logits, start), split.labels, ann),
            }  # fmt: skip
        rows.append(row)
    return rows


def in_turns(methods: dict[str, Simulate], x: Tensor, part: int) -> dict[str, Timed]:
    """Logits and time of every method on all images.

    The methods take turns part by part, each part beginning with another one, so that what else the
    machine does meets all of them alike. A first call on a few images, not timed, lets them compile
    and set up what they need.
    """
    names = list(methods)
    for simulate in methods.values():
        simulate(x[:2])
    parts: dict[str, list[Tensor]] = {name: [] for name in names}
    wall, processor = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for turn, images in enumerate(x.split(part)):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            began, worked = time.perf_counter(), time.process_time()
            logits = methods[name](images).cpu()  # waits for a GPU
            wall[name] += time.perf_counter() - began
            processor[name] += time.process_time() - worked
            parts[name].append(logits)
    return {name: Timed(torch.cat(parts[name], 1), wall[name], processor[name]) for name in names}


def _ours(net: SpikingNetwork, x: Tensor, steps: int) -> Tensor:
    return net(x, steps).logits


def _accuracy(logits: Tensor, labels: Tensor, ann: Tensor) -> Accuracies:
    answers = logits.argmax(-1)
    return {
        "accuracy": (answers == labels).double().mean(1).tolist(),
        "agreement": (answers == ann).double().mean(1).tolist(),
    }


def _method(name: str) -> Method:
    if name not in RECIPES:
        setting = SETTINGS[name].record()
        return {"label": f"snnlib, {name}", "simulator": "snnlib", "setting": setting}
    recipe = RECIPES[name]
    return {
        "label": f"SpikingJelly, {recipe.label}",
        "simulator": "SpikingJelly",
        "setting": recipe.record(),
        "images_together": spikingjelly.IMAGES_TOGETHER,
        "versions": provenance.versions(spikingjelly.PACKAGE, "torch"),
    }


EXPERIMENT = Experiment(
    name="peers",
    summary="the same weights converted by SpikingJelly's recipes, beside ours: accuracy, seconds",
    networks=NETWORKS,
    cells=cells,
    conclude=lambda sections: {"interval": INTERVAL},
    version=2,
)
