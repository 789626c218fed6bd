"""Slides of a part: notes in `book/slides/`, figures and equations from the chapters, one file.

The notes are Markdown. ``# Title`` opens a chapter and ``## Title`` a slide; three kinds of lines
show what a chapter has, and a quotation at the end of a slide is what the teacher says::

    # Spiking neurons
    {chapter} 01_neurons

    ## The overshoot is kept or lost
    {figure} two tanks
    {equation} eq:neurons-charge
    > 3 minutes · Two ways to reset
    > Play the animation twice. Ask which curve falls behind.

The file that is made needs no network: pictures and the formulas' font are part of it.
"""

from __future__ import annotations

import base64
import html
import re
from dataclasses import dataclass, field
from pathlib import Path

from book.press import fonts
from book.press.notebooks import Notebook, NotFound
from book.press.pages import ROOT
from snnlib.deploy.files import write_bytes

HERE = Path(__file__).resolve().parent
TIMED = re.compile(r"(\d+) minutes?(?: · (.+))?$")


@dataclass
class Slide:
    """One idea: what is shown, what is said, for how long, and which section it presents."""

    title: str
    chapter: str
    opens: bool
    shown: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    minutes: int = 0
    section: str = ""


def read(notes: Path, book: Path = ROOT / "book") -> tuple[str, list[Slide]]:
    """The deck's title and its slides.

    Raises:
        NotFound: a slide has no minutes, or names a section that its chapter does not have.
    """
    head, *blocks = re.split(r"^(?=##? )", notes.read_text(encoding="utf-8"), flags=re.M)
    title = " ".join(head.split())
    slides: list[Slide] = []
    chapter = ""
    for block in blocks:
        first, *lines = block.strip().splitlines()
        marks, name = first.split(" ", 1)
        slide = Slide(name, chapter, marks == "#")
        for line in lines:
            if line.startswith("{chapter} "):
                chapter = slide.chapter = line.removeprefix("{chapter} ").strip()
            elif line.startswith(">"):
                slide.said.append(line.removeprefix(">").strip())
            else:
                slide.shown.append(line)
        timed = TIMED.match(slide.said[0]) if slide.said else None
        if timed is None:
            raise NotFound(f"{notes.name}: {name!r} does not say `> N minutes · Section`")
        slide.minutes, slide.said = int(timed[1]), slide.said[1:]
        if timed[2]:
            slide.section = Notebook(book / f"{slide.chapter}.ipynb").section(timed[2])
        slides.append(slide)
    return title, slides


def render(slide: Slide, book: Path) -> str:
    """The content of a slide as HTML.

    Raises:
        NotFound: a figure or equation is not in the chapter.
    """
    notebook = Notebook(book / f"{slide.chapter}.ipynb")
    pieces, text = [], []
    for line in [*slide.shown, ""]:
        key, _, wanted = line.partition(" ")
        if key not in ("{figure}", "{equation}"):
            text.append(line)
            continue
        pieces.append(_markdown("\n".join(text)))
        text = []
        if key == "{equation}":
            tex = notebook.equation(wanted.strip())
            pieces.append(f'<div class="math">{_math(tex, True)}</div>')
        else:
            pieces.append(f'<div class="picture">{notebook.picture(wanted).markup}</div>')
    pieces.append(_markdown("\n".join(text)))
    return "".join(pieces)


def _math(tex: str, display: bool) -> str:
    from bookext.mathml import convert

    return convert(tex, display)


def _markdown(text: str) -> str:
    from markdown_it import MarkdownIt
    from mdit_py_plugins.dollarmath import dollarmath_plugin

    if not text.strip():
        return ""
    reader = MarkdownIt("commonmark").enable("table")
    reader.use(
        dollarmath_plugin, renderer=lambda tex, options: _math(tex, bool(options["display_mode"]))
    )
    found = str(reader.render(text))
    return re.sub(r'<(span|div) class="math (inline|block)">', r'<\1 class="math">', found)


def make(notes: Path, folder: Path, book: Path = ROOT / "book") -> Path:
    """Write the slides of a part as one file.

    Raises:
        NotFound: a slide names what its chapter does not have.
    """
    title, slides = read(notes, book)
    sections, start = [], 0
    for number, slide in enumerate(slides, 1):
        end = start + slide.minutes
        kind = "opening" if slide.opens else "slide"
        spoken = _markdown("\n".join(slide.said))
        sections.append(
            f'<section class="{kind}" id="slide-{number}" data-start="{start}" data-end="{end}">'
            f"<h2>{_markdown(slide.title).removeprefix('<p>').removesuffix('</p>' + chr(10))}</h2>"
            f'<div class="shown">{render(slide, book)}</div>'
            f'<aside class="said">{spoken}</aside></section>'
        )
        start = end
    page = (HERE / "slides.html").read_text(encoding="utf-8")
    font = base64.b64encode(fonts.math_subset()).decode()
    for key, value in {
        "@TITLE@": html.escape(title),
        "@MATHML@": (fonts.STATIC / "mathml.css").read_text(encoding="utf-8"),
        "@FONT@": f"data:font/woff;base64,{font}",
        "@SLIDES@": "\n".join(sections),
    }.items():
        page = page.replace(key, value)
    out = folder / f"slides-{notes.stem.replace('part', 'part-')}.html"
    write_bytes(out, page.encode())
    return out


def minutes(slides: list[Slide], chapter: str) -> dict[str, int]:
    """Lecture minutes of a chapter by section, in order; what belongs to none stands under ''."""
    found: dict[str, int] = {}
    for slide in slides:
        if slide.chapter == chapter:
            found[slide.section] = found.get(slide.section, 0) + slide.minutes
    return found
