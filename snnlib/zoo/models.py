"""The book's networks: plain stacks of named layers that take images in [0, 1].

Every network is a :class:`Network`, a chain of named children, so a layer is called by a name that
can be read: ``relu1``, ``conv2``, ``block3.relu2``. They use what converts exactly: ReLU
everywhere, batch norm (folded by the conversion), average pooling. ``cifar10-vgg-max`` has max
pooling instead, to show that it converts too.

>>> ann = load("digits-cnn")
>>> round(ann.metadata["test_accuracy"], 2) > 0.95
True

Trained by `snnlib.zoo.train`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from snnlib.graph.errors import CheckpointError
from snnlib.zoo import checkpoints


class Network(nn.Sequential):
    """A chain of named layers with the record of its training.

    Attributes:
        metadata: empty for a fresh network; for a loaded one what the checkpoint says:
            architecture, dataset, recipe, validation_accuracy, test_accuracy, seed, command,
            versions, hardware, seconds.
    """

    metadata: dict[str, Any]

    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        self.metadata = {}
        for name, layer in layers.items():
            self.add_module(name, layer)


class Residual(nn.Module):
    """Two convolutions beside an identity: ReLU(BN(W₂ · ReLU(BN(W₁ · x))) + x).

    The identity carries spikes as they are: a residual sum of spiking layers needs no rescaling,
    because every layer sends in the units of the ANN (He et al., 2016; chapter *Converting a
    network*).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = _conv(width, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = _conv(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) → the same shape."""
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu2(y + x)


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


def _unit(i: int, conv: nn.Conv2d) -> dict[str, nn.Module]:
    """The i-th convolution with its batch norm and ReLU, by name."""
    return {f"conv{i}": conv, f"bn{i}": nn.BatchNorm2d(conv.out_channels), f"relu{i}": nn.ReLU()}


def _mean_head(width: int) -> dict[str, nn.Module]:
    """The mean over positions, then one linear layer."""
    return {"mean": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": nn.Linear(width, 10)}


def _dense_head(inputs: int, hidden: int, dropout: float, relu: int) -> dict[str, nn.Module]:
    """Two linear layers; ``relu`` is the number of the ReLU between them."""
    return {
        "flatten": nn.Flatten(),
        "fc1": nn.Linear(inputs, hidden),
        f"relu{relu}": nn.ReLU(),
        "dropout": nn.Dropout(dropout),
        "fc2": nn.Linear(hidden, 10),
    }


def _mlp(pixels: int, *hidden: int, dropout: float, norm: bool = False) -> Network:
    layers: dict[str, nn.Module] = {"flatten": nn.Flatten()}
    inputs = pixels
    for i, width in enumerate(hidden, 1):
        layers[f"fc{i}"] = nn.Linear(inputs, width, bias=not norm)
        if norm:
            layers[f"bn{i}"] = nn.BatchNorm1d(width)
        layers[f"relu{i}"] = nn.ReLU()
        layers[f"dropout{i}"] = nn.Dropout(dropout)
        inputs = width
    layers[f"fc{len(hidden) + 1}"] = nn.Linear(inputs, 10)
    return Network(**layers)


def _cnn(
    channels: int,
    *stages: tuple[int, ...],
    pool: Callable[[int], nn.Module] = nn.AvgPool2d,
    normalize: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
) -> Network:
    """Conv–BN–ReLU layers in stages of halving resolution, then the mean over positions."""
    layers, width = _stages(channels, *stages, pool=pool, normalize=normalize)
    return Network(**layers, **_mean_head(width))


def _dense(
    channels: int, *stages: tuple[int, ...], hidden: int, side: int, dropout: float
) -> Network:
    """The stages of `_cnn`, then a pooling and two linear layers instead of a mean over positions.

    A dense layer learns to live with noise at single positions, where the mean over positions adds
    up what all of them got wrong in the same direction: so it suits single spikes better.
    """
    layers, width = _stages(channels, *stages)
    relus = sum(len(widths) for widths in stages)
    layers[f"pool{len(stages)}"] = nn.AvgPool2d(2)
    inputs = width * (side >> len(stages)) ** 2
    return Network(**layers, **_dense_head(inputs, hidden, dropout, relus + 1))


def _stages(
    channels: int,
    *stages: tuple[int, ...],
    pool: Callable[[int], nn.Module] = nn.AvgPool2d,
    normalize: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
) -> tuple[dict[str, nn.Module], int]:
    """The layers of `_cnn` up to the last ReLU, by name, and the number of its channels.

    Args:
        channels: channels of the image.
        stages: for each resolution the widths of its layers.
        pool: what stands between two stages.
        normalize: mean and standard deviation a channel, subtracted and divided inside.
    """
    layers: dict[str, nn.Module] = {}
    if normalize:
        layers["normalize"] = normalization(*normalize)
    inputs, i = channels, 0
    for s, widths in enumerate(stages, 1):
        for width in widths:
            i += 1
            layers |= _unit(i, _conv(inputs, width))
            inputs = width
        if s < len(stages):
            layers[f"pool{s}"] = pool(2)
    return layers, inputs


def _lenet(channels: int, *widths: int, hidden: int, side: int, dropout: float) -> Network:
    """5×5 convolutions, each followed by a pooling, then two linear layers (LeCun et al., 1998).

    Few layers and a dense one at the end: the unevenness of single spikes has little depth to grow
    in, so even plain integrate-and-fire neurons reach the ANN in some tens of steps.
    """
    layers: dict[str, nn.Module] = {}
    inputs = channels
    for i, width in enumerate(widths, 1):
        layers |= _unit(i, nn.Conv2d(inputs, width, 5, padding=2, bias=False))
        layers[f"pool{i}"] = nn.AvgPool2d(2)
        inputs, side = width, side // 2
    head = _dense_head(inputs * side * side, hidden, dropout, len(widths) + 1)
    return Network(**layers, **head)


def _resnet(
    channels: int,
    stem: int,
    *widths: int,
    normalize: tuple[tuple[float, ...], tuple[float, ...]],
) -> Network:
    """A first convolution; then stages that widen, halve the resolution and add a residual block.

    The form of the small residual networks that train fast on CIFAR-10 (Page, 2018), at half their
    width, with average pooling and a residual block at every resolution.
    """
    layers, inputs = _stages(channels, (stem,), normalize=normalize)
    for i, width in enumerate(widths, 2):
        layers |= _unit(i, _conv(inputs, width))
        layers[f"pool{i}"] = nn.AvgPool2d(2)
        layers[f"block{i}"] = Residual(width)
        inputs = width
    return Network(**layers, **_mean_head(inputs))


def normalization(mean: Sequence[float], std: Sequence[float], eps: float = 1e-9) -> nn.BatchNorm2d:
    """(x − mean) / √(std² + eps) as a batch norm without weights, of statistics that stay."""
    layer = nn.BatchNorm2d(len(mean), eps=eps, momentum=0.0, affine=False)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    layer.running_mean.copy_(torch.tensor(mean))
    layer.running_var.copy_(torch.tensor(std, dtype=torch.float64).square())
    return layer


# Mean and standard deviation of CIFAR-10's training pixels (a test recomputes them).
CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))

VGG = ((32, 64), (64, 192), (192, 256), (256,))

_MODELS: dict[str, tuple[str, Callable[[], Network]]] = {
    "digits-cnn": ("digits", lambda: _cnn(1, (8,), (16,), (32,))),
    "mnist-mlp": ("mnist", lambda: _mlp(784, 1200, 1200, dropout=0.25)),
    "mnist-cnn": ("mnist", lambda: _lenet(1, 32, 64, hidden=128, side=28, dropout=0.4)),
    "fashion-mlp": ("fashion_mnist", lambda: _mlp(784, 800, 800, dropout=0.3, norm=True)),
    "fashion-cnn": (
        "fashion_mnist",
        lambda: _dense(1, (32, 64), (96, 128), hidden=128, side=28, dropout=0.3),
    ),
    "cifar10-vgg": ("cifar10", lambda: _cnn(3, *VGG, normalize=CIFAR10)),
    "cifar10-vgg-max": ("cifar10", lambda: _cnn(3, *VGG, pool=nn.MaxPool2d, normalize=CIFAR10)),
    "cifar10-resnet": ("cifar10", lambda: _resnet(3, 32, 64, 128, 256, normalize=CIFAR10)),
}
NAMES = tuple(_MODELS)


def create(name: str) -> Network:
    """A fresh network of this architecture, with PyTorch's random initial weights.

    Raises:
        ValueError: there is no architecture of this name.
    """
    _, make = _lookup(name)
    return make()


def dataset_of(name: str) -> str:
    """The name of the data set that the network is for, as :func:`snnlib.data.load` takes it."""
    dataset, _ = _lookup(name)
    return dataset


def load(name: str, path: str | Path | None = None) -> Network:
    """A trained network in eval mode, float32, with the record of its training in ``.metadata``.

    Args:
        name: one of :data:`NAMES`.
        path: a checkpoint file; by default it is looked for where
            :func:`snnlib.checkpoints.find` says.

    Raises:
        ValueError: there is no architecture of this name.
        CheckpointError: no checkpoint; or one that is damaged, or of another network.
    """
    network = create(name)
    where = Path(path) if path is not None else checkpoints.find(name)
    tensors, metadata = checkpoints.read(where)
    if metadata["architecture"] != name:
        raise CheckpointError(
            f"{where} holds the weights of {metadata['architecture']!r}, not of {name!r}. "
            f"Load it by its own name, or train {name}: snnlib train {name}"
        )
    fill(network, tensors, f"{where} does not fit the architecture {name!r} of this version")
    network.metadata = metadata
    return network.eval()


def fill(network: nn.Module, tensors: Mapping[str, Tensor], complaint: str) -> None:
    """Give a network its weights; float16 is widened on the way in.

    Args:
        network: changed in place.
        tensors: its state dict.
        complaint: how the message begins if they do not fit.

    Raises:
        CheckpointError: a name is absent on one side, a shape differs, or it has no plain values.
    """
    own = network.state_dict()
    lazy = {name for name, value in own.items() if is_lazy(value)}  # these take any shape
    there, here = (
        {name: () if name in lazy else tuple(value.shape) for name, value in held.items()}
        for held in (tensors, own)
    )
    strange = sorted(name for name in there | here if there.get(name) != here.get(name))
    if strange:
        told = "; ".join(
            f"{name} is {there.get(name, 'absent')} there, {here.get(name, 'absent')} here"
            for name in strange[:3]
        )
        raise CheckpointError(f"{complaint}: {len(strange)} tensors differ, such as {told}")
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:  # sparse, or on meta
        raise CheckpointError(f"{complaint}: {error}") from None


def _lookup(name: str) -> tuple[str, Callable[[], Network]]:
    if name not in _MODELS:
        close = difflib.get_close_matches(str(name).lower().replace("_", "-"), NAMES, 1, 0.4)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"There is no network {name!r}.{hint} Choose one of {', '.join(NAMES)}.")
    return _MODELS[name]
