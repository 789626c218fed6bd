"""``snnlib support``: which operations convert; in a clone, which of torchvision's models too."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from snnlib.cli import clone
from snnlib.cli.options import UsageError

SUMMARY = "say which operations and models convert"
EXAMPLES = """
  snnlib support                                  operations: what converts, and the way out
  snnlib support --torchvision                    writes book/results/torchvision.json"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--torchvision", action="store_true", help="try torchvision's models")
    parser.add_argument(
        "--output", metavar="FILE", help="where --torchvision writes; default: book/results/"
        "torchvision.json of the repository",
    )  # fmt: skip


def execute(options: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        UsageError: --output without --torchvision, or no clone of the repository here.
    """
    if not options.torchvision:
        if options.output:
            raise UsageError("--output goes with --torchvision: the table of operations is printed")
        print(operations())
        return
    support = clone.module("book.tools.support", "support --torchvision")
    results = Path(support.__file__).resolve().parents[1] / "results"
    path = Path(options.output or results / "torchvision.json")
    print(support.format_table(support.write_table(path)))
    print(f"written to {path}")


@dataclass(frozen=True)
class Support:
    """One row of the table of what converts."""

    operations: tuple[str, ...]  # their names, as a user writes them
    converts: bool
    becomes: str  # in the spiking network; of what does not convert, why not and the way out
    note: str = ""  # the conditions, if any


def support_table() -> list[Support]:
    """Every operation the converter knows: one row a rule, then one row a reason to refuse.

    What is there in place too, as ``Tensor.relu_``, is named once.
    """
    from snnlib.conversion.registry import REJECTED, RULES, describe

    rows: dict[tuple[bool, str, str], list[str]] = {}
    for found in RULES.values():
        rows.setdefault((True, found.becomes, found.note), []).append(found.label)
    for target, reason in REJECTED.items():
        rows.setdefault((False, reason, ""), []).append(describe(target))
    table = []
    for (converts, becomes, note), labels in rows.items():
        named = dict.fromkeys(n for n in labels if n[-1] != "_" or n[:-1] not in labels)
        table.append(Support(tuple(named), converts, becomes, note))
    return table


# Of what converts, what the other codes (`snnlib.codes`) send, and what they refuse by name.
CODES = {
    "radix": "digits of 1 to 12 bits in base 2 or more: what has a form in whole numbers "
    "(snnlib.deploy.quantize), residual sums, concatenations and averages included; max pooling "
    "of what spiking layers send, digit by digit",
    "first-spike": "one spike a neuron, at an analog time (exact in float64) or in slots: "
    "whatever converts, residual sums included; max pooling of what spiking layers send: the first "
    "spike is the largest",
    "delta": "changes of whole numbers from frame to frame: as radix; max pooling sends changes of "
    "the maximum",
}
CODES_REFUSE = (
    "max pooling of potentials, which may be negative and have no digit and no spike: put the ReLU "
    "before the pooling, the network stays the same"
)


def operations() -> str:
    """The table of operations as text: what converts into what, what does not and the way out."""
    lines = []
    for row in support_table():
        note = f" ({row.note})" if row.note else ""
        sign = "" if row.converts else "NO: "
        lines += [f"{', '.join(row.operations)}", f"    {sign}{row.becomes}{note}"]
    lines += [line for name, text in CODES.items() for line in (f"--code {name}", f"    {text}")]
    lines += ["--code radix, first-spike, delta", f"    NO: {CODES_REFUSE}"]
    return "\n".join(lines)
