"""``book/results/README.md``: one line a results file, made from what the files say themselves.

An experiment writes it with its results; ``snnlib report`` brings it up to date after other
commands, and ``snnlib report --check`` (and a test) says where it is not.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from snnlib.deploy.files import write_bytes

FILE = "README.md"

HEAD = """\
# Results

One JSON a result, each written by the command in its line and by nothing else. This page is made
from the files by `snnlib report`. `minutes` is what the command took on its machine; every file
also holds its commit, versions, seed and number of images. A file `NAME-first-N.json` used the
first N images of each split only. The experiments are described in `book/experiments`;
`snnlib experiment --list` shows them.

| file | what | images | command | machine | minutes |
|---|---|---|---|---|--:|
"""


def render(folder: Path) -> str:
    """The text of the page for the results files in a folder."""
    lines = [
        _line(path.name, json.loads(path.read_text(encoding="utf-8")))
        for path in sorted(folder.glob("*.json"))
    ]
    return HEAD + "".join(lines)


def write(folder: Path) -> Path:
    """Write the page into the folder, whole or not at all; returns its path."""
    return write_bytes(folder / FILE, render(folder).encode())


def _line(name: str, record: dict[str, Any]) -> str:
    what = record.get("what") or "; ".join(
        f"{run['label']} on {run['model']}" for run in record["runs"]
    )
    n = record["n"]
    images = ", ".join(f"{k} {v:,}" for k, v in n.items()) if isinstance(n, dict) else f"{n:,}"
    cells = (
        f"[{name}]({name})",
        what,
        images,
        f"`{record['command']}`",
        record["hardware"],
        f"{record['seconds'] / 60:.1f}",
    )
    return f"| {' | '.join(cells)} |\n"
