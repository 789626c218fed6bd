"""``{measured} NAME`` and ``{cite-book}``: the book's own rows beside the methods of others.

A table of ``{measured}`` has the rows of one question, accuracy over time steps on one network,
read from ``book/results`` when the site is built. ``{cite-book}`` writes BibTeX from CITATION.cff.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from bookext.figures import NETWORKS
from bookext.late_panels import BASELINES
from bookext.results import Result, of
from bookext.stored import read
from bookext.table import Table

STEPS = (1, 2, 4, 8, 16, 32)
Z = 1.96  # standard errors on each side of a 95 % interval


class Row(NamedTuple):
    """One setting of a table.

    Attributes:
        name: what the reader sees.
        accuracy: step → fraction.
        ann: accuracy of the ANN on the same images.
        n: how many images.
        images: of which split.
    """

    name: str
    accuracy: dict[int, float]
    ann: float
    n: int
    images: str


def row(name: str, run: dict[str, Any]) -> Row:
    """A stored run, with one accuracy a step, as a row."""
    accuracy = dict(enumerate(run["accuracy"], 1))
    return Row(name, accuracy, run["ann_accuracy"], run["n"], run.get("images", "test"))


def choices(*wanted: tuple[str, str, str]) -> Callable[[Result, str], list[Row]]:
    """Rows of the ablations: (axis, choice, name), all else as in the ablations' fixed point."""

    def rows(result: Result, model: str) -> list[Row]:
        runs = {(run["axis"], run["choice"]): run for run in of(result, model)}
        return [row(name, runs[axis, choice]) for axis, choice, name in wanted]

    return rows


def neurons(result: Result, model: str) -> list[Row]:
    """Every neuron in its plain and its best form, and the ANN rounded as AugMapping rounds."""
    runs = [r for r in of(result, model) if "headline" in r or r["label"].endswith("plain")]
    found = [row(run["label"], run) for run in runs]
    for run in runs:
        if "headline" in run and "quantized_ann" in run:
            rounded = run["quantized_ann"]
            accuracy = dict(zip(rounded["steps"], rounded["accuracy"], strict=True))
            name = "ANN, activations rounded as finely"
            found.append(row(name, run)._replace(accuracy=accuracy))
    return found


def late(result: Result, model: str) -> list[Row]:
    """The baselines of the late answer, each read from step 1 and from the chosen start."""
    found = []
    for run in of(result, model):
        if run["label"] in BASELINES:
            plain = row(f"{run['label']}, from step 1", run)
            read = row(f"{run['label']}, late answer", {**run, **run["late"]})
            found += [plain, read]
    return found


# Name → the experiment, and its rows: accuracy over time steps.
ROWS: dict[str, tuple[str, Callable[[Result, str], list[Row]]]] = {
    "thresholds": (
        "ablations",
        choices(
            ("balance", "max", "largest activation"),
            ("balance", "99.9", "99.9th percentile"),
            ("balance", "min-error", "least squared error"),
            ("scope", "channel", "99.9th percentile, one a channel"),
        ),
    ),
    "start": (
        "ablations",
        choices(
            ("v0", "0", "start at zero, v0 = 0"),
            ("v0", "0.5", "start half full, v0 = ½"),
            ("bias calibration", "for 2 steps", "v0 = ½, biases corrected for 2 steps"),
            ("reset", "IF, subtract", "IF, reset by subtraction"),
            ("reset", "IF, zero", "IF, reset to zero"),
        ),
    ),
    "late": ("late-answer", late),
    "neurons": ("accuracy-over-time", neurons),
    "negative": (
        "ablations",
        choices(
            ("negative", "1", "second threshold at −θ"),
            ("negative", "0.5", "second threshold at −θ/2"),
            ("negative", "0", "second threshold at 0"),
            ("levels", "1", "1 level"),
            ("levels", "4", "4 levels"),
            ("levels", "16", "16 levels"),
        ),
    ),
}


def table(rows: list[Row], model: str) -> Table:
    """Accuracy in percent after some steps; the title says on what, and how sure it is."""
    steps = [t for t in STEPS if any(t in found.accuracy for found in rows)]
    cells = [
        [
            found.name,
            *(f"{100 * found.accuracy[t]:.1f}" if t in found.accuracy else "" for t in steps),
        ]
        for found in rows
    ]
    n, images, ann = rows[0].n, rows[0].images, rows[0].ann
    spread = 100 * Z * math.sqrt(ann * (1 - ann) / n)
    title = (
        f"{n:,} {images} images, accuracy (%) after so many steps; "
        f"the ANN has {100 * ann:.1f} ± {spread:.1f} %"
    )
    return Table(title, ["", *map(str, steps)], cells, model)


def exit_table(result: Result, model: str) -> Table:
    """Every neuron with all steps, and with as many as each image needs.

    They are those of the confidence that validation images chose.
    """
    runs = of(result, model)
    cells = [
        [run["label"], f"{run['steps']}", f"{100 * run['accuracy'][-1]:.1f}",
         f"{chosen['mean_steps']:.1f}", f"{100 * chosen['accuracy']:.1f}"]
        for run in runs
        for chosen in run["sweep"]
        if chosen["chosen"]
    ]  # fmt: skip
    head = ["", "All steps", "accuracy (%)", "Early exit, mean steps", "accuracy (%)"]
    title = f"{runs[0]['n']:,} test images, all steps and as many as each image needs"
    return Table(title, head, cells, model)


def _tabled(rows: Callable[[Result, str], list[Row]]) -> Callable[[Result, str], Table]:
    return lambda result, model: table(rows(result, model), model)


# Name → the experiment, and its table for a network.
KINDS = {name: (file, _tabled(rows)) for name, (file, rows) in ROWS.items()}
KINDS["exits"] = ("early-exit", exit_table)


def measured(name: str, folder: Path) -> Table | None:
    """The table of that name on the hardest network that was measured; None without one."""
    file, make = KINDS[name]
    result = read(folder, file).get(file, {})
    model = next((model for model in NETWORKS if of(result, model)), None)
    return None if model is None else make(result, model)


class Measured(SphinxDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()  # a new result is no change of a file that was there
        name = self.arguments[0]
        if name not in KINDS:
            raise self.error(f"measured: one of {', '.join(KINDS)}, not {name!r}")
        found = measured(name, Path(self.env.srcdir) / "book" / "results")
        if found is None:
            return [nodes.paragraph("", "Not measured yet.")]
        self.env.metadata[self.env.docname]["stored-tables"] = True
        return [nodes.raw("", found.html(), format="html")]


def bibtex(citation: dict[str, Any]) -> str:
    """The book as a BibTeX entry, from what CITATION.cff says of it and of the library."""
    book = citation["preferred-citation"]
    fields = {
        "author": " and ".join(f"{{{author['name']}}}" for author in book["authors"]),
        "title": book["title"],
        "year": book["year"],
        "note": f"With the library snnlib, version {citation['version']}",
        "url": book["url"],
    }
    lines = (f"  {key:<6} = {{{value}}}" for key, value in fields.items())
    return f"@{book['type']}{{snnlib,\n" + ",\n".join(lines) + "\n}"


class CiteBook(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        path = Path(self.env.srcdir) / "CITATION.cff"
        self.env.note_dependency(str(path))
        text = bibtex(yaml.safe_load(path.read_text(encoding="utf-8")))
        return [nodes.literal_block(text, text, language="bibtex")]


def setup(app: Any) -> None:
    app.add_directive("measured", Measured)
    app.add_directive("cite-book", CiteBook)
