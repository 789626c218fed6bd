"""The bits of messages: laws that any code obeys, and rows that continue accuracy-over-time."""

import json
import math
from itertools import pairwise

import pytest
import torch

from book import experiments
from book.experiments import bits
from book.experiments.late_answer import BEST

LIMIT = 20


@pytest.fixture(scope="module")
def rows():
    context = experiments.Context(torch.device("cpu"), limit=LIMIT)
    return {kind: bits.measure("digits-cnn", kind, context)[0] for kind in ("if", "augmented")}


@pytest.mark.parametrize(("kind", "symbols"), [("if", 2), ("augmented", 31)])
def test_no_step_needs_more_bits_than_its_symbols_have(rows, kind, symbols):
    """IF sends one of two symbols a step, |c| ≤ 15 one of 31: entropy is at most their log."""
    row = rows[kind]
    sums = [0.0, *row["bits_per_neuron"]]
    each = [after - before for before, after in pairwise(sums)]
    assert len(each) == row["steps"]
    assert all(0 <= one <= math.log2(symbols) + 1e-9 for one in each)
    assert row["n"] == LIMIT


def test_the_setting_is_the_one_whose_other_costs_are_stored(rows):
    stored = json.loads(BEST.read_text(encoding="utf-8"))["runs"]
    for kind, row in rows.items():
        asked = ("digits-cnn", kind, "best")
        same = [r for r in stored if (r["model"], r["neuron"], r["form"]) == asked]
        assert row["setting"] == same[0]["setting"]
        assert row["steps"] <= same[0]["steps"]
