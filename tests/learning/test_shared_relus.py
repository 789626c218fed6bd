"""A ReLU module in two places is two layers of neurons; one inside a layer is not passed over."""

import pytest
import torch
from torch import nn

from snnlib.learning.dsr import DSR
from snnlib.learning.hybrid_coding import HybridCoding
from snnlib.learning.rate_norm import from_relu, layers_of
from snnlib.learning.single_spike import SingleSpike
from snnlib.learning.surrogate import Spiking, unrolled
from snnlib.learning.tandem import Tandem

THETA = torch.ones(())


def chain(shared, nested=False):
    """Three linear layers with a ReLU after the first two."""
    torch.manual_seed(0)
    first, second = (nn.ReLU() for _ in range(2))
    second = first if shared else second
    layers = [nn.Linear(6, 5), first, nn.Linear(5, 4), second, nn.Linear(4, 3)]
    if nested:
        layers[2:4] = [nn.Sequential(*layers[2:4])]
    return nn.Sequential(*layers).eval()


@pytest.fixture
def x():
    return torch.rand(20, 6, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("nested", [False, True])
def test_unrolled_counts_places(x, nested):
    nets = [unrolled(chain(shared, nested), steps=4).eval() for shared in (False, True)]
    assert [sum(isinstance(m, Spiking) for m in net.modules()) for net in nets] == [2, 2]
    assert torch.equal(nets[0](x), nets[1](x))


def test_dsr_counts_places(x):
    nets = [DSR(chain(shared), steps=4).eval() for shared in (False, True)]
    assert torch.equal(nets[0](x), nets[1](x))


@pytest.mark.parametrize("nested", [False, True])
def test_rate_norm_counts_places_and_measures_each(x, nested):
    nets = [from_relu(chain(shared, nested), x) for shared in (False, True)]
    assert [len(layers_of(net)) for net in nets] == [2, 2]
    one, other = layers_of(nets[1])
    assert float(one.threshold().detach()) != float(other.threshold().detach())
    assert torch.equal(nets[0](x), nets[1](x))


def test_tandem_counts_places():
    thetas = {"1": THETA, "3": THETA}
    stages = [len(Tandem(chain(shared), thetas, 4).stages()) for shared in (False, True)]
    assert stages == [3, 3]
    with pytest.raises(ValueError, match="a chain of layers with ReLUs"):
        Tandem(chain(False, nested=True), thetas, 4)


@pytest.mark.parametrize("make", [HybridCoding, SingleSpike])
def test_chains_are_flat(make, x):
    made = [make(chain(shared), 3) for shared in (False, True)]
    assert len({sum(p.numel() for p in net.parameters()) for net in made}) == 1
    with pytest.raises(ValueError, match="inside a layer would stay: make it flat"):
        make(chain(False, nested=True), 3)
