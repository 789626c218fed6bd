"""Single spikes: nobody fires twice, and the loss sees potential and time."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from snnlib.learning.lif import LIF, run
from snnlib.learning.single_spike import SPIKE, Neurons, Once, SingleSpike, encode, loss


def chain():
    torch.manual_seed(0)
    conv = nn.Conv2d(1, 6, 3, padding=1)
    layers = nn.Sequential(
        conv, nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(96, 8), nn.ReLU(), nn.Linear(8, 3)
    )
    with torch.no_grad():
        conv.weight.mul_(4)
        layers[4].weight.mul_(10)
    return layers


@given(st.integers(1, 8), st.floats(0.1, 1), st.integers(0, 1000))
def test_at_most_one_spike_and_it_is_the_first(steps, leak, seed):
    z = 0.6 * torch.randn(
        steps, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    theta, leaks = torch.tensor(0.7, dtype=torch.float64), torch.full((steps,), leak)
    once = run(Once(spike=SPIKE), z, theta, leaks)
    free = run(LIF(spike=SPIKE), z, theta, leaks)
    assert float(once.sum(0).max()) <= 1
    assert torch.equal(once, free * (free.cumsum(0) == 1))  # until then both are one neuron


def test_no_neuron_of_the_network_fires_twice():
    x = torch.rand(16, 1, 8, 8)
    counts = {}
    for single in (True, False):
        net = SingleSpike(chain(), 5, single)
        net(x)
        sent = [m.sent.sum(0) for m in net.modules() if isinstance(m, Neurons)]
        assert len(sent) == 2
        counts[single] = [float(s.max()) for s in sent], net.spikes()
    assert counts[True][0] == [1.0, 1.0]
    assert max(counts[False][0]) > 1
    assert 0 < counts[True][1] < counts[False][1]


def test_gradient_reaches_threshold_leak_and_time():
    net = SingleSpike(chain(), 5)
    labels = torch.arange(16) % 3
    potential, early = net(torch.rand(16, 1, 8, 8))
    assert potential.shape == early.shape == (16, 3)
    assert set(early.unique().tolist()) <= {0.0, 1.0, 2.0, 3.0, 4.0, 5.0}
    loss((potential, early), labels).backward()
    for name, value in net.named_parameters():
        assert value.grad is not None, name
    assert float(net.theta_out.grad.abs()) > 0  # only spike times depend on it


@given(st.integers(2, 9), st.integers(0, 255))
def test_image_first_then_every_pixel_once(steps, level):
    x = torch.full((1, 1), level / 255)
    frames = encode(x, steps)
    assert torch.equal(frames[0], x)
    assert float(frames[1:].sum()) == float(level > 0)


def test_the_plain_network_is_refused():
    with pytest.raises(ValueError, match="ReLU"):
        SingleSpike(nn.Sequential(nn.Flatten()), 3)
