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


def test_one_step_from_a_relu_network_is_that_network_with_two_levels():
    """With one step a neuron sends θ where its activation reaches it, else nothing."""

    class Levels(nn.Module):
        def __init__(self, theta):
            super().__init__()
            self.theta = theta

        def forward(self, z):
            return self.theta * (z >= self.theta)

    x = torch.rand(64, 1, 8, 8)
    ann = chain()
    ann.insert(1, nn.BatchNorm2d(6))
    ann.train()(x)  # statistics of its own
    ann.eval()
    before = [value.clone() for value in ann.state_dict().values()]
    net = SingleSpike.from_relu(ann, x, 1, percentile=80.0).eval()
    assert all(torch.equal(*pair) for pair in zip(before, ann.state_dict().values(), strict=True))
    thresholds = [layer.theta.detach() for layer in net.layers if isinstance(layer, Neurons)]
    rounded = nn.Sequential(*ann)
    rounded[2], rounded[6] = (Levels(theta) for theta in thresholds)
    torch.testing.assert_close(net(x)[0], rounded(x))
    first = torch.relu(ann[1](ann[0](x)))
    assert float((first <= thresholds[0]).double().mean()) == pytest.approx(0.8, abs=1e-3)
    assert net.spikes() > 0


def test_a_constant_current_is_rounded_down_to_the_steps():
    """A black-and-white image in two steps is the same twice: without leak, halves of θ."""
    x = (torch.rand(64, 1, 8, 8) < 0.5).float()
    ann = nn.Sequential(*chain()[:4], nn.Linear(96, 3))
    net = SingleSpike.from_relu(ann, x, 2, single=False, percentile=95.0)
    with torch.no_grad():
        net.layers[1].leak.fill_(1.0)
        theta = net.layers[1].theta
        hidden = theta / 2 * torch.floor(2 * torch.relu(ann[0](x)) / theta).clamp_max(2)
        torch.testing.assert_close(net(x)[0], ann[2:](hidden))
        assert set((2 * hidden / theta).unique().tolist()) == {0.0, 1.0, 2.0}
