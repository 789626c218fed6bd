"""``{stored-tables} NAME`` and ``{stored-results}``: the stored results as tables, and their files.

``{stored-tables}`` shows what one experiment holds, network by network; the name ``single-runs``
stands for all files that ``snnlib evaluate`` wrote. ``{stored-results}`` says of every file under
which conditions it was written.
"""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from bookext import networks
from bookext.stored_tables import tables

SINGLE = "single-runs"
CONDITIONS = {
    "what": "Measured", "command": "Command", "commit": "Commit", "date": "Date", "n": "Images",
    "seed": "Seed", "hardware": "Machine", "versions": "Versions", "seconds": "Seconds",
}  # fmt: skip


def read(folder: Path, name: str = "*") -> dict[str, dict[str, Any]]:
    """The stored results by name: all of them, or the one that is asked for if it is there."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob(f"{name}.json"))
    }


def chosen(results: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    """The result of that name; the runs of all files that belong to no experiment as one result."""
    if name != SINGLE:
        return results.get(name, {})
    single = [result for result in results.values() if "experiment" not in result]
    return {"runs": [run for result in single for run in result.get("runs", ())]}


def conditions(result: dict[str, Any]) -> list[str]:
    """Under which conditions a file was written, as the lines of a list."""
    lines = []
    for key, label in CONDITIONS.items():
        value = result.get(key)
        if value in (None, "", {}, []):
            continue
        if key == "command":
            value = f"`{value}`"
        elif isinstance(value, dict):
            value = ", ".join(f"{part} {text}" for part, text in value.items())
        elif isinstance(value, float):
            value = f"{value:.1f}"
        lines.append(f"- {label}: {value}")
    return lines


class Stored(SphinxDirective):
    """A directive that reads the stored results."""

    def results(self, name: str = "*") -> dict[str, dict[str, Any]]:
        self.env.note_reread()  # a new file is no change of a file that was there
        return read(Path(self.env.srcdir) / "book" / "results", name)


class StoredTables(Stored):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        results = self.results("*" if name == SINGLE else name)
        found: dict[str, list[nodes.Node]] = {}
        for table in tables(chosen(results, name)):
            found.setdefault(table.network, []).append(nodes.raw("", table.html(), format="html"))
        if not found:
            return [nodes.paragraph("", f"No table of {name}: it is not measured yet.")]
        if set(found) == {""}:  # about no network, so there is nothing to choose
            return found[""]
        return networks.blocks(self.env, found)


class StoredResults(Stored):
    """The files, each folded under its name."""

    def run(self) -> list[nodes.Node]:
        results = self.results()
        if not results:
            return [nodes.paragraph("", "No result is stored yet.")]
        found: list[nodes.Node] = [nodes.raw("", '<div class="snn-folds">', format="html")]
        for name, result in results.items():
            start = f"<details><summary>{html.escape(name)}.json</summary>"
            found += [
                nodes.raw("", start, format="html"),
                *self.parse_text_to_nodes("\n".join(conditions(result))),
                nodes.raw("", "</details>", format="html"),
            ]
        return [*found, nodes.raw("", "</div>", format="html")]


def setup(app: Any) -> None:
    app.add_directive("stored-tables", StoredTables)
    app.add_directive("stored-results", StoredResults)
