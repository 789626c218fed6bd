"""``{result-figure} KIND``: a figure of an experiment, drawn from its stored result.

The content is the caption. There is a figure of every network in the file; ``:network:`` names one
that is shown alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

from bookext import (
    allocation_panels,
    cost_panels,
    exit_panels,
    grid_panels,
    image_panels,
    late_panels,
    negative_panels,
    networks,
    run_panels,
)
from bookext.modes import Key, Panel, figure, interactive
from bookext.results import Result, images, of
from bookext.stored import read
from snnlib import plots

if TYPE_CHECKING:
    from book.experiments.frame import Row


@dataclass(frozen=True)
class Kind:
    """Where a figure's numbers are and what draws them.

    Attributes:
        file: the result, without ``.json``.
        what: of it, for the sentence that it is not measured yet.
        draw: the panels and the legend of one network; no panels where it has no numbers.
        section: of the file, whose rows name the networks and their images.
    """

    file: str
    what: str
    draw: Callable[[Result, str], tuple[list[Panel], list[Key]]]
    section: str = "runs"


KINDS = {
    "accuracy": Kind("accuracy-over-time", "Accuracy over time steps", run_panels.accuracy),
    "late-answer": Kind("late-answer", "The late answer", late_panels.late),
    "negative": Kind("negative", "The negative threshold", negative_panels.negative),
    "frontier": Kind("frontier", "Accuracy against its costs", cost_panels.frontier),
    "coefficients": Kind("frontier", "The size of the spikes", cost_panels.coefficients),
    "layer-errors": Kind("layer-errors", "The error of each layer", run_panels.layer_errors),
    "early-exit": Kind("early-exit", "Early exit", run_panels.early_exit),
    "seenn": Kind("seenn", "SEENN", exit_panels.exits),
    "extremes": Kind(
        "early-exit", "The order of the images", image_panels.extremes, section="images"
    ),
    "robustness": Kind("robustness", "Accuracy under disturbances", run_panels.robustness),
    "grid": Kind("ablations", "The grid of all choices", grid_panels.grid, "grid"),
    "allocation": Kind(
        "allocation",
        "The allocation of thresholds",
        allocation_panels.allocation,
        section="choices",
    ),
}


class Drawn(NamedTuple):
    """The figure of one network."""

    panels: list[Panel]
    keys: list[Key]
    about: str  # network and images, the beginning of the caption


def figures(kind: Kind, folder: Path, network: str | None = None) -> dict[str, Drawn]:
    """The figure of each network, the hardest first; empty if nothing is measured."""
    result = read(folder, kind.file).get(kind.file, {})
    rows: list[Row] = result.get(kind.section, [])
    models = networks.ordered(row["model"] for row in rows) if network is None else [network]
    found = {model: kind.draw(result, model) for model in models}
    return {
        model: Drawn(panels, keys, f"{model}: {images(of(result, model, kind.section))}")
        for model, (panels, keys) in found.items()
        if panels
    }


def digest(result: Path) -> str:
    """Of a result and of the code that draws it: a drawing with the same one need not be redrawn.

    All drawings of the page take most of a minute, and every build reads the page again.
    """
    code = [*Path(__file__).parent.glob("*.py"), Path(plots.__file__).with_name("style.py")]
    found = hashlib.sha256(result.read_bytes())
    for path in sorted(code):
        found.update(path.read_bytes())
    return found.hexdigest()


class ResultFigure(SphinxDirective):
    required_arguments = 1
    has_content = True
    option_spec: ClassVar[dict[str, Any]] = {"network": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()  # a new result is no change of a file that was there
        name = self.arguments[0]
        if name not in KINDS:
            raise self.error(f"result-figure: one of {', '.join(KINDS)}, not {name!r}")
        kind, network = KINDS[name], self.options.get("network")
        folder = Path(self.env.srcdir) / "book" / "results"
        found = figures(kind, folder, network)
        if not found:
            where = f" on {network}" if network else ""
            return [nodes.paragraph("", f"{kind.what}{where} is not measured yet.")]
        if not interactive(self.env):
            found = dict(list(found.items())[:1])
        stamp = digest(folder / f"{kind.file}.json")
        shown = {
            model: figure(
                self.env, f"result-{name}-{model}", drawn.panels, self.caption(drawn), drawn.keys,
                stamp,
            )
            for model, drawn in found.items()
        }  # fmt: skip
        return networks.blocks(self.env, shown) if network is None else shown[network]

    def caption(self, drawn: Drawn) -> list[nodes.Node]:
        caption: list[nodes.Node] = [nodes.Text(f"{drawn.about}. ")]
        for paragraph in self.parse_content_to_nodes():
            caption += paragraph.children
        return caption


def setup(app: Any) -> None:
    app.add_directive("result-figure", ResultFigure)
