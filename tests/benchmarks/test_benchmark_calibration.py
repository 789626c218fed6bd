"""The benchmark of the conversion: every balance is timed, on its images, and written down."""

import json

import pytest

from benchmarks import calibration, command


def test_the_benchmark_from_end_to_end(monkeypatch, tmp_path):
    monkeypatch.setattr(command, "RESULTS", tmp_path)
    monkeypatch.setattr(calibration, "BATCHES", (2,))
    call = ["--networks", "six", "--images", "4", "--rounds", "1", "--json"]
    assert calibration.main(call) == 0
    record = json.loads((tmp_path / "calibration.json").read_text())
    assert record["command"].endswith(" ".join(call))
    (six,) = record["networks"]
    assert {(row["balance"], row["per_channel"]) for row in six["rows"]} == {
        (label, per_channel) for label in calibration.BALANCES for per_channel in (False, True)
    }
    for row in six["rows"]:
        assert row["ann_passes"] == pytest.approx(row["seconds"] / six["ann_seconds"])
