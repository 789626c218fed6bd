"""``snnlib export``: write a network for another simulator, the page of the book's playground."""

from __future__ import annotations

import argparse
import math

from snnlib.cli.options import UsageError, add_conversion, add_network, check_positive

SUMMARY = "convert a network and write it for the playground, the page that simulates it"
EXAMPLES = """
  snnlib export digits-cnn --web digits.safetensors
  snnlib export my_net.py:make_net --weights my.pt --data photos --web mine.safetensors
  snnlib export net.safetensors --web net-for-the-page.safetensors

Open the file on the page Playground of the book: nothing is sent anywhere. my_net.py is run: export
only what you would run."""
PERCENTILES = (99.0, 99.9, 100.0)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add_network(parser)
    add_conversion(parser, steps=8, runs=False)
    parser.add_argument("--web", metavar="FILE", required=True, help="a .safetensors file")
    text = "round weights to float16: half the size (default: as they are)"
    parser.add_argument("--half", action="store_true", help=text)
    text = "thresholds that the page offers (default: 99,99.9,100; only for what is converted now)"
    parser.add_argument("--percentiles", type=_percentiles, metavar="Q,...", help=text)


def _percentiles(text: str) -> tuple[float, ...]:
    found = tuple(float(word) for word in text.split(","))
    if not all(math.isfinite(q) and 0 < q <= 100 for q in found):
        raise ValueError(text)
    return found


def execute(options: argparse.Namespace) -> None:
    """Run the command."""
    from snnlib.cli import own

    check_positive(options, "steps", "calibration_images")
    if not options.web.endswith(".safetensors"):
        raise UsageError(f"--web {options.web}: its name must end in .safetensors")
    # A saved network has its thresholds, so no images are needed for it.
    own.refuse_unseen(options)
    saved = options.network.endswith(".safetensors")
    images = None if saved or options.calibration else own.images_of(options, labeled=False)
    work = own.converted(options, images)
    others = {}
    if work.balance is None:
        if options.percentiles:
            raise UsageError("--percentiles: a saved network has the thresholds it was saved with")
    else:
        for q in options.percentiles or PERCENTILES:
            changed = {**vars(options), "balance": "percentile", "percentile": q}
            others[repr(q).removesuffix(".0")] = own.converted(
                argparse.Namespace(**changed), images
            ).net.balanced
    path = work.net.to_web(options.web, half=options.half, balanced=others, about=work.name)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB; open it on the page Playground")
