"""Surrogate gradients through layers: autograd equals back-propagation through time by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from snnlib.learning.lif import LIF, Surrogate
from snnlib.learning.surrogate import (
    Shortcut,
    Spiking,
    deep_convolutional,
    deep_dense,
    gradient_norms,
    scale_to_fire,
    unrolled,
)

STEPS, LEAK, THETA = 7, 0.8, 0.9


def by_hand(weights, x, y, surrogate, detach):
    """Loss gradients of W¹, W², W³ for constant input; T steps, reset by subtraction."""
    w1, w2, w3 = weights
    layers = {1: [], 2: []}  # V/θ − 1 before the reset, every step
    sent = {1: [], 2: []}
    v1, v2 = torch.zeros(len(x), len(w1)).double(), torch.zeros(len(x), len(w2)).double()
    logits = torch.zeros(len(x), len(w3)).double()
    for _ in range(STEPS):
        u1 = LEAK * v1 + x @ w1.T
        s1 = (u1 >= THETA).double()
        u2 = LEAK * v2 + THETA * s1 @ w2.T
        s2 = (u2 >= THETA).double()
        v1, v2 = u1 - THETA * s1, u2 - THETA * s2
        logits += THETA * s2 @ w3.T / STEPS
        for layer, u, s in ((1, u1, s1), (2, u2, s2)):
            layers[layer].append(u / THETA - 1)
            sent[layer].append(s)
    wrong = (F.softmax(logits, 1) - F.one_hot(y, len(w3))) / len(x)  # dL/dlogits
    g1, g2, g3 = (torch.zeros_like(w) for w in weights)
    later1, later2 = torch.zeros_like(v1), torch.zeros_like(v2)  # dL/d(potential before the reset)
    for t in reversed(range(STEPS)):
        slope1, slope2 = (surrogate.slope(layers[n][t]) / THETA for n in (1, 2))
        kept1, kept2 = (1 - (0 if detach else 1) * THETA * s for s in (slope1, slope2))
        g3 += THETA / STEPS * wrong.T @ sent[2][t]
        later2 = THETA / STEPS * wrong @ w3 * slope2 + LEAK * later2 * kept2
        g2 += THETA * later2.T @ sent[1][t]
        later1 = THETA * later2 @ w2 * slope1 + LEAK * later1 * kept1
        g1 += later1.T @ x
    return g1, g2, g3


@pytest.mark.parametrize("detach", [False, True])
def test_gradients_of_a_network_are_those_derived_by_hand(detach):
    torch.manual_seed(0)
    surrogate = Surrogate("arctan", 0.7, area=True)
    ann = nn.Sequential(*[
        layer for n, m in ((6, 5), (5, 4), (4, 3)) for layer in (nn.Linear(n, m, False), nn.ReLU())
    ][:-1]).double()  # fmt: skip
    with torch.no_grad():
        for p in ann.parameters():
            p.copy_(2 * torch.randn_like(p))
    net = unrolled(ann, LIF(leak=LEAK, spike=surrogate, detach=detach), STEPS, THETA)
    x, y = torch.rand(8, 6).double(), torch.randint(3, (8,))
    assert all(0.05 < rate < 0.95 for rate in net.rates(x))
    F.cross_entropy(net(x), y).backward()
    wanted = by_hand([p.detach() for p in net.parameters()], x, y, surrogate, detach)
    for parameter, gradient in zip(net.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-10, atol=1e-13)


def test_batch_norm_sees_the_currents_of_all_steps():
    torch.manual_seed(0)
    net = unrolled(nn.Sequential(
        nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.BatchNorm1d(5, momentum=1.0), nn.ReLU(),
        nn.Linear(5, 2)).double(), LIF(leak=0.9), steps=6)  # fmt: skip
    seen = []
    net.layers[3].register_forward_hook(lambda module, given, out: seen.append(out))
    net(4 * torch.rand(10, 4).double())
    assert seen[0].shape == (60, 5)
    torch.testing.assert_close(net.layers[4].running_mean, seen[0].mean(0))
    torch.testing.assert_close(net.layers[4].running_var, seen[0].var(0))


def test_what_comes_before_the_neurons_is_computed_once():
    net = unrolled(deep_convolutional(((4, 2), (6, 2))), LIF(leak=0.9), steps=5)
    seen = []
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, given, out: seen.append(len(out)))
    assert net(torch.rand(3, 1, 28, 28)).shape == (3, 10)
    assert seen == [3, 15, 15, 15]
    assert [layer.steps for layer in net.spiking] == [5] * 4


def test_scaled_weights_keep_every_layer_firing():
    torch.manual_seed(0)
    x = torch.rand(32, 784)
    plain = unrolled(deep_dense(12), LIF(leak=0.9), steps=10)
    assert plain.rates(x)[-1] == 0  # PyTorch's initial weights fall silent
    scale_to_fire(plain, x)
    assert min(plain.rates(x)) > 0.1
    norms = gradient_norms(plain, x, torch.randint(10, (32,)))
    assert len(norms) == 12
    assert min(norms) > 0


def test_a_shortcut_passes_currents_on():
    layer = Shortcut(nn.ReLU(), nn.Linear(4, 4))
    nn.init.zeros_(layer.layers[1].weight)
    z = torch.randn(3, 4)
    assert torch.equal(layer(z), z + layer.layers[1].bias)
    net = unrolled(deep_dense(5, shortcut=True), LIF(), steps=3)
    assert sum(isinstance(m, Shortcut) for m in net.modules()) == 3
    assert sum(isinstance(m, Spiking) for m in net.modules()) == 4


def test_a_network_without_relu_is_refused():
    with pytest.raises(ValueError, match=r"no nn\.ReLU"):
        unrolled(nn.Sequential(nn.Linear(3, 2)))
