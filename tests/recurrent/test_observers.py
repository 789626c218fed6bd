"""The observers against brute force, Bayes' rule written out, and Wald's identity."""

import itertools

import numpy as np
import pytest
import torch

from snnlib.recurrent import crossing, tasks
from snnlib.recurrent.observers import BitsObserver, RatioTest


def label(bits, run):
    groups = [len(list(group)) for _, group in itertools.groupby(bits)]
    return int(max(groups) >= run)


@pytest.mark.parametrize(("length", "run"), [(9, 3), (11, 5), (4, 4), (3, 5)])
def test_posterior_by_brute_force(length, run):
    """Over all sequences: the share of class 1 among those that begin alike."""
    every = list(itertools.product((0, 1), repeat=length))
    found = BitsObserver(length, run).probabilities(torch.tensor(every))
    labels = {bits: label(bits, run) for bits in every}
    for t in range(1, length + 1):
        begin = {}
        for bits in every:
            begin.setdefault(bits[:t], []).append(labels[bits])
        expected = [np.mean(begin[bits[:t]]) for bits in every]
        assert np.allclose(found[:, t - 1], expected, atol=1e-15)


@pytest.mark.parametrize("p", [0.7, 0.9, 0.95, 1.0])
def test_mean_time_by_brute_force(p):
    observer = BitsObserver(10, 3)
    every = torch.tensor(list(itertools.product((0, 1), repeat=10)))
    y = observer.probabilities(every)
    done = torch.maximum(y, 1 - y) >= p
    done[:, -1] = True
    assert observer.mean_time(p) == pytest.approx(float((done.int().argmax(1) + 1).double().mean()))


def test_the_observer_of_the_book_waits_until_it_is_certain():
    """Its posteriors between 15/16 and 1 do not exist on the side of class 0, nor of class 1."""
    observer = BitsObserver()
    means = [observer.mean_time(p) for p in (0.94, 0.95, 0.99, 1.0)]
    assert means[0] == means[-1]
    assert observer.mean_time(0.9375) < means[0]
    assert means[0] == pytest.approx(17.49, abs=0.005)


def test_tasks_are_what_they_say():
    data = tasks.bits(500, seed=3)
    assert data.values.shape == (500, 25, 1)
    expected = [label(bits.flatten().tolist(), 5) for bits in data.values]
    assert data.labels.tolist() == expected
    again, other = tasks.bits(500, seed=3), tasks.bits(500, seed=4)
    assert torch.equal(again.values, data.values)
    assert not torch.equal(other.values, data.values)
    noisy = tasks.noisy_mean(20_000, seed=0)
    sides = noisy.labels * 2 - 1
    sigma = noisy.info["sigma"]
    assert float(sigma.min()) >= 0.05
    assert float(sigma.max()) <= 0.25
    error = 6 * 0.25 / (20_000 * 40) ** 0.5
    assert float((noisy.values[..., 0] * sides[:, None]).mean()) == pytest.approx(0.05, abs=error)


def test_ratios_are_bayes_rule():
    """Known noise: the closed form is the sum of log densities. Unknown: a fine grid of them."""
    data = tasks.noisy_mean(30, seed=1)
    x, sigma = data.values[..., 0].double(), data.info["sigma"].double()

    def density(mean, s):
        return torch.distributions.Normal(mean, s).log_prob(x[:, None]).cumsum(-1)  # (N, S, T)

    test = RatioTest()
    known = density(0.05, sigma[:, None, None]) - density(-0.05, sigma[:, None, None])
    assert torch.allclose(test.ratios(x, sigma), known[:, 0], rtol=1e-9, atol=1e-9)
    grid = 0.05 + 0.2 * (torch.arange(4000, dtype=torch.float64)[:, None] + 0.5) / 4000
    unknown = density(0.05, grid).logsumexp(1) - density(-0.05, grid).logsumexp(1)
    assert torch.allclose(test.ratios(x), unknown, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("p", [0.8, 0.95])
def test_ratio_test_against_its_closed_form(p):
    """Wald: the error is at most 1 − p, and mean time × drift is the mean ratio at the end.

    Both within six standard errors, for a test that may go on as long as it likes.
    """
    data = tasks.noisy_mean(4000, seed=2, steps=400, noise=(0.15, 0.15))
    z = RatioTest().ratios(data.values[..., 0], data.info["sigma"])[..., None]
    times = crossing.first_crossing(z, p)
    assert int(times.max()) < 400
    final = crossing.at(z, times)[:, 0]
    right = crossing.answer(crossing.at(z, times)) == data.labels
    assert float((~right).double().mean()) <= 1 - p + 6 * (p * (1 - p) / 4000) ** 0.5
    drift = 2 * 0.05**2 / 0.15**2
    sides = final * (data.labels * 2 - 1) - drift * times  # mean 0 by Wald's identity
    assert abs(float(sides.mean())) <= 6 * float(sides.std()) / 4000**0.5
    # Without the overshoot of the last sample, the classical formula bounds the mean from below.
    odds = np.log(p / (1 - p))
    classical = (2 * p - 1) * odds / drift
    assert classical < float(times.double().mean()) < classical * 1.5 + 3


def test_knowing_the_noise_helps():
    """Of two observers with the same threshold, that with more knowledge errs no more."""
    data = tasks.noisy_mean(20_000, seed=5)
    x = data.values[..., 0]
    right = []
    for sigma in (data.info["sigma"], None):
        z = RatioTest().ratios(x, sigma)[..., None]
        last = crossing.answer(z[:, -1])
        right.append(float((last == data.labels).double().mean()))
    assert right[0] >= right[1] - 6 * (0.25 / 20_000) ** 0.5
    assert right[0] > 0.95
