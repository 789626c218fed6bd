"""All pages bound into one, as paper wants it: contents, chapters, solutions at the back."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlparse

from bs4 import BeautifulSoup, Tag

from book.press.pages import Part

# Where solutions go: before the part with this caption.
BACK = "Reference"
# Sections that end every chapter: the contents leave them out.
SAME = ("Summary", "Exercises", "Further reading")


@dataclass
class Chapter:
    """A page of the book as a chapter of the bound one."""

    name: str
    title: str
    number: str
    body: Tag
    sections: list[tuple[str, str]] = field(default_factory=list)

    @property
    def key(self) -> str:
        return self.name.replace("/", "-")


def read(pages: Path, name: str) -> Chapter:
    """A page's content, its ids and links made unique in the whole book.

    Raises:
        ValueError: the page has no title.
    """
    soup = BeautifulSoup((pages / f"{name}.xhtml").read_text(encoding="utf-8"), "html.parser")
    body, title = soup.select_one("div.body"), soup.find("h1")
    if body is None or title is None:
        raise ValueError(f"{name}.xhtml has no title")
    number = title.find(class_="section-number")
    said = number.get_text().strip(" .") if number else ""
    text = title.get_text().removeprefix(number.get_text() if number else "")
    chapter = Chapter(name, text, said, body)
    for tag in body.find_all(id=True):
        tag["id"] = f"{chapter.key}--{tag['id']}"
    for tag in body.find_all(["a", "img"]):
        _readdress(tag, name, pages)
    for heading in body.find_all("h2"):
        if (section := heading.find_parent("section")) and not heading.find_parent(
            class_=["admonition", "proof"]
        ):
            chapter.sections.append((str(section.get("id", "")), heading.get_text()))
    return chapter


def _readdress(tag: Tag, name: str, pages: Path) -> None:
    """Links to other pages become links inside the book; pictures are found from anywhere."""
    key = "src" if tag.name == "img" else "href"
    address = urlparse(str(tag.get(key, "")))
    if address.scheme or address.netloc or not (address.path or address.fragment):
        return
    here = pages / f"{name}.xhtml"
    target = (here.parent / unquote(address.path)).resolve() if address.path else here.resolve()
    if tag.name == "img":
        tag[key] = target.as_uri()
    elif target.suffix == ".xhtml":
        page = target.relative_to(pages.resolve()).with_suffix("").as_posix().replace("/", "-")
        tag[key] = f"#{page}--{unquote(address.fragment)}" if address.fragment else f"#{page}"
    else:
        del tag[key]  # a file beside the site: nothing to open on paper


def paper(chapter: Chapter) -> list[Tag]:
    """Open what is folded; leave out code that only draws and tables of every network; take the
    solutions out.

    Returns:
        The solutions, in order; where each stood, a line says on which page it is.
    """
    soup = BeautifulSoup("", "html.parser")
    for fold in chapter.body.select("details.hide"):
        fold.decompose()
    for tables in chapter.body.select(".snn-folds"):
        note = soup.new_tag("p", attrs={"class": "left-out"})
        note.append("The tables of all networks are on the page of the site.")
        tables.replace_with(note)
    solutions = []
    for fold in chapter.body.find_all("details"):
        box = soup.new_tag("div", attrs={"class": " ".join(_classes(fold))})
        if fold.get("id"):
            box["id"] = str(fold["id"])
        summary = fold.find("summary", recursive=False)
        if summary is not None:
            summary.name = "p"
        box.extend(list(fold.contents))
        fold.replace_with(box)
        if "solution" in _classes(fold):
            _name(soup, box)
            where = soup.new_tag("p", attrs={"class": "solution-where"})
            where.append("Solution: page ")
            where.append(soup.new_tag("a", attrs={"class": "page", "href": f"#{box['id']}"}))
            box.replace_with(where)
            solutions.append(box)
    return solutions


def _classes(tag: Tag) -> list[str]:
    found = tag.get("class")
    return found.split() if isinstance(found, str) else list(found or ())


def _name(soup: BeautifulSoup, solution: Tag) -> None:
    """Away from its exercise, a solution says which one it solves."""
    title = solution.find(class_="admonition-title")
    exercise = solution.find_previous(lambda tag: {"exercise", "admonition"} <= set(_classes(tag)))
    if title is None or not isinstance(exercise, Tag):
        return
    solved = exercise.find(class_="admonition-title")
    if solved is not None:
        title.clear()
        title.append("Solution to ")
        text = " ".join(solved.get_text().split())
        title.append(soup.new_tag("a", href=f"#{exercise['id']}", string=text))


def at_the_back(solved: list[tuple[Chapter, list[Tag]]]) -> Chapter:
    """A chapter that holds all solutions."""
    soup = BeautifulSoup('<div class="body"><h1>Solutions</h1></div>', "html.parser")
    body = soup.div
    assert body is not None
    found = Chapter("solutions", "Solutions", "", body)
    for chapter, solutions in solved:
        if not solutions:
            continue
        name = f"solutions--{chapter.key}"
        title = f"{chapter.number} {chapter.title}".strip()
        section = soup.new_tag("section", id=name)
        section.append(soup.new_tag("h2", string=title))
        section.extend(solutions)
        body.append(section)
        found.sections.append((name, title))
    return found


def bind(pages: Path, parts: list[Part]) -> list[tuple[str, list[Chapter]]]:
    """The book in reading order: captions with their chapters, the solutions in the back."""
    bound, solved = [], []
    for part in parts:
        chapters = [read(pages, name) for name in part.pages]
        solved += [(chapter, paper(chapter)) for chapter in chapters]
        bound.append((part.caption, chapters))
    back = at_the_back(solved)
    if back.sections:
        place = [caption for caption, _ in bound]
        bound.insert(place.index(BACK) if BACK in place else len(bound), ("", [back]))
    return bound


def contents(bound: list[tuple[str, list[Chapter]]]) -> str:
    """The table of contents; the pages' numbers are entered after the first print."""
    lines = []
    for caption, chapters in bound[1:]:
        if caption:
            lines.append(f'<p class="toc-part">{html.escape(caption)}</p>')
        for chapter in chapters:
            lines.append(_line("toc-chapter", chapter.key, chapter.number, chapter.title))
            if chapter.number:
                lines += [
                    _line("toc-section", name, "", text)
                    for name, text in chapter.sections
                    if text not in SAME
                ]
    return '<nav class="toc"><h1 class="unnumbered">Contents</h1>' + "\n".join(lines) + "</nav>"


def _line(kind: str, target: str, number: str, text: str) -> str:
    return (
        f'<a class="{kind}" href="#{target}"><span class="toc-number">{number}</span>'
        f"<span>{html.escape(text)}</span><i></i>"
        f'<span class="page" data-of="{target}"></span></a>'
    )


def heads(bound: list[tuple[str, list[Chapter]]], book: str) -> str:
    """Running heads: each chapter is a kind of page of its own."""
    rules = []
    for caption, chapters in bound[1:]:
        for chapter in chapters:
            name = f"page-{chapter.key}".replace("_", "-")
            left = f"{chapter.number}  {chapter.title}".strip() if chapter.number else chapter.title
            rules.append(
                f"#{chapter.key} {{ page: {name} }}\n@page {name} {{ "
                f"@top-left {{ content: {_css(left)} }} "
                f"@top-right {{ content: {_css(caption or book)} }} }}"
            )
    return "\n".join(rules)


def _css(text: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'
