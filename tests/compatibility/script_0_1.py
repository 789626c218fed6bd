"""A user's script of snnlib 0.1: old module paths, positions, attributes. Written and run with 0.1.

    python script_0_1.py NETWORK WHOLE_NETWORK

prints one JSON object; `results_0_1.json` is what 0.1 printed for the two files beside it.
"""

import json
import sys

import torch
from snnlib.balance import balance_thresholds
from snnlib.coding import Bernoulli
from snnlib.integer import IntegerNetwork
from snnlib.registry import RULES, support_table
from snnlib.run import Decision
from snnlib.simulator import SpikingNetwork
from snnlib.storage import load
from snnlib.trace import trace
from snnlib.verify import PARTS
from torch import nn

import snnlib as snn
from snnlib import costs, data, models, train  # noqa: F401
from snnlib.graph import ConversionError, Graph, apply
from snnlib.neurons import NEURONS, State


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3), nn.ReLU6(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(6, 5),
    ).double().eval()  # fmt: skip


def images(count):
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(1)).double()


def told(net, x):
    if isinstance(net, IntegerNetwork):  # took options by name only
        run = net(x, 6, record=("2", "5"))
    else:
        run = net(x, 6, None, ("2", "5"))
    synops = run.synops()
    decision = net.decide(x, 0.3, 6)
    assert isinstance(net, SpikingNetwork)
    assert isinstance(net.graph, Graph)
    assert isinstance(decision, Decision)
    return {
        "logits": run.logits.tolist(),
        "events": run.events.tolist(),
        "spikes": run.spikes.tolist(),
        "coefficients": run.trace["2"].coefficient.sum((1, 2, 3, 4)).tolist(),
        "layers": [[row.name, row.neurons, row.events, row.spikes] for row in run.layers],
        "synops": synops.total.tolist(),
        "first_layer": synops.macs_first_layer,
        "ann_macs": synops.ann_macs,
        "energy": synops.energy().tolist(),
        "neurons": net.neurons,
        "thresholds": {name: value.tolist() for name, value in net.thresholds.items()},
        "decided": [decision.step.tolist(), decision.prediction.tolist()],
        "bernoulli": net(x, 4, coding=Bernoulli(seed=3)).events.tolist(),
        "last": net(x, 6, only_last=True).logits.tolist(),
        "neuron": repr(net.neuron),
    }


def main():
    x = images(3)
    net = snn.convert(network(), images(20), snn.Augmented(3, 0.5, 0.5, 5), snn.Percentile(99.0))
    if len(sys.argv) > 3:
        net.save(sys.argv[1])
        net.quantize(8, 4).save(sys.argv[2])
    loaded, whole = load(sys.argv[1]), snn.load(sys.argv[2])
    assert isinstance(whole, IntegerNetwork)
    graph = trace(network(), images(2))
    balanced = balance_thresholds(graph, images(20), snn.Max())
    found = {
        "converted": told(net, x),
        "loaded": told(loaded, x),
        "normalized": told(net.normalized(), x),
        "whole": told(whole, x.float()),
        "replaced": told(net.replace(neuron=snn.IF(0.25, "zero")), x),
        "balanced": {name: value.tolist() for name, value in balanced.items()},
        "macs": costs.macs(graph),
        "verified": net.verify(x, steps=8).agreement,
        "parts": list(PARTS),
        "kinds": sorted(NEURONS),
        "relu": RULES[nn.ReLU].becomes,
        "rows": bool(support_table()),
        "state": list(State._fields),
        "linear": apply(graph.nodes["8"], [torch.ones(1, 6).double()]).tolist(),
        "models": list(models.NAMES),
    }
    try:
        snn.convert(nn.Sequential(nn.GELU()).eval(), torch.rand(2, 3))
    except ConversionError as error:
        found["refused"] = str(error)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
