"""``single-spike``: what it costs that a neuron may fire only once.

A small convolutional network, five steps, the image at the first and every
pixel once afterward (`snnlib.learning.single_spike`), with and without the restriction to one
spike, two seeds: same initial weights, same order of images. Accuracy and spikes.

There are two starts: random weights (``scratch``), or those of a ReLU network with the same layers,
trained on all images, with thresholds at the 99th percentile of its activations. The peak rate of
each start and method is the one that the validation images chose after two epochs of 20,000 images.
"""

from __future__ import annotations

from functools import partial
from itertools import product

import torch
from torch import Tensor, nn

from book.experiments import learning
from book.experiments.frame import SEED, Cell, Context, Experiment, Labeled, Rows
from book.experiments.goals import Goal, goal
from book.experiments.learning import Learned, Recipe
from book.experiments.material import Material, material
from snnlib.learning import single_spike
from snnlib.learning.loop import Plan
from snnlib.learning.single_spike import Neurons, SingleSpike
from snnlib.zoo.training import accuracy

STEPS, WIDTHS, SEEDS = 5, (16, 32, 64), 2
PLAN, IMAGES = Plan(epochs=3, batch=50, clip=5.0), 10_000
TUNING, TUNING_IMAGES = Plan(epochs=2, clip=5.0), 20_000
RELU_RATE, CALIBRATION = 3e-3, 500  # images that set the thresholds
METHODS = {"single": "one spike at most", "free": "any number of spikes"}
STARTS = {
    "scratch": "from random weights",
    "relu-99": "from a ReLU network, θ at 99 %",
}
PERCENTILES = {"scratch": None, "relu-99": 99.0}
RATES = (1e-3, 3e-3)  # peaks of Adam's


class ChoiceRow(Labeled):
    """What a setting reached in tuning; n counts validation images."""

    start: str
    method: str
    rate: float
    validation_accuracy: float


class Spiked(Learned):
    """A trained network and the most that any neuron sent for one image."""

    start: str
    rate: float
    percentile: float | None  # of the activations, where θ began; None: θ = 1
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
    """ReLU networks; tuning of every start and method; then a cell each and seed."""
    kinds = list(product(STARTS, METHODS))
    trained = [
        Cell(f"{network}/relu-network/{seed}", partial(relu_network, network, seed), "starts")
        for seed in range(SEEDS)
    ]
    tuning = [
        Cell(f"{network}/tuning/{start}/{method}", partial(tune, network, start, method), "tuning")
        for start, method in kinds
    ]
    runs = [
        Cell(f"{network}/{start}/{method}/{seed}", partial(measure, network, start, method, seed))
        for seed in range(SEEDS)
        for start, method in kinds
    ]
    return [*trained, *tuning, *runs]


def fresh(images: Material, seed: int) -> nn.Sequential:
    """The ReLU network of a seed, untrained."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return learning.cnn(images.shape, *WIDTHS)


def trained(
    network: str, seed: int, images: Material, context: Context
) -> tuple[nn.Sequential, learning.Trained]:
    """The ReLU network of a seed, trained; its state is kept, so that later cells only read it."""
    ann, recipe = fresh(images, seed).to(context.device), Recipe(PLAN, RELU_RATE)
    return ann, learning.train(ann, images, recipe, seed, context, f"{network}/relu/{seed}")


def relu_network(network: str, seed: int, context: Context) -> list[Learned]:
    """Train a ReLU network and judge it."""
    images = material(network, context)
    ann, taken = trained(network, seed, images, context)
    return [
        learning.row(
            network, "ReLU network", "relu-network", f"cnn {'-'.join(map(str, WIDTHS))}", seed, 1,
            taken, ann, images, lambda: 0.0, learning.neurons(images.shape, *WIDTHS),
        )
    ]  # fmt: skip


def begun(
    network: str, start: str, method: str, seed: int, images: Material, context: Context
) -> SingleSpike:
    """The network of a start, on the device."""
    single, percentile = method == "single", PERCENTILES[start]
    if percentile is None:
        return SingleSpike(fresh(images, seed), STEPS, single).to(context.device)
    few = images.fit[:CALIBRATION].floats().to(context.device)
    ann, _ = trained(network, seed, images, context)
    return SingleSpike.from_relu(ann, few, STEPS, single, percentile)


def train(
    net: SingleSpike, images: Material, recipe: Recipe, seed: int, context: Context, name: str
) -> tuple[Last, learning.Trained]:
    """Train in place; the network that gives logits alone, and what it took."""
    module = Last(net)
    taken = learning.train(
        module, images, recipe, seed, context, name,
        lambda _, x, y: single_spike.loss(net(x), y),
    )  # fmt: skip
    return module, taken


def tune(network: str, start: str, method: str, context: Context) -> list[ChoiceRow]:
    """Every setting of a start and method for some short epochs."""
    images, rows = material(network, context), []
    for rate in RATES:
        net = begun(network, start, method, SEED, images, context)
        recipe = Recipe(TUNING, rate, TUNING_IMAGES)
        name = f"{network}/tuning/{start}/{method}/{rate:g}"
        module, _ = train(net, images, recipe, SEED, context, name)
        rows.append(
            ChoiceRow(
                model=network,
                label=f"{METHODS[method]}, {STARTS[start]}",
                n=len(images.validation),
                start=start,
                method=method,
                rate=rate,
                validation_accuracy=accuracy(module, images.validation),
            )
        )
    return rows


def measure(network: str, start: str, method: str, seed: int, context: Context) -> list[Spiked]:
    """Train one network."""
    choices: list[ChoiceRow] = context.rows[f"{network}/tuning/{start}/{method}"]
    rate = learning.preferred(choices)["rate"]
    images, recipe = material(network, context), Recipe(PLAN, rate, IMAGES)
    net = begun(network, start, method, seed, images, context)
    name = f"{network}/{start}/{method}/{seed}"
    module, taken = train(net, images, recipe, seed, context, name)
    made = learning.row(
        network, f"{METHODS[method]}, {STARTS[start]}", method,
        f"cnn {'-'.join(map(str, WIDTHS))}", seed, STEPS, taken, module, images, net.spikes,
        learning.neurons(images.shape, *WIDTHS),
    )  # fmt: skip
    sent = [m.sent for m in net.modules() if isinstance(m, Neurons) and m.sent is not None]
    return [
        {
            **made,
            "start": start,
            "rate": rate,
            "percentile": PERCENTILES[start],
            "most_spikes": max(int(s.sum(0).max()) for s in sent),
        }
    ]


def conclude(sections: Rows) -> dict[str, list[Goal]]:
    """The goals beside what was found, for every start: means over seeds."""
    rows: list[Spiked] = sections["runs"]
    goals = []
    for start, name in STARTS.items():
        right, sent = (
            [learning.mean_of(rows, key, start=start, method=method) for method in METHODS]
            for key in ("test_accuracy", "spikes_per_neuron")
        )
        lost = learning.differ(right[1], right[0])
        left = None if sent[0] is None or not sent[1] else sent[0] / sent[1]
        goals += [
            goal(f"{name}: accuracy that the mask costs", lost, at_most=0.01),
            goal(f"{name}: share of the spikes that are left", left, at_most=0.7),
        ]
    return {"goals": goals}


EXPERIMENT = Experiment(
    name="single-spike",
    summary="a network whose neurons fire once at most, and the same without that restriction, "
    "from random weights and from a ReLU network",
    networks=("fashion-cnn",),
    cells=cells,
    conclude=conclude,
    version=2,
)
