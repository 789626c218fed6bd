"""``snnlib data``: say where a data set is, or fetch it."""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "say where a data set is, or fetch it"
EXAMPLES = """
  snnlib data digits
  snnlib data mnist                               finds it, or downloads it
  SNNLIB_DATA=/data/sets snnlib data cifar10 --no-download
  snnlib data spoken_digits"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "name", metavar="NAME", help="digits, mnist, fashion_mnist, cifar10, spoken_digits"
    )
    parser.add_argument("--root", metavar="DIR", help="look here only, download to here")
    parser.add_argument("--no-download", action="store_true", help="fail if it is not there")


def execute(options: argparse.Namespace) -> None:
    """Run the command."""
    from snnlib.zoo import data, spoken

    if options.name == spoken.NAME:
        _spoken(options)
        return
    train, test = data.load(options.name, options.root, download=not options.no_download)
    fit, validation = data.validation_split(train)
    print(f"{options.name}: {_place(options.name, options.root)}")
    for label, split in (
        ("train", train), ("  to fit", fit), ("  validation", validation), ("test", test)
    ):  # fmt: skip
        size = " × ".join(map(str, split.images.shape[1:]))
        print(f"{label:<13}{len(split):>7,} images of {size}")
    print(f"classes: {', '.join(train.classes)}")


def _spoken(options: argparse.Namespace) -> None:
    from snnlib.zoo import spoken

    data = spoken.load(options.root, download=not options.no_download)
    print(f"{options.name}: {_place(options.name, options.root)}")
    for label, part in zip(("to fit", "validation", "test"), spoken.split(data), strict=True):
        assert part.lengths is not None
        frames = float(part.lengths.double().mean())
        print(f"{label:<13}{len(part):>7,} recordings of {frames:.1f} frames on average")
    print(f"speakers: {', '.join(spoken.SPEAKERS)}")


def _place(name: str, root: str | None) -> str:
    """Where the files of a data set that was just loaded are."""
    from snnlib.zoo import data, fetch, spoken

    if name == "digits":
        return "inside scikit-learn"
    if name == spoken.NAME:
        return str(fetch.fullest(spoken.FOLDER, spoken.FILES, root))
    if name == "cifar10":
        files = data.CIFAR_TRAIN + data.CIFAR_TEST
        return str(fetch.fullest(Path(data.CIFAR_FOLDER), files, root))
    return str(fetch.fullest(Path(data.IDX[name][0], "raw"), data.IDX_FILES, root))
