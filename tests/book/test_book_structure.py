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
    assert refresh.is_fresh(path), f"run `python book/_ext/refresh.py book/{path.name}`"


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


def test_colab_cell_does_nothing_elsewhere(tmp_path: Path) -> None:
    source = refresh.colab_cell()
    guard = source.index('if "google.colab" in sys.modules')
    body = source[guard:].splitlines()[1:]
    assert body
    assert all(line.startswith("    ") for line in body)
    assert "--no-deps" in source, "the installed torch must stay as it is"


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
