"""``single-spike``: what it costs that a neuron may fire only once.

A small convolutional network, five steps, the image at the first and
every pixel once afterward (`snnlib.learning.single_spike`), trained from scratch with and without
the restriction to one spike: same initial weights, same order of images. Accuracy and spikes.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from book.experiments import learning
from book.experiments.frame import Cell, Context, Experiment
from book.experiments.learning import Learned, Recipe
from book.experiments.material import material
from snnlib.learning import single_spike
from snnlib.learning.loop import Plan
from snnlib.learning.single_spike import Neurons, SingleSpike

STEPS, WIDTHS, SEEDS = 5, (16, 32, 64), 2
RECIPE = Recipe(Plan(epochs=3, batch=50, clip=5.0), rate=3e-3, images=10_000)
METHODS = {"single": "one spike at most", "free": "any number of spikes"}


class Spiked(Learned):
    """A trained network and the most that any neuron sent for one image."""

    most_spikes: int


class Last(nn.Module):
    """Images → the logits of a `SingleSpike` alone, without the times of its outputs."""

    def __init__(self, net: SingleSpike) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)[0]
        return logits


def cells(network: str) -> list[Cell]:
    """A cell a seed, with the restriction and without."""
    return [
        Cell(f"{network}/{method}/{seed}", partial(measure, network, method, seed))
        for seed in range(SEEDS)
        for method in METHODS
    ]


def measure(network: str, method: str, seed: int, context: Context) -> list[Spiked]:
    """Train one network."""
    images = material(network, context)
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # of the initial weights
        net = SingleSpike(learning.cnn(images.shape, *WIDTHS), STEPS, method == "single")
    module = Last(net).to(context.device)
    name = f"{network}/{method}/{seed}"
    trained = learning.train(
        module, images, RECIPE, seed, context, name,
        lambda _, x, y: single_spike.loss(net(x), y),
    )  # fmt: skip
    made = learning.row(
        network, METHODS[method], method, f"cnn {'-'.join(map(str, WIDTHS))}", seed, STEPS,
        trained, module, images, net.spikes, learning.neurons(images.shape, *WIDTHS),
    )  # fmt: skip
    sent = [m.sent for m in net.modules() if isinstance(m, Neurons) and m.sent is not None]
    return [{**made, "most_spikes": max(int(s.sum(0).max()) for s in sent)}]


EXPERIMENT = Experiment(
    name="single-spike",
    summary="a network whose neurons fire once at most, and the same without that restriction",
    networks=("fashion-cnn",),
    cells=cells,
)
