"""``snnlib evaluate``: accuracy after every time step beside the ANN's, with what each costs."""

from __future__ import annotations

import argparse
import copy
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snnlib.cli.options import add_conversion, balance_of, check_positive, device_of, neuron_of

if TYPE_CHECKING:
    from snnlib.conversion.balance import Balance
    from snnlib.neurons import Neuron
    from snnlib.simulation.coding import Coding
    from snnlib.simulation.network import SpikingNetwork

SUMMARY = "accuracy after every time step beside the ANN's, with what each costs"
EXAMPLES = """
  snnlib evaluate digits-cnn
  snnlib evaluate mnist-cnn --neuron augmented --levels 8 --negative 0 --steps 4
  snnlib evaluate mnist-cnn --neuron if --steps 64 --limit 1000
  snnlib evaluate mnist-cnn --neuron ternary --balance max --v0 0 --steps 32 --json
  snnlib evaluate mnist-cnn --negative 0 --steps 32 --only-last
  snnlib evaluate digits-cnn --input bernoulli --seed 1 --steps 64
  snnlib evaluate mnist-cnn --neuron if --steps 64 --output book/results/mnist-cnn-if.json

Thresholds are balanced on the first 1,000 images of the training set without its validation
images; the numbers are of the test set. Costs are means an image, summed over the steps: an event
is a neuron that sent something (a -1 included), spikes are the sum of |c|, a SynOp is an event at
a synapse, energy is arithmetic at 45 nm without memory traffic."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_conversion(parser, steps=8, limit="all")
    add = parser.add_argument
    add("--input", choices=("constant", "bernoulli"), default="constant",
        help="the image as a current, or random spikes (default: constant)")  # fmt: skip
    add("--batch", type=int, metavar="B", help="images simulated together (default: automatic)")
    add("--seed", type=int, default=0, metavar="S", help="of --input bernoulli (default: 0)")
    add("--quiet", action="store_true", help="no progress bar")
    add("--only-last", action="store_true",
        help="step T alone, no costs; with --negative 0 as fast as one ANN pass")  # fmt: skip
    add("--output", metavar="FILE", help="also write the result, its commit and command as JSON")


def converted(
    options: argparse.Namespace, neuron: Neuron, balance: Balance, train: Any
) -> tuple[Any, SpikingNetwork]:
    """The ANN in float32, and the spiking network in the dtype asked for, both on the device."""
    import torch

    from snnlib import convert
    from snnlib.zoo import models
    from snnlib.zoo.evaluate import calibration_images

    device = device_of(options.device)
    ann = models.load(options.model, options.checkpoint).to(device)
    images = calibration_images(train).to(device)
    model = ann
    if options.dtype == "float64":  # folded in float64 too, not widened afterwards
        model, images = copy.deepcopy(ann).double(), images.double()
    net = convert(model, images, neuron, balance, per_channel=options.per_channel)
    return ann, net.to(getattr(torch, options.dtype))


def execute(options: argparse.Namespace) -> None:
    """Run the command."""
    from snnlib.simulation.coding import Bernoulli, Constant
    from snnlib.zoo import data, distributed, models
    from snnlib.zoo.evaluate import evaluate, report, table

    check_positive(options, "steps", "limit", "batch")
    options.device = distributed.device(options.device)
    neuron = neuron_of(options)
    balance = balance_of(options, neuron)
    dataset = models.dataset_of(options.model)
    train, test = data.load(dataset)
    ann, net = converted(options, neuron, balance, train)
    coding: Coding = Bernoulli(options.seed) if options.input == "bernoulli" else Constant()
    with distributed.together():
        found = evaluate(
            net, ann, test[: options.limit], options.steps, coding, options.batch,
            options.only_last, progress=not options.quiet,
        )  # fmt: skip
    if distributed.rank() > 0:  # process 0 speaks for all
        return
    result = report(found, net, options.model, dataset, options.steps, coding, balance)
    if options.output:
        _write(Path(options.output), options.arguments, result)
    print(json.dumps(result) if options.json else table(result))


def _write(path: Path, arguments: list[str], result: dict[str, Any]) -> None:
    """A results file: what was measured, by which command, when, on what."""
    from datetime import UTC, datetime

    from snnlib.deploy.files import write_bytes
    from snnlib.zoo import provenance
    from snnlib.zoo.evaluate import LABELS

    shown = [path.name if Path(word) == path.absolute() else word for word in arguments]
    record = {
        "command": shlex.join(["snnlib", *shown]),
        "commit": provenance.commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        **{key: result[key] for key in ("n", "seed", "hardware", "versions", "seconds")},
        "runs": [{"label": LABELS[result["neuron"]], **result}],
    }
    write_bytes(path, (json.dumps(record, indent=1) + "\n").encode())
