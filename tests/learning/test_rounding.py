"""Rounded activations: one function for what autograd would do in many, and the bits they take."""

import heapq
import math

import pytest
import torch
import torch.nn.functional as F

from snnlib.conversion.convert import convert
from snnlib.learning.loop import kept_bytes
from snnlib.learning.rounding import DeadZone, bits, rounded
from snnlib.neurons import Augmented
from snnlib.zoo import data, models

PENALTIES = ("count", "hoyer", "l1")


def plain(z, theta, weight, penalty, rounding):
    """The definitions, for autograd."""
    r = torch.relu(z) / theta
    count = torch.floor(r + 0.5)
    straight = torch.relu(z)
    sent = straight + (count * theta - straight).detach() if rounding else straight
    values = {
        "count": lambda: (weight * r**2 / (r**2 + 0.25)).flatten(1).sum(1),
        "hoyer": lambda: (weight * r).flatten(1).sum(1) ** 2 / (weight * r**2).flatten(1).sum(1),
        "l1": lambda: (weight * r).flatten(1).sum(1),
    }
    return sent, values[penalty]().mean(), ((count > 0) * weight).flatten(1).sum(1).mean()


def currents(*shape):
    torch.manual_seed(0)
    return torch.randn(*shape).double()


def weights(*shape):
    torch.manual_seed(1)
    found = torch.rand(*shape).double() + 0.1
    return found / found.sum()


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("rounding", [True, False])
@pytest.mark.parametrize("kind", ["uniform", "fan-outs", "channels"])
def test_one_function_does_what_autograd_does(penalty, rounding, kind):
    z = currents(5, 3, 4, 4)
    weight = torch.tensor(1 / 48).double() if kind == "uniform" else weights(3, 4, 4)
    theta = torch.tensor(0.4).double()
    if kind == "channels":
        theta = torch.tensor([0.3, 0.5, 1.1]).double().view(3, 1, 1)
    back, found = torch.randn_like(z), []
    for function in (rounded, plain):
        x = z.clone().requires_grad_(True)
        sent, value, active = function(x, theta, weight, penalty, rounding)
        assert not active.requires_grad
        ((sent * back).sum() + 3 * value).backward()
        found.append((sent.detach(), value.detach(), active, x.grad))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("penalty", PENALTIES)
def test_finite_differences_where_nothing_jumps(penalty):
    z = currents(3, 10)
    z = (z + 0.1 * z.sign()).requires_grad_(True)  # away from the kink at zero
    weight, theta = weights(10), torch.tensor(0.7).double()
    assert torch.autograd.gradcheck(
        lambda x: rounded(x, theta, weight, penalty, rounding=False)[:2], (z,)
    )


def test_rounding_is_straight_through():
    z = currents(4, 50).requires_grad_(True)
    sent, value, _ = rounded(z, torch.tensor(0.5).double(), weights(50), None)
    back = torch.randn_like(z)
    (sent * back).sum().backward()
    assert float(value.detach()) == 0
    assert torch.equal(z.grad, back * (z > 0))


def test_one_tensor_is_kept():
    z, weight = currents(8, 1000).requires_grad_(True), torch.tensor(1e-3).double()
    theta = torch.tensor(0.5).double()
    for penalty in PENALTIES:
        kept = kept_bytes(lambda p=penalty: sum(rounded(z, theta, weight, p)[:2]).sum())
        assert kept <= z.numel() * 8 + 200
    whole = kept_bytes(lambda: sum(plain(z, theta, weight, "count", True)[:2]).sum())
    assert whole > 3 * kept


def test_what_penalties_measure():
    """The count is ½ where rounding begins; Hoyer's is no larger than what is active."""
    one, weight = torch.tensor(1.0).double(), weights(200)
    edge = rounded(torch.full((1, 200), 0.5).double(), one, weight)
    assert float(edge[1]) == pytest.approx(0.5)
    assert float(edge[2]) == pytest.approx(1)
    z = currents(1, 200)
    positive = float(((z > 0) * weight).sum())
    values = {p: [float(rounded(k * z, one, weight, p)[1]) for k in (0.5, 1, 2, 1e6)]
              for p in PENALTIES}  # fmt: skip
    assert values["count"] == sorted(values["count"])
    assert values["count"][-1] == pytest.approx(positive, rel=1e-3)
    assert values["hoyer"] == pytest.approx([values["hoyer"][0]] * 4)  # it has no scale
    assert values["hoyer"][0] < positive
    alike = rounded(torch.where(z > 0, 0.3, 0.0).double(), one, weight, "hoyer")[1]
    assert float(alike) == pytest.approx(positive)  # where all are equal it counts them
    assert values["l1"][2] == pytest.approx(4 * values["l1"][0])


def test_nothing_active_is_no_trouble():
    for penalty in PENALTIES:
        z = torch.full((2, 5), -1.0, requires_grad=True)
        sent, value, active = rounded(z, torch.tensor(1.0), torch.tensor(0.2), penalty)
        (sent.sum() + value).backward()
        assert float(value.detach()) == float(active) == 0
        assert torch.equal(z.grad, torch.zeros(2, 5))


@pytest.mark.parametrize("penalty", PENALTIES)
def test_sixteen_bits_stay_sixteen_but_what_is_measured_is_wide(penalty):
    """Weights, such as a thousandth, are not rounded; neurons at the edge may tip."""
    z, weight = currents(4, 1000).bfloat16().requires_grad_(True), torch.full((1000,), 1e-3)
    sent, value, active = rounded(z, torch.tensor(0.5), weight, penalty)
    (sent.float().sum() + value).backward()
    assert sent.dtype == z.grad.dtype == torch.bfloat16
    assert value.dtype == active.dtype == torch.float32
    exact = rounded(z.detach().double(), torch.tensor(0.5).double(), weight.double(), penalty)
    assert float(active) == pytest.approx(float(exact[2]), rel=0.01)
    every = rounded(torch.ones(2, 1000).bfloat16(), torch.tensor(1.0), weight, penalty)
    assert float(every[2]) == pytest.approx(1, rel=1e-5)
    assert float(value.detach()) == pytest.approx(float(exact[1]), rel=0.01)


def test_a_dead_zone_depends_on_the_sum_alone():
    """N_T = ⌊S/θ + ½⌋ from the zone on, else 0, in whatever order the current comes."""
    torch.manual_seed(0)
    theta, zone = torch.tensor(0.5).double(), torch.tensor([0.5, 0.8, 1.7]).double().view(3, 1)
    neuron, z = DeadZone(levels=1, negative=0.0, zone=zone), torch.randn(6, 4, 3, 100).double()
    for order in (torch.arange(6), torch.randperm(6)):
        state = neuron.initial(z[0], theta)
        for t in order:
            _, state = neuron.step(state, z[t], theta)
        ratio = z.sum(0) / theta
        wanted = torch.where(ratio >= zone, torch.floor(ratio + 0.5), 0.0)
        assert torch.equal(state.count, wanted)
    assert neuron.fused is None  # no compiled update knows zones
    assert neuron != DeadZone(levels=1, negative=0.0, zone=0.9)


# bits


def huffman(counts):
    """Mean length of the best code that gives each value a word of its own."""
    heap = [(float(n), i) for i, n in enumerate(counts.tolist()) if n > 0]
    heapq.heapify(heap)
    total, cost, fresh = sum(n for n, _ in heap), 0.0, len(counts)
    while len(heap) > 1:
        a, b = heapq.heappop(heap), heapq.heappop(heap)
        cost, fresh = cost + a[0] + b[0], fresh + 1
        heapq.heappush(heap, (a[0] + b[0], fresh))
    return cost / total


def blocks(values, length):
    """How often each block of consecutive values occurs."""
    base = int(values.max()) + 1
    cut = values[: len(values) // length * length].view(-1, length)
    return torch.bincount((cut * base ** torch.arange(length)).sum(1))


def sent_by_digits():
    train, test = data.load("digits")
    net = convert(
        models.load("digits-cnn"), train[:200].floats(), Augmented(levels=8, negative=0.0)
    )
    run = net(test[:50].floats(), 1, record=tuple(net.graph.spiking))
    return [trace.coefficient[0].flatten().long() for trace in run.trace.values()]


def samples():
    torch.manual_seed(0)
    random = [torch.poisson(torch.full((20_000,), rate)).long() for rate in (0.05, 0.5, 3.0)]
    return [*random, *sent_by_digits()]


def test_no_code_is_shorter_and_blocks_come_near():
    """Huffman's code of single values, and of blocks of independent ones, against the bound."""
    torch.manual_seed(1)
    for values in samples():
        counts = torch.bincount(values)
        bound = bits(counts).total
        assert bound <= huffman(counts) + 1e-9 < bound + 1
        drawn = values[torch.randint(len(values), (40_000,))]  # independent, the same shares
        own = bits(torch.bincount(drawn)).total
        for length in (2, 3):
            assert huffman(blocks(drawn, length)) / length < own + 1 / length


def test_the_parts_are_those_of_the_entropy():
    for values in samples():
        counts = torch.bincount(values)
        shares = counts[counts > 0].double() / counts.sum()
        found = bits(counts)
        assert found.total == pytest.approx(float(-(shares * shares.log2()).sum()))
        assert found.active == pytest.approx(float((values > 0).double().mean()))
        assert 0 <= found.where <= 1
        assert found.what <= found.active * math.log2(max(2, len(counts) - 1)) + 1e-12
        halves = [bits(torch.bincount(part)).total for part in values.chunk(2)]
        assert sum(halves) / 2 <= found.total + 1e-3  # halves of one size: codes of their own


def test_extremes_of_the_bound():
    assert bits(torch.tensor([5])).total == 0
    assert bits(torch.tensor([0, 7])).total == 0
    assert bits(torch.tensor([3, 3])).total == 1
    assert bits(torch.full((8,), 2)).total == pytest.approx(3)
    with pytest.raises(ValueError, match="nothing"):
        bits(torch.zeros(4))


def test_pooling_never_needs_fewer_bits():
    """Concavity: neurons counted together need at least the mean of what each needs."""
    torch.manual_seed(0)
    tables = torch.randint(1, 50, (20, 6))
    tables = (F.normalize(tables.double(), p=1, dim=1) * 1e6).round()
    each = [bits(row).total for row in tables]
    assert sum(each) / len(each) < bits(tables.sum(0)).total
