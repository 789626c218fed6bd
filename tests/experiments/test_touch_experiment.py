"""``touch``: clips hold what they were made of, and the threshold is chosen on validation."""

import json
import pickle

import pytest
import torch

from book import experiments
from book.experiments import frame, touch
from snnlib.learning.touch import delta_code, lasting
from snnlib.zoo import braille
from snnlib.zoo.sequences import Sequences


def sequences(n=5, steps=30):
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, steps + 1, (n,), generator=generator)
    x = torch.randn(n, steps, 4, generator=generator).cumsum(1)
    return Sequences(x, torch.arange(n) % 2, ("a", "b"), lengths)


def test_clips_hold_the_events_to_the_last_bit():
    part = sequences()
    events = delta_code(part.values, 0.7)
    found, inside = lasting(touch.as_split(events, part).floats())
    assert inside.sum(1).tolist() == part.lengths.tolist()
    longest = int(part.lengths.max())
    assert torch.equal(found, events[:, :longest] * inside[..., None])


def test_clips_hold_signals_in_eight_bits():
    part = sequences()
    low, high = touch.span(part)
    scaled = ((part.values - low) / (high - low)).clamp(0, 1)
    found, inside = lasting(touch.as_split(scaled, part).floats())
    error = (found - scaled[:, : found.shape[1]])[inside].abs()
    assert float(error.max()) <= 0.5 / 255 + 1e-6
    assert (float(found[inside].min()), float(found[inside].max())) == (0, 1)


@pytest.mark.dataset("spoken_digits")
def test_it_runs_at_the_threshold_that_the_sweep_chose(tmp_path, monkeypatch):
    monkeypatch.setattr(touch, "SEEDS", 1)
    path = frame.run(experiments.get("touch"), limit=10, folder=tmp_path, progress=False)
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["command"] == "snnlib experiment touch --limit 10"
    assert {run["theta"] for run in record["runs"]} == {touch.chosen(record["sweep"])}
    by_method = {run["method"]: run for run in record["runs"]}
    assert list(by_method) == list(touch.METHODS)
    for run in record["runs"]:
        assert run["operations"] == pytest.approx(run["additions"] + run["macs"], rel=1e-5)
        assert (run["decays"] is None) == run["method"].startswith("lstm")
    assert by_method["fixed"]["decays"] == pytest.approx([0.8, 0.9])
    assert by_method["lstm"]["events"] == by_method["lstm"]["additions"] == 0
    assert by_method["rsnn"]["events"] == by_method["lstm-events"]["events"] > 0
    assert len(record["goals"]) == 3


def test_fewer_events_are_chosen_where_they_cost_a_point_at_most():
    def swept(*accuracies):
        return [
            {"theta": theta, "validation_accuracy": accuracy}
            for theta, accuracy in zip((0.5, 1.0, 2.0), accuracies, strict=True)
        ]

    assert touch.chosen(swept(0.96, 0.97, 0.955)) == 1.0
    assert touch.chosen(swept(0.96, 0.965, 0.958)) == 2.0
    assert touch.chosen(swept(0.97, 0.94, 0.93)) == 0.5


def test_the_published_recordings_are_read_where_they_lie(tmp_path, monkeypatch):
    """A tiny archive in the true format, in the place where the experiment looks."""
    rows = [
        {"letter": braille.CLASSES[i % 27], "events": [[[0.01 * t], [0.3]] for t in range(12)]}
        for i in range(27 * 10)
    ]
    (tmp_path / "braille").mkdir()
    (tmp_path / "braille" / braille.ARCHIVE).write_bytes(pickle.dumps(rows))
    monkeypatch.setenv("SNNLIB_DATA", str(tmp_path))
    touch.touched.cache_clear()
    material = touch.recordings("braille", 1.0, None)
    touch.touched.cache_clear()
    assert [len(part) for part in (material.fit, material.validation, material.test)] == [
        189,
        27,
        54,
    ]
    assert material.fit.images.shape[3] == 25
    net = touch.made("rsnn", material, seed=0)
    assert net(material.test.floats()[:2]).shape == (2, 27)
    assert "lstm" not in {cell.name.split("/")[1] for cell in touch.cells("braille")}


def test_goals_compare_means():
    def row(method, accuracy, operations):
        return {"model": "spoken-events", "method": method, "test_accuracy": accuracy,
                "operations": operations}  # fmt: skip

    rows = [row("lstm", 0.96, 4e6), row("lstm", 0.98, 4e6), row("rsnn", 0.94, 1e5)]
    found = touch.conclude({"runs": rows})["goals"]
    assert [one["found"] for one in found] == pytest.approx([0.97, 3.0, 40.0])
    assert all(one["reached"] for one in found)
    assert not any(one["reached"] for one in touch.conclude({"runs": []})["goals"])
