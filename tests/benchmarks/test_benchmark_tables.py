"""The tables of the benchmarks' README are those of the stored results."""

import json

import pytest

from benchmarks import tables


def test_readme_of_the_benchmarks_is_up_to_date():
    assert tables.main(["--check"]) == 0


def test_tables_follow_the_results(tmp_path):
    for path in tables.RESULTS.glob("*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        for row in record.get("rows", []):
            for found in row["times"].values():
                found["ann_passes"] = 77.77
        (tmp_path / path.name).write_text(json.dumps(record))
    text = tables.README.read_text(encoding="utf-8")
    again = tables.render(text, tmp_path)
    assert "| 77.77 |" in again
    assert tables.render(again) == text


def test_a_missing_section_is_named():
    with pytest.raises(ValueError, match="'calibration'"):
        tables.render(tables.README.read_text(encoding="utf-8").replace("calibration:", "x:"))
