"""``throughput``: images a second over steps, batch and precision; width in the place of time.

Our analogue of what Sun et al. (*Intelligence Processing Units Accelerate Neuromorphic Learning*,
arXiv:2211.10725, 2022) measured on another kind of processor: none of the figures here is one of
theirs. ``runs`` holds the speed of a converted network of the book (augmented spikes, four levels)
in the simulator, the median of several runs after a first one that is not timed; what is compared
runs in turns, so that whatever else the machine does slows all of it.

``populations``: a leaky network, pixels-512-classes, trained with surrogate gradients (the common
step, `snnlib.learning.lif`), three seeds. Either ten steps and one output neuron a class, or a
single step and ten output neurons a class, whose spikes are added: as many spikes can tell the
classes apart. Accuracy on the test images and images a second of the same forward pass. Chapter
*Time in the input, time in the gradient* says when that is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from book.experiments import learning
from book.experiments.frame import Cell, Context, Experiment, Labeled
from book.experiments.learning import Learned, Recipe
from book.experiments.material import material
from book.experiments.measure import Key, in_turns
from book.experiments.setting import Setting
from snnlib.conversion.balance import Percentile
from snnlib.learning.lif import LIF, Surrogate, run
from snnlib.learning.loop import Plan
from snnlib.neurons import Augmented
from snnlib.simulation.network import SpikingNetwork
from snnlib.zoo.data import to_float

STEPS, BATCHES, REPEATS = (1, 2, 4, 8, 16), (1, 16, 128), 15
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SETTING = Setting(Augmented(levels=4, negative=0.0), Percentile(99.9))
RECIPE = Recipe(Plan(epochs=4, batch=100, clip=5.0), rate=2e-3, images=20_000)
HIDDEN, SEEDS = 512, 3
FORMS = {"time": (10, 1), "width": (1, 10)}  # steps, output neurons a class
LABELS = {"time": "ten steps, one output neuron a class", "width": "one step, ten output neurons"}
NEURON = LIF(leak=0.9, spike=Surrogate("triangle"))


class Speed(Labeled):
    """The simulator at one setting."""

    steps: int
    batch: int
    precision: str
    threads: int
    images_per_second: float


class Population(Learned):
    """One trained network."""

    width: int  # output neurons a class
    images_per_second: float


def cells(network: str) -> list[Cell]:
    """A cell a precision, and one a trained network."""
    speeds = [Cell(f"{network}/{name}", partial(speed, network, name)) for name in PRECISIONS]
    return speeds + [
        Cell(f"{network}/{form}/{seed}", partial(population, network, form, seed), "populations")
        for seed in range(SEEDS)
        for form in FORMS
    ]


def speed(network: str, precision: str, context: Context) -> list[Speed]:
    """Images a second for every number of steps and batch."""
    subject = context.subject(network)
    net = subject.convert(SETTING).to(PRECISIONS[precision])
    rows: list[Speed] = []
    for batch in BATCHES:
        x = to_float(subject.test.images[:batch]).to(subject.device)
        forwards = {steps: partial(_logits, net, x, steps) for steps in STEPS}
        for steps, found in rates(forwards, len(x), context).items():
            rows.append(
                {
                    "model": network,
                    "label": f"{precision}, batch {batch}, {steps} steps",
                    "n": len(x),
                    "steps": steps,
                    "batch": batch,
                    "precision": precision,
                    "threads": torch.get_num_threads(),
                    "images_per_second": found,
                }
            )
    return rows


def _logits(net: SpikingNetwork, x: Tensor, steps: int) -> Tensor:
    return net(x, steps).logits


def rates(
    forwards: Mapping[Key, Callable[[], Tensor]], images: int, context: Context
) -> dict[Key, float]:
    """Images a second of each, the median of some turns; of one in a quick look."""
    ways = {key: partial(_wait, forward) for key, forward in forwards.items()}
    turns = REPEATS if context.limit is None else 1
    return {key: images / seconds for key, seconds in in_turns(ways, turns).items()}


def _wait(forward: Callable[[], Tensor]) -> None:
    forward().sum().item()  # waits for a GPU


class Leaky(nn.Module):
    """Pixels, a hidden layer and populations of output neurons, all leaky: counts a class.

    Args:
        pixels: inputs.
        steps: T; the image is a constant current.
        width: output neurons a class.
    """

    def __init__(self, pixels: int, steps: int, width: int) -> None:
        super().__init__()
        self.hidden, self.norm = nn.Linear(pixels, HIDDEN), nn.BatchNorm1d(HIDDEN)
        self.out = nn.Linear(HIDDEN, 10 * width)
        self.steps, self.width = steps, width
        self.sent = 0.0  # spikes an image in the last pass

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, ...) → 10 times the spikes, mean over steps and population, (B, 10)."""
        theta = torch.ones((), device=x.device)
        once = self.norm(self.hidden(x.flatten(1)))  # the same at every step
        spikes = run(NEURON, once.expand(self.steps, *once.shape), theta)
        last = run(NEURON, self.out(spikes), theta)  # (T, B, 10 · width)
        self.sent = float(spikes.detach().sum() + last.detach().sum()) / len(x)
        return 10 * last.mean(0).unflatten(1, (10, self.width)).mean(2)


def population(network: str, form: str, seed: int, context: Context) -> list[Population]:
    """Train one network, answer the test images, and time it."""
    images = material(network, context)
    steps, width = FORMS[form]
    pixels = images.fit.images[0].numel()
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # of the initial weights
        net = Leaky(pixels, steps, width)
    net = net.to(context.device)
    name = f"{network}/{form}/{seed}"
    trained = learning.train(net, images, RECIPE, seed, context, name)
    made = learning.row(
        network, LABELS[form], form,
        f"{pixels}-{HIDDEN}-{10 * width}", seed, steps, trained, net, images, lambda: net.sent,
        HIDDEN + 10 * width,
    )  # fmt: skip
    x = images.test[:1000].floats().to(context.device)
    others = {key: Leaky(pixels, *shape).to(x.device).eval() for key, shape in FORMS.items()}
    nets = {**others, form: net}
    with torch.no_grad():
        found = rates({key: partial(one, x) for key, one in nets.items()}, len(x), context)
    return [{**made, "width": width, "images_per_second": found[form]}]


EXPERIMENT = Experiment(
    name="throughput",
    summary="images a second over steps, batch and precision; a wide output instead of many steps",
    networks=("fashion-mlp",),
    cells=cells,
)
