"""Command-line options that say how to convert and simulate, and what objects they stand for."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from snnlib.conversion.balance import Balance
    from snnlib.neurons import Neuron

# Which options belong to which neuron: the others are refused, never ignored.
PARAMETERS = {
    "if": ("v0", "reset"),
    "ternary": ("negative", "v0"),
    "augmented": ("levels", "negative", "v0", "cap"),
}


class UsageError(Exception):
    """Options that do not go together; the message says which and what to do."""


def add_conversion(parser: argparse.ArgumentParser, steps: int, limit: str) -> None:
    """The options that say how to convert and simulate, common to evaluate and verify."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="one of the book's networks, for example digits-cnn")
    add("--checkpoint", metavar="FILE", help="its weights; default: the published ones")
    add("--neuron", choices=tuple(PARAMETERS), default="augmented", help="default: augmented")
    add("--levels", type=int, metavar="K", help="θ = λ/K (augmented; default: 4)")
    add("--negative", type=float, metavar="F",
        help="negative threshold / θ, 0…1 (ternary, augmented; default: 1)")  # fmt: skip
    add("--v0", type=float, metavar="F",
        help="initial potential as a fraction of θ, 0…1 (default: 0.5)")  # fmt: skip
    add("--cap", type=int, metavar="N", help="largest |c| a step (augmented; default: none)")
    add("--reset", choices=("subtract", "zero"), help="(if; default: subtract)")
    add("--balance", choices=("max", "percentile", "minerror"), default="percentile",
        help="threshold balancing (default: percentile); minerror minimises the error of a "
        "quantiser with K × T levels")  # fmt: skip
    add("--percentile", type=float, metavar="Q", help="with --balance percentile (default: 99.9)")
    add("--per-channel", action="store_true", help="one threshold a channel, not one a layer")
    add("--steps", type=int, default=steps, metavar="T", help=f"time steps (default: {steps})")
    add("--limit", type=int, metavar="N", help=f"first N test images (default: {limit})")
    add("--dtype", choices=("float64", "float32", "bfloat16", "float16"), default="float32",
        help="of the weights; potentials are float32 or wider (default: float32)")  # fmt: skip
    add("--device", metavar="D", help="cpu or cuda; default: cuda where it is")
    add("--json", action="store_true", help="print one JSON object")


def neuron_of(options: argparse.Namespace) -> Neuron:
    """The neuron that the options ask for.

    Raises:
        UsageError: an option belongs to another neuron.
        ValueError: a parameter is out of range.
    """
    from snnlib.neurons import NEURONS

    everything = sorted(set().union(*PARAMETERS.values()))
    given = {name: getattr(options, name) for name in everything}
    given = {name: value for name, value in given.items() if value is not None}
    for name in given:
        if name not in PARAMETERS[options.neuron]:
            owners = " or ".join(kind for kind, names in PARAMETERS.items() if name in names)
            raise UsageError(
                f"--{name} does not apply to --neuron {options.neuron}: leave it out, or choose "
                f"--neuron {owners}"
            )
    if options.neuron == "augmented":
        given.setdefault("levels", 4)
    return NEURONS[options.neuron](**given)


def balance_of(options: argparse.Namespace, neuron: Neuron) -> Balance:
    """The threshold balancing that the options ask for.

    Raises:
        UsageError: --percentile without --balance percentile.
        ValueError: the percentile is out of range.
    """
    from snnlib.conversion.balance import Max, MinError, Percentile

    if options.percentile is not None and options.balance != "percentile":
        raise UsageError(
            f"--percentile does not apply to --balance {options.balance}: leave it out, or choose "
            "--balance percentile"
        )
    if options.balance == "max":
        return Max()
    if options.balance == "minerror":
        return MinError(levels=neuron.levels * max(1, options.steps))
    return Percentile(99.9 if options.percentile is None else options.percentile)


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
            raise UsageError(f"--{name} {value}: must be a whole number of at least 1")
