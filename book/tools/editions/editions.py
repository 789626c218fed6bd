"""The three notebooks of a chapter, from the pieces of its page and the cells of its source."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Sequence

import nbformat

from book.tools.editions.markdown import escape
from book.tools.editions.needed import needed
from book.tools.editions.page import Page, Piece

# The part of a file's name after the chapter's.
NAMES = {"plain": "", "student": "_student", "teacher": "_teacher"}
ANSWER = re.compile(r"^([ \t]*)# your code *\n(.*?)^\1# until here *$", re.M | re.S)
# Code cells keep the tags that running them needs; the rest serves the site.
KEPT_TAGS = {"colab", "fill-in", "check", "live", "nbval-ignore-output"}

Notebook = nbformat.NotebookNode


def plain(source: Notebook, pieces: Sequence[Piece], page: Page) -> Notebook:
    """The whole chapter; solutions stand under a title that JupyterLab folds."""
    written: list[Notebook] = []
    for piece in pieces:
        written.append(_cell(source, piece))
        if piece.role == "fold":
            written[-1].metadata["jp-MarkdownHeadingCollapsed"] = True
    note = f"*A chapter of a book: the [page]({page.url}) has its links, search and contents.*"
    return _notebook(source, written, note, page)


def student(source: Notebook, pieces: Sequence[Piece], page: Page) -> Notebook:
    """The chapter without solutions; what is to be filled in and its checks are left."""
    written = []
    for piece in pieces:
        if piece.role == "fold" or (piece.role == "solution" and not _left(source, piece)):
            continue
        cell = _cell(source, piece)
        if piece.role == "solution":
            cell.source = without_answer(cell.source)
            cell.outputs, cell.execution_count = [], None
        written.append(cell)
    note = (
        "*For students: solve the exercises here. Write your code in place of each `...` and run "
        f"the check below it. The solutions are on the [page of this chapter]({page.url}).*"
    )
    return _notebook(source, written, note, page)


def teacher(source: Notebook, pieces: Sequence[Piece], page: Page) -> Notebook:
    """The exercises and their solutions; the code of the chapter they build on in one cell."""
    held = [piece for piece in pieces if piece.cell is not None]
    cells = [source.cells[piece.cell].source for piece in held]
    wanted = [i for i, piece in enumerate(held) if piece.role != "chapter"]
    chapter = [cells[i] for i in needed(cells, wanted) if i not in wanted]
    title, *_ = next(p.text for p in pieces if p.cell is None).splitlines()
    setup = nbformat.v4.new_code_cell("\n\n\n".join(chapter))
    setup.metadata.update(jupyter={"source_hidden": True, "outputs_hidden": True})
    written = [
        nbformat.v4.new_markdown_cell(f"{title}: exercises and solutions"),
        nbformat.v4.new_markdown_cell("The code of the chapter, which the solutions build on:"),
        setup,
    ]
    written += [_cell(source, piece) for piece in pieces if piece.role != "chapter"]
    note = f"*For teachers. Equations and theorems are on the [page of the chapter]({page.url}).*"
    return _notebook(source, written, note, page)


def without_answer(code: str) -> str:
    """The code of a cell to fill in, its answer replaced by ``...``."""
    return ANSWER.sub(r"\1# your code\n\1...\n\1# until here", code)


def code_cells(source: Notebook) -> list[int]:
    """The places of the chapter's code cells, without the one for Colab."""
    return [
        place
        for place, cell in enumerate(source.cells)
        if cell.cell_type == "code" and "colab" not in cell.metadata.get("tags", [])
    ]


def _left(source: Notebook, piece: Piece) -> bool:
    """Does a student get this cell of a solution?"""
    if piece.cell is None:
        return False
    return bool({"fill-in", "check"} & set(source.cells[piece.cell].metadata.get("tags", [])))


def _cell(source: Notebook, piece: Piece) -> Notebook:
    if piece.cell is None:
        return nbformat.v4.new_markdown_cell(piece.text)
    return _lean(source.cells[piece.cell])


def _lean(cell: Notebook) -> Notebook:
    """A copy of a code cell without what only the site reads.

    Code that the site folds or leaves out is folded. A named number, which shows nothing, goes.
    """
    lean, tags = copy.deepcopy(cell), set(cell.metadata.get("tags", []))
    lean.metadata = nbformat.NotebookNode()
    if tags & KEPT_TAGS:
        lean.metadata.tags = sorted(tags & KEPT_TAGS)
    if {"hide-input", "colab"} & tags:
        lean.metadata.jupyter = nbformat.NotebookNode(source_hidden=True)
    lean.outputs = [out for out in cell.outputs if "scrapbook" not in out.get("metadata", {})]
    return lean


def _notebook(source: Notebook, cells: list[Notebook], note: str, page: Page) -> Notebook:
    """A notebook that opens with title, note and the cell that fetches the library in Colab."""
    first, *rest = cells
    title, _, text = first.source.partition("\n\n")
    first.source = "\n\n".join(filter(None, (title, note, text)))
    fetch = [_lean(cell) for cell in source.cells if "colab" in cell.metadata.get("tags", [])]
    written = nbformat.v4.new_notebook(
        cells=[first, *fetch, *rest, *_references(cells, page.cited)],
        metadata=copy.deepcopy(source.metadata),
    )
    for number, cell in enumerate(written.cells):
        cell.id = f"cell-{number:02d}"
    nbformat.validate(written)
    return written


def _references(cells: Iterable[Notebook], cited: dict[str, str]) -> Iterator[Notebook]:
    """The works that the notebook cites, by name."""
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    works = {entry for address, entry in cited.items() if f"({address})" in text}
    if works:
        lines = (f"- {escape(entry)}" for entry in sorted(works, key=_first_author))
        yield nbformat.v4.new_markdown_cell("\n".join(["## References", "", *lines]))


def _first_author(entry: str) -> tuple[str, str]:
    """An entry's place in the list: by the last name of its first author."""
    first = re.split(r",| and |(?<=\w\w)\. ", entry)[0]
    return first.split()[-1].lower(), entry
