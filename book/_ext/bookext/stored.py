"""``{stored-results}``: all stored results, first accuracies by network, then conditions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from bookext.stored_tables import tables

MILESTONES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONDITIONS = {
    "what": "Measured", "command": "Command", "commit": "Commit", "date": "Date", "n": "Images",
    "seed": "Seed", "hardware": "Machine", "versions": "Versions", "seconds": "Seconds",
}  # fmt: skip


def accuracies(results: dict[str, dict[str, Any]]) -> list[str]:
    """One table a network: a row a run on test images, accuracy over time steps, the ANN last."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for result in results.values():
        for run in result.get("runs", ()):
            tested = run.get("images") != "validation" and not {"axis", "sweep"} & run.keys()
            if tested and isinstance(run.get("accuracy"), list):
                runs.setdefault(str(run["model"]), []).append(run)
    lines = []
    for model, found in sorted(runs.items()):
        longest = max(len(run["accuracy"]) for run in found)
        steps = [t for t in MILESTONES if t <= longest]
        lines += [f"## {model}", "", "Accuracy in percent after some time steps.", ""]
        lines.append("| Neuron | Images | " + " | ".join(map(str, steps)) + " | ANN |")
        lines.append("|---|--:|" + "--:|" * (len(steps) + 1))
        for run in found:
            values = run["accuracy"]
            cells = [f"{100 * values[t - 1]:.2f}" if t <= len(values) else "" for t in steps]
            cells = [f"{run['n']:,}", *cells, f"{100 * run['ann_accuracy']:.2f}"]
            lines.append(f"| {settings(run)} | {' | '.join(cells)} |")
        lines.append("")
    return lines


def settings(run: dict[str, Any]) -> str:
    """The run's label and what it was run with."""
    parts = [f"**{run.get('label', run.get('neuron'))}**"]
    parts += [
        f"{key} {run[key]}" for key in ("levels", "negative", "v0") if run.get(key) is not None
    ]
    balance = {"percentile": f"{run.get('percentile')} %"}.get(
        run.get("balance"), run.get("balance")
    )
    return ", ".join([*parts, *([str(balance)] if balance else [])])


def conditions(name: str, result: dict[str, Any]) -> list[str]:
    """Under which conditions a file was written."""
    lines = [f"### {name}", ""]
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
    return [*lines, *tables(result), ""]


class StoredResults(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        folder = Path(self.env.srcdir) / "book" / "results"
        self.env.note_reread()  # a new file is no change of a file that was there
        results = {
            path.stem: json.loads(path.read_text(encoding="utf-8"))
            for path in sorted(folder.glob("*.json"))
        }
        if not results:
            return [nodes.paragraph("", "No result is stored yet.")]
        lines = [*accuracies(results), "## The files", ""]
        for name, result in results.items():
            lines += conditions(name, result)
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def setup(app: Any) -> None:
    app.add_directive("stored-results", StoredResults)
