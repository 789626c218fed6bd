"""Touch: what is sent is known up to the threshold; recordings are read alone; costs are counts."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snnlib.learning import touch
from snnlib.learning.touch import (
    Counts,
    LSTMReader,
    SpikingReader,
    as_clips,
    decode,
    delta_code,
    lasting,
)
from snnlib.simulation.costs import literature_energy


def walks(seed, steps=30, channels=3, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(2, steps, channels, generator=generator).double().cumsum(1)


@given(st.integers(0, 10**6), st.sampled_from([0.3, 1.0, 2.5]))
def test_what_is_sent_is_known_up_to_the_threshold(seed, theta):
    x = walks(seed)
    known = decode(delta_code(x, theta, most=None), x[:, 0], theta)
    assert float((known - x).abs().max()) < theta * (1 + 1e-9)


@given(st.integers(0, 10**6))
def test_the_limit_holds_and_what_waits_is_sent_later(seed):
    """One event a step and channel; once the signal rests, all that was left is made up for."""
    x = walks(seed)
    x = torch.cat([x, x[:, -1:].expand(-1, 60, -1)], 1)
    events = delta_code(x, 1.0, most=1)
    on, off = events.chunk(2, -1)
    assert int((on + off).max()) <= 1
    known = decode(events, x[:, 0], 1.0)
    assert float((known[:, -1] - x[:, -1]).abs().max()) < 1 + 1e-9


@given(st.integers(0, 10**6), st.sampled_from([None, 1, 2]))
def test_units_signs_and_offsets_do_not_matter(seed, most):
    """Twice the signal and threshold, or an offset: the same events; upside down: swapped."""
    x = walks(seed).mul(64).round() / 64  # so that sums are exact
    events = delta_code(x, 0.5, most)
    assert torch.equal(delta_code(2 * x, 1.0, most), events)
    assert torch.equal(delta_code(x + 8, 0.5, most), events)
    assert torch.equal(delta_code(-x, 0.5, most), torch.cat(events.chunk(2, -1)[::-1], -1))


def test_a_signal_at_rest_sends_nothing():
    assert not delta_code(torch.full((1, 9, 2), 3.7), 0.1).any()


def trains(n=4, steps=25, channels=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    events = (torch.rand(n, steps, channels, generator=generator) < 0.3).double()
    return events, torch.tensor([steps, 17, 8, 1])[:n]


def reader(**options):
    torch.manual_seed(0)
    net = SpikingReader(6, 3, 10, **options).double()
    with torch.no_grad():
        net.weight.mul_(3)
    return net.eval()


@pytest.mark.parametrize("recurrent", [True, False])
def test_the_layer_is_its_equations(recurrent):
    """Neuron by neuron and step by step, operations counted one by one."""
    net, (events, lengths) = reader(recurrent=recurrent), trains()
    clips = as_clips(events, lengths).double()
    logits = net(clips)
    alpha, beta = net.of_current.sigmoid(), net.of_potential.sigmoid()
    with torch.no_grad():
        additions = updates = 0
        for b, length in enumerate(lengths.tolist()):
            current, potential, before = (torch.zeros(10).double() for _ in range(3))
            summed = torch.zeros(10).double()
            for t in range(length):
                current, updates = alpha * current, updates + 10
                for j in events[b, t].nonzero()[:, 0]:
                    current, additions = current + net.weight[:, j], additions + 10
                for j in before.nonzero()[:, 0]:
                    if recurrent:
                        current, additions = current + net.own[:, j], additions + 10
                potential, updates = beta * potential + current, updates + 10
                before = (potential >= 1).double()
                potential = potential - before
                summed += before
                additions += 3 * int(before.sum())
            # Spikes of the last step reach the layer in a step that is no more computed.
            additions += 10 * int(before.sum()) * recurrent
            expected = net.gain * (net.out.weight @ summed) / length + net.out.bias
            torch.testing.assert_close(logits[b], expected)
        assert float(summed.sum()) + float(net.rate) > 0
    cost = net.cost(net.counts)
    assert cost.additions * 4 == pytest.approx(additions)
    assert cost.macs * 4 == pytest.approx(updates)
    assert cost.literature == pytest.approx(literature_energy(additions / 4))
    assert cost.energy == pytest.approx((0.9 * additions + 4.6 * updates) / 4000)


@pytest.mark.parametrize(
    "make",
    [
        reader,
        lambda: LSTMReader(6, 3, 10).double(),
        lambda: LSTMReader(6, 3, 10, events=True).double(),
    ],
)
def test_a_recording_is_read_by_itself(make):
    """The same in a batch and alone, whatever follows its end."""
    net, (events, lengths) = make(), trains()
    clips = as_clips(events, lengths).double()
    whole = net(clips)
    changed = clips.clone()
    changed[..., :-1] += 1 - changed[..., -1:]  # events where no recording lasts
    torch.testing.assert_close(net(changed), whole)
    counts = []
    for one, alone in zip(clips, whole, strict=True):
        torch.testing.assert_close(net(one[None])[0], alone)
        counts.append(net.counts)
    net(clips)
    mean = [sum(column) / len(counts) for column in zip(*counts, strict=True)]
    assert list(net.counts) == pytest.approx(mean)


def test_clips_keep_their_lengths():
    events, lengths = trains()
    found, inside = lasting(as_clips(events, lengths))
    assert inside.sum(1).tolist() == lengths.tolist()
    assert torch.equal(found.double(), events * inside[..., None])
    assert lasting(as_clips(events, torch.tensor([3, 2, 1, 0])))[0].shape == (4, 3, 6)


def test_what_is_learned():
    """Decays and recurrent weights get gradients where they are asked to learn."""
    events, lengths = trains()
    for recurrent in (True, False):
        for learned in (True, False):
            net = reader(recurrent=recurrent, learned=learned)
            (net(as_clips(events, lengths).double()).square().sum() + net.rate).backward()
            with_gradient = {n for n, p in net.named_parameters() if p.grad is not None}
            assert ("own" in with_gradient) == recurrent
            assert ({"of_current", "of_potential"} <= with_gradient) == learned
            assert all(
                float(p.grad.abs().sum()) > 0 for p in net.parameters() if p.grad is not None
            )


def test_an_lstm_multiplies_at_every_step():
    """Its products with events are additions; with numbers, MACs."""
    counts = Counts(steps=20.0, events=50.0, spikes=0.0)
    dense, sparse = LSTMReader(6, 3, 10), LSTMReader(6, 3, 10, events=True)
    assert dense.cost(counts._replace(events=0.0)).macs == 20 * (4 * 10 * 16 + 30) + 30
    assert dense.cost(counts._replace(events=0.0)).additions == 0
    assert sparse.cost(counts).macs == 20 * (4 * 100 + 30) + 30
    assert sparse.cost(counts).additions == 50 * 40
    assert sparse.cost(counts).operations < dense.cost(counts._replace(events=0.0)).operations


def test_it_learns_to_tell_orders_apart():
    """Two channels, one after the other: which was first takes memory, not counts."""
    torch.manual_seed(0)
    events = torch.zeros(40, 20, 2)
    labels = torch.arange(40) % 2
    for i, label in enumerate(labels.tolist()):
        events[i, 2 + i // 8 : 5 + i // 8, label] = 1
        events[i, 10 + i // 8 : 13 + i // 8, 1 - label] = 1
    clips = as_clips(events, torch.full((40,), 20))
    net = SpikingReader(2, 2, 20)
    adam = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(net(clips), labels)
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert float((net(clips).argmax(1) == labels).double().mean()) > 0.9


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="theta"):
        delta_code(torch.zeros(1, 2, 1), 0.0)
    with pytest.raises(ValueError, match="most"):
        delta_code(torch.zeros(1, 2, 1), 1.0, most=0)
    with pytest.raises(ValueError, match="hidden"):
        SpikingReader(3, 2, 0)
    with pytest.raises(ValueError, match="decays"):
        SpikingReader(3, 2, decays=(1.0, 0.5))
    with pytest.raises(ValueError, match="drop"):
        SpikingReader(3, 2, drop=2)
    assert touch.SPIKE.width == 0.2
