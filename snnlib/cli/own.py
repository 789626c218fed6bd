"""What a command works on: a network and images, the book's or one's own, all in the same way.

A network is one of the book's by name, ``FILE.py:FUNCTION`` (the file is run, the function called),
or a spiking network in a ``.safetensors`` file. Images are one of the book's data sets by name, a
folder, or an ``.npz`` file (`snnlib.zoo.pictures`).

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

from snnlib import load
from snnlib.backend.copies import unwrapped
from snnlib.cli.options import (
    UsageError,
    balance_of,
    device_of,
    neuron_of,
    readout_of,
    refuse,
)
from snnlib.conversion.balance import Balance
from snnlib.conversion.convert import convert
from snnlib.graph.readout import Readout
from snnlib.simulation.network import SpikingNetwork
from snnlib.zoo import checkpoints, data, models, pictures
from snnlib.zoo.data import Split
from snnlib.zoo.evaluate import CALIBRATION_IMAGES

_OWN = "_own_network"  # name of the module that a file of one's own becomes
_OF_CONVERSION = (
    *("weights", "calibration", "calibration_images", "neuron", "levels", "negative", "v0", "cap"),
    *("reset", "balance", "percentile", "per_channel"),
)


_LEAST_STD = 1e-15  # its square is a number of float32


@dataclass(frozen=True)
class Images:
    """A source of images: all that can be evaluated, and the training images of a data set."""

    name: str
    whole: Split | pictures.Folder
    training: Split | None = None


@dataclass(frozen=True)
class Work:
    """A spiking network and its ANN (float32), how and on which images thresholds were balanced.

    Of a saved network ``balance`` is None; ``known`` are the digests of its calibration images.
    """

    name: str
    net: SpikingNetwork
    ann: Callable[[Tensor], Tensor]
    balance: Balance | None
    calibration_from: str
    known: list[str]


def images_of(options: argparse.Namespace, labeled: bool = True) -> Images:
    """The images that --data names, or those that a network of the book is for.

    Raises:
        UsageError, DatasetUnavailable: none are named or found, or they cannot be read.
    """
    source = options.data
    if source is None and _kind(options.network) == "book":
        source = models.dataset_of(options.network)
    if source is None:
        raise UsageError(f"{options.network}: say on which images, with --data IMAGES")
    return _read(source, options, labeled)


def converted(options: argparse.Namespace, images: Images | None) -> Work:
    """The spiking network that the options ask for, loaded or converted.

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
    device, kind, readout = device_of(options.device), _kind(options.network), readout_of(options)
    name = options.network if kind == "book" else Path(options.network).name
    if kind == "saved":
        return _loaded(options, device, name, readout)
    neuron = neuron_of(options)
    balance = balance_of(options, neuron)
    network = models.load(name, options.weights) if kind == "book" else _own_network(options)
    calibration, origin = _calibration(options, images)
    if kind == "book":
        refuse(options, f"is inside {name} already: it takes images in [0, 1]", "mean", "std")
    if scale := _scale(options, calibration):
        mean, std = scale
        inside = models.normalization(mean, std, eps=0.0)
        network = nn.Sequential(OrderedDict(normalize=inside, network=network)).eval()
    network, x = network.to(device), calibration.floats().to(device)
    model = network
    if options.dtype == "float64":  # folded in float64 too, not widened afterward
        model, x = copy.deepcopy(network).double(), x.double()
    net = convert(model, x, neuron, balance=balance, per_channel=options.per_channel)
    net = net.to(getattr(torch, options.dtype or "float32"))
    net = net if readout is None else net.replace(readout=readout)
    return Work(name, net, network, balance, origin, pictures.digests(calibration.images))


def tried(options: argparse.Namespace, images: Images, work: Work) -> tuple[Split, str]:
    """The images to try the network on, none of which set its thresholds; and which they are.

    Raises:
        UsageError: none is left.
    """
    named = f"{'test ' if images.training is not None else ''}images of {images.name}"
    apart = images.training is not None and options.calibration is None
    if apart and work.balance is not None:  # training images set the thresholds
        return images.whole[: options.limit], named
    most = len(images.whole) if options.limit is None else options.limit + len(work.known)
    chosen = pictures.apart(part := images.whole[:most], work.known)
    while len(chosen) < (options.limit or 0) and most < len(images.whole):  # images that are twice
        most *= 2
        chosen = pictures.apart(part := images.whole[:most], work.known)
    if not len(chosen):
        raise UsageError(f"{images.name}: all of its images set the thresholds, none is left")
    left, origin = len(part) - len(chosen), named
    origin += f" ({left:,} others left out: they set the thresholds)" if left else ""
    scale = _scale(options, chosen)
    if scale and work.balance is None:
        mean, std = (torch.tensor(values)[:, None, None] for values in scale)
        chosen = replace(chosen, images=(chosen.floats() - mean) / std)
    return chosen[: options.limit], origin


def check_classes(images: Images, split: Split, net: SpikingNetwork) -> None:
    """Raise UsageError unless a folder of pictures has the classes that the network answers with.

    Its classes are numbered in the order of their names, whatever the network's mean.
    """
    answers = net.graph.shapes[net.graph.output]
    if not isinstance(images.whole, pictures.Folder) or len(answers) != 1:
        return
    if answers[0] != len(split.classes):
        raise UsageError(
            f"{images.name} has {len(split.classes)} classes, the network answers with "
            f"{answers[0]}: make a folder for each, in their order (an empty one for a class "
            "without pictures), or labels would mean other classes"
        )


def refuse_unseen(options: argparse.Namespace) -> None:
    """Raise UsageError for images that a command would not look at, and what is done to them."""
    if options.network.endswith(".safetensors"):
        reason = "is of no use here: a saved network has its thresholds"
        refuse(options, reason, "data", "mean", "std", "size", "channels", "layout")
    elif options.calibration is not None:
        refuse(options, "is of no use beside --calibration, which sets the thresholds", "data")


def _kind(network: str) -> str:
    if network.rpartition(":")[0].endswith(".py"):
        return "own"
    if network.endswith(".py"):
        raise UsageError(f"{network}: say which function makes the network: {network}:FUNCTION")
    if network.endswith((".pt", ".pth")):
        raise UsageError(f"{network}: weights need their network: FILE.py:FUNCTION --weights FILE")
    return "saved" if network.endswith(".safetensors") else "book"


def _read(source: str, options: argparse.Namespace, labeled: bool) -> Images:
    path = Path(source)
    if source in data.NAMES:
        train, test = data.load(source)
        fit, _ = data.validation_split(train)
        return Images(source, test, fit)
    if path.is_dir():
        return Images(
            path.absolute().name or "images", pictures.Folder(path, options.size, options.channels)
        )
    if path.suffix == ".npz" and path.is_file():
        return Images(path.name, pictures.read_arrays(path, options.layout, labeled))
    raise UsageError(
        f"{source}: no folder, no .npz file and no data set ({', '.join(data.NAMES)}) of this name"
    )


def _calibration(options: argparse.Namespace, images: Images | None) -> tuple[Split, str]:
    """The images that thresholds are balanced on, and which they are."""
    if options.calibration is not None:
        images = _read(options.calibration, options, labeled=False)
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


def _scale(options: argparse.Namespace, split: Split) -> list[list[float]]:
    """Mean and standard deviation of every channel; empty if none are given."""
    channels, given = split.images.shape[1], (options.mean, options.std)
    if given == (None, None):
        return []
    if None in given:
        raise UsageError("--mean and --std go together")
    if wrong := [values for values in given if len(values) not in (1, channels)]:
        raise UsageError(
            f"--mean, --std: {len(wrong[0])} numbers for images of {channels} channels"
        )
    if min(options.std) < _LEAST_STD:
        raise UsageError(f"--std {min(options.std):g}: must be above 0 (at least {_LEAST_STD:g})")
    return [values * (channels // len(values)) for values in given]


def _loaded(
    options: argparse.Namespace, device: torch.device, name: str, readout: Readout | None
) -> Work:
    refuse(options, "belongs to a conversion, and this network is converted", *_OF_CONVERSION)
    net = load(options.network, device=device)
    net = net if options.dtype is None else net.to(getattr(torch, options.dtype))
    net = net if readout is None else net.replace(readout=readout)
    known = str(net.report.get("calibration_digests", "")).split()
    origin = str(net.report.get("calibration_from", "images, when it was converted"))
    return Work(name, net, lambda x: net.ann(x.to(net.dtype)), None, origin, known)


def _own_network(options: argparse.Namespace) -> nn.Module:
    """What the function in a file of one's own returns, with its weights."""
    file, _, function = options.network.rpartition(":")
    names = vars(_guarded(file, lambda: _run(Path(file))))
    if function not in names:
        there = [name for name, v in names.items() if getattr(v, "__module__", None) == _OWN]
        raise UsageError(f"{file} has no {function!r}; it defines {', '.join(there) or 'nothing'}")
    made = names[function]
    network = made if isinstance(made, nn.Module) else _guarded(file, made)
    if not isinstance(network, nn.Module):
        kind = type(network).__name__
        raise UsageError(f"{options.network} gives {kind}, no torch.nn.Module")
    network = unwrapped(network)
    if any(value.is_meta for value in (*network.parameters(), *network.buffers())):
        raise UsageError(f"{options.network} is on meta, without values: make it on the CPU")
    if options.weights is not None:
        names = network.state_dict().keys()
        tensors = checkpoints.bare(checkpoints.weights(options.weights), names)
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
