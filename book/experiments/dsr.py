"""``dsr``: training through rates (DSR) beside back-propagation through time and the ReLU network.

One small convolutional network, the same for all: ReLU, DSR with T = 5, 10 and 20, and surrogate
gradients through time with T = 10. Both spiking networks have the same neurons, integrate-and-fire
with v0 = ½, and are tuned the same way before: first θ and rate, nine settings each, around the
best; two epochs of 8,000 images, and the validation images choose. At T = 10, DSR, back-propagation
and ReLU are means of three seeds.

*Kept* is what autograd keeps for the backward pass of one batch, counted, not the peak of the
process. ``speed`` times steps of training of both on the same images in turns, since epochs of
different hours on a busy machine tell nothing; on the CPU, and on a GPU where it computes. ``full``
is a larger network at full resolution, trained with DSR alone, from the θ that the small one chose,
at a rate that is chosen in four epochs of 20,000 images; on the images as they are, and on images
that are mirrored by chance and moved by up to a pixel. (A network half as wide, ten epochs at rate
1, gave 89.9 %.)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any, NotRequired

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from book.experiments import learning
from book.experiments.frame import SEED, Cell, Context, Experiment, Labeled, Rows
from book.experiments.goals import Goal, goal
from book.experiments.material import (
    Material,
    TrainedRow,
    augmented,
    material,
    plan_for,
    seeds,
    trained_row,
)
from book.experiments.measure import in_turns
from snnlib.learning.dsr import DSR
from snnlib.learning.lif import LIF, Surrogate
from snnlib.learning.loop import Plan, cross_entropy, fit, kept_bytes
from snnlib.learning.surrogate import unrolled
from snnlib.zoo.training import accuracy

METHODS, FULL, VARIED = ("dsr", "bptt", "relu"), "full", "full-augmented"
LARGE = (VARIED, FULL)  # DSR on the larger network
LABELS = {"dsr": "DSR", "bptt": "surrogate gradients through time", "relu": "ReLU network",
          FULL: "DSR, larger network",
          VARIED: "DSR, larger network, augmented images"}  # fmt: skip
STEPS, MORE_STEPS = 10, (5, 20)
PLAN, FULL_PLAN = Plan(epochs=4), Plan(epochs=24)
IMAGES = 36_000  # of the small network
TUNING_IMAGES, TUNING = 8000, Plan(epochs=2)
FULL_TUNING_IMAGES, FULL_TUNING = 20_000, Plan(epochs=4)
# First θ of every layer, which back-propagation keeps, and peak rates of SGD with momentum.
CHOICES = {"dsr": (1.0, 2.0, 4.0), "bptt": (1.0, 2.0, 4.0), "relu": (0.0,)}
RATES = {"dsr": (1.0, 2.5, 6.0), "bptt": (1.0, 2.5, 6.0), "relu": (0.15, 0.4, 1.0)}
RATES[FULL] = (0.1, 0.3, 1.0)
DECAY = 5e-4
STAGES, FULL_STAGES = ((16, 2), (32, 2), (32, 1)), ((32, 1), (64, 2), (64, 1), (128, 2))
TURNS = 9  # of `speed`


class ChoiceRow(Labeled):
    """What a setting reached in tuning; n counts validation images."""

    method: str
    value: float  # first θ
    rate: float
    validation_accuracy: float


class DsrRow(TrainedRow):
    """One training of one network."""

    method: str
    steps: int  # 1 for the ReLU network
    value: float
    rate: float
    history: list[float]  # validation accuracy after every epoch
    kept_megabytes: float  # by autograd, for the backward pass of a batch
    kept_batch: int
    spikes_per_neuron: NotRequired[float]  # of DSR, in all steps, by the simulator
    thresholds: NotRequired[list[float]]  # of DSR, trained
    full: bool
    augmented: bool  # images mirrored and moved


class SpeedRow(Labeled):
    """Steps of training of one network; n counts the images of a batch."""

    method: str
    steps: int
    device: str  # "cpu" or "cuda"
    threads: int  # of the CPU
    seconds_per_batch: float  # median
    turns: int


def network(channels: int, stages: tuple[tuple[int, int], ...]) -> nn.Sequential:
    """3×3 convolutions (channels, stride) with batch norm and ReLU, the mean, a linear layer."""
    layers, before = nn.Sequential(), channels
    for width, stride in stages:
        conv = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
        layers.extend([conv, nn.BatchNorm2d(width), nn.ReLU()])
        before = width
    return layers.extend([nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10)])


def made(method: str, channels: int, steps: int, value: float) -> nn.Module:
    """The untrained network of a method; ``value`` as in `CHOICES`."""
    large = method in LARGE
    ann = network(channels, FULL_STAGES if large else STAGES)
    makers: dict[str, Callable[[], nn.Module]] = {
        "dsr": lambda: DSR(ann, steps, theta=value),
        "bptt": lambda: unrolled(ann, LIF(v0=0.5, spike=Surrogate()), steps, value),
        "relu": lambda: ann,
    }
    return makers["dsr" if large else method]()


def sgd(net: nn.Module, rate: float) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum and decay; vectors (and thresholds) have none."""
    matrices = [p for p in net.parameters() if p.ndim > 1]
    vectors = [p for p in net.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}
    ]  # fmt: skip
    return torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True)


def cells(name: str) -> list[Cell]:
    """Tuning of each method; trainings at T = 10, at other T, and of the larger network."""
    ways = (*METHODS, FULL)
    tuning = [Cell(f"{name}/tuning/{m}", partial(tune, name, m), "tuning") for m in ways]
    runs = [Cell(f"{name}/{m}/{STEPS}-steps", partial(seeded, name, m)) for m in METHODS]
    more = [Cell(f"{name}/dsr/{t}-steps", partial(at_steps, name, t)) for t in MORE_STEPS]
    large = [Cell(f"{name}/{m}", partial(full, name, m)) for m in LARGE]
    timed = Cell(f"{name}/speed", partial(speed, name), "speed")
    return [*tuning, *runs, *more, *large, timed]


def tune(name: str, method: str, context: Context) -> list[ChoiceRow]:
    """Every setting for some short epochs."""
    large = method == FULL
    images = material(name, context, FULL_TUNING_IMAGES if large else TUNING_IMAGES)
    plan, rows = plan_for(context, FULL_TUNING if large else TUNING), []
    values = (chosen(name, "dsr", context)[0],) if large else CHOICES[method]
    for value, rate in product(values, RATES[method]):
        torch.manual_seed(SEED)
        net = made(method, images.shape[0], STEPS, value).to(context.device)
        history = fit(
            net, sgd(net, rate), images.fit, images.validation, plan, seed=SEED,
            label=f"{method}, {value:g}, rate {rate:g}", progress=context.progress,
        )  # fmt: skip
        rows.append(
            ChoiceRow(
                model=name,
                label=LABELS[method],
                n=len(images.validation),
                method=method,
                value=value,
                rate=rate,
                validation_accuracy=history[-1]["validation_accuracy"],
            )
        )
    return rows


def chosen(name: str, method: str, context: Context) -> tuple[float, float]:
    """Value and rate of the best setting of the tuning."""
    rows: list[ChoiceRow] = context.rows[f"{name}/tuning/{FULL if method == VARIED else method}"]
    best: ChoiceRow = learning.preferred(rows)
    return best["value"], best["rate"]


def seeded(name: str, method: str, context: Context) -> list[DsrRow]:
    """One method at T = 10, or the ReLU network, a row a seed."""
    images = material(name, context, IMAGES)
    return [train(name, method, STEPS, seed, images, context) for seed in seeds(context)]


def at_steps(name: str, steps: int, context: Context) -> list[DsrRow]:
    """DSR with another T, the first seed."""
    return [train(name, "dsr", steps, SEED, material(name, context, IMAGES), context)]


def full(name: str, method: str, context: Context) -> list[DsrRow]:
    """DSR on a larger network at full resolution."""
    return [train(name, method, STEPS, SEED, material(name, context), context)]


def train(
    name: str, method: str, steps: int, seed: int, images: Material, context: Context
) -> DsrRow:
    """Train one network and judge it on test images."""
    large, vary = method in LARGE, method == VARIED
    value, rate = chosen(name, method, context)
    torch.manual_seed(seed)
    net = made(method, images.shape[0], steps, value).to(context.device)
    plan = plan_for(context, FULL_PLAN if large else PLAN)
    label = f"{method}, T = {steps}, seed {seed}"
    history = fit(
        net, sgd(net, rate), images.fit, images.validation, plan, seed=seed, label=label,
        state=context.state(f"{name}-{method}-{steps}-{seed}"),
        loss=augmented if vary else cross_entropy, progress=context.progress,
    )  # fmt: skip
    row: DsrRow = {
        **trained_row(
            name, LABELS[method], seed, images, plan, history,
            accuracy(net, images.test, batch=250),
        ),
        "method": "dsr" if large else method,
        "steps": 1 if method == "relu" else steps,
        "value": value,
        "rate": rate,
        "history": [e["validation_accuracy"] for e in history],
        "kept_megabytes": _kept(net, images, plan.batch, context) / 1e6,
        "kept_batch": plan.batch,
        "full": large,
        "augmented": vary,
    }  # fmt: skip
    if isinstance(net, DSR):
        x = images.test[:100].floats().to(context.device)
        run = (spiking := net.spiking(x[:8]))(x, steps)
        assert run.spikes is not None
        row["spikes_per_neuron"] = float(run.spikes[-1]) / sum(spiking.sizes.values())
        row["thresholds"] = [float(value) for value in spiking.thresholds.values()]
    return row


def speed(name: str, context: Context) -> list[SpeedRow]:
    """Both ways to train at each number of steps, in turns; on the CPU too where it is a GPU."""
    devices = dict.fromkeys([torch.device("cpu"), context.device])
    return [row for device in devices for row in _speed_on(device, name, context)]


def _speed_on(device: torch.device, name: str, context: Context) -> list[SpeedRow]:
    batch = plan_for(context, PLAN).batch
    images = material(name, context).fit[:batch]
    x, y = images.floats().to(device), images.labels.to(device)
    ways = list(product(sorted((STEPS, *MORE_STEPS)), ("dsr", "bptt")))
    trained = {}
    for steps, method in ways:
        torch.manual_seed(SEED)
        value, rate = chosen(name, method, context)
        net = made(method, x.shape[1], steps, value).to(device).train()
        trained[steps, method] = partial(_step, net, sgd(net, rate), x, y)
    turns = 1 if context.limit is not None else TURNS
    taken = in_turns(trained, turns)
    return [
        {
            "model": name,
            "label": f"{LABELS[method]}, T = {steps}",
            "n": batch,
            "method": method,
            "steps": steps,
            "device": device.type,
            "threads": torch.get_num_threads(),
            "seconds_per_batch": taken[steps, method],
            "turns": turns,
        }
        for steps, method in ways
    ]


def _step(net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    """One step of training."""
    optimizer.zero_grad()
    loss = F.cross_entropy(net(x), y)
    loss.backward()
    optimizer.step()
    loss.item()  # waits for a GPU


def _kept(net: nn.Module, images: Material, batch: int, context: Context) -> int:
    """Bytes kept for the backward pass of a training batch; statistics are put back."""
    held = {key: value.clone() for key, value in net.state_dict().items()}
    piece = images.fit[:batch]
    x, y = piece.floats().to(context.device), piece.labels.to(context.device)
    net.train()
    found = kept_bytes(lambda: F.cross_entropy(net(x), y))
    net.eval()
    net.load_state_dict(held)
    return found


def conclude(sections: Rows) -> dict[str, list[Goal]]:
    """The goals beside what was found: means over seeds, T = 10."""
    runs: list[DsrRow] = sections["runs"]
    large: DsrRow | None = learning.preferred(r for r in runs if r["full"])
    small = {
        method: learning.mean_of(runs, "test_accuracy", method=method, steps=STEPS, full=False)
        for method in ("dsr", "bptt")
    }
    kept = [row["kept_megabytes"] for row in runs if row["method"] == "dsr" and not row["full"]]
    goals = [
        goal(
            "larger network: test accuracy", None if large is None else large["test_accuracy"],
            at_least=0.92,
        ),
        goal(
            "below back-propagation through time", learning.differ(small["bptt"], small["dsr"]),
            at_most=0.005,
        ),
        goal(
            "memory kept at T = 5, 10, 20: most over least",
            max(kept) / min(kept) if kept else None, at_most=1.01,
        ),
    ]  # fmt: skip
    for device in dict.fromkeys(row["device"] for row in sections.get("speed", [])):
        taken = {
            method: learning.mean_of(
                sections["speed"], "seconds_per_batch", method=method, steps=STEPS, device=device
            )
            for method in ("dsr", "bptt")
        }
        where = "GPU" if device == "cuda" else "CPU"
        ratio = (taken["bptt"] or 0.0) / (taken["dsr"] or 1.0)
        goals.append(goal(f"times as fast as through time, {where}", ratio, at_least=2.5))
    return {"goals": goals}


EXPERIMENT = Experiment(
    name="dsr",
    summary="training through rates beside training through time: accuracy, memory, seconds",
    networks=("fashion-cnn",),
    cells=cells,
    conclude=conclude,
    version=2,
)
