"""The welcome page's figure: which stored result it takes, and what it says of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("sphinx", reason="needs the packages that build the book")

from bookext import figures, modes

from snnlib import plots


def run(neuron, label, accuracy, **more):
    found = {"neuron": neuron, "label": label, "accuracy": accuracy, "n": 10, **more}
    return {"events_per_image": [1.0] * len(accuracy), **found}


def store(folder: Path, model: str, ann: float) -> None:
    for neuron in figures.NEURONS:
        found = run(neuron, neuron.upper(), [0.5, ann], model=model, ann_accuracy=ann)
        text = json.dumps({"runs": [found]})
        (folder / f"{model}-{neuron}.json").write_text(text, encoding="utf-8")


def test_nothing_stored_gives_no_figure(tmp_path):
    assert figures.best_runs(tmp_path) == []


def test_the_hardest_network_with_all_three_neurons_is_shown(tmp_path):
    store(tmp_path, "mnist-cnn", 0.99)
    store(tmp_path, "cifar10-vgg", 0.93)
    (tmp_path / "cifar10-vgg-if.json").unlink()
    assert {row["model"] for row in figures.best_runs(tmp_path)} == {"mnist-cnn"}
    store(tmp_path, "cifar10-vgg", 0.93)
    assert {row["model"] for row in figures.best_runs(tmp_path)} == {"cifar10-vgg"}


def test_an_evaluation_of_the_last_step_alone_is_no_curve(tmp_path):
    store(tmp_path, "mnist-cnn", 0.99)
    last = run("if", "IF", [0.99], model="mnist-cnn", ann_accuracy=0.99, events_per_image=None)
    (tmp_path / "mnist-cnn-if.json").write_text(json.dumps({"runs": [last]}), encoding="utf-8")
    assert figures.best_runs(tmp_path) == []


def test_the_experiment_gives_the_best_runs_on_all_images(tmp_path):
    rows = [
        run(
            neuron,
            f"{neuron}, {form}",
            [0.9],
            model="mnist-cnn",
            ann_accuracy=0.99,
            form=form,
            **more,
        )
        for neuron in figures.NEURONS
        for form in ("plain", "best")
        for more in ({"headline": {}}, {})
    ]
    (tmp_path / "accuracy-over-time.json").write_text(json.dumps({"runs": rows}), encoding="utf-8")
    found = figures.best_runs(tmp_path)
    assert [row["neuron"] for row in found] == list(figures.NEURONS)
    assert all(row.get("form") == "best" and "headline" in row for row in found)


def test_networks_of_different_anns_are_not_mixed(tmp_path):
    store(tmp_path, "mnist-cnn", 0.99)
    other = run("if", "IF", [0.5], model="mnist-cnn", ann_accuracy=0.98)
    (tmp_path / "mnist-cnn-if.json").write_text(json.dumps({"runs": [other]}), encoding="utf-8")
    assert figures.best_runs(tmp_path) == []


def test_alt_text_says_from_when_on_a_curve_stays_at_the_ann():
    text = figures.describe({"IF": [0.1, 0.99, 0.5, 0.99], "AugMapping": [0.99, 0.989]}, 0.99, "x")
    assert "IF starts at 10.0 % and stays within 0.1 points of the ANN from step 4 on" in text
    assert "AugMapping starts at 99.0 % and stays within 0.1 points of the ANN from step 1" in text
    assert "does not reach" in figures.describe({"IF": [0.1, 0.2]}, 0.99, "x")


def test_figure_draws_every_curve_in_its_color():
    panel = figures.panel({"IF": [0.1, 0.9], "AugMapping": [0.8, 0.9]}, 0.95, "x")
    for mode in modes.MODES:
        svg = modes.svg(panel, mode)
        for name in ("IF", "AugMapping", "ANN"):
            assert plots.color(name, mode) in svg
