"""A resolved page, cut into the pieces of a notebook: texts and code cells, exercises marked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from docutils import nodes

from book.tools.editions.markdown import Page, block, caption, paragraph, title_of, within

__all__ = ["Page", "Piece", "pieces"]


@dataclass(frozen=True)
class Piece:
    """One cell to be: a text, or the code cell of the chapter's notebook with this place.

    Args:
        text: Markdown, empty for code.
        cell: the place of the code cell in the notebook, None for text.
        role: "chapter", "exercise", "solution", and "fold" for the title of a solution, under
            which a notebook that can fold shows nothing at first.
        breaks: whether the text opens a cell of its own (a title does).
    """

    text: str = ""
    cell: int | None = None
    role: str = "chapter"
    breaks: bool = False


def pieces(document: nodes.document, page: Page, code: Sequence[int]) -> list[Piece]:
    """The page from top to bottom, texts that belong together joined.

    Args:
        code: the places of the notebook's code cells. Those that the page does not show (it
            removes cells, and joins what it folds) come right before the next one.
    """
    joined: list[Piece] = []
    for piece in _complete(_walk(document, page, 0), code):
        last = joined[-1] if joined else None
        same = last and last.cell is None and piece.cell is None and last.role == piece.role
        if last and same and not piece.breaks and last.role != "fold":
            joined[-1] = replace(last, text=f"{last.text}\n\n{piece.text}")
        else:
            joined.append(piece)
    return joined


def _complete(shown: Iterable[Piece], code: Sequence[int]) -> Iterator[Piece]:
    """The pieces with the cells that are missing among them."""
    waiting = list(code)
    for piece in shown:
        while piece.cell is not None and waiting and waiting[0] < piece.cell:
            yield replace(piece, cell=waiting.pop(0))
        if waiting and piece.cell == waiting[0]:
            waiting.pop(0)
        yield piece
    for place in waiting:
        yield Piece(cell=place)


def _walk(node: nodes.Element, page: Page, depth: int) -> Iterator[Piece]:
    for child in node.children:
        kind = type(child).__name__
        if isinstance(child, nodes.section):
            yield from _walk(child, page, depth + 1)
        elif isinstance(child, nodes.title):
            title = f"{'#' * min(depth, 6)} {within(child, page).strip()}"
            yield Piece(title, breaks=True)
        elif isinstance(child, nodes.container) and child.get("nb_element") == "cell_code":
            yield from _cell(child, page)
        elif kind in ("exercise_node", "exercise_enumerable_node"):
            yield from _exercise(child, page, depth)
        elif kind == "solution_node":
            yield from _solution(child, page, depth)
        elif text := block(child, page):
            yield Piece(text)


def _cell(node: nodes.Element, page: Page) -> Iterator[Piece]:
    """A code cell, and what the site writes under its figures."""
    yield Piece(cell=node["cell_index"])
    for under in node.findall(nodes.caption):
        yield Piece(caption(under, page))


def _exercise(node: nodes.Element, page: Page, depth: int) -> Iterator[Piece]:
    """Exercises and solutions are titled, not quoted, since they contain cells."""
    yield Piece(_heading(title_of(node, page), depth + 1), role="exercise", breaks=True)
    yield from _content(node, page, "exercise", depth + 2)


def _solution(node: nodes.Element, page: Page, depth: int) -> Iterator[Piece]:
    yield Piece(_heading("Solution", depth + 2), role="fold", breaks=True)
    yield from _content(node, page, "solution", depth + 2)


def _heading(title: str, depth: int) -> str:
    return f"{'#' * min(depth, 6)} {title}"


def _content(node: nodes.Element, page: Page, role: str, depth: int) -> Iterator[Piece]:
    for child in node.children:
        if isinstance(child, nodes.section):
            for piece in _walk(child, page, depth):
                yield replace(piece, role=role, breaks=False)
        elif isinstance(child, nodes.paragraph):
            yield Piece(paragraph(within(child, page)), role=role)
