"""``st-rsbp``: gradients on spike counts against back-propagation through time.

One recurrent layer of 200 neurons between even spike trains of the pixels and ten output neurons
whose counts answer, 50 steps, 10,000 training images, three seeds. The same network, initial
weights, order of images and learning rate, trained by `snnlib.learning.st_rsbp` and by surrogate
gradients through all steps (`SPIKE`, reset included).
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from book.experiments import learning
from book.experiments.frame import Cell, Context, Experiment
from book.experiments.learning import Learned, Recipe
from book.experiments.material import material
from snnlib.learning.lif import LIF, Surrogate
from snnlib.learning.loop import Plan
from snnlib.learning.st_rsbp import STRSBP, even_trains

STEPS, HIDDEN, SEEDS, LEAK = 50, 200, 3, 0.95
RECIPE = Recipe(Plan(epochs=8, batch=50, clip=5.0), rate=2e-3, images=10_000)
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
    """A cell a method and seed."""
    return [
        Cell(f"{network}/{method}/{seed}", partial(measure, network, method, seed))
        for seed in range(SEEDS)
        for method in METHODS
    ]


def measure(network: str, method: str, seed: int, context: Context) -> list[Learned]:
    """Train by one method from one seed."""
    images = material(network, context)
    pixels = images.fit.images[0].numel()
    net = STRSBP((pixels, HIDDEN, 10), leak=LEAK, seed=seed)
    module = Counting(net, method).to(context.device)
    name = f"{network}/{method}/{seed}"
    trained = learning.train(module, images, RECIPE, seed, context, name)
    return [
        learning.row(
            network, METHODS[method], method, f"{pixels}-R{HIDDEN}-10", seed, STEPS, trained,
            module, images, lambda: net.sent, HIDDEN + 10,
        )
    ]  # fmt: skip


EXPERIMENT = Experiment(
    name="st-rsbp",
    summary="gradients on spike counts against back-propagation through time: accuracy, memory",
    networks=("fashion-mlp",),
    cells=cells,
)
