"""Exact timing: times solve V = θ, gradients are finite differences, one spike or several."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnlib.learning import exact_timing
from snnlib.learning.exact_timing import ExactTiming, latencies, spike_times

TAU, THETA = 0.3, 1.0


def problem(seed, inputs=6, neurons=5, batch=2, strength=0.8):
    generator = torch.Generator().manual_seed(seed)
    times = torch.rand(batch, inputs, 2, generator=generator, dtype=torch.float64)
    times[:, 0, 1] = math.inf  # sends one spike, the others two
    weight = strength * torch.randn(neurons, inputs, generator=generator, dtype=torch.float64)
    return times, weight + 0.4 * strength


def potential(t, times, weight, own):
    """V(t) of one neuron, from the definition."""
    total = 0.0
    for j, train in enumerate(times.tolist()):
        for s in train:
            if s < t:
                total += float(weight[j]) * (1 - math.exp(-(t - s) / TAU))
    return total - THETA * sum(s < t for s in own)


@pytest.mark.parametrize("seed", range(3))
def test_times_are_where_the_potential_reaches_the_threshold(seed):
    """No crossing is missed and none invented: V on a fine grid, from the definition."""
    times, weight = problem(seed)
    found = spike_times(times, weight, TAU, THETA, most=40)
    assert int(torch.isfinite(found).sum(2).max()) < 40  # the bound plays no part
    several = 0
    for b in range(2):
        for i in range(len(weight)):
            mine = [t for t in found[b, i].tolist() if t < math.inf]
            several += len(mine) > 1
            assert mine == sorted(mine)
            for k, t in enumerate(mine):
                assert potential(t, times[b], weight[i], mine[:k]) == pytest.approx(THETA, abs=1e-9)
            for t in torch.linspace(0, 2, 401).tolist():
                if min((abs(t - s) for s in mine), default=1) > 1e-4:
                    assert potential(t, times[b], weight[i], mine) < THETA + 1e-9
    assert several > 0


@pytest.mark.parametrize(("most", "seed"), [(1, 0), (1, 1), (6, 0), (6, 1), (6, 2)])
def test_gradients_are_finite_differences(most, seed):
    """Of two layers, float64, to 1e-6: weights of both and times of the input."""
    times, first = problem(seed)
    generator = torch.Generator().manual_seed(seed + 10)
    second = 0.3 + 0.8 * torch.randn(3, 5, generator=generator, dtype=torch.float64)

    def value(times, first, second):
        hidden = spike_times(times, first, TAU, THETA, most)
        out = spike_times(hidden, second, TAU, THETA, most)
        fine = torch.isfinite(out)
        weights = torch.arange(1, out.numel() + 1).view(out.shape)
        return (torch.where(fine, out, 0) * weights).sum(), int(torch.isfinite(hidden).sum()), fine

    leaves = [t.clone().requires_grad_() for t in (times, first, second)]
    total, hidden, fine = value(*leaves)
    total.backward()
    assert bool(fine.any())
    if most > 1:
        assert hidden > first.shape[0] * 2  # some neurons fire several times
    step, checked = 1e-6, 0
    for n, leaf in enumerate(leaves):
        for index in range(leaf.numel()):
            if not math.isfinite(float(leaf.detach().flatten()[index])):
                continue
            ends, alike = [], True
            for sign in (1, -1):
                moved = [t.detach().clone() for t in leaves]
                moved[n].view(-1)[index] += sign * step
                total, count, there = value(*moved)
                ends.append(float(total))
                alike &= count == hidden and torch.equal(there, fine)
            if alike:  # where a spike appears or vanishes there is no gradient
                expected = (ends[0] - ends[1]) / (2 * step)
                found = float(leaf.grad.flatten()[index])
                assert found == pytest.approx(expected, rel=1e-6, abs=1e-6), (n, index)
                checked += expected != 0
    assert checked > 10


@settings(max_examples=30)
@given(st.integers(0, 200))
def test_one_spike_is_the_first_of_several(seed):
    times, weight = problem(seed)
    one = spike_times(times, weight, TAU, THETA, most=1)
    assert torch.equal(one[..., 0], spike_times(times, weight, TAU, THETA, most=5)[..., 0])


@settings(max_examples=30)
@given(st.integers(0, 200))
def test_order_of_the_inputs_does_not_matter_nor_does_the_batch(seed):
    times, weight = problem(seed)
    shuffled = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    together = spike_times(times, weight, TAU, most=4)
    torch.testing.assert_close(
        spike_times(times[:, shuffled], weight[:, shuffled], TAU, most=4), together
    )
    torch.testing.assert_close(spike_times(times[1:], weight, TAU, most=4), together[1:])


def test_without_numba_the_same_loops_run_uncompiled(monkeypatch):
    times, weight = problem(4)
    results = []
    for loop in (exact_timing._loop, lambda function: function):
        monkeypatch.setattr(exact_timing, "_loop", loop)
        inputs, weights = times.clone().requires_grad_(), weight.clone().requires_grad_()
        out = spike_times(inputs, weights, TAU, THETA, most=5)
        torch.where(torch.isfinite(out), out, 0).sum().backward()
        results.append([out.detach(), inputs.grad, weights.grad])
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-9)


def test_black_images_and_silent_neurons():
    times = latencies(torch.zeros(2, 1, 2, 2))
    assert torch.isinf(times).all()
    net = ExactTiming((4, 3, 2), tau=0.1)
    out = net(times, torch.tensor([0, 1]))
    assert bool((out == net.horizon).all())
    assert net.sent == 0
    assert latencies(torch.tensor([[0.0, 0.25, 1.0]]))[0, :, 0].tolist() == [math.inf, 0.75, 0.0]


def test_silent_neurons_are_revived():
    """A neuron without a spike has no gradient but that one, and it raises its weights."""
    net = ExactTiming((4, 3, 2), tau=0.1)
    with torch.no_grad():
        for weight in net.weights:
            weight.fill_(1e-3)
    times = latencies(torch.tensor([[0.2, 0.9, 0.0, 0.5]]))
    net.loss(times, torch.tensor([1])).backward()
    gradient = net.weights[0].grad
    assert bool((gradient[:, [0, 1, 3]] < 0).all())
    assert bool((gradient[:, 2] == 0).all())


def test_wrong_numbers_are_named():
    times, weight = problem(0)
    for arguments, word in (({"tau": 0.0}, "tau"), ({"tau": 0.1, "most": 0}, "most")):
        with pytest.raises(ValueError, match=word):
            spike_times(times, weight, **arguments)
