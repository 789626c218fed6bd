"""The transducer: it does not look ahead, decodes what its lattice says, and learns alignments."""

import pytest
import torch

from snnlib.recurrent import transducer
from snnlib.recurrent.lattice import transducer_loss
from snnlib.recurrent.strings import Strings
from snnlib.recurrent.transducer import OBJECTIVES, Transducer


def network(seed=0, symbols=3, dtype=torch.float64, **options):
    """A random network whose outputs are far from even."""
    torch.manual_seed(seed)
    net = Transducer(4, symbols, 8, predictor=5, joint=6, **{"stack": 2} | options).to(dtype)
    with torch.no_grad():
        net.out.weight.mul_(3)
    return net


def sound(frames=12, n=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, frames, 4, generator=generator, dtype=torch.float64)


def naive_greedy(net, one):
    """Node after node from the whole lattice of what is out so far."""
    symbols, groups = [], []
    for t in range(one.shape[0] // net.stack):
        for _ in range(transducer.PER_GROUP):
            z = net(one[None], torch.tensor([symbols], dtype=torch.int64))
            best = int(z[0, t, len(symbols)].argmax())
            if best == net.blank:
                break
            symbols.append(best)
            groups.append(t)
    return tuple(symbols), tuple(groups)


@pytest.mark.parametrize("seed", range(4))
def test_greedy_takes_the_most_probable_edge(seed):
    """In a batch of several lengths as one by one, from the lattice itself."""
    net, x, frames = network(seed), sound(), torch.tensor([12, 7, 2])
    found = net.greedy(x, frames)
    for one, end, emission in zip(x, frames, found, strict=True):
        assert emission == naive_greedy(net, one[:end])
    assert any(emission.symbols for emission in found)


@pytest.mark.parametrize("seed", range(3))
def test_a_beam_that_keeps_all_has_the_probabilities_of_the_lattice(seed):
    """Sums of paths by the search are those of the loss, string by string."""
    net, x = network(seed, symbols=2), sound(frames=4, n=1)
    found = net._search(net.of_sound(net.encode(x))[0], width=10**6)
    short = [(e, score) for e, score in found if len(e.symbols) <= transducer.PER_GROUP]
    assert len(short) == 1 + 2 + 4 + 8  # all strings of up to three symbols
    for emission, score in short:
        y = torch.tensor([emission.symbols], dtype=torch.int64)
        length = torch.tensor([len(emission.symbols)])
        loss = transducer_loss(net(x, y), y, torch.tensor([2]), length)
        assert score == pytest.approx(-float(loss.detach()), rel=1e-10)
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)


def test_the_best_of_a_wide_beam_is_its_answer():
    net, x = network(1), sound()
    frames = torch.tensor([12, 8, 5])
    for one, end, emission in zip(x, frames, net.beam(x, frames, width=3), strict=True):
        f = net.of_sound(net.encode(one[None, :end]))[0]
        assert emission == net._search(f, width=3)[0][0]
        assert len(emission.groups) == len(emission.symbols)
        assert list(emission.groups) == sorted(emission.groups)


def test_nothing_looks_ahead():
    """What is heard later changes nothing of what came out before."""
    net, x = network(2), sound(n=1)
    changed = x.clone()
    changed[:, 6:] += 1
    before, after = (
        [pair for pair in zip(*net.greedy(v, torch.tensor([12]))[0], strict=True) if pair[1] < 3]
        for v in (x, changed)
    )
    assert before == after
    torch.testing.assert_close(net.encode(x)[:, :3], net.encode(changed)[:, :3], rtol=0, atol=0)


def tiny(n=6, frames=60):
    """Strings of two digits, told apart by the one feature that is on while they last."""
    digits = torch.stack([torch.arange(n) % 3, (torch.arange(n) + 1) % 3], 1)
    begins, ends = torch.tensor([[1000, 2600], [1800, 3400]])
    x = torch.zeros(n, frames, 4)
    for i, pair in enumerate(digits.tolist()):
        for begin, end, digit in zip(begins.tolist(), ends.tolist(), pair, strict=True):
            x[i, begin // 80 : end // 80, digit] = 1
    digits, begins, ends = (
        torch.nn.functional.pad(part.expand(n, -1), (0, 3)) for part in (digits, begins, ends)
    )
    many = torch.ones(n, dtype=torch.int64)
    return Strings((), x, frames * many, digits, 2 * many, begins, ends, 0 * many)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_it_learns_to_name_what_it_hears(objective):
    """Each loss falls; whole-network pre-training puts the digits where they end."""
    strings = tiny()
    torch.manual_seed(3)
    net = Transducer(4, 10, 32, predictor=16, joint=32)
    adam = torch.optim.Adam(net.parameters(), 0.02)
    losses = []
    for _ in range(150):
        loss = net.loss(strings, objective)
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]
    if objective == "path":
        found = net.greedy(strings.values, strings.frames)
        assert [emission.symbols for emission in found] == [strings.said(i) for i in range(6)]
        where = transducer.emitted(strings, 3)[:, :2]
        assert [list(emission.groups) for emission in found] == where.tolist()
        with torch.no_grad():  # one path of all
            assert net.loss(strings, "transducer") < net.loss(strings, "path")


def test_what_pretraining_leaves_alone():
    """Encoder pre-training touches the encoder and its own output, and nothing of the rest."""
    net = network(4, symbols=10, dtype=torch.float32, stack=3)
    net.loss(tiny(), "encoder").backward()
    touched = {name.split(".")[0] for name, p in net.named_parameters() if p.grad is not None}
    assert touched == {"encoder", "namer"}
    net.zero_grad()
    net.loss(tiny(), "transducer").backward()
    touched = {name.split(".")[0] for name, p in net.named_parameters() if p.grad is not None}
    assert "namer" not in touched


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="stack"):
        Transducer(4, 3, stack=0)
    with pytest.raises(ValueError, match="objective='ctc'"):
        network(symbols=10).loss(tiny(), "ctc")
    for shape in ((1, 1, 4), (4,)):
        with pytest.raises(ValueError, match="has no 2 frames"):
            network().encode(torch.zeros(shape, dtype=torch.float64))
    with pytest.raises(ValueError, match="width"):
        network().beam(sound(), torch.tensor([12, 12, 12]), width=0)
