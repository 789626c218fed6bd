"""What the experiments on small trained networks share: training one, and what its row says.

A network here is any module from images (B, C, H, W) in [0, 1] to logits (B, classes). Adam trains
it in one cycle of the rate (`snnlib.learning.loop`); validation images choose, and the test images
are answered once, at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from book.experiments.frame import Context
from book.experiments.material import Material, TrainedRow, plan_for
from snnlib.learning.loop import Loss, Plan, cross_entropy, fit, kept_bytes
from snnlib.zoo.data import Split, to_float
from snnlib.zoo.training import accuracy

_EVALUATED = 200  # images answered at a time


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to train.

    Attributes:
        plan: epochs, batch, clipping.
        rate: peak learning rate of Adam.
        images: the first so many training images; None: all.
    """

    plan: Plan
    rate: float
    images: int | None = None


class Trained(NamedTuple):
    """What a training took."""

    images: int
    epochs: int
    seconds: float  # an epoch, mean
    kept: float  # MB that autograd keeps for the backward pass of a batch
    batch: int


class Learned(TrainedRow):
    """A row on one trained network."""

    method: str
    architecture: str
    steps: int  # T
    kept_megabytes: float  # by autograd, for the backward pass of a batch
    kept_batch: int
    spikes_per_neuron: float  # an image, mean over test images


def cnn(shape: tuple[int, ...], *widths: int) -> nn.Sequential:
    """Conv–BN–ReLU layers with average pooling after each, then one linear layer."""
    layers: list[nn.Module] = []
    inputs, side = shape[0], shape[1]
    for width in widths:
        layers += [nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
        layers += [nn.ReLU(), nn.AvgPool2d(2)]
        inputs, side = width, side // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs * side * side, 10))


def neurons(shape: tuple[int, ...], *widths: int) -> int:
    """How many neurons the ReLUs of `cnn` are."""
    return sum(width * (shape[1] >> i) ** 2 for i, width in enumerate(widths))


def train(
    network: nn.Module,
    images: Material,
    recipe: Recipe,
    seed: int,
    context: Context,
    name: str,
    loss: Loss = cross_entropy,
) -> Trained:
    """Train in place.

    Args:
        network: whose parameters learn.
        images: the first ``recipe.images`` training images are used, and those of validation.
        recipe: how long, how fast.
        seed: of the order of the images.
        context: whose limit makes it a quick look.
        name: of the training, unlike any other of the experiment: its state is kept under it.
        loss: of the network on a batch.
    """
    split, plan = images.fit[: recipe.images], plan_for(context, recipe.plan)
    plan = replace(plan, batch=min(plan.batch, len(split)))
    learned = [p for p in network.parameters() if p.requires_grad]
    batch, device = split[: plan.batch], learned[0].device
    x, y = batch.floats().to(device), batch.labels.to(device)
    kept = kept_bytes(lambda: loss(network.train(), x, y))
    history = fit(
        network, torch.optim.Adam(learned, recipe.rate), split, images.validation, plan,
        seed=seed, loss=loss, state=context.state(name), label=name, progress=context.progress,
    )  # fmt: skip
    seconds = sum(epoch["seconds"] for epoch in history) / len(history)
    return Trained(len(split), plan.epochs, seconds, kept / 1e6, plan.batch)


def mean_of(rows: Sequence[Mapping[str, Any]], key: str, **wanted: Any) -> float | None:
    """The mean of a number over the rows that have these values; None: there are none."""
    found = [row[key] for row in rows if wanted.items() <= row.items()]
    return mean(found) if found else None


def preferred(rows: Iterable[Mapping[str, Any]]) -> Any:
    """The row that validation images prefer, the first of equals; None: there is none."""
    return max(rows, key=lambda row: row["validation_accuracy"], default=None)


def differ(a: float | None, b: float | None) -> float | None:
    """a − b, where there are both; a multiple of what an image counts stays one."""
    return None if a is None or b is None else round(a - b, 6)


def answers(network: nn.Module, split: Split, then: Callable[[int], None] | None = None) -> Tensor:
    """Predicted classes, int64 (n,); ``then`` hears of every batch's size after its answer."""
    device, found = next(network.parameters()).device, []
    with torch.inference_mode():
        for part in split.images.split(_EVALUATED):
            found.append(network(to_float(part).to(device)).argmax(1).cpu())
            if then is not None:
                then(len(part))
    return torch.cat(found)


def row(
    network: str, label: str, method: str, architecture: str, seed: int, steps: int,
    trained: Trained, module: nn.Module, images: Material, spikes: Callable[[], float],
    neurons: int,
) -> Learned:  # fmt: skip
    """The row of a trained network; answers its validation and test images.

    Args:
        network: of the book, whose data set it is trained on.
        label: as tables call it.
        method: the same in one word.
        architecture: of the trained network.
        seed: of its first weights and order of images.
        steps: T.
        trained: what the training took.
        module: the trained network.
        images: as it was trained with.
        spikes: an image, of the batch answered last.
        neurons: that can spike.
    """
    validation = accuracy(module, images.validation, batch=_EVALUATED)
    sent = 0.0

    def count(batch: int) -> None:
        nonlocal sent
        sent += batch * spikes()

    test = answers(module, images.test, count)
    return {
        "model": network,
        "label": label,
        "n": len(images.test),
        "method": method,
        "architecture": architecture,
        "seed": seed,
        "steps": steps,
        "epochs": trained.epochs,
        "fitted_images": trained.images,
        "validation_accuracy": validation,
        "test_accuracy": float((test == images.test.labels).double().mean()),
        "seconds_per_epoch": trained.seconds,
        "kept_megabytes": trained.kept,
        "kept_batch": trained.batch,
        "spikes_per_neuron": sent / len(images.test) / neurons,
    }
