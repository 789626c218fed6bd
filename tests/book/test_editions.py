"""The notebooks to take along: plain Markdown, for students, for teachers."""

from __future__ import annotations

import ast
import contextlib
import re
import shutil
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import nbformat
import pytest
import small_book
import torch
from bs4 import BeautifulSoup

from book.tools.editions import needed
from book.tools.editions.editions import without_answer
from book.tools.editions.markdown import Page, block, escape
from conftest import ROOT, Site

CHAPTERS = sorted((ROOT / "book").glob("[0-9][0-9]_*.ipynb"))
KINDS = ("", "_student", "_teacher")
# What only MyST and Sphinx understand.
LEFT = {
    "a role": r"\{[\w:-]+\}`",
    "a directive": r"^[ >]*(?:`{3,}|:{3,})\{",
    "an option": r"^[ >]*:[\w-]+: ",
    "a label": r"^\([\w:-]+\)=\s*$",
    "a label of an equation": r"^\$\$ *\([\w:-]+\)",
    "the tag of a number": r"</?data\b",
    "a number to be": r"%s",
    "a footnote": r"\[\^",
}


def markdown(notebook: nbformat.NotebookNode) -> str:
    return "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")


def code(notebook: nbformat.NotebookNode) -> list[Any]:
    return [c for c in notebook.cells if c.cell_type == "code"]


def left(text: str) -> list[str]:
    """What of MyST is left in a text, in words."""
    text = re.sub(r"^( *)```\w+\n.*?^\1```$", "", text, flags=re.M | re.S)
    return [
        f"{name}: {found[0]!r}"
        for name, pattern in LEFT.items()
        for found in re.finditer(pattern, text, re.M)
    ]


def on_site(page: BeautifulSoup) -> tuple[list[str], list[str]]:
    """The numbers of equations and the titles of theorems and exercises that a page shows."""
    article = page.select_one("article")
    assert article is not None
    equations = [re.sub(r"[^\d.]", "", e.get_text()) for e in article.select("span.eqno")]
    titles = [
        " ".join(title.get_text().split())
        for title in article.select("div.proof > p.admonition-title, div.exercise > p")
        if "admonition-title" in (title.get("class") or ())
    ]
    return equations, titles


def in_text(text: str) -> tuple[list[str], list[str]]:
    """The same of a notebook."""
    found = re.findall(r"^> \*\*((?!Predict:).+ [\d.]+ .*)\*\*$|^###+ (Exercise .*)$", text, re.M)
    titles = [(box or exercise).strip() for box, exercise in found]
    return re.findall(r"\\tag\{([\d.]+)\}", text), titles


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The editions of the small chapter by kind, and the page of the site."""
    from bookext import editions

    def write(app: Any, page: str, tree: Any) -> None:
        if page in ("small", "bare"):
            written[page] = editions.write(app, page, tree)

    written: dict[str, list[str]] = {}
    html = small_book.build(tmp_path_factory.mktemp("small"), write)
    found: dict[str, Any] = {
        kind: nbformat.read(html / "_plain" / f"small{kind}.ipynb", as_version=4) for kind in KINDS
    }
    page = (html / "small.html").read_text(encoding="utf-8")
    return {**found, "page": BeautifulSoup(page, "html.parser"), "written": written}


@pytest.mark.parametrize("kind", KINDS)
def test_an_edition_is_plain_markdown(small: dict[str, Any], kind: str) -> None:
    nbformat.validate(small[kind])
    assert not left(markdown(small[kind]))
    assert [c.id for c in small[kind].cells] == sorted({c.id for c in small[kind].cells})


def test_a_page_without_exercises_has_the_plain_edition_only(small: dict[str, Any]) -> None:
    assert small["written"] == {"small": ["plain", "student", "teacher"], "bare": ["plain"]}


def test_what_is_left_of_myst_is_noticed() -> None:
    chapter = markdown(small_book.chapter())
    assert {text.split(":")[0] for text in left(chapter)} == set(LEFT) - {"a number to be"}


def test_numbers_are_those_of_the_site(small: dict[str, Any]) -> None:
    equations, titles = on_site(small["page"])
    assert equations == ["1.1", "1.2", "1.3"]
    assert len(titles) == 4
    assert in_text(markdown(small[""])) == (equations, titles)


WRITTEN = {
    "a number": "It is 4.\n\n4 may open a line; it is **bold 4**.",
    "a box": "> **Goals**\n>\n> - count, with [counting](",
    "a term": f"[counting]({small_book.URL}other.html#term-counting)",
    "a reference": f"[Another page]({small_book.URL}other.html#ch-other)",
    "a page": f"[Another page]({small_book.URL}other.html).",
    "a citation": f"A claim [[Knuth, 1984]({small_book.URL}other.html#id2)], made by Knuth [[1984]",
    "a function": f"[`count()`]({small_book.URL}other.html#count)<sup>1</sup>.",
    "a footnote": "<sup>1</sup> A footnote with $n$.",
    "a margin": "> **Aside**\n>\n> In the margin.",
    "special characters": r"1907\. was a year. Stars \* and under_scores and $a|b$; `code | bar`.",
    "an equation": "d\n\\end{aligned} \\tag{1.1}\n\\end{equation*}\n$$",
    "an equation in a list": "  $$\\begin{equation*} x = 1 \\tag{1.2} \\end{equation*}$$",
    "a theorem": "> **Theorem 1.1 (Sum)**\n>\n> One and one:\n>\n> $$",
    "a proof": "> **Proof.** By (1.3).",
    "an algorithm": "> **Algorithm 1.1 (Step)**\n>\n> 1. Add.\n> 2. Stop.",
    "references to boxes": "See Theorem 1.1, Algorithm 1.1 and Fig. 1.1.",
    "a figure": f"![A dot in the middle of a square]({small_book.URL}_images/dot.svg)",
    "a caption": "\n\n**Fig. 1.1** A dot.",
    "a table": "| name | value |\n| --- | --- |\n| $\\lvert x\\rvert$ | 4 |",
    "a dropdown": "> **Folded**\n>\n> Under *the* fold.",
    "a definition": "- **Term**\n\n  Its definition.",
    "a quotation": "> A quotation.",
    "an exercise": "### Exercise 1.1 (Double)\n\nWrite `double`; Exercise 1.2 is next.",
    "a solution": "#### Solution\n\nIt is two.",
    "references": "## References\n\n- Donald E. Knuth. Literate programming. The Computer Journal",
}  # fmt: skip


@pytest.mark.parametrize("what", WRITTEN)
def test_every_construct_becomes_plain_markdown(small: dict[str, Any], what: str) -> None:
    assert WRITTEN[what] in markdown(small[""]), markdown(small[""])


def test_a_node_without_a_translation_is_an_error() -> None:
    from docutils import nodes

    class Strange(nodes.General, nodes.Element):
        pass

    with pytest.raises(ValueError, match="Strange has no Markdown"):
        block(Strange("", nodes.Text("x")), Page(url=small_book.URL))


def test_text_stays_text() -> None:
    plain = "snake_case, 2*3, <b>, a < b, $5 and `x`"
    assert escape(plain) == r"snake_case, 2\*3, \<b>, a < b, \$5 and \`x\`"


def test_the_plain_edition_has_the_cells_of_the_chapter(small: dict[str, Any]) -> None:
    chapter = code(small_book.chapter())
    assert [c.source for c in code(small[""])] == [c.source for c in chapter]
    folded = [c.source for c in code(small[""]) if c.metadata.get("jupyter")]
    closed = {"hide-input", "colab"}
    assert folded == [c.source for c in chapter if closed & set(c.metadata.get("tags", []))]
    shown = [out for cell in code(small[""]) for out in cell.outputs]
    assert [out.data for out in shown] == [{"text/plain": "4"}]


def test_solutions_are_folded_in_jupyterlab(small: dict[str, Any]) -> None:
    folded = [c for c in small[""].cells if c.metadata.get("jp-MarkdownHeadingCollapsed")]
    assert [c.source for c in folded] == ["#### Solution"] * 2


def test_students_get_no_answer(small: dict[str, Any]) -> None:
    text = markdown(small["_student"])
    for answer in ("Twice", "The rest of the answer", "It is two", "Solution"):
        assert answer in markdown(small[""])
        assert answer not in text
    cells = [
        c for c in code(small["_student"]) if c.metadata.get("tags") in (["fill-in"], ["check"])
    ]
    assert [c.source for c in cells] == [
        "def double(x):\n    # your code\n    ...\n    # until here", small_book.CHECK,
    ]  # fmt: skip
    assert "extra" not in "".join(c.source for c in code(small["_student"]))
    place = [c.source for c in small["_student"].cells].index(cells[0].source)
    assert small["_student"].cells[place - 1].source.startswith("### Exercise 1.1")


def test_a_check_says_what_is_wrong(small: dict[str, Any]) -> None:
    names: dict[str, Any] = {}
    fill_in, check = code(small["_student"])[-2:]
    exec(fill_in.source, names)
    with pytest.raises(AssertionError, match="is 6, not None: is x added to itself"):
        exec(check.source, names)
    exec(fill_in.source.replace("...", "return 2 * x"), names)
    exec(check.source, names)


def test_the_teachers_edition_runs_and_has_all_exercises(small: dict[str, Any]) -> None:
    names: dict[str, Any] = {}
    for cell in code(small["_teacher"]):
        exec(cell.source, names)
    assert names["extra"] == 8
    text = markdown(small["_teacher"])
    assert re.findall(r"^#+ .*$", text, re.M) == [
        "# A small chapter: exercises and solutions",
        "### Exercise 1.1 (Double)", "#### Solution", "### Exercise 1.2 (Half)", "#### Solution",
    ]  # fmt: skip
    assert f"[Exercise 1.2]({small_book.URL}small.html#ex-small-half)" in text


@pytest.mark.parametrize("indent", ["", "    "])
def test_only_the_answer_goes(indent: str) -> None:
    before = (
        f"a = 1\n{indent}# your code\n{indent}b = 2\n{indent}c = 3\n{indent}# until here\nd = 4"
    )
    after = f"a = 1\n{indent}# your code\n{indent}...\n{indent}# until here\nd = 4"
    assert without_answer(before) == after
    ast.parse(without_answer(small_book.FILL_IN))


def edition(site: Site, chapter: Path, kind: str) -> nbformat.NotebookNode:
    return nbformat.read(site.html / "_plain" / f"{chapter.stem}{kind}.ipynb", as_version=4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda p: p.stem)
def test_editions_of_a_chapter_are_plain_markdown(site: Site, chapter: Path, kind: str) -> None:
    notebook = edition(site, chapter, kind)
    nbformat.validate(notebook)
    assert not left(markdown(notebook))


@pytest.mark.slow
@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda p: p.stem)
def test_editions_of_a_chapter_agree_with_site_and_source(site: Site, chapter: Path) -> None:
    page = (site.html / "book" / f"{chapter.stem}.html").read_text(encoding="utf-8")
    plain = edition(site, chapter, "")
    assert in_text(markdown(plain)) == on_site(BeautifulSoup(page, "html.parser"))
    source = nbformat.read(chapter, as_version=4)
    assert [c.source for c in code(plain)] == [c.source for c in code(source)]


@pytest.mark.slow
@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda p: p.stem)
def test_students_of_a_chapter_get_no_answer(site: Site, chapter: Path) -> None:
    whole, given = edition(site, chapter, ""), edition(site, chapter, "_student")
    answers = set(re.split(r"^#+ .*$", markdown(whole), flags=re.M)) - set(
        re.split(r"^#+ .*$", markdown(given), flags=re.M)
    )
    assert "#### Solution" not in markdown(given)
    assert len(answers) >= markdown(whole).count("#### Solution") > 0
    for cell in code(given):
        if "fill-in" in cell.metadata.get("tags", []):
            assert re.search(r"# your code\n *\.\.\.\n *# until here", cell.source)
            assert not cell.outputs


def test_cells_that_others_build_on_are_found() -> None:
    cells = [
        "import numpy as np\nimport torch\nfrom math import pi",
        "torch.manual_seed(0);",
        "def area(r):\n    return pi * r**2 * unit",
        "unit = 3\nother = [unit for pi in range(3)]",
        "table = {}\nloose = 1",
        "for r in range(3):\n    table[r] = area(r)",
        "print(table)\nplt.plot(loose)",
        "loose = loose + 1",
        "loose = len(table)",
        "loose",
    ]
    assert needed(cells, [9]) == [0, 1, 2, 3, 4, 5, 8, 9]
    assert needed(cells, [7]) == [0, 1, 4, 7]
    assert needed(["net = make()", "net.eval()", "train(net)", "net2 = net", "net2"], [4]) == [
        0,
        1,
        2,
        3,
        4,
    ]


def run(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """Run all cells, errors included, where the results and checkpoints are."""
    from nbclient import NotebookClient

    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", allow_errors=True, resources=resources
    ).execute()
    return notebook


def only_needed(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The cells to fill in, their checks and what these build on."""
    cells = code(notebook)
    wanted = [
        i for i, c in enumerate(cells) if {"fill-in", "check"} & set(c.metadata.get("tags", []))
    ]
    notebook.cells = [cells[i] for i in needed([c.source for c in cells], wanted)]
    return notebook


def errors(cell: Any) -> list[Any]:
    return [out for out in cell.outputs if out.output_type == "error"]


@pytest.mark.slow
def test_teachers_edition_of_a_chapter_runs(site: Site) -> None:
    """Of one chapter: editions have the cells of the chapter, which runs as a notebook itself."""
    ran = run(edition(site, CHAPTERS[0], "_teacher"), ROOT / "book")
    assert not [out.evalue for cell in code(ran) for out in errors(cell)]


def run_here(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """The same in this process, which has read the libraries; of outputs, errors alone.

    What cells may set for the whole process is put back: folder, style, random numbers, gradients.
    """
    names: dict[str, Any] = {"__name__": "__main__", "display": lambda *shown: None}
    style, random = matplotlib.rc_context(), torch.random.fork_rng()
    with contextlib.chdir(folder), style, random, torch.enable_grad():
        for cell in code(notebook):
            cell.outputs = []
            try:
                exec(compile(cell.source, f"<{cell.id}>", "exec"), names)
            except Exception as error:
                cell.outputs.append(
                    nbformat.v4.new_output(
                        "error", ename=type(error).__name__, evalue=str(error), traceback=[]
                    )
                )
    plt.close("all")
    return notebook


@pytest.mark.slow
@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda p: p.stem)
def test_checks_of_a_chapter_fail_with_a_message_until_filled_in(site: Site, chapter: Path) -> None:
    """Of one chapter as a student runs it, of the others the cells that these build on."""
    given = edition(site, chapter, "_student")
    whole = chapter == CHAPTERS[0]
    ran = run(given, ROOT / "book") if whole else run_here(only_needed(given), ROOT / "book")
    for cell in code(ran):
        said = [(out.ename, out.evalue) for out in errors(cell)]
        if "check" in cell.metadata.get("tags", []):
            assert said, f"passes without an answer: {cell.source}"
            assert said[0][0] == "AssertionError", said
            assert len(said[0][1].split()) > 3, f"does not say what is wrong: {cell.source}"
        else:
            assert not said, said


@pytest.mark.slow
def test_pages_offer_the_editions(site: Site) -> None:
    for chapter in CHAPTERS:
        text = (site.html / "book" / f"{chapter.stem}.html").read_text(encoding="utf-8")
        box = BeautifulSoup(text, "html.parser").select_one(".snn-take-along")
        assert box is not None
        links = [tag["href"] for tag in box.find_all("a")]
        for kind in KINDS:
            assert f"../_plain/{chapter.stem}{kind}.ipynb" in links
            assert text.count(f"_plain/{chapter.stem}{kind}.ipynb") >= 2, "menu and box"
        assert sum(f"/gh-pages/_plain/{chapter.stem}.ipynb" in link for link in links) == 1
        assert sum(link.endswith(f"_build/html/_plain/{chapter.stem}.ipynb") for link in links) == 1


def test_binder_builds_what_its_button_opens() -> None:
    build = (ROOT / ".binder" / "postBuild").read_text(encoding="utf-8")
    assert "jupyter-book build ." in build
    assert shutil.which("bash") is None or build.startswith("#!/bin/bash")
