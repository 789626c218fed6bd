"""``exact-timing``: learning exact spike times, one spike a neuron or several, over time constants.

A network 784-200-10 on pixels that fire once, bright ones early (`snnlib.learning.exact_timing`).
First a sweep of the time constant on part of the training images, with at most one spike a hidden
neuron and with at most eight; accuracy on validation images alone. Then, at the constant that was
best for each, all training images, and the test images once. ``silent`` is the share of output
neurons that never fired.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from torch import Tensor, nn

from book.experiments import learning
from book.experiments.frame import Cell, Context, Experiment, Rows
from book.experiments.goals import Goal, goal
from book.experiments.learning import Learned, Recipe
from book.experiments.material import Material, material
from snnlib.learning.exact_timing import ExactTiming, latencies
from snnlib.learning.loop import Plan

TAUS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # inputs come within 1, the answer is due at 2
# After five epochs of all images, one spike, validation: 97.9 % at a softness of 0.025 and at
# 0.05, 97.1 % at 0.1, 93.6 % at 0.2 (rate 2e-3; the last at 1e-3).
HIDDEN, SOFTNESS = 200, 0.025
SWEEP = Recipe(Plan(epochs=3, batch=50, clip=5.0), rate=2e-3, images=10_000)
RECIPE = Recipe(Plan(epochs=12, batch=50, clip=5.0), rate=2e-3)
METHODS = {"single": 1, "several": 8}  # spikes a hidden neuron may fire


class Timed(Learned):
    """One trained network."""

    tau: float
    most: int
    silent: float  # share of outputs without a spike, test images


class Swept(Timed):
    """One point of the sweep; ``test_accuracy`` and ``silent`` are of validation images here."""

    images: str


class Earliest(nn.Module):
    """Images → minus the first spike times of the output neurons: the earliest is the largest."""

    def __init__(self, net: ExactTiming) -> None:
        super().__init__()
        self.net = net
        self.silent = 0.0  # share of the outputs without a spike, in the pass answered last

    def forward(self, x: Tensor) -> Tensor:
        times: Tensor = self.net(latencies(x))
        self.silent = float((times == self.net.horizon).double().mean())
        return -times

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """What is trained: the loss of the times, with the penalty that wakes silent neurons."""
        return self.net.loss(latencies(x), y, SOFTNESS)


def cells(network: str) -> list[Cell]:
    """The sweep, then the long trainings at what was best."""
    sweep = [
        Cell(f"{network}/sweep/{method}/{tau}", partial(sweep_one, network, method, tau), "sweep")
        for method in METHODS
        for tau in TAUS
    ]
    runs = [Cell(f"{network}/{method}", partial(measure, network, method)) for method in METHODS]
    return sweep + runs


def sweep_one(network: str, method: str, tau: float, context: Context) -> list[Swept]:
    """A short training at one time constant, judged on validation images."""
    images = material(network, context)
    images = replace(images, test=images.validation)
    return [{**fit(network, method, tau, SWEEP, images, context), "images": "validation"}]


def measure(network: str, method: str, context: Context) -> list[Timed]:
    """The long training, at the time constant that was best in the sweep."""
    swept = [context.rows[f"{network}/sweep/{method}/{tau}"][0] for tau in TAUS]
    best = learning.preferred(swept)
    images = material(network, context)
    return [fit(network, method, best["tau"], RECIPE, images, context)]


def fit(
    network: str, method: str, tau: float, recipe: Recipe, images: Material, context: Context
) -> Timed:
    """Train one network and answer; on the CPU, where the compiled loops are."""
    pixels, most = images.fit.images[0].numel(), METHODS[method]
    net = ExactTiming((pixels, HIDDEN, 10), tau, most)
    module = Earliest(net)
    name = f"{network}/{method}/{tau}/{recipe.images}"
    trained = learning.train(
        module, images, recipe, 0, context, name, lambda _, x, y: module.loss(x, y)
    )
    silent: list[float] = []

    def spikes() -> float:
        silent.append(module.silent)
        return net.sent

    label = "one spike a neuron" if most == 1 else f"up to {most} spikes a neuron"
    made = learning.row(
        network, f"{label}, τ = {tau:g}", method, f"{pixels}-{HIDDEN}-10", 0, 0, trained, module,
        images, spikes, HIDDEN + 10,
    )  # fmt: skip
    return {**made, "tau": tau, "most": most, "silent": sum(silent) / len(silent)}


def conclude(sections: Rows) -> dict[str, list[Goal]]:
    """The goals beside what was found."""
    rows: list[Timed] = sections["runs"]
    found = {m: learning.mean_of(rows, "test_accuracy", method=m) for m in METHODS}
    return {
        "goals": [
            goal("one spike a neuron: test accuracy", found["single"], at_least=0.98),
            goal(
                "several spikes below one",
                learning.differ(found["single"], found["several"]), at_most=0.0,
            ),
        ]
    }  # fmt: skip


EXPERIMENT = Experiment(
    name="exact-timing",
    summary="exact spike times learned with one spike a neuron or several, over time constants",
    networks=("mnist-mlp",),
    cells=cells,
    conclude=conclude,
)
