"""``exact-timing``: learning exact spike times, one spike a neuron or several, over time constants.

A network 784-200-10 on pixels that fire once, bright ones early (`snnlib.learning.exact_timing`).
First a sweep of the time constant on part of the training images, with at most one spike a hidden
neuron and with at most eight; accuracy on validation images alone. Then, at the constant that was
best for each, all training images, and the test images once. ``silent`` is the share of output
neurons that never fired.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from book.experiments import learning
from book.experiments.frame import Cell, Context, Experiment
from book.experiments.learning import Learned, Recipe
from snnlib.learning.exact_timing import ExactTiming, latencies

TAUS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # inputs come within 1, the answer is due at 2
HIDDEN, SOFTNESS = 200, 0.1
SWEEP = Recipe(images=10_000, epochs=3, batch=50, rate=4e-3)
RECIPE = Recipe(images=None, epochs=10, batch=50, rate=4e-3)
METHODS = {"single": 1, "several": 8}  # spikes a hidden neuron may fire


class Timed(Learned):
    """One trained network."""

    tau: float
    most: int
    silent: float  # share of outputs without a spike, validation and test images


class Swept(Timed):
    """One point of the sweep; ``test_accuracy`` is of validation images here."""

    images: str


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
    parts = learning.images(network, context)
    parts = parts._replace(test=parts.validation)
    return [{**fit(network, method, tau, SWEEP, parts, context), "images": "validation"}]


def measure(network: str, method: str, context: Context) -> list[Timed]:
    """The long training, at the time constant that was best in the sweep."""
    swept = [context.rows[f"{network}/sweep/{method}/{tau}"][0] for tau in TAUS]
    best = max(swept, key=lambda row: row["validation_accuracy"])
    parts = learning.images(network, context)
    return [fit(network, method, best["tau"], RECIPE, parts, context)]


def fit(
    network: str, method: str, tau: float, recipe: Recipe, parts: learning.Images, context: Context
) -> Timed:
    """Train one network and answer; on the CPU, where the compiled loops are."""
    pixels = parts.fit.images[0].numel()
    net = ExactTiming((pixels, HIDDEN, 10), tau, METHODS[method])
    silent: list[tuple[int, float]] = []

    def answer(x: Tensor) -> Tensor:
        times = net(latencies(x))
        silent.append((len(x), float((times == net.horizon).double().mean())))
        return -times

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return net.loss(latencies(x), y, SOFTNESS)

    trained = learning.train(net, loss, parts.fit, recipe, 0, context.limit)

    most = METHODS[method]
    label = "one spike a neuron" if most == 1 else f"up to {most} spikes a neuron"
    made = learning.row(
        network, f"{label}, τ = {tau:g}", method, f"{pixels}-{HIDDEN}-10", 0, 0, trained, answer,
        parts, lambda: net.sent, HIDDEN + 10,
    )  # fmt: skip
    share = sum(n * s for n, s in silent) / sum(n for n, _ in silent)
    return {**made, "tau": tau, "most": most, "silent": share}


EXPERIMENT = Experiment(
    name="exact-timing",
    summary="exact spike times learned with one spike a neuron or several, over time constants",
    networks=("mnist-mlp",),
    cells=cells,
)
