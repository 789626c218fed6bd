"""``snnlib data``: say where a data set is, or fetch it."""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "say where a data set is, or fetch it"
EXAMPLES = """
  snnlib data digits
  snnlib data mnist                               finds it, or downloads it
  SNNLIB_DATA=/data/sets snnlib data cifar10 --no-download"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("name", metavar="NAME", help="digits, mnist, fashion_mnist or cifar10")
    parser.add_argument("--root", metavar="DIR", help="look here only, download to here")
    parser.add_argument("--no-download", action="store_true", help="fail if it is not there")


def execute(options: argparse.Namespace) -> None:
    """Run the command."""
    from snnlib.zoo import data

    train, test = data.load(options.name, options.root, download=not options.no_download)
    fit, validation = data.validation_split(train)
    print(f"{options.name}: {_place(options.name, options.root)}")
    for label, split in (
        ("train", train), ("  to fit", fit), ("  validation", validation), ("test", test)
    ):  # fmt: skip
        size = " × ".join(map(str, split.images.shape[1:]))
        print(f"{label:<13}{len(split):>7,} images of {size}")
    print(f"classes: {', '.join(train.classes)}")


def _place(name: str, root: str | None) -> str:
    """Where the files of a data set that was just loaded are."""
    from snnlib.zoo import data, fetch

    if name == "digits":
        return "inside scikit-learn"
    inside = Path(data.IDX[name][0], "raw") if name in data.IDX else Path(data.CIFAR_FOLDER)
    return str(next(base / inside for base in fetch.folders(root) if (base / inside).is_dir()))
