"""What is wrong with a call is said in one sentence, before anything is computed."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import torch

import snnlib as snn

X = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
Net = snn.SpikingNetwork


@pytest.fixture(scope="module")
def net() -> Net:
    return snn.convert(reference.make(), X, snn.Augmented(levels=4))


CALLS: dict[str, tuple[Callable[[Net], Any], str]] = {
    "memory of a point": (lambda n: n(X, 2, memory="."), r"memory='\.': write it as"),
    "memory of True": (lambda n: n(X, 2, memory=True), "memory=True: write it as"),
    "memory of nothing": (lambda n: n(X, 2, memory="0GB"), "memory='0GB': write it as"),
    "steps without end": (lambda n: n(X, 10**12), "steps=1000000000000: there is no room"),
    "steps past 64 bits": (lambda n: n(X, 10**30), "steps=10{30}: there is no room"),
    "text as number": (lambda n: n(X, 2, first="a"), "first='a' must be a whole number"),
    "text as switch": (lambda n: n(X, 2, only_last="no"), "only_last='no' must be True or False"),
    "number as switch": (lambda n: n(X, 2, progress=1), "progress=1 must be True or False"),
    "name of a coding": (lambda n: n(X, 2, "bernoulli"), "coding='bernoulli': pass an object"),
    "class of a coding": (lambda n: n(X, 2, snn.Frames), "coding=.*: pass an object"),
    "neither read-out": (lambda n: n(X, 2, readout="late"), "readout='late': pass an object"),
    "sparse images": (lambda n: n(X.to_sparse(), 2), "images are torch.sparse_coo"),
    "images in 8 bits": (lambda n: n(X.to(torch.float8_e5m2), 2), "images are torch.float8_e5m2"),
    "complex images": (lambda n: n(X.to(torch.complex64), 2), "images are torch.complex64"),
    "no images": (lambda n: n(None, 2), "images must be a torch.Tensor, not NoneType"),
    "images of numpy": (lambda n: n(X.numpy(), 2), "images must be a torch.Tensor, not ndarray"),
    "images past float32": (lambda n: n.to(torch.float32)(X * 1e39, 2), "values too large for"),
    "verify past float32": (
        lambda n: n.to(torch.float32).verify(X * 1e39), "values too large for"
    ),
    "confidence as text": (lambda n: n.decide(X, "0.9", 3), "confidence='0.9' must be a number"),
    "no confidence": (lambda n: n.decide(X, float("nan"), 3), "confidence=nan must be a number"),
    "another planet": (lambda n: n.to("mars"), r"to\('mars'\): there is no such device"),
    "whole-number weights": (lambda n: n.to(torch.int32), r"to\(torch.int32\): a spiking network"),
    "levels without end": (lambda n: snn.Augmented(levels=10**30), "levels=10{30} must be a whole"),
    "cap of zero": (lambda n: n.quantize(cap=0), "cap=0 must be a whole number of at least 1"),
    "bits of text": (lambda n: n.quantize("8"), "weight_bits='8' must be a whole number"),
    "no threshold": (lambda n: balanced(n, 0.0), "threshold 0: it must be finite and at least"),
    "below nothing": (lambda n: balanced(n, -1.0), "threshold -0.25: it must be finite"),
    "not a number": (lambda n: balanced(n, float("nan")), "threshold nan: it must be finite"),
    "no end": (lambda n: balanced(n, float("inf")), "threshold inf: it must be finite"),
    "next to nothing": (lambda n: balanced(n, 1e-38), "threshold 2.5e-39: it must be finite"),
    "of another shape": (lambda n: balanced(n, [1.0, 1.0, 1.0]), "does not broadcast to"),
    "one for all": (lambda n: n.replace(balanced=torch.tensor(1.0)), "balanced: a mapping from"),
    "thresholds missing": (lambda n: n.replace(balanced={}), "thresholds and spiking layers"),
    "unknown part": (lambda n: n.replace(graph=n.graph), r"replace\(graph\): it takes neuron"),
    "seed of 24 digits": (lambda n: snn.Bernoulli(seed=10**24), "seed=10{24} must be a whole"),
    "no seed": (lambda n: snn.Bernoulli(seed=None), "seed=None must be a whole number"),
    "verify in no steps": (lambda n: n.verify(X, steps=0), "steps=0 must be a whole number"),
    "whole numbers verified": (lambda n: n.quantize().verify(X), r"net\.source\.verify"),
}  # fmt: skip


def balanced(net: Net, value: Any) -> Net:
    """The network with this λ in its first layer."""
    tensor = torch.tensor(value, dtype=torch.float64)
    return net.replace(balanced={**net.balanced, "relu1": tensor})


@pytest.mark.parametrize("name", CALLS)
def test_wrong_calls_say_what_is_wrong(net: Net, name: str) -> None:
    call, words = CALLS[name]
    with pytest.raises(ValueError, match=words) as caught:  # ConversionError is one
        call(net)
    assert len(str(caught.value).splitlines()) == 1


def test_numbers_of_numpy_are_numbers(net: Net) -> None:
    run = net(X, np.int64(3), batch=np.int32(2), first=np.int8(0), memory=np.int64(10**9))
    assert torch.equal(run.events, net(X, 3).events)
    assert snn.Augmented(levels=np.int64(4), v0=np.float32(0.5)) == snn.Augmented(levels=4)
    assert net.decide(X, np.float64(0.5), np.int64(3)).step.shape == (4,)


def test_a_record_by_its_bare_name_or_none(net: Net) -> None:
    assert list(net(X, 2, record="relu2").trace) == ["relu2"]
    assert net(X, 2, record=None).trace == {}


def test_closed_form_takes_any_number_of_steps(net: Net) -> None:
    exact = net.replace(neuron=snn.Augmented(levels=4, negative=0.0))
    far = exact(X, 10**12, only_last=True).logits[0]
    torch.testing.assert_close(far, exact.ann(X), rtol=1e-6, atol=1e-9)


def test_old_positions_warn_and_work(net: Net) -> None:
    with pytest.warns(DeprecationWarning, match="pass record, memory by name"):
        run = net(X, 2, None, ("relu1",), "1GB")
    assert list(run.trace) == ["relu1"]
    with pytest.raises(TypeError):
        net(X, 2, None, ("relu1",), record=("relu1",))
    with pytest.raises(TypeError):
        net(X, 2, None, *[None] * 20)


# files that ask for too much, or hold what no network has


def rewritten(path: Path, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], Any]) -> Path:
    """The file with another record or other tensors, and a digest that fits."""
    import json

    from safetensors import safe_open
    from safetensors.torch import save_file

    from snnlib.deploy.files import digest

    with safe_open(str(path), framework="pt") as file:
        metadata = dict(file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    record = json.loads(metadata["network"])
    change(record, tensors)
    metadata["network"] = json.dumps(record)
    metadata["sha256"] = digest(metadata["network"], tensors)
    save_file(tensors, str(path), metadata)
    return path


def huge(record: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    record["nodes"][0]["shape"] = [1, 60_000, 60_000]


FILES: dict[str, tuple[Callable[..., Any], str]] = {
    "a huge input": (huge, "gives shape|does not describe"),
    "an infinite threshold": (lambda r, t: t["relu1/balanced"].fill_(float("inf")), "infinite"),
    "a threshold of zero": (lambda r, t: t["relu1/balanced"].fill_(0.0), "must be finite and at"),
    "weights that are no numbers": (lambda r, t: t["conv1/weight"].fill_(float("nan")), "NaN"),
}


@pytest.mark.parametrize("name", FILES)
def test_what_a_file_may_hold(net: Net, name: str, tmp_path: Path) -> None:
    change, words = FILES[name]
    path = rewritten(net.save(tmp_path / "net.safetensors"), change)
    with pytest.raises(snn.CheckpointError, match=words):
        snn.load(path)


def test_a_small_file_cannot_ask_for_much_memory(tmp_path: Path) -> None:
    """An input of 60,000 × 60,000 that fits its graph loads without the 14 GB of an image."""
    import resource

    ann = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.ReLU(), torch.nn.Flatten())
    path = snn.convert(ann.eval(), torch.rand(3, 1, 4, 4)).save(tmp_path / "net.safetensors")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    net = snn.load(rewritten(path, huge))
    assert net.graph.shapes["input"] == (1, 60_000, 60_000)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 500_000, f"loading took {grown / 1e6:.1f} GB more"


def test_a_copy_is_another_network(net: Net) -> None:
    other = copy.deepcopy(net)
    assert torch.equal(other(X, 3).logits, net(X, 3).logits)
    assert other.network is not net.network
