"""``snnlib support``: which operations convert; in a clone, which of torchvision's models too."""

from __future__ import annotations

import argparse

SUMMARY = "say which operations and models convert"
EXAMPLES = """
  snnlib support                                  operations: what converts, and the way out
  snnlib support --torchvision                    writes book/results/torchvision.json"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--torchvision", action="store_true", help="try torchvision's models")
    parser.add_argument(
        "--output", metavar="FILE", default="book/results/torchvision.json",
        help="where to write what --torchvision finds; default: book/results/torchvision.json",
    )  # fmt: skip


def execute(options: argparse.Namespace) -> None:
    """Run the command."""
    if not options.torchvision:
        print(operations())
        return
    from snnlib.cli import clone

    support = clone.module("book.tools.support", "support --torchvision")
    print(support.format_table(support.write_table(options.output)))
    print(f"written to {options.output}")


def operations() -> str:
    """The table of operations as text: what converts into what, what does not and the way out."""
    from snnlib.conversion.registry import support_table

    lines = []
    for row in support_table():
        note = f" ({row.note})" if row.note else ""
        sign = "" if row.converts else "NO: "
        lines += [f"{', '.join(row.operations)}", f"    {sign}{row.becomes}{note}"]
    return "\n".join(lines)
