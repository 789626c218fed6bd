"""``throughput``: images a second over steps, batch and precision; width in the place of time.

Our analogue of what Sun et al. (*Intelligence Processing Units Accelerate Neuromorphic Learning*,
arXiv:2211.10725, 2022) measured on another kind of processor: none of the figures here is one of
theirs. ``runs`` holds the speed of a converted network of the book (augmented spikes, four levels)
in the simulator, the median of several runs after a first one that is not timed; what is compared
runs in turns, so that whatever else the machine does slows all of it. On one thread of a processor
seconds are those that it computed, without those that it gave to other processes.

``populations``: a leaky network, pixels-512-classes, trained with surrogate gradients (the common
step, `snnlib.learning.lif`), three seeds. Either ten steps and one output neuron a class, or a
single step and ten output neurons a class, whose spikes are added: as many spikes can tell the
classes apart. Accuracy on the test images and images a second of the same forward pass, a thousand
images at a time in float32; ``forms`` holds the same speed over batch and precision, on the CPU and
on a GPU where it computes. Chapter *Time in the input, time in the gradient* says when the wide
network is exact.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import product

import torch
from torch import Tensor, nn

from book.experiments import learning
from book.experiments.frame import SEED, Cell, Context, Experiment, Labeled, Rows
from book.experiments.goals import Goal, goal
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
FORM_BATCHES = (1, 16, 128, 1000, 10_000)
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


class FormSpeed(Labeled):
    """Untrained networks of both forms at one setting; n is the batch."""

    method: str  # key of `FORMS`
    width: int
    steps: int
    precision: str
    device: str  # "cpu" or "cuda"
    threads: int  # of the CPU
    images_per_second: float


def cells(network: str) -> list[Cell]:
    """A cell a precision, one a trained network, and one a precision for the two forms."""
    speeds = [Cell(f"{network}/{name}", partial(speed, network, name)) for name in PRECISIONS]
    populations = [
        Cell(f"{network}/{form}/{seed}", partial(population, network, form, seed), "populations")
        for seed in range(SEEDS)
        for form in FORMS
    ]
    forms = [
        Cell(f"{network}/forms/{name}", partial(form_speeds, network, name), "forms")
        for name in PRECISIONS
    ]
    return [*speeds, *populations, *forms]


def speed(network: str, precision: str, context: Context) -> list[Speed]:
    """Images a second for every number of steps and batch."""
    subject = context.subject(network)
    net = subject.convert(SETTING).to(PRECISIONS[precision])
    rows: list[Speed] = []
    for batch in BATCHES:
        x = to_float(subject.test.images[:batch]).to(subject.device)
        forwards = {steps: partial(_logits, net, x, steps) for steps in STEPS}
        for steps, found in rates(forwards, len(x), context, subject.device).items():
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
    forwards: Mapping[Key, Callable[[], Tensor]],
    images: int,
    context: Context,
    device: torch.device,
) -> dict[Key, float]:
    """Images a second of each, the median of some turns; of one in a quick look."""
    ways = {key: partial(_wait, forward) for key, forward in forwards.items()}
    turns = REPEATS if context.limit is None else 1
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    taken = in_turns(ways, turns, time.process_time if alone else None)
    return {key: images / seconds for key, seconds in taken.items()}


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
        self.spikes: tuple[Tensor, ...] = ()  # of the last pass, (T, B, n) a layer

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, ...) → 10 times the spikes, mean over steps and population, (B, 10)."""
        theta = torch.ones((), device=x.device)
        once = self.norm(self.hidden(x.flatten(1)))  # the same at every step
        spikes = run(NEURON, once.expand(self.steps, *once.shape), theta)
        last = run(NEURON, self.out(spikes), theta)  # (T, B, 10 · width)
        self.spikes = (spikes.detach(), last.detach())
        return 10 * last.mean(0).unflatten(1, (10, self.width)).mean(2)

    def sent(self) -> float:
        """Spikes an image in the last pass."""
        return sum(float(spikes.sum()) / spikes.shape[1] for spikes in self.spikes)


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
        f"{pixels}-{HIDDEN}-{10 * width}", seed, steps, trained, net, images, net.sent,
        HIDDEN + 10 * width,
    )  # fmt: skip
    x = images.test[:1000].floats().to(context.device)
    others = {key: Leaky(pixels, *shape).to(x.device).eval() for key, shape in FORMS.items()}
    nets = {**others, form: net}
    with torch.no_grad():
        ways = {key: partial(one, x) for key, one in nets.items()}
        found = rates(ways, len(x), context, context.device)
    return [{**made, "width": width, "images_per_second": found[form]}]


def form_speeds(network: str, precision: str, context: Context) -> list[FormSpeed]:
    """Images a second of both forms for every batch, on the CPU and where the context computes."""
    split, rows = material(network, context).test, list[FormSpeed]()
    devices = dict.fromkeys([torch.device("cpu"), context.device])
    batches = dict.fromkeys(min(batch, len(split)) for batch in FORM_BATCHES)
    for device, batch in product(devices, batches):
        x = to_float(split.images[:batch]).to(device, PRECISIONS[precision])
        torch.manual_seed(SEED)
        nets = {form: Leaky(x[0].numel(), *shape).to(x) for form, shape in FORMS.items()}
        with torch.no_grad():
            ways = {form: partial(net.eval(), x) for form, net in nets.items()}
            found = rates(ways, batch, context, device)
        rows += [
            FormSpeed(
                model=network,
                label=f"{LABELS[form]}, {precision}, batch {batch}, {device.type}",
                n=batch,
                method=form,
                width=FORMS[form][1],
                steps=FORMS[form][0],
                precision=precision,
                device=device.type,
                threads=torch.get_num_threads(),
                images_per_second=speed,
            )
            for form, speed in found.items()
        ]
    return rows


def conclude(sections: Rows) -> dict[str, list[Goal]]:
    """The goals beside what was found: a wide output in one step against ten steps."""
    rows: list[Population] = sections.get("populations", [])
    means = {
        (key, form): learning.mean_of(rows, key, method=form)
        for key in ("test_accuracy", "images_per_second")
        for form in FORMS
    }
    lost = learning.differ(means["test_accuracy", "time"], means["test_accuracy", "width"])
    goals = [goal("accuracy below ten steps", lost, at_most=0.003)]
    speeds: list[FormSpeed] = sections.get("forms", [])
    for device in dict.fromkeys(row["device"] for row in speeds):
        wanted = {"device": device, "precision": "float32", "n": 1000}
        time, width = (
            learning.mean_of(speeds, "images_per_second", method=form, **wanted) for form in FORMS
        )
        faster = None if time is None or width is None else width / time
        where = "GPU" if device == "cuda" else "CPU"
        goals.append(goal(f"times as fast, batch 1,000, {where}", faster, at_least=3.0))
    return {"goals": goals}


EXPERIMENT = Experiment(
    name="throughput",
    summary="images a second over steps, batch and precision; a wide output instead of many steps",
    networks=("fashion-mlp",),
    cells=cells,
    conclude=conclude,
    version=2,
)
