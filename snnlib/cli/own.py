"""What a command works on: a network and images, the book's or one's own.

A network is one of the book's by name, ``FILE.py:FUNCTION`` (the file is run, the function called),
or a spiking network in a ``.safetensors`` file. Images are one of the book's data sets by name, a
folder, or an ``.npz`` file (`snnlib.zoo.pictures`). All of them go the same way from here on.

Thresholds never come from an image that is evaluated. A data set has its training images; of other
images some are set aside, and whatever equals one of those is left out. A saved network remembers
the digests of its calibration images for that.
"""

from __future__ import annotations

import argparse
import copy
import sys
import traceback
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from snnlib.cli.options import UsageError, balance_of, device_of, neuron_of, refuse
from snnlib.conversion.balance import Balance
from snnlib.conversion.convert import convert
from snnlib.graph.storage import load
from snnlib.simulation.network import SpikingNetwork
from snnlib.zoo import checkpoints, data, models, pictures
from snnlib.zoo.data import Split
from snnlib.zoo.evaluate import CALIBRATION_IMAGES

_OWN = "_own_network"  # name of the module that a file of one's own becomes
_OF_CONVERSION = (
    *("weights", "calibration", "calibration_images", "neuron", "levels", "negative", "v0", "cap"),
    *("reset", "balance", "percentile", "per_channel"),
)


@dataclass(frozen=True)
class Images:
    """A source of images.

    Attributes:
        name: of the data set, the folder or the file.
        whole: what there is to evaluate.
        training: images for thresholds; None where they have to be taken from the whole.
    """

    name: str
    whole: Split | pictures.Folder
    training: Split | None = None


@dataclass(frozen=True)
class Work:
    """A converted network, and where its thresholds came from.

    Attributes:
        name: of the network.
        net: the spiking network, on the device and in the dtype asked for.
        ann: gives the ANN's answers to images, in float32.
        balance: how its thresholds were balanced; None for a saved network.
        calibration_from: which images set the thresholds, in words.
        known: their digests.
    """

    name: str
    net: SpikingNetwork
    ann: Callable[[Tensor], Tensor]
    balance: Balance | None
    calibration_from: str
    known: list[str]


def images_of(options: argparse.Namespace, labelled: bool = True) -> Images:
    """The images that --data names, or those that a network of the book is for.

    Raises:
        UsageError: none are named, or there is nothing of this name.
        DatasetUnavailable: they cannot be read.
    """
    source = options.data
    if source is None and _kind(options.network) == "book":
        source = models.dataset_of(options.network)
    if source is None:
        raise UsageError(f"{options.network}: say on which images, with --data IMAGES")
    return _read(source, options, labelled)


def converted(options: argparse.Namespace, images: Images | None) -> Work:
    """The spiking network that the options ask for, converted or loaded.

    Args:
        options: of `snnlib.cli.options.add_network` and ``add_conversion``.
        images: those to evaluate; thresholds come from them if no others are named.

    Raises:
        UsageError, ConversionError, DatasetUnavailable, CheckpointError: see the message.
    """
    sources = [source for source in (options.data, options.calibration) if source is not None]
    if not any(Path(source).is_dir() for source in sources):
        refuse(options, "is for folders of pictures: others stay as they are", "size", "channels")
    if not any(source.endswith(".npz") for source in sources):
        refuse(options, "is for .npz files", "layout")
    device, kind = device_of(options.device), _kind(options.network)
    name = options.network if kind == "book" else Path(options.network).name
    if kind == "saved":
        refuse(options, "belongs to a conversion, and this network is converted", *_OF_CONVERSION)
        net = load(options.network, device)
        net = net if options.dtype is None else net.to(getattr(torch, options.dtype))
        known = net.report.get("calibration_digests", "").split()
        origin = net.report.get("calibration_from", "images, when it was converted")
        return Work(name, net, lambda x: net.ann(x.to(net.dtype)), None, origin, known)
    neuron = neuron_of(options)
    balance = balance_of(options, neuron)
    network = _network(options)
    calibration, origin = _calibration(options, images)
    if options.mean is not None or options.std is not None:
        if kind == "book":
            refuse(options, f"is inside {name} already: it takes images in [0, 1]", "mean", "std")
        inside = models.normalization(*_scale(options, calibration.images.shape[1]))
        network = nn.Sequential(OrderedDict(normalize=inside, network=network)).eval()
    network, x = network.to(device), calibration.floats().to(device)
    model = network
    if options.dtype == "float64":  # folded in float64 too, not widened afterwards
        model, x = copy.deepcopy(network).double(), x.double()
    net = convert(model, x, neuron, balance, per_channel=options.per_channel)
    net = net.to(getattr(torch, options.dtype or "float32"))
    return Work(name, net, network, balance, origin, pictures.digests(calibration.images))


def tried(options: argparse.Namespace, images: Images, work: Work) -> tuple[Split, str]:
    """The images to try the network on, none of which set its thresholds; and which they are.

    Raises:
        UsageError: none is left.
    """
    if images.training is not None:
        return images.whole[: options.limit], f"test images of {images.name}"
    most = len(images.whole) if options.limit is None else options.limit + len(work.known)
    chosen = pictures.apart(part := images.whole[:most], work.known)
    while len(chosen) < (options.limit or 0) and most < len(images.whole):  # images that are twice
        most *= 2
        chosen = pictures.apart(part := images.whole[:most], work.known)
    origin = f"images of {images.name}"
    if left := len(part) - len(chosen):
        origin += f" ({left:,} others left out: they set the thresholds)"
    if not len(chosen):
        raise UsageError(f"{images.name}: all of its images set the thresholds, none is left")
    if work.balance is None and (options.mean is not None or options.std is not None):
        mean, std = (torch.tensor(v)[:, None, None] for v in _scale(options, part.images.shape[1]))
        chosen = replace(chosen, images=(chosen.floats() - mean) / std)
    return chosen[: options.limit], origin


def check_classes(images: Images, work: Work) -> None:
    """Raise UsageError unless a folder has as many classes as the network has answers.

    With a class missing, all labels after it would mean another class.
    """
    shape = work.net.graph.shapes[work.net.graph.output]
    classes = images.whole.classes
    if isinstance(images.whole, pictures.Folder) and shape and len(classes) != shape[0]:
        raise UsageError(
            f"{images.name} has {len(classes)} classes, the network answers with {shape[0]}: it "
            "needs a folder for each (an empty one for a class without pictures), named so that "
            "their order is that of the answers"
        )


def _kind(network: str) -> str:
    if network.rpartition(":")[0].endswith(".py"):
        return "own"
    if network.endswith((".pt", ".pth")):
        raise UsageError(f"{network}: weights need their network: FILE.py:FUNCTION --weights FILE")
    if network.endswith(".py"):
        raise UsageError(f"{network}: say which function makes the network: {network}:FUNCTION")
    return "saved" if network.endswith(".safetensors") else "book"


def _read(source: str, options: argparse.Namespace, labelled: bool) -> Images:
    path = Path(source)
    if source in data.NAMES:
        train, test = data.load(source)
        return Images(source, test, data.validation_split(train)[0])
    if path.is_dir():
        return Images(path.name, pictures.Folder(path, options.size, options.channels))
    if path.suffix == ".npz" and path.is_file():
        return Images(path.name, pictures.read_arrays(path, options.layout, labelled))
    raise UsageError(
        f"{source}: no folder, no .npz file and no data set ({', '.join(data.NAMES)}) of this name"
    )


def _calibration(options: argparse.Namespace, images: Images | None) -> tuple[Split, str]:
    """The images that thresholds are balanced on, and which they are."""
    if options.calibration is not None:
        images = _read(options.calibration, options, labelled=False)
    assert images is not None
    asked: int | None = options.calibration_images
    if images.training is not None:
        part = images.training[: asked or CALIBRATION_IMAGES]
        return part, f"training images of {images.name} (validation images left out)"
    share = len(images.whole) // (1 if options.calibration else 5)
    part = images.whole[: asked or min(CALIBRATION_IMAGES, share)]
    if not len(part):
        raise UsageError(f"{images.name} has too few images to set some aside for the thresholds")
    return part, f"images of {images.name}"


def _scale(options: argparse.Namespace, channels: int) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of every channel."""
    found = []
    for name in ("mean", "std"):
        values: list[float] | None = getattr(options, name)
        if values is None:
            raise UsageError("--mean and --std go together")
        if len(values) not in (1, channels):
            raise UsageError(f"--{name} has {len(values)} numbers, the images {channels} channels")
        found.append(values * (channels if len(values) == 1 else 1))
    if min(found[1]) <= 0:
        raise UsageError(f"--std {min(found[1]):g}: must be above 0")
    return found[0], found[1]


def _network(options: argparse.Namespace) -> nn.Module:
    """A network of the book, or what a function in a file of one's own returns."""
    if _kind(options.network) == "book":
        return models.load(options.network, options.weights)
    file, _, function = options.network.rpartition(":")
    module = _guarded(file, lambda: _run(Path(file)))
    make = vars(module).get(function)
    if make is None:
        there = [n for n, v in vars(module).items() if getattr(v, "__module__", None) == _OWN]
        raise UsageError(f"{file} has no {function!r}; it defines {', '.join(there) or 'nothing'}")
    network = make if isinstance(make, nn.Module) else _guarded(file, make)
    if not isinstance(network, nn.Module):
        kind = type(network).__name__
        raise UsageError(f"{options.network} gives a {kind}, not a torch.nn.Module")
    if options.weights is not None:
        tensors = checkpoints.weights(options.weights)
        models.fill(network, tensors, f"{options.weights} does not fit {Path(file).name}")
    return network.float().eval()


def _run(path: Path) -> ModuleType:
    """Run a Python file as ``python FILE`` does; what lies beside it can be imported."""
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file")
    module = sys.modules[_OWN] = ModuleType(_OWN)
    module.__file__ = str(path)
    sys.path.insert(0, str(path.resolve().parent))
    exec(compile(path.read_bytes(), str(path), "exec"), vars(module))
    return module


def _guarded(file: str, action: Callable[[], Any]) -> Any:
    """Run code of the user's own; what it raises becomes one line that says where."""
    try:
        return action()
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if Path(frame.filename).name == Path(file).name]
        where = f", line {lines[-1]}" if lines else ""
        raise UsageError(f"{file}{where}: {type(error).__name__}: {error}") from error
