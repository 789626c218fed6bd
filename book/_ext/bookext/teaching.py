"""Two tables of the teachers' page, made from chapters and slides so that neither goes stale.

``{lecture-plan}``: minutes of reading and of lecture for each chapter and section. A chapter says
how long it takes; its sections get their share by the words and lines of code they have. Minutes
of lecture are those of the slides.

``{goals-and-exercises}``: what a student can do after a chapter, and which exercises ask for it.
The content has a line a chapter, its goals in order, separated by bars; nothing between two bars
says that no exercise asks for it::

    neurons: hand | tie mean | | leak
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from book.press import slides
from book.press.notebooks import Notebook
from bookext import chapters

OPENING = ""
LINE = 5  # a line of code takes as long as so many words


def weights(notebook: Notebook) -> dict[str, int]:
    """How much there is to read in each section, in words; before the first stands ``OPENING``."""
    found, section, solution = {OPENING: 0}, OPENING, False
    for cell in notebook.cells:
        source = "".join(cell["source"])
        if "{solution-start}" in source:
            solution = True
        if cell["cell_type"] == "code" and not solution:
            if "remove-cell" not in cell["metadata"].get("tags", []):
                found[section] += LINE * sum(bool(line.strip()) for line in source.splitlines())
        elif not solution:
            for piece in re.split(r"^(?=## )", source, flags=re.M):
                title = re.match(r"## (.+)", piece)
                if title and title[1].replace("`", "") in notebook.sections:
                    section = title[1].replace("`", "")
                    found.setdefault(section, 0)
                found[section] += len(piece.split())
        if "{solution-end}" in source:
            solution = False
    return found


def shares(parts: dict[str, int], minutes: int) -> dict[str, int]:
    """Minutes shared out by weight, in whole numbers that add up (largest remainders)."""
    total = sum(parts.values())
    exact = {key: minutes * weight / total for key, weight in parts.items()}
    found = {key: int(value) for key, value in exact.items()}
    rest = sorted(exact, key=lambda key: found[key] - exact[key])
    for key in rest[: minutes - sum(found.values())]:
        found[key] += 1
    return found


def plan(path: Path, deck: list[slides.Slide]) -> list[tuple[str, int, int]]:
    """Title, minutes of reading and of lecture: the chapter first, then its sections."""
    chapter, notebook = chapters.read(path), Notebook(path)
    spoken = slides.minutes(deck, path.stem)
    read = shares(weights(notebook), chapter.minutes)
    rows = [(chapter.title, chapter.minutes, sum(spoken.values()))]
    rows.append(("Opening, goals", read[OPENING], spoken.get(OPENING, 0)))
    return rows + [(title, read[title], spoken.get(title, 0)) for title in notebook.sections]


def goals(path: Path) -> list[str]:
    """The goals that a chapter opens with."""
    cell = "".join(Notebook(path).cells[0]["source"])
    box = re.search(r"^```\{admonition\}[^\n]*\n:class: goals\n(.*?)^```", cell, re.M | re.S)
    found = re.findall(r"^- (.+(?:\n  .+)*)", box[1] if box else "", re.M)
    return [" ".join(goal.split()).rstrip(".,;") for goal in found]


def exercises(path: Path) -> list[str]:
    """The labels of a chapter's exercises, in order."""
    text = Notebook(path).text
    return re.findall(r"^```+\{exercise(?:-start)?\}[^\n]*\n:label: (\S+)", text, re.M)


def mapped(name: str, path: Path, line: str) -> list[tuple[str, list[str]]]:
    """Each goal of a chapter with the labels of its exercises.

    Raises:
        ValueError: goals and entries differ in number, a label does not exist, or an exercise
            serves no goal.
    """
    found, there = goals(path), exercises(path)
    entries = [[f"ex-{name}-{word}" for word in entry.split()] for entry in line.split("|")]
    if len(entries) != len(found):
        told = "\n".join(f"  - {goal}" for goal in found)
        raise ValueError(f"{path.name} has {len(found)} goals, {len(entries)} given:\n{told}")
    used = {label for entry in entries for label in entry}
    if unknown := used - set(there):
        raise ValueError(f"{path.name} has no {sorted(unknown)}; there are {there}")
    if idle := set(there) - used:
        raise ValueError(f"{path.name}: no goal is served by {sorted(idle)}")
    return list(zip(found, entries, strict=True))


def _notebooks(directive: SphinxDirective) -> dict[str, Path]:
    """The chapters of the table of contents by the name in their label."""
    book = Path(directive.env.srcdir) / "book"
    found = {}
    for path in sorted(book.glob("[0-9][0-9]_*.ipynb")):
        if f"book/{path.stem}" in directive.env.found_docs:
            directive.env.note_dependency(str(path))
            label = re.match(r"\(ch:([\w-]+)\)=", "".join(Notebook(path).cells[0]["source"]))
            if label:
                found[label[1]] = path
    return found


class LecturePlan(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        book = Path(self.env.srcdir) / "book"
        decks = sorted((book / "slides").glob("*.md"))
        for deck in decks:
            self.env.note_dependency(str(deck))
        shown = [slide for deck in decks for slide in slides.read(deck, book)[1]]
        head = ["| | Reading | Lecture |", "|---|--:|--:|"]
        lines, folded = list(head), []
        for name, path in _notebooks(self).items():
            (chapter, read, said), *rows = plan(path, shown)
            lines.append(f"| {{ref}}`ch:{name}` | {read} min | {said} min |")
            folded += [f"```{{admonition}} {chapter}, by section", ":class: note dropdown", ""]
            folded += head
            folded += [f"| {title} | {r} | {s or '–'} |" for title, r, s in rows if r or s]
            folded += ["```", ""]
        return self.parse_text_to_nodes("\n".join([*lines, "", *folded]))


class GoalsAndExercises(SphinxDirective):
    has_content = True

    def run(self) -> list[nodes.Node]:
        given = dict(line.split(":", 1) for line in self.content if line.strip())
        notebooks = _notebooks(self)
        if set(given) != set(notebooks):
            raise ExtensionError(
                f"goals-and-exercises has {sorted(given)}, the book has {sorted(notebooks)}"
            )
        lines = ["| After the chapter you can | Exercises |", "|---|---|"]
        for name, path in notebooks.items():
            try:
                rows = mapped(name, path, given[name])
            except ValueError as error:
                raise ExtensionError(str(error)) from error
            lines.append(f"| **{{ref}}`ch:{name}`** | |")
            for goal, labels in rows:
                asked = ", ".join(f"{{ref}}`{label}`" for label in labels) or "–"
                lines.append(f"| {goal} | {asked} |")
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Any) -> None:
    app.add_directive("lecture-plan", LecturePlan)
    app.add_directive("goals-and-exercises", GoalsAndExercises)
