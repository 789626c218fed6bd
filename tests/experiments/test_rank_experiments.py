"""The experiments on when to answer: they run, resume, and choose on validation images."""

import json
from dataclasses import replace

import pytest
import torch

from book import experiments
from book.experiments import exit_curves, frame, rank_coding, seenn
from snnlib.recurrent import compare, contest, exits


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
    assert [len(run["timing"]) for run in record["runs"]] == [1, 0, 0, 0]
    with pytest.raises(frame.ExperimentError, match="no such network"):
        frame.run(experiment, ["chess"], **options)


@pytest.mark.parametrize("progress", [True, False])
def test_trainings_show_a_bar_unless_they_shall_be_quiet(progress, monkeypatch, capsys):
    few = replace(contest.TASKS["digits"].more, epochs=1, threshold=0.2)
    monkeypatch.setitem(contest.TASKS, "digits", replace(contest.get("digits"), more=few))
    rank_coding.warm.cache_clear()
    context = experiments.Context(torch.device("cpu"), 20, progress=progress)
    rank_coding.measure("digits", "every", 0, context)
    rank_coding.warm.cache_clear()
    assert ("batch/s" in capsys.readouterr().err) == progress


def test_every_task_has_its_cells():
    for task in contest.TASKS:
        names = [cell.name for cell in rank_coding.cells(task)]
        assert len(set(names)) == len(names)
        assert all(name.startswith(f"{task}/") for name in names)
        for seed in rank_coding.SEEDS:
            assert {f"{task}/{method}/{seed}" for method in compare.METHODS} <= set(names)
        assert (f"{task}/recorded/0" in names) == (task in rank_coding.SPLITS)


def test_a_reward_of_entropy_goes_on_from_the_warm_start_of_rank_coding(monkeypatch):
    """Each β has its own loss and everything else in common; the row is named by it."""
    parts = tuple(part.take(slice(200)) for part in contest.get("noisy-mean").parts(0))
    monkeypatch.setattr(rank_coding, "parts", lambda *_: parts)
    monkeypatch.setattr(rank_coding, "TIMED", ())
    rank_coding.warm.cache_clear()
    train, seen = compare.train, []

    def spy(about, fit, method, seed, *, start, **options):
        seen.append((about.more, method, start))
        return train(about, fit, method, seed, start=start, **options)

    monkeypatch.setattr(compare, "train", spy)
    methods = ("first", *rank_coding.REWARDS)
    context = frame.Context(torch.device("cpu"), None)
    rows = [rank_coding.measure("noisy-mean", method, 0, context)[0] for method in methods]
    assert [row["method"] for row in rows] == ["first", "β = 0.1", "β = 0.3", "β = 1"]
    assert [more.entropy for more, _, _ in seen] == [0.0, 0.1, 0.3, 1.0]
    assert {replace(more, entropy=0.0) for more, _, _ in seen} == {seen[0][0]}
    assert {method for _, method, _ in seen} == {"first"}
    assert len({id(start) for _, _, start in seen}) == 1
    rank_coding.warm.cache_clear()


@pytest.mark.dataset("spoken_digits")
def test_a_new_voice_is_leveled_and_as_recorded_beside_it(monkeypatch):
    """Two networks that hear a louder recording: the one answers as before, the other does not."""
    task, networks = "spoken-theo", []
    few = replace(contest.get(task).every, epochs=1)
    brief = replace(contest.get(task), every=few, more=few)
    monkeypatch.setitem(contest.TASKS, task, brief)
    measure = compare.measure

    def spy(about, coder, *rest):
        networks.append(coder)
        return measure(about, coder, *rest)

    monkeypatch.setattr(compare, "measure", spy)
    context = frame.Context(torch.device("cpu"), 20)
    rows = [rank_coding.measure(task, method, 0, context)[0] for method in ("first", "recorded")]
    assert [row["method"] for row in rows] == ["first", "recorded"]
    part = rank_coding.parts(task, 0, context)[0]
    voiced = part.values.logsumexp(-1)[:, 0] > 14  # from the first frame on
    assert bool(voiced.any())
    moved = []
    for coder in (networks[0], networks[-1]):
        one, other = (coder.outputs(x, part.lengths) for x in (part.values, part.values + 3))
        moved.append(float((one - other)[voiced].abs().max()))
    assert moved[0] < 1e-3 < moved[1]


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
    monkeypatch.setattr(rank_coding, "SEEDS", (0,))
    found = [rank_coding.first_bin("mnist-conv", bins, context)[0] for bins in (1, 2)]
    assert found[0]["accuracy"] < 0.3
    assert found[1]["accuracy"] > found[0]["accuracy"] + 0.2


def test_seenn_chooses_on_validation_images(tmp_path, monkeypatch):
    monkeypatch.setattr(seenn, "DIRECT_EPOCHS", {"digits-cnn": 1})
    monkeypatch.setattr(seenn, "POLICY_EPOCHS", 1)
    path = frame.run(
        experiments.get("seenn"), ["digits-cnn"], limit=60, folder=tmp_path, progress=False
    )
    record = json.loads(path.read_text(encoding="utf-8"))
    tried, runs = record["settings_tried"], record["runs"]
    assert [row["label"] for row in tried] == list(seenn.SETTINGS)
    assert sum(row["chosen"] for row in tried) == 1
    assert [run["label"] for run in runs] == [
        "SEENN-I, usual thresholds", "SEENN-I", "SEENN-II", "SEENN-I, trained directly"
    ]  # fmt: skip
    for run in runs:
        assert len(run["accuracy"]) == run["steps"]
        assert run["least_accuracy"] >= max(run["accuracy"])
        for curve in run["curves"]:
            for k, counts in enumerate(curve["by_step"]):
                assert sum(counts) == run["n"]
                right = curve["right_by_step"][k]
                assert sum(right) / run["n"] == pytest.approx(curve["accuracy"][k], rel=1e-5)
                steps = sum(t * n for t, n in enumerate(counts, 1)) / run["n"]
                assert curve["mean_steps"][k] == pytest.approx(steps, rel=1e-5)
        for row in run["reliability"]:
            assert sum(row["images"]) == run["n"]
            share = sum(n * r for n, r in zip(row["images"], row["right"], strict=True)) / run["n"]
            assert share == pytest.approx(run["accuracy"][row["step"] - 1], rel=1e-4)
    assert 0 < runs[2]["macs"] < runs[2]["ann_macs"] / 10
    first = runs[0]["curves"][0]["mean_steps"]
    # Above the largest threshold nobody leaves early, at the lowest nearly everybody does.
    assert first[0] < first[-1]


def seen(*rows):
    """Images of three classes whose sums of one step, (2, n, 3), are as given by names."""
    shapes = {"sure": [6.0, 0.0, 0.0], "torn": [1.0, 0.9, 0.0], "wrong": [0.0, 6.0, 0.0]}
    summed = torch.tensor([[shapes[name] for name in step] for step in rows])
    return exit_curves.Seen(summed, torch.zeros(len(rows[0]), dtype=torch.int64))


def test_the_fewest_steps_within_the_tolerance_are_chosen():
    """The second image is torn at first and sure later, the third wrong at first if it leaves."""
    images = seen(["sure", "torn", "wrong"], ["sure", "sure", "sure"])
    decisions = [exits.first_exit(images.summed, c) for c in (0.3, 0.9, 1.0)]
    chosen = exit_curves.curve(
        "confidence", "sum", [1.0, 1.0], [0.3, 0.9, 1.0], [decisions, decisions],
        (images, images), 1.0,
    )  # fmt: skip
    assert chosen["validation_accuracy"] == pytest.approx([2 / 3, 2 / 3, 1.0])
    assert chosen["chosen"] == 2
    easier = dict(chosen, chosen=1, validation_steps=[1.0, 1.4, 2.0])
    none = dict(chosen, chosen=None)
    assert exit_curves.best_of([chosen, none, easier]) == 2
    assert exit_curves.best_of([none]) is None


def test_reliability_counts_each_image_once():
    images = seen(["sure", "torn", "wrong"], ["sure", "sure", "sure"])
    row = exit_curves.reliability(images, images)[0]
    assert (row["reading"], row["step"]) == ("sum", 1)
    assert row["images"] == [0, 0, 0, 0, 1, 0, 0, 0, 0, 2]
    assert row["right"][4] == 1.0
    assert row["right"][9] == 0.5
    assert row["confidence"][9] == pytest.approx(float(exits.confidence(images.summed[0, 0])))
