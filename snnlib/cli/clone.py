"""Commands of the book, which need a clone of its repository: they live in ``book/``, not here.

``snnlib experiment``, ``snnlib report`` and ``snnlib support --torchvision`` compute and write what
the repository holds under ``book/``. The package looks for that folder above the working folder and
above itself, and hands the command over to it.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

from snnlib.cli.options import UsageError

# Command → its module in the repository, and its summary.
COMMANDS = {
    "experiment": ("book.experiments.command", "run one of the book's experiments"),
    "report": ("book.tools.report_command", "write the README's results from book/results"),
}


def root() -> Path | None:
    """The clone that the working folder lies in, else the one that this package lies in."""
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[2]):
        if (folder / "book" / "experiments" / "command.py").is_file():
            return folder
    return None


def module(name: str, asked: str) -> Any:
    """A module of the repository.

    Args:
        name: ``book.…``.
        asked: the command that needs it, for the message.

    Raises:
        UsageError: there is no clone here.
    """
    clone = root()
    if clone is None:
        raise UsageError(
            f"snnlib {asked} works on the book's own files: run it in a clone of the repository "
            "(git clone https://github.com/snnlib/snnlib)"
        )
    if str(clone) not in sys.path:
        sys.path.insert(0, str(clone))
    return importlib.import_module(name)


def add_options(parser: argparse.ArgumentParser, command: str) -> None:
    """The options of a command of the repository; none where there is no clone."""
    name, _ = COMMANDS[command]
    if root() is None:
        parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    else:
        module(name, command).add_options(parser)


def execute(options: argparse.Namespace, command: str) -> int | None:
    """Run a command of the repository."""
    name, _ = COMMANDS[command]
    done: int | None = module(name, command).execute(options)
    return done


def examples(command: str) -> str:
    """What ``--help`` shows below the options."""
    if root() is None:
        return "\n  (in a clone of the repository)"
    name, _ = COMMANDS[command]
    shown: str = module(name, command).EXAMPLES
    return shown
