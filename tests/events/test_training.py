"""Training on graphs, taken up again; and the account of one recording."""

import numpy as np
import pytest
import torch

from snnlib.events import training
from snnlib.events.aegnn import AEGNN
from snnlib.events.graph import Rule
from snnlib.events.sensor import look
from snnlib.events.training import Plan
from snnlib.zoo import data


def seen(n):
    digits, _ = data.load("digits")
    return look(digits.images[:n], digits.labels[:n], digits.classes)


def made(**rule):
    torch.manual_seed(0)
    return AEGNN((28, 28), 10, Rule(**rule), widths=(4, 8))


def test_it_learns_and_goes_on_where_it_stopped(tmp_path):
    recordings, plan, state = seen(24), Plan(epochs=2, batch=8), tmp_path / "a.state"
    net = made()
    history = training.fit(net, recordings, plan, seed=3)
    assert history[1]["loss"] < history[0]["loss"]
    assert not net.training

    class Stop(Exception):
        pass

    broken, whole, count = made(), training.graph, 0

    def stop(*args):
        nonlocal count
        count += 1
        if count > 4:  # in the second epoch
            raise Stop
        return whole(*args)

    training.graph = stop
    try:
        with pytest.raises(Stop):
            training.fit(broken, recordings, plan, seed=3, state=state)
    finally:
        training.graph = whole
    again = made()
    assert len(training.fit(again, recordings, plan, seed=3, state=state)) == 2
    for one, other in zip(net.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match="other settings"):
        training.fit(made(), recordings, plan, seed=4, state=state)
    with pytest.raises(ValueError, match="less than a batch"):
        training.fit(made(), recordings, Plan(batch=25))


def test_batches_answer_as_one_at_a_time(monkeypatch):
    recordings, net = seen(5), made().eval()
    monkeypatch.setattr(training, "_ANSWERED", 2)
    found = training.answers(net, recordings)
    one = torch.cat([training.answers(net, recordings.take([i])) for i in range(5)])
    assert torch.equal(found, one)
    assert 0 <= training.accuracy(net, recordings) <= 1
    assert len(training.answers(net, recordings.take(slice(0, 0)))) == 0


@pytest.mark.parametrize("mutual", [False, True])
def test_the_account_of_a_recording(mutual):
    net, recording = made(mutual=mutual), seen(1)
    found, touched = training.walk(net, recording)
    n = len(recording.x)
    assert found["events"] == len(touched) == n
    assert sum(found["layers"]) == pytest.approx(found["updates"])
    assert found["difference"] <= 1e-5
    cells = touched[-1].nodes[2]
    assert touched[-1].all_updates == 2 * n + 3 * cells
    assert found["updates"] < found["all_updates"]
    assert found["macs"] < found["all_macs"]
    # All that was computed again while the graph grew is at least what computing it once takes.
    assert sum(one.macs for one in touched) >= touched[-1].all_macs
    with pytest.raises(ValueError, match="no event"):
        training.walk(net, training.first(recording, 0))
    with pytest.raises(ValueError, match="one recording"):
        training.first(seen(2), 1)


def test_a_part_of_a_recording():
    recording = seen(1)
    part = training.first(recording, 10)
    assert list(training.events(part)) == list(training.events(recording))[:10]
    assert np.array_equal(training.first(recording, 10**6).t, recording.t)
