"""The README's results are those of the stored files, and cannot drift."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from bookext import glance

from book.experiments.targets import targets
from book.tools import report, tables
from snnlib.__main__ import main

README = """# Title
<!-- results:mnist-table:begin -->
old
<!-- results:mnist-table:end -->
<!-- results:targets:begin -->
<!-- results:targets:end -->
between
<!-- results:mnist-figure:begin -->
<!-- results:mnist-figure:end -->
after
"""


def stored(label: str, neuron: str, accuracy: list[float], **more) -> dict:
    steps = len(accuracy)
    run = {
        "label": label, "model": "mnist-cnn", "neuron": neuron, "levels": 8, "negative": 0.0,
        "n": 100, "ann_accuracy": 0.99, "accuracy": accuracy, "neurons": 10, "ann_macs": 2_000_000,
        "ann_energy_nj": 100.0, "events_per_image": [5.0 * (t + 1) for t in range(steps)],
        "synops_per_image": [1e6 * (t + 1) for t in range(steps)],
        "energy_nj_per_image": [25.0 * (t + 1) for t in range(steps)], "percentile": 99.9,
        "balance": "percentile", "per_channel": False, "setting": {"bias_steps": None},
        "dtype": "float32", "headline": {}, **more,
    }  # fmt: skip
    return {"runs": [run]}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    (tmp_path / "README.md").write_text(README)
    results = tmp_path / "book" / "results"
    results.mkdir(parents=True)
    slow = stored("IF", "if", [0.2, 0.5, 0.8, 0.988], negative=None)
    fast = stored("AugMapping", "augmented", [0.95, 0.9885, 0.9895, 0.991])
    (results / "mnist-cnn-if.json").write_text(json.dumps(slow))
    (results / "mnist-cnn-augmented.json").write_text(json.dumps(fast))
    rounded = {"steps": [1, 2, 4], "accuracy": [0.95, 0.98, 0.985]}
    slow["runs"][0] |= {"per_channel": True, "setting": {"bias_steps": 48}}
    fast["runs"][0] |= {"quantized_ann": rounded, "dtype": "bfloat16"}
    plain = {key: value for key, value in slow["runs"][0].items() if key != "headline"}
    judged = {"form": "best", "steps": 4, "n": 100, "loss_interval": [[0.01, 0.02]] * 4}
    (target,) = targets([fast["runs"][0] | judged])
    over_time = {"runs": [plain, *slow["runs"], *fast["runs"]], "targets": [target]}
    (results / "accuracy-over-time.json").write_text(json.dumps(over_time))
    return tmp_path


def test_sections_and_figures_are_written_from_the_results(clone):
    written = report.update(clone)
    assert sorted(map(str, written)) == [
        "README.md",
        "book/_static/mnist-accuracy-dark.svg",
        "book/_static/mnist-accuracy-light.svg",
    ]
    text = (clone / "README.md").read_text()
    assert text.startswith("# Title\n")
    assert text.endswith("after\n")
    assert "\nbetween\n" in text
    assert "\nold\n" not in text
    assert "ANN 99.00 % on 100 images" in text
    slow = (
        "| IF, 99.9 % a channel, biases for 48 | 20.00 | 50.00 | 98.80 |  |  |  | – | – | – | – |"
    )
    assert text.count("| IF") == text.count(slow) == 1
    augmented = "| AugMapping, 8 levels, negative 0, 99.9 %, bfloat16 | 95.00 | 98.85 | 99.10 |"
    assert f"{augmented}  |  |  | step 3 | 1.50 | 3.0 M | 0.75 |" in text
    assert "| ANN rounded to as many levels | 95.00 | 98.00 | 98.50 |" in text
    asked = "≤ 0.05 points in 2 steps, ≤ 0.6 events/neuron"
    assert f"| mnist-cnn | AugMapping (n = 100) | {asked} | step 1 | +4.00 " in text
    assert "(+1.00 … +2.00) | 0.50 | +0.15 | **missed** |" in text
    for mode in ("light", "dark"):
        name = f"book/_static/mnist-accuracy-{mode}.svg"
        assert name in text
        assert ElementTree.parse(clone / name).getroot().tag.endswith("svg")
    assert report.update(clone) == []


def test_check_finds_every_kind_of_drift_and_writes_nothing(clone):
    report.update(clone)
    assert report.update(clone, check=True) == []
    readme, results = clone / "README.md", clone / "book" / "results"
    figure = clone / "book" / "_static" / "mnist-accuracy-dark.svg"
    good = readme.read_text()
    readme.write_text(good.replace("98.80", "99.80"))
    assert good != readme.read_text()
    assert report.update(clone, check=True) == [Path("README.md")]
    assert "99.80" in readme.read_text()
    readme.write_text(good)
    figure.unlink()
    assert [path.name for path in report.update(clone, check=True)] == [figure.name]
    report.update(clone)
    result = results / "accuracy-over-time.json"
    result.write_text(result.read_text().replace("0.988", "0.989"))
    assert len(report.update(clone, check=True)) == 3


def test_baselines_have_their_late_answer_beside_them(clone):
    """On fewer images too, which the row says; no other methods, and no row that says the same."""
    reading = {"start": [1, 1, 2, 3], "accuracy": [0.2, 0.6, 0.99, 0.991]}
    rows = [
        {"label": label, "neuron": neuron, "model": "mnist-cnn", "n": n, "late": reading,
         "ann_accuracy": 0.985, "accuracy": [0.2, 0.4, 0.7, 0.8], "dtype": "float32"}
        for label, neuron, n in (
            ("IF, best", "if", 50), ("IF, v0 0", "if", 50), ("AugMapping, best", "augmented", 100),
        )
    ]  # fmt: skip
    path = clone / tables.LATE
    path.write_text(json.dumps({"runs": rows}))
    report.update(clone)
    text = (clone / "README.md").read_text()
    late = (
        "| … first 50 images (ANN 98.50 %) | 20.00 | 40.00 | 80.00 |  |  |  | – | – | – | – | – |\n"
        "| … their late answer | 20.00 | 60.00 | 99.10 |  |  |  | step 3 | 1.50 |"
    )
    before, _, after = text.partition(late)
    assert after
    assert before.rstrip().splitlines()[-1].startswith("| IF, 99.9 %")
    assert "late answer" not in after.partition("<!--")[0]
    stored = path.read_text()
    path.write_text(stored.replace('"n": 50', '"n": 100'))
    assert report.update(clone, check=True) == [Path("README.md")]
    report.update(clone)
    assert "| … late answer | 20.00 |" in (clone / "README.md").read_text()
    path.write_text(stored.replace('"n": 50', '"n": 100').replace("float32", "bfloat16"))
    report.update(clone)
    assert "| … late answer, bfloat16 | 20.00 |" in (clone / "README.md").read_text()
    path.write_text(stored.replace('"start": [1, 1, 2, 3]', '"start": [1, 1, 2, 1]'))
    report.update(clone)
    assert "| … late answer" not in (clone / "README.md").read_text()


@pytest.mark.parametrize(("ann", "close"), [(0.992, True), (0.995, False)])
def test_a_row_is_close_to_the_ann_of_its_own_images(clone, ann, close):
    """99.10 % of fifty images are within a tenth of a point of one ANN, and not of another."""
    reading = {"start": [1, 1, 2, 3], "accuracy": [0.2, 0.6, 0.99, 0.991]}
    row = {"label": "IF, best", "neuron": "if", "model": "mnist-cnn", "n": 50, "late": reading,
           "ann_accuracy": ann, "accuracy": [0.2, 0.4, 0.7, 0.8], "dtype": "float32"}  # fmt: skip
    (clone / tables.LATE).write_text(json.dumps({"runs": [row]}))
    (runs,) = tables.best(clone, ["mnist-cnn"]).values()
    late = [line for line in tables.lines(runs) if line.name.startswith("…")]
    assert [line.ann for line in late] == [ann, ann]
    shown = glance.table(clone).partition("their late answer")[2].partition("</tr>")[0]
    assert ("<td class=snn-close>99.10</td>" in shown) == close


def test_evaluations_read_late_are_no_baseline(clone):
    (clone / "book" / "results" / "accuracy-over-time.json").unlink()
    path = clone / "book" / "results" / "mnist-cnn-if.json"
    record = json.loads(path.read_text())
    record["runs"][0] |= {"answer_from": 3, "accuracy": [None, None, 0.8, 0.9]}
    path.write_text(json.dumps(record))
    (runs,) = tables.best(clone, ["mnist-cnn"]).values()
    assert [run["neuron"] for run in runs] == ["augmented"]


def test_evaluations_stand_in_for_networks_that_the_experiment_lacks(clone):
    (clone / "book" / "results" / "accuracy-over-time.json").unlink()
    report.update(clone)
    text = (clone / "README.md").read_text()
    assert "| IF, 99.9 % | 20.00 | 50.00 | 98.80 |" in text
    assert text.count(tables.ABSENT) == 1  # the targets


def test_settled_means_from_there_on():
    run = {"ann_accuracy": 0.99}
    assert tables.settled({**run, "accuracy": [0.5, 0.99, 0.98, 0.989, 0.9895]}) == 4
    assert tables.settled({**run, "accuracy": [0.99, 0.98]}) is None
    assert tables.settled({**run, "accuracy": [0.995]}) == 1


def test_nothing_measured_is_said(clone):
    for path in (clone / "book" / "results").iterdir():
        path.unlink()
    report.update(clone)
    assert (clone / "README.md").read_text().count(tables.ABSENT) == 2


def test_outside_a_clone_the_message_says_so(tmp_path):
    with pytest.raises(ValueError, match="in a clone"):
        report.update(tmp_path)


def test_unknown_section_is_named(clone):
    (clone / "README.md").write_text(README.replace("mnist-table", "moon-table"))
    with pytest.raises(ValueError, match="results:moon-table"):
        report.update(clone)


def test_readme_of_this_repository_is_up_to_date(capsys):
    assert main(["report", "--check"]) == 0, capsys.readouterr().out


def test_command_fails_on_drift(clone, monkeypatch, capsys):
    monkeypatch.setattr(report, "ROOT", clone)
    assert main(["report", "--check"]) == 1
    assert "README.md" in capsys.readouterr().out
    assert main(["report"]) == 0
    assert main(["report", "--check"]) == 0


def test_an_evaluation_of_the_last_step_alone_is_no_row_over_steps(clone):
    """Its one accuracy would stand under the first step, and it has no costs."""
    results = clone / "book" / "results"
    (results / "accuracy-over-time.json").unlink()
    costs = ("events_per_image", "synops_per_image", "energy_nj_per_image")
    last = stored("TerMapping", "ternary", [0.99], steps=32, **dict.fromkeys(costs))
    (results / "mnist-cnn-ternary.json").write_text(json.dumps(last))
    (runs,) = tables.best(clone, ["mnist-cnn"]).values()
    assert [run["neuron"] for run in runs] == ["if", "augmented"]
    report.update(clone)
    assert "TerMapping" not in (clone / "README.md").read_text()
