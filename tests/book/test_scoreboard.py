"""The scoreboard of the README, of the chapter and of the results say the same."""

import re

import pytest
from book_rules import ROOT, read
from test_report import clone, stored  # noqa: F401 - a fixture

from book.tools import scoreboard
from snnlib.zoo.evaluate import LABELS

CHAPTER = ROOT / "book" / "13_scoreboard.ipynb"


def rows(text):
    """Cells of a table's rows, without the head."""
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines()[2:]]


def test_a_row_counts_from_the_step_after_the_last_large_loss(clone):  # noqa: F811
    """AugMapping: 0.95, 0.9885, 0.9895, 0.991 beside 0.99: within 0.5 points from step 2 on."""
    slow, fast = rows(scoreboard.table(clone))
    assert slow[2:5] == ["IF", "4", "–"]  # loses 0.2 points in the last step
    assert fast[2:5] == ["AugMapping", "2", "3"]
    # 5 events a step over 10 neurons; 1e6 SynOps of 0.9 pJ a step are 900 nJ of the ANN's 100.
    assert fast[5:] == ["1.00", "2.0 M", "0.50", "18.00"]


def test_without_results_it_says_so(tmp_path):
    assert scoreboard.table(tmp_path) == "Not measured yet."


@pytest.mark.skipif(not CHAPTER.is_file(), reason="the chapter is not here")
def test_chapter_and_readme_have_the_same_steps():
    (output,) = (
        cell.outputs[-1]["data"]["text/plain"]
        for cell in read(CHAPTER).code
        if cell.id == "score-steps"
    )
    lines = [re.split(r"  +", line.strip()) for line in output.splitlines()[2:]]
    shown = {}
    for network, _, *pairs in lines:
        for method, pair in zip(LABELS.values(), pairs, strict=True):
            shown[network, method] = pair.split(" / ")
    for network, _, method, near, close, *_ in rows(scoreboard.table(ROOT)):
        assert shown[network, method] == [near, close]
