"""The two figures of the welcome page.

``{hero}`` draws what the book is about: the staircase that a spiking neuron makes of a ReLU, closer
with every time step. ``{accuracy-figure}`` draws accuracy over time steps of the hardest network
with stored results, in the book's one figure style, for light and for dark pages.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from book.tools import tables
from bookext.modes import WHOLE, Panel, figure
from snnlib import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEFT, RIGHT, TOP, BOTTOM = 70, 700, 24, 250
STEPS = (1, 2, 4, 8, 16)
# The hardest first.
NETWORKS = (
    "cifar10-resnet", "cifar10-vgg", "cifar10-vgg-max", "fashion-cnn", "mnist-cnn", "fashion-mlp",
    "mnist-mlp", "digits-cnn",
)  # fmt: skip
NEURONS = ("if", "ternary", "augmented")


def _x(value: float) -> float:
    return LEFT + (RIGHT - LEFT) * (value + 0.25) / 1.25


def _y(value: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * value


def counts(current: np.ndarray, steps: int) -> np.ndarray:
    """Net counts of a memoryless augmented neuron with threshold 1 and v0 = ½ (the closed form)."""
    return np.maximum(0, np.floor(current * steps + 0.5))


def _frame(number: int, steps: int) -> str:
    """The mean output after some steps, as a staircase."""
    x = np.linspace(-0.25, 1.0, 2001)
    y = counts(x, steps) / steps
    corners = np.flatnonzero(np.diff(y)) + 1
    path = f"M{_x(x[0]):.1f} {_y(y[0]):.1f}"
    for k in corners:
        path += f"H{_x(x[k]):.1f}V{_y(y[k]):.1f}"
    path += f"H{_x(1.0):.1f}"
    ticks = "".join(f"M{_x(x[k]):.1f} 280v-14" for k in corners)
    still = " still" if steps == 4 else ""
    word = "step" if steps == 1 else "steps"
    return (
        f'<g class="frame{still}" style="animation-delay:{number * 2.4 - 12:g}s">'
        f'<path class="stairs" d="{path}"/><path class="spikes" d="{ticks}"/>'
        f'<text x="{RIGHT}" y="{BOTTOM - 44}" text-anchor="end">'
        f"after {steps} time {word}</text></g>"
    )


def hero() -> str:
    """The drawing of the title page as inline SVG, which takes the colors of the page."""
    frames = "".join(_frame(number, steps) for number, steps in enumerate(STEPS))
    return f"""\
<figure class="snn-hero">
<svg viewBox="0 0 740 300" role="img" aria-labelledby="hero-title hero-text">
<title id="hero-title">A spiking neuron becomes a ReLU</title>
<desc id="hero-text">A dashed line shows the ReLU of an artificial neuron. A staircase, the mean
output of a spiking neuron, has one tread after one time step and follows the line more closely
after 2, 4, 8 and 16 steps. Ticks under the axis mark where one more spike is sent.</desc>
<path class="axis" d="M{LEFT} {BOTTOM}H{RIGHT}M{_x(0):.1f} {BOTTOM}V{TOP}"/>
<path class="relu" d="M{LEFT} {_y(0)}H{_x(0):.1f}L{_x(1):.1f} {_y(1)}"/>
{frames}
<text class="muted" x="{RIGHT}" y="{BOTTOM - 12}" text-anchor="end">input</text>
<text class="muted" x="{_x(0) - 8:.0f}" y="{TOP + 14}" text-anchor="end">output</text>
</svg>
<figcaption>Dashed: a ReLU. Blue: what a spiking neuron with half a threshold of initial potential
has sent, divided by the number of time steps. Ticks: inputs at which it sends one more
spike.</figcaption>
</figure>"""


class Hero(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        return [nodes.raw("", hero(), format="html")]


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
    app.add_directive("hero", Hero)
    app.add_directive("accuracy-figure", AccuracyFigure)
