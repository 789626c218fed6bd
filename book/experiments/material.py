"""What the experiments of learning train on: images to fit, to choose by and to judge by.

Their rows name a network of the book: its data set is the one trained on, and the network itself
stands beside as the ANN. A quick look (``--limit N``) fits a few images, one epoch, one seed; its
numbers say only that the command runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from book.experiments.frame import SEED, Context, Labeled
from snnlib.learning.loop import Epoch, Plan, cross_entropy
from snnlib.zoo import data, models
from snnlib.zoo.augment import shift_flip
from snnlib.zoo.data import Split

_QUICK = 5  # images to fit for each that a quick look judges


@dataclass(frozen=True)
class Material:
    """Images, kept apart: none of ``fit`` is in ``validation``, and ``test`` reports only."""

    fit: Split
    validation: Split
    test: Split

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width."""
        return tuple(self.fit.images.shape[1:])


class TrainedRow(Labeled):
    """One trained network: n counts its test images."""

    seed: int
    epochs: int
    fitted_images: int
    validation_accuracy: float  # after the last epoch; fractions
    test_accuracy: float
    seconds_per_epoch: float  # of training


def trained_row(
    network: str, label: str, seed: int, images: Material, plan: Plan, history: Sequence[Epoch],
    test_accuracy: float,
) -> TrainedRow:  # fmt: skip
    """The row of a network that `snnlib.learning.loop.fit` trained by a plan."""
    return {
        "model": network,
        "label": label,
        "n": len(images.test),
        "seed": seed,
        "epochs": plan.epochs,
        "fitted_images": len(images.fit),
        "validation_accuracy": history[-1]["validation_accuracy"],
        "test_accuracy": test_accuracy,
        "seconds_per_epoch": sum(epoch["seconds"] for epoch in history) / len(history),
    }


def material(network: str, context: Context, images: int | None = None) -> Material:
    """The images of a network's data set.

    Args:
        network: the name of a network.
        context: whose limit cuts all three.
        images: fit the first so many; None: all.
    """
    train, test = data.load(models.dataset_of(network))
    fit, validation = data.validation_split(train)
    limit = context.limit
    few = images if limit is None else _QUICK * limit
    return Material(fit[:few], validation[:limit], test[:limit])


def plan_for(context: Context, plan: Plan) -> Plan:
    """The plan, or one epoch in small batches for a quick look."""
    if context.limit is None:
        return plan
    return replace(plan, epochs=1, batch=min(plan.batch, _QUICK * context.limit // 2))


def varied(x: Tensor) -> Tensor:
    """Images (B, C, H, W), each mirrored by chance and moved by up to a pixel each way."""
    return shift_flip(x, 1, torch.rand(len(x)) < 0.5, torch.default_generator)


def augmented(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """`cross_entropy` of the images as `varied` makes them."""
    return cross_entropy(network, varied(x), y)


def seeds(context: Context, count: int = 3) -> range:
    """The seeds of a mean; one for a quick look."""
    return range(SEED, SEED + (count if context.limit is None else 1))
