"""``snnlib report``: write the README's results from ``book/results``."""

from __future__ import annotations

import argparse

EXAMPLES = """
  snnlib report                                   writes the README's sections and figures
  snnlib report --check                           exit code 1 if they are not up to date"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--check", action="store_true", help="only compare; exit code 1 if stale")


def execute(options: argparse.Namespace) -> int:
    """Run the command; returns 1 if ``--check`` found something stale."""
    from book.tools import report

    stale = report.update(report.ROOT, check=options.check)
    verb = "is not up to date: run snnlib report" if options.check else "written"
    for path in stale:
        print(f"{path}: {verb}")
    if not stale:
        print("nothing to write: all sections and figures are up to date")
    return 1 if stale and options.check else 0
