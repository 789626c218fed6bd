"""The benchmark of integer mode: all ways take turns, and 8 bits give the numbers of float32."""

import json
from dataclasses import replace

import pytest

from benchmarks import command, integer, tables
from snnlib.deploy import int8
from snnlib.graph.operations import OPERATIONS


def test_the_benchmark_from_end_to_end(monkeypatch, tmp_path):
    monkeypatch.setattr(command, "RESULTS", tmp_path)
    call = ["--networks", "digits-cnn", "--images", "20", "--rounds", "2", "--json"]
    assert integer.main(call) == 0
    record = json.loads((tmp_path / "integer.json").read_text())
    assert record["command"].endswith(" ".join(call))
    assert (record["n"], record["steps"]) == (20, 4)
    (found,) = record["networks"]
    assert 0 < found["in_eight_bits"] < found["convolutions"]
    ways = found["ways"]
    assert list(ways) == ["float32", "bfloat16", integer.WHOLE, integer.PLAIN]
    assert all(0 < way["min"] <= way["median"] <= way["max"] for way in ways.values())
    assert ways[integer.WHOLE]["accuracy"] == ways[integer.PLAIN]["accuracy"] > 0.9
    least = 1000 * ways[integer.WHOLE]["min"] / 20
    assert f"| {least:.2f} |" in tables.integer(tmp_path)


@pytest.mark.skipif(not int8._has_kernels(), reason="8 bits are not used on this processor")
def test_other_numbers_in_eight_bits_are_noticed(monkeypatch):
    entry = OPERATIONS["conv_int8"]

    def wrong(node, x):
        return entry.function(node, x) + int8._has_kernels()

    monkeypatch.setitem(OPERATIONS, "conv_int8", replace(entry, function=wrong))
    with pytest.raises(SystemExit, match="digits-cnn: 8-bit"):
        integer.benchmark("digits-cnn", 4, 1)
