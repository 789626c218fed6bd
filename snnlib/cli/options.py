"""Command-line options that say how to convert and simulate, and what objects they stand for."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from snnlib.conversion.balance import Balance
    from snnlib.graph.readout import Readout
    from snnlib.neurons import Neuron

# Which options belong to which neuron: the others are refused, never ignored.
PARAMETERS = {
    "if": ("v0", "reset"),
    "ternary": ("negative", "v0"),
    "augmented": ("levels", "negative", "v0", "cap"),
}


class UsageError(Exception):
    """Options that do not go together; the message says which and what to do."""


def add_network(parser: argparse.ArgumentParser) -> None:
    """The options that say which network, which images, and how those become its input."""
    add = parser.add_argument
    text = """one of the book's, for example digits-cnn; FILE.py:FUNCTION, which returns yours (the
        file is run: know what is in it); or a saved net.safetensors"""
    add("network", metavar="NETWORK", help=text)
    text = """its weights, .safetensors, .pt or .pth (default: the published ones, or those that the
        function gives it)"""
    add("--weights", "--checkpoint", metavar="FILE", help=text)
    text = """a folder that holds one folder of pictures a class; an .npz file with images and
        labels; or the name of a data set (default: that of a network of the book)"""
    add("--data", metavar="IMAGES", help=text)
    text = """images for the thresholds, like --data (default: the training images of a data set; of
        other images a fifth, at most 1,000, which is then not evaluated)"""
    add("--calibration", metavar="IMAGES", help=text)
    add("--calibration-images", type=int, metavar="N", help="how many of them")
    text = "what your network wants subtracted from images in [0, 1], one number or one a channel"
    add("--mean", type=numbers, metavar="M,...", help=text)
    add("--std", type=numbers, metavar="S,...", help="and what they are divided by then")
    add("--size", type=size, metavar="HxW", help="scale pictures of a folder to this size")
    text = "read pictures of a folder as gray or as RGB (default: gray if all are)"
    add("--channels", type=int, choices=(1, 3), help=text)
    text = "of the images of an .npz file (default: as their shape shows)"
    add("--layout", choices=("nchw", "nhwc"), help=text)


def add_conversion(parser: argparse.ArgumentParser, steps: int, runs: bool = True) -> None:
    """The options that say how to convert and on which device."""
    add = parser.add_argument
    add("--neuron", choices=tuple(PARAMETERS), help="default: augmented")
    add("--levels", type=int, metavar="K", help="θ = λ/K (augmented; default: 4)")
    text = "negative threshold / θ, 0…1 (ternary, augmented; default: 1)"
    add("--negative", type=float, metavar="F", help=text)
    text = "initial potential as a fraction of θ, 0…1 (default: 0.5)"
    add("--v0", type=float, metavar="F", help=text)
    add("--cap", type=int, metavar="N", help="largest |c| a step (augmented; default: none)")
    add("--reset", choices=("subtract", "zero"), help="(if; default: subtract)")
    text = """threshold balancing (default: percentile); minerror minimizes the error of a quantizer
        with K × T levels"""
    add("--balance", choices=("max", "percentile", "minerror"), help=text)
    add("--percentile", type=float, metavar="Q", help="with --balance percentile (default: 99.9)")
    add("--per-channel", action="store_true", help="one threshold a channel, not one a layer")
    text = "time steps" if runs else "time steps that minerror and --answer-from are for"
    add("--steps", type=int, default=steps, metavar="T", help=f"{text} (default: {steps})")
    text = """first step that counts for the answer; choose it on other images than those evaluated
        (default: 1, or as saved)"""
    add("--answer-from", type=int, metavar="S", help=text)
    text = """of the weights; potentials are float32 or wider (default: float32, or as saved)"""
    add("--dtype", choices=("float64", "float32", "bfloat16", "float16"), help=text)
    add("--device", metavar="D", help="cpu or cuda; default: cuda where it is")


def numbers(text: str) -> list[float]:
    """``0.5`` or ``0.49,0.48,0.45``."""
    found = [float(word) for word in text.split(",")]
    if not all(map(math.isfinite, found)):
        raise ValueError(text)
    return found


def size(text: str) -> tuple[int, int]:
    """``32`` or ``32x48``: height and width."""
    height, both, width = text.partition("x")
    found = int(height), int(width if both else height)
    if min(found) < 1:
        raise ValueError(text)
    return found


def refuse(options: argparse.Namespace, reason: str, *names: str) -> None:
    """Raise UsageError if one of these options was given."""
    for name in names:
        value = getattr(options, name)
        if value is not None and value is not False:  # 0 was given
            raise UsageError(f"--{name.replace('_', '-')} {reason}")


def neuron_of(options: argparse.Namespace) -> Neuron:
    """The neuron that the options ask for.

    Raises:
        UsageError: an option belongs to another neuron.
        ValueError: a parameter is out of range.
    """
    from snnlib.neurons import NEURONS

    kind = options.neuron or "augmented"
    everything = sorted(set().union(*PARAMETERS.values()))
    given = {name: getattr(options, name) for name in everything}
    given = {name: value for name, value in given.items() if value is not None}
    for name in given:
        if name not in PARAMETERS[kind]:
            owners = " or ".join(other for other, names in PARAMETERS.items() if name in names)
            raise UsageError(
                f"--{name} does not apply to --neuron {kind}: leave it out, or choose --neuron "
                f"{owners}"
            )
    if kind == "augmented":
        given.setdefault("levels", 4)
    return NEURONS[kind](**given)


def balance_of(options: argparse.Namespace, neuron: Neuron) -> Balance:
    """The threshold balancing that the options ask for.

    Raises:
        UsageError: --percentile without --balance percentile.
        ValueError: the percentile is out of range.
    """
    from snnlib.conversion.balance import Max, MinError, Percentile

    if options.percentile is not None and options.balance not in (None, "percentile"):
        raise UsageError(
            f"--percentile does not apply to --balance {options.balance}: leave it out, or choose "
            "--balance percentile"
        )
    if options.balance == "max":
        return Max()
    if options.balance == "minerror":
        return MinError(levels=neuron.levels * max(1, options.steps))
    return Percentile(99.9 if options.percentile is None else options.percentile)


def readout_of(options: argparse.Namespace) -> Readout | None:
    """How the options want the answer to be read; None: they leave that open.

    Raises:
        UsageError: --answer-from is no step of the run.
    """
    from snnlib.graph.readout import Mean

    if options.answer_from is None:
        return None
    if not 1 <= options.answer_from <= options.steps:
        raise UsageError(
            f"--answer-from {options.answer_from}: must be a step from 1 to {options.steps} "
            "(--steps)"
        )
    return Mean(options.answer_from)


def device_of(name: str | None) -> torch.device:
    """The device of this name; without a name CUDA where there is one, else the CPU.

    Raises:
        UsageError: there is no such device here.
    """
    from snnlib.zoo import distributed

    try:
        return distributed.device(name)
    except ValueError as error:
        raise UsageError(f"--{error}") from error


def check_positive(options: argparse.Namespace, *names: str) -> None:
    """Raise UsageError unless each of these options is absent or at least 1."""
    for name in names:
        value = getattr(options, name, None)
        if value is not None and value < 1:
            option = name.replace("_", "-")
            raise UsageError(f"--{option} {value}: must be a whole number of at least 1")
