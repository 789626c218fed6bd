"""Rate norm: the output is a rate, and IF neurons in its place give it as T grows."""

import pytest
import torch
from torch import nn

from snnlib.conversion.balance import Max
from snnlib.conversion.convert import convert
from snnlib.learning.rate_norm import (
    RateNorm,
    answers_and_omega,
    from_relu,
    layers_of,
    omega,
    spiking,
    tune,
)
from snnlib.neurons import IF
from snnlib.zoo import data, models


def small(*, rate=False):
    torch.manual_seed(0)
    make = (lambda: RateNorm(0.7)) if rate else nn.ReLU
    return nn.Sequential(nn.Linear(6, 20), nn.BatchNorm1d(20), make(), nn.Linear(20, 15), make(),
                         nn.Linear(15, 4)).double()  # fmt: skip


def test_the_output_is_a_rate_and_the_maximum_runs():
    layer, z = RateNorm(0.5).double(), torch.randn(1000).double()
    top = float(z.max())
    r = layer(z).detach()
    assert float(layer.largest) == pytest.approx(top)
    assert float(r.min()) == 0
    assert float(r.max()) == 1
    torch.testing.assert_close(r, (z / (0.5 * top)).clamp(0, 1))
    layer(z / 2)
    assert float(layer.largest) == pytest.approx(0.9 * top + 0.05 * top)
    layer.eval()(2 * z)
    assert float(layer.largest) == pytest.approx(0.95 * top)


@pytest.mark.parametrize("v0", [0.0, 0.5])
def test_neurons_give_the_rates_as_time_grows(v0):
    """|SNN − ANN| ≤ c/T: the swap is exact in the limit, with no weight rescaled."""
    net = small(rate=True)
    x = torch.rand(40, 6).double()
    for _ in range(5):
        net(x)
    net.eval()
    run = spiking(net, x, v0)(x, 1024)
    apart = (run.logits - net(x).detach()).abs().amax((1, 2))
    scaled = [float(apart[t - 1]) * t for t in (16, 128, 1024)]
    assert max(scaled) < 12
    assert float(apart[-1]) < float(apart[15]) / 10


def test_it_takes_the_place_of_relu_and_converts_without_a_rule():
    train, test = data.load("digits")
    ann = models.load("digits-cnn").double()
    images, x = train[:200].floats().double(), test[:40].floats().double()
    net = from_relu(ann, images).double()
    torch.testing.assert_close(net(images), ann(images), rtol=1e-6, atol=1e-6)  # nothing is clipped
    ours = spiking(net, images, v0=0.5)(x, 20).logits
    theirs = convert(ann, images, IF(v0=0.5), balance=Max())(x, 20).logits
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)  # max balancing, by another name
    clipped = from_relu(ann, images, quantile=0.99)
    assert all(
        a.unit < b.unit for a, b in zip(layers_of(clipped), layers_of(net), strict=True)
    )  # fmt: skip


def test_a_lower_threshold_makes_a_layer_louder():
    """``unit`` stays: half the threshold is twice the message, until it is clipped."""
    layer = RateNorm(0.8, 2.0, unit=1.6).double().eval()
    z = torch.tensor([0.0, 0.4, 0.8, 1.6]).double()
    torch.testing.assert_close(layer(z), z)
    with torch.no_grad():
        layer.alpha.fill_(torch.logit(torch.tensor(0.4)))
    torch.testing.assert_close(layer(z), torch.tensor([0.0, 0.8, 1.6, 1.6]).double())


def test_omega_is_least_for_rates_of_zero_and_one():
    rates = torch.tensor([[0, 1, 1.0, 0], [0, 0.5, 0.5, 0], [0, 0, 0, 0], [0.1, 1, 1, 1]]).double()
    torch.testing.assert_close(omega(rates), torch.tensor([1, 2, 1, 3.1 / 3.01]).double())
    assert bool((omega(torch.rand(100, 30).double()) >= 1).all())


@pytest.mark.parametrize("progress", [True, False])
def test_tuning_shows_a_bar_if_asked(progress, capsys):
    tune(small(rate=True), torch.rand(20, 6).double(), steps=2, batch=5, progress=progress)
    assert ("thresholds" in capsys.readouterr().err) == progress


def test_tuning_moves_thresholds_alone_and_the_teacher_has_a_gradient():
    net = small(rate=True)
    x = torch.rand(200, 6).double()
    net(x)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    history = tune(net, x, weight=0.5, steps=60, batch=50)
    after = net.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"2.alpha", "4.alpha"}
    assert history[-1]["omega"] < history[0]["omega"]
    assert history[0]["apart"] == pytest.approx(0, abs=1e-9)
    assert history[-1]["apart"] > 1e-6  # the teacher stayed behind: a term with a gradient
    assert all(p.requires_grad for p in net.parameters())
    free = small(rate=True)
    free(x)
    freer = tune(free, x, weight=5.0, steps=60, batch=50)
    assert freer[-1]["apart"] > history[-1]["apart"]  # Λ trades one for the other
    assert freer[-1]["omega"] < history[-1]["omega"]
    logits, late = answers_and_omega(net, x)
    assert logits.shape == (200, 4)
    assert late.shape == ()


def test_wrong_use_is_named():
    with pytest.raises(ValueError, match="share"):
        RateNorm(1.0)
    with pytest.raises(ValueError, match=r"no nn\.ReLU"):
        from_relu(nn.Linear(2, 2), torch.rand(3, 2))
