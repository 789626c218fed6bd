"""The command line: ``python -m snnlib``, installed as ``snnlib``.

Every command has ``--help`` with examples. Results go to standard output, progress bars and
messages to standard error. Exit codes: 0 done, 1 a check failed, 2 wrong input (one readable
message, no traceback), 130 interrupted.
"""

from __future__ import annotations

import argparse
import copy
import json
import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snnlib.experiments import command as experiment
from snnlib.options import (
    UsageError,
    add_conversion,
    balance_of,
    check_positive,
    device_of,
    neuron_of,
)

if TYPE_CHECKING:
    from snnlib.balance import Balance
    from snnlib.coding import Coding
    from snnlib.neurons import Neuron
    from snnlib.simulator import SpikingNetwork

EXAMPLES = {
    "": """
  snnlib evaluate digits-cnn                      needs no network and no data set
  snnlib evaluate mnist-cnn --neuron augmented --levels 8 --negative 0 --steps 4
  snnlib verify mnist-cnn
  snnlib train mnist-cnn
  snnlib data mnist""",
    "evaluate": """
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
a synapse, energy is arithmetic at 45 nm without memory traffic.""",
    "verify": """
  snnlib verify digits-cnn
  snnlib verify mnist-cnn --neuron if --steps 256 --limit 200 --json

The first line says whether the folded network computes what the original computes (an error if
not); the table how far each spiking layer's mean output is from the ANN's activation.""",
    "train": """
  snnlib train digits-cnn
  snnlib train mnist-cnn --seed 1 --output mnist-cnn-seed1.safetensors
  snnlib train cifar10-vgg --device cuda

An interrupted training is taken up again by the same command.""",
    "data": """
  snnlib data digits
  snnlib data mnist                               finds it, or downloads it
  SNNLIB_DATA=/data/sets snnlib data cifar10 --no-download""",
    "support": """
  snnlib support                                  operations: what converts, and the way out
  snnlib support --torchvision                    writes book/results/torchvision.json""",
    "report": """
  snnlib report                                   writes the README's sections and figures
  snnlib report --check                           exit code 1 if they are not up to date""",
    "experiment": experiment.EXAMPLES,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(arguments)
    options.arguments = arguments
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            return int(options.run(options) or 0)
    except KeyboardInterrupt:
        print("snnlib: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as head, has seen enough
        sys.stderr.close()
        return 0
    except Exception as error:
        if not isinstance(error, _readable()):
            raise
        print(f"snnlib: {error}", file=sys.stderr)
        return 2


def _readable() -> tuple[type[Exception], ...]:
    """The errors whose message is meant for the reader (ConversionError is a ValueError)."""
    from snnlib import CheckpointError, DatasetUnavailable
    from snnlib.distributed import ProcessError

    return (UsageError, ValueError, DatasetUnavailable, CheckpointError, ProcessError)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"snnlib: warning: {message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="snnlib",
        description="From a trained ReLU network to a spiking network, with its costs counted.",
        epilog=f"examples:{EXAMPLES['']}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_train(commands)
    _add_evaluate(commands)
    _add_verify(commands)
    _add_data(commands)
    _add_support(commands)
    _add_report(commands)
    experiment.add_options(
        add_command(commands, "experiment", experiment.execute, "run one of the book's experiments")
    )
    return parser


def _version() -> str:
    import snnlib

    return f"snnlib {snnlib.__version__}"


def add_command(commands: Any, name: str, run: Any, summary: str) -> argparse.ArgumentParser:
    """A subcommand with its examples below the options."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"examples:{EXAMPLES[name]}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


# train


def _add_train(commands: Any) -> None:
    parser = add_command(commands, "train", _train, "train one of the book's networks")
    parser.add_argument("model", metavar="MODEL", help="for example digits-cnn or mnist-cnn")
    parser.add_argument("--epochs", type=int, metavar="N", help="other than the recipe's")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")
    parser.add_argument("--first", metavar="FILE", help="train this checkpoint for a further cycle")
    parser.add_argument("--device", metavar="D", help="cpu or cuda; default: cuda where it is")
    parser.add_argument("--output", metavar="FILE", help="default: book/checkpoints, or here")
    parser.add_argument("--no-resume", action="store_true", help="begin anew")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def _train(options: argparse.Namespace) -> None:
    from snnlib import checkpoints, train

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


# evaluate and verify


def _add_evaluate(commands: Any) -> None:
    parser = add_command(
        commands, "evaluate", _evaluate,
        "accuracy after every time step beside the ANN's, with what each costs",
    )  # fmt: skip
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


def _add_verify(commands: Any) -> None:
    parser = add_command(
        commands, "verify", _verify, "check a conversion: folded network, and layer by layer"
    )
    add_conversion(parser, steps=64, limit="100")


def _convert(
    options: argparse.Namespace, neuron: Neuron, balance: Balance, train: Any
) -> tuple[Any, SpikingNetwork]:
    """The ANN in float32, and the spiking network in the dtype asked for, both on the device."""
    import torch

    from snnlib import convert, models
    from snnlib.evaluate import calibration_images

    device = device_of(options.device)
    ann = models.load(options.model, options.checkpoint).to(device)
    images = calibration_images(train).to(device)
    model = ann
    if options.dtype == "float64":  # folded in float64 too, not widened afterwards
        model, images = copy.deepcopy(ann).double(), images.double()
    net = convert(model, images, neuron, balance, per_channel=options.per_channel)
    return ann, net.to(getattr(torch, options.dtype))


def _evaluate(options: argparse.Namespace) -> None:
    from snnlib import data, distributed, models
    from snnlib.coding import Bernoulli, Constant
    from snnlib.evaluate import evaluate, report, table

    check_positive(options, "steps", "limit", "batch")
    options.device = distributed.device(options.device)
    neuron = neuron_of(options)
    balance = balance_of(options, neuron)
    dataset = models.dataset_of(options.model)
    train, test = data.load(dataset)
    ann, net = _convert(options, neuron, balance, train)
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


def _verify(options: argparse.Namespace) -> None:
    from dataclasses import asdict

    from snnlib import data, models

    check_positive(options, "steps", "limit")
    neuron = neuron_of(options)
    balance = balance_of(options, neuron)
    train, test = data.load(models.dataset_of(options.model))
    _, net = _convert(options, neuron, balance, train)
    images = data.to_float(test.images[: options.limit or 100])
    found = net.verify(images.to(net.device, net.dtype), steps=options.steps)
    print(json.dumps(asdict(found)) if options.json else found)


def _write(path: Path, arguments: list[str], result: dict[str, Any]) -> None:
    """A results file: what was measured, by which command, when, on what."""
    from datetime import UTC, datetime

    from snnlib import checkpoints, provenance
    from snnlib.evaluate import LABELS

    shown = [path.name if Path(word) == path.absolute() else word for word in arguments]
    record = {
        "command": shlex.join(["snnlib", *shown]),
        "commit": provenance.commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        **{key: result[key] for key in ("n", "seed", "hardware", "versions", "seconds")},
        "runs": [{"label": LABELS[result["neuron"]], **result}],
    }
    checkpoints.write_bytes(path, (json.dumps(record, indent=1) + "\n").encode())


# data and report


def _add_data(commands: Any) -> None:
    parser = add_command(commands, "data", _data, "say where a data set is, or fetch it")
    parser.add_argument("name", metavar="NAME", help="digits, mnist, fashion_mnist or cifar10")
    parser.add_argument("--root", metavar="DIR", help="look here only, download to here")
    parser.add_argument("--no-download", action="store_true", help="fail if it is not there")


def _data(options: argparse.Namespace) -> None:
    from snnlib import data

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
    from snnlib import data, fetch

    if name == "digits":
        return "inside scikit-learn"
    inside = Path(data.IDX[name][0], "raw") if name in data.IDX else Path(data.CIFAR_FOLDER)
    return str(next(base / inside for base in fetch.folders(root) if (base / inside).is_dir()))


def _add_support(commands: Any) -> None:
    parser = add_command(commands, "support", _support, "say which operations and models convert")
    parser.add_argument("--torchvision", action="store_true", help="try torchvision's models")
    parser.add_argument(
        "--output", metavar="FILE", default="book/results/torchvision.json",
        help="where to write what --torchvision finds; default: book/results/torchvision.json",
    )  # fmt: skip


def _support(options: argparse.Namespace) -> None:
    from snnlib import support

    if options.torchvision:
        print(support.format_table(support.write_table(options.output)))
        print(f"written to {options.output}")
    else:
        print(support.format_support())


def _add_report(commands: Any) -> None:
    parser = add_command(
        commands, "report", _report, "write the README's results from book/results (in a clone)"
    )
    parser.add_argument("--check", action="store_true", help="only compare; exit code 1 if stale")


def _report(options: argparse.Namespace) -> int:
    from snnlib import report

    stale = report.update(report.ROOT, check=options.check)
    verb = "is not up to date: run snnlib report" if options.check else "written"
    for path in stale:
        print(f"{path}: {verb}")
    if not stale:
        print("nothing to write: all sections and figures are up to date")
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
