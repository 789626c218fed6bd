"""``{stored-tables} NAME`` and ``{stored-results}``: the stored results as tables, and their files.

``{stored-tables}`` shows what one experiment holds, each table folded under its title; the name
``single-runs`` stands for all files that ``snnlib evaluate`` wrote. ``{stored-results}`` says of
every file under which conditions it was written.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from bookext.stored_tables import Table, tables

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


@dataclass(frozen=True)
class Conditions:
    """Under which conditions a file was written, as a list."""

    title: str
    result: dict[str, Any]
    open: bool = False

    def lines(self) -> list[str]:
        lines = []
        for key, label in CONDITIONS.items():
            value = self.result.get(key)
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


class Folded(SphinxDirective):
    """A directive whose parts are folded under a line each; the reader opens what is wanted."""

    def folded(self, tables: Iterable[Table | Conditions]) -> list[nodes.Node]:
        found: list[nodes.Node] = [nodes.raw("", '<div class="snn-folds">', format="html")]
        for table in tables:
            start = f"<details{' open' * table.open}><summary>{html.escape(table.title)}</summary>"
            found += [
                nodes.raw("", start, format="html"),
                *self.parse_text_to_nodes("\n".join(table.lines())),
                nodes.raw("", "</details>", format="html"),
            ]
        return [*found, nodes.raw("", "</div>", format="html")]

    def results(self, name: str = "*") -> dict[str, dict[str, Any]]:
        self.env.note_reread()  # a new file is no change of a file that was there
        return read(Path(self.env.srcdir) / "book" / "results", name)


class StoredTables(Folded):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        results = self.results("*" if name == SINGLE else name)
        found = tables(chosen(results, name))
        if not found:
            return [nodes.paragraph("", f"No table of {name}: it is not measured yet.")]
        return self.folded(found)


class StoredResults(Folded):
    def run(self) -> list[nodes.Node]:
        results = self.results()
        if not results:
            return [nodes.paragraph("", "No result is stored yet.")]
        return self.folded(Conditions(f"{n}.json", result) for n, result in results.items())


def setup(app: Any) -> None:
    app.add_directive("stored-tables", StoredTables)
    app.add_directive("stored-results", StoredResults)
