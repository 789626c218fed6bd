"""The benchmark measures what it says: the same computation, the floor as a pass of the ANN."""

import argparse

import pytest
import torch

import snnlib as snn
from benchmarks import simulator
from benchmarks.peers import PEERS


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    ann = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.AvgPool2d(2),
        torch.nn.Flatten(), torch.nn.Linear(8 * 64, 10),
    ).eval()  # fmt: skip
    return snn.convert(ann, torch.rand(20, 3, 16, 16), snn.IF())


@pytest.mark.parametrize("last", [True, False])
def test_the_floor_is_the_ann(net, last):
    x = torch.rand(7, 3, 16, 16)
    assert torch.allclose(simulator.ann_pass(net, x, 3, last)(), net.ann(x), atol=1e-5)


@pytest.mark.parametrize("peer", PEERS)
def test_peers_compute_the_same(net, peer):
    pytest.importorskip(peer, reason="pip install -r benchmarks/requirements.txt")
    found = simulator.agree(net, {peer: PEERS[peer](net)}, torch.rand(20, 3, 16, 16), 12)[peer]
    assert found["same_answers"] == 1
    assert found["spikes_ratio"] == pytest.approx(1, abs=1e-3)
    assert found["logit_difference"] < 0.02


def test_a_peer_that_computes_something_else_is_refused(net):
    def wrong(x, steps):
        return torch.randn(len(x), 10), 1

    wrong.chain = argparse.Namespace()
    with pytest.raises(SystemExit, match="wrong does not compute"):
        simulator.agree(net, {"wrong": wrong}, torch.rand(20, 3, 16, 16), 4)
