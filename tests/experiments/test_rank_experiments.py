"""The experiments on when to answer: they run, resume, and choose on validation images."""

import json
from dataclasses import replace

import pytest
import torch

from book import experiments
from book.experiments import frame, rank_coding, seenn
from snnlib.recurrent import contest


def test_tasks_are_no_networks_and_need_no_checkpoints(tmp_path, monkeypatch):
    """One quick task, interrupted and taken up; its record says how to repeat it."""
    experiment = experiments.get("rank-coding")
    assert not set(contest.TASKS) & set(frame.models.NAMES)
    monkeypatch.setattr(rank_coding, "SEEDS", (0,))
    few = replace(contest.TASKS["digits"].more, epochs=1, threshold=0.2)
    monkeypatch.setitem(contest.TASKS, "digits", replace(contest.get("digits"), more=few))
    monkeypatch.setattr(rank_coding, "TIMED", (0.9,))
    options = {"limit": 20, "folder": tmp_path, "progress": False}
    path = frame.run(experiment, ["digits"], **options)
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["command"] == "snnlib experiment rank-coding --networks digits --limit 20"
    assert record["checkpoints"] == {}
    assert record["n"] == {"digits": 20}
    assert [run["method"] for run in record["runs"]] == ["first", "every", "end", "scratch"]
    assert all(len(run["validation"]) == len(run["sweep"]) for run in record["runs"])
    with pytest.raises(frame.ExperimentError, match="no such network"):
        frame.run(experiment, ["chess"], **options)


def test_every_task_has_its_cells():
    for task in contest.TASKS:
        names = [cell.name for cell in rank_coding.cells(task)]
        assert len(set(names)) == len(names)
        assert all(name.startswith(f"{task}/") for name in names)


@pytest.mark.dataset("spoken_digits")
def test_traces_are_outputs_and_hold_no_sound():
    """One number a frame of what was heard; probabilities after each, as the network gives them."""
    _, _, test = contest.get("spoken").parts(0)
    torch.manual_seed(0)
    coder = contest.get("spoken").network(test)
    found = rank_coding.traces(coder, test)
    assert [trace["digit"] for trace in found] == list(rank_coding.TRACED)
    for trace in found:
        outputs = torch.tensor(trace["outputs"])
        assert len(trace["loudness"]) == len(outputs)
        assert torch.allclose(outputs.sum(1), torch.ones(len(outputs)), atol=0.006)
        assert trace.keys() == {"digit", "speaker", "take", "loudness", "outputs"}


@pytest.mark.slow
def test_the_first_bin_alone(monkeypatch):
    """One bin says nothing: every pixel fires; two say something."""
    fit, validation, test = contest.get("digits").parts(0)
    parts = (fit.take(slice(400)), validation, test)
    monkeypatch.setattr(rank_coding, "parts", lambda *_: parts)
    context = frame.Context(torch.device("cpu"), None)
    found = [rank_coding.first_bin("mnist-conv", bins, context)[0] for bins in (1, 2)]
    assert found[0]["accuracy"] < 0.3
    assert found[1]["accuracy"] > found[0]["accuracy"] + 0.2


def test_seenn_chooses_on_validation_images(tmp_path, monkeypatch):
    monkeypatch.setattr(seenn, "DIRECT_EPOCHS", {"digits-cnn": 1})
    monkeypatch.setattr(seenn, "POLICY_EPOCHS", 1)
    path = frame.run(
        experiments.get("seenn"), ["digits-cnn"], limit=60, folder=tmp_path, progress=False
    )
    runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
    assert [run["label"] for run in runs] == ["SEENN-I", "SEENN-II", "SEENN-I, trained directly"]
    for run in runs:
        assert len(run["accuracy"]) == run["steps"]
        assert sum(exit["chosen"] for exit in run["sweep"]) <= 1
        for exit in run["sweep"]:
            assert sum(exit["by_step"]) == run["n"]
            steps = sum(t * n for t, n in enumerate(exit["by_step"], 1)) / run["n"]
            assert exit["mean_steps"] == pytest.approx(steps, rel=1e-5)
    assert 0 < runs[1]["macs"] < runs[1]["ann_macs"] / 10
    first = runs[0]["sweep"]
    # Above the largest threshold nobody leaves early, at the lowest nearly everybody does.
    assert first[0]["mean_steps"] < first[14]["mean_steps"]


def test_the_cheapest_of_the_good_is_chosen():
    rows = [
        {"validation_accuracy": a, "validation_steps": t, "chosen": False}
        for a, t in ((0.9, 1.0), (0.9495, 1.4), (0.95, 1.3), (0.95, 2.0))
    ]
    seenn.choose(rows, 0.95)
    assert [row["chosen"] for row in rows] == [False, False, True, False]
