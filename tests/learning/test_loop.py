"""The loop of learning: resumed equals uninterrupted; what is kept for the backward pass."""

import dataclasses

import pytest
import torch
from torch import nn

from snnlib.learning.loop import Plan, fit, kept_bytes
from snnlib.zoo import data

TRAIN, TEST = data.load("digits")
PLAN = Plan(epochs=3, batch=32)


def fresh():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.BatchNorm1d(16), nn.ReLU(),
                        nn.Dropout(0.2), nn.Linear(16, 10)).double()  # fmt: skip
    return net, torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)


def go(net, sgd, **options):
    def loss(network, x, y):
        return nn.functional.cross_entropy(network(x.double()), y)

    class Validated(nn.Module):  # validation in the dtype of the network
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x.double())

    return fit(Validated(), sgd, TRAIN[:160], TEST[:50], PLAN, loss=loss, **options)


def test_resumed_equals_uninterrupted(tmp_path):
    whole, sgd = fresh()
    history = go(whole, sgd)
    part, sgd = fresh()

    def stop(step):
        if step == 7:  # in the second of three epochs of five steps
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(part, sgd, state=tmp_path / "a.state", each_step=stop)
    part, sgd = fresh()
    again = go(part, sgd, state=tmp_path / "a.state")
    assert [row["loss"] for row in again] == [row["loss"] for row in history]
    for one, other in zip(whole.parameters(), part.parameters(), strict=True):
        assert torch.equal(one, other)
    assert sgd.param_groups[0]["lr"] == 0.1
    with pytest.raises(ValueError, match=r"other settings: .*seed"):
        go(part, sgd, state=tmp_path / "a.state", seed=1)


def test_fewer_images_than_a_batch_are_refused():
    net, sgd = fresh()
    with pytest.raises(ValueError, match="20 images are less"):
        fit(net, sgd, TRAIN[:20], TEST[:10], PLAN)


def test_loss_falls_and_reduced_precision_runs():
    net, sgd = fresh()
    plan = Plan(epochs=4, batch=32, clip=1.0, reduced=True)
    history = fit(net.float(), sgd, TRAIN[:640], TEST[:50], plan)
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert not net.training


def test_kept_bytes_are_those_of_the_graph():
    """A chain of squares keeps its inputs: as many tensors as links, a shared one once."""
    x = torch.randn(100, dtype=torch.float64, requires_grad=True)

    def chain(links):
        y = x
        for _ in range(links):
            y = y.square()
        return y.sum()

    assert [kept_bytes(lambda n=n: chain(n)) for n in (1, 2, 5)] == [800, 1600, 4000]
    assert kept_bytes(lambda: (x.square() * x.exp()).sum()) == 3 * 800  # x, x², eˣ
    with torch.no_grad():
        assert kept_bytes(lambda: chain(5)) == 0


def test_real_images_are_judged_and_none_is_no_validation():
    train, _ = data.load("digits")
    small = train[:64]
    real = dataclasses.replace(small, images=small.floats() - 0.5)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    sgd = torch.optim.SGD(net.parameters(), 0.1)
    assert len(fit(net, sgd, real, real, Plan(epochs=1, batch=32))) == 1
    with pytest.raises(ValueError, match="there is no validation image"):
        fit(net, sgd, real, real[:0], Plan(epochs=1, batch=32))
