"""`verify`: the parts of a layer's error add up, and each is zero where theory says so."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import snnlib as snn
from snnlib.simulation.reference import Stepper
from snnlib.simulation.verify import PARTS


class Net(nn.Module):
    """Two convolutions with a residual sum and a max pooling, then a dense readout."""

    def __init__(self, act: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.act1, self.act2, self.out = act(), act(), nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.act1(self.first(x))
        h = nn.functional.max_pool2d(self.act2(self.second(h) + h), 2)
        return self.out(h.flatten(1))


def convert(neuron: Any, act: type[nn.Module] = nn.ReLU, **options: Any) -> tuple[Any, Tensor]:
    torch.manual_seed(0)
    model = Net(act).double().eval()
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(2)
    images = torch.rand(12, 1, 8, 8, dtype=torch.float64)
    options.setdefault("balance", snn.Percentile(90))
    return snn.convert(model, images, neuron=neuron, **options), images


NEURONS = [
    snn.IF(), snn.IF(v0=0.0, reset="zero"), snn.Ternary(), snn.Ternary(negative=0.0),
    snn.Augmented(levels=3), snn.Augmented(levels=3, negative=0.0), snn.Augmented(2, 0.5, cap=2),
]  # fmt: skip


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("act", [nn.ReLU, nn.ReLU6])
def test_stepper_and_simulator_agree(neuron: Any, act: type[nn.Module]) -> None:
    net, x = convert(neuron, act)
    stepper = Stepper(net, x)
    run = net(x, steps=9)
    with torch.no_grad():
        for t in range(1, 10):
            stepper.step()
            assert torch.allclose(stepper.total / t, run.logits[t - 1], atol=1e-10)
    sent = [float(stepper.states[name].count.sum()) for name in net.graph.spiking]
    assert min(float(state.count.min()) for state in stepper.states.values()) >= 0
    assert sum(sent) > 100


@pytest.mark.parametrize("neuron", NEURONS)
def test_parts_add_up(neuron: Any) -> None:
    """Their means add up to the mean error, which is measured here by itself."""
    net, x = convert(neuron)
    report = net.verify(x, steps=8, batch=5)
    assert report.steps == (1, 2, 4, 8)
    activations: dict[str, Tensor] = {}
    net.graph.evaluate(x, visit=lambda node, value: activations.__setitem__(node.name, value))
    stepper = Stepper(net, x)
    for t in range(1, 9):
        stepper.step()
        if t not in report.steps:
            continue
        at = report.steps.index(t)
        for layer in report.layers:
            mean = stepper.states[layer.name].count * net.thresholds[layer.name] / t
            error = mean - activations[layer.name]
            summed = sum(layer.bias[part][at] for part in PARTS)
            assert summed == pytest.approx(float(error.mean()), abs=1e-12)
            relative = float(error.square().mean().sqrt()) / layer.scale
            assert layer.error[at] == pytest.approx(relative, rel=1e-9)


@pytest.mark.parametrize("neuron", NEURONS)
def test_first_layer_has_nothing_propagated_and_constant_current_no_unevenness(
    neuron: Any,
) -> None:
    net, x = convert(neuron)
    first = net.verify(x, steps=16).layers[0]
    assert max(first.parts["propagated"]) < 1e-12
    if getattr(neuron, "reset", "subtract") == "subtract":
        assert max(first.parts["unevenness"]) < 1e-12
    else:
        assert first.parts["unevenness"][-1] > 0.01  # charge above θ is thrown away


def test_memoryless_neurons_have_no_unevenness_and_uncapped_ones_no_clipping() -> None:
    net, x = convert(snn.Augmented(levels=3, negative=0.0))
    for layer in net.verify(x, steps=16).layers:
        assert max(layer.parts["unevenness"]) < 1e-12
        assert max(layer.parts["clipping"]) == 0
        assert layer.saturated == []
        assert layer.parts["rounding"][-1] > 0


@pytest.mark.parametrize("act", [nn.ReLU, nn.ReLU6])
def test_rounding_is_within_half_a_step_and_halves_with_the_steps(act: type[nn.Module]) -> None:
    net, x = convert(snn.Augmented(levels=2, negative=0.0), act)
    report = net.verify(x, steps=64)
    for layer in report.layers:
        theta = float(net.thresholds[layer.name].max())
        for t, rounding in zip(report.steps, layer.parts["rounding"], strict=True):
            assert rounding * layer.scale <= theta / (2 * t) + 1e-12


def test_clipping_is_what_exceeds_the_threshold() -> None:
    """IF with a low threshold: the part that does not shrink with the steps."""
    net, x = convert(snn.IF(), balance=snn.Percentile(60))
    first = net.verify(x, steps=32).layers[0]
    name = first.name
    current = net.graph.nodes["first"]
    z = nn.functional.conv2d(x, current.tensors["weight"], current.tensors["bias"], padding=1)
    over = (z.clamp_min(0) - net.thresholds[name]).clamp_min(0)
    expected = float(over.square().mean().sqrt()) / first.scale
    assert first.parts["clipping"] == pytest.approx([expected] * 6)
    assert first.saturated == (over > 0).double().mean((0, 2, 3)).gt(0.01).nonzero().flatten(
    ).tolist()  # fmt: skip
    assert len(first.saturated) > 0


def test_dead_channels_are_named() -> None:
    torch.manual_seed(0)
    model = Net().double().eval()
    with torch.no_grad():
        model.first.bias[2] = -100.0
    images = torch.rand(6, 1, 8, 8, dtype=torch.float64)
    report = snn.convert(model, images).verify(images, steps=8)
    assert report.layers[0].dead == [2]
    assert "1/4" in str(report)


def test_a_dead_layer_is_no_layer_without_error() -> None:
    """Its activations are zero, so an error relative to them would be 0/0: the report says so."""
    torch.manual_seed(0)
    model = Net().double().eval()
    with torch.no_grad():
        model.first.bias.fill_(-100.0)
    images = torch.rand(6, 1, 8, 8, dtype=torch.float64)
    with pytest.warns(UserWarning, match="never fires"):
        net = snn.convert(model, images)
    name, *cells = next(r.split() for r in str(net.verify(images)).splitlines() if "4/4" in r)
    assert name == net.graph.spiking[0]
    assert cells == ["–", "–", "–", "–", "4/4", "0/4"]


def test_wrong_graph_raises() -> None:
    net, x = convert(snn.IF())
    other = copy.deepcopy(net.reference)
    with torch.no_grad():
        other.out.bias += 0.1
    wrong = snn.SpikingNetwork(net.graph, net.neuron, net.balanced, other)
    with pytest.raises(snn.ConversionError, match="does not compute what Net computes"):
        wrong.verify(x)


def test_report_prints_within_a_terminal() -> None:
    net, x = convert(snn.Ternary())
    text = str(net.verify(x, steps=512, batch=4))
    assert max(len(line) for line in text.splitlines()) <= 100
    for words in ("folded ANN", "t=512", "propagated", "unevenness", "act2", "agreement"):
        assert words in text


def test_plot_of_the_report() -> None:
    plt = pytest.importorskip("matplotlib.pyplot", reason="needs matplotlib")
    net, x = convert(snn.Ternary())
    figure = snn.plots.layer_errors(net.verify(x, steps=8))
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == ["act1", "act2"]
    plt.close(figure)


def mean_errors(net: Any, x: Tensor, steps: int) -> list[float]:
    report = net.verify(x, steps=steps)
    return [abs(sum(layer.bias[part][-1] for part in PARTS)) for layer in report.layers]


@pytest.mark.parametrize("neuron", [snn.IF(), snn.Ternary(), snn.Augmented(levels=1)])
def test_bias_calibration_takes_mean_errors_away(neuron: Any) -> None:
    plain, x = convert(neuron)
    corrected, _ = convert(neuron, calibrate_bias=True, calibration_steps=4)
    before, after = mean_errors(plain, x, 4), mean_errors(corrected, x, 4)
    assert sum(after) < 0.7 * sum(before)
    torch.testing.assert_close(plain.ann(x), corrected.ann(x))  # the ANN stays what it was
    assert corrected.report["bias_calibrated_for_steps"] == 4
    assert corrected.verify(x, steps=4).graph_error is not None


def test_bias_calibration_of_one_layer_is_the_mean_error() -> None:
    """Before the first layer nothing is corrected: its bias is the plain network's mean error."""
    plain, x = convert(snn.IF())
    corrected, _ = convert(snn.IF(), calibrate_bias=True, calibration_steps=4)
    activation: dict[str, Tensor] = {}
    plain.graph.evaluate(x, visit=lambda node, value: activation.__setitem__(node.name, value))
    sent = plain(x, steps=4, record=["act1"]).trace["act1"].coefficient.sum(0)
    error = activation["act1"] - sent * plain.thresholds["act1"] / 4
    shift = corrected.graph.nodes["act1.correction"].tensors["shift"]
    assert torch.allclose(shift.flatten(), error.mean((0, 2, 3)), atol=1e-12)
    assert "act1.correction" not in corrected.graph.without_corrections().nodes


@settings(max_examples=10)
@given(
    steps=st.integers(1, 12), levels=st.integers(1, 4), v0=st.floats(0, 1),
    negative=st.sampled_from([0.0, 0.5, 1.0]), cap=st.sampled_from([None, 1, 3]),
)  # fmt: skip
def test_parts_add_up_for_any_neuron(
    steps: int, levels: int, v0: float, negative: float, cap: int | None
) -> None:
    net, x = convert(snn.Augmented(levels, negative, v0, cap))
    report = net.verify(x[:3], steps=steps)
    for layer in report.layers:
        parts = sum(layer.parts[part][-1] for part in PARTS)
        assert layer.error[-1] <= parts + 1e-9  # the triangle inequality
        if negative == 0 and cap is None:
            assert layer.parts["unevenness"][-1] < 1e-9


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_network_in_another_dtype_is_judged_by_the_rounding_it_was_folded_in(
    dtype: torch.dtype,
) -> None:
    ann = snn.models.load("digits-cnn")
    train, _ = snn.data.load("digits")
    images = snn.data.to_float(train.images[:20])
    net = snn.convert(ann, images).to(dtype)
    found = net.verify(images.to(dtype), steps=2).graph_error
    assert found is not None
    assert found > 1e-9
