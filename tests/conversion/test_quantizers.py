"""Networks trained with quantized activations: what is exact, and how far the rest is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnlib as snn
from snnlib.conversion.trace import trace
from snnlib.graph.check import graph_error

L = 6


class Straight(torch.autograd.Function):
    """Rounds; the gradient passes straight through."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient


class QCFS(nn.Module):
    """Bu et al., ICLR 2022, as published: a trained threshold."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.t = nn.Parameter(torch.tensor([1.3])), 8

    def forward(self, x: Tensor) -> Tensor:
        x = torch.clamp(x / self.up, 0, 1)
        return torch.floor(x * self.t + 0.5) / self.t * self.up


class LSQ(nn.Module):
    """Esser et al., ICLR 2020: a trained step."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Parameter(torch.tensor(0.23))

    def forward(self, x: Tensor) -> Tensor:
        v = torch.clamp(x / self.step, 0, 7)
        return ((v.round() - v).detach() + v) * self.step


class PACT(nn.Module):
    """Choi et al., 2018: a trained limit."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(1.1))

    def forward(self, x: Tensor) -> Tensor:
        scale = 7 / self.alpha
        return Straight.apply(torch.clamp(x, 0, float(self.alpha)) * scale) / scale


def passed(x: Tensor, q: Tensor) -> Tensor:
    return x + (q - x).detach()


Q = dict[str, tuple[Callable[[Tensor], Tensor], int]]  # the quantizer and its number of levels
QUANTIZERS: Q = {
    "clamp(floor(x L + 1/2) / L)": (lambda x: torch.clamp(torch.floor(x * L + 0.5) / L, 0, 1), L),
    "clamp(round(x L) / L)": (lambda x: (torch.round(x * L) / L).clamp(0, 1), L),
    "floor(clamp(x L) + 1/2) / L": (lambda x: torch.floor(torch.clamp(x * L, 0, L) + 0.5) / L, L),
    "round(clamp(x) L) / L": (lambda x: torch.round(x.clamp(0, 1) * L) / L, L),
    "round(relu6(x) L) / L": (lambda x: torch.round(F.relu6(6 * x) * L) / L, 6 * L),
    "round(relu(x) L) / L, then min": (
        lambda x: torch.minimum(torch.round(F.relu(x) * L) / L, torch.ones_like(x)), L
    ),
    "down": (lambda x: torch.clamp(torch.floor(x * L) / L, 0, 1), L),
    "with a sign": (lambda x: torch.clamp(torch.round(x / 0.25), -4, 3) * 0.25, 7),
    "straight through, x + (q - x)": (
        lambda x: (lambda c: passed(c, torch.round(c * L) / L))(x.clamp(0, 1)), L
    ),
    "straight through, x - (x - q)": (
        lambda x: (lambda c: c - (c - torch.round(c * L) / L).detach())(x.clamp(0, 1)), L
    ),
    "straight through, q + x - x": (
        lambda x: (lambda c: (torch.round(c * L) / L).data + c - c.detach())(x.clamp(0, 1)), L
    ),
    "straight through, clamped after": (
        lambda x: (lambda y: passed(y, torch.round(y)).clamp(0, L) / L)(x * L), L
    ),
    "QCFS": (QCFS(), 8), "LSQ": (LSQ(), 7), "PACT": (PACT(), 7),
}  # fmt: skip


class Net(nn.Module):
    def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.act = act
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(128, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(2 * self.b(self.act(2 * self.a(x))))
        return self.c(x.flatten(1))


def build(name: str) -> tuple[nn.Module, Tensor, int]:
    torch.manual_seed(0)
    act, levels = QUANTIZERS[name]
    images = torch.rand(12, 3, 8, 8, dtype=torch.float64)
    return Net(act).double().eval(), images, levels


@pytest.mark.parametrize("name", QUANTIZERS)
def test_graph_quantizes_as_the_model_does(name: str) -> None:
    model, images, levels = build(name)
    graph = trace(model, images)
    with torch.no_grad():
        assert (graph.evaluate(images) - model(images)).abs().max() < 1e-12
    assert len(graph.spiking) == 2
    for layer in graph.spiking:
        attrs = graph.nodes[layer].attrs
        assert attrs["bound"] / attrs["step"] == pytest.approx(levels)


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("name", QUANTIZERS)
def test_spiking_network_is_exact_where_levels_times_steps_are_the_quantizers(
    name: str, steps: int
) -> None:
    model, images, levels = build(name)
    if levels % steps:
        return
    v0 = 0.0 if name == "down" else 0.5
    neuron = snn.Augmented(levels=levels // steps, negative=0.0, v0=v0)
    net = snn.convert(model, images, neuron)
    with torch.no_grad():
        assert (net(images, steps).logits[-1] - model(images)).abs().max() < 1e-10
        assert (net(images, steps, only_last=True).logits[-1] - model(images)).abs().max() < 1e-10


@pytest.mark.parametrize("name", QUANTIZERS)
def test_with_more_steps_a_neuron_stays_within_half_a_step(name: str) -> None:
    """After many steps the unit is the clip without rounding: half a step (down: one) away."""
    model, images, levels = build(name)
    net = snn.convert(model, images, snn.Augmented(levels=levels, negative=0.0))
    first = net.graph.spiking[0]
    step = net.graph.nodes[first].attrs["step"]
    run = net(images, 400, record=(first,))
    sent = run.trace[first].coefficient.sum(0) * net.thresholds[first] / 400
    activations: dict[str, Tensor] = {}
    with torch.no_grad():
        net.graph.evaluate(images, visit=lambda node, value: activations.update({node.name: value}))
    error = (sent - activations[first]).abs().max()
    assert 0.4 * step < error <= (1.0 if name == "down" else 0.5) * step + step / 400


class Only(nn.Module):
    """A function of the images, as a model."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def narrow(x: Tensor) -> Tensor:
    return x.mean((2, 3), keepdim=True)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + (narrow(x) - x),  # of another shape than what is left
        lambda x: x + (x - narrow(x)), lambda x: x - (narrow(x) - x), lambda x: (x + x) - x,
        lambda x: (x + narrow(x)) + x, lambda x: torch.round(F.relu(x) * L).div(L).clamp_max(0.4),
        lambda x: (torch.round(F.relu(x) * L) / L).clamp(0.2, 0.5),
        lambda x: (torch.round(x * L) / L).clamp(0, 0.4) + torch.clamp(torch.floor(x * 3), 0, 1.5),
    ],
)  # fmt: skip
def test_what_only_looks_like_a_quantizer_is_computed_as_written(
    function: Callable[[Tensor], Tensor],
) -> None:
    images = torch.rand(4, 2, 3, 3, dtype=torch.float64)
    found = trace(Only(function).eval(), images).evaluate(images)
    assert found.shape == function(images).shape
    assert torch.allclose(found, function(images))


def test_scales_that_undo_each_other_are_gone() -> None:
    model, images, _ = build("round(clamp(x) L) / L")
    kinds = [node.op for node in trace(model, images)]
    assert kinds == ["input", "conv", "relu", "conv", "relu", "reshape", "linear"]


@pytest.mark.parametrize("name", QUANTIZERS)
def test_normalized_network_quantizes_as_well(name: str) -> None:
    model, images, levels = build(name)
    net = snn.convert(model, images, snn.Augmented(levels=levels, negative=0.0))
    unit = net.normalized()
    assert torch.allclose(unit.ann(images), net.ann(images), atol=1e-12)
    assert torch.equal(unit(images, 3).events, net(images, 3).events)


def test_balance_is_the_clip_value_per_channel_too() -> None:
    model, images, _ = build("QCFS")
    for per_channel in (False, True):
        net = snn.convert(model, images, balance=snn.Percentile(50), per_channel=per_channel)
        assert all(bool((value == 1.0).all()) for value in net.balanced.values())


def test_quantizer_without_a_limit_is_balanced_as_measured() -> None:
    torch.manual_seed(0)
    model = Net(lambda x: torch.round(F.relu(x) * L) / L).double().eval()
    images = torch.rand(12, 3, 8, 8, dtype=torch.float64)
    net = snn.convert(model, images, balance=snn.Max())
    with torch.no_grad():
        assert (net.ann(images) - model(images)).abs().max() < 1e-12
    activations: dict[str, Tensor] = {}
    net.graph.evaluate(images, visit=lambda node, value: activations.update({node.name: value}))
    for name in net.graph.spiking:
        assert float(net.balanced[name]) == float(activations[name].max())


def test_values_that_tip_to_the_next_step_do_not_count_as_wrong() -> None:
    """The last bit of a sum may decide a rounding; that is no fault of the graph."""
    images = torch.linspace(0.05, 0.95, 9, dtype=torch.float64)[:, None]
    images[3] = 0.375 - 1e-12  # halfway between two steps of 1/4
    model = Only(lambda x: torch.round(x.clamp(0, 1) * 4) / 4)
    graph = trace(model, images)
    rounded_up = Only(lambda x: model(x + 2e-12))
    assert float((graph.evaluate(images) - rounded_up(images)).abs().max()) == 0.25
    assert graph_error(graph, rounded_up, images) == 0
    with pytest.raises(snn.ConversionError, match="does not compute"):
        graph_error(graph, Only(lambda x: model(x + 0.2)), images)


def test_a_wrong_quantizer_is_still_found() -> None:
    model, images, _ = build("QCFS")
    graph = trace(model, images)
    name = graph.spiking[0]
    node = graph.nodes[name]
    wrong = replace(node, attrs={**node.attrs, "step": 2 * node.attrs["step"]})
    with pytest.raises(snn.ConversionError, match="does not compute"):
        graph_error(replace(graph, nodes={**graph.nodes, name: wrong}), model, images)


def test_quantization_aware_training_of_pytorch() -> None:
    class Fake(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.fake_quantize_per_tensor_affine(x, 0.05, 3, 0, 15)

    torch.manual_seed(0)
    model = Net(Fake()).eval()
    images = torch.rand(12, 3, 8, 8)
    net = snn.convert(model, images, snn.Augmented(levels=15, negative=0.0))
    assert [net.graph.nodes[n].attrs["bound"] for n in net.graph.spiking] == [
        pytest.approx(0.75)
    ] * 2
    with torch.no_grad():
        assert (net(images, 1).logits[0] - model(images)).abs().max() < 1e-4
