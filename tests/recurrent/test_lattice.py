"""The transducer's loss: the sum over all paths, with the gradient of a naive recursion."""

from itertools import combinations_with_replacement

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from snnlib.recurrent import lattice
from snnlib.recurrent.lattice import emission_posterior, path_loss, transducer_loss


def batch(seed=0, sequences=5, steps=6, most=3, symbols=4):
    """Random lattices of all sizes up to these, one of them the largest."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(
        sequences, steps, most + 1, symbols, generator=generator, dtype=torch.float64
    )
    targets = torch.randint(symbols - 1, (sequences, most), generator=generator)
    frames = torch.randint(1, steps + 1, (sequences,), generator=generator)
    lengths = torch.randint(most + 1, (sequences,), generator=generator)
    frames[0], lengths[0] = steps, most
    return logits.requires_grad_(), targets, frames, lengths


def all_paths(logits, targets, frames, lengths):
    """−ln Σ over every way to place the symbols in the frames, one path after another."""
    found = []
    for scores, y, t, u in zip(F.log_softmax(logits, -1), targets, frames, lengths, strict=True):
        paths = []
        for placed in combinations_with_replacement(range(int(t)), int(u)):
            total, out = 0.0, 0
            for frame in range(int(t)):
                while out < int(u) and placed[out] == frame:
                    total = total + scores[frame, out, y[out]]
                    out += 1
                total = total + scores[frame, out, -1]
            paths.append(total)
        found.append(-torch.stack(paths).logsumexp(0))
    return torch.stack(found)


def naive(logits, targets, frames, lengths):
    """The recursion node by node, as the equation has it, left to autograd."""
    found = []
    for scores, y, t, u in zip(F.log_softmax(logits, -1), targets, frames, lengths, strict=True):
        alpha = {(0, 0): scores.new_zeros(())}
        for frame in range(int(t)):
            for out in range(int(u) + 1):
                ways = []
                if frame:
                    ways.append(alpha[frame - 1, out] + scores[frame - 1, out, -1])
                if out:
                    ways.append(alpha[frame, out - 1] + scores[frame, out - 1, y[out - 1]])
                if ways:
                    alpha[frame, out] = torch.stack(ways).logsumexp(0)
        last = int(t) - 1, int(u)
        found.append(-alpha[last] - scores[*last, -1])
    return torch.stack(found)


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(0, 3), st.integers(2, 5))
@settings(max_examples=25)
def test_the_loss_is_the_sum_over_all_paths(seed, steps, most, symbols):
    data = batch(seed, 3, steps, most, symbols)
    torch.testing.assert_close(transducer_loss(*data), all_paths(*data), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("weights", [None, [1.0, -2.0, 0.5, 3.0, 0.0]])
def test_its_gradient_is_that_of_the_naive_recursion(weights):
    logits, *rest = batch()
    scale = torch.ones(5) if weights is None else torch.tensor(weights)
    found = [
        torch.autograd.grad((loss(logits, *rest) * scale).sum(), logits)[0]
        for loss in (transducer_loss, naive)
    ]
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-10)
    assert float(found[0].abs().max()) > 0.1


def test_its_gradient_is_that_of_finite_differences():
    logits, *rest = batch(sequences=2, steps=3, most=2, symbols=3)
    assert torch.autograd.gradcheck(lambda x: transducer_loss(x, *rest), (logits,))


@given(st.integers(0, 10**6))
@settings(max_examples=10)
def test_every_path_crosses_every_diagonal_once(seed):
    """The probabilities of the edges that leave a diagonal sum to one, up to the last."""
    data = batch(seed)
    parts = [part.detach().requires_grad_() for part in lattice.edges(*data)]
    frames, lengths = data[2:]
    loss = lattice._Lattice.apply(*parts, frames, lengths)
    leaving = sum(-part for part in torch.autograd.grad(loss.sum(), parts))  # (B, T, U + 1)
    steps, nodes = leaving.shape[1:]
    diagonal = torch.arange(steps)[:, None] + torch.arange(nodes)
    sums = torch.zeros(5, steps + nodes - 1, dtype=torch.float64)
    sums.index_add_(1, diagonal.flatten(), leaving.flatten(1))
    crossed = torch.arange(steps + nodes - 1) < (frames + lengths)[:, None]
    torch.testing.assert_close(sums, crossed.double(), rtol=1e-10, atol=1e-10)


def test_the_paths_of_path_loss_are_those_of_the_loss():
    """Its probabilities over every alignment add up to P(y), so no path costs less than all."""
    logits, targets, _, _ = batch(sequences=1)
    frames, lengths = torch.tensor([5]), torch.tensor([3])
    ways = list(combinations_with_replacement(range(5), 3))
    losses = torch.cat(
        [path_loss(logits, targets, torch.tensor([way]), frames, lengths) for way in ways]
    )
    whole = transducer_loss(logits, targets, frames, lengths)
    torch.testing.assert_close(-(-losses).logsumexp(0), whole[0], rtol=1e-10, atol=1e-10)
    assert bool((losses > whole).all())


def test_a_symbol_comes_out_once():
    """Its probabilities over the frames sum to one, none after the sequence's last frame."""
    data = batch()
    found = emission_posterior(*data)
    there = (torch.arange(3) < data[3][:, None]).double()
    torch.testing.assert_close(found.sum(1), there)
    late = torch.arange(6)[:, None] >= data[2][:, None, None]
    assert float(found[late.expand_as(found)].abs().sum()) == 0


def test_padding_changes_nothing():
    """What lies beyond a sequence's frames and symbols has no influence, and gets no gradient."""
    logits, targets, frames, lengths = batch(1)
    loss = transducer_loss(logits, targets, frames, lengths)
    for i, (t, u) in enumerate(zip(frames.tolist(), lengths.tolist(), strict=True)):
        alone = logits[i : i + 1, :t, : u + 1]
        one = transducer_loss(alone, targets[i : i + 1, :u], frames[i : i + 1], lengths[i : i + 1])
        torch.testing.assert_close(one[0], loss[i])
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    for i, (t, u) in enumerate(zip(frames.tolist(), lengths.tolist(), strict=True)):
        assert not gradient[i, t:].any()
        assert not gradient[i, :, u + 1 :].any()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"logits": torch.zeros(5, 6, 4)}, "logits must be"),
        ({"targets": torch.zeros(5, 4, dtype=torch.int64)}, "targets must be"),
        ({"targets": torch.full((5, 3), 3)}, "the blank"),
        ({"frames": torch.zeros(5, dtype=torch.int64)}, "frames must be"),
        ({"lengths": torch.full((5,), 4)}, "lengths must be"),
    ],
)
def test_wrong_arguments_are_named(change, word):
    names = ("logits", "targets", "frames", "lengths")
    arguments = dict(zip(names, batch(), strict=True)) | change
    with pytest.raises(ValueError, match=word):
        transducer_loss(**arguments)
