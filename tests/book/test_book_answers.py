"""The answers and the first table of the results page repeat the stored numbers."""

from __future__ import annotations

import json
import re

import pytest
from book_rules import ROOT

pytest.importorskip("sphinx", reason="needs the packages that build the book")

from bookext import answers, glance, networks

from book.experiments.measure import paired_interval
from book.tools import tables as readme

RESULTS = ROOT / "book" / "results"


def stored_run(name: str, model: str, **wanted) -> dict:
    """The one stored row of a network with these values."""
    rows = json.loads((RESULTS / f"{name}.json").read_text())["runs"]
    (row,) = [r for r in rows if r["model"] == model and wanted.items() <= r.items()]
    return row


def lost(row: dict, at: int) -> str:
    """Points lost and their interval, formatted anew."""
    values = [row["ann_accuracy"] - row["accuracy"][at], *row["loss_interval"][at]]
    loss, low, high = (f"{100 * v:+.2f}".replace("-", "−") for v in values)
    return re.sub(r"[+−](0\.00)\b", r"\1", f"{loss} ({low} … {high})")


def test_answers_repeat_the_stored_numbers():
    said = {name: answers.sentences(name, RESULTS) for name in answers.ANSWERS}
    model = "cifar10-resnet"
    assert all(next(iter(found)) == model for found in said.values() if model in found)
    silent = {name for name, found in said.items() if model not in found}
    # Some experiments are stored for other networks.
    assert silent <= {"negative", "codes", "seenn"}

    best = {m: stored_run("accuracy-over-time", model, cell=f"{model}/{m}/best")
            for m in ("if", "augmented")}  # fmt: skip
    step = readme.settled(best["augmented"])
    text = said["accuracy"][model]
    assert f"AugMapping from step {step} on, {lost(best['augmented'], step - 1)} points" in text
    assert f"IF not within {len(best['if']['accuracy'])} steps, {lost(best['if'], -1)} lost" in text
    assert f"({100 * best['if']['ann_accuracy']:.2f} %)" in text

    least = json.loads((RESULTS / "frontier.json").read_text())["least"]
    for row in [row for row in least if row["model"] == model]:
        assert lost(row, -1) in said["frontier"][model]
        assert f"{row['bits_per_neuron'][-1]:.3f} bits" in said["frontier"][model]

    sizes = stored_run("frontier", model, cell=f"{model}/augmented-8-0")["events_by_size"]
    assert f"{100 * sizes[0] / sum(sizes):.1f} %" in said["coefficients"][model]

    layers = stored_run("layer-errors", model, label="AugMapping, book")
    error = layers["layers"][-1]["error"][layers["steps"].index(8)]
    assert f"{100 * error:.3g} % with AugMapping" in said["layer-errors"][model]

    rows = json.loads((RESULTS / "robustness.json").read_text())["runs"]
    (row,) = [r for r in rows if (r["model"], r["label"], r["disturbance"])
              == (model, "AugMapping", "lost spikes")]  # fmt: skip
    (size,) = [size for size in row["sizes"] if size["size"] == 0.1]
    mean = f"{100 * size['accuracy']:.1f} ± {100 * size['accuracy_std']:.1f} %"
    assert f"AugMapping has {mean}" in said["robustness"][model]

    uniform, layerwise = (
        r for r in json.loads((RESULTS / "allocation.json").read_text())["runs"]
        if r["model"] == model
    )  # fmt: skip
    text = said["allocation"][model]
    assert f"{100 * layerwise['events_saved']:.1f} % of the events" in text
    assert f"{lost(layerwise, -1)} with them, {lost(uniform, -1)} with one factor" in text

    for label in answers.PEERS[:2]:
        assert lost(stored_run("peers", model, label=label), 31) in said["peers"][model]
    whole = stored_run("integer", model, cell=f"{model}/augmented-4")
    assert lost(whole | {"ann_accuracy": whole["real_accuracy"][-1]}, -1) in said["integer"][model]

    runs = [r for r in json.loads((RESULTS / "ablations.json").read_text())["runs"]
            if r["model"] == model and r["axis"] == "levels"]  # fmt: skip
    for value in (f"{100 * pick(r['accuracy'][1] for r in runs):.1f} ±" for pick in (min, max)):
        assert value in said["ablations"][model]

    leaving = stored_run("early-exit", model, label="AugMapping")
    (chosen,) = [row for row in leaving["sweep"] if row["chosen"]]
    steps = f"{chosen['mean_steps']:.2f} of {leaving['steps']} steps"
    assert f"AugMapping answers after {steps}" in said["early-exit"][model]


def test_exits_are_those_that_validation_images_chose():
    said = answers.sentences("seenn", RESULTS)
    for run in json.loads((RESULTS / "seenn.json").read_text())["runs"]:
        if run["label"] != "SEENN-I" or run["best"] is None:
            continue
        curve = run["curves"][run["best"]]
        steps = curve["mean_steps"][curve["chosen"]]
        lost = readme.points(run["ann_accuracy"] - curve["accuracy"][curve["chosen"]])
        text = f"by confidence an image takes {steps:.2f} of 8 steps in the mean, {lost} points"
        assert text in said[run["model"]]


def test_every_network_of_a_file_has_its_answer():
    for name, (file, _) in answers.ANSWERS.items():
        models = {
            row["model"] for row in json.loads((RESULTS / f"{file}.json").read_text())["runs"]
        }
        assert set(answers.sentences(name, RESULTS)) == models, name


@pytest.mark.parametrize(("won", "lose", "both"), [(3, 5, 0), (0, 2, 6), (4, 4, 3), (0, 0, 1)])
def test_interval_from_changed_answers_is_no_narrower_than_that_of_the_counts(won, lose, both):
    """``both``: answers that differ from the ANN's and are as right or wrong as those."""
    n = 100
    run = {"n": n, "ann_accuracy": 0.9}
    row = {"accuracy": 0.9 - (lose - won) / n, "agreement": 1 - (won + lose + both) / n}
    low, high = answers.widest_interval(run, row)
    inner_low, inner_high = paired_interval(lose, won, n)
    assert low <= inner_low + 1e-12
    assert high >= inner_high - 1e-12


def test_glance_has_the_numbers_of_the_readme():
    from bs4 import BeautifulSoup

    page = BeautifulSoup(glance.table(ROOT), "html.parser")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    groups = {body["data-network"]: body for body in page.find_all("tbody")}
    assert list(groups) == list(networks.NAMES)
    for name, body in groups.items():
        rows = [[cell.get_text() for cell in row.find_all("td")] for row in body.find_all("tr")[1:]]
        if name == "digits-cnn":
            assert len(rows) == 6  # two of them late answers
            continue
        section = text[text.index(f"**{name}**") :].split("\n\n")[1]
        wanted = [
            line.strip("|").split("|")[1:]
            for line in section.splitlines()[2:]
            if line.startswith("|")
        ]
        said = [[c.strip().removeprefix("step ") for c in line] for line in wanted]
        # Both accounts of energy share a cell, and so does their absence.
        pairs = [[*row, ours + theirs if ours.strip("–") else ours] for *row, ours, theirs in said]
        assert rows == pairs, name
