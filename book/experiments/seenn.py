"""``seenn``: how few steps an image needs, by its confidence (SEENN-I) or by a policy (SEENN-II).

On converted networks (AugMapping, 4 levels, negative 0): full runs over all validation and test
images (fewer for thresholds that were not chosen) give summed logits after every step, and from
them every exit is read. ``curves`` has one sweep of the threshold for each score and each *reading*
of the sums: as they are, divided by the steps of a full run (SEENN's), by the steps so far
(`snnlib.SpikingNetwork.decide`'s), or by a temperature a step that validation images give
(`snnlib.recurrent.exits.temperatures`).

Of a curve that threshold is chosen which takes the fewest mean steps within 0.1 points of the ANN,
on validation images; ``best`` is the best of all curves. So are the thresholds of the neurons
(`SETTINGS`), in a cell of their own. That images which exit are no longer computed, and give the
same answers, is the library's (`snnlib.recurrent.exits`); its time is in ``early-exit``.

SEENN-II learns a policy for each price β from training images whose answers after 1, 2, 4 and 8
steps are known; ``macs`` is what the policy adds to every image. ``direct`` trains a small spiking
network directly, with the loss at every step, and reads SEENN-I from it.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import torch
from torch import nn

from book.experiments.exit_curves import (
    Curve,
    Reliability,
    Seen,
    best_of,
    curve,
    mean,
    reliability,
    sweep,
)
from book.experiments.frame import Cell, Context, Experiment, Labeled
from book.experiments.setting import Setting, SettingRecord, Subject
from snnlib.conversion.balance import Percentile
from snnlib.conversion.trace import trace
from snnlib.learning.lif import LIF
from snnlib.neurons import Augmented
from snnlib.recurrent import exits
from snnlib.simulation import costs
from snnlib.simulation.early_exit import Decision
from snnlib.simulation.network import SpikingNetwork
from snnlib.zoo.data import Split

STEPS, NEURON = 8, Augmented(levels=4, negative=0.0)
SETTINGS = {
    f"{q:g} % per {'channel' if per_channel else 'layer'}": Setting(
        NEURON, Percentile(q), per_channel
    )
    for per_channel in (False, True)
    for q in (99, 99.9)
}
PLAIN = "99.9 % per layer"  # the book's usual thresholds, kept beside those that are chosen
CHOICES, BETAS = (1, 2, 4, 8), (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
CHOICE_IMAGES = 1000  # validation images that choose the setting
IMAGES, FEW_IMAGES = (5000, 10_000), (2000, 4000)  # validation and test images; for `PLAIN`
POLICY_IMAGES, POLICY_EPOCHS = 3000, 20
DIRECT = ("digits-cnn", "fashion-cnn")  # whose data set a network is trained on
DIRECT_IMAGES, DIRECT_STEPS = 10_000, 6
DIRECT_EPOCHS = {"digits-cnn": 10, "fashion-cnn": 4}
_PART = 500


class SeennRun(Labeled):
    """The exits of one network."""

    setting: SettingRecord | None  # None: trained directly
    thresholds_of: str  # the neurons' thresholds in words
    steps: int
    ann_accuracy: float | None
    accuracy: list[float]  # of all test images after each step
    least_steps: float  # mean, if each image left at its first right answer: no rule takes fewer
    least_accuracy: float  # the share of images with a right answer at any step
    validation_n: int
    macs: int  # of the policy, an image
    ann_macs: int | None
    best: int | None  # which curve
    curves: list[Curve]
    reliability: list[Reliability]


def cells(network: str) -> list[Cell]:
    """The setting, then SEENN-I, SEENN-II; a directly trained network where images are small."""
    found = [
        Cell(f"{network}/setting", partial(settings, network), "settings_tried"),
        Cell(f"{network}/seenn-1/plain", partial(by_confidence, network, True)),
        Cell(f"{network}/seenn-1", partial(by_confidence, network, False)),
        Cell(f"{network}/seenn-2", partial(by_policy, network)),
    ]
    if network in DIRECT:
        found.append(Cell(f"{network}/direct", partial(trained, network)))
    return found


def see(net: SpikingNetwork, split: Split, steps: int = STEPS) -> Seen:
    """Run a converted network."""
    numbers = torch.arange(1, steps + 1)[:, None, None]
    parts = [
        net(split[i : i + _PART].floats().to(net.device), steps).logits.cpu() * numbers
        for i in range(0, len(split), _PART)
    ]
    return Seen(torch.cat(parts, 1), split.labels)


@torch.no_grad()
def ann_accuracy(subject: Subject, split: Split) -> float:
    right = [
        subject.ann(part.floats().to(subject.device)).argmax(1).cpu() == part.labels
        for part in (split[i : i + _PART] for i in range(0, len(split), _PART))
    ]
    return mean(torch.cat(right))


def settings(network: str, context: Context) -> list[dict[str, Any]]:
    """Which thresholds of the neurons let images leave earliest, on validation images."""
    subject = context.subject(network)
    split = subject.validation[:CHOICE_IMAGES]
    target = ann_accuracy(subject, split)
    found: list[dict[str, Any]] = []
    for name, setting in SETTINGS.items():
        held = see(subject.convert(setting), split)
        curves = sweep(held, held, target)
        best = best_of(curves)
        steps = None
        if best is not None:
            steps = curves[best]["validation_steps"][curves[best]["chosen"] or 0]
        found.append(
            {
                "model": network, "label": name, "n": len(split), "images": "validation",
                "accuracy": held.accuracies(), "ann_accuracy": target, "mean_steps": steps,
                "chosen": False,
            }
        )  # fmt: skip
    good = [row for row in found if row["mean_steps"] is not None] or found
    min(good, key=lambda row: row["mean_steps"] or 0)["chosen"] = True
    return found


def record(
    subject: Subject, label: str, name: str, held: Seen, seen: Seen, curves: list[Curve],
    target: float | None, macs: int = 0,
) -> SeennRun:  # fmt: skip
    """A run, from what was seen of validation and test images; without a name it has no ANN."""
    right = seen.summed.argmax(-1) == seen.labels  # (T, N)
    first = right.int().argmax(0) + 1  # 1 where never: waiting is of no use
    return {
        "model": subject.name,
        "label": label,
        "n": len(seen.labels),
        "setting": SETTINGS[name].record() if name else None,
        "thresholds_of": name,
        "steps": len(seen.summed),
        "ann_accuracy": target,
        "accuracy": seen.accuracies(),
        "least_steps": mean(first),
        "least_accuracy": mean(right.any(0)),
        "validation_n": len(held.labels),
        "macs": macs,
        "ann_macs": subject.macs if name else None,
        "best": best_of(curves),
        "curves": curves,
        "reliability": [] if macs else reliability(held, seen),  # with a policy as for SEENN-I
    }


def chosen_setting(network: str, context: Context) -> str:
    """The setting that validation images have chosen."""
    return next(row["label"] for row in context.rows[f"{network}/setting"] if row["chosen"])


@lru_cache(maxsize=1)
def _runs(subject: Subject, name: str, few: bool) -> tuple[Seen, Seen]:
    """Validation and test images, once for both kinds of exits."""
    net, (validation, test) = subject.convert(SETTINGS[name]), _images(subject, few)
    return see(net, validation), see(net, test)


def _images(subject: Subject, few: bool) -> tuple[Split, Split]:
    held, seen = FEW_IMAGES if few else IMAGES
    return subject.validation[:held], subject.test[:seen]


def by_confidence(network: str, plain: bool, context: Context) -> list[SeennRun]:
    """SEENN-I on a converted network."""
    subject = context.subject(network)
    name = PLAIN if plain else chosen_setting(network, context)
    validation, test = _images(subject, plain)
    held, seen = _runs(subject, name, plain)
    curves = sweep(held, seen, ann_accuracy(subject, validation))
    label = "SEENN-I, usual thresholds" if plain else "SEENN-I"
    return [record(subject, label, name, held, seen, curves, ann_accuracy(subject, test))]


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
    name = chosen_setting(network, context)
    train = subject.training[: POLICY_IMAGES if context.limit is None else context.limit]
    validation, test = _images(subject, False)
    held, seen = _runs(subject, name, False)
    known = see(subject.convert(SETTINGS[name]), train)
    columns = [t - 1 for t in CHOICES]
    right = (known.summed[columns].argmax(-1) == train.labels).T  # (N, K)
    decisions: list[list[Decision]] = [[], []]
    for beta in BETAS:
        torch.manual_seed(0)
        policy = policy_of(train.images.shape[1])
        exits.fit_policy(policy, train.floats(), right, beta=beta, epochs=POLICY_EPOCHS)
        for found, split, there in zip(decisions, (validation, test), (held, seen), strict=True):
            found.append(_followed(policy, split, there))
    target = ann_accuracy(subject, validation)
    curves = [curve("policy", "price", [], list(BETAS), decisions, (held, seen), target)]
    macs, ann = costs.macs(trace(policy, test[:2].floats())), ann_accuracy(subject, test)
    return [record(subject, "SEENN-II", name, held, seen, curves, ann, macs)]


@torch.no_grad()
def _followed(policy: nn.Module, split: Split, seen: Seen) -> Decision:
    """The steps that a policy chooses, and the answers there."""
    chosen = torch.cat([policy(part).argmax(1) for part in split.floats().split(_PART)])
    steps = torch.tensor(CHOICES)[chosen]
    return Decision(steps, seen.summed.argmax(-1).gather(0, steps[None] - 1)[0])


def trained(network: str, context: Context) -> list[SeennRun]:
    """A small spiking network, trained directly on the data set of a network of the book."""
    subject = context.subject(network)
    train = subject.training[: DIRECT_IMAGES if context.limit is None else context.limit]
    net = direct(train, DIRECT_EPOCHS[network], device=context.device)
    held, seen = (see_direct(net, split) for split in (subject.validation, subject.test))
    # There is no ANN: all steps are what an exit is compared with.
    curves = sweep(held, seen, held.accuracies()[-1])
    return [record(subject, "SEENN-I, trained directly", "", held, seen, curves, None)]


@torch.no_grad()
def see_direct(net: exits.Direct, split: Split) -> Seen:
    """Run a directly trained network."""
    parts = split.floats().to(net.theta.device).split(_PART)
    summed = torch.cat([net(part, DIRECT_STEPS) for part in parts], 1)
    return Seen(summed.cpu(), split.labels)


def direct(
    train: Split, epochs: int, seed: int = 0, device: torch.device | str = "cpu"
) -> exits.Direct:
    """Two convolutions and a hidden layer of leaky neurons, trained with a surrogate gradient."""
    torch.manual_seed(seed)
    stages = [
        nn.Conv2d(train.images.shape[1], 16, 5, padding=2),
        nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(16, 32, 5, padding=2)),
        nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.LazyLinear(128)),
    ]
    net = exits.Direct(stages, nn.Linear(128, len(train.classes)), LIF(leak=0.5))
    net.begin(train[:1].floats()).step()  # gives the lazy layer its shape
    net.to(device)
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    generator, batches = torch.Generator().manual_seed(seed), -(-len(train) // 128)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * batches)
    for _ in range(epochs):
        for rows in torch.randperm(len(train), generator=generator).split(128):
            part = train.take(rows.numpy())
            x, labels = part.floats().to(device), part.labels.to(device)
            loss = net.loss(x, labels, DIRECT_STEPS)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net


EXPERIMENT = Experiment(
    name="seenn",
    summary="early exits by confidence on summed logits, and by a policy: accuracy, mean steps",
    networks=("digits-cnn", "mnist-cnn", "fashion-cnn", "cifar10-vgg"),
    cells=cells,
)
