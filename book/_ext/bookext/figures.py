"""The two figures of the welcome page.

``{hero}`` draws what the book is about: the staircase that a spiking neuron makes of a ReLU, closer
with every time step. ``{accuracy-figure} NAME`` draws accuracy over time steps from the stored
result ``book/results/NAME.json``, in the book's one figure style, for light and for dark pages.
"""

from __future__ import annotations

import html
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

LEFT, RIGHT, TOP, BOTTOM = 70, 700, 24, 250
STEPS = (1, 2, 4, 8, 16)


def _x(value: float) -> float:
    return LEFT + (RIGHT - LEFT) * (value + 0.25) / 1.25


def _y(value: float) -> float:
    return BOTTOM - (BOTTOM - TOP) * value


def _frame(number: int, steps: int) -> str:
    """The mean output after some steps of a neuron with threshold 1 and v0 = ½, as a staircase."""
    x = np.linspace(-0.25, 1.0, 2001)
    y = np.maximum(0, np.floor(x * steps + 0.5)) / steps
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


def curves(runs: list[dict[str, Any]]) -> tuple[dict[str, list[float]], float]:
    """Label → accuracy after each step, and the ANN's accuracy, from the runs of stored results."""
    found = {str(run["label"]): [float(a) for a in run["accuracy"]] for run in runs}
    accuracies = {run["ann_accuracy"] for run in runs}
    if len(found) != len(runs) or len(accuracies) != 1:
        raise ValueError("the runs need different labels and one ANN")
    return found, accuracies.pop()


def describe(found: dict[str, list[float]], ann: float, about: str) -> str:
    """Alt text from the numbers: where each curve starts and when it is near the ANN."""
    parts = []
    for label, values in found.items():
        near = next((t for t, a in enumerate(values, 1) if a >= ann - 0.001), None)
        when = (
            f"within 0.1 points of the ANN after {near} steps" if near else "not within 0.1 points"
        )
        parts.append(f"{label} starts at {100 * values[0]:.1f} % and is {when}")
    return f"Accuracy over time steps, {about}; the ANN at {100 * ann:.2f} % is a dashed line. " + (
        "; ".join(parts) + "."
    )


def draw(found: dict[str, list[float]], ann: float, mode: Any) -> str:
    """The figure as SVG text."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib.figure import Figure

    from snnlib import plots

    with plots.style(mode):
        figure = Figure(figsize=(6.4, 3.8))
        ax = figure.subplots()
        longest = max(map(len, found.values()))
        plots.accuracy_over_time(ax, range(1, longest + 1), found, ann)
        target = io.StringIO()
        figure.savefig(target, format="svg", metadata={"Date": None})
    return target.getvalue()


class AccuracyFigure(SphinxDirective):
    """``{accuracy-figure} NAME ...``: stored results of one network; the content is a caption."""

    required_arguments = 1
    optional_arguments = 9
    has_content = True

    def run(self) -> list[nodes.Node]:
        runs = []
        for name in self.arguments:
            path = Path(self.env.srcdir) / "book" / "results" / f"{name}.json"
            self.env.note_dependency(str(path))
            if not path.is_file():
                raise self.error(f"accuracy-figure: there is no book/results/{name}.json")
            runs += json.loads(path.read_text(encoding="utf-8"))["runs"]
        found, ann = curves(runs)
        about = f"{runs[0]['model']}, {runs[0]['n']:,} test images"
        alt = html.escape(describe(found, ann, about), quote=True)
        folder = Path(self.env.app.outdir) / "_images"
        folder.mkdir(parents=True, exist_ok=True)
        up, stem = "../" * self.env.docname.count("/"), f"accuracy-{runs[0]['model']}"
        images = ""
        for mode in ("light", "dark"):
            (folder / f"{stem}-{mode}.svg").write_text(draw(found, ann, mode), encoding="utf-8")
            images += (
                f'<img class="only-{mode}" src="{up}_images/{stem}-{mode}.svg" alt="{alt}" '
                'width="640" height="380">\n'
            )
        start = nodes.raw(
            "", f'<figure class="snn-figure"><div>\n{images}</div><figcaption>', format="html"
        )
        end = nodes.raw("", "</figcaption></figure>", format="html")
        caption = nodes.inline(
            "", "", *(n for p in self.parse_content_to_nodes() for n in p.children)
        )
        return [start, caption, end]


def setup(app: Any) -> None:
    app.add_directive("hero", Hero)
    app.add_directive("accuracy-figure", AccuracyFigure)
