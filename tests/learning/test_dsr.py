"""DSR: backward is the derivative that rates have in the limit of many steps."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from snnlib.learning.dsr import DSR
from snnlib.learning.lif import LIF, run_by_steps
from snnlib.learning.loop import kept_bytes


def chain(*widths, norm=False):
    """Linear layers with ReLUs between them, in float64, always the same weights."""
    torch.manual_seed(0)
    layers = []
    for n, m in pairwise(widths):
        layers += [nn.Linear(n, m), *([nn.BatchNorm1d(m)] if norm else []), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).double()


def clipped(net, x):
    """The map of rates, by autograd of torch.clamp."""
    for layer in net.layers:
        x = torch.minimum(x.clamp_min(0), layer.theta) if hasattr(layer, "theta") else layer(x)
    return x


def test_finite_differences_of_rates_approach_the_backward_pass():
    """What spikes say at both ends of a short way, over growing T, against the gradient in between.

    Along ways of the first layer's weights on which the clipped lines have no kink.
    """
    torch.manual_seed(0)
    images, answer, step = torch.rand(200, 5).double(), torch.arange(4.0).double(), 0.01
    currents = chain(5, 8, 4)[0](images).detach()
    margin = torch.minimum(currents.abs(), (currents - 0.5).abs()).amin(1)
    x = images[margin.topk(1).indices]  # farthest from all kinks

    def moved(seed, sign, steps):
        net = DSR(chain(5, 8, 4), steps, theta=0.5).double()
        torch.manual_seed(seed)
        with torch.no_grad():
            for p in net.layers[0].parameters():
                p.add_(torch.randn_like(p), alpha=sign * step)
        return net

    def difference(seed, steps, read):
        ends = [read(moved(seed, sign, steps), x) @ answer for sign in (1, -1)]
        return float((ends[0] - ends[1]).sum().detach()) / (2 * step)

    def slope(seed, steps, read):
        net = moved(seed, 0, steps)
        (read(net, x) @ answer).sum().backward()
        torch.manual_seed(seed)
        return sum(float((p.grad * torch.randn_like(p)).sum()) for p in net.layers[0].parameters())

    smooth = [s for s in range(40) if abs(difference(s, 1, clipped) - slope(s, 1, clipped)) < 1e-9]
    assert len(smooth) >= 5
    errors = []
    for steps in (16, 128, 1024):
        apart = [
            difference(s, steps, DSR.forward) - slope(s, steps, DSR.forward) for s in smooth[:8]
        ]
        errors.append(sum(a**2 for a in apart) ** 0.5 / len(apart))
    assert errors[0] > 3 * errors[1] > 9 * errors[2], errors
    assert errors[2] < 0.02, errors


@pytest.mark.parametrize("leak", [1.0, 0.9])
def test_backward_is_the_derivative_of_the_clipped_line(leak):
    """One layer, whose mean current is exact: gradients equal autograd's of torch.clamp."""
    net = DSR(chain(5, 8, 4), 50, theta=0.3, leak=leak).double()
    x = torch.rand(16, 5).double()
    weight = torch.randn(16, 4).double()
    (net(x) * weight).sum().backward()
    mean = net.layers[0](x)
    assert bool((mean < 0).any() and (mean > 0.3).any())
    rate = torch.minimum(mean.clamp_min(0), net.layers[1].theta)
    back = weight @ net.layers[2].weight
    wanted = torch.autograd.grad((rate * back.detach()).sum(), [net.layers[0].weight,
                                                                net.layers[1].theta])  # fmt: skip
    torch.testing.assert_close(net.layers[0].weight.grad, wanted[0], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(net.layers[1].theta.grad, wanted[1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 4, 37])
def test_a_layer_is_within_half_a_spike_of_the_line(steps):
    """Firing at θ/2, constant current: |ō − clip(Ī, 0, θ)| ≤ θ/(2T)."""
    net = DSR(nn.Sequential(nn.Identity(), nn.ReLU()), steps, theta=0.7).double()
    x = torch.linspace(-1, 2, 301).double()[:, None]
    assert float((net(x) - x.clamp(0, 0.7)).detach().abs().max()) <= 0.7 / (2 * steps) + 1e-9


def test_fire_at_half_is_an_initial_potential_of_half():
    """The two ways of writing α, by the step itself, without leak."""
    z, theta = torch.randn(30, 200).double(), torch.tensor(0.7).double()
    for at in (0.3, 0.5, 1.0):
        early = LIF(spike=lambda x, at=at: (x + 1 - at >= 0).to(x))
        ahead = LIF(v0=1 - at)
        assert torch.equal(run_by_steps(early, z, theta), run_by_steps(ahead, z, theta))


def test_the_simulator_computes_the_same():
    ann = chain(5, 12, 9, 4, norm=True)
    net = DSR(ann, 8, theta=0.8).double()
    for _ in range(3):  # running statistics
        net(torch.rand(64, 5).double())
    net.eval()
    x = torch.rand(20, 5).double()
    spiking = net.spiking(x)
    torch.testing.assert_close(spiking(x, 8).logits[-1], net(x).detach(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(net.ann()(x), clipped(net, x), rtol=1e-12, atol=1e-12)


def test_what_is_kept_does_not_grow_with_the_steps():
    x = torch.rand(64, 5).double()
    nets = [DSR(chain(5, 30, 30, 4, norm=True), steps).double() for steps in (1, 5, 50)]
    kept = [kept_bytes(lambda net=net: net(x)) for net in nets]
    assert len(set(kept)) == 1


def test_what_means_cannot_pass_is_refused():
    with pytest.raises(ValueError, match="MaxPool2d"):
        DSR(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2)), 4)
    with pytest.raises(ValueError, match="leak must be 1"):
        DSR(chain(5, 4, 3), 4, leak=0.9).spiking(torch.rand(2, 5))
    with pytest.raises(ValueError, match="steps=0"):
        DSR(chain(5, 4, 3), 0)
