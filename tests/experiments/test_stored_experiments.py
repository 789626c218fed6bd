"""What the experiments left in ``book/results``: complete, consistent, its answers come back."""

import json
from pathlib import Path

import pytest
import torch

import snnlib as snn
from book import experiments
from book.experiments import Setting, frame, index, late_answer
from book.experiments.measure import unpack
from snnlib.zoo import checkpoints, models

RESULTS = Path(__file__).resolve().parents[2] / "book" / "results"
STORED = [
    path
    for name in experiments.NAMES
    for path in sorted(RESULTS.glob(f"{name}.json")) + sorted(RESULTS.glob(f"{name}-first-*.json"))
]


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_index_of_results_is_up_to_date():
    assert (RESULTS / index.FILE).read_text(encoding="utf-8") == index.render(RESULTS)


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_stored_experiment_is_complete(path):
    record = load(path)
    experiment = experiments.get(record["experiment"])
    assert record["command"] == frame.command(experiment, record["networks"], record["settings"])
    assert path.name == frame.results_file(experiment.name, record["settings"]["limit"]).name
    assert record["commit"]
    assert record["settings"]["version"] == experiment.version, "computed by another version"
    assert record["seconds"] > 0
    names = [cell.name for network in record["networks"] for cell in experiment.cells(network)]
    assert list(record["cells"]) == names
    for network, digest in record["checkpoints"].items():
        assert digest == checkpoints.index()[network]["sha256"], f"{network} was trained anew"


OVER_TIME = [path for path in STORED if path.stem.startswith("accuracy-over-time")]
RUNS = [(path, run) for path in OVER_TIME for run in load(path)["runs"]]


@pytest.mark.parametrize(
    ("path", "run"), RUNS, ids=[f"{path.stem}: {run['cell']}" for path, run in RUNS]
)
def test_stored_run_is_consistent(path, run):
    steps = run["steps"]
    for key in (
        "accuracy",
        "agreement",
        "loss_interval",
        "synops_per_image",
        "energy_nj_per_image",
    ):
        assert len(run[key]) == steps
    for key in ("events_per_image", "spikes_per_image", "synops_per_image"):
        assert run[key] == sorted(run[key])
    for accuracy, (low, high) in zip(run["accuracy"], run["loss_interval"], strict=True):
        assert low - 1e-3 <= run["ann_accuracy"] - accuracy <= high + 1e-3
    assert Setting.of(run["setting"]).neuron.kind == run["neuron"]
    assert max(run["agreement"]) > 0.5 or run["form"] == "plain"
    quantized_at_once = run.get("quantized_ann", {"accuracy": [None]})["accuracy"][0]
    if run["neuron"] == "augmented" and run["form"] == "best":
        assert quantized_at_once == pytest.approx(run["accuracy"][0], abs=3 / run["n"])


LATE = RESULTS / "late-answer.json"


@pytest.mark.skipif(not LATE.is_file(), reason="snnlib experiment late-answer writes it")
def test_late_answers_are_of_the_stored_baselines():
    """The same settings, so from step 1 the same answers as in accuracy-over-time, and events."""
    best = {
        (run["model"], run["neuron"]): run
        for path, run in RUNS
        if path.stem == "accuracy-over-time" and "headline" in run
    }
    for run in load(LATE)["runs"]:
        other, late = best[run["model"], run["neuron"]], run["late"]
        assert all(1 <= start <= t for t, start in enumerate(late["start"], 1))
        assert len(late["start"]) == len(late["accuracy"]) == len(run["accuracy"]) == run["steps"]
        if not run["label"].endswith("best"):
            continue
        deep = models.dataset_of(run["model"]) == "cifar10"
        assert run["steps"] == late_answer.METHODS[f"{run['neuron']}/best"].steps(deep)
        assert run["n"] == other["n"] or run["neuron"] == "augmented"
        assert run["setting"] == other["setting"], "the baseline has another setting by now"
        margin = 0.01 if run["n"] == other["n"] else 0.06  # other rounding; fewer images
        for found, stored in zip(run["accuracy"], other["accuracy"], strict=False):
            assert found == pytest.approx(stored, abs=margin)
        for found, stored in zip(run["events_per_image"], other["events_per_image"], strict=False):
            assert found == pytest.approx(stored, rel=0.05)


FRONTIER = RESULTS / "frontier.json"


@pytest.mark.skipif(not FRONTIER.is_file(), reason="snnlib experiment frontier writes it")
def test_the_frontier_has_the_stored_baselines_and_both_their_readings():
    best = {
        (run["model"], run["neuron"]): run["setting"]
        for path, run in RUNS
        if path.stem == "accuracy-over-time" and "headline" in run
    }
    rows = [run for run in load(FRONTIER)["runs"] if run["cell"].endswith("-best")]
    for plain, late in zip(rows[::2], rows[1::2], strict=True):
        assert late["label"] == f"{plain['label']}, late answer"
        for run in (plain, late):
            assert run["setting"] == best[run["model"], run["neuron"]], "a setting was chosen anew"
    assert {run["model"] for run in rows} == set(load(FRONTIER)["networks"])


def calibrated_for_long(run):
    """Whether correcting the biases takes minutes: MACs of an image, times steps."""
    return run["ann_macs"] * (run["setting"]["bias_steps"] or 0) > 1e9


HEADLINES = [
    pytest.param(run, id=f"{path.stem}: {run['cell']}", marks=pytest.mark.dataset(run["dataset"]))
    for path, run in RUNS
    if "headline" in run and not calibrated_for_long(run)
]


@pytest.mark.slow
@pytest.mark.parametrize("run", HEADLINES)
def test_stored_answers_come_back(run):
    """The shipped weights and the stored setting give the stored answers, image by image."""
    subject = experiments.Subject(run["model"], torch.device("cpu"))
    step, stored = run["headline"]["step"], unpack(run["headline"]["answers"])
    assert len(stored) == run["headline"]["n"]
    n = subject.affordable(len(stored))  # of the first of them, where a pass takes long
    net = subject.convert(Setting.of(run["setting"]))
    x = snn.data.to_float(subject.test.images[:n])
    again = net(x, steps=step, only_last=True).predictions[-1]
    # Another processor rounds otherwise: a potential within 1e-7 of its threshold may fall over.
    # What was computed in bfloat16 comes back in float32, which every processor has.
    allowed = 1 + (n // 200 if run["dtype"] == "float32" else n // 50)
    assert int((again != stored[:n]).sum()) <= allowed
