"""Networks leave each other alone: whatever returns one leaves the one it came from as it was."""

import copy
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import reference
import torch

import snnlib as snn
from snnlib.conversion.calibrate import calibrate_bias

X = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
LAYERS = ("relu1", "relu2", "relu3", "relu4")
Net = snn.SpikingNetwork

MAKERS: dict[str, Callable[[Net], Net]] = {
    "replace nothing": lambda net: net.replace(),
    "another neuron": lambda net: net.replace(neuron=snn.IF(v0=0.0)),
    "a neuron a layer": lambda net: net.replace(neuron=dict.fromkeys(LAYERS, snn.Ternary())),
    "other thresholds": lambda net: net.replace(
        balanced={name: 2 * value for name, value in net.balanced.items()}
    ),
    "another read-out": lambda net: net.replace(readout=snn.Mean(first=2)),
    "to float32": lambda net: net.to(torch.float32),
    "to bfloat16": lambda net: net.to(torch.bfloat16),
    "double": lambda net: net.double(),
    "to meta": lambda net: net.to("meta"),
    "to cpu": lambda net: net.to("cpu"),
    "normalized": lambda net: net.normalized(),
    "quantize": lambda net: net.quantize(),
    "calibrated": lambda net: calibrate_bias(net, X.to(net.dtype), 3),
    "source": lambda net: net.quantize().source,
    "copied": copy.deepcopy,
}


def state(net: Net) -> list[Any]:
    """Everything that a caller can see of a network, as values that can be compared."""
    parts: list[Any] = [repr(net), dict(net.report), net.readout, str(net.neuron), net.graph.notes]
    held = {f"{node.name}/{k}": t for node in net.graph for k, t in node.tensors.items()}
    held |= {f"{name}/λ": value for name, value in net.balanced.items()}
    held |= {f"{name}/θ": value for name, value in net.thresholds.items()}
    for name, tensor in held.items():
        parts += [name, tensor.dtype, tensor.device, None if tensor.is_meta else tensor.tolist()]
    for name, tensor in net.reference.state_dict().items() if net.reference else ():
        parts += [name, tensor.dtype, tensor.device, tensor.tolist()]
    return parts


@pytest.fixture(scope="module")
def base() -> Net:
    return snn.convert(reference.make(), X, snn.Augmented(levels=4, negative=0.0))


@pytest.mark.parametrize(("first", "second"), list(itertools.product(MAKERS, MAKERS)))
def test_all_pairs(base: Net, first: str, second: str) -> None:
    """A network, one made from it, and one made from that: only the newest is new."""
    before = state(base)
    made = MAKERS[first](base)
    between = state(made)
    if not (made.whole is not None or made.device.type == "meta"):
        last = MAKERS[second](made)
        assert last is not made
    assert state(made) == between
    assert state(base) == before
    if made.whole is None and made.device.type != "meta" and made.reference is not None:
        made.verify(X.to(made.dtype), steps=2)
    base.verify(X, steps=2)
    assert state(base) == before


def test_the_users_model_is_never_touched() -> None:
    ann = reference.make()
    before = {name: (t.dtype, t.clone()) for name, t in ann.state_dict().items()}
    net = snn.convert(ann, X, snn.IF())
    net.to(torch.float32).verify(X.float(), steps=2)
    net.quantize()
    with torch.no_grad():
        for parameter in ann.parameters():
            parameter.mul_(2)
    net.verify(X, steps=2)  # the network has a copy of its own
    assert all(tensor.dtype == before[name][0] for name, tensor in ann.state_dict().items())


def test_a_run_leaves_nothing_behind(base: Net) -> None:
    before = state(base)
    first = base(X, 4)
    base(X, 9, record=("relu1",))
    base.decide(X, 0.7, 5)
    assert torch.equal(base(X, 4).logits, first.logits)
    assert state(base) == before


def test_a_record_cannot_be_changed(base: Net) -> None:
    with pytest.raises(AttributeError):
        base.network.neuron = snn.IF()
    with pytest.raises(AttributeError):
        base.graph.output = "relu1"


def test_statements_that_changed_a_network_in_place_are_noticed(base: Net) -> None:
    """``net.to(device)`` without using its result left float64 images for a float32 network."""
    net = base.to(torch.float32)
    net.double()
    assert net.dtype == torch.float32
    assert net(X, 2).logits.dtype == torch.float32  # the images follow the network
