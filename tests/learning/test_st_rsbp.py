"""ST-RSBP: its responses are the sums over pairs of spikes; its gradient points where it should."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from snnlib.learning import st_rsbp
from snnlib.learning.st_rsbp import STRSBP, correction, even_trains, responses, simulate


@given(st.floats(0, 1), st.integers(1, 30), st.floats(0, 0.8), st.integers(0, 1000))
def test_responses_are_the_sums_over_pairs_of_spikes(leak, steps, rate, seed):
    """Brute force: every spike of j since i's last one, decayed, at every spike of i."""
    generator = torch.Generator().manual_seed(seed)
    inputs, outputs = (
        (torch.rand(steps, 2, n, generator=generator) < rate).double() for n in (4, 3)
    )
    expected = torch.zeros(2, 3, 4, dtype=torch.float64)
    for b in range(2):
        for i in range(3):
            since = -1
            for t in range(steps):
                if outputs[t, b, i] == 0:
                    continue
                for j in range(4):
                    for k in range(since + 1, t + 1):
                        expected[b, i, j] += inputs[k, b, j] * leak ** (t - k)
                since = t
    torch.testing.assert_close(responses(inputs, outputs, leak), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("recurrent", [False, True])
def test_potential_at_the_spikes_is_what_the_responses_say(recurrent):
    """a_i = Σ w_ij e_ij is the sum of the potentials that fired: so a_i ≥ θ o_i, exactly."""
    torch.manual_seed(0)
    leak, theta = 0.9, 0.7
    trains = (torch.rand(40, 3, 6) < 0.4).double()
    weight = 0.3 * torch.randn(5, 6, dtype=torch.float64)
    own = 0.2 * torch.randn(5, 5, dtype=torch.float64) if recurrent else None
    spikes = simulate(trains, weight, own, leak, theta)
    fired, potential = torch.zeros(3, 5, dtype=torch.float64), torch.zeros(3, 5).double()
    before = torch.zeros(3, 5).double()
    for train, spike in zip(trains, spikes, strict=True):
        potential = leak * potential + train @ weight.T
        if own is not None:
            potential = potential + before @ own.T
        fired += potential * spike
        potential, before = potential * (1 - spike), spike
    a = torch.einsum("bij,ij->bi", responses(trains, spikes, leak), weight)
    if own is not None:
        delayed = F.pad(spikes[:-1], (0, 0, 0, 0, 1, 0))
        a += torch.einsum("bij,ij->bi", responses(delayed, spikes, leak), own)
    torch.testing.assert_close(a, fired, rtol=1e-10, atol=1e-10)
    assert float(spikes.sum()) > 0
    assert bool((a >= theta * spikes.sum(0) - 1e-12).all())


def test_gradient_without_the_matrix_is_the_gradient_with_it():
    """Both layers of a feed-forward network, all active, from pairwise responses."""
    torch.manual_seed(1)
    net = STRSBP((6, 5, 3), leak=0.9, rounds=0).double()
    with torch.no_grad():
        net.recurrent[0].zero_()
        for weight in net.weights:
            weight.abs_()
    trains = (torch.rand(30, 4, 6) < 0.5).double()
    error = torch.randn(4, 3, dtype=torch.float64)
    (net(trains) * error).sum().backward()
    hidden = simulate(trains, net.weights[0].detach(), None, 0.9, 1.0)
    out = simulate(hidden, net.weights[1].detach(), None, 0.9, 1.0)
    assert float(hidden.sum(0).min()) > 0
    assert float(out.sum(0).min()) > 0
    e1, e2 = responses(trains, hidden, 0.9), responses(hidden, out, 0.9)
    g2 = error / correction(out.sum(0), 30, 0.9)  # θ = 1
    torch.testing.assert_close(net.weights[1].grad, torch.einsum("bi,bij->ij", g2, e2))
    back = torch.einsum("bi,ij,bij->bj", g2, net.weights[1].detach(), e2) / hidden.sum(0)
    g1 = back / correction(hidden.sum(0), 30, 0.9)
    torch.testing.assert_close(net.weights[0].grad, torch.einsum("bi,bij->ij", g1, e1))


def test_silent_neurons_pass_half():
    weight = torch.tensor([[0.2, 0.3]], dtype=torch.float64, requires_grad=True)
    counts = torch.tensor([[0.0, 2.0]], dtype=torch.float64, requires_grad=True)
    trains = torch.zeros(5, 1, 2, dtype=torch.uint8)
    trains[1, 0, 1] = trains[3, 0, 1] = 1
    _, out = st_rsbp._Layer.apply(trains, counts, weight, None, 1.0, 1.0, 0)
    assert not out.any()  # 2 × 0.3 < θ: neither fires
    out.sum().backward()
    torch.testing.assert_close(counts.grad, 0.5 * weight.detach())


@pytest.mark.parametrize("recurrent", [0.0, 0.03])
def test_gradient_points_as_finite_differences_of_a_smoothed_count(recurrent):
    """Counts are whole; their mean over many shifted inputs is smooth enough to differentiate."""
    torch.manual_seed(2)
    steps, leak, copies, by = 100, 0.97, 800, 0.02
    net = STRSBP((8, 10, 3), leak=leak).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        net.weights[0].copy_(0.10 + 0.06 * torch.randn(10, 8, generator=generator))
        net.weights[1].copy_(0.15 + 0.1 * torch.randn(3, 10, generator=generator))
        net.recurrent[0].copy_(recurrent * torch.randn(10, 10, generator=generator))
    rates = torch.rand(8, generator=generator) * 0.5
    trains = (torch.rand(steps, copies, 8, generator=generator) < rates).to(torch.uint8)
    error = torch.tensor([1.0, -0.5, 0.3], dtype=torch.float64)
    (net(trains) * error).sum(1).mean().backward()
    for parameter in (net.weights[0], net.weights[1]):
        difference = torch.zeros_like(parameter)
        for index in torch.cartesian_prod(*map(torch.arange, parameter.shape)).tolist()[::3]:
            with torch.no_grad():
                values = []
                for sign in (1, -1):
                    parameter[tuple(index)] += sign * by
                    values.append(float((net(trains) * error).sum(1).mean()))
                    parameter[tuple(index)] -= sign * by
            difference[tuple(index)] = (values[0] - values[1]) / (2 * by)
        ours = torch.where(difference == 0, 0, parameter.grad)
        # Measured: 0.92 to 0.98. An approximation, and it lives on increments far below θ.
        assert float(F.cosine_similarity(ours.flatten(), difference.flatten(), dim=0)) > 0.85


@given(st.integers(1, 60), st.floats(0, 1))
def test_even_trains_have_the_count_of_the_rate(steps, x):
    trains = even_trains(torch.tensor([[x]], dtype=torch.float64), steps)
    counts = trains.to(torch.float64).cumsum(0)[:, 0, 0]
    ideal = x * torch.arange(1, steps + 1)
    assert float((counts - ideal).abs().max()) <= 0.5 + 1e-9
    assert int(trains.max()) <= 1


def test_wrong_arguments_are_named():
    for arguments, word in (
        ({"sizes": (3,)}, "sizes"),
        ({"sizes": (3, 2), "leak": 2}, "leak"),
        ({"sizes": (3, 2), "theta": 0}, "theta"),
        ({"sizes": (3, 2), "rounds": -1}, "rounds"),
    ):
        with pytest.raises(ValueError, match=word):
            STRSBP(**arguments)
