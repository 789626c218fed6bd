"""Saved networks come back bit for bit, and files that are not what they claim are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import snnlib as snn
from snnlib.deploy import storage


class Net(nn.Module):
    """A shared module, a residual sum, two kinds of pooling, a bounded unit, a dropped softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.shared = nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
        self.out = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = nn.functional.relu6(self.first((x - 0.5) / 0.2))
        h = torch.relu(self.shared(torch.relu(self.shared(h))) + h)
        return self.out(nn.functional.max_pool2d(h, 2).flatten(1)).softmax(1)


NEURONS = (snn.IF(v0=0.25, reset="zero"), snn.Ternary(negative=0.5), snn.Augmented(3, 0.0, cap=2))


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(8, 2, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def net(images: Tensor) -> Any:
    torch.manual_seed(0)
    return snn.convert(Net().eval(), images)


@pytest.mark.filterwarnings("ignore:layer .* never fires")
def test_a_single_channel_without_a_bias_is_saved(images: Tensor, tmp_path: Path) -> None:
    """Its bias of zero is a view without strides, of which the digest wanted bytes."""
    ann = nn.Sequential(nn.Conv2d(2, 1, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3))
    net = snn.convert(ann.eval(), images)
    again = snn.load(net.save(tmp_path / "net.safetensors"))
    assert torch.equal(again(images, 4).logits, net(images, 4).logits)


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("per_channel", [False, True])
def test_round_trip_is_exact(
    neuron: Any, dtype: torch.dtype, per_channel: bool, images: Tensor, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    x = images.to(dtype)
    net = snn.convert(
        Net().eval().to(dtype), x, neuron=neuron, per_channel=per_channel, calibrate_bias=True,
        calibration_steps=2,
    )  # fmt: skip
    again = snn.load(net.save(tmp_path / "net.safetensors"))
    assert again.neuron == net.neuron
    assert again.report == net.report
    assert (again.graph.output, again.graph.head) == (net.graph.output, "softmax")
    assert again.graph.notes == net.graph.notes
    assert again.graph.shapes == net.graph.shapes
    for old, new in zip(net.graph, again.graph, strict=True):
        assert (old.name, old.op, old.inputs) == (new.name, new.op, new.inputs)
        assert dict(old.attrs) == dict(new.attrs)
        assert all(torch.equal(old.tensors[role], new.tensors[role]) for role in old.tensors)
        assert old.tensors.keys() == new.tensors.keys()
    first, second = net(x, steps=5), again(x, steps=5)
    if dtype == torch.float64:  # the same tensors: what differs is where they lie in memory
        assert torch.equal(first.events, second.events)
        torch.testing.assert_close(second.logits, first.logits, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(again.ann(x), net.ann(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(again.ann(x), net.ann(x), rtol=0.02, atol=0.02)


def test_weights_of_a_shared_layer_are_stored_once(net: Any, tmp_path: Path) -> None:
    with safe_open(str(net.save(tmp_path / "net")), framework="pt") as file:
        names = set(file.keys())
    assert {"shared/weight"} == {name for name in names if name.startswith("shared")} - {
        "shared/bias"
    }


def test_graph_is_readable_without_the_library(net: Any, tmp_path: Path) -> None:
    with safe_open(str(net.save(tmp_path / "net")), framework="pt") as file:
        record = json.loads(file.metadata()["network"])
    assert record["neuron"] == {
        "kind": "augmented", "levels": 4, "negative": 1.0, "v0": 0.5, "cap": None
    }  # fmt: skip
    assert [node["op"] for node in record["nodes"]].count("relu") == 3


def test_verify_works_without_the_original(net: Any, images: Tensor, tmp_path: Path) -> None:
    again = snn.load(net.save(tmp_path / "net"))
    report = again.verify(images, steps=4)
    assert report.graph_error is None
    assert "no original to compare" in str(report)


def test_failed_write_leaves_the_old_file(net: Any, tmp_path: Path) -> None:
    path = net.save(tmp_path / "net")
    before = path.read_bytes()
    blocked = tmp_path / "net" / "below"  # a folder whose name is a file
    with pytest.raises(snn.CheckpointError, match="cannot be written"):
        net.save(blocked)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def rewritten(path: Path, change: dict[str, str], tensors: Any = None) -> Path:
    """The file with other metadata, and a digest that fits if the network text was changed."""
    with safe_open(str(path), framework="pt") as file:
        metadata = dict(file.metadata())
        held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    metadata.update(change)
    held = {**held, **(tensors or {})}
    if "network" in change:
        metadata["sha256"] = storage.digest(metadata["network"], held)
    save_file(held, str(path), metadata=metadata)
    return path


def edited(path: Path, edit: Any) -> Path:
    with safe_open(str(path), framework="pt") as file:
        record = json.loads(file.metadata()["network"])
    edit(record)
    return rewritten(path, {"network": json.dumps(record)})


BROKEN: dict[str, tuple[Any, str]] = {
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:-100]), "truncated or no safetensors"),
    "empty": (lambda p: p.write_bytes(b""), "truncated or no safetensors"),
    "pickle": (lambda p: torch.save({"a": 1}, p), "truncated or no safetensors"),
    "absent": (lambda p: p.unlink(), "there is no such file"),
    "foreign": (lambda p: save_file({"a": torch.ones(2)}, str(p)), "no spiking network of snnlib"),
    "checkpoint": (
        lambda p: rewritten(p, {"format": "snnlib-checkpoint-1"}), "checkpoint of a trained ANN"
    ),
    "newer": (lambda p: rewritten(p, {"version": "99"}), "version '99'.*Upgrade"),
    "weights changed": (
        lambda p: rewritten(p, {}, {"first/bias": torch.ones(4)}), "damaged.*SHA-256"
    ),
    "no json": (lambda p: rewritten(p, {"network": "{"}), "does not describe a network"),
    "unknown operation": (
        lambda p: edited(p, lambda r: r["nodes"][1].update(op="magic")), "unknown operation 'magic'"
    ),
    "unknown input": (
        lambda p: edited(p, lambda r: r["nodes"][1].update(inputs=["later"])), "do not come before"
    ),
    "wrong attribute": (
        lambda p: edited(p, lambda r: next(n for n in r["nodes"] if n["op"] == "conv")["attrs"].
                         update(stride=[3, 3])), "gives shape"
    ),
    "missing attribute": (
        lambda p: edited(p, lambda r: next(n for n in r["nodes"] if n["op"] == "conv")["attrs"].
                         clear()), "does not describe a network"
    ),
    "bad neuron": (
        lambda p: edited(p, lambda r: r["neuron"].update(v0=7)), "v0=7 must be a fraction"
    ),
    "no output": (lambda p: edited(p, lambda r: r.pop("output")), "does not describe a network"),
    "missing threshold": (
        lambda p: edited(p, lambda r: r["balanced"].popitem()), "thresholds and spiking layers"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_saved_network_is_refused(name: str, net: Any, tmp_path: Path) -> None:
    breaking, message = BROKEN[name]
    path = net.save(tmp_path / "net.safetensors")
    breaking(path)
    with pytest.raises(snn.CheckpointError, match=message) as caught:
        snn.load(path)
    assert str(path) in str(caught.value)
