"""The page that says how to reproduce names every file, its command and its conditions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from book_rules import ROOT

pytest.importorskip("sphinx", reason="needs the packages that build the book")

from bookext import reproduce, stored

from book.tools import cards
from snnlib.zoo import checkpoints

RESULTS = stored.read(ROOT / "book" / "results")
PAGE = (ROOT / "book/reproduce.md").read_text(encoding="utf-8")
RESULT: dict[str, Any] = {
    "what": "a < b",
    "command": "snnlib experiment x",
    "hardware": "a processor",
    "seconds": 90.0,
    "n": {"one": 10, "two": 2000, "three": 2000},
    "seed": 0,
}


def test_a_row_says_command_machine_minutes_images_and_seed() -> None:
    row = reproduce.result_row("x", RESULT, "https://example.org/blob/main/book/results")
    assert row == [
        '<a href="https://example.org/blob/main/book/results/x.json">x.json</a><br>a &lt; b',
        "<code>snnlib experiment x</code>",
        "a processor",
        "1.5",
        "2,000; one 10",
        "0",
    ]
    assert len(row) == len(reproduce.RESULTS)


def test_without_a_seed_there_is_a_dash() -> None:
    assert reproduce.result_row("x", {**RESULT, "seed": None}, "a")[-1] == "–"


@pytest.mark.parametrize("name", RESULTS)
def test_every_result_has_a_full_row(name: str) -> None:
    row = reproduce.result_row(name, RESULTS[name], "address")
    assert len(row) == len(reproduce.RESULTS)
    assert all(row[:-1]), "only a seed may be missing"
    assert json.dumps(RESULTS[name]["command"])[1:-1] in row[1]


def test_every_network_has_a_full_row() -> None:
    files = cards.files(ROOT / "book" / "checkpoints")
    assert files
    for name, path in files.items():
        row = reproduce.network_row(name, checkpoints.read(path)[1], "address")
        assert len(row) == len(reproduce.NETWORKS)
        assert f"snnlib train {name}" in row[1]


def test_the_page_asks_for_both_tables_and_all_conditions() -> None:
    assert "```{reproduce} results\n```" in PAGE
    assert "```{reproduce} networks\n```" in PAGE
    assert "```{stored-results}\n```" in PAGE
