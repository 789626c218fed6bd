"""Every documented precondition is broken once: the message names the culprit and the way out.

And it is this library's own message: no traceback from deep inside torch.
"""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnlib as snn
from snnlib.graph.errors import ConversionError

IMAGES = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def small(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), *layers).eval()


def unpooled(x: Tensor) -> Tensor:
    values, indices = F.max_pool2d(x, 2, return_indices=True)
    return F.max_unpool2d(values, indices, 2)


def forward(function: Callable[[nn.Module, Tensor], Any], **layers: nn.Module) -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)
            for name, layer in layers.items():
                self.add_module(name, layer)

        def forward(self, x: Tensor) -> Any:
            return function(self, x)

    return Net().eval()


def head(x: Tensor) -> Tensor:
    return x.relu().flatten(1)


def refusal(call: Callable[[], Any], kind: type[Exception] = ConversionError) -> str:
    """The message of the error that the call raises, which must be raised by this library."""
    with pytest.raises(kind) as caught:
        call()
    error = caught.value
    package = str(Path(snn.__file__).parent)
    assert traceback.extract_tb(error.__traceback__)[-1].filename.startswith(package)
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None
    return str(error)


# operations that do not convert: the model, and what the message has to say

OPERATIONS: dict[str, tuple[Callable[[], nn.Module], tuple[str, ...]]] = {
    "GELU": (lambda: small(nn.GELU()), ("2 (nn.GELU)", "train with nn.ReLU")),
    "SiLU": (lambda: small(nn.SiLU()), ("2 (nn.SiLU)", "nn.ReLU")),
    "squares": (lambda: forward(lambda m, x: m.conv(x) ** 2), ("Tensor.pow", "nn.ReLU")),
    "reciprocal": (lambda: forward(lambda m, x: 1 / m.conv(x)), ("rdiv", "constants can divide")),
    "sigmoid": (
        lambda: forward(lambda m, x: head(m.conv(x)).sigmoid()),
        ("sigmoid (Tensor.sigmoid)", "return the logits"),
    ),
    "layer norm": (
        lambda: small(nn.LayerNorm([4, 8, 8])), ("2 (nn.LayerNorm)", "train with nn.BatchNorm2d")
    ),
    "group norm": (lambda: small(nn.GroupNorm(2, 4)), ("nn.GroupNorm", "nn.BatchNorm2d")),
    "attention": (
        lambda: forward(
            lambda m, x: m.attention(*[head(m.conv(x)).unflatten(1, (4, 64))] * 3)[0],
            attention=nn.MultiheadAttention(64, 2, batch_first=True)),
        ("attention (nn.MultiheadAttention)", "product of activations"),
    ),
    "gate": (
        lambda: forward(lambda m, x: m.conv(x).relu() * m.conv(x).mean((2, 3), keepdim=True)),
        ("mul", "product of two activations"),
    ),
    "division": (
        lambda: forward(lambda m, x: m.conv(x).relu() / x.sum((1, 2, 3), keepdim=True)),
        ("div (Tensor.div)", "only constants can divide"),
    ),
    "recurrent": (
        lambda: forward(lambda m, x: m.rnn(m.conv(x).relu().flatten(2))[0], rnn=nn.LSTM(64, 5)),
        ("rnn (nn.LSTM)", "feed-forward"),
    ),
    "bilinear": (
        lambda: small(nn.Upsample(scale_factor=2, mode="bilinear")), ('mode="bilinear"', "nearest")
    ),
    "largest": (lambda: forward(lambda m, x: m.conv(x).topk(2, 1)[0]), ("topk", "nn.MaxPool2d")),
    "indices of max": (
        lambda: forward(lambda m, x: m.conv(x) + m.conv(x).max(1, keepdim=True)[1]),
        ("Tensor.max", "uses the indices"),
    ),
    "indices of pooling": (
        lambda: forward(
            lambda m, x: unpooled(m.conv(x).relu())
        ),
        ("max_pool2d_with_indices", "uses the indices"),
    ),
    "limits upside down": (
        lambda: forward(lambda m, x: m.conv(x).clamp(1, 0)), ("limits 1 … 0", "two different ones")
    ),
    "limits from the images": (
        lambda: forward(lambda m, x: m.conv(x).clamp(max=x.amax((1, 2, 3), keepdim=True))),
        ("limits that depend on the images", "torch.minimum"),
    ),
    "jump": (lambda: small(nn.Threshold(0.5, 0.0)), ("2 (nn.Threshold)", "jumps from value")),
    "steps without limits": (
        lambda: forward(lambda m, x: torch.round(m.conv(x) * 4) / 4),
        ("round (torch.round)", "torch.clamp(torch.round(x * L) / L, 0, 1)"),
    ),
    "limit between steps": (
        lambda: forward(lambda m, x: torch.clamp(torch.round(m.conv(x) * 4) / 4, 0.1, 1)),
        ("clamp (torch.clamp)", "lower limit is no whole number of the quantizer's steps"),
    ),
    "mask as a number": (
        lambda: forward(lambda m, x: m.conv(x).relu() + (m.conv(x) > 0)), ("add", "0 and 1")
    ),
    "mask of another": (
        lambda: forward(lambda m, x: m.conv(x) * (m.conv(-x) > 0)), ("mul", "only ReLUs written so")
    ),
    "jump by where": (
        lambda: forward(lambda m, x: torch.where(m.conv(x) > 0, 1.0, 0.0)),
        ("where", "only ReLUs written so"),
    ),
    "entries chosen by the images": (
        lambda: forward(lambda m, x: m.conv(x).flatten(1)[:, x.flatten(1).argmax(1)]),
        ("argmax", "a choice that depends on the images"),
    ),
    "softmax inside": (
        lambda: small(nn.Softmax(1), nn.Conv2d(4, 2, 1)), ("2 (nn.Softmax)", "only a last softmax")
    ),
    "softmax over pixels": (lambda: small(nn.Softmax(2)), ("dim=2", "over the classes (dim=1)")),
    "dropout that stays random": (
        lambda: forward(lambda m, x: F.dropout(m.conv(x).relu())), ("dropout", "nn.Dropout")
    ),
    "statistics of the batch": (
        lambda: small(nn.BatchNorm2d(4, track_running_stats=False)),
        ("2 (nn.BatchNorm2d)", "track_running_stats=True"),
    ),
    "mean over the batch": (
        lambda: forward(lambda m, x: m.conv(x).relu() - x.mean(0)[:1]), ("mean", "batch")
    ),
    "mean over everything": (lambda: forward(lambda m, x: m.conv(x).relu().mean()), ("in dim",)),
    "images picked": (
        lambda: forward(lambda m, x: m.conv(x).relu()[:1]),
        ("getitem", "leaves some out: keep the first dimension"),
    ),
    "images in another order": (
        lambda: forward(lambda m, x: m.conv(x).relu() + m.conv(x).flip(0)),
        ("flip", "mixes the images of a batch"),
    ),
    "batch reshaped": (
        lambda: forward(lambda m, x: m.conv(x).relu().reshape(-1, 8)),
        ("reshape", "images of a batch"),
    ),
    "batch moved": (
        lambda: forward(lambda m, x: m.conv(x).relu().permute(1, 0, 2, 3)),
        ("permute", "mixes the images of a batch"),
    ),
    "batch joined": (
        lambda: forward(lambda m, x: torch.cat([m.conv(x).relu()] * 2)), ("cat", "along the batch")
    ),
    "constant joined": (
        lambda: forward(lambda m, x: torch.cat([m.conv(x).relu(), torch.rand(len(x), 1, 8, 8)], 1)),
        ("cat", "differs from image to image"),
    ),
    "constant of a batch": (
        lambda: forward(lambda m, x: m.conv(x).relu() + torch.rand(len(x), 1, 1, 1)),
        ("add", "use one value for all images"),
    ),
    "weights from the images": (
        lambda: forward(lambda m, x: F.linear(head(m.conv(x)), head(m.conv(x)))),
        ("linear", "weight"),
    ),
    "two factors": (
        lambda: forward(lambda m, x: torch.einsum("bchw,bdhw->bcd", m.conv(x), m.conv(x))),
        ("einsum (torch.einsum)", "a product of activations"),
    ),
    "product over the batch": (
        lambda: forward(lambda m, x: torch.rand(2, len(x)) @ head(m.conv(x))),
        ("matmul", "keep it first"),
    ),
    "written into no block": (
        lambda: forward(lambda m, x: written(m.conv(x))), ("setitem", "no block", "torch.cat")
    ),
    "number in Python": (
        lambda: forward(lambda m, x: m.conv(x).relu() * x.max().item()),
        ("cannot be traced", "numbers computed from the images (item)", "x.max().item()"),
    ),
    "change of dtype": (
        lambda: forward(lambda m, x: m.conv(x).relu().double()), ("double", "keep one dtype")
    ),
    "unknown argument": (
        lambda: forward(lambda m, x: torch.div(m.conv(x).relu(), 2, rounding_mode="floor")),
        ("div", "called in a way that does not convert"),
    ),
    "embedding": (lambda: small(nn.Flatten(), nn.EmbeddingBag(9, 2)), ("calibration images",)),
}  # fmt: skip


@torch.jit.script
def doubled(x: Tensor) -> Tensor:
    return 2 * x


def written(h: Tensor) -> Tensor:
    wide = torch.zeros(len(h), 8, 8, 8)
    wide[:, ::2] = h
    return wide.relu()


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_that_does_not_convert(name: str) -> None:
    make, words = OPERATIONS[name]
    message = refusal(lambda: snn.convert(make(), IMAGES))
    for word in words:
        assert word in message, message


def test_offenders_are_records() -> None:
    model = small(nn.Sequential(nn.GELU(), nn.Tanh(), nn.GELU()))
    with pytest.raises(ConversionError) as caught:
        snn.convert(model, IMAGES)
    gelu, tanh = caught.value.problems
    assert (gelu.layers, gelu.operation) == (("2.0", "2.2"), "nn.GELU")
    assert (tanh.layers, tanh.operation) == (("2.1",), "nn.Tanh")
    assert all(str(problem) in str(caught.value) for problem in caught.value.problems)
    assert "spike count is a ReLU" in gelu.reason


def test_an_operation_that_is_called_again_is_named_once() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.silu(self.second(nn.functional.silu(self.first(x))))

    with pytest.raises(snn.ConversionError, match="2 operations") as caught:
        snn.convert(Twice().eval(), torch.rand(3, 4))
    assert "  silu ×2 (F.silu): " in str(caught.value)
    assert caught.value.problems[0].layers == ("silu", "silu")


def test_offenders_without_influence_on_the_output_do_not_matter() -> None:
    def function(m: nn.Module, x: Tensor) -> Tensor:
        h = m.conv(x)
        m.penalty = torch.log(F.softplus(h)).mean() + (h**2).sum()
        m.seen, m.text = h.topk(3, 1), f"{h.mean()}"
        return h.relu()

    assert snn.convert(forward(function), IMAGES).graph.spiking == ["relu"]


def test_images_without_a_channel_axis() -> None:
    gray = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()).eval()
    pooled = nn.Sequential(nn.MaxPool2d(2), nn.ReLU()).eval()
    for model, place in ((gray, "0 (nn.Conv2d)"), (pooled, "0 (nn.MaxPool2d)")):
        message = refusal(lambda model=model: snn.convert(model, torch.rand(20, 28, 28)))
        for words in (place, "sees (B, 28, 28)", "images.unsqueeze(1)"):
            assert words in message
        assert "11" not in message  # images in the trace: none of the user's numbers


def test_all_offenders_are_listed_at_once() -> None:
    model = forward(
        lambda m, x: m.block(F.gelu(m.norm(m.conv(x))).relu()),
        norm=nn.LayerNorm(8),
        block=nn.Sequential(nn.GELU(), nn.Tanh(), nn.GELU()),
    )
    message = refusal(lambda: snn.convert(model, IMAGES))
    assert "Net cannot be converted, 5 operations in the way" in message
    for words in ("norm (nn.LayerNorm)", "gelu (F.gelu)", "block.0, block.2 (nn.GELU)", "block.1 "):
        assert words in message


# the form of the model


def choose(m: nn.Module, x: Tensor) -> Tensor:
    return m.conv(x).relu() if x.sum() > 0 else m.conv(-x).relu()


FORMS: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "not a module": (lambda: F.relu, ("torch.nn.Module, not function",)),
    "training": (lambda: small().train(), ("Sequential is in training mode", "model.eval()",
        "load its weights again")),
    "part in training": (
        lambda: partly(small(nn.Dropout())), ("2 of Sequential is in training mode", "eval()")
    ),
    "no relu": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3)).eval(), ("no ReLU", "train it with nn.ReLU")
    ),
    "no layer": (lambda: nn.Sequential().eval(), ("no ReLU",)),
    "control flow": (
        lambda: forward(choose),
        ("cannot be traced", "test_errors.py", "if x.sum() > 0", "decided in __init__"),
    ),
    "control flow and more": (
        lambda: forward(choose, act=nn.GELU()), ("Control flow", "act (nn.GELU)")
    ),
    "two inputs": (lambda: TwoInputs().eval(), ("2 inputs (x, y)", "one input, the images")),
    "no input": (lambda: NoInput().eval(), ("NoInput fails", "takes 1 positional argument")),
    "tuple": (
        lambda: forward(lambda m, x: (m.conv(x).relu(), x)), ("returns tuple", "logits only")
    ),
    "dictionary": (
        lambda: forward(lambda m, x: {"out": m.conv(x).relu()}), ("returns dict", "logits")
    ),
    "constant": (lambda: forward(lambda m, x: m.conv.weight), ("returns a constant",)),
    "no classes": (
        lambda: forward(lambda m, x: head(m.conv(x)).sum(1)), ("shape (B,)", "(B, classes)")
    ),
    "scripted": (lambda: scripted(), ("model (torch.jit.ScriptModule)", "it was made from")),
    "scripted part": (lambda: small(scripted()), ("2 (torch.jit.ScriptModule)", "TorchScript")),
    "scripted function": (
        lambda: forward(lambda m, x: m.conv(doubled(x)).relu()),
        ("forward (test_errors.Net)", "out of sight", "Python function"),
    ),
    "quantized part": (
        lambda: small(quantized()), ("2.0 (torch.ao.nn.quantized", "whole-number weights already")
    ),
    "raises": (
        lambda: forward(raising), ("fails on", "want 1 channel (test_errors.py", "raise ValueError")
    ),
    "lazy": (lambda: nn.Sequential(nn.LazyLinear(3), nn.ReLU()).eval(), ("0.weight", "lazy model")),
    "NaN weight": (lambda: spoiled(float("nan")), ("0.weight holds NaN", "earlier checkpoint")),
    "infinite weight": (lambda: spoiled(float("inf")), ("0.weight holds NaN or infinite",)),
    "NaN logits": (
        lambda: forward(lambda m, x: m.conv(x).relu() * 3e38 * 3e38),
        ("NaN or infinite logits", "scaled"),
    ),
    "hidden from the trace": (
        lambda: forward(behind), ("does not compute what Net computes", "through a view of it")
    ),
    "double": (
        lambda: small().double(), ("calibration is torch.float32, 0.weight is torch.float64",)
    ),
    "device": (lambda: small().to("meta"), ("calibration is cpu, 0.weight is meta",)),
    "channels": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()).eval(),
        ("fails on calibration images of shape (B, 3, 8, 8) at 0 (nn.Conv2d)", "expected input"),
    ),
    "size": (
        lambda: small(nn.Flatten(), nn.Linear(10, 2)),
        ("at 3 (nn.Linear)", "shape that the model takes"),
    ),
}  # fmt: skip


class TwoInputs(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x + y).relu()


class NoInput(nn.Module):
    def forward(self) -> Tensor:
        return torch.ones(1, 1).relu()


def partly(model: nn.Module) -> nn.Module:
    model[2].train()  # type: ignore[index]
    return model


def spoiled(value: float) -> nn.Module:
    model = small()
    with torch.no_grad():
        next(model.parameters())[0] = value
    return model


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(small())


def quantized() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layers = nn.Sequential(nn.Linear(8, 8))
        return torch.ao.quantization.quantize_dynamic(layers).eval()  # type: ignore[no-any-return]


def raising(m: nn.Module, x: Tensor) -> Tensor:
    if x.shape[1] != 1:
        raise ValueError("want 1 channel")
    return x


def behind(m: nn.Module, x: Tensor) -> Tensor:
    h = m.conv(x)
    h.view(len(h), -1).mul_(2)
    return h.relu()


@pytest.mark.parametrize("name", FORMS)
def test_model_of_the_wrong_form(name: str) -> None:
    make, words = FORMS[name]
    message = refusal(lambda: snn.convert(make(), IMAGES))
    for word in words:
        assert word in message, message


# calibration

CALIBRATION: dict[str, tuple[Any, tuple[str, ...]]] = {
    "bytes": ((IMAGES * 255).byte(), ("torch.uint8", "to_float")),
    "array": (IMAGES.numpy(), ("ndarray", "floating-point images")),
    "text": ("mnist", ("calibration is str",)),
    "sparse": (IMAGES.to_sparse(), ("torch.sparse_coo", ".to_dense()")),
    "eight bits": (IMAGES.to(torch.float8_e4m3fn), ("torch.float8_e4m3fn", "floating-point")),
    "complex": (IMAGES.to(torch.complex64), ("torch.complex64",)),
    "loader of bytes": ([(IMAGES * 255).byte()], ("torch.uint8", "to_float")),
    "loader of texts": (["a", "b"], ("calibration gives str", "tensors of images")),
    "loader of nothing": ([], ("gives no images",)),
    "loader of two sizes": ([IMAGES, IMAGES[:, :, 1:]], ("(6, 3, 8, 8) and (6, 3, 7, 8)",)),
    "nothing": (None, ("NoneType",)),
    "no image": (IMAGES[:0], ("shape (0, 3, 8, 8)", "N ≥ 1")),
    "no batch": (IMAGES[0, 0, 0], ("shape (8,)", "a batch (N, ...)")),
    "one image without batch": (
        IMAGES[0],
        ("0 (nn.Conv2d)", "sees (B, 8, 8)", "images.unsqueeze(0)"),
    ),
    "NaN": (IMAGES / 0 * 0, ("hold NaN or infinite",)),
    "infinite": (IMAGES / 0, ("hold NaN or infinite",)),
    "half": (IMAGES.half(), ("torch.float16", "0.weight is torch.float32")),
    "device": (IMAGES.to("meta"), ("calibration is on meta",)),
}


@pytest.mark.parametrize("name", CALIBRATION)
def test_calibration_that_does_not_fit(name: str) -> None:
    images, words = CALIBRATION[name]
    message = refusal(lambda: snn.convert(small(), images))
    for word in words:
        assert word in message, message


# parameters of neurons, balances and calls

PARAMETERS: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "IF v0": (lambda: snn.IF(v0=1.5), ("IF: v0=1.5", "of at least 0 and at most 1")),
    "IF NaN": (lambda: snn.IF(v0=float("nan")), ("v0=nan",)),
    "IF reset": (lambda: snn.IF(reset="hard"), ("reset='hard'", '"subtract" or "zero"')),
    "Ternary negative": (lambda: snn.Ternary(negative=-0.1), ("Ternary: negative=-0.1",)),
    "Ternary v0": (lambda: snn.Ternary(v0="half"), ("v0='half'",)),  # type: ignore[arg-type]
    "levels 0": (lambda: snn.Augmented(levels=0), ("levels=0", "whole number from 1 to")),
    "levels 2.5": (lambda: snn.Augmented(levels=2.5), ("levels=2.5",)),  # type: ignore[arg-type]
    "levels True": (lambda: snn.Augmented(levels=True), ("levels=True",)),
    "cap 0": (lambda: snn.Augmented(cap=0), ("cap=0",)),
    "negative 2": (lambda: snn.Augmented(negative=2), ("negative=2",)),
    "percentile 0": (lambda: snn.Percentile(0), ("q=0", "above 0 and at most 100")),
    "percentile 101": (lambda: snn.Percentile(101), ("q=101",)),
    "percentile NaN": (lambda: snn.Percentile(float("nan")), ("q=nan",)),
    "percentile True": (lambda: snn.Percentile(True), ("q=True",)),
    "MinError": (lambda: snn.MinError(levels=0), ("MinError: levels=0", "from 1")),
    "neuron class": (
        lambda: snn.convert(small(), IMAGES, neuron=snn.IF),
        ("neuron=", "snnlib.Augmented(levels=4)"),
    ),
    "balance class": (
        lambda: snn.convert(small(), IMAGES, balance=snn.Max),
        ("balance=", "snnlib.Percentile(99.9)"),
    ),
    "balance number": (lambda: snn.convert(small(), IMAGES, balance=99.9), ("balance=99.9",)),
    "batch": (lambda: snn.convert(small(), IMAGES, batch=0), ("batch=0", "at least 1")),
    "batch in letters": (lambda: snn.convert(small(), IMAGES, batch="a"), ("batch='a'",)),
    "per_channel": (
        lambda: snn.convert(small(), IMAGES, per_channel="no"),
        ("per_channel='no'", "True or False"),
    ),
    "calibrate_bias": (
        lambda: snn.convert(small(), IMAGES, calibrate_bias=1), ("calibrate_bias=1",)
    ),
    "calibration steps": (
        lambda: snn.convert(small(), IMAGES, calibrate_bias=True, calibration_steps=0),
        ("calibration_steps=0",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_out_of_range(name: str) -> None:
    call, words = PARAMETERS[name]
    message = refusal(call, ValueError)
    for word in words:
        assert word in message, message


@pytest.fixture(scope="module")
def net() -> Any:
    torch.manual_seed(0)
    return snn.convert(small(nn.AdaptiveAvgPool2d(1), nn.Flatten()), IMAGES)


CALLS: dict[str, tuple[Callable[[Any], Any], tuple[str, ...]]] = {
    "steps 0": (lambda n: n(IMAGES, steps=0), ("steps=0", "at least 1")),
    "steps 2.0": (lambda n: n(IMAGES, steps=2.0), ("steps=2.0",)),
    "steps True": (lambda n: n(IMAGES, steps=True), ("steps=True",)),
    "batch 0": (lambda n: n(IMAGES, steps=2, batch=0), ("batch=0",)),
    "record": (lambda n: n(IMAGES, steps=2, record=("relu1",)), ("relu1", "there are: 1")),
    "record and last": (
        lambda n: n(IMAGES, steps=2, record=("1",), only_last=True), ("only_last=True",)
    ),
    "memory": (lambda n: n(IMAGES, steps=2, memory="lots"), ("memory='lots'", "512MB")),
    "little memory": (lambda n: n(IMAGES, steps=2, memory="1KB"), ("memory='1KB'", "raise it")),
    "frames": (lambda n: n(IMAGES[None], steps=2, coding=snn.Frames()), ("1 frames", "steps=2")),
    "Bernoulli": (
        lambda n: n(IMAGES * 2, steps=2, coding=snn.Bernoulli()), ("[0, 1]", "Constant()")
    ),
    "confidence 0": (lambda n: n.decide(IMAGES, 0, 4), ("confidence=0",)),
    "confidence 2": (lambda n: n.decide(IMAGES, 2.0, 4), ("confidence=2.0", "at most 1")),
    "max_steps": (lambda n: n.decide(IMAGES, 0.9, 0), ("max_steps=0",)),
    "decide Bernoulli": (
        lambda n: n.decide(IMAGES, 0.9, 4, coding=snn.Bernoulli()), ("coding=Constant()",)
    ),
    "first_confident": (
        lambda n: n(IMAGES, steps=3, only_last=True).first_confident(0.9), ("without only_last",)
    ),
    "labels": (lambda n: n(IMAGES, steps=2).accuracy(torch.zeros(2)), ("labels", "6 images")),
    "verify steps": (lambda n: n.verify(IMAGES, steps=0), ("steps=0",)),
    "verify batch": (lambda n: n.verify(IMAGES, batch=0), ("batch=0",)),
    "summary": (lambda n: n.summary(width=20), ("width=20", "80 columns")),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_call_with_wrong_arguments(name: str, net: Any) -> None:
    call, words = CALLS[name]
    message = refusal(lambda: call(net), ValueError)
    for word in words:
        assert word in message, message


@pytest.mark.parametrize("use", ["call", "decide", "verify", "ann"])
@pytest.mark.parametrize(
    ("images", "words"),
    [
        (IMAGES[:, :1], ("(6, 1, 8, 8)", "takes (B, 3, 8, 8)", "convert it again")),
        (IMAGES[:0], ("B ≥ 1",)),
        (IMAGES.numpy(), ("must be a torch.Tensor, not ndarray",)),
        (IMAGES.byte(), ("torch.uint8", "to_float")),
        (IMAGES / 0, ("NaN or infinite",)),
        (IMAGES.to("meta"), ("images are on meta, the network on cpu",)),
    ],
)
def test_images_that_do_not_fit(use: str, images: Any, words: tuple[str, ...], net: Any) -> None:
    calls = {
        "call": lambda: net(images, steps=2), "decide": lambda: net.decide(images, 0.9, 2),
        "verify": lambda: net.verify(images), "ann": lambda: net.ann(images),
    }  # fmt: skip
    message = refusal(calls[use])
    for word in words:
        assert word in message, message


# dead layers


def test_dead_layer_is_named_and_gets_a_threshold() -> None:
    model = small(nn.Conv2d(4, 2, 1), nn.ReLU())
    with torch.no_grad():
        model[2].bias.fill_(-100.0)  # type: ignore[index, union-attr, operator]
    with pytest.warns(UserWarning, match="layer 3 never fires on the 6 calibration images"):
        net = snn.convert(model, IMAGES, neuron=snn.Augmented(levels=2))
    assert float(net.balanced["3"]) == 1.0
    assert net(IMAGES, steps=4).layers[1].events == 0


def test_dead_channel_gets_the_threshold_of_its_layer() -> None:
    model = small()
    with torch.no_grad():
        model[0].bias[1] = -100.0  # type: ignore[index, union-attr, operator]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        balanced = snn.convert(model, IMAGES, per_channel=True).balanced["1"].flatten()
    layer = snn.convert(model, IMAGES).balanced["1"]
    assert float(balanced[1]) == float(layer)
    assert len(balanced.unique()) == 4


def test_layer_too_sparse_for_its_percentile_gets_its_largest_activation() -> None:
    model = small()
    with torch.no_grad():
        model[0].bias.fill_(-0.3)  # type: ignore[index, union-attr, operator]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = snn.convert(model, IMAGES, balance=snn.Percentile(2)).balanced["1"]
    assert float(found) == float(snn.convert(model, IMAGES, balance=snn.Max()).balanced["1"]) > 0
