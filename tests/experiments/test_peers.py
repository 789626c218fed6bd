"""The experiment with SpikingJelly's converter: it is used rightly, and says so where it is not."""

import dataclasses
import importlib.util
import itertools
import json
import sys

import pytest
import torch
from torch import nn

import snnlib as snn
from book.experiments import ExperimentError, frame, peers, spikingjelly
from book.experiments.spikingjelly import RECIPES
from snnlib.__main__ import main

needs_peer = pytest.mark.skipif(
    importlib.util.find_spec(spikingjelly.PACKAGE) is None,
    reason=f"needs SpikingJelly: {spikingjelly.INSTALL}",
)


class Residual(nn.Module):
    """What the book's networks are made of, in small: a batch norm before and behind, a sum."""

    def __init__(self):
        super().__init__()
        self.normalize = nn.BatchNorm2d(2, affine=False)
        self.conv1 = nn.Conv2d(2, 6, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(6)
        self.relu2 = nn.ReLU()
        self.pool = nn.AvgPool2d(2)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(6 * 16, 5)

    def forward(self, x):
        x = self.relu1(self.bn1(self.conv1(self.normalize(x))))
        x = self.relu2(self.bn2(self.conv2(x)) + x)
        return self.fc(self.dropout(self.flatten(self.pool(x))))


@pytest.fixture(scope="module")
def ann():
    torch.manual_seed(0)
    net = Residual()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0.2, 0.2)
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                module.bias.data.normal_(0.3, 0.2)
    return net.eval()


@pytest.fixture(scope="module")
def images():
    return torch.rand(200, 2, 8, 8, generator=torch.Generator().manual_seed(1))


@needs_peer
@pytest.mark.parametrize("name", RECIPES)
def test_peer_is_the_ann_with_neurons_for_its_relus(ann, images, name):
    """Batch norms are folded, scalers cancel, and the peer's own copy leaves the ANN alone."""
    before = {key: value.clone() for key, value in ann.state_dict().items()}
    net = spikingjelly.convert(ann, RECIPES[name], images)
    for key, value in ann.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)
    x = images[:20]
    with torch.no_grad():
        torch.testing.assert_close(spikingjelly.rectified(net)(x), ann(x), rtol=1e-4, atol=1e-5)
        assert float((net(x) - ann(x)).abs().max()) > 0.01  # one step of spikes is not the ANN


@needs_peer
@pytest.mark.parametrize("name", RECIPES)
def test_snnlib_with_the_peer_s_thresholds_is_the_peer(ann, images, name):
    """Every spike counts: the mean outputs agree to rounding, after each of 40 steps."""
    net = spikingjelly.convert(ann, RECIPES[name], images)
    ours = spikingjelly.twin(net, snn.convert(ann, images, snn.IF()))
    x = images[:40]
    theirs = spikingjelly.simulate(net, x, 40, batch=16)
    close = (ours(x, 40).logits - theirs).abs().amax(-1) < 1e-4
    # Elsewhere a potential within rounding of its threshold fired a step sooner in one of them.
    assert float(close.double().mean()) > 0.95
    assert spikingjelly.distance(ours(x, 40).logits, theirs) < 0.01
    assert ours.neuron.v0 == (0.0 if name in ("rate/default", "rate/robust") else 0.5)


@needs_peer
def test_peer_approaches_the_ann(ann, images):
    """With the largest activation as threshold nothing is clipped: the error falls as 1/t."""
    recipe = spikingjelly.Recipe("", "RateCodingRecipe", batch=len(images))
    net = spikingjelly.convert(ann, recipe, images)
    x = images[:20]
    logits = spikingjelly.simulate(net, x, 1024)
    with torch.no_grad():
        errors = [spikingjelly.distance(logits[t - 1], ann(x)) for t in (16, 128, 1024)]
    assert errors[1] < errors[0] / 4
    assert errors[2] < errors[1] / 4


@needs_peer
def test_thresholds_are_measured_as_snnlib_measures_them(ann, images):
    """In a single batch, where the peer has nothing to average over."""
    recipe = spikingjelly.Recipe("", "RateCodingRecipe", {"mode": "99.9%"}, batch=len(images))
    net = spikingjelly.convert(ann, recipe, images)
    ours = snn.convert(ann, images, snn.IF(), balance=snn.Percentile(99.9))
    for name, theta in spikingjelly.twin(net, ours).thresholds.items():
        torch.testing.assert_close(theta, ours.thresholds[name], rtol=1e-4, atol=0)


@needs_peer
def test_a_simulation_leaves_nothing_behind(ann, images):
    net = spikingjelly.convert(ann, RECIPES["ltb/10"], images)
    once = spikingjelly.simulate(net, images[:10], 6)
    torch.testing.assert_close(spikingjelly.simulate(net, images[:10], 6), once)
    torch.testing.assert_close(spikingjelly.simulate(net, images[:10], 3), once[:3])


def go(folder, experiment=peers.EXPERIMENT, **options):
    return frame.run(experiment, ["digits-cnn"], limit=12, folder=folder, progress=False, **options)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return go(tmp_path_factory.mktemp("peers"))


@needs_peer
def test_rows_of_a_small_network(results):
    record = json.loads(results.read_text(encoding="utf-8"))
    assert results.name == "peers-first-12.json"
    assert record["command"] == "snnlib experiment peers --networks digits-cnn --limit 12"
    assert list(record["cells"]) == [cell.name for cell in peers.cells("digits-cnn")]
    rows = record["runs"]
    assert [row["simulator"] for row in rows] == ["snnlib"] * 7 + ["SpikingJelly"] * len(RECIPES)
    for row in rows:
        assert (row["n"], row["steps"]) == (12, peers.STEPS)
        for key in ("accuracy", "agreement", "loss_interval"):
            assert len(row[key]) == row["steps"]
        assert min(row["seconds"], row["processor_seconds"]) > 0
        assert row["ann_accuracy"] == rows[0]["ann_accuracy"]
        if row["simulator"] == "SpikingJelly":
            assert row["versions"]["spikingjelly"].startswith("2.")
            late = row["delayed_readout"]
            assert late is None or len(late["accuracy"]) == row["steps"] - late["after_steps"]
    for row in record["checks"]:
        assert row["relu_error"] < 1e-5
        assert row["same_as_snnlib"] > 0.95
        assert row["distance"][-1] < row["distance"][0]


@needs_peer
def test_a_resumed_run_comes_to_the_same(results, tmp_path):
    """The runs convert anew what the checks had converted before the interruption."""

    def stop(context):
        raise KeyboardInterrupt

    def cells(network):
        first, second = peers.cells(network)
        return [first, dataclasses.replace(second, compute=stop)]

    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, dataclasses.replace(peers.EXPERIMENT, cells=cells))
    peers._converted.cache_clear()
    whole, again = (
        json.loads(path.read_text(encoding="utf-8"))
        for path in (results, go(tmp_path, resume=True))
    )
    assert again["checks"] == whole["checks"]
    for row, other in zip(again["runs"], whole["runs"], strict=True):
        times = {"seconds", "processor_seconds"}
        assert {k: v for k, v in row.items() if k not in times} == {
            k: v for k, v in other.items() if k not in times
        }


def test_without_the_peer_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, spikingjelly.PACKAGE, None)
    for module in [name for name in sys.modules if name.startswith("spikingjelly.")]:
        monkeypatch.delitem(sys.modules, module)
    peers._converted.cache_clear()
    call = ["experiment", "peers", "--networks", "digits-cnn", "--results", str(tmp_path)]
    assert main([*call, "--limit", "4", "--quiet"]) == 2
    assert "pip install -r benchmarks/requirements-peers.txt" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_old_peer_is_refused(monkeypatch):
    monkeypatch.setattr(spikingjelly, "_module", lambda name: object())
    with pytest.raises(ExperimentError, match=r"no RateCodingRecipe: .* needs 2\.0"):
        spikingjelly.convert(nn.Identity(), RECIPES["rate/default"], torch.rand(4, 2))


def test_delayed_readout_leaves_the_first_steps_out():
    outputs = torch.rand(9, 3, 4, dtype=torch.float64)
    means = outputs.cumsum(0) / torch.arange(1, 10)[:, None, None]
    assert torch.allclose(spikingjelly.delayed(means, 0), means)
    late = spikingjelly.delayed(means, 4)
    for i in range(5):
        assert torch.allclose(late[i], outputs[4 : 5 + i].mean(0))


def test_methods_take_turns():
    """Every method sees every image once after warming up, and another one begins each turn."""
    seen = []

    def method(name):
        def simulate(x):
            seen.append((name, x.tolist()))
            return x[None, :, None].expand(2, -1, 3)

        return simulate

    names, x = ("a", "b", "c"), torch.arange(7.0)
    found = peers.in_turns({name: method(name) for name in names}, x, 3)
    timed = seen[3:]
    assert [name for name, _ in timed] == list("abcbcacab")
    for name in names:
        own = [images for who, images in timed if who == name]
        assert list(itertools.chain(*own)) == x.tolist()
        assert torch.equal(found[name][0][0, :, 0], x)
