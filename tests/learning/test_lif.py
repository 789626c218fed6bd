"""The common step of learning: its spikes are IF's, its gradients the hand-derived ones."""

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snnlib import IF
from snnlib.learning.lif import AREAS, LIF, SHAPES, Surrogate, _backward, run, run_by_steps

THETA = torch.tensor(0.7, dtype=torch.float64)


@pytest.mark.parametrize(("v0", "reset"), list(product((0.0, 0.5), ("subtract", "zero"))))
def test_without_leak_it_is_the_neuron_of_conversion(v0: float, reset: str) -> None:
    torch.manual_seed(0)
    z = torch.randn(12, 3, 5, dtype=torch.float64)
    ours, theirs = LIF(v0=v0, reset=reset), IF(v0=v0, reset=reset)
    a, b = ours.initial(z[0], THETA), theirs.initial(z[0], THETA)
    for current in z:
        c, a = ours.step(a, current, THETA)
        d, b = theirs.step(b, current, THETA)
        assert torch.equal(c, d)
        assert torch.equal(a.potential, b.potential)
        assert torch.equal(a.count, b.count)
    assert ours.fused is None  # nothing compiled claims to compute it


@pytest.mark.parametrize(("detach", "reset"), list(product((False, True), ("subtract", "zero"))))
def test_gradients_are_those_derived_by_hand(detach: bool, reset: str) -> None:
    """Back-propagation through time of one layer, written out, in float64."""
    torch.manual_seed(1)
    neuron = LIF(leak=0.9, spike=Surrogate("fast-sigmoid", 0.8), detach=detach, reset=reset)
    z = torch.randn(9, 2, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(9, 2, 4, dtype=torch.float64)
    (run(neuron, z, THETA) * weight).sum().backward()

    before, potentials, spikes = torch.zeros(2, 4, dtype=torch.float64), [], []
    for current in z.detach():
        u = 0.9 * before + current
        s = (u >= THETA).double()
        before = u * (1 - s) if reset == "zero" else u - s * THETA
        potentials.append(u)
        spikes.append(s)
    later = torch.zeros(2, 4, dtype=torch.float64)  # dL / d(potential after the reset)
    for t in reversed(range(9)):
        u, s = potentials[t], spikes[t]
        slope = neuron.spike.slope(u / THETA - 1) / THETA  # ds/du
        through = 1 - s if reset == "zero" else torch.ones_like(u)
        if not detach:
            through = through - slope * (u if reset == "zero" else THETA)
        here = weight[t] * slope + later * through  # dL/du
        torch.testing.assert_close(z.grad[t], here, rtol=1e-12, atol=1e-14)
        later = 0.9 * here


@pytest.mark.parametrize(
    ("detach", "reset", "shape"), list(product((False, True), ("subtract", "zero"), SHAPES))
)
def test_written_out_equals_the_step(detach: bool, reset: str, shape: str) -> None:
    """The fast path and autograd through the common step: same spikes, same gradients."""
    torch.manual_seed(2)
    neuron = LIF(0.3, reset, leak=0.8, spike=Surrogate(shape, 1.3, area=True), detach=detach)
    z = torch.randn(11, 3, 5, dtype=torch.float64, requires_grad=True)
    theta = torch.rand(5, dtype=torch.float64) + 0.5
    weight = torch.randn(11, 3, 5, dtype=torch.float64)
    found = []
    for way in (run, run_by_steps):
        z.grad = None
        spikes = way(neuron, z, theta)
        (spikes * weight).sum().backward()
        found.append((spikes.detach(), z.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert 0.05 < float(found[0][0].mean()) < 0.9
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("detach", [False, True])
def test_slopes_of_all_steps_at_once_are_those_one_by_one(detach: bool, reset: str) -> None:
    torch.manual_seed(3)
    neuron = LIF(0.3, reset, leak=0.8, spike=Surrogate("arctan"), detach=detach)
    potentials, upstream = torch.randn(2, 7, 3, 4, 5, dtype=torch.float64)
    theta = torch.rand(4, 1, dtype=torch.float64) + 0.5
    both = [_backward(neuron, potentials, theta, upstream, at_once) for at_once in (True, False)]
    torch.testing.assert_close(*both)


def test_potentials_of_narrow_currents_are_float32() -> None:
    """1024 steps of 1/512 of a threshold: two spikes; in bfloat16 a sum would stay at a half."""
    z = torch.full((1024, 1), 1 / 512, dtype=torch.bfloat16)
    spikes = run(LIF(), z, torch.tensor(1.0))
    assert spikes.dtype == torch.bfloat16
    assert float(spikes.float().sum()) == 2
    held = run(LIF(), z, torch.tensor(1.0), torch.zeros(1024))  # nothing is left after a step
    assert float(held.float().sum()) == 0


def test_a_trained_threshold_gets_its_gradient() -> None:
    theta = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    run(LIF(), torch.ones(4, 2, dtype=torch.float64), theta).sum().backward()
    assert theta.grad is not None


@pytest.mark.parametrize("shape", SHAPES)
def test_areas_are_the_integrals(shape: str) -> None:
    x = torch.linspace(-4000, 4000, 8_000_001, dtype=torch.float64)
    slope = Surrogate(shape, width=0.5, area=True).slope(x)
    assert float(slope.sum() * 0.001) == pytest.approx(1, abs=3e-3)
    assert float(Surrogate(shape, width=0.5).slope(torch.zeros(()))) == pytest.approx(1)
    assert AREAS[shape] > 0


@given(st.floats(0, 1), st.integers(1, 20))
def test_potential_leaks_by_a_geometric_series(leak: float, steps: int) -> None:
    """Below the threshold nothing but the leak acts: V_t = Σ leak^(t−k) z_k."""
    z = torch.full((steps, 1), 0.01, dtype=torch.float64)
    neuron, theta = LIF(leak=leak), torch.tensor(1.0, dtype=torch.float64)
    state = neuron.initial(z[0], theta)
    for current in z:
        _, state = neuron.step(state, current, theta)
    wanted = sum(0.01 * leak**k for k in range(steps))
    assert float(state.potential) == pytest.approx(wanted, rel=1e-12)


def test_leaks_of_every_step_act_as_the_leak_and_learn() -> None:
    torch.manual_seed(2)
    z = torch.randn(6, 2, 3, dtype=torch.float64)
    leaks = torch.full((6,), 0.8, dtype=torch.float64, requires_grad=True)
    ours, theirs = run(LIF(), z, THETA, leaks), run(LIF(leak=0.8), z, THETA)
    assert torch.equal(ours, theirs)
    ours.sum().backward()
    assert leaks.grad[0] == 0  # nothing is there to leak before the first step
    assert bool((leaks.grad[1:] != 0).all())


def test_wrong_parameters_are_named() -> None:
    for make, word in (
        (lambda: Surrogate("square"), "rectangle"),
        (lambda: Surrogate(width=0), "width"),
        (lambda: LIF(leak=1.5), "leak"),
    ):
        with pytest.raises(ValueError, match=word):
            make()
