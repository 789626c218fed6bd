"""``single-spike``: what it costs that a neuron may fire only once.

A small convolutional network, five steps, the image at the first and every pixel once afterward
(`snnlib.learning.single_spike`), with and without the restriction to one spike: same initial
weights, same order of images, two seeds. They begin with random weights (``scratch``) or with
those of a ReLU network that was trained on the same images before (``relu``). Accuracy and spikes.
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
from snnlib.zoo.data import to_float

STEPS, WIDTHS, SEEDS = 5, (16, 32, 64), 2
RECIPE = Recipe(Plan(epochs=3, batch=50, clip=5.0), rate=3e-3, images=10_000)
RELU = Recipe(Plan(epochs=5, batch=50), rate=5e-3, images=10_000)
LOOKED_AT = 300  # training images whose activations set the first thresholds
METHODS = {"single": "one spike at most", "free": "any number of spikes"}
STARTS = {"scratch": "random weights", "relu": "weights of a ReLU network"}


class Spiked(Learned):
    """A trained network and the most that any neuron sent for one image."""

    start: str
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
    """A cell a start and seed, with the restriction and without."""
    return [
        Cell(f"{network}/{start}/{method}/{seed}", partial(measure, network, start, method, seed))
        for start in STARTS
        for seed in range(SEEDS)
        for method in METHODS
    ]


def measure(network: str, start: str, method: str, seed: int, context: Context) -> list[Spiked]:
    """Train one network."""
    images, name = material(network, context), f"{network}/{start}/{method}/{seed}"
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # of the initial weights
        layers, single = learning.cnn(images.shape, *WIDTHS), method == "single"
        if start == "relu":
            layers = layers.to(context.device)
            learning.train(layers, images, RELU, seed, context, f"{name}/relu")
            looked_at = images.fit.images[:LOOKED_AT]
            net = SingleSpike.from_relu(
                layers, to_float(looked_at).to(context.device), STEPS, single
            )
        else:
            net = SingleSpike(layers, STEPS, single)
    module = Last(net).to(context.device)
    trained = learning.train(
        module, images, RECIPE, seed, context, name,
        lambda _, x, y: single_spike.loss(net(x), y),
    )  # fmt: skip
    made = learning.row(
        network, f"{METHODS[method]}, from {STARTS[start]}", method,
        f"cnn {'-'.join(map(str, WIDTHS))}", seed, STEPS, trained, module, images, net.spikes,
        learning.neurons(images.shape, *WIDTHS),
    )  # fmt: skip
    sent = [m.sent for m in net.modules() if isinstance(m, Neurons) and m.sent is not None]
    return [{**made, "start": start, "most_spikes": max(int(s.sum(0).max()) for s in sent)}]


EXPERIMENT = Experiment(
    name="single-spike",
    summary="a network whose neurons fire once at most, and the same without that restriction",
    networks=("fashion-cnn",),
    cells=cells,
)
