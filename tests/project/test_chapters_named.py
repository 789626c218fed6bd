"""Docstrings and comments name chapters and pages that exist, by their titles."""

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path for place in ("snnlib", "book/experiments", "book/tools", "benchmarks")
    for path in (ROOT / place).rglob("*.py")
)  # fmt: skip
NAMED = re.compile(r"\b(?:chapters?|pages?)\s+((?:\*[^*]+\*(?:,\s+(?:and\s+)?|\s+and\s+)?)+)", re.I)


def titles() -> set[str]:
    """The first heading of every chapter and page."""
    texts = [p.read_text(encoding="utf-8") for p in (ROOT / "book").glob("*.md")]
    for path in (ROOT / "book").glob("[0-9][0-9]_*.ipynb"):
        texts.append(nbformat.read(path, as_version=4).cells[0].source)
    found = (re.search(r"^# (.+)$", text, re.M) for text in texts)
    return {match[1].strip() for match in found if match}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_chapter_that_is_named_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = [
        " ".join(title.split())
        for group in NAMED.findall(text)
        for title in re.findall(r"\*([^*]+)\*", group)
    ]
    assert set(named) <= titles(), f"{path.name} names {set(named) - titles()}"
    vague = re.findall(r"\bchapters? (?:on|about)\b[^.]*", text, re.I)
    assert not vague, f"{path.name}: say the title of {vague}"


def test_what_the_pattern_finds() -> None:
    text = "see chapter *One*; Chapters *Two\n    words* and *Three*, page *Four*. chapter one"
    found = [t for group in NAMED.findall(text) for t in re.findall(r"\*([^*]+)\*", group)]
    assert [" ".join(t.split()) for t in found] == ["One", "Two words", "Three", "Four"]
    assert {"Spiking neurons", "What converts"} <= titles()
