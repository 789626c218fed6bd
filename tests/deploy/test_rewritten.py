"""What rewrites or writes a network takes every graph that `convert` accepts, or names what it
cannot: never a traceback, never another network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnlib as snn


def conv(inputs: int, outputs: int, size: int = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, **options)


class Model(nn.Module):
    """Layers by name and a forward that uses them."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self._forward = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(self, x)


def head(m: Any, x: Tensor) -> Tensor:
    return m.fc(x.flatten(1))


def option_a(m: Any, x: Tensor) -> Tensor:
    """The shortcut of ResNet-20 on CIFAR-10: every other pixel, new channels of zeros."""
    x = F.relu(m.a(x))
    short = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 3))
    return head(m, F.relu(m.b(x) + short))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: nn.Sequential(
        conv(1, 4), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 3)
    ),
    "option A": lambda: Model(option_a, a=conv(1, 4), b=conv(4, 8, stride=2), fc=nn.Linear(128, 3)),
    "residual": lambda: Model(
        lambda m, x: head(m, F.relu(m.b(y := F.relu(m.a(x))) + y)),
        a=conv(1, 4), b=conv(4, 4), fc=nn.Linear(256, 3),
    ),
    "residual with a projection": lambda: Model(
        lambda m, x: head(m, F.relu(m.b(y := F.relu(m.a(x))) + m.c(y))),
        a=conv(1, 4), b=conv(4, 6), c=conv(4, 6, 1), fc=nn.Linear(384, 3),
    ),
    "difference": lambda: Model(
        lambda m, x: head(m, F.relu(2 * m.b(y := F.relu(m.a(x))) - 0.5 * y)),
        a=conv(1, 4), b=conv(4, 4), fc=nn.Linear(256, 3),
    ),
    "max pooling": lambda: nn.Sequential(
        conv(1, 4), nn.ReLU(), nn.MaxPool2d(2), conv(4, 5), nn.ReLU(), nn.Flatten(),
        nn.Linear(80, 3),
    ),
    "largest of the channels": lambda: Model(
        lambda m, x: head(m, F.relu(m.a(x)).amax(1)), a=conv(1, 4), fc=nn.Linear(64, 3)
    ),
    "largest of negatives": lambda: Model(
        lambda m, x: head(m, F.relu(m.b(-F.max_pool2d(-F.relu(m.a(x)), 2)))),
        a=conv(1, 4), b=conv(4, 4), fc=nn.Linear(64, 3),
    ),
    "concatenation": lambda: Model(
        lambda m, x: head(m, F.relu(m.b(torch.cat([y := F.relu(m.a(x)), x], 1))) + y.mean(1, True)),
        a=conv(1, 4), b=conv(5, 4), fc=nn.Linear(256, 3),
    ),
    "batch norm before a convolution": lambda: nn.Sequential(
        conv(1, 4), nn.ReLU(), nn.BatchNorm2d(4), conv(4, 4), nn.ReLU(), nn.Flatten(),
        nn.Linear(256, 3),
    ),
    "padding with ones": lambda: Model(
        lambda m, x: head(m, F.relu(m.b(F.pad(F.relu(m.a(x)), (1, 0, 0, 1), value=1.0)))),
        a=conv(1, 4), b=conv(4, 2), fc=nn.Linear(162, 3),
    ),
    "mirrored padding": lambda: nn.Sequential(
        conv(1, 4, padding_mode="reflect"), nn.ReLU(), conv(4, 2, padding_mode="circular"),
        nn.ReLU(), nn.Flatten(), nn.Linear(128, 3),
    ),
    "upsampling": lambda: nn.Sequential(
        conv(1, 4, stride=2), nn.ReLU(), nn.Upsample(scale_factor=2), conv(4, 2), nn.ReLU(),
        nn.Flatten(), nn.Linear(128, 3),
    ),
    "transposed convolution": lambda: nn.Sequential(
        conv(1, 4, stride=2), nn.ReLU(), nn.ConvTranspose2d(4, 3, 2, 2), nn.ReLU(), nn.Flatten(),
        nn.Linear(192, 3),
    ),
    "grouped convolutions": lambda: nn.Sequential(
        conv(1, 4), nn.ReLU(), conv(4, 8, groups=4), nn.ReLU(), nn.ChannelShuffle(2),
        conv(8, 4, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(256, 3),
    ),
    "parts and orders": lambda: Model(
        lambda m, x: head(m, F.relu(m.b(F.relu(m.a(x)).chunk(2, 1)[1].transpose(2, 3)))),
        a=conv(1, 4), b=conv(2, 3), fc=nn.Linear(192, 3),
    ),
    "uneven averages": lambda: nn.Sequential(
        conv(1, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, 3)
    ),
    "sums over places": lambda: Model(
        lambda m, x: m.fc(F.relu(m.a(x)).sum((2, 3))), a=conv(1, 4), fc=nn.Linear(4, 3)
    ),
    "bounded": lambda: nn.Sequential(
        conv(1, 4), nn.ReLU6(), conv(4, 4), nn.Hardtanh(0, 1), nn.Flatten(), nn.Linear(256, 3)
    ),
    "a scale for every place": lambda: Model(
        lambda m, x: head(m, F.relu(m.a(x)) * torch.linspace(0.5, 1, 64).reshape(8, 8)),
        a=conv(1, 4), fc=nn.Linear(256, 3),
    ),
    "one dimension": lambda: Model(
        lambda m, x: head(m, F.avg_pool1d(F.relu(m.a(x.flatten(2))), 2)),
        a=nn.Conv1d(1, 4, 3, padding=1), fc=nn.Linear(128, 3),
    ),
    "tokens": lambda: Model(
        lambda m, x: m.fc(F.relu(m.a(x.flatten(1, 2))).mean(1)),
        a=nn.Linear(8, 6), fc=nn.Linear(6, 3),
    ),
}  # fmt: skip
X = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(8))


def converted(name: str, per_channel: bool = False, neuron: Any = None) -> Any:
    torch.manual_seed(1)
    model = MODELS[name]()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.4)
            module.running_var.uniform_(0.3, 2.0)
    model = model.double().eval()
    neuron = neuron or snn.Augmented(levels=4)
    return snn.convert(
        model, X.double(), neuron, balance=snn.Percentile(99.0), per_channel=per_channel
    )


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_unit_thresholds_give_the_same_counts(name: str, per_channel: bool) -> None:
    net = converted(name, per_channel)
    if per_channel and name == "bounded":
        with pytest.raises(snn.ConversionError, match="one threshold a channel"):
            net.normalized()
        return
    unit = net.normalized()
    assert all(bool((theta == 1).all()) for theta in unit.thresholds.values())
    run, other = net(X.double(), 5), unit(X.double(), 5)
    # A division by θ in another order can tip a neuron that lies on its threshold: none does here.
    assert torch.equal(other.events, run.events)
    torch.testing.assert_close(other.logits, run.logits, rtol=1e-9, atol=1e-10)


NOT_WHOLE = {  # networks without a whole-number form, and why
    "largest of negatives": "negative unit",
    "largest of the channels": "joins values of different units",
    "concatenation": "joins values of different units",
    "padding with ones": "pads channels of different units",
    "uneven averages": "windows of different size",
    "one dimension": "two-dimensional average",
    "tokens": "more than vectors",
}
NOT_WHOLE_A_CHANNEL = {"bounded": "a threshold a channel"}


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_whole_numbers_come_close_or_are_refused_by_name(name: str, per_channel: bool) -> None:
    net = converted(name, per_channel)
    reasons = NOT_WHOLE | (NOT_WHOLE_A_CHANNEL if per_channel else {})
    if name in reasons:
        with pytest.raises(snn.ConversionError, match=rf"cannot be quantized: .*{reasons[name]}"):
            net.quantize(weight_bits=14)
        return
    fine = net.quantize(weight_bits=14)
    x = (X * 255).round() / 255
    exact, found = net(x.double(), 48).logits[-1], fine(x, 48).logits[-1]
    error = (exact - found).square().mean().sqrt() / exact.square().mean().sqrt()
    assert float(error) < 0.1
    rough = net.quantize()
    assert torch.equal(rough(x, 7).logits, rough(x, 7, batch=1).logits)


NO_NIR = {  # networks without a NIR form, and why
    "option A": "pads with zeros inside a convolution only",
    "max pooling": "no maximum",
    "largest of the channels": "no maximum",
    "largest of negatives": "no maximum",
    "concatenation": "no concatenation",
    "padding with ones": "pads with zeros",
    "mirrored padding": "pads with zeros",
    "upsampling": "no upsampling",
    "transposed convolution": "no transposed convolution",
    "grouped convolutions": "cannot reorder",
    "parts and orders": "take a part",
    "uneven averages": "window",
    "sums over places": "no sum",
    "bounded": "no bounded neuron",
    "one dimension": "two dimensions",
    "tokens": "takes vectors",
}


@pytest.mark.parametrize("name", MODELS)
def test_nir_files_are_written_or_refused_by_name(name: str, tmp_path: Path) -> None:
    library = pytest.importorskip("nir")
    net = converted(name, neuron=snn.IF(v0=0.0, reset="zero"))
    path = tmp_path / "net.nir"
    if name in NO_NIR:
        with pytest.raises(snn.ConversionError, match=rf"no NIR form:\n(?s:.*){NO_NIR[name]}"):
            net.to_nir(path)
        assert not path.exists()
        return
    net.to_nir(path)
    graph = library.read(path)
    assert len(graph.nodes) >= len(net.graph.spiking) + 2


def test_groups_become_zeros_between_them() -> None:
    """NIR's readers infer shapes without groups: the dense convolution computes the same."""
    from snnlib.deploy.nir import _ungrouped

    layer, x = nn.Conv2d(6, 9, 3, groups=3, bias=False), torch.rand(2, 6, 5, 5)
    full = torch.from_numpy(_ungrouped(layer.weight.detach().numpy(), 3))
    torch.testing.assert_close(F.conv2d(x, full), layer(x))
