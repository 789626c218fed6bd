"""Threshold balancing: each λ equals an independent computation on all activations at once."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from snnlib.backend.order_statistics import Largest, grouped
from snnlib.conversion import balance
from snnlib.conversion.balance import (
    Max,
    MinError,
    Percentile,
    balance_thresholds,
    firing_thresholds,
    observe,
)
from snnlib.conversion.trace import trace
from snnlib.graph.graph import Graph


@pytest.fixture(scope="module")
def images() -> Tensor:
    """In float64: batches of other size differ by rounding, which is far below float32's."""
    return torch.rand(23, 2, 9, 9, generator=torch.Generator().manual_seed(0)).double()


@pytest.fixture(scope="module")
def graph(images: Tensor) -> Graph:
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(80, 12), nn.ReLU(), nn.Linear(12, 3),
    )  # fmt: skip
    with torch.no_grad():
        model[0].bias[3] = -50.0  # type: ignore[index, union-attr, operator]  # a dead channel
    return trace(model.double().eval(), images[:2])


def activations(graph: Graph, images: Tensor, per_channel: bool) -> dict[str, np.ndarray]:
    """All activations of each layer, one row a layer or channel, in float64."""
    found: dict[str, list[Tensor]] = {}
    observe(
        graph, images, len(images), lambda name, value: found.setdefault(name, []).append(value)
    )
    rows = {}
    for name, parts in found.items():
        value = torch.cat(parts).double().transpose(0, 1)
        rows[name] = value.reshape(len(value) if per_channel else 1, -1).numpy()
    return rows


@pytest.mark.parametrize("kept", [balance._KEPT, 0], ids=["largest kept", "bracketed"])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("q", [1.5, 10, 50, 90, 99, 99.9, 100])
def test_percentile_is_numpys(
    graph: Graph, images: Tensor, q: float, per_channel: bool, kept: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(balance, "_KEPT", kept)
    found = balance_thresholds(graph, images, Percentile(q), per_channel, batch=7)
    for name, rows in activations(graph, images, per_channel).items():
        expected = np.percentile(rows, q, axis=1)
        np.testing.assert_allclose(found[name].flatten().numpy(), expected, rtol=2e-7)


def test_percentile_of_ties_and_of_one_value(images: Tensor) -> None:
    model = (
        nn.Sequential(nn.Flatten(), nn.Linear(162, 4), nn.ReLU(), nn.Linear(4, 2)).double().eval()
    )
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.copy_(torch.tensor([1.0, 1.0, 1.0, 2.0]))
    graph = trace(model, images[:2])
    for q, expected in ((10, 1.0), (75, 1.25), (75.5, 2.0), (100, 2.0)):
        found = balance_thresholds(graph, images[:1], Percentile(q))["2"]
        assert float(found) == pytest.approx(np.percentile([1, 1, 1, 2], q)), (q, expected)


@pytest.mark.parametrize("per_channel", [False, True])
def test_max_is_the_largest_activation(graph: Graph, images: Tensor, per_channel: bool) -> None:
    found = balance_thresholds(graph, images, Max(), per_channel, batch=5)
    for name, rows in activations(graph, images, per_channel).items():
        np.testing.assert_allclose(found[name].flatten().numpy(), rows.max(1), rtol=1e-12)


@pytest.mark.parametrize(
    ("levels", "slack"), [(1, 0.01), (4, 0.01), (16, 0.01), (1024, 0.1), (1025, 0.1), (10**5, 0.1)]
)
def test_no_other_threshold_makes_a_smaller_error(
    graph: Graph, images: Tensor, levels: int, slack: float
) -> None:
    """The slack is the scatter of rounding errors: a few hundred values in many cells."""

    def error(values: np.ndarray, balanced: float) -> float:
        theta = balanced / levels
        rounded = theta * np.minimum(np.floor(values / theta + 0.5), levels)
        return float(np.square(rounded - values).sum())

    found = balance_thresholds(graph, images, MinError(levels))
    for name, rows in activations(graph, images, per_channel=False).items():
        ours = error(rows[0], float(found[name]))
        candidates = np.linspace(0.02, 1, 400) * rows[0].max()
        best = min(error(rows[0], candidate) for candidate in candidates)
        assert ours <= (1 + slack) * best


@pytest.mark.parametrize("levels", [10**7, 2**53])
def test_what_is_not_rounded_is_not_clipped(graph: Graph, images: Tensor, levels: int) -> None:
    """The smallest error of endless levels is that of the maximum; it costs no more memory."""
    found = balance_thresholds(graph, images, MinError(levels), per_channel=True)
    for name, top in balance_thresholds(graph, images, Max(), per_channel=True).items():
        torch.testing.assert_close(found[name], top, rtol=1e-6, atol=0)


@pytest.mark.parametrize("make", [np.float64, np.float32, np.float16, np.int64, int, float])
def test_numbers_of_numpy_are_numbers(make: type) -> None:
    assert Percentile(make(99)) == Percentile(99)
    assert type(Percentile(make(99)).q) in (int, float)
    if issubclass(make, int | np.integer):
        assert repr(MinError(make(8))) == "MinError(levels=8)"


@pytest.mark.parametrize(("q", "meant"), [(0.999, "99.9"), (np.float64(0.9999), "99.99"), (1, 100)])
def test_a_fraction_is_no_percentile(q: float, meant: str) -> None:
    with pytest.raises(ValueError, match=rf"in percent; did you mean q={meant}\?"):
        Percentile(q)


@pytest.mark.parametrize("levels", [0, -1, True, np.True_, 2.0, "8", None, 2**53 + 1, 10**30])
def test_levels_are_whole(levels: int) -> None:
    with pytest.raises(ValueError, match=r"MinError: levels=.* must be a whole number from 1 to"):
        MinError(levels)


@pytest.mark.parametrize(
    ("method", "rtol"), [(Max(), 1e-12), (Percentile(99.0), 2e-7), (MinError(8), 1e-3)]
)
def test_batch_size_changes_nothing(graph: Graph, images: Tensor, method: Max, rtol: float) -> None:
    """To rounding: percentiles are in float32, MinError may move to a neighbor in its grid."""
    one = balance_thresholds(graph, images, method, per_channel=True, batch=1)
    all_at_once = balance_thresholds(graph, images, method, per_channel=True, batch=23)
    for name, value in one.items():
        torch.testing.assert_close(value, all_at_once[name], rtol=rtol, atol=0)


def test_a_channel_that_never_fires_has_no_threshold_of_its_own(
    graph: Graph, images: Tensor
) -> None:
    found = balance_thresholds(graph, images, Percentile(99.9), per_channel=True)["1"].flatten()
    assert (found == 0).tolist() == [False, False, False, True, False]


@pytest.mark.parametrize("method", [Max(), Percentile(99.9), MinError(4)])
def test_what_never_fires_gets_a_threshold_that_fires(
    graph: Graph, images: Tensor, method: Max
) -> None:
    whole = balance_thresholds(graph, images, method)
    found, dead = firing_thresholds(graph, images, method, per_channel=True)
    raw = balance_thresholds(graph, images, method, per_channel=True)
    assert dead == []
    for name, value in found.items():
        expected = torch.where(raw[name] > 0, raw[name], whole[name])
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)


def test_a_layer_that_never_fires_is_named(images: Tensor) -> None:
    model = (
        nn.Sequential(nn.Flatten(), nn.Linear(162, 4), nn.ReLU(), nn.Linear(4, 2)).double().eval()
    )
    with torch.no_grad():
        model[1].bias.fill_(-1e3)
    found, dead = firing_thresholds(trace(model, images[:2]), images, Percentile(99.0))
    assert (float(found["2"]), dead) == (1.0, ["2"])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_largest_values_of_a_stream_fed_by_threads(threads: int) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(60, 5, 40, generator=generator).mul(8).round().div(8)  # many ties
    values[:, 2] = 0
    values[:, 3] *= (torch.arange(60) == 7)[:, None]
    for count in (1, 3, 100, 2400):
        largest = Largest(5, count)
        largest._room = 50  # sorts all the time
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(largest.add, values.split(7)))
        expected = values.transpose(0, 1).flatten(1).sort(1, descending=True).values
        for place in {0, count // 2, count - 1}:
            torch.testing.assert_close(largest.from_top(place), expected[:, place], rtol=0, atol=0)


@pytest.mark.parametrize("room", [0, 5])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_threads_may_compare_and_hand_in_in_any_order(count: int, room: int) -> None:
    """All 2,520 orders in which four parts can be compared, each before it is handed in."""
    parts = torch.tensor(
        [[[1, 4, 2], [7, 0, 7]], [[9, 8, 9], [1, 1, 5]], [[3, 4, 5], [0, 0, 0]],
         [[6, 9, 0], [7, 6, 7]]], dtype=torch.float32
    )  # fmt: skip
    expected = parts.transpose(0, 1).flatten(1).sort(1, descending=True).values
    for order in set(itertools.permutations([0, 0, 1, 1, 2, 2, 3, 3])):
        largest, found = Largest(2, count), {}
        largest._room = room
        for part in order:
            if part in found:
                largest._take(found[part])
            else:
                found[part] = largest._candidates(parts[part : part + 1])
        for place in {0, count - 1}:
            assert torch.equal(largest.from_top(place), expected[:, place]), order


@pytest.mark.usefixtures("hasty")
def test_largest_values_of_hasty_threads() -> None:
    values = torch.rand(400, 3, 5, generator=torch.Generator().manual_seed(0))
    expected = values.transpose(0, 1).flatten(1).sort(1, descending=True).values
    with ThreadPoolExecutor(8) as pool:
        for _ in range(10):
            largest = Largest(3, 40)
            largest._room = 150
            list(pool.map(largest.add, values.split(3)))
            assert torch.equal(largest.from_top(39), expected[:, 39])


def test_layouts_group_alike() -> None:
    value = torch.arange(2 * 3 * 3 * 5).reshape(2, 3, 3, 5).float()
    expected = value.transpose(0, 1).flatten(1)
    for laid in (value, value.contiguous(memory_format=torch.channels_last)):
        rows = grouped(laid, 3).transpose(0, 1).flatten(1)
        assert torch.equal(rows.sort(1).values, expected)
        assert grouped(laid, 1).shape == (90, 1, 1)


def test_one_channel_of_its_own_keeps_its_shape(images: Tensor) -> None:
    model = nn.Sequential(nn.Conv2d(2, 1, 3), nn.ReLU(), nn.Flatten(), nn.Linear(49, 2))
    model.double().eval()
    found = balance_thresholds(trace(model, images[:2]), images, Max(), per_channel=True)
    assert found["1"].shape == (1, 1, 1)
