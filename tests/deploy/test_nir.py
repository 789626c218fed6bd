"""NIR files say what the network is, and another simulator gets the same spikes out of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import snnlib as snn

nir = pytest.importorskip("nir", reason="needs the package nir: pip install nir")


class Residual(nn.Module):
    """Convolution, a residual sum, average pooling and a dense readout."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.pool, self.act, self.out = nn.AvgPool2d(2), nn.ReLU(), nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(self.first(x))
        return self.out(self.pool(self.act(self.second(h) + h)).flatten(1))


def network(reset: str = "zero", same: bool = True) -> tuple[Any, Tensor]:
    torch.manual_seed(0)
    images = torch.rand(6, 1, 8, 8)
    neuron = snn.IF(v0=0.0, reset=reset)
    net = snn.convert(Residual().eval(), images, neuron=neuron, balance=snn.Percentile(99))
    if same:  # one threshold: the identity skip needs no scale, which SpikingJelly cannot read
        net = net.replace(balanced={name: torch.tensor(0.3) for name in net.balanced})
    return net, images


def write(net: Any, path: Path) -> Any:
    net.to_nir(path)
    return nir.read(path)


def test_file_holds_unit_thresholds_and_the_edges_of_the_sum(tmp_path: Path) -> None:
    net, _ = network(same=False)
    graph = write(net, tmp_path / "net.nir")
    neurons = [node for node in graph.nodes.values() if isinstance(node, nir.IF)]
    assert len(neurons) == 2
    assert all((node.v_threshold == 1).all() and (node.r == 1).all() for node in neurons)
    assert graph.metadata["reset"] == "zero"
    scales = [node for node in graph.nodes.values() if isinstance(node, nir.Scale)]
    ratio = net.thresholds["act"] / net.thresholds["act:2"]
    assert len(scales) == 1
    assert float(scales[0].scale.max()) == pytest.approx(float(ratio))
    assert sum(target == "act_2" for _, target in graph.edges) == 2
    assert not list(tmp_path.glob(".writing-*"))


@pytest.mark.parametrize("reset", ["zero", "subtract"])
@pytest.mark.filterwarnings("ignore:NIR's IF neuron")
def test_spikingjelly_counts_the_same_spikes(tmp_path: Path, reset: str) -> None:
    exchange = pytest.importorskip(
        "spikingjelly.activation_based.nir_exchange",
        reason="needs another simulator: pip install spikingjelly nirtorch",
    )
    net, images = network(reset)
    graph = write(net, tmp_path / "net.nir")
    other = exchange.import_from_nir(graph, dt=float(graph.metadata["dt"]))
    counts = dict.fromkeys(("act", "act_2"), 0)

    def count(name: str) -> Any:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            counts[name] += int(output[0].sum())

        return hook

    for name in counts:
        layer = other.get_submodule(name)
        layer.register_forward_hook(count(name))
        if graph.metadata["reset"] == "subtract":
            layer.module.v_reset = None
    steps, total, state = 20, torch.zeros(6, 3), None
    with torch.no_grad():
        for _ in range(steps):
            logits, state = other(images, state)
            total += logits
    run = net(images, steps=steps)
    assert list(counts.values()) == [layer.spikes for layer in run.layers]
    assert sum(counts.values()) > 1000
    assert torch.allclose(total / steps, run.logits[-1], atol=1e-5)


def test_reset_by_subtraction_warns(tmp_path: Path) -> None:
    net, _ = network("subtract")
    with pytest.warns(UserWarning, match="resets by subtraction: tell the simulator"):
        graph = write(net, tmp_path / "net.nir")
    assert graph.metadata["reset"] == "subtract"


@pytest.mark.parametrize(
    ("neuron", "message"),
    [
        (snn.Ternary(), "single positive ones: convert with neuron=snnlib.IF"),
        (snn.Augmented(levels=4), "signed or graded"),
        (snn.IF(), "no initial potential: convert with neuron=snnlib.IF"),
    ],
)
def test_neurons_without_a_nir_form_are_refused(neuron: Any, message: str, tmp_path: Path) -> None:
    net, _ = network()
    with pytest.raises(snn.ConversionError, match=message):
        net.replace(neuron=neuron).to_nir(tmp_path / "net.nir")


def test_layers_without_a_nir_form_are_all_listed(tmp_path: Path) -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, padding_mode="reflect"), nn.ReLU6(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64, 2),
    ).eval()  # fmt: skip
    net = snn.convert(model, torch.rand(4, 1, 8, 8), neuron=snn.IF(v0=0.0, reset="zero"))
    with pytest.raises(snn.ConversionError) as caught:
        net.to_nir(tmp_path / "net.nir")
    for words in ("0.pad (pad)", "1 (relu): NIR has no bounded", "2 (max_pool): NIR has no max"):
        assert words in str(caught.value)
    assert not (tmp_path / "net.nir").exists()
