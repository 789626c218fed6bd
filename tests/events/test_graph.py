"""Edges: found at once and one at a time, they are the same, and those of the definition."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnlib.events.aegnn import SplineConvolution, basis, graph
from snnlib.events.asynchronous import weights
from snnlib.events.graph import Growing, Rule, edges
from snnlib.zoo.event_files import Recordings

SIZE = (7, 6)


def drawn(seed, counts=(40, 0, 25)):
    random, total = np.random.default_rng(seed), sum(counts)
    t = np.concatenate([np.sort(random.integers(0, 90, n)) for n in counts]).astype(np.float32)
    x, y = (random.integers(0, side, total).astype(np.uint8) for side in SIZE)
    return Recordings(
        x, y, t, random.choice([-1, 1], total).astype(np.int8),
        np.concatenate([[0], np.cumsum(counts)]), np.zeros(len(counts), np.int64), ("a",), SIZE,
    )  # fmt: skip


def by_definition(recordings, rule):
    """Every pair is looked at."""
    found = set()
    for start, end in zip(recordings.starts[:-1], recordings.starts[1:], strict=True):
        x, y = recordings.x.astype(int), recordings.y.astype(int)
        for i in range(start, end):
            for j in range(start, i):
                near = max(abs(x[i] - x[j]), abs(y[i] - y[j])) <= rule.radius
                later = any(x[k] == x[j] and y[k] == y[j] for k in range(j + 1, i))
                if near and not later and recordings.t[i] - recordings.t[j] <= rule.window:
                    found |= {(j, i), (i, j)} if rule.mutual else {(j, i)}
    return found


@given(st.integers(0, 10_000), st.integers(1, 2), st.sampled_from([5.0, 30.0]), st.booleans())
@settings(max_examples=12, deadline=None)
def test_edges_are_those_of_the_definition(seed, radius, window, mutual):
    recordings, rule = drawn(seed), Rule(radius, window, mutual, side=3)
    found = edges(recordings, rule)
    assert len(set(map(tuple, found.T.tolist()))) == found.shape[1]  # none twice
    assert set(map(tuple, found.T.tolist())) == by_definition(recordings, rule)
    for i in range(len(recordings)):
        one, growing = recordings.take([i]), Growing(SIZE, rule)
        grown = {
            (int(j), n)
            for n, (x, y, t) in enumerate(zip(one.x, one.y, one.t, strict=True))
            for j in growing.add(int(x), int(y), float(t))
        }
        assert grown == {(j, n) for j, n in by_definition(one, rule) if j < n}


@given(st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_the_graph_of_the_first_events_is_a_part_of_the_whole(seed):
    recordings, rule = drawn(seed, (40,)), Rule(side=3, mutual=True)
    whole = set(map(tuple, edges(recordings, rule).T.tolist()))
    for n in (0, 1, 17):
        part = Recordings(
            recordings.x[:n], recordings.y[:n], recordings.t[:n], recordings.p[:n],
            np.array([0, n]), recordings.labels, ("a",), SIZE,
        )  # fmt: skip
        found = set(map(tuple, edges(part, rule).T.tolist()))
        assert found == {(j, i) for j, i in whole if max(i, j) < n}


@pytest.mark.parametrize("mutual", [False, True])
def test_cells_with_an_edge_touch_and_places_lie_in_the_cube(mutual):
    data = graph(drawn(1), Rule(radius=2, window=30, side=3, span=30, mutual=mutual))
    for e in (data.edge_attr, data.cell_attr):
        assert len(e)
        assert float(e.min()) >= 0
        assert float(e.max()) <= 1
    source, target = data.cells[data.cell_edges]
    assert torch.equal(source[:, 0], target[:, 0])  # of one recording
    assert int((source - target)[:, 1:].abs().max()) == 1
    joined = {(int(a), int(b)) for a, b in data.cell[data.edge_index].T if a != b}
    assert joined == set(map(tuple, data.cell_edges.T.tolist()))


@pytest.mark.parametrize("knots", [2, 3, 4])
def test_weights_are_those_of_linear_interpolation(knots):
    """They sum to 1, give back any linear function of the knots, and are 1 at a knot."""
    e = torch.rand(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    b = basis(e, knots)
    corner = torch.arange(knots, dtype=torch.float64) / (knots - 1)
    corners = torch.cartesian_prod(corner, corner, corner)
    assert torch.allclose(b.sum(1), torch.ones(50, dtype=torch.float64))
    assert torch.allclose(b @ corners, e)
    assert torch.equal(basis(corners, knots), torch.eye(knots**3, dtype=torch.float64))
    for one, found in zip(e.numpy(), b.numpy(), strict=True):
        assert np.allclose(weights(one, knots), found, atol=1e-15)


def test_the_convolution_is_the_sum_of_its_definition():
    torch.manual_seed(0)
    conv = SplineConvolution(3, 5).double()
    x, e = torch.randn(6, 3).double(), torch.rand(7, 3).double()
    pairs = torch.tensor([[0, 1, 2, 3, 4, 0, 1], [1, 2, 2, 2, 0, 5, 5]])
    found = conv(x, pairs, basis(e))
    W = conv.lin.weight.view(5, 8, 3).permute(1, 0, 2)  # (K, C', C)
    for i in range(6):
        heard = [n for n in range(7) if pairs[1, n] == i]
        wanted = conv.root(x[i])
        for n in heard:
            matrix = torch.einsum("k,koc->oc", basis(e[n : n + 1])[0], W)
            wanted = wanted + matrix @ x[pairs[0, n]] / len(heard)
        assert torch.allclose(found[i], wanted, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"radius": 0}, "radius"),
        ({"side": 1}, "side"),
        ({"window": 0.0}, "window"),
        ({"span": 20.0}, "span"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        Rule(**change)
