"""Norms that set a scale: invariance, constants, decay without decay, and what folds."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

from snnlib import convert
from snnlib.learning.norms import (
    KINDS,
    Mimic,
    ScaleNorm,
    bound_weight,
    channel_norms,
    gaussian_factor,
    spread,
    weights_before_norm,
    with_norm,
)
from snnlib.neurons import IF


@pytest.mark.parametrize("kind", KINDS)
def test_the_scale_of_weights_does_not_matter(kind):
    """norm(c · x) = norm(x), and gradients shrink by 1/c: what makes decay a learning rate."""
    torch.manual_seed(0)
    norm = ScaleNorm(4, kind, k=3, eps=0.0).double()
    x, weight = torch.randn(8, 5, 6, 6).double(), torch.randn(4, 5, 3, 3).double()
    answers, gradients = [], []
    for c in (1.0, 7.0):
        w = (c * weight).requires_grad_()
        y = norm(F.conv2d(x, w))
        (y * torch.linspace(0, 1, y.numel()).double().reshape(y.shape)).sum().backward()
        answers.append(y.detach())
        gradients.append(w.grad)
    torch.testing.assert_close(answers[0], answers[1], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(gradients[0], 7 * gradients[1], rtol=1e-8, atol=1e-9)
    along = (gradients[0] * weight).flatten(1).sum(1)  # no gradient along the weights themselves
    assert (
        float(along.abs().max()) < 1e-8 * float(gradients[0].abs().max() * weight.abs().max()) * 45
    )


def gaussian(n):
    """n values at the middles of equally likely parts of a normal distribution."""
    p = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return math.sqrt(2) * torch.erfinv(2 * p - 1)


def test_constants_on_gaussian_values():
    """√(π/2) gives σ as n grows; C_n does not: top-k has to learn a factor."""
    for n in (10**3, 10**5):
        x = 3 * gaussian(n)[:, None]
        found = {k: float(spread(x, torch.zeros(1).double(), k)) / 3 for k in KINDS}
        top = float(spread(x, torch.zeros(1).double(), "top-k", k=1)) / 3
        assert found["l2"] == pytest.approx(1, abs=20 / n**0.9)
        assert found["l1"] == pytest.approx(1, abs=3 / n)
        assert 1.15 < found["top-k"] < 1.35
        assert 1.3 < top < 1.5
    assert gaussian_factor("l1", 5) == math.sqrt(math.pi / 2)


@pytest.mark.parametrize("shape", [(64, 5), (16, 5, 7, 7)])
def test_l2_is_batch_norm(shape):
    torch.manual_seed(0)
    x = 3 * torch.randn(shape).double() + 1
    make = nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d
    ours, theirs = ScaleNorm(5, "l2", momentum=1.0).double(), make(5, momentum=1.0).double()
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    n = x.numel() // 5
    torch.testing.assert_close(ours.running_scale.square() * n / (n - 1), theirs.running_var)


def test_bounded_weights_keep_their_norm():
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3).double()
    before = layer.weight.detach().clone()
    bound_weight(layer)
    torch.testing.assert_close(layer.weight, before)
    sgd = torch.optim.SGD(layer.parameters(), 0.5)
    for _ in range(3):
        sgd.zero_grad()
        layer(torch.randn(2, 3, 8, 8).double()).square().sum().backward()
        sgd.step()
    assert float((layer.weight - before).detach().norm()) > 0.1
    assert float(layer.weight.detach().norm()) == pytest.approx(float(before.norm()), rel=1e-12)
    now = layer.weight.detach().clone()
    parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is nn.Conv2d
    torch.testing.assert_close(layer.weight, now)


def test_decay_is_a_learning_rate():
    """SGD with decay, and without but mimicked: the same directions, step for step."""

    def train(decay, norms):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 4, 3), ScaleNorm(4, "l2", eps=0.0), nn.ReLU(), nn.Conv2d(4, 5, 3),
            ScaleNorm(5, "l1", eps=0.0), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3),
        ).double()  # fmt: skip
        weights = weights_before_norm(net)
        assert weights == [net[0].weight, net[3].weight]
        rest = [p for p in net.parameters() if all(p is not w for w in weights)]
        sgd = torch.optim.SGD(
            [{"params": weights, "weight_decay": decay}, {"params": rest}], lr=0.2
        )
        mimic = None
        if norms is not None:
            mimic = Mimic(weights, norms, 0.1, lambda: sgd.param_groups[0]["lr"])
        seen, losses = [], []
        for step in range(40):
            sgd.param_groups[0]["lr"] = 0.2 * (1 - step / 80)
            x, y = torch.randn(16, 1, 8, 8).double(), torch.randint(3, (16,))
            seen.append(channel_norms(weights))
            sgd.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            if mimic is not None:
                mimic(step)
            sgd.step()
            losses.append(loss.item())
        return torch.stack(seen), torch.tensor(losses)

    norms, wanted = train(0.1, None)
    _, off = train(0.0, None)
    free_norms, found = train(0.0, norms)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
    assert float((off - wanted).abs().max()) > 1e-4  # decay does matter here
    assert float(free_norms[-1].mean()) > 2 * float(norms[-1].mean())


@pytest.mark.parametrize("kind", KINDS)
def test_they_fold_into_a_spiking_network(kind):
    """convert takes all of them as they are, and the graph holds plain weighted layers."""
    torch.manual_seed(0)
    net = nn.Sequential(
        bound_weight(nn.Conv2d(1, 4, 3, padding=1)), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
        bound_weight(nn.Linear(256, 12, bias=False)), nn.BatchNorm1d(12), nn.ReLU(),
        nn.Linear(12, 3),
    )  # fmt: skip
    with_norm(net, lambda channels: ScaleNorm(channels, kind))
    net.double()
    for _ in range(10):
        net(2 * torch.randn(30, 1, 8, 8).double())
    net.eval()
    x = torch.rand(20, 1, 8, 8).double()
    snn = convert(net, x, IF())
    assert [node.op for node in snn.graph if node.op == "affine"] == []
    torch.testing.assert_close(snn.ann(x), net(x).detach(), rtol=1e-9, atol=1e-9)


def test_half_precision_overflows_where_values_are_squared():
    """Values of a few hundred: their squares are beyond float16, their sizes are not."""
    x = 300 * gaussian(1000)[:, None].half()
    zero = torch.zeros(1).half()
    assert not math.isfinite(float(spread(x, zero, "l2")))
    for kind in ("l1", "top-k"):
        exact = float(spread(x.double(), zero.double(), kind))
        assert float(spread(x, zero, kind)) == pytest.approx(exact, rel=5e-3)


def test_wrong_parameters_are_named():
    with pytest.raises(ValueError, match="l2, l1, top-k"):
        ScaleNorm(3, "l3")
    with pytest.raises(ValueError, match="k"):
        ScaleNorm(3, "top-k", k=0)


@pytest.mark.parametrize("kind", ["l1", "top-k"])
def test_a_scale_that_fits_16_bits_normalizes_there(kind):
    """Its square does not fit: a slope of zero would leave the bias alone."""
    x = 3000 * torch.randn(64, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    layer = ScaleNorm(2, kind)
    wanted = layer(x)
    found = layer.half()(x.half())
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), wanted, rtol=0, atol=0.02)
