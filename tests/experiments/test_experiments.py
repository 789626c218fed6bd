"""Experiments: the frame resumes and refuses, intervals are honest, stored answers come back."""

import dataclasses
import json
import math
import time
from functools import partial

import numpy as np
import pytest
import torch

import snnlib as snn
from book import experiments
from book.experiments import (
    Cell,
    Experiment,
    ExperimentError,
    Setting,
    frame,
)
from book.experiments.measure import (
    in_turns,
    loss_intervals,
    pack,
    paired_interval,
    quantized,
    unpack,
)
from book.experiments.targets import targets
from snnlib.__main__ import main
from snnlib.zoo import checkpoints
from snnlib.zoo.evaluate import evaluate


def small_run(network, levels, context):
    subject = context.subject(network)
    net = subject.convert(Setting(snn.Augmented(levels=levels), snn.Max()))
    found = evaluate(net, subject.ann, subject.test, 3)
    return [{"model": network, "n": found.n, "accuracy": found.accuracy, "events": found.events}]


def small_choice(network, context):
    """Looks up an earlier cell, as choices do."""
    (row,) = context.rows[f"{network}/2"]
    return [{"model": network, "best": max(row["accuracy"])}]


def small_cells(network):
    return [
        Cell(f"{network}/2", partial(small_run, network, 2)),
        Cell(f"{network}/choice", partial(small_choice, network), "choices"),
        Cell(f"{network}/3", partial(small_run, network, 3)),
    ]


SMALL = Experiment("small", "three cells on a few digits", ("digits-cnn",), small_cells)


def go(experiment, folder, **options):
    return frame.run(experiment, limit=20, folder=folder, progress=False, **options)


def interrupted(experiment, before):
    """The experiment, stopped from outside before one of its cells."""

    def stop(context):
        raise KeyboardInterrupt

    def cells(network):
        return [
            dataclasses.replace(cell, compute=stop) if cell.name.endswith(before) else cell
            for cell in experiment.cells(network)
        ]

    return dataclasses.replace(experiment, cells=cells)


def content(path):
    """A results file without what may differ from run to run: times, and a commit in between."""
    record = json.loads(path.read_text(encoding="utf-8"))
    for stamp in (record, *record["cells"].values()):
        for key in ("seconds", "commit", "date"):
            stamp.pop(key)
    return record


def test_resumed_equals_uninterrupted(tmp_path):
    whole = go(SMALL, tmp_path / "whole")
    part = tmp_path / "part"
    for before in ("/choice", "/3"):
        with pytest.raises(KeyboardInterrupt):
            go(interrupted(SMALL, before), part, resume=True)
        assert [path.name for path in part.iterdir()] == ["small-first-20.partial"]
    resumed = go(
        interrupted(SMALL, "/2"), part, resume=True
    )  # the first cell is not computed again
    assert content(resumed) == content(whole)
    assert sorted(path.name for path in part.iterdir()) == ["README.md", "small-first-20.json"]


def test_record_says_how_it_was_made(tmp_path):
    record = json.loads(go(SMALL, tmp_path).read_text(encoding="utf-8"))
    assert record["command"] == "snnlib experiment small --limit 20"
    assert record["n"] == {"digits-cnn": 20}
    assert record["seed"] == 0
    assert record["versions"].keys() == {"snnlib", "python", "torch", "numpy"}
    assert record["hardware"]
    assert record["checkpoints"].keys() == {"digits-cnn"}
    assert [row["cell"] for row in record["runs"]] == ["digits-cnn/2", "digits-cnn/3"]
    assert record["choices"][0]["best"] == max(record["runs"][0]["accuracy"])
    assert record["seconds"] == pytest.approx(
        sum(stamp["seconds"] for stamp in record["cells"].values()), abs=0.06
    )


def test_a_finished_file_resumes_without_computing(tmp_path):
    path = go(SMALL, tmp_path)
    before = content(path)
    nothing = interrupted(interrupted(interrupted(SMALL, "/2"), "/choice"), "/3")
    assert content(go(nothing, tmp_path, resume=True)) == before


def test_different_settings_are_not_mixed(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        go(interrupted(SMALL, "/3"), tmp_path)
    with pytest.raises(ExperimentError, match="--resume, or move it away"):
        go(SMALL, tmp_path)
    with pytest.raises(ExperimentError, match="version 1, this run has version 2"):
        go(dataclasses.replace(SMALL, version=2), tmp_path, resume=True)
    unfinished = tmp_path / "small-first-20.partial"
    state = json.loads(unfinished.read_text(encoding="utf-8"))
    state["checkpoints"]["digits-cnn"] = "0" * 64
    unfinished.write_text(json.dumps(state), encoding="utf-8")
    with pytest.raises(ExperimentError, match="another checkpoint"):
        go(SMALL, tmp_path, resume=True)


def test_only_what_another_checkpoint_gave_is_computed_anew(tmp_path):
    """The cells of the other network are kept, and what a training had kept is not taken up."""
    computed = []

    def cells(network):
        def compute(context):
            computed.append(network)
            if computed.count("digits-cnn") == 2 and network == "digits-cnn":
                assert not context.state("training").exists()
            return [{"model": network, "n": 20}]

        return [Cell(f"{network}/one", compute)]

    pair = Experiment("pair", "a cell each", ("digits-cnn", "strings"), cells,
                      datasets={"strings": None})  # fmt: skip
    path = go(pair, tmp_path)
    before = content(path)
    record = json.loads(path.read_text(encoding="utf-8"))
    record["checkpoints"]["digits-cnn"] = "0" * 64
    path.write_text(json.dumps(record), encoding="utf-8")
    scratch = tmp_path / "pair-first-20.training.partial"
    scratch.mkdir()
    (scratch / "training.state").touch()
    with pytest.raises(ExperimentError, match=r"digits-cnn were computed from another .* --renew"):
        go(pair, tmp_path, resume=True)
    assert content(go(pair, tmp_path, resume=True, renew=True)) == before
    assert computed == ["digits-cnn", "strings", "digits-cnn"]


KINDS = [b"{", b"[1, 2]", b"7", b"null", b'"text"', b"\xff\xfe\x00", b"{}", b'{"settings": 1}']
KINDS += [b'{"settings": {}, "networks": {}, "checkpoints": {}, "cells": {}}']
KINDS += [b'{"settings": {}, "networks": [], "checkpoints": {}, "cells": {"digits-cnn/2": 3}}']
KINDS += [b'{"settings": {}, "networks": [], "checkpoints": {}, "cells": {"digits-cnn/2": {}}}']


@pytest.mark.parametrize("suffix", [".partial", ".json"])
@pytest.mark.parametrize("content", KINDS)
def test_a_file_of_another_kind_is_refused_and_stays(tmp_path, suffix, content):
    path = tmp_path / f"small-first-20{suffix}"
    path.write_bytes(content)
    with pytest.raises(ExperimentError, match=r"of another kind.*move it away"):
        go(SMALL, tmp_path, resume=True)
    assert path.read_bytes() == content


def test_results_go_to_the_repository_wherever_the_command_is_run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (frame.FOLDER / "accuracy-over-time.json").is_file()
    assert main(["experiment", "--list"]) == 0
    assert "stored: " in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_named_with_the_way_to_it(tmp_path, monkeypatch):
    find = checkpoints.find

    def absent(name):
        if name == "cifar10-resnet":
            raise checkpoints.CheckpointError("no such thing: snnlib train cifar10-resnet")
        return find(name)

    monkeypatch.setattr(checkpoints, "find", absent)
    with pytest.raises(ExperimentError) as error:
        go(SMALL, tmp_path, networks=["digits-cnn", "cifar10-resnet"])
    assert "snnlib train cifar10-resnet" in str(error.value)
    assert str(error.value).endswith("--networks digits-cnn")
    with pytest.raises(ExperimentError, match="no such network"):
        go(SMALL, tmp_path, networks=["digits"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.dataset("mnist")
def test_a_network_is_added_to_a_finished_file(tmp_path):
    go(SMALL, tmp_path)
    path = go(interrupted(SMALL, "digits-cnn/2"), tmp_path, networks=["mnist-mlp"], resume=True)
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["networks"] == ["digits-cnn", "mnist-mlp"]
    assert [row["model"] for row in record["runs"]] == ["digits-cnn"] * 2 + ["mnist-mlp"] * 2
    assert record["command"].endswith("--networks digits-cnn,mnist-mlp --limit 20")


def test_command_lists_and_refuses(capsys, tmp_path):
    assert main(["experiment", "--list"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in experiments.NAMES)
    for arguments, reason in (
        (["accuracy"], "There is no experiment 'accuracy'. Did you mean 'accuracy-over-time'?"),
        ([], "--list shows them"),
        (["accuracy-over-time", "--limit", "0"], "at least 1"),
    ):
        assert main(["experiment", *arguments, "--results", str(tmp_path)]) == 2
        assert reason in capsys.readouterr().err


def test_interval_covers_by_enumeration():
    """Exact coverage over all outcomes of 60 images, for networks that differ little or much."""
    n = 60
    factorials = [math.lgamma(k + 1) for k in range(n + 1)]
    for lost, won in ((0.005, 0.005), (0.02, 0.01), (0.1, 0.1), (0.3, 0.05)):
        covered = 0.0
        for a in range(n + 1):
            for b in range(n + 1 - a):
                low, high = paired_interval(a, b, n)
                if low <= lost - won <= high:
                    ways = factorials[n] - factorials[a] - factorials[b] - factorials[n - a - b]
                    rest = (n - a - b) * math.log(1 - lost - won)
                    covered += math.exp(ways + a * math.log(lost) + b * math.log(won) + rest)
        assert 0.94 <= covered <= 1.0 + 1e-9


def test_interval_agrees_with_the_bootstrap():
    random = np.random.default_rng(0)
    difference = random.choice([1, 0, -1], size=3000, p=[0.05, 0.92, 0.03])
    means = difference[random.integers(0, 3000, (4000, 3000))].mean(1)
    counts = int((difference == 1).sum()), int((difference == -1).sum())
    assert paired_interval(*counts, 3000) == pytest.approx(
        np.quantile(means, (0.025, 0.975)), abs=1e-3
    )
    low, high = paired_interval(0, 0, 1000)
    assert low == -high < 0 < high < 0.004  # never a difference: small, but not certain
    with pytest.raises(ValueError, match="no counts"):
        paired_interval(600, 600, 1000)


def test_intervals_count_the_images_that_only_one_gets_right():
    labels = torch.tensor([0, 1, 2, 3])
    ann = torch.tensor([0, 1, 2, 0])
    answers = torch.tensor([[0, 0, 0, 3], [0, 1, 2, 0]])
    assert loss_intervals(answers, ann, labels) == [
        paired_interval(2, 1, 4),
        paired_interval(0, 0, 4),
    ]


def test_answers_are_packed_without_loss():
    answers = torch.randint(10, (1000,), generator=torch.Generator().manual_seed(0))
    assert torch.equal(unpack(pack(answers)), answers)
    assert len(pack(answers)) < 700


@pytest.fixture(scope="module")
def digits():
    train, test = snn.data.load("digits")
    ann = snn.models.load("digits-cnn").double()
    images = snn.data.to_float(train.images[:200]).double()
    return ann, images, snn.data.to_float(test.images[:30]).double()


def test_quantized_ann_is_the_closed_form(digits):
    """Where neurons have no memory, the network after t steps is the ANN with t × the levels."""
    ann, images, x = digits
    net = snn.convert(ann, images, snn.Augmented(levels=3, negative=0.0))
    run = net(x, steps=4)
    for t in (1, 2, 4):
        torch.testing.assert_close(quantized(net, x, t), net.closed_form(x, t), rtol=0, atol=1e-9)
        torch.testing.assert_close(quantized(net, x, t), run.logits[t - 1], rtol=0, atol=1e-9)


def test_wide_spikes_in_one_step_are_a_quantized_network(digits):
    """With a cap and a negative threshold too: in the first step nothing can be taken back."""
    ann, images, x = digits
    for neuron in (snn.Augmented(levels=4, cap=2), snn.Ternary(), snn.IF()):
        net = snn.convert(ann, images, neuron)
        torch.testing.assert_close(
            quantized(net, x, 1), net(x, steps=1).logits[0], rtol=0, atol=1e-9
        )


@pytest.mark.parametrize(
    "setting",
    [
        Setting(snn.IF(reset="zero"), snn.Max()),
        Setting(snn.Ternary(negative=0.5), snn.Percentile(99), per_channel=True),
        Setting(snn.Augmented(levels=3, cap=7), snn.MinError(levels=6), bias_steps=2),
    ],
)
def test_settings_come_back_from_their_record(setting):
    assert Setting.of(json.loads(json.dumps(setting.record()))) == setting


def test_a_target_is_judged_by_its_first_step_within_bounds():
    run = {
        "model": "mnist-cnn", "neuron": "augmented", "form": "best", "label": "x", "n": 10,
        "steps": 4, "neurons": 100, "ann_accuracy": 0.99, "accuracy": [0.98, 0.9896, 0.99, 0.99],
        "events_per_image": [40, 55, 70, 80],
        "loss_interval": [(0.0, 0.02), (-0.01, 0.01), (-0.01, 0.01), (-0.01, 0.01)],
    }  # fmt: skip
    (row,) = targets([run])
    assert row["loss_interval"] == (-0.01, 0.01)
    assert (row["reached"], row["step"], row["events_per_neuron"]) == (True, 2, 0.55)
    (row,) = targets([run | {"events_per_image": [40, 65, 70, 80]}])
    assert (row["reached"], row["step"]) == (False, 1)
    assert row["loss_points"] == pytest.approx(1.0)
    (row,) = targets([run | {"events_per_image": [90, 95, 96, 97]}])
    assert (row["reached"], row["step"], row["loss_points"]) == (False, None, None)
    assert targets([run | {"form": "plain"}, run | {"steps": 1}]) == []


def test_ways_are_timed_in_turns(monkeypatch):
    """By a clock that the ways move themselves; the first turn, ten times slower, is left out."""
    now, order = [0.0], []

    def way(name, seconds):
        order.append(name)
        first = order.count(name) == 1
        now[0] += (10 if first else 1) * seconds[min(order.count(name) - 2, len(seconds) - 1)]

    monkeypatch.setattr("book.experiments.measure.time.perf_counter", lambda: now[0])
    ways = {"a": partial(way, "a", [1.0, 9.0, 2.0]), "b": partial(way, "b", [5.0])}
    assert in_turns(ways, 3) == {"a": 2.0, "b": 5.0}
    assert order == ["a", "b"] * 4


def test_a_thread_that_waits_computes_nothing():
    waited = {"waits": partial(time.sleep, 0.05)}
    assert in_turns(waited, 1)["waits"] >= 0.05
    assert in_turns(waited, 1, time.process_time)["waits"] < 0.04
