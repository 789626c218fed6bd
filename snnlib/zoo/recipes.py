"""How each of the book's networks is trained: one line of numbers a network.

All were chosen on the validation part of the training data; the test set plays no part.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result besides data, architecture and seed.

    Attributes:
        epochs: passes over the training images.
        batch: images a step.
        rate: peak learning rate of SGD with Nesterov momentum. It rises linearly over the first
            ``warmup`` share of the steps and falls to zero along a half cosine (one cycle).
        momentum: of SGD.
        decay: weight decay; of weights only, never of biases and batch-norm parameters.
        smoothing: label smoothing.
        average: share of the old value in the running average of the weights, per step; 0 is none.
        flip: mirror left to right, in turns from epoch to epoch rather than by chance, so that any
            two epochs show both sides (Jordan, 2024).
        shift: largest displacement in pixels.
        degrees: largest rotation and shear; 0 is none.
        scale: largest relative change of size, with ``degrees``.
        cutout: side of the gray square in pixels; 0 is none.
        start: the network, or the checkpoint file, whose trained weights it starts from; empty is
            random weights.
        teachers: trained networks of the same data set; empty is none. Half of the loss is then the
            divergence from the teachers' answers, their mean of log-probabilities, to the same
            augmented images, at temperature 2 (Hinton, Vinyals and Dean, 2015).
    """

    epochs: int
    batch: int = 128
    rate: float = 0.1
    momentum: float = 0.9
    decay: float = 5e-4
    warmup: float = 0.2
    smoothing: float = 0.0
    average: float = 0.0
    flip: bool = False
    shift: int = 0
    degrees: float = 0.0
    scale: float = 0.0
    cutout: int = 0
    start: str = ""
    teachers: tuple[str, ...] = ()


_CIFAR = Recipe(epochs=32, rate=0.15, smoothing=0.1, average=0.998, flip=True, shift=3, cutout=8)
RECIPES: dict[str, Recipe] = {
    "digits-cnn": Recipe(
        epochs=40, batch=64, rate=0.1, smoothing=0.05, average=0.98, shift=2, degrees=8, scale=0.08
    ),
    "mnist-cnn": Recipe(
        epochs=14, rate=0.1, smoothing=0.05, average=0.998, shift=2, degrees=12, scale=0.12
    ),
    "mnist-mlp": Recipe(
        epochs=20,
        rate=0.05,
        decay=2e-4,
        smoothing=0.05,
        average=0.998,
        shift=1,
        degrees=8,
        scale=0.08,
    ),
    "fashion-cnn": Recipe(
        epochs=20, rate=0.1, smoothing=0.1, average=0.998, flip=True, shift=2, cutout=8
    ),
    # Validation without batch norm: 90.9 % after 36 epochs; with flips and shifts 88.8 %.
    "fashion-mlp": Recipe(epochs=30, rate=0.1, smoothing=0.1, average=0.998),
    "cifar10-vgg": _CIFAR,
    # The same layers with another pooling: the trained weights are most of the way there.
    # Two epochs at a peak rate of 0.03, without a teacher, gave 93.1 % on validation.
    "cifar10-vgg-max": replace(
        _CIFAR, epochs=8, rate=0.1, start="cifar10-vgg", teachers=("cifar10-vgg",)
    ),
    "cifar10-resnet": replace(_CIFAR, epochs=24),
}

# A further cycle from a checkpoint. The two teachers together have 94.5 % on validation.
_FURTHER = replace(_CIFAR, epochs=14, rate=0.1, teachers=("cifar10-vgg", "cifar10-resnet"))
FURTHER: dict[str, Recipe] = {"cifar10-vgg-max": _FURTHER, "cifar10-resnet": _FURTHER}
