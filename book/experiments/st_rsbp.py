"""``st-rsbp``: gradients on spike counts against back-propagation through time.

One recurrent layer of 200 neurons between even spike trains of the pixels and ten output neurons
whose counts answer, 50 steps, 10,000 training images, three seeds. The same network, initial
weights and order of images, trained by `snnlib.learning.st_rsbp` and by surrogate gradients through
all steps (`SPIKE`, reset included), each at the learning rate that the validation images chose.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from book.experiments import learning
from book.experiments.frame import SEED, Cell, Context, Experiment, Labeled, Rows
from book.experiments.goals import Goal, goal
from book.experiments.learning import Learned, Recipe
from book.experiments.material import material
from snnlib.learning.lif import LIF, Surrogate
from snnlib.learning.loop import Plan
from snnlib.learning.st_rsbp import STRSBP, even_trains
from snnlib.zoo.training import accuracy

STEPS, HIDDEN, SEEDS, LEAK = 50, 200, 3, 0.95
RECIPE = Recipe(Plan(epochs=8, batch=50, clip=5.0), rate=1e-3, images=10_000)
TUNING = Plan(epochs=4, batch=50, clip=5.0)
RATES = {"st-rsbp": (5e-4, 1e-3, 2e-3), "bptt": (1e-3, 2e-3, 4e-3)}
# Best on validation of a triangle (width 0.4, 1), arctan (1) and this: those that end a threshold
# away leave neurons that are far below it without a gradient.
SPIKE = Surrogate("fast-sigmoid", 0.3)
METHODS = {"st-rsbp": "ST-RSBP", "bptt": "back-propagation through time"}


def unrolled(net: STRSBP, trains: Tensor) -> Tensor:
    """The counts of the same network, (B, n_out), with gradients through every step.

    Also sets ``net.sent``, spikes an image.
    """
    neuron = LIF(leak=net.leak, reset="zero", spike=SPIKE)
    value, sent = trains.to(net.weights[0]), torch.zeros(())
    for i, weight in enumerate(net.weights):
        theta, currents = torch.tensor(net.theta).to(weight), F.linear(value, weight)
        state, spike = neuron.initial(currents[0], theta), torch.zeros_like(currents[0])
        spikes = []
        for current in currents:  # (B, n)
            if i < len(net.recurrent):
                current = current + F.linear(spike, net.recurrent[i])
            spike, state = neuron.step(state, current, theta)
            spikes.append(spike)
        value = torch.stack(spikes)
        sent = sent + value.detach().sum() / value.shape[1]
    net.sent = float(sent)
    return value.sum(0)


class RateRow(Labeled):
    """What a learning rate reached in tuning; n counts validation images."""

    method: str
    rate: float
    epochs: int
    validation_accuracy: float


class Counted(Learned):
    """One trained network."""

    rate: float  # of learning


class Counting(nn.Module):
    """Images → scaled counts of the output neurons, with gradients of one method."""

    def __init__(self, net: STRSBP, method: str) -> None:
        super().__init__()
        self.net, self.method = net, method

    def forward(self, x: Tensor) -> Tensor:
        trains = even_trains(x, STEPS)
        own = self.method == "st-rsbp"
        counts: Tensor = self.net(trains) if own else unrolled(self.net, trains)
        return counts * (10 / STEPS)


def cells(network: str) -> list[Cell]:
    """A cell a method and learning rate, then one a method and seed."""
    tuning = [
        Cell(f"{network}/tuning/{method}/{rate:g}", partial(tune, network, method, rate), "tuning")
        for method in METHODS
        for rate in RATES[method]
    ]
    runs = [
        Cell(f"{network}/{method}/{seed}", partial(measure, network, method, seed))
        for seed in range(SEEDS)
        for method in METHODS
    ]
    return [*tuning, *runs]


def tune(network: str, method: str, rate: float, context: Context) -> list[RateRow]:
    """A short training at one learning rate, judged on validation images."""
    images = material(network, context)
    recipe = replace(RECIPE, plan=TUNING, rate=rate)
    trained, module = _trained(network, method, SEED, recipe, context, f"tuning/{method}/{rate:g}")
    return [
        RateRow(
            model=network,
            label=f"{METHODS[method]}, {rate:g}",
            n=len(images.validation),
            method=method,
            rate=rate,
            epochs=trained.epochs,
            validation_accuracy=accuracy(module, images.validation),
        )
    ]


def measure(network: str, method: str, seed: int, context: Context) -> list[Counted]:
    """Train by one method from one seed, at the best rate of its tuning."""
    tuned: list[RateRow] = [
        row for rate in RATES[method] for row in context.rows[f"{network}/tuning/{method}/{rate:g}"]
    ]
    rate = learning.preferred(tuned)["rate"]
    images, recipe = material(network, context), replace(RECIPE, rate=rate)
    trained, module = _trained(network, method, seed, recipe, context, f"{method}/{seed}")
    row = learning.row(
        network, METHODS[method], method, f"{images.fit.images[0].numel()}-R{HIDDEN}-10", seed,
        STEPS, trained, module, images, lambda: module.net.sent, HIDDEN + 10,
    )  # fmt: skip
    return [{**row, "rate": rate}]


def _trained(
    network: str, method: str, seed: int, recipe: Recipe, context: Context, name: str
) -> tuple[learning.Trained, Counting]:
    images = material(network, context)
    net = STRSBP((images.fit.images[0].numel(), HIDDEN, 10), leak=LEAK, seed=seed)
    module = Counting(net, method).to(context.device)
    name = f"{network}/{name}"
    return learning.train(module, images, recipe, seed, context, name), module


def conclude(sections: Rows) -> dict[str, list[Goal]]:
    """The goals beside what was found: means over seeds."""
    rows: list[Counted] = sections["runs"]
    right = {m: learning.mean_of(rows, "test_accuracy", method=m) for m in METHODS}
    kept = {m: learning.mean_of(rows, "kept_megabytes", method=m) for m in METHODS}
    ratio = (kept["bptt"] or 0.0) / (kept["st-rsbp"] or 1.0) if rows else None
    return {
        "goals": [
            goal("test accuracy", right["st-rsbp"], at_least=0.85),
            goal(
                "below back-propagation through time",
                learning.differ(right["bptt"], right["st-rsbp"]), at_most=0.01,
            ),
            goal("times less memory kept", ratio, at_least=3.0),
        ]
    }  # fmt: skip


EXPERIMENT = Experiment(
    name="st-rsbp",
    summary="gradients on spike counts against back-propagation through time: accuracy, memory",
    networks=("fashion-mlp",),
    cells=cells,
    conclude=conclude,
)
