"""``activity``: zeros of an ANN, counted synapse by synapse and with a network of known work."""

import pytest
import torch
from torch import nn

from book.experiments import activity
from snnlib import IF, convert
from snnlib.simulation import costs


def network(pool=None):
    torch.manual_seed(0)
    middle = [] if pool is None else [pool]
    size = 36 if pool is None else 9
    return nn.Sequential(
        *(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), *middle),
        *(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(3 * size, 2)),
    ).double()  # fmt: skip


@pytest.mark.parametrize("pool", [None, nn.AvgPool2d(2), nn.MaxPool2d(2)])
def test_macs_with_input_are_counted_synapse_by_synapse(pool):
    model = network(pool)
    x = torch.rand(5, 1, 6, 6, dtype=torch.float64)
    graph = convert(model.eval(), x, IF()).graph
    active, work = activity.count(graph, x)
    value, expected, seen = x, 0, []
    for layer in model:
        if isinstance(layer, nn.Conv2d) and layer.in_channels > 1:
            busy = (value != 0).double()
            expected += 3 * int(busy.sum())  # a tap in the middle for each of 3 channels
            for rows, columns in (
                (-1, -1),
                (-1, 0),
                (-1, 1),
                (0, -1),
                (0, 1),
                (1, -1),
                (1, 0),
                (1, 1),
            ):
                high, wide = busy.shape[2:]
                part = busy[
                    :,
                    :,
                    max(0, rows) : high + min(0, rows),
                    max(0, columns) : wide + min(0, columns),
                ]
                expected += 3 * int(part.sum())
        if isinstance(layer, nn.Linear):
            expected += layer.out_features * int((value != 0).sum())
        value = layer(value)
        if isinstance(layer, nn.ReLU):
            seen.append(int((value > 0).sum()))
    assert work == expected
    assert list(active.values()) == seen


def test_a_network_without_zeros_does_all_its_macs():
    model = network()
    for layer in model:
        if isinstance(layer, nn.Conv2d):
            layer.weight.data.abs_()
            layer.bias.data.fill_(1.0)
    x = torch.rand(3, 1, 6, 6, dtype=torch.float64)
    graph = convert(model.eval(), x, IF()).graph
    active, work = activity.count(graph, x)
    behind = costs.macs(graph) - costs.macs(graph, analog_only=True)
    assert work == 3 * behind
    assert list(active.values()) == [3 * 72, 3 * 108]
