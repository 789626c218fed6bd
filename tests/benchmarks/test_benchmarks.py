"""The benchmark measures what it says: the same computation, the floor as a pass of the ANN."""

import argparse
import json

import pytest
import torch

import snnlib as snn
from benchmarks import command, simulator
from benchmarks.peers import PEERS, package


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    ann = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.AvgPool2d(2),
        torch.nn.Flatten(), torch.nn.Linear(8 * 64, 10),
    ).eval()  # fmt: skip
    return snn.convert(ann, torch.rand(20, 3, 16, 16), snn.IF())


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("chunks", [True, False])
def test_the_floor_is_the_ann(net, last, chunks):
    x = torch.rand(7, 3, 16, 16)
    assert torch.allclose(simulator.ann_pass(net, x, 3, last, chunks)(), net.ann(x), atol=1e-5)


@pytest.mark.parametrize("peer", PEERS)
def test_peers_compute_the_same(net, peer):
    pytest.importorskip(package(peer), reason="pip install -r benchmarks/requirements.txt")
    found = simulator.agree(net, {peer: PEERS[peer](net)}, torch.rand(20, 3, 16, 16), 12)[peer]
    assert found["same_answers"] == 1
    assert found["spikes_ratio"] == pytest.approx(1, abs=1e-3)
    assert found["logit_difference"] < 0.02


@pytest.mark.parametrize("peer", PEERS)
def test_peers_run_in_bfloat16(net, peer):
    pytest.importorskip(package(peer), reason="pip install -r benchmarks/requirements.txt")
    x = torch.rand(8, 3, 16, 16)
    with torch.no_grad():
        logits, _ = PEERS[peer](net.replace().to(torch.bfloat16))(x.bfloat16(), 12)
    assert logits.dtype == torch.bfloat16
    expected = net(x, 12).logits[-1]
    assert float((logits - expected).abs().max() / expected.abs().max()) < 0.1


@pytest.mark.parametrize("peer", PEERS)
def test_the_best_way_of_a_peer_computes_the_same(net, peer):
    pytest.importorskip(package(peer), reason="pip install -r benchmarks/requirements.txt")
    x = torch.rand(8, 3, 16, 16)
    with torch.no_grad():
        simulate, batch, last = simulator.arranged(net, peer, x)
        logits, _ = simulator.in_batches(simulate, simulator.laid_out(x, last), 12, batch)
    assert batch in simulator.TRIAL_BATCHES.get(peer, simulator.BATCHES)
    assert float((logits - net(x, 12).logits[-1]).abs().max() / logits.abs().max()) < 0.02


def test_a_peer_that_computes_something_else_is_refused(net):
    def wrong(x, steps):
        return torch.randn(len(x), 10), 1

    wrong.chain = argparse.Namespace()
    with pytest.raises(SystemExit, match="wrong does not compute"):
        simulator.agree(net, {"wrong": wrong}, torch.rand(20, 3, 16, 16), 4)


def test_every_round_takes_another_part_of_the_images(monkeypatch):
    """Times of parts are scaled to all images; the floor is T passes of the round's ANN."""
    clock, x = [0.0], torch.arange(10)
    monkeypatch.setattr(simulator.time, "perf_counter", lambda: clock[0])

    def takes(cost, seen=None):
        def work(part=x):
            clock[0] += cost * len(part)
            if seen is not None:
                seen.append(part.tolist())

        return work

    seen = []
    row = simulator.time_row(4, takes(1.0), {"all": takes(8.0)}, {"part": takes(16.0, seen)}, x, 5)
    assert sorted(number for part in seen for number in part) == list(range(10))
    assert row["floor"] == row["fastest_floor"] == 40
    assert row["times"]["all"]["median"] == 80
    assert row["times"]["part"]["median"] == 160
    assert row["times"]["all"]["efficiency"] == 0.5
    assert row["times"]["part"]["efficiency_range"] == [0.25, 0.25]
    assert row["times"]["part"]["images_a_round"] == 2


def test_a_benchmark_from_end_to_end(monkeypatch, tmp_path):
    monkeypatch.setattr(command, "RESULTS", tmp_path)
    monkeypatch.setattr(simulator, "BATCHES", (2,))
    call = ["--networks", "six", "--images", "2", "--rounds", "2", "--steps", "2", "1", "--json"]
    assert simulator.main(call) == 0
    record = json.loads((tmp_path / "six-float32.json").read_text())
    assert record["command"].endswith(" ".join(call))
    assert [row["steps"] for row in record["rows"]] == [1, 2]
    for row in record["rows"]:
        assert set(row["times"]) == {"snnlib IF", "snnlib Augmented", simulator.CLOSED}
        assert all(0 < timed["min"] <= timed["max"] for timed in row["times"].values())


def test_random_weights_keep_every_layer_alive():
    """Batch norm has the statistics of the images, so no ReLU saturates or dies."""
    images = torch.rand(30, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    ann = simulator.random_network(snn.models.create("cifar10-vgg"), images)
    net = snn.convert(ann, images, snn.IF())
    alive = []
    net.graph.evaluate(
        images, visit=lambda node, v: alive.append(float((v > 0).double().mean()))
        if node.kind == "spiking" else None,
    )  # fmt: skip
    assert len(alive) == 7
    assert all(0.3 < share < 0.7 for share in alive)
