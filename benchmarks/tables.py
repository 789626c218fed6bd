"""The tables of this folder's README, written from ``benchmarks/results``.

    python -m benchmarks.tables [--check]

They stand between comments ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``; ``--check`` only says
whether they are out of date.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.command import RESULTS
from snnlib.deploy.files import write_bytes

README = Path(__file__).parent / "README.md"
FILES = tuple(f"{n}-{d}.json" for d in ("float32", "bfloat16") for n in ("six", "cifar10-vgg"))


def efficiency(results: Path = RESULTS) -> str:
    """Floor over time at the largest number of steps, with the range of the rounds."""
    lines = [
        "| network | dtype | simulator | floor / time (range) | ANN passes | ms an image |",
        "|---|---|---|--:|--:|--:|",
    ]
    for name in FILES:
        record = json.loads((results / name).read_text(encoding="utf-8"))
        row, dtype = record["rows"][-1], name.removesuffix(".json").rsplit("-", 1)[1]
        for label, found in row["times"].items():
            low, high = found["efficiency_range"]
            ratio = f"{found['efficiency']:.2f} ({low:.2f} … {high:.2f})"
            passes, time = f"{found['ann_passes']:.2f}", 1000 * found["median"] / record["n"]
            cells = (record["network"], dtype, label, ratio, passes, f"{time:.2f}")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", _conditions(record, row["steps"])])


def calibration(results: Path = RESULTS) -> str:
    """Whole conversions in ANN passes over the calibration images."""
    record = json.loads((results / "calibration.json").read_text(encoding="utf-8"))
    names = [found["network"] for found in record["networks"]]
    heads = [f"{name}, {scope}" for name in names for scope in ("a layer", "a channel")]
    lines = [f"| balance | {' | '.join(heads)} |", f"|---|{'--:|' * len(heads)}"]
    table: dict[str, list[str]] = {}
    for found in record["networks"]:
        for row in found["rows"]:
            table.setdefault(row["balance"], []).append(f"{row['ann_passes']:.2f}")
    lines += [f"| {balance} | {' | '.join(cells)} |" for balance, cells in table.items()]
    return "\n".join([*lines, "", _conditions(record)])


def scaling(results: Path = RESULTS) -> str:
    """How straight the three lines are, and what memory they take."""
    record = json.loads((results / "scaling.json").read_text(encoding="utf-8"))
    lines = ["| time against | neuron | from … to | R² |", "|---|---|---|--:|"]
    for what, methods in record["lines"].items():
        for name, line in methods.items():
            ends = f"{line[what][0]:,} … {line[what][-1]:,}"
            lines.append(f"| {what} | {name} | {ends} | {line['r2']:.4f} |")
    ratios = "; ".join(
        f"`memory={limit!r}`: {ratio:.3f}"
        for limit, ratio in record["memory"]["peak_at_256_over_32_steps"].items()
    )
    lines += ["", f"Peak resident memory for T = 256 over that for T = 32, {ratios}."]
    return "\n".join([*lines, "", _conditions(record)])


def integer(results: Path = RESULTS) -> str:
    """Integer mode beside real numbers, ms an image."""
    record = json.loads((results / "integer.json").read_text(encoding="utf-8"))
    labels = list(record["networks"][0]["ways"])
    lines = [f"| ms an image | {' | '.join(labels)} |", f"|---|{'--:|' * len(labels)}"]
    for found in record["networks"]:
        cells = [f"{1000 * found['ways'][way]['min'] / found['images']:.2f}" for way in labels]
        lines.append(f"| {found['network']} | {' | '.join(cells)} |")
    conditions = _conditions(record, record["steps"]).replace("medians", "least times")
    return "\n".join([*lines, "", conditions])


def _conditions(record: dict[str, Any], steps: int | None = None) -> str:
    time = "" if steps is None else f"T = {steps}; "
    return (
        f"{time}n = {record['n']}, {record['hardware']}, torch {record['versions']['torch']}, "
        f"medians of {record['rounds']} rounds."
    )


SECTIONS = {
    "efficiency": efficiency,
    "calibration": calibration,
    "scaling": scaling,
    "integer": integer,
}


def render(text: str, results: Path = RESULTS) -> str:
    """The text with every section written anew."""
    for name, make in SECTIONS.items():
        pattern = rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)"
        content = make(results).replace("\\", r"\\")  # a backslash is no reference to a group
        text, found = re.subn(pattern, rf"\g<1>{content}\n\g<2>", text, flags=re.DOTALL)
        if found != 1:
            raise ValueError(f"the README needs exactly one section {name!r}, it has {found}")
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if out of date")
    options = parser.parse_args(arguments)
    text = README.read_text(encoding="utf-8")
    written = render(text)
    if options.check:
        return int(written != text)
    write_bytes(README, written.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
