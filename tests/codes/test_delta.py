"""Sigma-delta code: the answer to every frame is the one that sending it anew gives."""

import pytest
import torch
from reference import make

import snnlib as snn
from snnlib.codes import Delta, moving


@pytest.fixture(scope="module")
def digits_net():
    train, test = snn.data.load("digits")
    images, x = (snn.data.to_float(split.images[:200]) for split in (train, test))
    return snn.convert(snn.models.load("digits-cnn"), images), x[:10]


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_every_answer_is_that_of_the_frame_sent_anew(digits_net, bits):
    net, x = digits_net
    code, frames = Delta(net, bits), moving(x, 7)
    run = code(frames, batch=4)
    for frame, logits in zip(frames, run.logits, strict=True):
        assert torch.equal(logits, code.net(frame, 1).logits[0])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("bounded", [False, True])
def test_so_it_is_for_any_frames_on_random_networks(seed, bounded):
    """Nothing moves smoothly here: every pixel of every frame is another one."""
    frames = torch.rand(5, 6, 1, 8, 8, generator=torch.Generator().manual_seed(seed)).double()
    net = snn.convert(make(bounded, seed), frames[0], balance=snn.Percentile(99.0))
    code = Delta(net, 5)
    run = code(frames)
    for frame, logits in zip(frames, run.logits, strict=True):
        assert torch.equal(logits, code.net(frame, 1).logits[0])


def test_what_stands_still_costs_nothing(digits_net):
    net, x = digits_net
    code = Delta(net)
    run = code(x.expand(4, *x.shape))
    assert run.events_by_step[0] > 0
    assert not run.events_by_step[1:].any()
    macs = run.synops.macs_first_layer_every_step
    assert macs[0] == macs[-1] > 0
    once = code(x[None])
    torch.testing.assert_close(run.anew.events, once.events * torch.arange(1, 5))
    torch.testing.assert_close(run.anew.synops.total, once.synops.total * torch.arange(1, 5))
    assert torch.equal(run.events[:1], run.anew.events[:1]), "the first frame is all new"


def test_costs_are_those_of_the_changes(digits_net):
    net, x = digits_net
    code, frames = Delta(net, 4), moving(x, 5, every=2)
    layers = net.graph.spiking
    run = code(frames, record=layers, batch=3)
    total, again = torch.zeros(5).double(), torch.zeros(5).double()
    for name in layers:
        counts = code.net(frames.flatten(0, 1), 1, record=[name]).trace[name].coefficient[0]
        counts = counts.unflatten(0, (5, len(x)))
        changed = torch.cat([counts[:1], counts.diff(dim=0)])
        assert torch.equal(run.trace[name], changed)
        total += (changed != 0).flatten(1).sum(1)
        again += (counts != 0).flatten(1).sum(1)
    torch.testing.assert_close(run.events, total.cumsum(0) / len(x))
    torch.testing.assert_close(run.anew.events, again.cumsum(0) / len(x))
    pixels = torch.round(frames * 255)
    moved = torch.cat([pixels[:1], pixels.diff(dim=0)]) != 0
    macs = (moved * code.net.fan_outs["input"]).flatten(1).sum(1).cumsum(0) / len(x)
    torch.testing.assert_close(run.synops.macs_first_layer_every_step, macs)
    energy = run.synops
    expected = (energy.total - energy.multiplications) * 0.9
    expected = (expected + (energy.multiplications + macs) * 4.6) / 1000
    torch.testing.assert_close(energy.energy(), expected)


def test_pictures_move_there_and_back():
    x = torch.zeros(1, 1, 2, 6)
    x[..., 1] = 1
    seen = [int(frame[0, 0, 0].argmax()) for frame in moving(x, 8, reach=2)]
    assert seen == [1, 2, 3, 2, 1, 2, 3, 2]
    slow = [int(frame[0, 0, 0].argmax()) for frame in moving(x, 5, every=2, reach=2)]
    assert slow == [1, 1, 2, 2, 3]
    with pytest.raises(ValueError, match="reach"):
        moving(x, 3, reach=6)
