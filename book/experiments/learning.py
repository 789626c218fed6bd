"""What the experiments on training share: images, a short training loop, and what a row says.

Weights are trained on the part of the training images that validation leaves, every choice is made
on validation images, and the test images are answered once, at the end. With a limit (a quick look)
training sees no more images than that, once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from book.experiments.frame import Context, Labeled
from snnlib.zoo import data, models
from snnlib.zoo.data import Split, to_float

Answer = Callable[[Tensor], Tensor]  # images (B, C, H, W) in [0, 1] → logits (B, classes)
Loss = Callable[[Tensor, Tensor], Tensor]  # images and labels (B,) → the loss of a batch

_EVALUATED = 200  # images answered at a time


class Images(NamedTuple):
    """The parts of a data set."""

    fit: Split
    validation: Split
    test: Split

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        c, h, w = self.fit.images.shape[1:]
        return c, h, w


@dataclass(frozen=True)
class Recipe:
    """How long and how fast to train.

    Attributes:
        images: the first so many training images; None: all.
        epochs: passes over them.
        batch: images a step.
        rate: peak learning rate of Adam, in one cycle.
        clip: largest norm of a gradient.
    """

    images: int | None
    epochs: int
    batch: int = 100
    rate: float = 2e-3
    clip: float = 5.0


class Trained(NamedTuple):
    """What a training took."""

    images: int
    epochs: int
    seconds: float  # an epoch
    kept: float  # MB that the backward pass of one batch needs, parameters left out
    batch: int


class Learned(Labeled):
    """A row on one trained network."""

    method: str
    architecture: str
    seed: int
    steps: int  # T
    training_images: int
    epochs: int
    batch: int
    seconds_per_epoch: float
    kept_mb: float  # by autograd for the backward pass of a batch
    validation_accuracy: float
    test_accuracy: float
    spikes_per_neuron: float  # an image, mean


def images(network: str, context: Context) -> Images:
    """The data set that a network of the book is for."""
    train, test = data.load(models.dataset_of(network))
    fit, validation = data.validation_split(train)
    return Images(fit, validation[: context.limit], test[: context.limit])


def cnn(shape: tuple[int, int, int], *widths: int) -> nn.Sequential:
    """Conv–BN–ReLU layers with average pooling after each, then one linear layer."""
    layers: list[nn.Module] = []
    inputs, side = shape[0], shape[1]
    for width in widths:
        layers += [nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
        layers += [nn.ReLU(), nn.AvgPool2d(2)]
        inputs, side = width, side // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs * side * side, 10))


def neurons(shape: tuple[int, int, int], *widths: int) -> int:
    """How many neurons the ReLUs of `cnn` are."""
    return sum(width * (shape[1] >> i) ** 2 for i, width in enumerate(widths))


def train(
    module: nn.Module, loss: Loss, split: Split, recipe: Recipe, seed: int, limit: int | None
) -> Trained:
    """Train in place.

    Args:
        module: whose parameters learn; in training mode meanwhile.
        loss: of a batch.
        split: training images; the first ``recipe.images`` of them are used.
        recipe: how long, how fast.
        seed: of the order of the images.
        limit: of a quick look: so many images, one epoch.
    """
    split = split[: recipe.images][:limit]
    epochs = recipe.epochs if limit is None else 1
    generator = torch.Generator().manual_seed(seed)
    parameters = [p for p in module.parameters() if p.requires_grad]
    device = parameters[0].device
    optimizer = torch.optim.Adam(parameters, recipe.rate)
    batches = -(-len(split) // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, epochs * batches + 1)
    module.train()
    held, seconds = 0.0, 0.0
    for _ in range(epochs):
        began = time.perf_counter()
        for chosen in torch.randperm(len(split), generator=generator).split(recipe.batch):
            x, y = to_float(split.images[chosen]).to(device), split.labels[chosen].to(device)
            if held == 0:
                held = kept(lambda x=x, y=y: loss(x, y), module)  # type: ignore[misc]
                began = time.perf_counter()
            optimizer.zero_grad()
            loss(x, y).backward()
            nn.utils.clip_grad_norm_(parameters, recipe.clip)
            optimizer.step()
            schedule.step()
        seconds += time.perf_counter() - began
    module.eval()
    return Trained(len(split), epochs, seconds / epochs, held, min(recipe.batch, len(split)))


def kept(forward: Callable[[], Tensor], module: nn.Module) -> float:
    """MB that autograd holds between a forward and a backward pass, each storage once."""
    own = {p.untyped_storage().data_ptr() for p in module.parameters()}
    found: dict[int, int] = {}

    def pack(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        result = forward()  # held until all is counted, so that no memory is used twice
    assert result.requires_grad
    return sum(found.values()) / 1e6


def answers(answer: Answer, split: Split, device: torch.device | str = "cpu") -> Tensor:
    """Predicted classes, int64 (n,)."""
    with torch.no_grad():
        parts = split.images.split(_EVALUATED)
        return torch.cat([answer(to_float(part).to(device)).argmax(1).cpu() for part in parts])


def accuracy(answer: Answer, split: Split, device: torch.device | str = "cpu") -> float:
    """Share of the images answered right."""
    return float((answers(answer, split, device) == split.labels).double().mean())


def row(
    network: str, label: str, method: str, architecture: str, seed: int, steps: int,
    trained: Trained, answer: Answer, parts: Images, spikes: Callable[[], float], neurons: int,
    device: torch.device | str = "cpu",
) -> Learned:  # fmt: skip
    """The row of a trained network; answers its validation and test images.

    Args:
        answer: images to logits.
        spikes: an image, of the batch answered last.
        neurons: that can spike.
    """
    counts: list[tuple[int, float]] = []

    def counted(x: Tensor) -> Tensor:
        logits = answer(x)
        counts.append((len(x), spikes()))
        return logits

    validation = accuracy(answer, parts.validation, device)
    test = accuracy(counted, parts.test, device)
    sent = sum(n * s for n, s in counts) / sum(n for n, _ in counts)
    return {
        "model": network,
        "label": label,
        "n": len(parts.test),
        "method": method,
        "architecture": architecture,
        "seed": seed,
        "steps": steps,
        "training_images": trained.images,
        "epochs": trained.epochs,
        "batch": trained.batch,
        "seconds_per_epoch": trained.seconds,
        "kept_mb": trained.kept,
        "validation_accuracy": validation,
        "test_accuracy": test,
        "spikes_per_neuron": sent / neurons,
    }
