"""``{result-figure} KIND``: a figure of an experiment, drawn from its stored result.

The content is the caption. ``:network:`` names the network; without it the figure is of the
hardest network in the file, and ``accuracy`` has a panel for every one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

from bookext import (
    allocation_panels,
    cost_panels,
    grid_panels,
    image_panels,
    late_panels,
    run_panels,
)
from bookext.figures import NETWORKS
from bookext.modes import Key, Panel, figure
from bookext.results import Result, of
from bookext.stored import read

if TYPE_CHECKING:
    from book.experiments.frame import Row


@dataclass(frozen=True)
class Kind:
    """Where a figure's numbers are and what draws them.

    Attributes:
        file: the result, without ``.json``.
        what: of it, for the sentence that it is not measured yet.
        draw: the panels and the legend of one network; no panels where it has no numbers.
        every: show all networks, not only the hardest.
        section: of the file, whose rows name the networks and their images.
    """

    file: str
    what: str
    draw: Callable[[Result, str], tuple[list[Panel], list[Key]]]
    every: bool = False
    section: str = "runs"


KINDS = {
    "accuracy": Kind("accuracy-over-time", "Accuracy over time steps", run_panels.accuracy, True),
    "late-answer": Kind("late-answer", "The late answer", late_panels.late, True),
    "frontier": Kind("frontier", "Accuracy against its costs", cost_panels.frontier),
    "coefficients": Kind("frontier", "The size of the spikes", cost_panels.coefficients),
    "layer-errors": Kind("layer-errors", "The error of each layer", run_panels.layer_errors),
    "early-exit": Kind("early-exit", "Early exit", run_panels.early_exit),
    "extremes": Kind(
        "early-exit", "The order of the images", image_panels.extremes, section="images"
    ),
    "robustness": Kind("robustness", "Accuracy under disturbances", run_panels.robustness),
    "grid": Kind("ablations", "The grid of all choices", grid_panels.grid, True, "grid"),
    "allocation": Kind(
        "allocation",
        "The allocation of thresholds",
        allocation_panels.allocation,
        section="choices",
    ),
}


def networks(rows: list[Row]) -> list[str]:
    """The networks that have rows, the hardest first; those that the book does not know last."""
    found = dict.fromkeys(row["model"] for row in rows)
    return sorted(found, key=lambda name: (*NETWORKS, name).index(name))


def panels(kind: Kind, folder: Path, network: str | None) -> tuple[list[Panel], list[Key], str]:
    """The panels, the legend, and what is shown in words; no panels if nothing is measured."""
    result = read(folder, kind.file).get(kind.file, {})
    found: list[Panel] = []
    keys: dict[str, Key] = {}
    shown: dict[str, list[str]] = {}  # how many images → networks
    for model in networks(result.get(kind.section, [])) if network is None else [network]:
        drawn, entries = kind.draw(result, model)
        found += drawn
        keys |= {key.label: key for key in entries if key.label not in keys}
        if drawn:
            shown.setdefault(images(of(result, model, kind.section)), []).append(model)
        if drawn and not kind.every:
            break
    said = "; ".join(f"{', '.join(models)}: {many}" for many, models in shown.items())
    return found, list(keys.values()), said


def images(rows: list[Any]) -> str:
    """How many images of which split a network was measured on."""
    split = "validation" if rows[0].get("images") == "validation" else "test"
    return f"{max(row['n'] for row in rows):,} {split} images"


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
        found, keys, shown = panels(kind, folder, network)
        if not found:
            where = f" on {network}" if network else ""
            return [nodes.paragraph("", f"{kind.what}{where} is not measured yet.")]
        caption: list[nodes.Node] = [nodes.Text(f"{shown}. ")]
        for paragraph in self.parse_content_to_nodes():
            caption += paragraph.children
        file = f"result-{name}" + (f"-{network}" if network else "")
        return figure(self.env, file, found, caption, keys)


def setup(app: Any) -> None:
    app.add_directive("result-figure", ResultFigure)
