"""``seenn``: how few steps an image needs, by its confidence (SEENN-I) or by a policy (SEENN-II).

On converted networks (AugMapping, 4 levels, negative 0): the full run over validation and test
images gives summed logits after every step; from them every exit of SEENN-I is read, for two scores
and for sums as they are or divided by the number of steps of the run. Of the settings that cost at
most 0.1 points on the validation images the one with the fewest mean steps is ``chosen``. That
images which exit are no longer computed, and give the same answers, is the library's
(`snnlib.recurrent.exits`); its time is in ``early-exit``.

SEENN-II learns a policy for each price β from training images whose answers after 1, 2, 4 and 8
steps are known; ``macs`` is what the policy adds to every image. ``direct`` trains a small spiking
network directly, with the loss at every step, and reads SEENN-I from it.
"""

from __future__ import annotations

from functools import partial
from typing import TypedDict

import torch
from torch import Tensor, nn

from book.experiments.frame import Cell, Context, Experiment, Labeled
from book.experiments.setting import Setting, SettingRecord
from snnlib.conversion.trace import trace
from snnlib.learning.lif import LIF
from snnlib.neurons import Augmented
from snnlib.recurrent import exits
from snnlib.simulation import costs
from snnlib.simulation.network import SpikingNetwork
from snnlib.zoo import data
from snnlib.zoo.data import Split

STEPS, SETTING = 8, Setting(Augmented(levels=4, negative=0.0))
THRESHOLDS = (
    *(0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999),
    1.0,
)
CHOICES, BETAS = (1, 2, 4, 8), (0.3, 1.0, 3.0, 10.0, 30.0)
TOLERANCE = 0.001
VALIDATION_IMAGES, POLICY_IMAGES, POLICY_EPOCHS = 2000, 10_000, 20
DIRECT = ("digits-cnn", "mnist-cnn", "fashion-cnn")  # whose data set a network is trained on
DIRECT_STEPS, DIRECT_EPOCHS = 6, {"digits-cnn": 40, "mnist-cnn": 6, "fashion-cnn": 10}
_PART = 500


class Exit(TypedDict):
    """One setting of SEENN-I, or one policy."""

    score: str  # or "policy"
    scale: float  # what sums are divided by; of a policy its β
    threshold: float
    accuracy: float
    mean_steps: float
    by_step: list[int]  # images answered after 1, 2, … steps
    validation_accuracy: float
    validation_steps: float
    chosen: bool


class SeennRun(Labeled):
    """The exits of one network."""

    setting: SettingRecord | None  # None: trained directly
    steps: int
    accuracy: list[float]  # of all test images after each step
    macs: int  # of the policy, an image
    ann_macs: int | None
    sweep: list[Exit]


def cells(network: str) -> list[Cell]:
    """SEENN-I, SEENN-II; a directly trained network where its data set is small."""
    found = [
        Cell(f"{network}/seenn-1", partial(by_confidence, network)),
        Cell(f"{network}/seenn-2", partial(by_policy, network)),
    ]
    if network in DIRECT:
        found.append(Cell(f"{network}/direct", partial(trained, network)))
    return found


def sums(net: SpikingNetwork, split: Split, steps: int = STEPS) -> Tensor:
    """Summed logits after every step of a converted network, shape (T, N, C)."""
    numbers = torch.arange(1, steps + 1)[:, None, None]
    parts = [
        net(split[i : i + _PART].floats().to(net.device), steps).logits.cpu() * numbers
        for i in range(0, len(split), _PART)
    ]
    return torch.cat(parts, 1)


def accuracies(summed: Tensor, labels: Tensor) -> list[float]:
    """Of all images after each step."""
    found: list[float] = (summed.argmax(-1) == labels).double().mean(1).tolist()
    return found


def sweep(held: Tensor, held_labels: Tensor, summed: Tensor, labels: Tensor) -> list[Exit]:
    """All settings of SEENN-I: summed logits and labels of validation and of test images."""
    found: list[Exit] = []
    for score in exits.SCORES:
        for scale in (1.0, float(len(summed))):
            for threshold in THRESHOLDS:
                there = exits.first_exit(held / scale, threshold, score)
                here = exits.first_exit(summed / scale, threshold, score)
                found.append(
                    {
                        "score": score,
                        "scale": scale,
                        "threshold": threshold,
                        "accuracy": _mean(here.prediction == labels),
                        "mean_steps": _mean(here.step),
                        "by_step": torch.bincount(here.step, minlength=len(summed) + 1)[
                            1:
                        ].tolist(),
                        "validation_accuracy": _mean(there.prediction == held_labels),
                        "validation_steps": _mean(there.step),
                        "chosen": False,
                    }
                )
    choose(found, accuracies(held, held_labels)[-1])
    return found


def choose(found: list[Exit], whole: float) -> None:
    """Mark the fewest mean steps that lose no more than `TOLERANCE`, all on validation images."""
    good = [exit for exit in found if exit["validation_accuracy"] >= whole - TOLERANCE - 1e-9]
    if good:
        min(good, key=lambda exit: exit["validation_steps"])["chosen"] = True


def by_confidence(network: str, context: Context) -> list[SeennRun]:
    """SEENN-I on a converted network."""
    subject = context.subject(network)
    net = subject.convert(SETTING)
    validation, test = subject.validation[:VALIDATION_IMAGES], subject.test
    held, summed = sums(net, validation), sums(net, test)
    return [
        {
            "model": network,
            "label": "SEENN-I",
            "n": len(test),
            "setting": SETTING.record(),
            "steps": STEPS,
            "accuracy": accuracies(summed, test.labels),
            "macs": 0,
            "ann_macs": subject.macs,
            "sweep": sweep(held, validation.labels, summed, test.labels),
        }
    ]


def policy_of(channels: int) -> nn.Module:
    """A network far smaller than those it decides for: pictures (B, C, H, W) → scores (B, K)."""
    return nn.Sequential(
        nn.AvgPool2d(2),
        *(nn.Conv2d(channels, 8, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, len(CHOICES))),
    )


def by_policy(network: str, context: Context) -> list[SeennRun]:
    """SEENN-II on a converted network."""
    subject = context.subject(network)
    net = subject.convert(SETTING)
    train, _ = data.validation_split(data.load(subject.dataset)[0])
    few = POLICY_IMAGES if context.limit is None else context.limit
    train = train[: subject.affordable(few)]
    validation, test = subject.validation[:VALIDATION_IMAGES], subject.test
    known, held, summed = (sums(net, split) for split in (train, validation, test))
    columns = [t - 1 for t in CHOICES]
    right = (known[columns].argmax(-1) == train.labels).T  # (N, K)
    found: list[Exit] = []
    for beta in BETAS:
        torch.manual_seed(0)
        policy = policy_of(train.images.shape[1])
        exits.fit_policy(policy, train.floats(), right, beta=beta, epochs=POLICY_EPOCHS)
        there, here = (_followed(policy, *pair) for pair in ((validation, held), (test, summed)))
        found.append(
            {
                "score": "policy",
                "scale": beta,
                "threshold": 0.0,
                "accuracy": here[1],
                "mean_steps": _mean(here[0]),
                "by_step": torch.bincount(here[0], minlength=STEPS + 1)[1:].tolist(),
                "validation_accuracy": there[1],
                "validation_steps": _mean(there[0]),
                "chosen": False,
            }
        )
    choose(found, accuracies(held, validation.labels)[-1])
    return [
        {
            "model": network,
            "label": "SEENN-II",
            "n": len(test),
            "setting": SETTING.record(),
            "steps": STEPS,
            "accuracy": accuracies(summed, test.labels),
            "macs": costs.macs(trace(policy, test[:2].floats())),
            "ann_macs": subject.macs,
            "sweep": found,
        }
    ]


@torch.no_grad()
def _followed(policy: nn.Module, split: Split, summed: Tensor) -> tuple[Tensor, float]:
    """The steps that a policy chooses, and the accuracy there."""
    chosen = torch.cat([policy(part).argmax(1) for part in split.floats().split(_PART)])
    steps = torch.tensor(CHOICES)[chosen]
    answers = summed.argmax(-1).gather(0, steps[None] - 1)[0]
    return steps, _mean(answers == split.labels)


def trained(network: str, context: Context) -> list[SeennRun]:
    """A small spiking network, trained directly on the data set of a network of the book."""
    subject = context.subject(network)
    train, _ = data.validation_split(data.load(subject.dataset)[0])
    train = train[: context.limit]
    net = direct(train, DIRECT_EPOCHS[network])
    validation, test = subject.validation, subject.test
    with torch.no_grad():
        held, summed = (
            torch.cat([net(part, DIRECT_STEPS) for part in split.floats().split(_PART)], 1)
            for split in (validation, test)
        )
    return [
        {
            "model": network,
            "label": "SEENN-I, trained directly",
            "n": len(test),
            "setting": None,
            "steps": DIRECT_STEPS,
            "accuracy": accuracies(summed, test.labels),
            "macs": 0,
            "ann_macs": None,
            "sweep": sweep(held, validation.labels, summed, test.labels),
        }
    ]


def direct(train: Split, epochs: int, seed: int = 0) -> exits.Direct:
    """Two convolutions and a hidden layer of leaky neurons, trained with a surrogate gradient."""
    torch.manual_seed(seed)
    stages = [
        nn.Conv2d(train.images.shape[1], 16, 5, padding=2),
        nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(16, 32, 5, padding=2)),
        nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.LazyLinear(128)),
    ]
    net = exits.Direct(stages, nn.Linear(128, len(train.classes)), LIF(leak=0.5))
    net.begin(train[:1].floats()).step()  # gives the lazy layer its shape
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    generator, batches = torch.Generator().manual_seed(seed), -(-len(train) // 128)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * batches)
    for _ in range(epochs):
        for rows in torch.randperm(len(train), generator=generator).split(128):
            part = train.take(rows.numpy())
            loss = net.loss(part.floats(), part.labels, DIRECT_STEPS)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net


def _mean(values: Tensor) -> float:
    return float(values.double().mean())


EXPERIMENT = Experiment(
    name="seenn",
    summary="early exits by confidence on summed logits, and by a policy: accuracy, mean steps",
    networks=("digits-cnn", "mnist-cnn", "fashion-cnn", "cifar10-vgg"),
    cells=cells,
)
