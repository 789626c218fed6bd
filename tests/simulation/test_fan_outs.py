"""Fan-outs and MACs of every operation against brute force: which value depends on which neuron.

The operation and the weighted layer after it are differentiated as the user wrote them; nothing of
snnlib's graph is used. A neuron's event arrives at every synapse that reads something that depends
on the neuron.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnlib as snn
from snnlib.simulation import costs

DOUBLE = torch.float64
PLACES = torch.linspace(0.1, 2.0, 48, dtype=DOUBLE).reshape(4, 4, 3)


class Between(nn.Module):
    """conv, ReLU, something, weights: the ReLU's events go through something to the weights."""

    def __init__(self, dims: int, size: tuple[int, ...], something: Any, weights: Any) -> None:
        super().__init__()
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
        self.first = conv(1, 4, 3, padding=1)
        self.relu = nn.ReLU()
        self.something = something if isinstance(something, nn.Module) else Call(something)
        shape = self.something(torch.randn(1, 4, *size)).shape
        self.weights = weights(shape)

    def forward(self, x: Tensor) -> Tensor:
        return self.weights(self.something(self.relu(self.first(x)))).flatten(1)


class Call(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def dense(shape: torch.Size) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[1:].numel(), 3))


def conv(stride: int = 1, padding: int = 1, groups: int = 1, dilation: int = 1) -> Any:
    def make(shape: torch.Size) -> nn.Module:
        kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(shape) - 3]
        outputs = 2 * groups
        return kind(shape[1], outputs, 3, stride, padding, dilation, groups)

    return make


def transposed(shape: torch.Size) -> nn.Module:
    kind = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[len(shape) - 3]
    return kind(shape[1], 2, 3, stride=2, padding=1, output_padding=1)


CASES: dict[str, tuple[int, tuple[int, ...], Any, Any]] = {
    "nothing, dense": (2, (5, 4), nn.Identity(), dense),
    "nothing, conv": (2, (5, 4), nn.Identity(), conv()),
    "strided conv": (2, (6, 5), nn.Identity(), conv(stride=2)),
    "grouped conv": (2, (5, 4), nn.Identity(), conv(groups=2)),
    "dilated conv": (2, (6, 6), nn.Identity(), conv(dilation=2, padding=2)),
    "unpadded conv": (2, (5, 5), nn.Identity(), conv(padding=0)),
    "conv in one dimension": (1, (9,), nn.Identity(), conv(stride=2)),
    "conv in three": (3, (3, 4, 3), nn.Identity(), conv()),
    "transposed conv": (2, (3, 4), nn.Identity(), transposed),
    "transposed in one dimension": (1, (5,), nn.Identity(), transposed),
    "average pooling": (2, (6, 4), nn.AvgPool2d(2), conv()),
    "overlapping averages": (2, (6, 5), nn.AvgPool2d(3, stride=2, padding=1), dense),
    "averages without padding counted": (
        2, (6, 5), nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False), dense
    ),
    "averages with ceil_mode": (2, (5, 5), nn.AvgPool2d(2, ceil_mode=True), dense),
    "averages with a divisor": (2, (4, 4), nn.AvgPool2d(2, divisor_override=3), dense),
    "averages in one dimension": (1, (9,), nn.AvgPool1d(3, stride=2), dense),
    "one dimension, padded, ceil_mode": (
        1, (8,), nn.AvgPool1d(3, stride=2, padding=1, ceil_mode=True), conv()
    ),
    "averages in three dimensions": (3, (4, 4, 2), nn.AvgPool3d(2), dense),
    "adaptive averages": (2, (7, 5), nn.AdaptiveAvgPool2d((3, 2)), dense),
    "adaptive averages of one": (2, (4, 5), nn.AdaptiveAvgPool2d(1), dense),
    "adaptive averages in one dimension": (1, (7,), nn.AdaptiveAvgPool1d(3), conv()),
    "mean over positions": (2, (4, 3), lambda x: x.mean((2, 3)), dense),
    "mean over channels, kept": (2, (4, 3), lambda x: x.mean(1, keepdim=True), conv()),
    "sum over a dimension": (2, (4, 3), lambda x: x.sum(3), dense),
    "zeros around": (2, (3, 3), lambda x: F.pad(x, (1, 2, 0, 1)), conv()),
    "ones around": (2, (3, 3), lambda x: F.pad(x, (1, 1, 1, 1), value=1.0), conv(padding=0)),
    "mirrored borders": (2, (4, 4), lambda x: F.pad(x, (1, 1, 1, 1), "reflect"), conv(padding=0)),
    "repeated borders": (2, (4, 4), lambda x: F.pad(x, (2, 0, 1, 1), "replicate"), conv()),
    "circular borders": (2, (4, 4), lambda x: F.pad(x, (1, 1, 1, 1), "circular"), conv(padding=0)),
    "channels added": (2, (3, 3), lambda x: F.pad(x, (0, 0, 0, 0, 1, 2)), conv()),
    "cut off": (2, (4, 4), lambda x: F.pad(x, (-1, 0, 0, -1)), dense),
    "batch norm": (2, (4, 3), nn.BatchNorm2d(4), conv()),
    "a scale": (2, (4, 3), lambda x: 0.5 * x, dense),
    "a scale for every place": (2, (4, 3), lambda x: x * PLACES, dense),
    "a shift": (2, (4, 3), lambda x: x + 1.0, conv()),
    "a shift that spreads": (2, (4, 1), lambda x: x + PLACES, dense),
    "copies": (2, (3, 2), nn.Upsample(scale_factor=2), conv()),
    "copies to a size": (2, (3, 2), nn.Upsample(size=(5, 3)), dense),
    "a part": (2, (5, 4), lambda x: x[:, 1:3, ::2], dense),
    "another order": (2, (3, 4), lambda x: x.permute(0, 2, 1, 3), dense),
    "channels shuffled": (2, (3, 3), nn.ChannelShuffle(2), conv(groups=2)),
    "pixels shuffled": (2, (2, 3), nn.PixelShuffle(2), conv()),
    "joined with a part of itself": (2, (3, 3), lambda x: torch.cat([x, x[:, :2]], 1), conv()),
    "tokens": (1, (5,), lambda x: x.transpose(1, 2), lambda shape: nn.Linear(shape[-1], 3)),
}  # fmt: skip


def reads(function: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Tensor:
    """Which outputs depend on which inputs of one image: 0 or 1, shape (outputs, inputs)."""
    x = torch.randn(1, *shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(7))
    jacobian = torch.autograd.functional.jacobian(lambda v: function(v).flatten(), x)
    return (jacobian.reshape(len(jacobian), -1) != 0).double()


@pytest.mark.parametrize("name", CASES)
def test_against_brute_force(name: str) -> None:
    dims, size, something, weights = CASES[name]
    torch.manual_seed(0)
    model = Between(dims, size, something, weights).double().eval()
    x = torch.rand(3, 1, *size, dtype=DOUBLE)
    net = snn.convert(model, x, snn.IF())
    shape = (4, *size)
    middle = tuple(model.something(torch.zeros(1, *shape, dtype=DOUBLE)).shape[1:])
    through, synapses = reads(model.something, shape), reads(model.weights, middle)
    expected = (synapses @ through).sum(0).reshape(shape)
    (layer,) = net.graph.spiking
    assert torch.equal(net.fan_outs[layer], expected)
    first = int(reads(model.first, (1, *size)).sum())
    assert costs.macs(net.graph, analog_only=True) == first
    assert costs.macs(net.graph) == first + int(synapses.sum())


# what the input costs


@pytest.fixture(scope="module")
def net() -> Any:
    torch.manual_seed(0)
    model = Between(2, (5, 4), nn.AvgPool2d(2), dense).double().eval()
    return snn.convert(model, torch.rand(8, 1, 5, 4, dtype=DOUBLE), snn.IF())


def test_analog_frames_cost_multiplications_at_every_step(net: Any) -> None:
    """The same images as frames cost what a constant input costs without reuse of its layer."""
    x, steps = torch.rand(4, 1, 5, 4, dtype=DOUBLE), 6
    constant = net(x, steps).synops()
    frames = net(x.expand(steps, *x.shape), steps, snn.Frames()).synops()
    assert frames.macs_first_layer == constant.macs_first_layer > 0
    assert torch.equal(frames.total, constant.total)
    every = constant.energy(reuse=False)
    assert torch.equal(frames.energy(reuse=False), every)
    assert torch.equal(frames.energy(), every), "frames differ: nothing can be reused"
    assert torch.equal(frames.energy(unit_spikes=True), constant.energy(False, unit_spikes=True))


def test_frames_of_spikes_cost_additions(net: Any) -> None:
    spikes = (torch.rand(5, 3, 1, 5, 4, generator=torch.Generator().manual_seed(2)) < 0.4).double()
    run = net(spikes, 5, snn.Frames(spikes=True))
    silent = net(spikes, 5, snn.Frames())
    assert run.synops().macs_first_layer == 0
    arriving = (spikes * net.fan_outs["input"]).sum((2, 3, 4)).mean(1).cumsum(0)
    torch.testing.assert_close(run.synops().total, silent.synops().total + arriving)
    assert torch.equal(run.logits, silent.logits)


@pytest.mark.parametrize("brightness", [0.0, 1.0])
def test_bernoulli_input_has_no_analog_layer_however_dark(net: Any, brightness: float) -> None:
    x = torch.full((2, 1, 5, 4), brightness, dtype=DOUBLE)
    synops = net(x, 3, snn.Bernoulli()).synops()
    assert synops.macs_first_layer == 0
    layers = net(x, 3, snn.Bernoulli()).layers
    if not brightness:  # a black image: what arrives is what the biases made the neurons send
        sent = sum(float(layer.events) for layer in layers)
        assert (float(synops.total[-1]) > 0) == (sent > 0)


def test_whole_numbers_count_their_input_too() -> None:
    torch.manual_seed(0)
    model = Between(2, (5, 4), nn.AvgPool2d(2), dense).eval()
    net = snn.convert(model, torch.rand(8, 1, 5, 4), snn.IF())
    whole = net.quantize()
    assert torch.equal(whole.fan_outs["input"], net.fan_outs["input"])
    bright = torch.ones(2, 1, 5, 4)
    arriving = float(net.fan_outs["input"].sum())
    with_input = whole(bright, 1, snn.Bernoulli()).synops().total
    without = whole(bright, 1).synops().total
    assert float(with_input - without) == arriving
