"""``snnlib evaluate``: accuracy after every time step beside the ANN's, with what each costs."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from snnlib._arguments import whole
from snnlib.cli import coded
from snnlib.cli.options import add_conversion, add_network, check_positive, refuse
from snnlib.cli.output import stamp, write

if TYPE_CHECKING:
    from snnlib.simulation.coding import Coding

STEPS = 8
SUMMARY = "accuracy after every time step beside the ANN's, with what each costs"
EXAMPLES = """
  snnlib evaluate digits-cnn
  snnlib evaluate mnist-cnn --neuron augmented --levels 8 --negative 0 --steps 4
  snnlib evaluate mnist-cnn --neuron if --steps 64 --limit 1000
  snnlib evaluate mnist-cnn --neuron ternary --balance max --v0 0 --steps 32 --json
  snnlib evaluate digits-cnn --neuron if --steps 8 --answer-from 5
  snnlib evaluate mnist-cnn --negative 0 --steps 32 --only-last
  snnlib evaluate digits-cnn --input bernoulli --seed 1 --steps 64
  snnlib evaluate mnist-cnn --neuron if --steps 64 --output book/results/mnist-cnn-if.json

Other codes for the same network: digits, one spike a neuron, changes of a moving picture.
  snnlib evaluate mnist-cnn --code radix --bits 5
  snnlib evaluate mnist-cnn --code radix --bits 6 --radix 4
  snnlib evaluate mnist-cnn --code first-spike --slots 32
  snnlib evaluate digits-cnn --code first-spike                analog times: the ANN's answers
  snnlib evaluate mnist-cnn --code delta --frames 8 --limit 500

A network of your own: my_net.py defines make_net(), which returns it; photos has a folder a class.
  snnlib evaluate my_net.py:make_net --weights my.pt --data photos --size 32 --mean 0.5 --std 0.25
  snnlib evaluate my_net.py:make_net --data test.npz --calibration train.npz --steps 16
  snnlib convert my_net.py:make_net --data photos --output net.safetensors
  snnlib evaluate net.safetensors --data photos

Thresholds never come from an evaluated image: by default from the first 1,000 images of a training
set without its validation images, or from a part of your own images that is then not evaluated.
Costs are means an image, summed over the steps: an event is a neuron that sent something (a -1
included), spikes are the sum of |c|, a SynOp is an event at a synapse, energy is arithmetic at
45 nm without memory traffic, in two accounts: this project's (an event with |c| > 1 is a
multiplication, the analog first layer counts) and the literature's (every event is an addition,
the first layer is left out).

--answer-from S leaves the first steps of the same run out of the answer (the late answer): before
step S there is none, costs count all the same. Choose S on images that you do not evaluate."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_network(parser)
    add_conversion(parser, steps=STEPS)
    parser.set_defaults(steps=None)  # so that one that is given is known
    coded.add_options(parser)
    add = parser.add_argument
    add("--limit", type=int, metavar="N", help="first N images to evaluate (default: all)")
    add("--input", choices=("constant", "bernoulli"), default="constant",
        help="the image as a current, or random spikes (default: constant)")  # fmt: skip
    add("--batch", type=int, metavar="B", help="images simulated together (default: automatic)")
    add("--seed", type=int, metavar="S", help="of --input bernoulli (default: 0)")
    add("--only-last", action="store_true",
        help="step T alone, no costs; with --negative 0 as fast as one ANN pass")  # fmt: skip
    add("--json", action="store_true", help="print one JSON object")
    add("--quiet", action="store_true", help="no progress bar")
    add("--output", metavar="FILE", help="also write the result, its commit and command as JSON")


def execute(options: argparse.Namespace) -> None:
    """Run the command."""
    from snnlib.cli import own
    from snnlib.cli.table import table
    from snnlib.zoo import distributed
    from snnlib.zoo.evaluate import LABELS, evaluate, report

    if options.code is not None:
        coded.execute(options)
        return
    coded.refuse_all(options)
    options.steps = STEPS if options.steps is None else options.steps
    coding = _coding(options)
    check_positive(options, "steps", "limit", "batch", "calibration_images")
    images = own.images_of(options)
    work = own.converted(options, images)
    made = stamp(options, work.net.device)
    split, origin = own.tried(options, images, work)
    own.check_classes(images, split, work.net)
    with distributed.together():
        found = evaluate(
            work.net, work.ann, split, options.steps, coding=coding, batch=options.batch,
            only_last=options.only_last, progress=not options.quiet,
        )  # fmt: skip
    if distributed.rank() > 0:  # process 0 speaks for all
        return
    about = {"dataset": images.name, "steps": options.steps, "coding": coding}
    result = report(found, work.net, work.name, balance=work.balance, **about)
    result |= {"images_from": origin, "calibration_from": work.calibration_from}
    if options.output:
        label = LABELS.get(result["neuron"], result["neuron"])
        write(Path(options.output), made, {"label": label, **result})
    print(json.dumps(result) if options.json else table(result))


def _coding(options: argparse.Namespace) -> Coding:
    """The input coding that the options ask for.

    Raises:
        UsageError: --seed without chance, or out of range.
    """
    from snnlib.simulation.coding import Bernoulli, Constant

    if options.input == "constant":
        refuse(options, "is of --input bernoulli: a constant input has no chance in it", "seed")
        return Constant()
    return Bernoulli(whole("--seed", options.seed or 0, 0, 2**63 - 1))
