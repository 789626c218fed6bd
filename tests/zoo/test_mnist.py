"""What the MNIST networks promise: from the stored results in full, and measured anew on a part."""

import json
from pathlib import Path

import pytest
import torch

import snnlib as snn
from snnlib.zoo.evaluate import calibration_images, evaluate

RESULTS = Path(__file__).resolve().parents[2] / "book" / "results"
IMAGES = 2000


def stored(name: str) -> dict:
    record = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    (run,) = record["runs"]
    assert run["n"] == record["n"] == 10_000
    assert record["command"].startswith(f"snnlib evaluate {run['model']} --neuron {run['neuron']}")
    assert record["commit"]
    return run


@pytest.mark.parametrize(("model", "least"), [("mnist-cnn", 0.995), ("mnist-mlp", 0.986)])
def test_stored_results_keep_the_promise(model, least):
    """On all test images; 0.05 points, 99.9 % same answers, 0.1 points for IF at 64 steps."""
    augmented, plain = stored(f"{model}-augmented"), stored(f"{model}-if")
    ann = augmented["ann_accuracy"]
    assert (augmented["levels"], augmented["negative"]) == (8, 0.0)
    assert ann == plain["ann_accuracy"] >= least
    assert abs(augmented["accuracy"][3] - ann) <= 0.0005 + 1e-9
    assert augmented["agreement"][3] >= 0.999
    assert (plain["balance"], plain["percentile"], plain["v0"]) == ("percentile", 99.9, 0.5)
    if model == "mnist-cnn":  # the two hidden layers of the MLP are too easy to tell them apart
        assert plain["accuracy"][3] < augmented["accuracy"][3] - 0.01
    assert ann - plain["accuracy"][63] <= 0.001 + 1e-9


@pytest.mark.parametrize("model", ["mnist-cnn", "mnist-mlp"])
@pytest.mark.parametrize("method", ["if", "ternary", "augmented"])
def test_stored_costs_grow_with_the_steps(model, method):
    run = stored(f"{model}-{method}")
    for key in ("events_per_image", "spikes_per_image", "synops_per_image"):
        assert run[key] == sorted(run[key])
        assert len(run[key]) == run["steps"]
    assert run["steps"] >= (16 if method == "augmented" else 64)


@pytest.fixture(scope="module")
def mnist():
    train, test = snn.data.load("mnist", download=False)
    return calibration_images(train), test


def converted(mnist, model: str, neuron, images: int, steps: int):
    """What the network and its ANN answer to the first test images, after so many steps."""
    calibration, test = mnist
    ann = snn.models.load(model)
    net = snn.convert(ann, calibration, neuron)
    return evaluate(net, ann, test[:images], steps, only_last=True)


@pytest.mark.slow
@pytest.mark.dataset("mnist")
@pytest.mark.parametrize("model", ["mnist-cnn", "mnist-mlp"])
def test_augmented_answers_as_the_ann_after_four_steps(mnist, model):
    found = converted(mnist, model, snn.Augmented(levels=8, negative=0.0), IMAGES, 4)
    run = stored(f"{model}-augmented")
    assert found.agreement[0] >= 0.999
    assert abs(found.accuracy[0] - found.ann_accuracy) <= 0.001
    assert abs(found.ann_accuracy - run["ann_accuracy"]) < 0.01


@pytest.mark.slow
@pytest.mark.dataset("mnist")
def test_if_is_clearly_worse_at_four_steps(mnist):
    found = converted(mnist, "mnist-cnn", snn.IF(), 500, 4)
    assert found.accuracy[0] < found.ann_accuracy - 0.01


@pytest.mark.slow
@pytest.mark.dataset("mnist")
def test_mlp_if_reaches_its_ann_at_64_steps(mnist):
    found = converted(mnist, "mnist-mlp", snn.IF(), 1000, 64)
    assert found.ann_accuracy - found.accuracy[0] <= 0.002


@pytest.mark.dataset("mnist")
def test_thresholds_come_from_training_images_alone(mnist):
    """None of the calibration images is a validation or a test image."""
    calibration, test = mnist
    train, _ = snn.data.load("mnist", download=False)
    _, validation = snn.data.validation_split(train)
    used = {image.numpy().tobytes() for image in (calibration * 255).round().to(torch.uint8)}
    assert len(calibration) == 1000
    for split in (validation, test):
        assert used.isdisjoint(image.numpy().tobytes() for image in split.images)
