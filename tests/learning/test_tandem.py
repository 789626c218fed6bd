"""Tandem learning: spike counts forward, as the simulator counts them; the twin's gradient back."""

import copy

import pytest
import torch
from torch import nn

import snnlib as snn
from snnlib.learning.tandem import Tandem, tandem

STEPS = 6


@pytest.fixture(scope="module")
def subject():
    """The digits network in float64, converted by its large activations, and some images.

    Not by the largest: a patch of a test image can equal the one that set θ, and then rounding
    decides whether the neuron is cut.
    """
    ann = snn.models.load("digits-cnn").double()
    train, test = snn.data.load("digits")
    calibration = snn.data.to_float(train.images[:200]).double()
    net = snn.convert(
        ann, calibration=calibration, neuron=snn.IF(v0=0.5), balance=snn.Percentile(99.9)
    )
    return ann, net.double(), snn.data.to_float(test.images[:12]).double(), test.labels[:12]


def thresholds(net):
    """θ a layer: for an integrate-and-fire neuron what was balanced."""
    return {name: value.double() for name, value in net.balanced.items()}


def test_forward_is_what_the_simulator_counts(subject):
    """Not this file's code: the engine of the conversion, step by step, batch norm folded."""
    ann, net, x, _ = subject
    ours = tandem(copy.deepcopy(ann), thresholds(net), STEPS)
    logits, steps = ours.over_time(x)
    run = net(x, steps=STEPS)
    torch.testing.assert_close(logits, run.logits[-1], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        steps.cumsum(0) / torch.arange(1, STEPS + 1).view(-1, 1, 1), run.logits, rtol=1e-10,
        atol=1e-10,
    )  # fmt: skip
    assert ours.spikes() == pytest.approx(float(run.spikes[-1]))
    assert ours.spikes() > 0


def test_backward_is_the_twin_network_at_the_rates(subject):
    """Each layer's gradient by hand: that of clip(W r + b, 0, θ) where r is what was counted."""
    ann, net, x, labels = subject
    ours = tandem(copy.deepcopy(ann), thresholds(net), STEPS)
    logits = ours(x)
    nn.functional.cross_entropy(logits, labels).backward()
    # By hand, from the simulator's rates: one layer after another, each from a leaf of its own.
    run = net(x, steps=STEPS, record=tuple(ours.names))
    theta, hand = thresholds(net), copy.deepcopy(ann)
    stages = tandem(hand, theta, STEPS).stages()
    rates = [x] + [
        theta[name] * run.trace[name].coefficient.double().mean(0) for name in ours.names
    ]
    leaves = [rate.detach().requires_grad_() for rate in rates]
    outputs = []
    for stage, leaf in zip(stages, leaves, strict=True):
        value = leaf
        for layer in stage:
            value = layer(value)
        outputs.append(value)
    nn.functional.cross_entropy(outputs[-1], labels).backward()
    for i in reversed(range(len(ours.names))):
        a, bound = outputs[i], theta[ours.names[i]]
        a.backward(leaves[i + 1].grad * ((a > 0) & (a < bound)))
    for (name, value), (_, expected) in zip(
        ours.network.named_parameters(), hand.named_parameters(), strict=True
    ):
        assert float(expected.grad.abs().max()) > 0, name
        torch.testing.assert_close(value.grad, expected.grad, rtol=1e-9, atol=1e-12)


def test_without_the_cut_a_saturated_neuron_still_learns(subject):
    ann, net, x, labels = subject
    low = {name: 0.02 * value for name, value in thresholds(net).items()}
    reach = {}
    for cut in (True, False):
        ours = tandem(copy.deepcopy(ann), low, STEPS, cut=cut)
        nn.functional.cross_entropy(ours(x), labels).backward()
        reach[cut] = float(ours.network.conv1.weight.grad.abs().sum())
    assert reach[False] > reach[True]


def test_layers_are_inserted_one_by_one(subject):
    ann, net, x, _ = subject
    ours = Tandem(copy.deepcopy(ann), thresholds(net), STEPS)
    ours.train()
    with torch.no_grad():
        torch.testing.assert_close(ours(x), ann(x))  # nothing spikes: dropout and batch norm rest
    seen = []
    for freeze in (False, True, False):
        seen.append(ours.insert(freeze))
        ours(x)
        assert list(ours.sent) == seen
    assert seen == ours.names == ["relu1", "relu2", "relu3"]
    learns = [layer.weight.requires_grad for layer in (ours.network.conv1, ours.network.conv2)]
    assert learns == [True, False]
    with pytest.raises(ValueError, match="all layers"):
        ours.insert()


def test_what_is_kept_for_the_backward_pass_does_not_grow_with_time(subject):
    ann, net, x, _ = subject

    def kept(steps):
        total = 0

        def pack(value):
            nonlocal total
            total += value.numel() * value.element_size()
            return value

        ours = tandem(copy.deepcopy(ann), thresholds(net), steps)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            ours(x)
        return total

    assert kept(2) == kept(20) > 0


def test_wrong_networks_are_refused(subject):
    ann, net, _, _ = subject
    with pytest.raises(ValueError, match="relu3"):
        Tandem(ann, {k: v for k, v in thresholds(net).items() if k != "relu3"}, STEPS)
    with pytest.raises(ValueError, match="chain"):
        Tandem(snn.models.create("cifar10-resnet"), {}, STEPS)
