"""Costs: SynOps counted synapse by synapse, energy by arithmetic."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from snnlib import IF, Augmented, Bernoulli, Constant, Percentile, Ternary, convert
from snnlib.backend import plain
from snnlib.simulation import costs


class Tiny(nn.Module):
    """Padded and strided convolutions, a residual sum, pooling, two linear layers."""

    def __init__(self, pool: str = "avg") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 2, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(2, 2, 3, padding=1)
        self.relu2 = nn.ReLU()
        self.pool = nn.MaxPool2d(2) if pool == "max" else nn.AvgPool2d(2)
        self.conv3 = nn.Conv2d(2, 3, 3, stride=2, padding=1)
        self.relu3 = nn.ReLU()
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(12, 5)
        self.relu4 = nn.ReLU()
        self.fc2 = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, 8, 8) → (B, 3)."""
        x = self.relu1(self.conv1(x))
        x = self.relu2(self.conv2(x) + x)
        x = self.relu3(self.conv3(self.pool(x)))
        return self.fc2(self.relu4(self.fc1(self.flatten(x))))


def conv_synapses(row: int, column: int, size: int, stride: int, outputs: int) -> int:
    """Synapses of one input pixel of a 3 × 3 convolution with padding 1: by looking at each."""
    out = (size - 1) // stride + 1
    found = 0
    for y, x in itertools.product(range(out), repeat=2):
        for dy, dx in itertools.product((-1, 0, 1), repeat=2):
            found += (y * stride + dy, x * stride + dx) == (row, column)
    return found * outputs


def make(pool: str = "avg") -> Tiny:
    torch.manual_seed(1)
    return Tiny(pool).double().eval()


def brute_force(run, pool: str) -> dict[str, Tensor]:
    """Cumulative SynOps, those with |c| > 1, and Σ|c| × synapses, by looping over all events."""
    steps = run.steps
    total, wide, spikes = (torch.zeros(steps, dtype=torch.float64) for _ in range(3))

    def add(t: int, c: float, synapses: int) -> None:
        if c != 0:
            total[t] += synapses
            wide[t] += synapses * (abs(c) > 1)
            spikes[t] += synapses * abs(c)

    for name in ("relu1", "relu2", "relu3", "relu4"):
        coefficients = run.trace[name].coefficient
        if name == "relu2" and pool == "max":  # changes of the maximum are what is sent
            summed = torch.nn.functional.max_pool2d(coefficients.cumsum(0).flatten(0, 1), 2)
            summed = summed.reshape(*coefficients.shape[:2], 2, 4, 4)
            coefficients = summed.diff(dim=0, prepend=torch.zeros_like(summed[:1]))
        for index in (coefficients != 0).nonzero().tolist():
            t, _, *where = index
            c = float(coefficients[tuple(index)])
            if name == "relu1":  # conv2 alone: the skip ends in a neuron, not at a weight
                add(t, c, conv_synapses(where[1], where[2], 8, 1, 2))
            elif name == "relu2" and pool == "max":
                add(t, c, conv_synapses(where[1], where[2], 4, 2, 3))
            elif name == "relu2":  # through the average pooling
                add(t, c, conv_synapses(where[1] // 2, where[2] // 2, 4, 2, 3))
            elif name == "relu3":
                add(t, c, 5)
            else:
                add(t, c, 3)
    n = len(run)
    return {
        "total": total.cumsum(0) / n,
        "multiplications": wide.cumsum(0) / n,
        "unit_spikes": spikes.cumsum(0) / n,
    }


@pytest.mark.parametrize("pool", ["avg", "max"])
@pytest.mark.parametrize(
    "neuron", [IF(), Ternary(negative=0.0), Augmented(levels=6, negative=0.0)], ids=str
)
def test_synops_synapse_by_synapse(neuron, pool):
    x = torch.rand(20, 1, 8, 8, dtype=torch.float64)
    net = convert(make(pool), x, neuron, balance=Percentile(99.0))
    run = net(x[:2], 4, record=("relu1", "relu2", "relu3", "relu4"), batch=1)
    synops, expected = run.synops(), brute_force(run, pool)
    for name, value in expected.items():
        assert torch.allclose(getattr(synops, name), value, rtol=1e-12), name
    assert float(expected["total"][-1]) > 1000
    if neuron.kind == "augmented":
        assert float(expected["multiplications"][-1]) > 0
        assert (synops.unit_spikes > synops.total).all()
    else:
        assert torch.equal(synops.unit_spikes, synops.total) or pool == "max"


def test_identity_skip_counts_at_the_next_weighted_layer():
    """With a skip past the second layer, an event of the first reaches the third as well."""

    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.relu1 = nn.Linear(4, 4), nn.ReLU()
            self.fc2, self.relu2 = nn.Linear(4, 4), nn.ReLU()
            self.fc3 = nn.Linear(4, 7)

        def forward(self, x: Tensor) -> Tensor:
            x = self.relu1(self.fc1(x))
            return self.fc3(self.relu2(self.fc2(x)) + x)

    net = convert(Skip().eval(), torch.rand(20, 4), IF())
    assert net.fan_outs["relu1"].tolist() == [4 + 7] * 4
    assert net.fan_outs["relu2"].tolist() == [7] * 4


@pytest.mark.parametrize("pool", ["avg", "max"])
def test_macs_by_hand(pool):
    x = torch.rand(4, 1, 8, 8, dtype=torch.float64)
    net = convert(make(pool), x, IF())
    positions = sum(conv_synapses(i, j, 8, 1, 1) for i, j in itertools.product(range(8), repeat=2))
    strided = sum(conv_synapses(i, j, 4, 2, 1) for i, j in itertools.product(range(4), repeat=2))
    first = positions * 1 * 2
    assert costs.macs(net.graph, analog_only=True) == first
    ann = first + positions * 2 * 2 + strided * 2 * 3 + 12 * 5 + 5 * 3
    assert costs.macs(net.graph) == ann
    synops = net(x, 3).synops()
    assert (synops.macs_first_layer, synops.ann_macs) == (first, ann)
    assert synops.macs_first_layer_every_step.tolist() == [first, 2 * first, 3 * first]


def test_bernoulli_input_has_events_instead_of_an_analog_layer():
    x = torch.full((3, 1, 8, 8), 1.0, dtype=torch.float64)  # every pixel sends in every step
    net = convert(make(), torch.rand(8, 1, 8, 8, dtype=torch.float64), IF())
    with_input, without = net(x, 2, coding=Bernoulli()).synops(), net(x, 2).synops()
    assert with_input.macs_first_layer == 0
    positions = sum(conv_synapses(i, j, 8, 1, 2) for i, j in itertools.product(range(8), repeat=2))
    assert (with_input.total - without.total).tolist() == [positions, 2 * positions]


def test_energy_is_arithmetic():
    numbers = {
        "total": torch.tensor([1000.0, 3000.0]),
        "multiplications": torch.tensor([0.0, 500.0]),
        "unit_spikes": torch.tensor([1000.0, 4500.0]),
    }
    synops = costs.SynOps(
        **numbers,
        macs_first_layer=100,
        macs_first_layer_every_step=torch.tensor([100, 200]),
        ann_macs=10_000,
    )
    once = 0.46
    assert synops.energy().tolist() == pytest.approx([0.9 + once, 2.25 + 2.3 + once])
    assert synops.energy(reuse=False).tolist() == pytest.approx([1.36, 5.47])
    assert synops.energy(unit_spikes=True).tolist() == pytest.approx([0.9 + once, 4.05 + once])
    assert synops.ann_energy == pytest.approx(46.0)
    assert synops.literature_energy.tolist() == pytest.approx([0.9, 2.7])


@pytest.mark.parametrize("coding", [Constant(), Bernoulli()])
def test_both_accounts_differ_by_the_first_layer_and_by_wide_spikes(coding):
    """Nothing else lies between them: what a MAC costs more than an addition, and the MACs that
    the image itself takes."""
    x = torch.rand(4, 1, 8, 8, dtype=torch.float64)
    for neuron in (IF(), Augmented(levels=4, negative=0.0)):
        found = convert(make(), x, neuron)(x, 3, coding=coding).synops()
        dearer = (costs.MAC_PICOJOULE - costs.AC_PICOJOULE) * found.multiplications
        first = costs.MAC_PICOJOULE * found.macs_first_layer
        assert (found.multiplications[-1] > 0) == (neuron.kind == "augmented")
        between = (found.energy() - found.literature_energy).tolist()
        assert between == pytest.approx(((dearer + first) / 1000).tolist())


def test_what_is_not_one_is_a_multiplication():
    """Changes that a max pooling of joined messages sends are real numbers, small ones as well."""
    sent = torch.tensor([[0.3, 1.0, -1.0, 1.2, 0.0, -2.0]])
    events, spikes, synops, multiplications, units = plain.tally(sent, torch.full((6,), 5.0))
    assert (events, synops, multiplications) == (5, 25, 15)
    assert float(spikes) == pytest.approx(5.5)
    assert float(units) == pytest.approx(27.5)
