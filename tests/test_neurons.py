"""Neurons: the laws that every step must obey, then examples worked by hand."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from snnlib import IF, Augmented, Ternary
from snnlib.backend import updates
from snnlib.neurons import Neuron, State

FRACTIONS = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
AUGMENTED = st.builds(
    Augmented,
    levels=st.integers(1, 8),
    negative=FRACTIONS,
    v0=FRACTIONS,
    cap=st.none() | st.integers(1, 5),
)
TERNARY = st.builds(Ternary, negative=FRACTIONS, v0=FRACTIONS)
SUBTRACTING = st.one_of(st.builds(IF, v0=FRACTIONS), TERNARY, AUGMENTED)
NEURONS = SUBTRACTING | st.builds(IF, v0=FRACTIONS, reset=st.just("zero"))
THETAS = st.floats(0.05, 5)
CURRENTS = st.lists(st.floats(-3, 3), min_size=1, max_size=24)
# Multiples of 1/64 and a threshold that is a power of two: every sum and quotient is exact.
EXACT = st.lists(st.integers(-256, 256).map(lambda n: n / 64), min_size=1, max_size=24)
EXACT_THETAS = st.sampled_from([0.25, 0.5, 1.0, 2.0])


def scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def simulate(
    neuron: Neuron, currents: list[float], theta: float, bound: float | None = None
) -> tuple[list[State], list[float]]:
    """States (the initial one first) and coefficients of one neuron."""
    unit = scalar(theta)
    state = neuron.initial(torch.zeros(1, dtype=torch.float64), unit)
    states, sent = [state], []
    for t, z in enumerate(currents, 1):
        ceiling = None if bound is None else neuron.ceiling(bound, unit, t)
        c, state = neuron.step(state, scalar(z)[None], unit, ceiling)
        states.append(state)
        sent.append(float(c))
    return states, sent


@given(SUBTRACTING, CURRENTS, THETAS, st.none() | st.floats(0.1, 6))
def test_charge_is_conserved(neuron, currents, theta, bound):
    states, _ = simulate(neuron, currents, theta, bound)
    for t, state in enumerate(states):
        held = float(state.potential) + theta * float(state.count)
        assert held == pytest.approx(neuron.v0 * theta + sum(currents[:t]), abs=1e-9)


@given(NEURONS, CURRENTS, THETAS, st.none() | st.floats(0.1, 6))
def test_net_count_is_the_sum_of_coefficients_and_never_negative(neuron, currents, theta, bound):
    states, sent = simulate(neuron, currents, theta, bound)
    for state, total in zip(states[1:], itertools.accumulate(sent), strict=True):
        assert float(state.count) == total >= 0


@given(NEURONS, EXACT, EXACT_THETAS, st.integers(8, 400).map(lambda n: n / 64))
def test_bounded_unit_never_exceeds_its_bound(neuron, currents, theta, bound):
    states, _ = simulate(neuron, currents, theta, bound)
    for t, state in enumerate(states[1:], 1):
        assert float(state.count) <= math.floor(bound * t / theta + neuron.v0)


@given(FRACTIONS, FRACTIONS, CURRENTS, THETAS)
def test_ternary_is_augmented_with_a_cap_of_one(negative, v0, currents, theta):
    ternary = simulate(Ternary(negative, v0), currents, theta)
    augmented = simulate(Augmented(1, negative, v0, cap=1), currents, theta)
    assert ternary == augmented


@given(FRACTIONS, st.lists(st.floats(0, 3), min_size=1, max_size=24), THETAS)
def test_if_is_ternary_while_nothing_is_negative(v0, currents, theta):
    assert simulate(IF(v0), currents, theta) == simulate(Ternary(1.0, v0), currents, theta)


@given(AUGMENTED, CURRENTS, THETAS)
def test_cap_limits_every_coefficient(neuron, currents, theta):
    _, sent = simulate(neuron, currents, theta)
    if neuron.cap is not None:
        assert max(map(abs, sent)) <= neuron.cap


@given(FRACTIONS, FRACTIONS, EXACT, EXACT_THETAS)
def test_error_of_the_mean_stays_within_the_bound(negative, v0, currents, theta):
    states, _ = simulate(Augmented(1, negative, v0), currents, theta)
    bound = max(negative + v0, 1 - v0) * theta
    for t, total in enumerate(itertools.accumulate(currents), 1):
        if min(itertools.accumulate(currents[:t])) >= 0:  # both sides t times, and so exact
            assert abs(theta * float(states[t].count) - max(total, 0)) <= bound


@given(EXACT, EXACT_THETAS)
def test_rounding_neuron_is_within_half_a_threshold_whatever_came_before(currents, theta):
    states, _ = simulate(Augmented(1, negative=0.0, v0=0.5), currents, theta)
    for t, total in enumerate(itertools.accumulate(currents), 1):
        assert abs(theta * float(states[t].count) - max(total, 0)) <= theta / 2


@pytest.mark.parametrize("levels", [1, 4, 16])
@pytest.mark.parametrize("steps", [1, 8, 32])
def test_error_shrinks_as_one_over_levels_times_steps(levels, steps):
    """For evenly spread input the rounding error is uniform: its rms is (λ / levels T) / √12."""
    neuron, balanced = Augmented(levels, negative=0.0), scalar(2.0)
    theta = neuron.threshold(balanced)
    z = torch.linspace(0, 2, 20001, dtype=torch.float64)
    state = neuron.initial(z, theta)
    for _ in range(steps):
        _, state = neuron.step(state, z, theta)
    error = (state.count * theta / steps - z).square().mean().sqrt()
    assert float(error) == pytest.approx(2.0 / (levels * steps) / math.sqrt(12), rel=0.02)


@given(st.integers(1, 8), FRACTIONS, EXACT, EXACT_THETAS)
def test_memoryless_neuron_depends_on_the_summed_input_alone(levels, v0, currents, theta):
    neuron = Augmented(levels, negative=0.0, v0=v0)
    assert neuron.memoryless
    states, _ = simulate(neuron, currents, theta)
    for t, total in enumerate(itertools.accumulate(currents), 1):
        assert float(states[t].count) == max(0, math.floor(total / theta + v0))


@pytest.mark.parametrize(
    "neuron", [IF(), Ternary(negative=0.0), Augmented(), Augmented(negative=0.0, cap=3)]
)
def test_other_neurons_are_not_memoryless(neuron):
    assert not neuron.memoryless
    order = [[9.0], [3.0, -3.0], [0.75, -0.75, 0.0]]
    ends = [simulate(neuron, currents, 1.0)[0][-1].count for currents in order]
    rounded = [max(0, math.floor(sum(currents) + neuron.v0)) for currents in order]
    assert [float(count) for count in ends] != rounded


@given(THETAS, st.floats(-20, 20))
def test_unit_negative_threshold_truncates_toward_zero(theta, potential):
    ratio = scalar(potential) / scalar(theta)
    sent = Augmented(1, negative=1.0).decide(
        scalar(potential)[None], scalar(1e9)[None], scalar(theta)
    )
    assert float(sent) == math.trunc(float(ratio))


@given(
    NEURONS,
    st.lists(CURRENTS.map(lambda z: (z * 24)[:24]), min_size=1, max_size=4),
    THETAS,
    st.none() | st.floats(0.1, 6),
)
def test_kernel_is_the_step_function(neuron, rows, theta, bound):
    currents = torch.tensor(rows, dtype=torch.float64)  # (neurons, time)
    unit = scalar(theta)
    state = neuron.initial(currents[:, 0], unit)
    fused = neuron.initial(currents[:, 0], unit)
    for t in range(1, currents.shape[1] + 1):
        ceiling = None if bound is None else neuron.ceiling(bound, unit, t)
        z = currents[:, t - 1].clone()
        c, state = neuron.step(state, z, unit, ceiling)
        d = updates.update(neuron, fused, z, unit, ceiling)
        assert torch.equal(c, d)
        assert torch.equal(state.potential, fused.potential)
        assert torch.equal(state.count, fused.count)


@given(NEURONS, CURRENTS, THETAS)
def test_a_step_leaves_the_old_state_alone(neuron, currents, theta):
    state = neuron.initial(torch.zeros(1, dtype=torch.float64), scalar(theta))
    before = [value.clone() for value in state]
    z = scalar(currents[0])[None]
    neuron.step(state, z, scalar(theta))
    assert all(torch.equal(a, b) for a, b in zip(before, state, strict=True))
    assert float(z) == currents[0]


@given(AUGMENTED, THETAS)
def test_levels_divide_the_balanced_activation(neuron, balanced):
    theta = neuron.threshold(scalar(balanced))
    assert float(theta) == pytest.approx(balanced / neuron.levels)
    assert Ternary().threshold(scalar(balanced)) == IF().threshold(scalar(balanced)) == balanced


def test_thresholds_differ_by_channel():
    theta = torch.tensor([1.0, 2.0]).reshape(2, 1)
    neuron = Augmented(v0=0.0)
    z = torch.full((1, 2, 3), 4.0)
    c, state = neuron.step(neuron.initial(z, theta), z, theta)
    assert c[0].tolist() == [[4, 4, 4], [2, 2, 2]]
    assert not state.potential.any()


EXAMPLES = [
    # neuron, currents for θ = 1, coefficients
    (IF(v0=0.0), [0.4, 0.4, 0.4, 0.9], [0, 0, 1, 1]),
    (IF(v0=0.5), [0.4, 0.4, 0.4, 0.9], [0, 1, 0, 1]),
    (IF(v0=0.0), [2.5, 0.0, -3.0, 0.0], [1, 1, 0, 0]),
    (IF(v0=0.0), [1.0], [1]),  # V = θ fires
    (Ternary(v0=0.0), [2.0, 0.0, -3.0, 0.0, 0.0], [1, 1, -1, -1, 0]),
    (Ternary(v0=0.0), [-5.0], [0]),  # nothing to take back
    (Ternary(v0=0.0), [1.0, -1.0], [1, -1]),  # V = −θ takes back
    (Ternary(v0=0.0, negative=0.5), [1.0, -0.4, -0.1], [1, 0, -1]),
    (Ternary(v0=0.0, negative=0.0), [1.0, 0.0, -0.1], [1, 0, -1]),
    (Augmented(v0=0.0), [3.7, 0.0, -2.8, 0.0], [3, 0, -2, 0]),
    (Augmented(v0=0.0, cap=2), [3.7, 0.0, -3.8, 0.0], [2, 1, -2, -1]),
    (Augmented(v0=0.0), [2.0, -9.0], [2, -2]),  # never below zero
    (Augmented(v0=0.0, negative=0.5), [5.0, -0.4, -0.1, -2.1], [5, 0, -1, -2]),
    (Augmented(v0=0.0, negative=0.0), [5.0, -0.1, -1.0, 0.05], [5, -1, -1, 0]),
]


@pytest.mark.parametrize(("neuron", "currents", "coefficients"), EXAMPLES)
def test_examples_by_hand(neuron, currents, coefficients):
    assert simulate(neuron, currents, 1.0)[1] == coefficients


def test_reset_to_zero_loses_charge():
    """Current ¾ θ: subtraction fires nine times in twelve steps, reset to zero only six times."""
    kept, lost = IF(v0=0.0), IF(v0=0.0, reset="zero")
    currents = [0.75] * 12
    assert sum(simulate(kept, currents, 1.0)[1]) == 9
    assert sum(simulate(lost, currents, 1.0)[1]) == 6
    states, sent = simulate(lost, currents, 1.0)
    assert all(float(s.potential) == 0 for s, c in zip(states[1:], sent, strict=True) if c)


@pytest.mark.parametrize(
    ("make", "culprit"),
    [
        (lambda: IF(v0=-0.1), "v0=-0.1"),
        (lambda: IF(v0=1.5), "v0=1.5"),
        (lambda: IF(v0=math.nan), "v0=nan"),
        (lambda: IF(v0="half"), "v0='half'"),
        (lambda: IF(reset="none"), "reset='none'"),
        (lambda: Ternary(negative=2), "negative=2"),
        (lambda: Ternary(v0=-1), "v0=-1"),
        (lambda: Augmented(levels=0), "levels=0"),
        (lambda: Augmented(levels=2.5), "levels=2.5"),
        (lambda: Augmented(levels=True), "levels=True"),
        (lambda: Augmented(cap=0), "cap=0"),
        (lambda: Augmented(negative=-0.5), "negative=-0.5"),
        (lambda: Augmented(v0=math.inf), "v0=inf"),
    ],
)
def test_bad_parameters_are_named(make, culprit):
    with pytest.raises(ValueError, match="must be") as caught:
        make()
    assert culprit in str(caught.value)
