"""``transducer``: it runs and resumes, goals are means over seeds."""

import json

import pytest
import torch

pytest.importorskip("sphinx", reason="needs the packages that build the book")

from bookext import stored_tables

from book import experiments
from book.experiments import frame, transducer
from book.experiments.goals import goal


@pytest.mark.dataset("spoken_digits")
def test_it_runs_and_traces_fit_its_strings(tmp_path, monkeypatch):
    monkeypatch.setattr(transducer, "SEEDS", (0,))
    path = frame.run(experiments.get("transducer"), ["strings"], 4, folder=tmp_path, progress=False)
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["command"] == "snnlib experiment transducer --networks strings --limit 4"
    assert [run["method"] for run in record["runs"]] == list(transducer.METHODS)
    for run in record["runs"]:
        assert run["test"]["n"] == run["n"] == 4
        assert run["fitted_strings"] == 8
        for trace in run["traces"]:
            assert len(trace["digits"]) == len(trace["ends_ms"])
            assert len(trace["blank"]) == len(trace["loudness"]) // 3
            assert len(trace["out"]) == len(trace["groups"])
    assert len({run["test"]["digits"] for run in record["runs"]}) == 1  # the same strings
    assert len(record["goals"]) == 3
    heard, goals = stored_tables.tables(record)
    assert [row[0] for row in heard.rows] == list(transducer.METHODS.values())
    assert len(goals.rows) == 3


def test_every_speaker_is_held_out_once():
    names = [cell.name for network in transducer.NETWORKS for cell in transducer.cells(network)]
    assert len(set(names)) == len(names) == 2 * 3 * 4 + 6
    with pytest.raises(frame.ExperimentError, match="no such network"):
        frame.run(experiments.get("transducer"), ["strings-nobody"], 4)


@pytest.mark.dataset("spoken_digits")
def test_few_strings_are_the_first_of_many(monkeypatch):
    """Validation and test strings are the same, so both are judged alike."""
    monkeypatch.setattr(transducer, "SIZES", (9, 3, 3))
    monkeypatch.setattr(transducer, "FEW", 4)
    transducer.parts.cache_clear()
    many, few = (transducer.parts(network, 0, None) for network in transducer.OFFICIAL)
    transducer.parts.cache_clear()
    assert [len(part) for part in few] == [4, 3, 3]
    for one, other in zip(many, few, strict=True):
        assert all(one.said(i) == other.said(i) for i in range(len(other)))


def row(method, seed, error, delay, model="strings"):
    judged = {"digit_error": error, "delay_ms": delay}
    return {"model": model, "method": method, "seed": seed, "test": judged}


def test_goals_are_means_over_seeds_of_the_official_split():
    rows = [
        row("random", 0, 0.06, 100.0), row("random", 1, 0.02, 140.0),
        row("encoder", 0, 0.04, 90.0), row("encoder", 1, 0.02, 110.0),
        row("encoder", 0, 0.9, 900.0, "strings-theo"),
    ]  # fmt: skip
    found = transducer.conclude({"runs": rows})["goals"]
    assert [one["found"] for one in found] == pytest.approx([0.03, 0.25, 2.0])
    assert all(one["reached"] for one in found)
    silent = transducer.conclude({"runs": [*rows[:3], row("encoder", 1, 1.0, None)]})["goals"]
    assert [one["found"] is None for one in silent] == [False, False, True]
    assert [one["reached"] for one in silent] == [False, False, False]
    assert [one["found"] for one in transducer.conclude({"runs": rows[4:]})["goals"]] == [None] * 3


def test_a_goal_has_one_limit():
    assert goal("a", 0.0, at_most=0.0)["reached"]
    assert not goal("a", 0.1, at_most=0.0)["reached"]
    assert goal("a", 1.0, at_least=1.0)["reached"]
    with pytest.raises(ValueError, match="either"):
        goal("a", 1.0)


@pytest.mark.dataset("spoken_digits")
def test_traces_follow_what_came_out():
    """Silence is judged at the node where the network stands: less likely than not if it speaks."""
    _, _, test = transducer.parts("strings", 0, 4)
    net = transducer.transducing.network(test, seed=0).double()
    with torch.no_grad():
        net.out.weight.mul_(20)
        net.out.bias[-1] += 2
    some = transducer.strings.Strings(**{**vars(test), "values": test.values.double()})
    spoke = 0
    for trace in transducer.traces(net, some):
        for group in trace["groups"]:
            assert trace["blank"][group] <= 0.5
            spoke += 1
    assert spoke
