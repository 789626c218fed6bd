"""``{chapter-map}``: the chapters with question and minutes, read from the notebooks.

The page before the first chapter stands above them, without a number.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

OPENING = "why_spikes.ipynb"


@dataclass(frozen=True)
class Chapter:
    """What a chapter says about itself in its first cell."""

    path: Path
    title: str
    question: str
    minutes: int
    facts: dict[str, str]


def read(path: Path) -> Chapter:
    """Read a chapter's opening cell.

    Raises:
        ValueError: if the cell lacks the title, the question or the minutes.
    """
    cell = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
    title = re.search(r"^# (.+)$", cell, re.M)
    question = re.search(r"^# .+\n+([^`\n].*(?:\n.+)*)", cell, re.M)
    facts = dict(re.findall(r"\*\*(Time|Machine|Data|Builds on):\*\* *(.+?)(?= · \*\*|\n|$)", cell))
    minutes = re.match(r"(\d+) minutes", facts.get("Time", ""))
    if not (title and question and minutes):
        raise ValueError(
            f"{path.name}: the first cell lacks its title, question or **Time:** N minutes"
        )
    asked = re.match(r"[^?]*\?", question[1]) or re.match(r".*?\.(?=\s|$)", question[1], re.S)
    short = " ".join((asked[0] if asked else question[1]).split())
    return Chapter(path, title[1].strip(), short, int(minutes[1]), facts)


def plain(text: str) -> str:
    """Text without roles and marks: what a table cell can show."""
    text = re.sub(r"\{[\w:]+\}`([^`<]+?)(?: <[^`]+>)?`", r"\1", text)
    return text.replace("`", "").replace("**", "")


class ChapterMap(SphinxDirective):
    """A table of the chapters that the table of contents names."""

    def run(self) -> list[nodes.Node]:
        rows = []
        book = Path(self.env.srcdir) / "book"
        for path in [book / OPENING, *sorted(book.glob("[0-9][0-9]_*.ipynb"))]:
            docname = path.relative_to(self.env.srcdir).with_suffix("").as_posix()
            if docname not in self.env.found_docs:
                continue
            self.env.note_dependency(str(path))
            chapter = read(path)
            number = "" if path.name == OPENING else str(int(path.name[:2]))
            rows.append(
                f"| {number} | [](/{docname}.ipynb) | {plain(chapter.question)} "
                f"| {chapter.minutes} min |"
            )
        if not rows:
            return [nodes.paragraph("", "The first chapter is being written.")]
        table = ["| No. | Chapter | The question | Time |", "|---|---|---|---|", *rows]
        found = self.parse_text_to_nodes("\n".join(table))
        for node in found:
            node["classes"].append("snn-map")
        return found


def setup(app: Any) -> None:
    app.add_directive("chapter-map", ChapterMap)
