"""``snnlib verify``: is the folded network right, and how far is each layer from its ANN?"""

from __future__ import annotations

import argparse
import json
from math import isnan
from typing import Any

from snnlib.cli.options import add_conversion, add_network, check_positive

SUMMARY = "check a conversion: folded network, and layer by layer"
EXAMPLES = """
  snnlib verify digits-cnn
  snnlib verify mnist-cnn --neuron if --steps 256 --limit 200 --json
  snnlib verify my_net.py:make_net --weights my.safetensors --data photos

The first line says whether the folded network computes what the original computes (an error if
not); the table how far each spiking layer's mean output is from the ANN's activation."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_network(parser)
    add_conversion(parser, steps=64)
    parser.add_argument("--limit", type=int, metavar="N", help="first N images (default: 100)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def execute(options: argparse.Namespace) -> None:
    """Run the command."""
    from dataclasses import asdict

    from snnlib.cli import own

    check_positive(options, "steps", "limit", "calibration_images")
    options.limit = options.limit or 100
    images = own.images_of(options, labeled=False)
    work = own.converted(options, images)
    split, origin = own.tried(options, images, work)
    found = work.net.verify(split.floats().to(work.net.device, work.net.dtype), steps=options.steps)
    if options.json:
        about = {"images_from": origin, "calibration_from": work.calibration_from}
        read: dict[str, Any] = {"answer_from": work.net.readout.first}
        for name in ("agreement", "output_error"):  # there is none before that step
            read[name] = [None if isnan(share) else share for share in getattr(found, name)]
        print(json.dumps({**asdict(found), **read, **about}))
    else:
        print(f"{found}\n\non {origin}; thresholds from {work.calibration_from}")
