"""``snnlib experiment``: list the experiments, run one, go on with one."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from snnlib.cli.options import UsageError, check_positive, device_of

EXAMPLES = """
  snnlib experiment --list
  snnlib experiment accuracy-over-time
  snnlib experiment accuracy-over-time --networks mnist-cnn,mnist-mlp
  snnlib experiment accuracy-over-time --networks fashion-mlp --resume     adds a network
  snnlib experiment accuracy-over-time --networks digits-cnn --limit 100   a quick look
  snnlib experiment accuracy-over-time --renew     after a network was trained anew

The results are written to book/results/NAME.json, whole, when the last cell is done; with --limit
N to NAME-first-N.json. Without --resume the file is computed anew, for the networks asked for."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add = parser.add_argument
    add("name", metavar="NAME", nargs="?", help="which experiment; see --list")
    add("--list", action="store_true", help="show the experiments, their networks and minutes")
    add("--networks", metavar="A,B", help="run on these; default: all it is made for")
    add("--limit", type=int, metavar="N", help="first N test and validation images (default: all)")
    add("--resume", action="store_true", help="keep cells that are done; finish or add to them")
    add("--renew", action="store_true", help="as --resume, but anew what other weights gave")
    add("--device", metavar="D", help="cpu or cuda; default: cuda where it is")
    add("--results", metavar="DIR", help="default: book/results of the repository")
    add("--quiet", action="store_true", help="no progress bar")


def execute(options: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        UsageError, ExperimentError: the options do not go together, or something is missing.
    """
    from book import experiments
    from book.experiments.frame import FOLDER, results_file

    folder = Path(options.results or FOLDER)
    if options.list:
        if options.name:
            raise UsageError("--list shows all experiments: leave out the name")
        print(table(folder))
        return
    if not options.name:
        raise UsageError("name an experiment; snnlib experiment --list shows them")
    check_positive(options, "limit")
    experiment = experiments.get(options.name)
    networks = None if options.networks is None else options.networks.split(",")
    try:
        path = experiments.run(
            experiment, networks, options.limit, device_of(options.device),
            options.resume or options.renew, folder, not options.quiet, options.renew,
        )  # fmt: skip
    except KeyboardInterrupt:
        if results_file(experiment.name, options.limit, folder).with_suffix(".partial").is_file():
            print("snnlib: finished cells are kept; go on with --resume", file=sys.stderr)
        raise
    print(path)


def table(folder: Path) -> str:
    """The experiments with their networks, and the minutes that each took last time."""
    from book import experiments
    from book.experiments.frame import results_file

    lines = []
    for name in experiments.NAMES:
        experiment = experiments.get(name)
        lines += [name, f"  {experiment.summary}", f"  made for {', '.join(experiment.networks)}"]
        path = results_file(name, folder=folder)
        if path.is_file():
            record = json.loads(path.read_text(encoding="utf-8"))
            lines.append(
                f"  stored: {', '.join(record['networks'])}; {record['seconds'] / 60:.1f} minutes "
                f"on {record['hardware']}"
            )
        else:
            lines.append("  not stored yet")
    return "\n".join(lines)
