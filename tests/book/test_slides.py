"""Slides show what the chapters have, or are not made; the teachers' tables follow the chapters."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import book_browser
import book_rules
import pytest

pytest.importorskip("sphinx", reason="needs the packages that build the book")

from bookext import take_along, teaching

from book.press import slides
from book.press.notebooks import Notebook, NotFound
from conftest import ROOT

BOOK = ROOT / "book"
DECKS = sorted((BOOK / "slides").glob("*.md"))
CHAPTERS = [ROOT / f"{n}.ipynb" for n in book_rules.toc() if (ROOT / f"{n}.ipynb").is_file()]


@pytest.fixture(scope="module", params=DECKS, ids=lambda path: path.stem)
def deck(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return slides.make(request.param, tmp_path_factory.mktemp("slides"))


def test_every_chapter_has_slides() -> None:
    shown = {slide.chapter for path in DECKS for slide in slides.read(path)[1]}
    assert {path.stem for path in CHAPTERS if re.match(r"\d", path.stem)} <= shown


def test_the_file_needs_nothing_else(deck: Path) -> None:
    text = deck.read_text(encoding="utf-8")
    addresses = re.findall(r'(?:src|href)="([^"]*)"|url\("?([^")]*)', text)
    loaded = [one or other for one, other in addresses]
    assert loaded
    assert all(address.startswith("data:") for address in loaded)
    assert not re.search(r"@[A-Z]+@|\{(?:figure|equation|chapter)\}", text)
    assert "\\" not in re.sub(r"<script>.*?</script>", "", text, flags=re.S)


def test_numbers_are_not_typed() -> None:
    for path in DECKS:
        typed = re.findall(r"\d+(?:\.\d+)? ?(?:%|percent)", path.read_text(encoding="utf-8"))
        assert not typed, f"{path.name}: {typed} looks like a measured number"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{figure} no such words", "0 figures have 'no such words'"),
        ("{figure} the", "figures have 'the'"),
        ("{equation} eq:neurons-gone", "no equation 'eq:neurons-gone'; there are: eq:"),
    ],
)
def test_what_is_gone_is_an_error(tmp_path: Path, line: str, message: str) -> None:
    notes = tmp_path / "part1.md"
    notes.write_text(f"T\n\n# A\n{{chapter}} 01_neurons\n{line}\n> 1 minute\n", encoding="utf-8")
    with pytest.raises(NotFound, match=message):
        slides.make(notes, tmp_path)


@pytest.mark.parametrize(
    ("said", "message"),
    [("Say it.", "does not say"), ("> 2 minutes · Nowhere", "no section 'Nowhere'; there are:")],
)
def test_each_slide_has_minutes_and_a_section(tmp_path: Path, said: str, message: str) -> None:
    notes = tmp_path / "part1.md"
    notes.write_text(f"T\n\n# A\n{{chapter}} 01_neurons\n{said}\n", encoding="utf-8")
    with pytest.raises(NotFound, match=message):
        slides.read(notes)


@pytest.mark.slow
@pytest.mark.browser
def test_slides_turn_fit_and_play(deck: Path, tmp_path: Path) -> None:
    pytest.importorskip("selenium", reason="needs selenium: pip install -r requirements.txt")
    if shutil.which("chromedriver") is None:
        pytest.skip("needs chromedriver: install the package chromium-driver of your system")
    driver = book_browser.chromium(tmp_path)
    try:
        driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": 1280, "height": 720, "deviceScaleFactor": 1, "mobile": False},
        )
        driver.get(deck.as_uri())
        press = "dispatchEvent(new KeyboardEvent('keydown', {key: arguments[0]}))"
        driver.execute_script(press, "ArrowRight")
        assert driver.execute_script("return at") == 1
        driver.execute_script(press, "End")
        count = driver.execute_script("return slides.length")
        assert driver.execute_script("return at") == count - 1
        for number in range(count):
            wide = driver.execute_script(
                "show(arguments[0]); const box = slides[at].getBoundingClientRect();"
                "return [...slides[at].querySelectorAll('.shown *')].filter(e => {"
                "  const r = e.getBoundingClientRect();"
                "  return r.width && (r.right > box.right + 1 || r.bottom > box.bottom + 1) })"
                ".map(e => e.outerHTML.slice(0, 80))", number,
            )  # fmt: skip
            assert not wide, f"slide {number + 1}: {wide}"
        assert not [e for e in driver.get_log("browser") if e["level"] == "SEVERE"]
    finally:
        driver.quit()


@pytest.mark.parametrize(
    "path", [p for p in CHAPTERS if re.match(r"\d", p.stem)], ids=lambda p: p.stem
)
def test_minutes_of_sections_add_up(path: Path) -> None:
    shown = [slide for deck in DECKS for slide in slides.read(deck)[1]]
    (_, read, said), *rows = teaching.plan(path, shown)
    assert sum(row[1] for row in rows) == read
    assert sum(row[2] for row in rows) == said > 0
    assert [row[0] for row in rows[1:]] == Notebook(path).sections


def test_shares_are_whole_numbers_that_add_up() -> None:
    assert teaching.shares({"a": 1, "b": 1, "c": 1}, 10) in (
        {"a": 4, "b": 3, "c": 3}, {"a": 3, "b": 4, "c": 3}, {"a": 3, "b": 3, "c": 4},
    )  # fmt: skip
    assert teaching.shares({"a": 0, "b": 7}, 5) == {"a": 0, "b": 5}


def test_goals_and_exercises_are_those_of_the_chapters() -> None:
    page = (BOOK / "teachers.md").read_text(encoding="utf-8")
    found = re.search(r"^```\{goals-and-exercises\}\n(.*?)\n```", page, re.M | re.S)
    given = dict(line.split(":", 1) for line in found[1].splitlines())
    for path in (p for p in CHAPTERS if re.match(r"\d", p.stem)):
        name = re.match(r"\(ch:([\w-]+)\)=", Notebook(path).text)[1]
        rows = teaching.mapped(name, path, given.pop(name))
        assert [goal for goal, _ in rows] == teaching.goals(path)
        assert {label for _, labels in rows for label in labels} == set(teaching.exercises(path))
    assert not given


def test_a_goal_or_an_exercise_too_many_is_an_error() -> None:
    path = BOOK / "01_neurons.ipynb"
    empty = " | " * (len(teaching.goals(path)) - 1)
    with pytest.raises(ValueError, match="goals, 1 given"):
        teaching.mapped("neurons", path, "hand")
    with pytest.raises(ValueError, match="no goal is served by"):
        teaching.mapped("neurons", path, empty)
    with pytest.raises(ValueError, match=r"has no .*ex-neurons-gone"):
        teaching.mapped("neurons", path, f"gone {empty}")


def test_links_to_forms_only_where_they_are(tmp_path: Path) -> None:
    assert take_along.links(tmp_path, "") == ""
    press = tmp_path / "_build" / "press"
    press.mkdir(parents=True)
    (press / "book.pdf").write_bytes(b"%PDF")
    (press / "slides-part-1.html").write_text("<html></html>")
    (press / "book.html").write_text("the page that was printed")
    assert take_along.links(tmp_path, "../") == (
        '<a href="../take-along/book.pdf">PDF</a>, '
        '<a href="../take-along/slides-part-1.html">slides of part 1</a>'
    )
