"""Networks and requests of strangers, simulated: what once was wrong, or ended in a bare error."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import snnlib as snn
from snnlib.graph.errors import ConversionError
from snnlib.simulation.coding import Coding

X = torch.rand(12, 1, 6, 6, generator=torch.Generator().manual_seed(0)).double()


def seeded(*layers: nn.Module) -> nn.Sequential:
    """Layers of float64 with weights of their own."""
    net = nn.Sequential(*layers).double().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weights in net.parameters():
            weights.copy_(torch.randn(weights.shape, generator=generator, dtype=torch.double) * 0.4)
    return net


def pooled(*between: nn.Module, side: int = 6, channels: int = 2) -> nn.Sequential:
    """Spikes, what lies between, and an output layer."""
    head = (nn.Conv2d(1, channels, 3, padding=1), nn.ReLU(), *between, nn.Flatten())
    size = nn.Sequential(*head)(torch.zeros(1, 1, side, side)).shape[1]
    return seeded(*head, nn.Linear(size, 3))


@pytest.mark.parametrize("pool", [nn.MaxPool2d(3, 1, 1), nn.MaxPool2d(2)])
def test_a_maximum_of_spikes_with_a_threshold_a_neuron(pool: nn.Module) -> None:
    net = snn.convert(pooled(pool), X, snn.Augmented(levels=4, negative=0.0))
    spread = 0.3 + torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(2)).double()
    net = net.replace(balanced={"1": net.balanced["1"] * spread})
    wanted = net.ann(X)
    assert float(net(X, 200).error(wanted)[-1]) < 0.01
    assert float(net.normalized()(X, 200).error(wanted)[-1]) < 0.01
    torch.testing.assert_close(net(X, 5).logits[-1:], net(X, 5, only_last=True).logits)


BETWEEN: dict[str, tuple[nn.Module, ...]] = {
    "pool, pool": (nn.MaxPool2d(2, 1), nn.MaxPool2d(2)),
    "padding": (nn.ZeroPad2d(1), nn.MaxPool2d(2)),
    "turned": (nn.Unflatten(1, (1, 2)), nn.MaxPool3d((1, 2, 2))),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_spikes_that_reach_a_maximum_on_a_detour_are_counted_as_spikes(name: str) -> None:
    net = snn.convert(pooled(*BETWEEN[name]), X, snn.IF())
    run = net(X, 100)
    costs, error = run.synops(), float(run.error(net.ann(X))[-1])
    assert float(costs.multiplications[-1]) == 0
    torch.testing.assert_close(costs.unit_spikes, costs.total)
    for dtype in (torch.float32, torch.bfloat16):
        low, x = net.to(dtype), X.to(dtype)
        run = low(x, 100)
        assert float(run.error(low.ann(x))[-1]) == pytest.approx(error, abs=0.05)
        assert float(run.synops().multiplications[-1]) == 0


@pytest.mark.parametrize("name", ["pool, pool", "padding"])
def test_the_same_with_a_threshold_a_channel_and_in_whole_numbers(name: str) -> None:
    model = pooled(*BETWEEN[name])
    net = snn.convert(model, X, snn.Augmented(levels=4, negative=0.0), per_channel=True)
    sent = net(X, 6, record=("1",)).trace["1"].coefficient
    costs = net(X, 6).synops()
    assert 0 < float(costs.multiplications[-1]) < float(costs.total[-1])
    assert float(costs.unit_spikes[-1] * len(X)) % 1 == pytest.approx(0, abs=1e-6)
    assert bool((sent == sent.round()).all())
    whole = snn.convert(model, X, snn.IF()).quantize()(X.float(), 6).synops()
    assert float(whole.multiplications[-1]) == 0


def test_padding_with_another_number_is_no_spike() -> None:
    net = snn.convert(pooled(nn.ConstantPad2d(1, 0.7), nn.MaxPool2d(2)), X, snn.IF())
    assert float(net(X, 60).error(net.ann(X))[-1]) < 0.1
    assert float(net(X, 6).synops().multiplications[-1]) > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_one_channel_with_a_threshold_of_its_own(dtype: torch.dtype) -> None:
    class Largest(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.fc = seeded(nn.Conv2d(1, 1, 3), nn.ReLU()), seeded(nn.Linear(1, 3))

        def forward(self, x: Tensor) -> Any:
            return self.fc(self.net(x).amax((2, 3)))

    for model in (pooled(channels=1), Largest().eval()):
        net = snn.convert(model, X, per_channel=True).to(dtype)
        x = X.to(dtype)
        assert float(net(x, 64).error(net.ann(x))[-1]) < 0.05


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_many_steps_of_random_input_in_a_narrow_dtype(dtype: torch.dtype) -> None:
    ones = torch.ones(1, 1, 1, 1, dtype=dtype)
    assert float(snn.Bernoulli().mean(ones, 5000, 0)) == 1.0


def test_a_coding_of_another_dtype_runs_in_closed_form_too() -> None:
    class Narrow(Coding):
        def frame(self, images: Tensor, step: int, first: int) -> Tensor:
            return images.bfloat16()

    net = snn.convert(pooled(), X, snn.Augmented(levels=4, negative=0.0))
    steps, closed = net(X, 4, Narrow()), net(X, 4, Narrow(), only_last=True)
    torch.testing.assert_close(steps.logits[-1:], closed.logits, rtol=0.01, atol=0.01)


def test_analog_frames_are_charged_once_where_a_maximum_comes_first() -> None:
    model = seeded(
        nn.MaxPool2d(2), nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(27, 3)
    )
    net = snn.convert(model, X, snn.IF())
    still, frames = net(X, 5).synops(), net(X.expand(5, *X.shape), 5, snn.Frames()).synops()
    torch.testing.assert_close(still.total, frames.total)
    torch.testing.assert_close(still.energy(reuse=False), frames.energy())


def test_verify_sums_maxima_as_the_network_does() -> None:
    model = pooled(nn.MaxPool2d(2), nn.Conv2d(2, 4, 3), nn.ReLU())
    net = snn.convert(model, X, snn.Augmented(levels=4, negative=0.0)).to(torch.bfloat16)
    x = X.bfloat16()
    own = float(net(x, 256).error(net.ann(x))[-1])
    assert net.verify(x, steps=256).output_error[-1] == pytest.approx(own, abs=0.01)


def test_verify_does_not_depend_on_how_images_are_cut() -> None:
    model = seeded(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 1)).float()
    x = torch.rand(60, 16, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():  # an output is next to 0
        model[3].bias -= model(x[:1])[0]
    net = snn.convert(model, x)
    for batch in (1, 60):
        assert net.verify(x, steps=1, batch=batch).graph_error < 1e-3


def test_a_network_that_was_narrow_once_is_judged_by_it() -> None:
    net = snn.convert(pooled(), X)
    for once in (torch.float32, torch.bfloat16):
        again = net.to(once).double()
        assert again.verify(X, steps=2).graph_error > 1e-9
    assert net.to(torch.float64).report["dtype"] == "float64"


@pytest.mark.parametrize("kind", ["uint16", "uint32", "uint64", "int8"])
def test_labels_of_every_whole_type(kind: str) -> None:
    run = snn.convert(pooled(), X)(X, 2)
    assert torch.equal(run.accuracy(np.zeros(12, kind)), run.accuracy([0] * 12))


REQUESTS: dict[str, tuple[dict[str, Any], str]] = {
    "record": ({"record": 3}, "record=3 must be the name of a layer"),
    "records": ({"record": [1, "1"]}, "must be the name of a layer"),
    "true": ({"record": True}, "record=True"),
    "memory": ({"memory": "9" * 400 + "GB"}, "or a number of bytes"),
    "first": ({"first": 2**64}, "first=18446744073709551616 must be a whole number"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_requests_that_make_no_sense(name: str) -> None:
    options, words = REQUESTS[name]
    with pytest.raises(ValueError, match=words):
        snn.convert(pooled(), X)(X, 2, **options)


def test_a_generator_that_is_none() -> None:
    wrong: Any = 3
    with pytest.raises(ValueError, match=r"no torch\.Generator"):
        snn.Bernoulli(generator=wrong)


def test_no_frame_at_all() -> None:
    net = snn.convert(pooled(), X)
    with pytest.raises(ConversionError, match="no frame"):
        net(X.expand(0, *X.shape), 1, snn.Frames())
    with pytest.raises(ConversionError, match="no frame"):
        net.quantize()(X.float().expand(0, *X.shape), 1, snn.Frames())


def test_networks_run_where_nothing_may_be_compiled() -> None:
    code = (
        "import torch, snnlib as snn; from torch import nn; m = nn.Sequential(nn.Linear(4, 5), "
        "nn.ReLU(), nn.Linear(5, 2)).eval(); x = torch.rand(6, 4); "
        "print(snn.convert(m, x)(x, 3).logits.shape)"
    )
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert found.stdout.strip() == "torch.Size([3, 6, 2])", found.stderr
