"""The scoreboard of the README, of the chapter and of the results say the same."""

import json
import re

import pytest
from book_rules import ROOT, outputs, read

from book.tools import scoreboard
from snnlib.zoo.evaluate import LABELS

CHAPTER = ROOT / "book" / "13_scoreboard.ipynb"
CAPTION = "First step from which on"


def run(neuron, accuracy):
    """A stored run: a step sends 5 events over 10 neurons and costs 25 of the ANN's 100 nJ."""
    steps = range(1, len(accuracy) + 1)
    return {
        "model": "mnist-cnn",
        "neuron": neuron,
        "ann_accuracy": 0.99,
        "accuracy": accuracy,
        "neurons": 10,
        "ann_energy_nj": 100.0,
        "events_per_image": [5.0 * t for t in steps],
        "synops_per_image": [1e4 * t for t in steps],
        "energy_nj_per_image": [25.0 * t for t in steps],
        "headline": {},
    }


def rows(text):
    """Cells of a table's rows, without the head."""
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines()[2:]]


def test_a_row_counts_from_the_step_after_the_last_large_loss(tmp_path):
    runs = [run("if", [0.2, 0.5, 0.8, 0.988]), run("augmented", [0.95, 0.9885, 0.9895, 0.991])]
    results = tmp_path / "book" / "results"
    results.mkdir(parents=True)
    (results / "accuracy-over-time.json").write_text(json.dumps({"runs": runs}))
    slow, fast = rows(scoreboard.table(tmp_path))
    assert slow[2:5] == ["IF", "4", "–"]  # loses 0.2 points in the last step
    assert fast[2:5] == ["AugMapping", "2", "3"]
    # 20,000 SynOps of 0.9 pJ are 18 nJ, 0.18 of the ANN's energy.
    assert fast[5:] == ["1.00", "0.0 M", "0.50", "0.18"]


def test_a_late_answer_has_its_row_where_it_arrives_at_another_step(tmp_path):
    results = tmp_path / "book" / "results"
    results.mkdir(parents=True)
    plain = {**run("if", [0.2, 0.5, 0.8, 0.988]), "setting": {}, "n": 100}
    (results / "accuracy-over-time.json").write_text(json.dumps({"runs": [plain]}))

    def with_late(accuracy, n=100):
        late = {"model": "mnist-cnn", "neuron": "if", "label": "IF, best", "n": n,
                "ann_accuracy": 0.99, "late": {"accuracy": accuracy}}  # fmt: skip
        (results / "late-answer.json").write_text(json.dumps({"runs": [late]}))
        return rows(scoreboard.table(tmp_path))

    first, second = with_late([0.2, 0.5, 0.989, 0.991])
    assert first[2:5] == ["IF", "4", "–"]
    assert second[2:5] == ["IF, late answer", "3", "3"]
    assert second[5:] == ["1.50", "0.0 M", "0.75", "0.27"]  # of the whole run so far
    _, never = with_late([0.2, 0.5, 0.8, 0.9])
    assert never[2:] == ["IF, late answer", *["–"] * 6]
    assert len(with_late([0.2, 0.5, 0.8, 0.988])) == 1  # no row that says the same
    assert len(with_late([0.2, 0.5, 0.989, 0.991], n=50)) == 1  # of other images


def test_what_never_arrives_has_no_costs(tmp_path):
    results = tmp_path / "book" / "results"
    results.mkdir(parents=True)
    content = {"runs": [run("if", [0.2, 0.5])]}
    (results / "accuracy-over-time.json").write_text(json.dumps(content))
    assert rows(scoreboard.table(tmp_path))[0][3:] == ["–"] * 6


def test_without_results_it_says_so(tmp_path):
    assert scoreboard.table(tmp_path) == "Not measured yet."


def coded(label, **more):
    """A stored run of a code: 6 events over 12 neurons, 92 of the ANN's 920 nJ."""
    return {
        "model": "mnist-cnn", "label": label, "code": "radix", "slots": None, "n": 1000,
        "ann_accuracy": 0.99, "accuracy": [0.988], "loss_interval": [[-0.001, 0.005]],
        "ann_macs": 200_000, "neurons": 12, "events_per_image": [6.0], "latency_steps": 15,
        "bits_per_neuron": [2.5], "synops_per_image": [2e6], "energy_nj_per_image": [92.0],
        "literature_energy_nj_per_image": [46.0], **more,
    }  # fmt: skip


def test_a_code_is_shown_with_all_its_costs(tmp_path):
    assert scoreboard.codes(tmp_path) == "Not measured yet."
    results = tmp_path / "book" / "results"
    results.mkdir(parents=True)
    digits, left_out = coded("radix, 5 bits, base 2"), coded("radix, 1 bits, base 2")
    exact = coded("first spike, analog times", code="first-spike", bits_per_neuron=None)
    content = {"runs": [left_out, digits, exact]}
    (results / "codes.json").write_text(json.dumps(content))
    first, second = rows(scoreboard.codes(tmp_path))
    costs = ["15 steps", "0.50", "2.50", "2.0 M", "0.10", "0.05"]
    loss = "+0.20 (−0.10 … +0.50)"
    assert first == ["mnist-cnn", digits["label"], "1,000", loss, *costs]
    assert second[4:7] == ["15 windows", "0.50", "–"]  # an analog time has no number of bits


def test_sparse_choices_are_means_over_seeds(tmp_path):
    assert scoreboard.sparse(tmp_path) == "Not measured yet."

    def row(label, accuracy, events, way="trained"):
        return {
            "model": "mnist-cnn", "way": way, "label": label, "accuracy": accuracy,
            "dense_accuracy": 0.996, "loss_interval": [-0.001, 0.003], "synops_share": 0.3,
            "events_per_neuron": events, "bits_per_neuron": 0.4, "ann_energy_nj": 100.0,
            "energy_nj_per_image": 10.0, "literature_energy_nj_per_image": 5.0,
        }  # fmt: skip

    results = tmp_path / "book" / "results"
    results.mkdir(parents=True)
    runs = [row("biases", 0.995, 0.3, "free"), row("count", 0.995, 0.04), row("count", 0.997, 0.06)]
    (results / "sparsity.json").write_text(json.dumps({"runs": runs}))
    free, trained = rows(scoreboard.sparse(tmp_path))
    costs = ["0.40", "0.30", "0.100", "0.050"]
    assert free == ["mnist-cnn", "free", "biases", "+0.10 (−0.10 … +0.30)", "0.300", *costs]
    assert trained == ["mnist-cnn", "trained", "count", "0.00 ± 0.14", "0.050", *costs]


@pytest.mark.skipif(not CHAPTER.is_file(), reason="the chapter is not here")
def test_chapter_and_readme_have_the_same_steps():
    texts = [text for cell in read(CHAPTER).code for text in outputs(cell, "text/plain")]
    (table,) = (text for text in texts if text.startswith(CAPTION))
    shown = {}
    for line in table.splitlines()[2:]:
        network, _, *pairs = re.split(r"  +", line.strip())
        for method, pair in zip(LABELS.values(), pairs, strict=True):
            shown[network, method] = pair.split(" / ")
    for network, _, method, near, close, *_ in rows(scoreboard.table(ROOT)):
        if not method.endswith("late answer"):
            assert shown[network, method] == [near, close]
