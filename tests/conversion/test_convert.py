"""`convert` as a whole: thresholds in place, normalized form, early exit, bias calibration."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnlib as snn


class Net(nn.Module):
    """Every place where thresholds of different layers meet."""

    def __init__(self, act: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.c, self.up = nn.Conv2d(8, 6, 3), nn.ConvTranspose2d(6, 4, 2, groups=2)
        self.norm, self.fc, self.out = nn.BatchNorm2d(6), nn.Linear(36, 9), nn.Linear(9, 3)
        self.acts = nn.ModuleList(act() for _ in range(5))

    def forward(self, x: Tensor) -> Tensor:
        one = self.acts[0](self.a(x))
        two = self.acts[1](self.b(one) + one)
        joined = torch.cat([F.max_pool2d(two, 2, 1), F.avg_pool2d(one, 2, 1)], 1)
        three = self.norm(self.acts[2](self.c(joined)))
        four = self.acts[3](self.up(three))
        rest = torch.cat([four[:, :2] - 0.5 * four[:, 2:], F.pad(three, (1, 0, 1, 0))], 1)
        five = self.acts[4](self.fc(F.adaptive_avg_pool2d(rest, 3).flatten(1)[:, :36]))
        return self.out(five)


def build(
    neuron: Any, per_channel: bool = False, act: type[nn.Module] = nn.ReLU
) -> tuple[Any, Tensor]:
    torch.manual_seed(0)
    model = Net(act).double().eval()
    model.norm.running_mean.uniform_(-0.2, 0.2)
    x = torch.rand(10, 2, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        for layer in (model.a, model.b, model.c, model.up, model.fc):
            layer.weight *= 2.0
    balance = snn.Percentile(97)
    return snn.convert(model, x, neuron=neuron, per_channel=per_channel, balance=balance), x


NEURONS = [
    snn.IF(), snn.IF(reset="zero"), snn.Ternary(), snn.Augmented(levels=3),
    snn.Augmented(levels=4, negative=0.0, cap=3),
]  # fmt: skip


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("per_channel", [False, True])
def test_normalized_network_counts_the_same(neuron: Any, per_channel: bool) -> None:
    net, x = build(neuron, per_channel)
    unit = net.normalized()
    assert all(bool((theta == 1).all()) for theta in unit.thresholds.values())
    first, second = net(x, steps=12), unit(x, steps=12)
    assert torch.equal(first.events, second.events)
    assert torch.equal(first.spikes, second.spikes)
    assert [layer.spikes for layer in first.layers] == [layer.spikes for layer in second.layers]
    assert min(layer.spikes for layer in first.layers) > 0
    assert torch.allclose(first.logits, second.logits, atol=1e-9)
    assert torch.allclose(net.ann(x), unit.ann(x), atol=1e-12)
    assert torch.equal(first.synops().total, second.synops().total)
    assert unit.verify(x, steps=2).graph_error < 1e-12


def test_normalized_bounds_are_rescaled() -> None:
    net, x = build(snn.Augmented(levels=2), act=lambda: nn.Hardtanh(0.0, 0.4))  # type: ignore[arg-type]
    unit = net.normalized()
    name = net.graph.spiking[0]
    bound = unit.graph.nodes[name].attrs["bound"]
    assert bound == pytest.approx(0.4 / float(net.thresholds[name]))
    assert torch.equal(net(x, steps=9).spikes, unit(x, steps=9).spikes)


def test_normalizing_bounds_per_channel_is_refused() -> None:
    net, _ = build(snn.Augmented(), True, act=lambda: nn.ReLU6())  # type: ignore[arg-type]
    with pytest.raises(snn.ConversionError, match=r"acts\.0 is bounded at 6\.0.*per_channel=False"):
        net.normalized()


@pytest.mark.parametrize("confidence", [0.36, 0.4, 0.5, 1.0])
@pytest.mark.parametrize("neuron", [snn.IF(), snn.Augmented(levels=2, negative=0.0)])
@pytest.mark.parametrize("batch", [None, 3])
def test_decide_is_first_confident(neuron: Any, confidence: float, batch: int | None) -> None:
    net, x = build(neuron)
    expected = net(x, steps=10).first_confident(confidence)
    found = net.decide(x, confidence, max_steps=10, batch=batch)
    assert torch.equal(found.step, expected.step)
    assert torch.equal(found.prediction, expected.prediction)


def test_decide_simulates_undecided_images_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The images that enter the second layer add up to the steps of the answers."""
    from snnlib import graph

    before, x = build(snn.Augmented(levels=2, negative=0.0))
    logits = before(x, steps=20).logits.softmax(-1).amax(-1)
    confidence = float(logits[3].median())
    seen: list[int] = []
    original = graph.OPERATIONS["linear"].function

    def counting(node: Any, value: Tensor) -> Tensor:
        if node.name == "out":
            seen.append(len(value))
        return original(node, value)

    monkeypatch.setitem(graph.OPERATIONS, "linear", graph.Operation("weighted", counting))
    net, _ = build(snn.Augmented(levels=2, negative=0.0))
    seen.clear()
    found = net.decide(x, confidence, max_steps=20)
    assert sum(seen) == int(found.step.sum())
    assert sum(seen) < 0.9 * 20 * len(x)
    assert found.step.unique().numel() > 1


@pytest.mark.parametrize("width", [80, 100])
def test_summary_fits_its_width_and_names_every_layer(width: int) -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a_rather_long_name_for_one_block = nn.ModuleDict({"and_its_only_layer": Net()})

        def forward(self, x: Tensor) -> Tensor:
            return self.a_rather_long_name_for_one_block["and_its_only_layer"](x)

    net = snn.convert(Deep().eval(), torch.rand(3, 2, 8, 8), per_channel=True)
    lines = net.summary(width).splitlines()
    assert max(map(len, lines)) <= width
    body = lines[2 : lines.index(lines[1], 2)]
    shown = [node for node in net.graph if node.kind != "pass" or node.op == "input"]
    assert len(body) == len(shown)
    assert "Augmented(levels=4" in lines[len(body) + 3]


def test_double_and_to_keep_the_network_whole() -> None:
    net, x = build(snn.Ternary())
    narrow = snn.convert(net.reference.float(), x.float(), neuron=snn.Ternary())
    before = narrow(x.float(), steps=4).logits
    narrow = narrow.double()
    assert narrow.dtype == torch.float64
    assert all(value.dtype == torch.float64 for value in narrow.balanced.values())
    assert torch.allclose(narrow(x, steps=4).logits.float(), before, atol=1e-4)
    assert narrow.to("cpu").device == torch.device("cpu")


def test_network_without_weights_still_knows_its_device() -> None:
    model = nn.Sequential(nn.AvgPool2d(2), nn.ReLU(), nn.Flatten()).eval()
    x = torch.rand(5, 1, 4, 4)
    net = snn.convert(model, x, neuron=snn.Augmented(levels=64, negative=0.0))
    assert net.device == torch.device("cpu")
    assert torch.allclose(net(x, steps=64, only_last=True).logits[-1], model(x), atol=1e-3)


@pytest.fixture(scope="module")
def digits() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    train, test = snn.data.load("digits")
    x, y = snn.data.to_float(test.images), test.labels
    return snn.models.load("digits-cnn"), snn.data.to_float(train.images[:300]), x, y


@pytest.mark.parametrize(("neuron", "gain"), [(snn.IF(), 0.05), (snn.Ternary(), 0.02)])
def test_bias_calibration_buys_accuracy_at_few_steps(
    neuron: Any, gain: float, digits: tuple[nn.Module, Tensor, Tensor, Tensor]
) -> None:
    model, calibration, x, y = digits
    plain = snn.convert(model, calibration, neuron=neuron)
    better = snn.convert(
        model, calibration, neuron=neuron, calibrate_bias=True, calibration_steps=8
    )
    before = float(plain(x, steps=8).accuracy(y)[-1])
    after = float(better(x, steps=8).accuracy(y)[-1])
    print(f"{neuron}: {before:.3f} -> {after:.3f}")
    assert after > before + gain
