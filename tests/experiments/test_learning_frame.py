"""The short training loop of the experiments: what it counts, keeps apart and repeats."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from book import experiments
from book.experiments import frame, learning, tandem
from book.experiments.learning import Recipe
from book.experiments.material import material
from book.experiments.st_rsbp import unrolled
from snnlib.learning.loop import Plan
from snnlib.learning.st_rsbp import STRSBP, simulate

CPU = torch.device("cpu")


def test_training_repeats_and_learns():
    images = material("digits-cnn", experiments.Context(CPU, None))
    losses, weights = [], []
    for _ in range(2):
        torch.manual_seed(0)
        net = learning.cnn(images.shape, 4)

        def loss(network, x, y):
            found = F.cross_entropy(network(x), y)
            losses.append(float(found.detach()))
            return found

        recipe = Recipe(Plan(epochs=2, batch=50), rate=2e-3, images=400)
        context = experiments.Context(CPU, None)
        done = learning.train(net, images, recipe, 0, context, "digits-cnn/a", loss)
        weights.append(net[0].weight.detach().clone())
        assert (done.images, done.epochs, done.batch) == (400, 2, 50)
        assert done.kept > 0
    torch.testing.assert_close(*weights)
    half = len(losses) // 2
    assert losses[half - 1] < losses[0]
    assert learning.neurons(images.shape, 4, 8) == 4 * 28**2 + 8 * 14**2


def test_row_counts_every_test_image_once():
    context = experiments.Context(CPU, 250)  # more than are answered at a time
    images = material("digits-cnn", context)
    net = learning.cnn(images.shape, 2)
    sizes = []

    def spikes():
        sizes.append(len(sizes))
        return 10.0 if len(sizes) == 1 else 20.0  # of 200 images, then of 50

    done = learning.Trained(400, 1, 1.0, 1.0, 50)
    row = learning.row(
        "digits-cnn", "a network", "a", "cnn 2", 0, 1, done, net, images, spikes, neurons=4
    )
    assert row["n"] == 250
    assert row["spikes_per_neuron"] == pytest.approx((200 * 10 + 50 * 20) / 250 / 4)


def test_a_batch_is_not_larger_than_what_there_is():
    images = material("digits-cnn", experiments.Context(CPU, 20))
    piece = dataclasses.replace(images, fit=images.fit[:7])
    recipe = Recipe(Plan(epochs=9), rate=1e-3)
    net = learning.cnn(images.shape, 2)
    done = learning.train(net, piece, recipe, 0, experiments.Context(CPU, 20), "digits-cnn/a")
    assert (done.images, done.epochs, done.batch) == (7, 1, 7)


@pytest.mark.parametrize("progress", [True, False])
def test_trainings_show_a_bar_unless_they_shall_be_quiet(progress, tmp_path, capsys):
    def compute(context):
        images = material("digits-cnn", context)
        recipe = Recipe(Plan(epochs=1), rate=1e-3)
        learning.train(learning.cnn(images.shape, 2), images, recipe, 0, context, "digits-cnn/a")
        return [{"model": "digits-cnn", "n": 20}]

    one = frame.Experiment("small", "a training", ("digits-cnn",),
                           lambda network: [frame.Cell("digits-cnn/a", compute)])  # fmt: skip
    frame.run(one, limit=20, folder=tmp_path, progress=progress)
    said = capsys.readouterr().err
    assert ("cell/s" in said) == ("it/s" in said) == bool(said) == progress


def test_late_readings_are_those_of_the_run():
    """The answer from step s on is that of the sum of the last layer's values from there."""
    torch.manual_seed(0)
    values = torch.randn(5, 30, 10)
    means = values.cumsum(0) / torch.arange(1, 6).view(-1, 1, 1)
    torch.testing.assert_close(tandem.in_time(means), values, rtol=1e-4, atol=1e-5)
    split = material("digits-cnn", experiments.Context(CPU, 30)).test
    found = tandem.by_start(lambda x: values, split, CPU)
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
