"""``event-graph``: it runs on the embedded digits, and its account adds up."""

import json

import pytest

from book import experiments
from book.experiments import event_graph, frame


def test_it_runs_on_the_embedded_digits(tmp_path):
    path = frame.run(
        experiments.get("event-graph"), ["moved-digits"], limit=6, folder=tmp_path, progress=False
    )
    record = json.loads(path.read_text(encoding="utf-8"))
    assert [run["method"] for run in record["runs"]] == list(event_graph.METHODS)
    for run in record["runs"]:
        assert (run["n"], run["walked"], run["fitted_images"]) == (6, 6, 30)
        assert sum(run["layers"]) == pytest.approx(run["updates"], rel=1e-5)
        assert run["updates"] < run["all_updates"]
        assert run["macs"] < run["all_macs"]
        assert run["difference"] <= 1e-5
        assert len(run["right"]) == event_graph.TENTHS
        assert len({len(run["trace"][key]) for key in ("t", "updates", "answers")}) == 1
    mutual, past = record["runs"]
    assert past["layers"][:3] == [1, 1, 1]  # an event, itself, its cell
    assert past["updates"] < mutual["updates"]
    assert mutual["neighbors"] == pytest.approx(2 * past["neighbors"], rel=1e-5)
    assert mutual["trace"]["t"] == past["trace"]["t"]
    assert [one["found"] for one in record["goals"]] == [None] * 3  # of MNIST


def test_goals_are_of_moved_mnist_with_edges_both_ways():
    row = {"model": "moved-mnist", "method": "mutual", "test_accuracy": 0.98, "updates": 20.0,
           "all_updates": 320.0, "difference": 1e-7}  # fmt: skip
    found = event_graph.conclude({"runs": [row, {**row, "method": "past", "updates": 5.0}]})
    assert [one["found"] for one in found["goals"]] == [0.98, 16.0, 1e-7]
    assert all(one["reached"] for one in found["goals"])
