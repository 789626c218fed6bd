"""Networks and images of strangers: what once came out wrong, or ended in a bare error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset

import snnlib as snn
from snnlib.conversion.calibrate import calibrate_bias
from snnlib.conversion.trace import trace
from snnlib.graph.errors import ConversionError

X = torch.rand(20, 6, generator=torch.Generator().manual_seed(0))


class Dense(nn.Module):
    """Two linear layers and a batch norm; ``forward`` is what the test says."""

    def __init__(self, function: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.function = function
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)
            self.norm = nn.BatchNorm1d(8)
            self.norm.running_mean.uniform_(-1, 1)
            self.norm.running_var.uniform_(0.5, 2)
            nn.init.uniform_(self.norm.weight, 0.5, 2)
            nn.init.uniform_(self.norm.bias, -1, 1)
        self.eval()

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def agrees(model: nn.Module, calibration: Tensor = X, x: Tensor | None = None) -> None:
    """The converted network's ANN is the model, on other images than it was converted with."""
    net = snn.convert(model, calibration)
    x = 2 * calibration.flip(0) - 0.5 if x is None else x
    with torch.no_grad():
        torch.testing.assert_close(net.ann(x), model(x), rtol=1e-4, atol=1e-5)


class Part(Dataset[Any]):
    """The first images of a larger tensor, by length alone."""

    def __init__(self, images: Tensor, length: int) -> None:
        self.images, self.length = images, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int) -> Any:
        return self.images[i], 0


class Stream(IterableDataset[Any]):
    """Images one by one, with a length."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.images)


def test_a_data_set_ends_where_its_length_says() -> None:
    images = torch.rand(50, 6)
    model = nn.Sequential(nn.Linear(6, 3), nn.ReLU()).eval()
    for source in (Part(images, 10), Stream(images[:10]), Part(images[:10], 99)):
        assert snn.convert(model, source).report["images"] == 10
    net = snn.convert(model, Part(images, 10), balance=snn.Max())
    assert net.balanced["1"] == snn.convert(model, images[:10], balance=snn.Max()).balanced["1"]


@pytest.mark.parametrize(
    "calibration",
    [X[:1], X[:1].expand(10, 6), torch.zeros(3, 6), torch.full((3, 6), 0.4)],
)
def test_images_that_are_all_equal_hide_nothing(calibration: Tensor) -> None:
    def padded(m: Any, x: Tensor) -> Any:
        wide = torch.zeros(len(x), 8)
        wide[:, :6].copy_(x)  # through a view, which the tracer does not see
        return m.b(F.relu(m.a(x)) + wide)

    with pytest.raises(ConversionError):
        snn.convert(Dense(padded), calibration)
    agrees(Dense(lambda m, x: m.b(F.relu(m.a(x)))), calibration, X)


@pytest.mark.parametrize("balance", [snn.Max(), snn.Percentile(99.0), snn.MinError()])
def test_a_late_image_on_which_the_network_overflows_is_refused(balance: Any) -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    with torch.no_grad():
        model[0].weight.fill_(4.0)
        model[1].weight.copy_(torch.tensor([1.0, -1.0] * 4).repeat(8, 1))
    images = X.half()
    images[15] = 30000.0  # inf - inf in the second layer
    with pytest.raises(ConversionError, match="NaN or infinite logits"):
        snn.convert(model.half(), images, balance=balance)


def test_a_question_about_numbers_is_not_forgotten_when_the_model_catches_it() -> None:
    def choosing(m: Any, x: Tensor) -> Any:
        try:
            negative = bool(x.max() > 2)
        except Exception:
            negative = False
        return m.b(F.relu(m.a(-x if negative else x)))

    with pytest.raises(ConversionError, match="asks for numbers computed from the images"):
        snn.convert(Dense(choosing), X)


def undone(m: Any, x: Tensor) -> Any:
    y = m.a(x)
    return m.b(F.relu(y) + F.relu(((y - 1) + 1) * 3))


def test_nothing_is_folded_into_a_layer_that_is_read_past_what_cancels() -> None:
    agrees(Dense(undone))
    graph = trace(Dense(undone), X)
    torch.testing.assert_close(graph.evaluate(X), Dense(undone)(X))


MASK = torch.arange(8) < 4
FORMS: dict[str, Callable[[Any, Tensor], Any]] = {
    "where of a constant": lambda m, x: m.b(
        torch.zeros(len(x), 8).where(MASK, F.relu(m.a(x)))
    ),
    "where of an activation": lambda m, x: m.b(F.relu(m.a(x)).where(MASK, 0.0)),
    "torch.batch_norm": lambda m, x: m.b(F.relu(torch.batch_norm(
        m.a(x), m.norm.weight, m.norm.bias, m.norm.running_mean, m.norm.running_var,
        False, 0.1, 1e-5, False,
    ))),
    "written onto a constant": lambda m, x: m.b(onto(x) + F.relu(m.a(x))),
    "one half added to the other": lambda m, x: m.b(halves(F.relu(m.a(x)))),
    "mean over axis": lambda m, x: m.b(F.relu(m.a(x)).unsqueeze(2).mean(axis=2)),
}  # fmt: skip


def onto(x: Tensor) -> Tensor:
    y = torch.zeros(len(x), 8)
    y[:, 1:7] += F.relu(x)
    return y


def halves(h: Tensor) -> Tensor:
    a, b = h.chunk(2, 1)
    a += b
    return torch.cat([a, b], 1)


@pytest.mark.parametrize("form", FORMS)
def test_forms_that_were_misread(form: str) -> None:
    agrees(Dense(FORMS[form]))


def test_halves_that_overlap_are_still_refused() -> None:
    def overlapping(h: Tensor) -> Tensor:
        a, b = h[:, :5], h[:, 3:8]
        a += b
        return torch.cat([a, b], 1)

    model = Dense(lambda m, x: overlapping(F.relu(m.a(x)))[:, :3])
    with pytest.raises(ConversionError, match="not its result"):
        snn.convert(model, X)


class Heads(nn.Module):
    """A weight a head, for one input: ``x.unsqueeze(1) @ w``."""

    def __init__(self, product: Callable[[Tensor, Tensor], Tensor], *shape: int) -> None:
        super().__init__()
        self.product = product
        self.w = nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
        self.o = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Any:
        y = F.relu(self.product(x, self.w))
        return self.o(y.flatten(1, -2).mean(1))


PRODUCTS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], tuple[int, ...]]] = {
    "x @ w": (lambda x, w: x.unsqueeze(1) @ w, (3, 6, 5)),
    "w @ x": (lambda x, w: (w @ x.unsqueeze(1).mT).mT, (3, 5, 6)),
    "two axes": (lambda x, w: x[:, None, None] @ w, (2, 3, 6, 5)),
    "in out": (lambda x, w: torch.einsum("bhtc,hcd->bhtd", x.unsqueeze(1), w), (3, 6, 5)),
    "summed": (lambda x, w: torch.einsum("bhtc,hcd->btd", x.unsqueeze(1), w), (3, 6, 5)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_an_activation_is_broadcast_over_the_axes_of_a_weight(name: str) -> None:
    product, shape = PRODUCTS[name]
    images = torch.rand(9, 4, 6, generator=torch.Generator().manual_seed(1))
    agrees(Heads(product, *shape).eval(), images)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("way", ["traced", "scripted", "frozen"])
def test_torchscript_is_refused_however_it_was_made(way: str) -> None:
    model: Any = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    model = torch.jit.trace(model, X) if way == "traced" else torch.jit.script(model)
    model = torch.jit.freeze(model) if way == "frozen" else model
    with pytest.raises(ConversionError, match=r"TorchScript: put the nn\.Module"):
        snn.convert(model, X)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_part_called_model_does_not_hide_another() -> None:
    part = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
    both: Any = nn.ModuleDict({"model": torch.jit.script(part), "other": torch.jit.script(part)})
    model = Dense(lambda m, x: m.a(m.parts["other"](m.parts["model"](x))))
    model.parts = both.eval()
    with pytest.raises(ConversionError, match=r"parts\.model, parts\.other|2 operations"):
        snn.convert(model, X)
    outer = nn.Sequential()
    outer.add_module("model", torch.jit.script(part))
    outer.add_module("other", torch.jit.script(part))
    with pytest.raises(ConversionError, match="2 operations in the way"):
        snn.convert(outer.eval(), X)


def test_a_model_that_casts_is_verified_in_its_own_dtype() -> None:
    net = snn.convert(Dense(lambda m, x: m.b(F.relu(m.a(x.float())))), X)
    assert net.verify(X, steps=2).graph_error < 1e-5
    with pytest.raises(ConversionError, match=r"fails on a batch of 20 images of torch\.float64"):
        net.double().verify(X.double(), steps=2)


def test_a_model_that_counts_its_calls_can_be_verified() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.h = Dense(lambda m, x: F.relu(m.a(x))), None

        def forward(self, x: Tensor) -> Any:
            if self.h is None:
                self.h = torch.zeros(len(x), 8)
            return self.net(x) + self.h

    net = snn.convert(Counting().eval(), X)
    assert net.verify(X[:5], steps=2).graph_error < 1e-5


def test_whole_numbers_have_no_biases_to_calibrate() -> None:
    net = snn.convert(Dense(lambda m, x: m.b(F.relu(m.a(x)))), X, snn.IF())
    with pytest.raises(ConversionError, match=r"net\.source"):
        calibrate_bias(net.quantize(), X, 4)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "calibration",
    [
        [torch.rand(2, 6), torch.rand(2, 6).to("meta")],
        [torch.rand(2, 6).to_sparse(), torch.rand(2, 6).to_sparse()],
    ],
)
def test_images_that_are_no_plain_tensors_are_refused(calibration: Any) -> None:
    with pytest.raises(ConversionError, match=r"calibration (is|gives)"):
        snn.convert(Dense(lambda m, x: m.b(F.relu(m.a(x)))), calibration)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_limit_is_the_same_in_every_dtype(dtype: torch.dtype) -> None:
    def above(m: Any, x: Tensor) -> Any:
        y = m.a(x)
        return m.b(torch.where(y > 0.1, y, torch.full_like(y, 0.1)))

    snn.convert(Dense(above).to(dtype), X.to(dtype))


def test_logits_that_are_all_zero_in_float16() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3, bias=False)).eval()
    with torch.no_grad():
        model[0].bias.fill_(-100.0)
    with pytest.warns(UserWarning, match="never fires"):
        snn.convert(model.half(), X.half())


def test_equal_pixels_hide_nothing_either() -> None:
    def bordered(m: Any, x: Tensor) -> Any:
        wide = torch.zeros(len(x), 8)
        wide[:, :3].copy_(x[:, :3])
        return m.b(F.relu(m.a(x)) + wide)

    dark = X.clone()
    dark[:8, :3] = 0
    with pytest.raises(ConversionError):
        snn.convert(Dense(bordered), dark)


@pytest.mark.parametrize("zero", [torch.tensor(0), torch.tensor(1)])
def test_whole_numbers_do_not_round_a_limit(zero: Tensor) -> None:
    with pytest.raises(ConversionError, match="a choice that depends on the images"):
        snn.convert(Dense(lambda m, x: m.b(torch.where((y := m.a(x)) > 0.5, y, zero))), X)
    agrees(Dense(lambda m, x: m.b(torch.where((y := m.a(x)) > 0, y, torch.tensor(0)))))


def test_masks_of_minus_infinity_are_refused_by_name() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Any:
            hidden = torch.zeros(6, 6, dtype=torch.bool)
            hidden[2:] = True
            h = F.relu(self.conv(x)).masked_fill(hidden, float("-inf"))
            return self.fc(h.amax((2, 3)))

    with pytest.raises(ConversionError, match="a number that is not finite: fill masks"):
        snn.convert(Masked().eval(), torch.rand(6, 1, 8, 8))


def test_a_model_may_reach_into_its_wrapper() -> None:
    model = Dense(lambda m, x: m.b(F.relu(m.net.module(x))))
    model.net = nn.DataParallel(nn.Linear(6, 8)).eval()
    agrees(model)
    compiled: Any = torch.compile(nn.Linear(6, 8))
    model = Dense(lambda m, x: m.b(F.relu(m.net._orig_mod(x))))
    model.net = compiled.eval()
    agrees(model)
