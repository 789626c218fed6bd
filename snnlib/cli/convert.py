"""``snnlib convert``: write the spiking network of a trained one to a file."""

from __future__ import annotations

import argparse
from dataclasses import replace

from snnlib.cli.options import UsageError, add_conversion, add_network, check_positive

SUMMARY = "convert a network and save it, for snnlib.load and the other commands"
EXAMPLES = """
  snnlib convert mnist-cnn --neuron augmented --levels 8 --negative 0 --output net.safetensors
  snnlib convert mnist-cnn --neuron if --steps 16 --answer-from 9 --output late.safetensors
  snnlib convert my_net.py:make_net --weights my.pt --data photos --output net.safetensors
  snnlib evaluate net.safetensors --data photos

my_net.py is run: convert only what you would run. Mean and standard deviation become part of the
network, which then takes images in [0, 1]."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_network(parser)
    add_conversion(parser, steps=8, runs=False)
    parser.add_argument("--output", metavar="FILE", required=True, help="a .safetensors file")


def execute(options: argparse.Namespace) -> None:
    """Run the command."""
    from snnlib import SpikingNetwork, load
    from snnlib.cli import own

    check_positive(options, "steps", "calibration_images")
    if not options.output.endswith(".safetensors"):
        raise UsageError(f"--output {options.output}: its name must end in .safetensors")
    if options.network.endswith(".safetensors"):
        load(options.network)  # says so if it is anything else
        raise UsageError(f"{options.network} is a converted network already")
    own.refuse_unseen(options)
    images = None if options.calibration else own.images_of(options, labeled=False)
    work = own.converted(options, images)
    net, origin = work.net, work.calibration_from
    report = {**net.report, "calibration_from": origin, "calibration_digests": " ".join(work.known)}
    path = SpikingNetwork.of(replace(net.network, report=report)).save(options.output)
    print(net.summary())
    print(f"{path}: thresholds from {len(work.known):,} {origin}")
