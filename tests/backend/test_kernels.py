"""The fused updates against the pure step functions: the same bits, compiled or not."""

import itertools
import subprocess
import sys

import pytest
import reference
import torch

from snnlib import IF, Augmented, Bernoulli, Percentile, Ternary, convert
from snnlib.backend import updates
from snnlib.backend.parallel import even_size
from snnlib.neurons import State

NEURONS = [
    IF(),
    IF(v0=0.0),
    IF(reset="zero"),
    Ternary(),
    Ternary(negative=0.0),
    Augmented(levels=4),
    Augmented(levels=4, negative=0.0),
    Augmented(levels=4, negative=0.3, v0=0.2, cap=3),
    Augmented(levels=8, negative=0.0, cap=2),
]
LAYERS = ("relu1", "relu2", "relu3", "relu4")
STEPS, IMAGES = 5, 3


@pytest.fixture(params=["compiled", "plain"])
def path(request, monkeypatch):
    """Each test runs with the compiled kernels and with plain PyTorch."""
    if request.param == "plain":
        monkeypatch.setattr(updates, "compiled", lambda: None)
    elif updates.compiled() is None:
        pytest.skip("numba is not installed: pip install snnlib[fast]")
    return request.param


def laid_out(value, last):
    return value.movedim(-3, -1).contiguous().movedim(-1, -3) if last else value


def stepwise(neuron, z, theta, bound=None):
    """Coefficients and final state by the pure step functions."""
    state, sent = neuron.initial(z[0], theta), []
    for t in range(STEPS):
        ceiling = None if bound is None else neuron.ceiling(bound, theta, t + 1)
        c, state = neuron.step(state, z[min(t, len(z) - 1)], theta, ceiling)
        sent.append(c)
    return torch.stack(sent), state


@pytest.mark.parametrize("bound", [None, 6.0])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_a_block_of_steps_is_the_steps(path, neuron, dtype, per_channel, bound):
    """Layers larger and smaller than a block, both memory formats, fixed current or not."""
    torch.manual_seed(0)
    for size, last, frames in itertools.product((2, 23), (False, True), (1, STEPS)):
        shape = (5, size, size)
        z = laid_out(3 * torch.randn(frames, IMAGES, *shape, dtype=dtype), last)
        theta = torch.tensor(0.7, dtype=dtype)
        if per_channel:
            theta = torch.rand(5, 1, 1, dtype=dtype) + 0.3
        fan_out = laid_out(torch.randint(0, 300, shape), last)
        sent, after = stepwise(neuron, z, theta, bound)
        state = neuron.initial(z[0], theta)
        out = z.clone() if frames == STEPS else laid_out(torch.empty_like(sent), last)
        rows = updates.advance(
            neuron, state, out if frames == STEPS else z, theta, out, bound=bound, fan_out=fan_out
        )
        assert torch.equal(out, sent * theta)
        assert torch.equal(state.potential, after.potential)
        assert torch.equal(state.count, after.count)
        expected = torch.stack([updates.tally(c, fan_out) for c in sent])
        assert torch.equal(rows.double(), expected)
        assert torch.equal(updates.tallies(sent, fan_out).double(), expected)
        counts = laid_out(torch.empty_like(sent), last)
        updates.advance(neuron, neuron.initial(z[0], theta), z, theta, counts, bound=bound,
                        counts=True)  # fmt: skip
        assert torch.equal(counts, sent)


def test_sums_of_huge_coefficients_are_exact(path):
    """A threshold far too small sends coefficients that would overflow sums in 32 bits."""
    z = torch.full((1, 1, 4096), 1e9, dtype=torch.float64)
    theta = torch.tensor(1.0, dtype=torch.float64)
    neuron = Augmented(levels=1)
    fan_out = torch.full((4096,), 2304)
    rows = updates.advance(
        neuron, neuron.initial(z[0], theta), z, theta, torch.empty_like(z), fan_out=fan_out
    )
    total = 4096 * 10**9
    assert rows[0].tolist() == [4096, total, 4096 * 2304, 4096 * 2304, total * 2304]


@pytest.mark.parametrize("neuron", [IF(), Augmented(levels=4), Ternary(negative=0.0)], ids=str)
def test_bfloat16_counts_are_exact_whole_numbers(path, neuron):
    """Potentials stay float32; coefficients fit bfloat16, so messages lose nothing."""
    torch.manual_seed(1)
    z, theta = torch.randn(STEPS, 2, 3000).bfloat16(), torch.tensor(0.3)
    state = neuron.initial(z[0].float(), theta)
    sent, after = stepwise(neuron, z.float(), theta)
    out = z.clone()
    updates.advance(neuron, state, z, theta, out, counts=True)
    assert torch.equal(out.float(), sent)
    assert torch.equal(state.potential, after.potential)
    out = torch.empty_like(z)
    updates.advance(neuron, neuron.initial(z[0].float(), theta), z, theta, out)
    assert torch.equal(out, (sent * theta).bfloat16())


@pytest.mark.parametrize("neuron", [IF(), Augmented(levels=2), Augmented(negative=0.0)], ids=str)
@pytest.mark.parametrize("counts", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_threshold_with_counts(path, neuron, counts, dtype):
    """Several blocks an image; fan-outs so large that a block's SynOps hardly fit into 32 bits."""
    torch.manual_seed(3)
    z, theta = torch.randn(STEPS, 2, 5000).to(dtype), torch.tensor(0.4)
    fan_out = torch.randint(1, 200_000, (5000,), dtype=torch.int32)
    sent, after = stepwise(neuron, z.float(), theta)
    for in_place in (True, False):
        state, current = neuron.initial(z[0].float(), theta), z.clone()
        out = current if in_place else torch.empty_like(z)
        rows = updates.advance(neuron, state, current, theta, out, counts=counts, fan_out=fan_out)
        assert torch.equal(out, (sent if counts else sent * theta).to(dtype))
        assert torch.equal(state.potential, after.potential)
        assert torch.equal(state.count, after.count)
        expected = torch.stack([updates.tally(c, fan_out) for c in sent])
        assert torch.equal(rows.double(), expected)


@pytest.mark.parametrize("bound", [None, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_closed_form_kernel(path, dtype, bound):
    torch.manual_seed(2)
    z = torch.randn(3, 7, 40, dtype=dtype)
    theta = torch.rand(7, 1, dtype=dtype) + 0.2
    found = updates.quantize(z, theta, 6, 0.5, bound, torch.empty_like(z))
    count = torch.floor(z * 6 / theta + 0.5).clamp_min(0)
    if bound is not None:
        count = torch.minimum(count, torch.floor(bound * 6 / theta + 0.5))
    assert torch.equal(found, count * theta / 6)
    assert (found > 0).any()


def images(count):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, 1, 8, 8, generator=generator, dtype=torch.float64)


@pytest.fixture(scope="module")
def base():
    return convert(reference.make(), images(40), Augmented(levels=4), balance=Percentile(99.0))


@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_compiled_network_counts_are_the_plain_ones(base, neuron, monkeypatch):
    """Recorded layers run in plain PyTorch: both paths, and any schedule, give the same counts."""
    net, x = base.replace(neuron=neuron), images(9)
    for coding in (None, Bernoulli(seed=3)):
        fast = net(x, 7, coding=coding)
        plain = net(x, 7, coding=coding, record=LAYERS)
        monkeypatch.setattr(updates, "compiled", lambda: None)
        bare = net(x, 7, coding=coding, batch=2)
        monkeypatch.undo()
        for other in (plain, bare):
            assert torch.equal(fast.events, other.events)
            assert torch.equal(fast.spikes, other.spikes)
            assert torch.equal(fast.synops().total, other.synops().total)
            assert torch.equal(fast.synops().unit_spikes, other.synops().unit_spikes)
            assert torch.allclose(fast.logits, other.logits, rtol=0, atol=1e-12)


def test_threads_change_nothing(base):
    x, before = images(17), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = base(x, 6, batch=2, record=("relu2",))
        torch.set_num_threads(3)
        assert base.schedule(17, 6, batch=2).workers == 3
        three = base(x, 6, batch=2, record=("relu2",))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one.events, three.events)
    assert torch.equal(one.trace["relu2"].coefficient, three.trace["relu2"].coefficient)
    potentials = [run.trace["relu2"].potential for run in (one, three)]
    for first, second in ((one.logits, three.logits), potentials):
        assert torch.allclose(first, second, rtol=0, atol=1e-12)


def test_an_error_in_a_thread_reaches_the_caller(base, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("out of spikes")

    monkeypatch.setattr(updates, "advance", fail)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(RuntimeError, match="out of spikes"):
            base(images(8), 3, batch=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


_PEAK = """
import resource, sys, torch
from torch import nn
from snnlib import Augmented, convert
torch.set_num_threads(1)  # memory of more threads depends on how they take turns
torch.manual_seed(0)
ann = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1),
                    nn.ReLU(), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(32 * 49, 10)).eval()
x = torch.rand(64, 1, 28, 28)
net = convert(ann, x[:8], Augmented(levels=4))
net(x[:2], 1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
net(x, int(sys.argv[1]), memory=sys.argv[2])
print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(steps, memory="1GB"):
    """Resident memory before and at the peak of a run, in MB, in a process of its own."""
    command = [sys.executable, "-c", _PEAK, str(steps), memory]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [int(word) / 1024 for word in done.stdout.split()]


def test_peak_memory_does_not_grow_with_the_steps():
    assert peak(256)[1] <= 1.1 * peak(32)[1]


def test_memory_limit_is_respected():
    """A run adds at most the limit (and PyTorch's workspace, 12 MB)."""
    before, after = peak(32, "24MB")
    assert after - before <= 24 + 12


@pytest.mark.parametrize("size", [2, 23])
def test_fused_state_is_state(path, size):
    """`advance` goes on where the last block ended."""
    torch.manual_seed(3)
    neuron, theta = Augmented(levels=2), torch.tensor(0.5)
    z = torch.randn(6, 2, 3, size, size)
    whole = State(*(part.clone() for part in neuron.initial(z[0], theta)))
    halves = State(*(part.clone() for part in neuron.initial(z[0], theta)))
    sent, parts = torch.empty_like(z), torch.empty_like(z)
    updates.advance(neuron, whole, z, theta, sent, bound=1.0)
    updates.advance(neuron, halves, z[:2], theta, parts[:2], bound=1.0)
    updates.advance(neuron, halves, z[2:], theta, parts[2:], first=3, bound=1.0)
    assert torch.equal(sent, parts)
    assert torch.equal(whole.potential, halves.potential)


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("most", [1, 7, 48])
@pytest.mark.parametrize("count", [1, 2, 96, 97, 500])
def test_parts_are_even(count, most, workers):
    size = even_size(count, most, workers)
    assert 1 <= size <= most
    parts = -(-count // size)
    rounds = -(-parts // workers)
    assert rounds * size - count / workers < rounds  # what the busiest worker has too much
