"""The short training loop of the experiments: what it counts, keeps apart and repeats."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from book import experiments
from book.experiments import learning, tandem
from book.experiments.learning import Recipe
from book.experiments.st_rsbp import unrolled
from snnlib.learning.st_rsbp import STRSBP, simulate


def test_kept_counts_each_storage_once_and_no_parameters():
    layer = nn.Linear(8, 4, bias=False)
    x = torch.zeros(10, 8)
    assert learning.kept(lambda: layer(x).sum(), layer) == x.numel() * 4 / 1e6
    assert learning.kept(lambda: (layer(x) + layer(x)).sum(), layer) == x.numel() * 4 / 1e6
    squared = learning.kept(lambda: layer(x).square().sum(), layer)
    assert squared == (x.numel() + 40) * 4 / 1e6


def test_training_repeats_and_learns():
    parts = learning.images("digits-cnn", experiments.Context(torch.device("cpu"), None))
    assert len(parts.fit) + len(parts.validation) + len(parts.test) == 1797
    losses, weights = [], []
    for _ in range(2):
        torch.manual_seed(0)
        net = learning.cnn(parts.shape, 4)

        def loss(x, y, net=net):
            found = F.cross_entropy(net(x), y)
            losses.append(float(found.detach()))
            return found

        done = learning.train(net, loss, parts.fit, Recipe(400, 2, 50), 0, None)
        weights.append(net[0].weight.detach().clone())
        assert (done.images, done.epochs, done.batch) == (400, 2, 50)
    torch.testing.assert_close(*weights)
    half = len(losses) // 2
    assert losses[half - 1] < losses[0]
    assert learning.neurons(parts.shape, 4, 8) == 4 * 28**2 + 8 * 14**2


def test_quick_look_sees_no_more_images_and_trains_once():
    parts = learning.images("digits-cnn", experiments.Context(torch.device("cpu"), 20))
    assert len(parts.validation) == len(parts.test) == 20
    net = learning.cnn(parts.shape, 2)
    done = learning.train(
        net, lambda x, y: F.cross_entropy(net(x), y), parts.fit, Recipe(None, 9), 0, 20
    )
    assert (done.images, done.epochs) == (20, 1)


def test_late_readings_are_those_of_the_run():
    """The answer from step s on is that of the sum of the last layer's values from there."""
    torch.manual_seed(0)
    values = torch.randn(5, 30, 10)
    means = values.cumsum(0) / torch.arange(1, 6).view(-1, 1, 1)
    torch.testing.assert_close(tandem.in_time(means), values, rtol=1e-4, atol=1e-5)
    split = learning.images("digits-cnn", experiments.Context(torch.device("cpu"), 30)).test
    found = tandem.by_start(lambda x: values, split, torch.device("cpu"))
    for start in range(5):
        assert torch.equal(found[start], values[start:].mean(0).argmax(1))


def test_both_methods_of_st_rsbp_run_the_same_network():
    net = STRSBP((6, 5, 3), leak=0.9, seed=1).double()
    trains = (torch.rand(20, 4, 6) < 0.5).double()
    counts = net(trains)
    sent = net.sent
    assert torch.equal(counts, unrolled(net, trains))
    assert net.sent == pytest.approx(sent)
    hidden = simulate(trains, net.weights[0].detach(), net.recurrent[0].detach(), 0.9, 1.0)
    assert float(hidden.sum()) > 0
