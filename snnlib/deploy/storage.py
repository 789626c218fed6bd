"""Save a converted network and load it again: safetensors plus a readable graph, no pickle.

The file is a safetensors file. Its tensors are the weights and the balanced activations λ; its
metadata holds ``format`` and ``network``, a JSON text with the nodes of the graph, the neuron and
how the network came about: ``safetensors.safe_open(path, "pt").metadata()["network"]`` shows it to
anyone. The round trip is exact to the bit. A SHA-256 over graph and tensors tells a damaged file.

A network of whole numbers (``net.quantize()``) goes into one file with the network it was made
from. Its weights, biases and thresholds are stored as the narrowest integers that hold them, under
``whole/``: weights of 8 bits as int8. That part is what a chip needs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor

from snnlib.deploy import whole_numbers  # noqa: F401  (registers its operations)
from snnlib.deploy.files import digest, is_file, read_safetensors, write_bytes
from snnlib.graph.errors import CheckpointError
from snnlib.graph.graph import Graph
from snnlib.graph.network import Network, Whole
from snnlib.graph.operations import OPERATIONS, Node
from snnlib.graph.readout import READOUTS, Mean
from snnlib.neurons import NEURONS, Neuron

FORMAT, VERSION = "snnlib-network", 3  # 2: whole numbers; 3: a neuron a layer, a read-out
_INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64)

_COMPUTED_IN = {  # types of networks by their stored names
    str(dtype)[6:]: dtype for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
}


def save(
    net: Network,
    path: str | Path,
    *,
    half: bool = False,
    more: Mapping[str, Tensor] | None = None,
    about: Mapping[str, str] | None = None,
) -> Path:
    """Write a spiking network to a file, whole or not at all.

    Args:
        net: the network; it may live on any device.
        path: the file, ``.safetensors`` by custom; its folder is made.
        half: round weights to float16; whoever loads the file has the rounded ones in the network's
            own type.
        more: tensors to keep beside it, which `load` does not read.
        about: texts to keep beside it.

    Returns:
        The path.

    Raises:
        CheckpointError: the file cannot be written, or a neuron is not one of this library: a
            file holds parameters, no code.
    """
    kept = _Store(half)
    record = _record(net if net.whole is None else net.whole.source, kept)
    if net.whole is not None:
        record["whole"] = _whole_record(net, net.whole, kept)
    tensors = kept.tensors | dict(more or {})
    text = json.dumps(record, indent=1, ensure_ascii=False)
    metadata = {
        "format": FORMAT,
        "version": str(_version(net)),
        "network": text,
        "sha256": digest(text, tensors),
        **(about or {}),
    }
    return write_bytes(path, to_bytes(tensors, metadata=metadata), CheckpointError)


def _version(net: Network) -> int:
    """The oldest version of the format that holds the network: older readers take it then."""
    if net.readout != Mean() or not isinstance(net.neuron, Neuron):
        return VERSION
    return 1 if net.whole is None else 2


class _Store:
    """The tensors of a file: each once, however many nodes share it."""

    def __init__(self, half: bool = False) -> None:
        self.half = half
        self.tensors: dict[str, Tensor] = {}
        self._keys: dict[tuple[int, torch.Size, tuple[int, ...]], str] = {}

    def __call__(self, key: str, value: Tensor, integer: bool = False) -> str:
        """Keep a tensor, as integers if asked to; returns its key."""
        known = self._keys.setdefault((value.data_ptr(), value.shape, value.stride()), key)
        if known == key:
            held = dense(value.detach().cpu())
            if self.half and held.is_floating_point() and key.endswith("/weight"):
                held = _half(held)
            self.tensors[key] = _narrowest(held) if integer else held
        return known


def _half(value: Tensor) -> Tensor:
    """In float16, where that holds all of it; else as it is."""
    narrow = value.half()
    return narrow if bool(narrow.isfinite().all()) else value


def dense(value: Tensor) -> Tensor:
    """A copy with the strides of its shape, which a view of one number may lack."""
    return value.clone(memory_format=torch.contiguous_format)


def _narrowest(value: Tensor) -> Tensor:
    """Whole numbers in the smallest integer type that holds them."""
    low, high = (int(v) for v in (value.min(), value.max()))
    kind = next(k for k in _INTEGERS if torch.iinfo(k).min <= low and high <= torch.iinfo(k).max)
    narrow = value.to(kind)
    assert torch.equal(narrow.to(value.dtype), value), "whole numbers only"
    return narrow


def _record(net: Network, store: _Store) -> dict[str, Any]:
    record = {
        "neuron": _neuron_record(net.neuron),
        "balanced": {name: store(f"{name}/balanced", t) for name, t in net.balanced.items()},
        "report": dict(net.report),
        **_graph_record(net.graph, store),
    }
    if net.readout != Mean():
        record["readout"] = {"kind": "mean", **vars(net.readout)}
    return record


def _whole_record(net: Network, whole: Whole, store: _Store) -> dict[str, Any]:
    """Weights and thresholds as integers, and the floating type each layer computes in."""
    thresholds = {
        name: store(f"whole/{name}/threshold", t, integer=True)
        for name, t in whole.thresholds.items()
    }
    return {
        "neuron": _neuron_record(net.neuron),
        "thresholds": thresholds,
        "output_unit": store("whole/output_unit", whole.output_unit),
        "sums": dict(whole.sums),
        **_graph_record(net.graph, store, "whole/", integer=True),
    }


def _neuron_record(neuron: Neuron | Mapping[str, Neuron]) -> dict[str, Any]:
    if isinstance(neuron, Mapping):
        return {"layers": {name: _neuron_record(each) for name, each in neuron.items()}}
    if NEURONS.get(neuron.kind) is not type(neuron):
        raise CheckpointError(
            f"{neuron!r} is a neuron of your own, and a network file holds parameters, no code: "
            "save the network with one of snnlib's neurons (net.replace(neuron=...)), and put "
            "yours back after loading"
        )
    return {"kind": neuron.kind, **vars(neuron)}


def _graph_record(
    graph: Graph, store: _Store, prefix: str = "", integer: bool = False
) -> dict[str, Any]:
    nodes = []
    for node in graph:
        tensors = {
            role: store(f"{prefix}{node.name}/{role}", t, integer)
            for role, t in node.tensors.items()
        }
        entry: dict[str, Any] = {
            "name": node.name,
            "op": node.op,
            "inputs": list(node.inputs),
            "attrs": dict(node.attrs),
            "tensors": tensors,
            "shape": list(graph.shapes[node.name]),
        }
        if (integer or store.half) and tensors:
            dtypes = {str(t.dtype).removeprefix("torch.") for t in node.tensors.values()}
            (entry["computed_in"],) = dtypes
        nodes.append(entry)
    return {"output": graph.output, "head": graph.head, "notes": graph.notes, "nodes": nodes}


# What a description raises that is none.
_UNRUNNABLE = (
    ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError,
)  # fmt: skip


def load(path: str | Path) -> Network:
    """Read a spiking network that `save` wrote; it simulates exactly as the saved one did.

    Raises:
        CheckpointError: there is no such file, or it is truncated, damaged, from a newer version,
            or no network of this library.
    """
    path = Path(path)
    if not is_file(path):
        raise CheckpointError(f"{path}: there is no such file. Check the path.")
    header, tensors = read_safetensors(path, "Save the network again with net.save(path).")
    _check_header(path, header)
    text = header.get("network", "")
    if header.get("sha256") != digest(text, tensors):
        raise CheckpointError(
            f"{path} is damaged: graph and tensors do not have the SHA-256 stored with them. Save "
            "the network again with net.save(path)."
        )
    try:
        return _rebuild(json.loads(text), tensors)
    except _UNRUNNABLE as error:
        raise CheckpointError(
            f"{path} does not describe a network this version of snnlib can run ({error}). Convert "
            "the ANN again."
        ) from None


def _check_header(path: Path, header: dict[str, str]) -> None:
    found = header.get("format")
    if found != FORMAT:
        trained = str(found).startswith("snnlib-checkpoint")
        what = "the checkpoint of a trained ANN" if trained else "no spiking network of snnlib"
        raise CheckpointError(
            f"{path} is {what} (format {found!r} instead of {FORMAT!r}). Load the ANN, convert it "
            "with snnlib.convert, and keep the result with net.save(path)."
        )
    version = header.get("version", "")
    if not version.isdecimal() or int(version) > VERSION:
        raise CheckpointError(
            f"{path} has version {version!r} of the format; this snnlib reads up to {VERSION}. "
            "Upgrade snnlib, or convert the ANN again."
        )


def _rebuild(record: dict[str, Any], tensors: dict[str, Tensor]) -> Network:
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} holds NaN or infinite values")
    graph = _rebuild_graph(record, tensors)
    balanced = {name: tensors[key] for name, key in record["balanced"].items()}
    readout = dict(record.get("readout", {"kind": "mean"}))
    net = Network(
        graph,
        _rebuild_neuron(record["neuron"]),
        balanced,
        READOUTS[readout.pop("kind")](**readout),
        report=record["report"],
    )
    _check_runs(graph)
    return _rebuild_whole(net, record["whole"], tensors) if "whole" in record else net


def _rebuild_whole(source: Network, record: dict[str, Any], tensors: dict[str, Tensor]) -> Network:
    graph = _rebuild_graph(record, tensors)
    _check_runs(graph)
    thresholds = {name: tensors[key].double() for name, key in record["thresholds"].items()}
    if thresholds.keys() != set(graph.spiking):
        raise ValueError("whole-number thresholds and spiking layers do not match")
    whole = Whole(source, thresholds, tensors[record["output_unit"]], record["sums"])
    neuron = _rebuild_neuron(record["neuron"])
    return Network(graph, neuron, source.balanced, source.readout, whole, source.report)


def _rebuild_neuron(record: dict[str, Any]) -> Neuron | dict[str, Neuron]:
    values = dict(record)
    if "layers" in values:
        return {name: NEURONS[r["kind"]](**_rest(r)) for name, r in values["layers"].items()}
    return NEURONS[values["kind"]](**_rest(values))


def _rest(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key != "kind"}


def _rebuild_graph(record: dict[str, Any], tensors: dict[str, Tensor]) -> Graph:
    nodes: dict[str, Node] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for entry in record["nodes"]:
        name, op, inputs = entry["name"], entry["op"], tuple(entry["inputs"])
        if op not in OPERATIONS:
            raise ValueError(f"node {name}: unknown operation {op!r}")
        if unknown := [source for source in inputs if source not in nodes]:
            raise ValueError(f"node {name} reads {unknown}, which do not come before it")
        held = {role: tensors[key] for role, key in entry["tensors"].items()}
        if "computed_in" in entry:
            dtype = _COMPUTED_IN[entry["computed_in"]]
            held = {role: value.to(dtype) for role, value in held.items()}
        nodes[name] = Node(name, op, inputs, entry["attrs"], held)
        shapes[name] = tuple(int(n) for n in entry["shape"])
    return Graph(nodes, record["output"], shapes, list(record["notes"]), record["head"])


def _check_runs(graph: Graph) -> None:
    """Shapes alone, without memory, go through the graph: each node gives what the file states."""
    image = torch.empty(1, *graph.shapes["input"], device="meta", dtype=torch.float32)

    def check(node: Node, value: Tensor) -> None:
        if tuple(value.shape[1:]) != graph.shapes[node.name]:
            raise ValueError(f"node {node.name} gives shape {tuple(value.shape[1:])}")

    with torch.no_grad():
        graph.map_tensors(lambda t: t.to("meta", torch.float32)).evaluate(image, visit=check)
