"""``snnlib verify``: is the folded network right, and how far is each layer from its ANN?"""

from __future__ import annotations

import argparse
import json

from snnlib.cli.evaluate import converted
from snnlib.cli.options import add_conversion, balance_of, check_positive, neuron_of

SUMMARY = "check a conversion: folded network, and layer by layer"
EXAMPLES = """
  snnlib verify digits-cnn
  snnlib verify mnist-cnn --neuron if --steps 256 --limit 200 --json

The first line says whether the folded network computes what the original computes (an error if
not); the table how far each spiking layer's mean output is from the ANN's activation."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_conversion(parser, steps=64, limit="100")


def execute(options: argparse.Namespace) -> None:
    """Run the command."""
    from dataclasses import asdict

    from snnlib.zoo import data, models

    check_positive(options, "steps", "limit")
    neuron = neuron_of(options)
    balance = balance_of(options, neuron)
    train, test = data.load(models.dataset_of(options.model))
    _, net = converted(options, neuron, balance, train)
    images = data.to_float(test.images[: options.limit or 100])
    found = net.verify(images.to(net.device, net.dtype), steps=options.steps)
    print(json.dumps(asdict(found)) if options.json else found)
