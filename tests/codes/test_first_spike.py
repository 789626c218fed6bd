"""Time to first spike: the ANN's numbers from spike times, once a neuron, window after window."""

import math

import pytest
import torch
from reference import make
from torch import nn

import snnlib as snn
from snnlib.codes import FirstSpike


@pytest.fixture(scope="module")
def digits_net():
    train, test = snn.data.load("digits")
    images, x = (snn.data.to_float(s.images[:200]).double() for s in (train, test))
    ann = snn.models.load("digits-cnn").double()
    return ann, snn.convert(ann, images, balance=snn.Max()), x[:40]


def random_net(seed=0, bounded=False, per_channel=False):
    ann = make(bounded, seed)
    x = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(seed)).double()
    return ann, snn.convert(ann, x, balance=snn.Max(), per_channel=per_channel), x[:9]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", [{}, {"bounded": True}, {"per_channel": True}])
def test_analog_times_give_the_logits_of_the_ann(seed, kind):
    ann, net, x = random_net(seed, **kind)
    run = FirstSpike(net)(x, batch=4)
    assert run.clipped == 0
    torch.testing.assert_close(run.logits[0], ann(x).detach(), rtol=0, atol=1e-9)


def test_so_they_do_on_the_digits(digits_net):
    ann, net, x = digits_net
    run = FirstSpike(net)(x)
    assert run.clipped == 0
    torch.testing.assert_close(run.logits[0], ann(x).detach(), rtol=0, atol=1e-9)
    assert run.bits is None
    assert run.latency == run.interval * 3 == 3


def test_windows_do_not_overlap_and_silence_is_zero(digits_net):
    _, net, x = digits_net
    run, active = FirstSpike(net)(x, record=net.graph.spiking), {}
    net.graph.evaluate(x, visit=lambda node, value: active.update({node.name: value}))
    events = 0.0
    for i, name in enumerate(net.graph.spiking):
        times = run.trace[name]
        spiked = times.isfinite()
        assert times.shape == active[name].shape
        assert torch.equal(spiked, active[name] > 1e-12)
        assert bool(((times[spiked] >= i) & (times[spiked] < i + 1)).all())
        events += float(spiked.sum()) / len(x)
    assert float(run.events) == float(run.spikes) == pytest.approx(events)
    assert float(run.synops.multiplications) == 0


def event_driven(layers, x, largest):
    """Spikes in the order of time, by hand: potentials of straight pieces, thresholds that fall.

    Args:
        layers: weight and bias of every layer.
        x: one image.
        largest: λ of every spiking layer.

    Returns:
        Every spike as (layer, neuron, time), in the order of time, and the output's potentials.
    """
    potential = [sum(w * v for w, v in zip(row, x, strict=True)) + b
                 for row, b in zip(*layers[0], strict=True)]  # fmt: skip
    log = []
    for index, lam in enumerate(largest):
        spikes, (weight, bias) = [], layers[index + 1]
        for j, v in enumerate(potential):
            # The threshold λ (1 − s) meets a potential that stands still, once if 0 < V ≤ λ.
            if v > 0:
                spikes.append((1 - v / lam, j))
        spikes.sort()
        log += [(index, j, index + s) for s, j in spikes]
        # After each spike the slope is another one; the pieces end when the window closes.
        slope, potential = [0.0] * len(bias), list(bias)
        for k, (s, j) in enumerate(spikes):
            until = spikes[k + 1][0] if k + 1 < len(spikes) else 1.0
            for i, row in enumerate(weight):
                slope[i] += lam * row[j]
                potential[i] += slope[i] * (until - s)
    return log, potential


@pytest.mark.parametrize("ties", [False, True])
def test_against_a_simulation_from_spike_to_spike(ties):
    torch.manual_seed(3)
    ann = nn.Sequential(
        nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 7), nn.ReLU(), nn.Linear(7, 3)
    ).double()  # fmt: skip
    if ties:  # neurons that spike at the same time, and one whose potential is exactly zero
        with torch.no_grad():
            ann[0].weight[1], ann[0].bias[1] = ann[0].weight[0], ann[0].bias[0]
            ann[0].weight[2], ann[0].bias[2] = 0.0, 0.0
            ann[2].weight[3], ann[2].bias[3] = ann[2].weight[4], ann[2].bias[4]
    x = torch.rand(20, 6, dtype=torch.float64)
    net = snn.convert(ann.eval(), x, balance=snn.Max())
    code = FirstSpike(net)
    run = code(x, record=net.graph.spiking)
    linear = [(m.weight.tolist(), m.bias.tolist()) for m in ann if isinstance(m, nn.Linear)]
    largest = [float(code.largest[name]) for name in net.graph.spiking]
    for i, image in enumerate(x.tolist()):
        log, output = event_driven(linear, image, largest)
        assert [time for *_, time in log] == sorted(time for *_, time in log)
        assert len({(layer, neuron) for layer, neuron, _ in log}) == len(log), "one spiked twice"
        torch.testing.assert_close(run.logits[0, i], torch.tensor(output).double())
        for layer, name in enumerate(net.graph.spiking):
            times = run.trace[name][i]
            assert int(times.isfinite().sum()) == sum(one[0] == layer for one in log)
            for _, neuron, time in (one for one in log if one[0] == layer):
                assert float(times[neuron]) == pytest.approx(time, abs=1e-12)
    if ties:
        first = run.trace[net.graph.spiking[0]]
        assert torch.equal(first[:, 0], first[:, 1])
        assert bool(first[:, 2].isinf().all()), "a potential of zero never meets the threshold"


@pytest.mark.parametrize("slots", [1, 8, 32])
def test_slots_round_as_the_network_with_so_many_levels(slots):
    for seed in range(2):
        _, net, x = random_net(seed)
        neuron = snn.Augmented(levels=slots, negative=0.0, v0=0.5, cap=slots)
        rounded, run = net.replace(neuron=neuron)(x, 1), FirstSpike(net, slots)(x)
        torch.testing.assert_close(run.logits, rounded.logits, rtol=0, atol=1e-9)
        assert float(run.events) == float(rounded.events)
        assert 0 < float(run.bits) <= math.log2(slots + 1)
        assert (run.latency, run.interval) == (4 * slots, slots)


def test_times_in_slots_are_slots(digits_net):
    _, net, x = digits_net
    times = FirstSpike(net, 8)(x, record=["relu2"]).trace["relu2"]
    found = times[times.isfinite()] * 8
    torch.testing.assert_close(found, found.round(), rtol=0, atol=1e-9)


def test_what_cannot_be_sent_in_time_is_counted(digits_net):
    _, net, x = digits_net
    assert FirstSpike(net, margin=0.5)(x).clipped > 0
    assert FirstSpike(net, margin=2.0)(x).clipped == 0


@pytest.mark.parametrize("seed", range(2))
def test_no_overlap_is_window_after_window(seed):
    """Two programs: sums of whole windows, and slot by slot with thresholds that fall."""
    _, net, x = random_net(seed)
    code = FirstSpike(net, 8)
    slot_by_slot, in_order = code._greedy(x, ["relu3"], False, 0), code(x, record=["relu3"])
    torch.testing.assert_close(slot_by_slot.logits, in_order.logits, rtol=0, atol=1e-9)
    torch.testing.assert_close(slot_by_slot.trace["relu3"], in_order.trace["relu3"])
    assert slot_by_slot.latency == in_order.latency
    assert slot_by_slot.clipped == in_order.clipped
    for name, table in in_order.tally.symbols.items():
        assert torch.equal(slot_by_slot.tally.symbols[name], table)


def test_who_does_not_wait_is_wrong_about_mixed_signs():
    """1 · 1 − 2 · ½ = 0, but half comes later than one: a neuron that does not wait spikes."""
    ann = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1), nn.ReLU(), nn.Linear(1, 2))
    with torch.no_grad():
        for layer, weight in ((0, torch.eye(2)), (2, [[1.0, -2.0]]), (4, [[1.0], [0.0]])):
            ann[layer].weight.copy_(torch.as_tensor(weight))
            ann[layer].bias.zero_()
    x = torch.tensor([[1.0, 0.5]])
    net = snn.convert(ann.eval(), torch.tensor([[1.0, 0.5], [1.0, 0.0]]), balance=snn.Max())
    assert float(FirstSpike(net, 8)(x).logits[0, 0, 0]) == 0
    hasty = FirstSpike(net, 8, overlap=8)(x, record=["3"])
    assert float(hasty.logits[0, 0, 0]) > 0
    assert float(hasty.trace["3"]) < 1, "it spiked while its input arrived"
    assert hasty.latency < FirstSpike(net, 8)(x).latency


@pytest.mark.parametrize("slots", [None, 16])
def test_noise_is_of_the_image_not_of_the_batch(digits_net, slots):
    _, net, x = digits_net
    options = {"slots": slots, "jitter": 0.05, "lost": 0.1}
    whole = FirstSpike(net, seed=1, **options)(x, batch=40)
    parts = FirstSpike(net, seed=1, **options)(x, batch=7)
    later = FirstSpike(net, seed=1, **options)(x[20:], first=20)
    torch.testing.assert_close(parts.logits, whole.logits, rtol=0, atol=1e-9)
    torch.testing.assert_close(later.logits, whole.logits[:, 20:], rtol=0, atol=1e-9)
    other = FirstSpike(net, seed=2, **options)(x)
    assert float((other.logits - whole.logits).abs().max()) > 1e-3


def test_disturbed_spikes_stay_in_their_window_and_are_never_more(digits_net):
    _, net, x = digits_net
    calm = FirstSpike(net)(x, record=net.graph.spiking)
    shaky = FirstSpike(net, jitter=3.0)(x, record=net.graph.spiking)
    for i, name in enumerate(net.graph.spiking):
        times = shaky.trace[name]
        spiked = times.isfinite()
        assert bool(((times[spiked] >= i) & (times[spiked] < i + 1)).all())
    first = net.graph.spiking[0]
    assert torch.equal(shaky.trace[first].isfinite(), calm.trace[first].isfinite())
    lossy = FirstSpike(net, lost=0.3, where=[first])(x, record=[first])
    assert int(lossy.trace[first].isfinite().sum()) < int(calm.trace[first].isfinite().sum())


def test_without_spikes_the_biases_are_left(digits_net):
    _, net, x = digits_net
    run = FirstSpike(net, lost=1.0)(x)
    quiet = net.graph.evaluate(x, lambda node, z: torch.zeros_like(z))
    torch.testing.assert_close(run.logits[0], quiet, rtol=0, atol=1e-12)
    assert float(run.events) == 0


@pytest.mark.parametrize("make_net", [random_net, None])
def test_answers_while_the_last_window_is_open(digits_net, make_net):
    _, net, x = digits_net if make_net is None else make_net()
    run = FirstSpike(net, 8)(x, early=True, batch=4)
    assert run.early.shape == (8, len(x), run.logits.shape[2])
    torch.testing.assert_close(run.early[-1], run.logits[0], rtol=0, atol=1e-9)
    for i, slot in enumerate(run.settled.tolist()):
        answers = run.early[:, i].argmax(1)
        assert bool((answers[slot - 1 :] == answers[-1]).all())
        assert slot == 1 or answers[slot - 2] != answers[-1]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"slots": 0}, "slots"), ({"overlap": 1}, "overlap"),
        ({"slots": 4, "overlap": 5}, "overlap"),
        ({"jitter": -1.0}, "jitter"), ({"lost": 2.0}, "lost"), ({"where": ["relu9"]}, "relu9"),
        ({"slots": 4, "overlap": 1, "lost": 0.1}, "do not overlap"), ({"margin": 0.0}, "margin"),
    ],
)  # fmt: skip
def test_arguments_out_of_range(digits_net, wrong, said):
    with pytest.raises(ValueError, match=said):
        FirstSpike(digits_net[1], **wrong)


def test_early_needs_slots(digits_net):
    with pytest.raises(ValueError, match="early needs slots"):
        FirstSpike(digits_net[1])(digits_net[2], early=True)
    with pytest.raises(ValueError, match="early=True"):
        _ = FirstSpike(digits_net[1], 4)(digits_net[2]).settled
