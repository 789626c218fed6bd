"""What the experiments of learning share: images kept apart, states that survive, small laws."""

import dataclasses
from functools import partial

import pytest
import torch
from torch import nn

from book import experiments
from book.experiments import Cell, Experiment, frame, norms, rate_norm
from book.experiments.material import material, plan_for, seeds
from snnlib.learning.loop import Plan, fit
from snnlib.learning.norms import ScaleNorm

QUICK = experiments.Context(torch.device("cpu"), limit=20)
WHOLE = experiments.Context(torch.device("cpu"), limit=None)


def test_images_are_kept_apart_and_a_quick_look_is_small():
    images = material("digits-cnn", WHOLE)
    together = torch.cat([images.fit.images, images.validation.images]).flatten(1)
    assert len(together.unique(dim=0)) == len(together)
    assert len(images.test) > 300
    quick = material("digits-cnn", QUICK, 1000)
    assert [len(part) for part in (quick.fit, quick.validation, quick.test)] == [100, 20, 20]
    assert torch.equal(quick.fit.images, images.fit.images[:100])
    assert plan_for(WHOLE, Plan(epochs=7)) == Plan(epochs=7)
    assert plan_for(QUICK, Plan(epochs=7)) == Plan(epochs=1, batch=50)
    assert (list(seeds(WHOLE)), list(seeds(QUICK))) == ([0, 1, 2], [0])


def trained(stop_at, network, context):
    """A cell that trains for three epochs, and may be stopped from outside."""
    images = material(network, context)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))

    def each_step(step):
        if step == stop_at:
            raise KeyboardInterrupt

    history = fit(
        net, torch.optim.SGD(net.parameters(), 0.1), images.fit, images.validation,
        Plan(epochs=3, batch=50), state=context.state(f"{network}/a"), each_step=each_step,
    )  # fmt: skip
    return [{"model": network, "n": 20, "losses": [epoch["loss"] for epoch in history]}]


def test_a_training_is_taken_up_where_it_was_stopped(tmp_path):
    """Two steps an epoch: stopped in the third, the first two are not computed again."""

    def cells(network, stop_at):
        return [Cell(f"{network}/a", partial(trained, stop_at, network))]

    one = Experiment("small", "a training", ("digits-cnn",), partial(cells, stop_at=None))
    whole = frame.run(one, limit=20, folder=tmp_path / "whole", progress=False)
    stopped = dataclasses.replace(one, cells=partial(cells, stop_at=4))
    with pytest.raises(KeyboardInterrupt):
        frame.run(stopped, limit=20, folder=tmp_path / "part", progress=False)
    scratch = tmp_path / "part" / "small-first-20.training.partial"
    assert [path.name for path in scratch.iterdir()] == ["digits-cnn-a.state"]
    again = dataclasses.replace(one, cells=partial(cells, stop_at=3))  # that step is done
    resumed = frame.run(again, limit=20, folder=tmp_path / "part", progress=False, resume=True)
    assert not scratch.exists()
    assert (
        frame._read(resumed)["cells"]["digits-cnn/a"]["rows"]
        == (frame._read(whole)["cells"]["digits-cnn/a"]["rows"])
    )


def test_anew_forgets_states_of_before(tmp_path):
    scratch = tmp_path / "small-first-20.training.partial"
    scratch.mkdir()
    (scratch / "digits-cnn-a.state").write_bytes(b"of another run")
    cells = [Cell("digits-cnn/a", partial(trained, None, "digits-cnn"))]
    one = Experiment("small", "a training", ("digits-cnn",), lambda network: cells)
    assert frame.run(one, limit=20, folder=tmp_path, progress=False).is_file()


@pytest.mark.parametrize(
    ("shares", "step"),
    [([0.9, 0.895, 0.9], 1), ([0.1, 0.9, 0.89, 0.896], 4), ([0.9, 0.8], None), ([0.1, 0.9], 2)],
)
def test_arrival_is_the_first_step_after_the_last_loss(shares, step):
    assert rate_norm._arrival(shares, 0.9) == step


def test_norms_start_from_the_same_weights():
    x = torch.rand(4, 1, 28, 28)
    nets = {name: norms.made(name, x, seed=0) for name in norms.NORMS}
    first = [net[0].weight for net in nets.values()]
    for weight in first:
        torch.testing.assert_close(weight, first[0])
    assert isinstance(nets["top-1"][1], ScaleNorm)
    assert [nets[name][1].k for name in ("top-1", "top-10")] == [1, 10]


def test_errors_of_sixteen_bits_are_those_of_the_dtype():
    x = torch.randn(4, 3, 5, 5).double()
    assert norms._error(x, "l1", 1, torch.float64) == 0
    assert norms._error(x, "l1", 1, torch.bfloat16) < 0.05
    assert norms._error(1e4 * x, "l2", 1, torch.float16) is None
