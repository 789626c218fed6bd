"""``{accuracy-figure}``: accuracy over time steps of the hardest network with stored results.

In the book's one figure style, for light and for dark pages.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from book.tools import tables
from bookext.modes import WHOLE, Panel, figure
from snnlib import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The hardest first.
NETWORKS = (
    "cifar10-resnet", "cifar10-vgg", "cifar10-vgg-max", "fashion-cnn", "mnist-cnn", "fashion-mlp",
    "mnist-mlp", "digits-cnn",
)  # fmt: skip
NEURONS = ("if", "ternary", "augmented")


def best_runs(folder: Path) -> list[tables.Run]:
    """The stored runs of IF, TerMapping and AugMapping on the hardest network that has all three.

    They come from the experiment ``accuracy-over-time`` (best settings, all test images), else
    from the files that ``snnlib evaluate MODEL --output`` wrote, one a neuron.
    """
    stored = folder / "accuracy-over-time.json"
    rows = json.loads(stored.read_text(encoding="utf-8"))["runs"] if stored.is_file() else []
    for model in NETWORKS:
        found = {
            str(row["neuron"]): row
            for row in rows
            if row["model"] == model and row.get("form") == "best" and "headline" in row
        }
        for run in tables.evaluations(folder, model):
            found.setdefault(run["neuron"], run)
        runs = [found[neuron] for neuron in NEURONS if neuron in found]
        if len(runs) == len(NEURONS) and len({run["ann_accuracy"] for run in runs}) == 1:
            return runs
    return []


def describe(found: dict[str, list[float]], ann: float, about: str) -> str:
    """Alt text from the numbers: where each curve starts and from when on it stays at the ANN."""
    parts = []
    for label, values in found.items():
        far = [t for t, accuracy in enumerate(values, 1) if ann - accuracy > 0.001 + 1e-9]
        settled = far[-1] + 1 if far else 1
        when = "does not reach the ANN within 0.1 points"
        if settled <= len(values):
            when = f"stays within 0.1 points of the ANN from step {settled} on"
        parts.append(f"{label} starts at {100 * values[0]:.1f} % and {when}")
    return f"Accuracy over time steps, {about}; the ANN at {100 * ann:.2f} % is a dashed line. " + (
        "; ".join(parts) + "."
    )


def panel(found: dict[str, list[float]], ann: float, about: str) -> Panel:
    """The accuracy over time steps of several runs, with its alt text."""

    def draw(ax: Axes, mode: plots.Mode) -> None:
        longest = max(map(len, found.values()))
        plots.accuracy_over_time(ax, range(1, longest + 1), found, ann)

    return Panel(draw, describe(found, ann, about), WHOLE)


class AccuracyFigure(SphinxDirective):
    """The figure that sells the book; the content is its caption."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()  # a new result is no change of a file that was there
        runs = best_runs(Path(self.env.srcdir) / "book" / "results")
        if not runs:
            return [nodes.paragraph("", "Accuracy over time steps is not measured yet.")]
        found = {str(run["label"]).split(",")[0]: list(run["accuracy"]) for run in runs}
        ann, model = runs[0]["ann_accuracy"], runs[0]["model"]
        about = f"{model}, {runs[0]['n']:,} test images"
        caption: list[nodes.Node] = [nodes.Text(f"{about}. ")]
        for paragraph in self.parse_content_to_nodes():
            caption += paragraph.children
        return figure(self.env, f"accuracy-{model}", [panel(found, ann, about)], caption)


def setup(app: Any) -> None:
    app.add_directive("accuracy-figure", AccuracyFigure)
