"""``snnlib train``: train one of the book's networks."""

from __future__ import annotations

import argparse

from snnlib.cli.options import device_of

SUMMARY = "train one of the book's networks"
EXAMPLES = """
  snnlib train digits-cnn
  snnlib train mnist-cnn --seed 1 --output mnist-cnn-seed1.safetensors
  snnlib train cifar10-vgg --device cuda

An interrupted training is taken up again by the same command."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("model", metavar="MODEL", help="for example digits-cnn or mnist-cnn")
    parser.add_argument("--epochs", type=int, metavar="N", help="other than the recipe's")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")
    parser.add_argument("--first", metavar="FILE", help="train this checkpoint for a further cycle")
    parser.add_argument("--device", metavar="D", help="cpu or cuda; default: cuda where it is")
    parser.add_argument("--output", metavar="FILE", help="default: book/checkpoints, or here")
    parser.add_argument("--no-resume", action="store_true", help="begin anew")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def execute(options: argparse.Namespace) -> None:
    """Run the command."""
    from snnlib.zoo import checkpoints, train

    path = train.fit(
        options.model,
        out=options.output,
        seed=options.seed,
        epochs=options.epochs,
        first=options.first,
        device=device_of(options.device),
        resume=not options.no_resume,
        progress=not options.quiet,
    )
    _, record = checkpoints.read(path)
    print(
        f"{path}: {100 * record['validation_accuracy']:.2f} % of the validation images, "
        f"{100 * record['test_accuracy']:.2f} % of the {record['test_images']:,} test images"
    )
