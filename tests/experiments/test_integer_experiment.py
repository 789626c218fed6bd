"""Real against whole numbers: the same digest however computed, and again from what is stored."""

import hashlib
import json
from pathlib import Path

import pytest
import torch

import snnlib as snn
from book import experiments
from book.experiments import integer

STORED = Path(__file__).resolve().parents[2] / "book" / "results" / "integer.json"


@pytest.fixture(scope="module")
def context():
    return experiments.Context(torch.device("cpu"), limit=23)


@pytest.fixture(scope="module")
def row(context):
    (found,) = integer.measure("digits-cnn", "augmented-4", context)
    return found


def digest(net, split):
    found = hashlib.sha256()
    for _, (sums, _) in integer.outputs(net, split):
        found.update(sums)
    return found.hexdigest()


def test_the_digest_does_not_depend_on_parts_and_threads(row, context, monkeypatch):
    subject, before = context.subject("digits-cnn"), torch.get_num_threads()
    net = integer.rebuild(row, subject)
    assert row["n"] == 23
    assert digest(net, subject.test) == row["sha256"] == row["spot"]["sha256"]
    monkeypatch.setattr(integer, "_PART", 4)
    try:
        torch.set_num_threads(3)
        assert digest(net, subject.test) == row["sha256"]
    finally:
        torch.set_num_threads(before)
    monkeypatch.setattr(integer, "SPOT_IMAGES", 5)
    (again,) = integer.measure("digits-cnn", "augmented-4", context)
    assert again["sha256"] == row["sha256"]
    assert again["spot"] == {"n": 5, "sha256": digest(net, subject.test[:5])}
    assert digest(net, subject.test[1:]) != row["sha256"]


def test_a_stored_row_survives_json(row, context):
    again = json.loads(json.dumps(experiments.frame._rounded(row)))
    net = integer.rebuild(again, context.subject("digits-cnn"))
    assert digest(net, context.subject("digits-cnn").test) == row["sha256"]


def test_the_digest_is_of_the_summed_outputs(row, context):
    """One byte string by hand: image, step, class; little-endian 64-bit numbers."""
    subject = context.subject("digits-cnn")
    net = integer.rebuild(row, subject)
    run = net(snn.data.to_float(subject.test.images), integer.STEPS)
    content = b""
    for image in range(23):
        for t in range(integer.STEPS):
            for value in (run.logits[t, image] * (t + 1) / net.output_unit).tolist():
                assert abs(value - round(value)) < 1e-6
                content += round(value).to_bytes(8, "little", signed=True)
    assert hashlib.sha256(content).hexdigest() == row["sha256"]


def test_accuracies_and_agreement_are_counted(row, context):
    subject = context.subject("digits-cnn")
    net = integer.rebuild(row, subject)
    x, y = snn.data.to_float(subject.test.images), subject.test.labels
    whole = net(x, integer.STEPS).predictions
    real = net.source(x, integer.STEPS).predictions
    for t in range(integer.STEPS):
        assert row["accuracy"][t] == pytest.approx(float((whole[t] == y).double().mean()))
        assert row["real_accuracy"][t] == pytest.approx(float((real[t] == y).double().mean()))
        agree = float((whole[t] == real[t]).double().mean())
        assert row["agreement"][t] == pytest.approx(agree)
        low, high = row["loss_interval"][t]
        assert low <= row["real_accuracy"][t] - row["accuracy"][t] <= high


def test_what_was_seen_stays_below_what_is_possible(row):
    traced = row["traced"]
    assert 0 < traced["largest_current"] <= row["largest_possible_sum"] < 2**24
    assert traced["largest_potential"] < 2**31


def test_currents_are_what_the_layers_compute(row, context, monkeypatch):
    """The largest current from the traces, and the largest value that enters a spiking layer."""
    subject = context.subject("digits-cnn")
    net, images = integer.rebuild(row, subject), subject.test[:3]
    monkeypatch.setattr(integer, "STEPS", 1)
    seen = []
    x = snn.data.to_float(images.images)
    run = net(x, 1, record=net.graph.spiking)

    def send(node, z):
        seen.append(float(z.abs().max()))
        return run.trace[node.name].coefficient[0].float()

    net.graph.evaluate(x, activation=send)
    assert integer.largest(net, images)[0] == max(seen)


def test_targets_compare_after_the_last_step():
    run = {
        "model": "mnist-mlp", "label": "x", "n": 1000, "dataset": "mnist",
        "real_accuracy": [0.5, 0.99], "accuracy": [0.9, 0.9888],
        "steps": 2, "neurons": 10, "events_per_image": [4.0, 7.0],
    }  # fmt: skip
    far = {**run, "accuracy": [0.9, 0.9912]}
    found = integer.conclude({"runs": [run, far, {**run, "dataset": "digits"}]})["targets"]
    assert [target["reached"] for target in found] == [False, True]
    assert found[0]["loss_points"] == pytest.approx(0.12)
    assert found[0]["events_per_neuron"] == pytest.approx(0.7)


ROWS = [
    pytest.param(row, id=row["cell"], marks=pytest.mark.dataset(row["dataset"]))
    for row in (json.loads(STORED.read_text("utf-8"))["runs"] if STORED.is_file() else [])
]


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS)
def test_this_machine_computes_the_stored_outputs(row):
    """The book's claim: the same whole numbers, to the bit, on a machine that never saw the run."""
    subject = experiments.Subject(row["model"], torch.device("cpu"))
    net = integer.rebuild(row, subject)
    assert digest(net, subject.test[: row["spot"]["n"]]) == row["spot"]["sha256"]
