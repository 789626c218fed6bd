"""The law of the room: after every event, all values are those of the whole graph."""

import numpy as np
import pytest
import torch

from snnlib.events.aegnn import AEGNN, graph
from snnlib.events.asynchronous import Asynchronous
from snnlib.events.graph import Rule
from snnlib.zoo.event_files import Recordings

SIZE = (12, 10)
RULES = {
    "past": Rule(radius=2, window=30.0, mutual=False, side=3, span=40.0),
    "mutual": Rule(radius=2, window=30.0, mutual=True, side=3, span=40.0),
}


def drawn(n=45, seed=0):
    """One recording of random events, some at one time and some at one pixel."""
    random = np.random.default_rng(seed)
    t = np.sort(random.integers(0, 120, n)).astype(np.float32)
    x, y = (random.integers(0, side, n).astype(np.uint8) for side in SIZE)
    p = random.choice([-1, 1], n).astype(np.int8)
    return Recordings(x, y, t, p, np.array([0, n]), np.zeros(1, np.int64), ("a", "b", "c"), SIZE)


def made(rule, dtype, knots=2, seed=1):
    """A network whose normalization is neither fresh nor gentle."""
    torch.manual_seed(seed)
    net = AEGNN(SIZE, 3, rule, widths=(4, 6), grid=2, knots=knots).to(dtype)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            for name in ("weight", "bias", "running_mean"):
                getattr(module, name).data.normal_()
            module.running_var.uniform_(0.5, 2)
    return net.eval()


def first(recording, n):
    """The first n events."""
    return Recordings(
        recording.x[:n], recording.y[:n], recording.t[:n], recording.p[:n], np.array([0, n]),
        recording.labels, recording.classes, recording.size,
    )  # fmt: skip


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("knots", [2, 3])
@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float64, 1e-10), (torch.float32, 1e-5)], ids=["f64", "f32"]
)
def test_one_event_at_a_time_is_the_whole_graph(rule, knots, dtype, bound):
    net, recording = made(rule, dtype, knots), drawn()
    running = Asynchronous(net)
    for n, event in enumerate(zip(*columns(recording), strict=True), start=1):
        touched = running.add(*event)
        with torch.no_grad():
            whole = net(graph(first(recording, n), rule, dtype))[0].numpy()
        scale = max(1.0, np.abs(whole).max())
        assert np.abs(touched.logits - whole).max() <= bound * scale, f"event {n}"
        assert touched.logits.dtype == whole.dtype


def columns(recording):
    return (
        recording.x.tolist(), recording.y.tolist(), recording.t.tolist(), recording.p.tolist()
    )  # fmt: skip


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_value_between_is_the_whole_graphs(rule):
    """Hidden values too: a change that was missed may not show in this answer."""
    net, recording = made(rule, torch.float64), drawn()
    kept = []
    for block in [*net.events, *net.cells]:
        block.register_forward_hook(lambda _, __, found: kept.append(found.numpy()))
    running = Asynchronous(net)
    for event in zip(*columns(recording), strict=True):
        running.add(*event)
    with torch.no_grad():
        data = graph(recording, rule, torch.float64)
        net(data)
    h1, h2, _, g1, g2 = running.values
    order = [running.keys.index(tuple(key)) for key in data.cells[:, 1:].tolist()]
    for found, wanted in zip((h1, h2 - h1, g1[order], (g2 - g1)[order]), kept, strict=True):
        assert np.abs(found - wanted).max() <= 1e-10


def test_events_that_hear_the_past_alone_touch_one_node_a_layer():
    running = Asynchronous(made(RULES["past"], torch.float64))
    for i, event in enumerate(zip(*columns(drawn()), strict=True)):
        touched = running.add(*event)
        assert [layer.tolist() for layer in touched.again[:2]] == [[i], [i]]
        assert len(touched.again[2]) == 1


def test_what_is_computed_again_lies_within_as_many_hops_as_layers():
    """Counted on the graph alone, by powers of its adjacency matrix."""
    rule, recording = RULES["mutual"], drawn()
    running = Asynchronous(made(rule, torch.float64))
    for event in zip(*columns(recording), strict=True):
        touched = running.add(*event)
        n = running.events.size
        near = np.eye(n, dtype=int)
        for i, heard in enumerate(running.events.heard):
            near[i, heard] = 1
        hops = np.zeros(n, int)
        hops[-1] = 1
        for again in touched.again[:2]:
            hops = near @ hops
            assert set(again) <= set(np.flatnonzero(hops))
    assert touched.nodes[:2] == (45, 45)
    assert touched.updates < touched.all_updates
    assert 0 < touched.macs < touched.all_macs


def test_a_maximum_that_stays_stops_the_wave():
    """The event's own values are new, those of its cell stay: nothing behind is computed again."""
    running = Asynchronous(made(RULES["past"], torch.float64))
    stopped, before = 0, running.logits
    for event in zip(*columns(drawn(200)), strict=True):
        touched = running.add(*event)
        for changed, again in zip(touched.changed, touched.again, strict=True):
            assert set(changed) <= set(again)
        if len(touched.changed[2]) == 0 and len(touched.again[3]) == 0:
            stopped += 1
            assert len(touched.again[4]) == 0
            assert np.array_equal(touched.logits, before)
        before = touched.logits
    assert stopped > 10


def test_an_event_is_refused_with_its_reason():
    net = made(RULES["past"], torch.float32)
    running = Asynchronous(net)
    running.add(1, 1, 5.0, 1)
    with pytest.raises(ValueError, match="outside the sensor of 12 × 10"):
        running.add(12, 1, 6.0, 1)
    with pytest.raises(ValueError, match=r"4\.0 ms comes after one at 5\.0 ms"):
        running.add(1, 1, 4.0, 1)
    with pytest.raises(ValueError, match=r"network\.eval"):
        Asynchronous(net.train())


def test_without_an_event_the_bias_answers():
    net = made(RULES["past"], torch.float32)
    empty = first(drawn(), 0)
    with torch.no_grad():
        whole = net(graph(empty, net.rule))[0]
    assert torch.equal(whole, net.out.bias.detach())
    assert np.array_equal(Asynchronous(net).logits, whole.numpy())


def test_it_keeps_the_weights_that_it_was_made_of():
    """Training the network on, or loading other weights, does not change half of them."""
    net = made(RULES["past"], torch.float64)
    running = Asynchronous(net)
    layer = running._of_events[0]
    before = [layer.spline.copy(), layer.root.copy(), running._weight.copy(), running._bias.copy()]
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(3.0)
    after = [layer.spline, layer.root, running._weight, running._bias]
    assert all((a == b).all() for a, b in zip(before, after, strict=True))
