"""torchvision's networks convert as they come: random weights, random batch-norm statistics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snnlib as snn
from book.tools.support import randomize, torchvision_table
from snnlib.__main__ import main
from snnlib.zoo.vision import torchvision


@pytest.fixture(scope="module")
def vision() -> Any:
    try:
        return torchvision()
    except ImportError as error:
        pytest.skip(f"needs torchvision: {error}")


MODELS = {
    "resnet18": (17, 32),
    "vgg11_bn": (10, 32),
    "mobilenet_v2": (35, 32),
    "googlenet": (57, 48),
    "densenet121": (121, 32),
}


@pytest.mark.parametrize("name", MODELS)
def test_model_converts_and_verifies(name: str, vision: Any) -> None:
    spiking, size = MODELS[name]
    torch.manual_seed(0)
    options: dict[str, Any] = {"weights": None, "num_classes": 10}
    if name in ("googlenet", "vgg11_bn"):
        options["init_weights"] = False
    model = vision.models.get_model(name, **options)
    if name == "vgg11_bn":  # its three dense layers hold 120 million random numbers otherwise
        model.classifier[0] = nn.Linear(512 * 49, 64)
        model.classifier[3] = nn.Linear(64, 64)
        model.classifier[6] = nn.Linear(64, 10)
    model = randomize(model).eval()
    images = torch.rand(2, 3, size, size)
    neuron = snn.Augmented(levels=16, negative=0.0)
    net = snn.convert(model, images, neuron=neuron, balance=snn.Max())
    assert len(net.graph.spiking) == spiking
    report = net.verify(images[:1], steps=2)
    assert report.graph_error is not None
    assert report.graph_error < 1e-5
    assert report.layers[0].error[1] < report.layers[0].error[0] < 0.1
    assert torch.allclose(net.ann(images), model(images), atol=1e-4)


def test_normalization_in_front(vision: Any) -> None:
    """torchvision's own Normalize as a module: images stay in [0, 1], so Bernoulli coding works."""
    torch.manual_seed(0)
    normalize = vision.transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    model = nn.Sequential(
        normalize, nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip
    model = randomize(model).double().eval()
    images = torch.rand(6, 3, 10, 10, dtype=torch.float64)
    net = snn.convert(model, images, neuron=snn.Augmented(levels=50, negative=0.0))
    assert torch.allclose(net.ann(images), model(images), atol=1e-12)
    assert torch.allclose(net(images, 40, only_last=True).logits[-1], model(images), atol=1e-2)
    mean = sum(
        net(images, 400, coding=snn.Bernoulli(seed), only_last=True).logits[-1] for seed in range(4)
    )
    assert torch.allclose(mean / 4, model(images), atol=0.1)


def test_table_says_what_converts_and_why_not(vision: Any) -> None:
    rows = {row.name: row for row in torchvision_table(["resnet18", "mobilenet_v3_small"], 64)}
    resnet, mobile = rows["resnet18"], rows["mobilenet_v3_small"]
    assert (resnet.converts, resnet.spiking_layers, resnet.reason) == (True, 17, "")
    assert resnet.graph_error is not None
    assert resnet.graph_error < 1e-5
    assert not mobile.converts
    assert mobile.problems > 10
    assert mobile.reason == (
        "features.0.2 (nn.Hardswish): a spike count is a ReLU: train with nn.ReLU in its place"
    )


def test_stochastic_depth_is_dropped(vision: Any) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 2)
            self.drop = vision.ops.StochasticDepth(0.5, "row")

        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x).relu()
            dropped: Tensor = vision.ops.stochastic_depth(h, 0.5, "row", self.training)
            return self.b(self.drop(h) + dropped)

    images = torch.rand(4, 6)
    model = Net().eval()
    assert torch.allclose(snn.convert(model, images).ann(images), model(images), atol=1e-6)


def test_command_writes_the_table(
    vision: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["squeezenet1_1", "mnasnet0_5"]
    monkeypatch.setattr(vision.models, "list_models", lambda module: names)
    path = tmp_path / "torchvision.json"
    assert main(["support", "--torchvision", "--output", str(path)]) == 0
    record = json.loads(path.read_text(encoding="utf-8"))
    assert [row["name"] for row in record["models"]] == names
    assert all(row["converts"] for row in record["models"])
    assert {"command", "commit", "seed", "hardware", "versions", "n"} <= record.keys()
    assert "squeezenet1_1  converts, 26 spiking layers" in capsys.readouterr().out
    assert main(["support"]) == 0
    text = capsys.readouterr().out
    assert "NO: a spike count is a ReLU: train with nn.ReLU in its place" in text
    assert "weights and a bias current" in text
