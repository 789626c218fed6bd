"""Every chapter keeps the rules of book/AUTHORING.md; every rule notices when it is broken."""

from __future__ import annotations

import copy
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

import book_rules
import nbformat
import pytest
import small_book
import yaml
from book_rules import ROOT, Chapter

NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
CHAPTERS = [path for path in NOTEBOOKS if book_rules.is_chapter(path)]
spec = importlib.util.spec_from_file_location("refresh", ROOT / "book/_ext/refresh.py")
assert spec is not None
assert spec.loader is not None
refresh = importlib.util.module_from_spec(spec)
spec.loader.exec_module(refresh)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_keeps_the_rules(path: Path) -> None:
    rules = book_rules.RULES if path in CHAPTERS else book_rules.PAGE_RULES
    found = book_rules.problems(book_rules.read(path), rules)
    assert not found, f"{path.name}:\n" + "\n".join(found)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_as_refresh_leaves_it(path: Path) -> None:
    assert not refresh.stale(path), refresh.stale(path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_first_code_cell_fetches_the_repository_in_colab(path: Path) -> None:
    first = book_rules.read(path).code[0]
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert config["repository"]["url"] in first.source
    assert first.source == refresh.colab_cell()
    assert {"colab", "remove-cell"} <= set(book_rules.tags(first))


def test_table_of_contents_and_files_agree() -> None:
    on_disk = {
        path.relative_to(ROOT).with_suffix("").as_posix()
        for path in (ROOT / "book").iterdir()
        if path.suffix in (".md", ".ipynb") and path.name != "AUTHORING.md"
    }
    assert on_disk == set(book_rules.toc())


def drop(pattern: str, by: str = "") -> Callable[[Chapter], None]:
    def change(chapter: Chapter) -> None:
        hits = 0
        for cell in chapter.notebook.cells:
            cell.source, n = re.subn(pattern, by, cell.source, flags=re.M)
            hits += n
        assert hits, f"nothing matches {pattern}"

    return change


def fail(chapter: Chapter) -> None:
    error = nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])
    chapter.code[-1].outputs.append(error)


def lengthen(chapter: Chapter) -> None:
    chapter.own_code[0].source += "\nx = 1" * 20


def silence(chapter: Chapter) -> None:
    for cell in chapter.code:
        cell.metadata.pop("mystnb", None)


def peek(chapter: Chapter) -> None:
    chapter.own_code[0].source += "\nbest = max(rules, key=lambda rule: score(rule, x_test))"


BREAKAGES: dict[str, Callable[[Chapter], None]] = {
    "opens_with": drop(r"^\(ch:.*\)=$"),
    "says_goals": drop(r"\*\*Time:\*\*"),
    "says_what_is_the_papers": drop(r"^:class: provenance"),
    "code_is_short": lengthen,
    "derives": drop(r"^\$\$ \(eq:.*\)$", "$$"),
    "figures": silence,
    "has_a_live_control": drop(r"\binteract\b|[Ww]idgets|Slider", "gone"),
    "warns": drop(r"^:class: pitfall"),
    "ends_with": drop(r"^## Summary", "## Conclusion"),
    "exercises": drop(r"^```\{solution(?:-start)?\} (\S+)", r"```{note} \1"),
    "further_reading": drop(r"\{cite(:\w+)?\}`[a-z]+[0-9]+", r"{cite\1}`nobody1900"),
    "chooses_on": peek,
    "was_run": fail,
    "numbers": drop(r"\bglue\(", "forget("),
    "leaves_nothing": drop(r"^## Summary", "TODO\n\n## Summary"),
}


@pytest.mark.skipif(not CHAPTERS, reason="there is no chapter yet")
@pytest.mark.parametrize("name", BREAKAGES)
def test_a_broken_rule_is_noticed(name: str) -> None:
    chapter = book_rules.read(CHAPTERS[0])
    broken = Chapter(copy.deepcopy(chapter.notebook), chapter.size)
    BREAKAGES[name](broken)
    found = book_rules.problems(Chapter(broken.notebook, broken.size))
    assert any(text.startswith(name) for text in found), found


def small() -> Chapter:
    return Chapter(small_book.chapter())


def test_fill_ins_and_predictions_are_counted() -> None:
    found = book_rules.problems(small())
    assert "exercises_are_filled_in_and_checked: 1 exercises to fill in; at least two" in found
    assert "lets_the_reader_predict: 0 boxes of class predict; at least three" in found


@pytest.mark.parametrize(
    ("change", "by", "said"),
    [
        ("# until here", "# the end", "between `# your code` and `# until here`"),
        ("    result = x + x\n    return result\n", "", "between `# your code` and `# until here`"),
        (', f"double', ' or f"double', "an assertion with a message"),
        ("{solution-start}", "{note}", "stands in a gated solution"),
    ],
)
def test_a_broken_fill_in_is_noticed(change: str, by: str, said: str) -> None:
    chapter = small()
    for cell in chapter.notebook.cells:
        cell.source = cell.source.replace(change, by)
    rule = book_rules.exercises_are_filled_in_and_checked
    assert not any(said in text for text in rule(small()))
    assert any(said in text for text in rule(Chapter(chapter.notebook))), list(rule(chapter))


def test_a_prediction_without_an_answer_is_noticed() -> None:
    box = "```{admonition} Predict: more or less?\n:class: predict\nWrite a number down.\n```"
    rule = book_rules.lets_the_reader_predict
    chapter = small()
    chapter.notebook.cells[1:1] = [nbformat.v4.new_markdown_cell(box, id=f"p{n}") for n in range(3)]
    assert list(rule(Chapter(chapter.notebook))) == [
        "p0: no cell that answers follows the prediction"
    ]
    chapter.notebook.cells.append(nbformat.v4.new_markdown_cell(box, id="last"))
    assert "last: no cell that answers follows the prediction" in list(rule(chapter))


def test_a_glue_role_and_a_number_in_mathematics_are_noticed() -> None:
    chapter = small()
    chapter.notebook.cells[0].source += '\n\n{glue:text}`a`, $<data value="small-four">4</data>$'
    found = list(book_rules.numbers_come_from_cells(Chapter(chapter.notebook)))
    assert any("glue role" in text for text in found)
    assert any("cannot stand in mathematics" in text for text in found)
