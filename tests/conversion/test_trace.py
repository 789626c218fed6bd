"""The traced graph computes what the model computes, for every rule and every spelling of it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import snnlib as snn
from snnlib.cli.support import support_table
from snnlib.conversion.registry import RULES, Builder, Ref, rule
from snnlib.conversion.trace import trace
from snnlib.graph.graph import Graph
from snnlib.graph.operations import OPERATIONS


class Call(nn.Module):
    """A model whose forward is a given function of the images and of some layers."""

    def __init__(self, function: Callable[..., Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def trained(model: nn.Module) -> nn.Module:
    """The model with random batch-norm statistics, in float64 and evaluation mode."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for value, low, high in (
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.4, 2.0),
                (module.weight, 0.5, 1.5),
                (module.bias, -0.5, 0.5),
            ):
                if value is not None:
                    value.data.uniform_(low, high, generator=generator)
    return model.double().eval()


IMAGE = (3, 8, 8)
LINE = (3, 12)
VOLUME = (2, 4, 4, 4)
VECTOR = (6,)


def conv(**options: object) -> nn.Module:
    return nn.Conv2d(3, 6, 3, **options)  # type: ignore[arg-type]


def seq(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers)


def call(function: Callable[..., Tensor], **layers: nn.Module) -> nn.Module:
    return Call(function, **layers)


def shared_relu() -> nn.Module:
    return call(
        lambda m, x: m.c2(m.act(m.c1(m.act(m.c0(x))))),
        act=nn.ReLU(inplace=True),
        c0=conv(padding=1),
        c1=nn.Conv2d(6, 6, 1),
        c2=nn.Conv2d(6, 2, 1),
    )


def residual(sign: float, in_place: bool) -> nn.Module:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        h = F.relu(m.a(x))
        y = m.b(h)
        if in_place:
            y += h
            return m.c(F.relu(y, True))
        return m.c(torch.relu(y + h if sign > 0 else h - y))

    return call(forward, a=conv(padding=1), b=nn.Conv2d(6, 6, 3, padding=1), c=nn.Conv2d(6, 2, 1))


def after_relu(function: Callable[[Tensor], Tensor], channels: int = 6) -> nn.Module:
    return call(lambda m, x: m.b(function(m.a(x).relu())), a=conv(), b=nn.Conv2d(channels, 2, 1))


def flat(function: Callable[[Tensor], Tensor], features: int) -> nn.Module:
    return call(lambda m, x: m.b(function(m.a(x).relu())), a=conv(), b=nn.Linear(features, 4))


def in_place_chain(m: nn.Module, x: Tensor) -> Tensor:
    h = m.a(x)
    F.relu_(h)
    h.add_(0.1)
    h *= 0.5
    return m.b(h)


def constants(m: nn.Module, x: Tensor) -> Tensor:
    x = (x - m.mean) / m.std
    return m.b(0.5 * (1 - F.relu(-m.a(x) * 2 / 3)) + 0.25)


def with_buffers() -> nn.Module:
    model = call(constants, a=conv(), b=nn.Conv2d(6, 2, 1))
    model.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))
    model.register_buffer("std", torch.tensor([0.2, 0.3, 0.25]).view(3, 1, 1))
    return model


def standardized(m: nn.Module, x: Tensor) -> Tensor:
    weight = m.a.weight - m.a.weight.mean((1, 2, 3), keepdim=True)
    return F.relu(F.conv2d(x, weight, m.a.bias, 2, 1))


def parts(m: nn.Module, x: Tensor) -> Tensor:
    h = F.relu(m.a(x))
    first, second, third = h.chunk(3, 1)
    left, right = torch.split(h, [2, 4], dim=1)
    strided, column = h[:, ::2, 1:, -1], h[..., 3][:, None, :, 1:]
    picked = h.select(1, 2).unsqueeze(1) + h.narrow(1, 1, 1) + h[:, 5:6]
    return sum(
        part.flatten(1).sum(1, keepdim=True)
        for part in (first - second, third, left, right, strided, column, picked)
    )


def stacked(m: nn.Module, x: Tensor) -> Tensor:
    h = F.relu(m.a(x))
    return m.b(torch.stack([h, 2 * h], dim=2).transpose(1, 2).flatten(1, 2))


class Block(nn.Module):
    """A module inside a module, with functions of its own, to see how nodes are named."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x: Tensor, scale: float = 0.5, again: bool = False) -> Tensor:
        return F.relu(self.conv(x) + x) * (2 if again else scale)


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: seq(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3, bias=False)), VECTOR),
    "linear on tokens": (lambda: seq(nn.Linear(12, 5), nn.ReLU(), nn.BatchNorm1d(3)), LINE),
    "linear, batch norm": (lambda: seq(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU()), VECTOR),
    "conv1d": (
        lambda: seq(nn.Conv1d(3, 6, 3, 2, 1, 2), nn.BatchNorm1d(6), nn.ReLU(), nn.AvgPool1d(2)),
        LINE,
    ),
    "conv3d": (
        lambda: seq(nn.Conv3d(2, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(), nn.MaxPool3d(2),
                    nn.AvgPool3d(2)),
        VOLUME,
    ),
    "groups, stride, dilation": (
        lambda: seq(conv(groups=3, stride=2, dilation=2, padding=(2, 1)), nn.ReLU()), IMAGE
    ),
    "depthwise": (
        lambda: seq(conv(), nn.ReLU6(), nn.Conv2d(6, 6, 3, groups=6), nn.ReLU6(True)), IMAGE
    ),
    **{
        f"padding mode {mode}": (
            lambda mode=mode: seq(conv(padding=(1, 2), padding_mode=mode), nn.ReLU()), IMAGE
        )
        for mode in ("zeros", "reflect", "replicate", "circular")
    },
    "padding same": (lambda: seq(conv(padding="same"), nn.ReLU()), IMAGE),
    "padding same, even kernel": (
        lambda: seq(nn.Conv2d(3, 6, (4, 3), padding="same", padding_mode="reflect"), nn.ReLU()),
        IMAGE,
    ),
    "padding valid": (lambda: seq(conv(padding="valid"), nn.ReLU()), IMAGE),
    "transposed": (
        lambda: seq(nn.ConvTranspose2d(3, 6, 3, 2, 1, 1), nn.BatchNorm2d(6), nn.ReLU(),
                    nn.ConvTranspose2d(6, 4, 2, groups=2), nn.BatchNorm2d(4), nn.ReLU()),
        IMAGE,
    ),
    "transposed 1d": (
        lambda: seq(nn.ConvTranspose1d(3, 4, 3, 2), nn.BatchNorm1d(4), nn.ReLU()), LINE
    ),
    "batch norm before padding": (
        lambda: seq(nn.BatchNorm2d(3), conv(padding=1), nn.ReLU(), nn.BatchNorm2d(6),
                    nn.Conv2d(6, 4, 3, padding=2)),
        IMAGE,
    ),
    "batch norm alone": (
        lambda: seq(conv(), nn.ReLU(), nn.BatchNorm2d(6), nn.ReLU(), nn.AvgPool2d(2),
                    nn.BatchNorm2d(6, affine=False)),
        IMAGE,
    ),
    "batch norm, shared source": (
        lambda: call(lambda m, x: (lambda h: F.relu(m.n(h)) + h)(m.a(x)), a=conv(),
                     n=nn.BatchNorm2d(6)),
        IMAGE,
    ),
    "functional": (
        lambda: call(
            lambda m, x: F.linear(
                F.relu(F.batch_norm(F.conv2d(x, m.a.weight, None, 2), m.n.running_mean,
                                    m.n.running_var, m.n.weight, m.n.bias)).flatten(1),
                m.b.weight, m.b.bias),
            a=conv(), n=nn.BatchNorm2d(6), b=nn.Linear(54, 3)),
        IMAGE,
    ),
    "standardized weights": (lambda: call(standardized, a=conv()), IMAGE),
    **{
        f"relu as {name}": (lambda function=function: after_relu(function), IMAGE)
        for name, function in {
            "F.relu": F.relu, "torch.relu": torch.relu, "method": lambda x: x.relu(),
            "method in place": lambda x: x.relu_(), "F in place": lambda x: F.relu(x, inplace=True),
            "torch.relu_": lambda x: torch.relu_(x), "clamp": lambda x: (x - 1).clamp(min=0),
            "clamp_min": lambda x: (x - 1).clamp_min(0), "clip": lambda x: torch.clip(x, 0, 0.5),
            "F.relu6": lambda x: F.relu6(4 * x), "hardtanh": lambda x: F.hardtanh(x, 0, 0.4),
            "threshold": lambda x: F.threshold(x - 0.5, 0, 0),
        }.items()
    },
    "relu modules": (
        lambda: seq(conv(), nn.Hardtanh(0.0, 0.5), nn.Threshold(0, 0), nn.ReLU6(True)), IMAGE
    ),
    "shared relu in place": (shared_relu, IMAGE),
    "shared convolution": (
        lambda: call(lambda m, x: m.a(F.relu(m.a(x))), a=nn.Conv2d(3, 3, 3, padding=1)), IMAGE
    ),
    "residual sum": (lambda: residual(1, False), IMAGE),
    "residual difference": (lambda: residual(-1, False), IMAGE),
    "residual sum in place": (lambda: residual(1, True), IMAGE),
    "alpha": (
        lambda: call(lambda m, x: torch.sub(torch.add(m.a(x).relu(), m.a(x), alpha=0.3), m.b(x),
                                            alpha=2), a=conv(), b=conv()),
        IMAGE,
    ),
    "sum that broadcasts": (
        lambda: after_relu(lambda x: x + x.mean((2, 3), keepdim=True)), IMAGE
    ),
    "in place": (lambda: call(in_place_chain, a=conv(), b=nn.Conv2d(6, 2, 1)), IMAGE),
    "constants and buffers": (with_buffers, IMAGE),
    **{
        f"pool {name}": (lambda function=function: after_relu(function), IMAGE)
        for name, function in {
            "avg": lambda x: F.avg_pool2d(x, 2), "avg padded": lambda x: F.avg_pool2d(x, 3, 2, 1),
            "avg borders": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
            "avg ceil": lambda x: F.avg_pool2d(x, 4, ceil_mode=True),
            "avg divisor": lambda x: F.avg_pool2d(x, 2, divisor_override=3),
            "max": lambda x: F.max_pool2d(x, 2), "max padded": lambda x: F.max_pool2d(x, 3, 2, 1),
            "max ceil": lambda x: F.max_pool2d(x, 4, 3, ceil_mode=True),
            "max dilated": lambda x: F.max_pool2d(x, 2, 1, dilation=2),
            "adaptive avg": lambda x: F.adaptive_avg_pool2d(x, 4),
            "adaptive avg, one side": lambda x: F.adaptive_avg_pool2d(x, (None, 4)),
            "adaptive max": lambda x: F.adaptive_max_pool2d(x, (4, 5)),
            "mean": lambda x: x.mean((2, 3), keepdim=True),
            "mean of negative dims": lambda x: torch.mean(x, dim=[-1, -2], keepdim=True),
            "sum": lambda x: x.sum(dim=(2, 3), keepdim=True),
            "amax": lambda x: x.amax((2, 3), keepdim=True),
        }.items()
    },
    "pool modules": (
        lambda: seq(conv(), nn.ReLU(), nn.MaxPool2d(2, 1), nn.AvgPool2d(2, 1, 1),
                    nn.AdaptiveMaxPool2d(4), nn.AdaptiveAvgPool2d(3), nn.Flatten(),
                    nn.Linear(54, 3)),
        IMAGE,
    ),
    "pool 1d": (
        lambda: seq(nn.Conv1d(3, 4, 3), nn.ReLU(), nn.MaxPool1d(2), nn.AdaptiveAvgPool1d(3),
                    nn.AdaptiveMaxPool1d(2)),
        LINE,
    ),
    "mean over the channels": (lambda: flat(lambda x: x.mean(1).flatten(1), 36), IMAGE),
    "upsample": (
        lambda: seq(conv(), nn.ReLU(), nn.Upsample(scale_factor=2), nn.UpsamplingNearest2d((5, 7)),
                    nn.Conv2d(6, 2, 1)),
        IMAGE,
    ),
    "upsample by a fraction": (
        lambda: after_relu(lambda x: F.interpolate(x, scale_factor=(1.4, 1.7))), IMAGE
    ),
    "upsample to a size": (lambda: after_relu(lambda x: F.interpolate(x, size=(9, 5))), IMAGE),
    "padding modules": (
        lambda: seq(nn.ZeroPad2d((1, 0, 2, 1)), conv(), nn.ReLU(), nn.ConstantPad2d(1, 0.3),
                    nn.ReflectionPad2d(1), nn.ReplicationPad2d(1), nn.CircularPad2d(1),
                    nn.Conv2d(6, 2, 1)),
        IMAGE,
    ),
    "padding functions": (
        lambda: after_relu(lambda x: F.pad(F.pad(x, (1, 2)), (1, 1, 1, 1), value=0.5)), IMAGE
    ),
    **{
        f"shape by {name}": (lambda function=function: flat(function, 216), IMAGE)
        for name, function in {
            "flatten": lambda x: torch.flatten(x, 1), "view": lambda x: x.view(x.size(0), -1),
            "reshape": lambda x: x.reshape(x.shape[0], 216), "view -1": lambda x: x.view(-1, 216),
            "unflatten": lambda x: x.unflatten(1, (2, 3)).flatten(1),
            "permute": lambda x: x.permute(0, 2, 3, 1).contiguous().flatten(1),
            "transpose": lambda x: x.transpose(1, -1).reshape(x.shape[0], -1),
            "squeeze": lambda x: x.flatten(1).unsqueeze(2).squeeze(-1).clone(),
        }.items()
    },
    "shuffles": (
        lambda: seq(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.ChannelShuffle(4), nn.PixelShuffle(2)), IMAGE
    ),
    "parts": (lambda: call(parts, a=conv()), IMAGE),
    "stack": (lambda: call(stacked, a=conv(), b=nn.Conv2d(12, 2, 1)), IMAGE),
    "cat": (lambda: after_relu(lambda x: torch.cat([x, x[:, :2] * 3, -x], dim=1), 14), IMAGE),
    "dropped": (
        lambda: seq(nn.Identity(), conv(), nn.ReLU(), nn.Dropout2d(0.5), nn.Dropout(0.9, True)),
        IMAGE,
    ),
    "functional dropout": (
        lambda: call(lambda m, x: F.dropout(m.a(x).relu(), 0.5, m.training), a=conv()), IMAGE
    ),
    "nested blocks": (
        lambda: call(lambda m, x: m.block(m.block(F.relu(m.a(x)), again=True)), a=conv(padding=1),
                     block=Block()),
        IMAGE,
    ),
    "weight norm": (
        lambda: seq(nn.utils.parametrizations.weight_norm(conv()), nn.ReLU(),
                    nn.utils.parametrizations.spectral_norm(nn.Conv2d(6, 2, 1)).eval()),
        IMAGE,
    ),
}  # fmt: skip


def build(name: str) -> tuple[nn.Module, Graph, Tensor]:
    torch.manual_seed(0)
    make, shape = MODELS[name]
    model = trained(make())
    images = torch.rand(5, *shape, dtype=torch.float64) - 0.3
    return model, trace(model, images[:2]), images


@pytest.mark.parametrize("name", MODELS)
def test_graph_computes_what_the_model_computes(name: str) -> None:
    model, graph, images = build(name)
    with torch.no_grad():
        expected = copy.deepcopy(model)(images.clone())
        found = graph.evaluate(images)
    assert (found - expected).abs().max() <= 1e-12 * max(1, float(expected.abs().max()))
    with torch.no_grad():
        graph.evaluate(images, visit=lambda n, v: check_shape(graph, n.name, v))


def check_shape(graph: Graph, name: str, value: Tensor) -> None:
    assert tuple(value.shape[1:]) == graph.shapes[name], name


@pytest.mark.filterwarnings("ignore:layer .* never fires")
@pytest.mark.parametrize("name", MODELS)
def test_spiking_network_is_the_quantized_ann(name: str) -> None:
    """Two laws for every operation that converts.

    The memoryless neuron's steps give the ANN with quantized activations (the closed form); and
    with many fine steps the rounding is gone, so what is left would be a wrong operation.
    """
    model, _, images = build(name)
    neuron = snn.Augmented(levels=3, negative=0.0)
    net = snn.convert(model, images, neuron=neuron, balance=snn.Max())
    last = net(images, steps=5, only_last=True).logits[-1]
    steps = net(images, steps=5).logits[-1]
    scale = max(1, float(steps.abs().max()))
    assert (last - steps).abs().max() <= 1e-10 * scale
    fine = net.replace(neuron=snn.Augmented(levels=1000, negative=0.0))
    assert (fine(images, steps=200, only_last=True).logits[-1] - net.ann(images)).abs().max() < (
        1e-3 * scale
    )


def test_models_above_use_every_operation_of_the_graph() -> None:
    used = {"pixels", "conv_int8"}  # made by `snnlib.quantize` only, once that is imported
    for name in MODELS:
        _, graph, _ = build(name)
        used |= {node.op for node in graph}
    assert set(OPERATIONS) - used == set()


def test_model_and_images_are_left_alone() -> None:
    torch.manual_seed(0)
    model = trained(call(in_place_chain, a=conv(), b=nn.Conv2d(6, 2, 1)))
    state = {k: v.clone() for k, v in model.state_dict().items()}
    images = torch.rand(6, *IMAGE, dtype=torch.float64)
    before = images.clone()
    snn.convert(model, images)
    assert torch.equal(images, before)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert not model.training


def test_input_overwritten_in_place() -> None:
    model = trained(call(lambda m, x: m.a(x.sub_(0.5)).relu(), a=conv()))
    images = torch.rand(4, *IMAGE, dtype=torch.float64)
    before = images.clone()
    net = snn.convert(model, images)
    assert torch.equal(images, before)
    assert torch.allclose(net.ann(images), model(images.clone()))
    assert torch.equal(images, before)


def test_names_are_qualified_and_unique() -> None:
    _, graph, _ = build("nested blocks")
    assert graph.spiking == ["relu", "block.relu", "block.relu:2"]
    assert {"block.conv", "block.conv:2", "block.add", "block.mul:2"} <= set(graph.nodes)
    _, graph, _ = build("shared relu in place")
    assert graph.spiking == ["act", "act:2"]


def test_batch_norm_is_folded_away() -> None:
    _, graph, _ = build("transposed")
    assert [node.op for node in graph] == ["input", "conv_transpose", "relu"] * 1 + [
        "conv_transpose",
        "relu",
    ]
    assert graph.notes == ["1 folded into 0", "4 folded into 3"]


def test_softmax_at_the_end_is_dropped_and_reported() -> None:
    for head in (nn.Softmax(1), nn.LogSoftmax(-1)):
        model = trained(seq(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3), head))
        images = torch.rand(4, 6, dtype=torch.float64)
        net = snn.convert(model, images)
        assert net.graph.head in ("softmax", "log_softmax")
        assert any("dropped" in note for note in net.graph.notes)
        assert torch.equal(net.ann(images).argmax(1), model(images).argmax(1))


def test_subclass_without_forward_takes_the_rule_of_its_base() -> None:
    class Mine(nn.ReLU):
        pass

    model = seq(nn.Linear(6, 5), Mine(), nn.Linear(5, 2)).eval()
    assert trace(model, torch.rand(2, 6)).spiking == ["1"]


def test_optional_arguments_keep_their_defaults() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 4)

        def forward(self, x: Tensor, features: bool = False, *rest: Tensor, **more: int) -> Tensor:
            return x if features else self.layer(x).relu()

    assert trace(Net().eval(), torch.rand(2, 6)).spiking == ["relu"]


def test_batch_of_one_image_is_enough() -> None:
    torch.manual_seed(0)
    model = trained(seq(conv(), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2)))
    images = torch.rand(1, *IMAGE, dtype=torch.float64)
    assert torch.allclose(snn.convert(model, images).ann(images), model(images))


@settings(max_examples=25)
@given(
    size=st.integers(5, 9), kernel=st.integers(1, 4), stride=st.integers(1, 3),
    padding=st.integers(0, 2), dilation=st.integers(1, 2), groups=st.sampled_from([1, 2]),
    mode=st.sampled_from(["zeros", "reflect", "replicate", "circular"]), norm=st.booleans(),
)  # fmt: skip
def test_convolution_of_any_shape(
    size: int, kernel: int, stride: int, padding: int, dilation: int, groups: int, mode: str,
    norm: bool,
) -> None:  # fmt: skip
    if size + 2 * padding < dilation * (kernel - 1) + 1:
        return
    layer = nn.Conv2d(2, 4, kernel, stride, padding, dilation, groups, True, mode)
    before = [nn.BatchNorm2d(2)] if norm else []
    model = trained(seq(*before, layer, nn.BatchNorm2d(4), nn.ReLU()))
    images = torch.randn(3, 2, size, size, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(trace(model, images).evaluate(images), model(images), atol=1e-12)


def test_padding_after_batch_norm_is_right_at_the_borders() -> None:
    """Folding forward into the convolution would be right inside and wrong at the border."""
    torch.manual_seed(0)
    model = trained(seq(nn.BatchNorm2d(3), conv(padding=1), nn.ReLU()))
    images = torch.rand(4, *IMAGE, dtype=torch.float64)
    net = snn.convert(model, images, neuron=snn.Augmented(levels=1000, negative=0.0))
    with torch.no_grad():
        error = (net(images, steps=100).logits[-1] - model(images)).abs().amax((0, 1))
    inside = error[1:-1, 1:-1].max()
    assert error.max() < 1e-3
    assert inside < 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_reduced_precision(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = trained(seq(conv(padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(),
                        nn.Linear(384, 4))).to(dtype)  # fmt: skip
    images = torch.rand(20, *IMAGE).to(dtype)
    net = snn.convert(model, images)
    assert net.dtype == dtype
    assert all(value.dtype == torch.float32 for value in net.thresholds.values())
    run = net(images, steps=8)
    with torch.no_grad():
        expected = model(images).float()
    assert (run.logits[-1].float() - expected).abs().max() < 0.1 * expected.abs().max()


def test_support_table_is_the_registry() -> None:
    rows = support_table()
    labels = {label for row in rows for label in row.operations}
    rules = {found.label for found in RULES.values()}
    in_place = {label for label in rules if label[-1] == "_" and label[:-1] in rules}
    assert rules - in_place <= labels
    assert "Tensor.relu_" in in_place - labels
    assert {"nn.Conv2d", "F.relu", "Tensor.relu", "nn.BatchNorm1d", "nn.LayerNorm"} <= labels
    assert not any(label.startswith(("torch._C", ".", "F._")) for label in labels)
    assert all(row.becomes for row in rows)
    assert {"nn.GELU"} <= {label for row in rows if not row.converts for label in row.operations}


def test_rule_for_a_module_of_ones_own() -> None:
    class Gate(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.sigmoid(torch.zeros(()))

    model = trained(seq(nn.Linear(6, 4), nn.ReLU(), Gate(), nn.Linear(4, 2)))
    images = torch.rand(3, 6, dtype=torch.float64)

    @rule(Gate, becomes="scale")
    def emit(b: Builder, m: nn.Module, x: Ref) -> str:
        return b.emit("affine", x, tensors={"scale": torch.tensor(0.5)})

    try:
        assert torch.allclose(trace(model, images).evaluate(images), model(images))
    finally:
        del RULES[Gate]
    assert torch.allclose(trace(model, images).evaluate(images), model(images))  # looked into
