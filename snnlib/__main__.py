"""The command line: ``python -m snnlib``, installed as ``snnlib``.

Every command has ``--help`` with examples. Results go to standard output, progress bars and
messages to standard error. Exit codes: 0 done, 1 a file is stale (``report --check``), 2 wrong
input or a conversion that ``verify`` finds wrong (one readable message, no traceback), 130
interrupted.
"""

from __future__ import annotations

import argparse
import codecs
import contextlib
import importlib
import io
import os
import sys
import unicodedata
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

from snnlib.cli import clone
from snnlib.cli.options import UsageError

# A module of snnlib.cli each.
COMMANDS = ("train", "evaluate", "verify", "convert", "export", "rank-coding", "data", "support")
_EXAMPLES = """
  snnlib evaluate digits-cnn                      needs no network and no data set
  snnlib evaluate mnist-cnn --neuron augmented --levels 8 --negative 0 --steps 4
  snnlib evaluate my_net.py:make_net --weights my.pt --data photos   a network of your own
  snnlib verify mnist-cnn
  snnlib train mnist-cnn
  snnlib data mnist"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    for name in ("stdout", "stderr"):  # closed, or of a program without a terminal
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    _spell_out()
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        print("snnlib: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as head, has seen enough
        return 0
    except Exception as error:
        if not isinstance(error, _readable()):
            raise
        print(f"snnlib: {error}", file=sys.stderr)
        return 2


def _run(arguments: list[str]) -> int:
    """The command; what it printed has arrived when this returns."""
    try:
        options = _parser().parse_args(arguments)
        options.arguments = arguments
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            code = int(options.run(options) or 0)
    except SystemExit as leaving:
        if not leaving.code:  # --help
            _flush()
        raise
    except BrokenPipeError:
        _close_output()
        raise
    except BaseException:
        with contextlib.suppress(OSError):  # that error is to be told, not this one
            _flush()
        raise
    _flush()
    return code


def _flush() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        _close_output()
        raise


def _close_output() -> None:
    """What is still to be printed goes nowhere: it would fail again when Python ends."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, sys.stdout.fileno())
        finally:
            os.close(nowhere)


def _readable() -> tuple[type[Exception], ...]:
    """The errors whose message is meant for the reader (ConversionError is a ValueError).

    An OSError says which file and why, such as a folder that one may not look into.
    """
    from snnlib.graph.errors import FileError
    from snnlib.zoo.distributed import ProcessError
    from snnlib.zoo.fetch import DatasetUnavailable

    return (UsageError, ValueError, DatasetUnavailable, FileError, ProcessError, OSError)


_SIGNS = {"×": "x", "·": "*", "−": "-", "–": "-", "─": "-", "→": "->", "≥": ">=", "≤": "<="}
_SIGNS["λ"] = "lambda"  # Unicode calls it lamda


def _spell_out() -> None:
    """Where output knows few characters (cp1252, ascii), θ becomes theta instead of an error."""

    def spelled(error: UnicodeError) -> tuple[str, int]:
        assert isinstance(error, UnicodeEncodeError)
        return "".join(map(_plain, error.object[error.start : error.end])), error.end

    codecs.register_error("snnlib", spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="snnlib")


def _plain(character: str) -> str:
    """A character in ASCII: by sign, by its parts (½ is 1/2), or the last word of its name."""
    parts = unicodedata.normalize("NFKD", character).replace("\N{FRACTION SLASH}", "/")
    plain = _SIGNS.get(character) or parts.encode("ascii", "ignore").decode()
    return plain or unicodedata.name(character, "?").split()[-1].lower()


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"snnlib: warning: {message}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="snnlib",
        description="From a trained ReLU network to a spiking network, with its costs counted.",
        epilog=f"examples:{_EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in COMMANDS:
        command = _command(name)
        added = _add(commands, name, command.execute, command.SUMMARY, command.EXAMPLES)
        command.add_options(added)
    for name, (_, summary) in clone.COMMANDS.items():
        run = partial(clone.execute, command=name)
        added = _add(commands, name, run, summary, clone.examples(name))
        clone.add_options(added, name)
    return parser


def examples() -> dict[str, str]:
    """What ``--help`` shows of each command, and under ``""`` of all."""
    own = {name: _command(name).EXAMPLES for name in COMMANDS}
    return {"": _EXAMPLES, **own, **{name: clone.examples(name) for name in clone.COMMANDS}}


def _command(name: str) -> Any:
    """The module of a command."""
    return importlib.import_module(f"snnlib.cli.{name.replace('-', '_')}")


def _version() -> str:
    import snnlib

    return f"snnlib {snnlib.__version__}"


def _add(
    commands: Any, name: str, run: Any, summary: str, examples: str
) -> argparse.ArgumentParser:
    """A subcommand with its examples below the options."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"examples:{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
