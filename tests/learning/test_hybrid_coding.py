"""Hybrid coding: one step of it is the plain network; every pixel is coded once."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from snnlib.learning.hybrid_coding import INPUTS, Adaptive, HybridCoding, encode
from snnlib.learning.lif import Surrogate


class Step(nn.Module):
    """What a neuron with gain ½ and threshold 1 does in one step."""

    def forward(self, current):
        return Surrogate("sigmoid")(0.5 * current - 1)


def chain():
    torch.manual_seed(0)
    conv, bn = nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
    layers = [conv, bn, nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 6), nn.ReLU()]
    layers = nn.Sequential(*layers, nn.Linear(6, 3)).double()
    with torch.no_grad():  # so that some neurons fire
        bn.weight.fill_(4)
        layers[5].weight.mul_(12)
    return layers


@pytest.mark.parametrize("per_step", [True, False])
def test_one_step_is_the_plain_network(per_step):
    """With a step in the place of each ReLU: answers and gradients, in float64."""
    layers = chain()
    ours = HybridCoding(layers, 1, "direct", per_step).double()
    plain = copy.deepcopy(layers)
    plain[2], plain[6] = Step(), Step()
    x = torch.rand(5, 1, 8, 8, dtype=torch.float64)
    for net in (ours, plain):
        (net(x) ** 2).sum().backward()
    with torch.no_grad():
        assert torch.equal(ours(x), plain(x))
        assert float(ours(x).abs().max()) > 0
    mine = {**dict(ours.first.named_parameters()), **dict(ours.rest.named_parameters())}
    theirs = dict(plain.named_parameters())
    assert mine.keys() - theirs.keys() == {"2.leak", "2.gain", "6.leak", "6.gain"}
    for name, value in theirs.items():
        assert float(value.grad.abs().max()) > 0
        torch.testing.assert_close(mine[name].grad, value.grad, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("form", INPUTS)
def test_equal_parameters_of_every_step_are_shared_ones(form):
    x = torch.rand(4, 1, 8, 8, dtype=torch.float64)
    per_step, shared = (HybridCoding(chain(), 3, form, own).double() for own in (True, False))
    assert torch.equal(per_step(x), shared(x))
    sizes = [m.leak.numel() for m in per_step.modules() if isinstance(m, Adaptive)]
    assert sizes == [3, 3]
    assert per_step.spikes() == shared.spikes() > 0


@given(st.integers(2, 9), st.integers(0, 255))
def test_every_pixel_is_coded_once(steps, level):
    x = torch.full((1, 1), level / 255)
    timed, mixed = encode(x, steps, "time"), encode(x, steps, "mixed")
    assert len(timed) == len(mixed) == steps
    assert float(timed.sum()) == float(level > 0)
    # The mixed code has no interval for the darkest: the analog step carries them.
    if abs(level * steps - 255) > 0.01:  # on the border rounding decides
        assert float(mixed[1:].sum()) == float(level * steps > 255)
    assert torch.equal(timed[:-1], mixed[1:])
    assert torch.equal(mixed[0], x)
    assert torch.equal(encode(x, steps, "direct"), x.expand(steps, 1, 1))


def test_brighter_pixels_come_earlier():
    x = torch.linspace(0.01, 1, 100)[None]
    when = encode(x, 7, "time")[:, 0].argmax(0)
    assert bool((when.diff() <= 0).all())
    assert when[-1] == 0
    assert when[0] == 6


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="direct"):
        encode(torch.zeros(1, 1), 3, "rank")
    with pytest.raises(ValueError, match="steps"):
        HybridCoding(chain(), 1, "mixed")
    with pytest.raises(ValueError, match="direct"):
        HybridCoding(chain(), 3, "rank")
    with pytest.raises(ValueError, match="ReLU"):
        HybridCoding(nn.Sequential(nn.Flatten()), 3)
