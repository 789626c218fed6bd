"""The late answer: what it is worth to IF, and why it is worth nothing to AugMapping."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snnlib as snn


@pytest.fixture(scope="module")
def digits() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """The ANN, calibration images, test images and labels; float64."""
    train, test = snn.data.load("digits")
    ann = snn.models.load("digits-cnn").double()
    calibration, x = (snn.data.to_float(split.images) for split in (train[:1000], test))
    return ann, calibration.double(), x.double(), test.labels


def converted(digits: Any, neuron: Any) -> Any:
    ann, calibration, *_ = digits
    return snn.convert(ann, calibration, neuron)


def debt(net: Any, ann: nn.Module, x: Tensor, steps: int) -> Tensor:
    """Root mean square of D_t = S_t − t a, what the output's sum is off by; shape (T,)."""
    with torch.no_grad():
        a = ann(x)
    t = torch.arange(1, steps + 1).view(-1, 1, 1)
    return ((net(x, steps).logits - a) * t).square().mean((1, 2)).sqrt()


# what it is worth


def test_the_late_answer_of_if_is_worth_more_than_any_threshold(digits: Any) -> None:
    """13.2 % from step 1, 98.0 % over steps 5 to 8 of the same run; margins for other rounding."""
    *_, x, labels = digits
    net = converted(digits, snn.IF())
    plain, late = net(x, 8), net(x, 8, readout=snn.Mean(first=5))
    assert plain.accuracy(labels)[-1] < 0.2
    assert late.accuracy(labels)[-1] > 0.95
    assert torch.equal(late.events, plain.events)
    assert torch.equal(late.spikes, plain.spikes)
    assert torch.equal(late.synops().total, plain.synops().total)


def test_the_start_up_of_if_is_a_transient_of_the_mean(digits: Any) -> None:
    """What the sum is off by grows at first and then stays, so a mean that begins later is near."""
    ann, _, x, _ = digits
    net, steps = converted(digits, snn.IF()), 32
    off = debt(net, ann, x[:100], steps)
    assert off[7] > 1.5 * off[0], "it grows …"
    assert (off[8:] / off[7] - 1).abs().max() < 0.15, "… and stays"
    with torch.no_grad():
        a = ann(x[:100])
    plain, late = (net(x[:100], steps, readout=snn.Mean(first)).error(a)[-1] for first in (1, 9))
    assert late < plain / 3


def test_ternary_neurons_pay_the_start_up_back(digits: Any) -> None:
    ann, _, x, _ = digits
    off = debt(converted(digits, snn.Ternary(negative=1.0)), ann, x[:100], 32)
    assert off[1] > 1.2 * off[0]
    assert off[-1] < off[1] / 3


# why it is worth nothing where the sums are right at once


def deep(widths: tuple[int, ...]) -> nn.Sequential:
    generator = torch.Generator().manual_seed(3)
    layers: list[nn.Module] = []
    for n, m in pairwise(widths):
        linear = nn.Linear(n, m).double()
        with torch.no_grad():
            linear.weight.copy_(torch.randn(m, n, generator=generator).double() / n**0.5)
            linear.bias.copy_(torch.randn(m, generator=generator).double() / 10)
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1]).eval()


@pytest.mark.parametrize("levels", [1, 4])
def test_sums_of_memoryless_neurons_are_right_at_once(levels: int) -> None:
    """|S_t − t a| ≤ B with one B for all steps: half a threshold a layer, through the weights.

    So the mean over all steps is within B/t, one from step s on within 2B/(t − s + 1) only: to
    leave steps out can gain nothing that is sure. Both follow from the closed form, which is
    checked to be the run.
    """
    ann, steps = deep((12, 20, 20, 20, 5)), 40
    x = torch.rand(30, 12, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    net = snn.convert(ann, x, snn.Augmented(levels, negative=0.0))
    logits = net(x, steps).logits
    with torch.no_grad():
        a = ann(x)
    thresholds = iter(net.thresholds.values())
    weights = [layer.weight.abs() for layer in ann if isinstance(layer, nn.Linear)]
    bound = torch.zeros(12, dtype=torch.float64)
    for weight in weights[:-1]:
        bound = weight @ bound + next(thresholds) / 2  # a ReLU makes no difference larger
    bound = weights[-1] @ bound  # B, one a class
    for t in range(1, steps + 1):
        closed = net.closed_form(x, t)
        torch.testing.assert_close(logits[t - 1], closed, rtol=1e-10, atol=1e-10)
        assert ((closed - a).abs() * t <= bound + 1e-9).all()
    for first in (2, 9, steps):
        late = net(x, steps, readout=snn.Mean(first)).logits[-1]
        before, window = net.closed_form(x, first - 1), steps - first + 1
        expected = (steps * net.closed_form(x, steps) - (first - 1) * before) / window
        torch.testing.assert_close(late, expected, rtol=1e-10, atol=1e-10)
        assert ((late - a).abs() <= 2 * bound / window + 1e-9).all()


def test_no_start_helps_augmented_spikes(digits: Any) -> None:
    *_, x, labels = digits
    net = converted(digits, snn.Augmented(levels=4, negative=0.0))
    plain = net(x, 8).accuracy(labels)[-1]
    for first in range(2, 9):
        assert net(x, 8, readout=snn.Mean(first)).accuracy(labels)[-1] <= plain + 0.005


# before the first step that counts


@pytest.mark.parametrize("whole", [False, True])
def test_before_the_first_step_there_is_no_answer(digits: Any, whole: bool) -> None:
    ann, _, x, labels = digits
    x, labels = x[:20], labels[:20]
    net = converted(digits, snn.IF()).replace(readout=snn.Mean(first=5))
    net = net.quantize() if whole else net
    run = net(x, 8)
    assert run.logits[:4].isnan().all()
    assert not run.logits[4:].isnan().any()
    assert (run.predictions[:4] == -1).all()
    assert (run.predictions[4:] >= 0).all()
    with torch.no_grad():
        a = ann(x)
    for found in (run.accuracy(labels), run.agreement(a), run.error(a)):
        assert found.isnan().tolist() == [True] * 4 + [False] * 4
    early = run.first_confident(1e-9)  # sure at once, but for the read-out
    assert (early.step == 5).all()
    assert torch.equal(early.prediction, run.predictions[4])
    decided = net.decide(x, 1e-9, 8)
    assert torch.equal(decided.step, early.step)
    assert torch.equal(decided.prediction, early.prediction)


def test_a_read_out_that_begins_after_the_last_step_is_refused(digits: Any) -> None:
    *_, x, _ = digits
    late, told = snn.Mean(first=9), "steps=8, but the answer is read from step 9 on"
    net = converted(digits, snn.Augmented(levels=4, negative=0.0))
    kept = net.replace(readout=late)
    for attempt in (
        lambda: net(x[:2], 8, readout=late),
        lambda: net(x[:2], 8, readout=late, only_last=True),
        lambda: net.decide(x[:2], 0.9, 8, readout=late),
        lambda: kept(x[:2], 8),
        lambda: kept.closed_form(x[:2], 8),
        lambda: kept.verify(x[:2], steps=15),  # compares after 1, 2, 4 and 8
    ):
        with pytest.raises(ValueError, match=told):
            attempt()
    assert kept(x[:2], 9).predictions[-1].min() >= 0


def test_verify_reads_the_answer_as_the_network_does(digits: Any) -> None:
    ann, _, x, _ = digits
    net = converted(digits, snn.IF()).replace(readout=snn.Mean(first=5))
    found, run = net.verify(x[:40], steps=8), net(x[:40], 8)
    with torch.no_grad():
        a = ann(x[:40])
    for compared, one in ((found.agreement, run.agreement(a)), (found.output_error, run.error(a))):
        assert [value != value for value in compared] == [True, True, True, False]
        assert compared[-1] == pytest.approx(float(one[-1]))
    plain = converted(digits, snn.IF()).verify(x[:40], steps=8)
    assert found.layer_error == plain.layer_error, "layers send what they send"
    assert found.agreement[-1] > plain.agreement[-1] + 0.5
