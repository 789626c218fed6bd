"""``{stored-results}``: every stored result with the command, the machine and the figures in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

MILESTONES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def entry(name: str, result: dict[str, Any]) -> str:
    """One result as Markdown: a heading, the conditions, and accuracy at some steps."""
    lines = [f"## {name}", ""]
    for key, label in (
        ("command", "Command"), ("commit", "Commit"), ("date", "Date"), ("n", "Images"),
        ("seed", "Seed"), ("hardware", "Machine"), ("versions", "Versions"), ("seconds", "Seconds"),
    ):  # fmt: skip
        if result.get(key) not in (None, "", {}, []):
            lines.append(f"- {label}: {_value(key, result[key])}")
    runs = [run for run in result.get("runs", []) if isinstance(run.get("accuracy"), list)]
    if runs:
        longest = max(len(run["accuracy"]) for run in runs)
        steps = [t for t in MILESTONES if t <= longest]
        lines += ["", "Accuracy in percent after some time steps:", ""]
        lines.append("| Network | Neuron | " + " | ".join(map(str, steps)) + " | ANN |")
        lines.append("|---|---|" + "--:|" * (len(steps) + 1))
        for run in runs:
            values = run["accuracy"]
            cells = [f"{100 * values[t - 1]:.2f}" if t <= len(values) else "" for t in steps]
            ann = f"{100 * run['ann_accuracy']:.2f}"
            label = run.get("label") or run.get("neuron")
            lines.append(f"| {run['model']} | {label} | {' | '.join(cells)} | {ann} |")
    return "\n".join([*lines, ""])


def _value(key: str, value: Any) -> str:
    if key == "command":
        return f"`{value}`"
    if isinstance(value, dict):
        return ", ".join(f"{name} {text}" for name, text in value.items())
    if isinstance(value, float):
        return f"{value:.1f}"
    return str(value)


class StoredResults(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        folder = Path(self.env.srcdir) / "book" / "results"
        self.env.note_reread()  # a new file is no change of a file that was there
        found = []
        for path in sorted(folder.glob("*.json")):
            found.append(entry(path.stem, json.loads(path.read_text(encoding="utf-8"))))
        if not found:
            return [nodes.paragraph("", "No result is stored yet.")]
        return self.parse_text_to_nodes("\n".join(found), allow_section_headings=True)


def setup(app: Any) -> None:
    app.add_directive("stored-results", StoredResults)
