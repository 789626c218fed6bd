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
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor

from snnlib.graph.errors import CheckpointError
from snnlib.graph.files import digest, read_safetensors, write_bytes
from snnlib.graph.graph import Graph
from snnlib.graph.operations import OPERATIONS, Node
from snnlib.graph.whole_numbers import IntegerNetwork
from snnlib.neurons import NEURONS, Neuron
from snnlib.simulation.network import SpikingNetwork

FORMAT, VERSION = "snnlib-network", 2  # 2: whole numbers; other networks are still written as 1
_INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64)


def save(net: SpikingNetwork, path: str | Path) -> Path:
    """Write a spiking network to a file, whole or not at all; the original ANN is left out.

    Args:
        net: the network; it may live on any device.
        path: the file, ``.safetensors`` by custom; its folder is made.

    Returns:
        The path.

    Raises:
        CheckpointError: the file cannot be written.

    Example:
        >>> import tempfile, snnlib as snn
        >>> ann = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> net = snn.convert(ann.eval(), calibration=torch.rand(10, 4))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     again = snn.load(save(net, folder + "/net.safetensors"))
        >>> x = torch.rand(3, 4)
        >>> torch.equal(net(x, steps=4).logits, again(x, steps=4).logits)
        True
    """
    kept = _Store()
    whole = net if isinstance(net, IntegerNetwork) else None
    record = _record(net if whole is None else whole.source, kept)
    if whole is not None:
        record["whole"] = _whole_record(whole, kept)
    tensors = kept.tensors
    text = json.dumps(record, indent=1, ensure_ascii=False)
    metadata = {
        "format": FORMAT,
        "version": str(1 if whole is None else VERSION),
        "network": text,
        "sha256": digest(text, tensors),
    }
    return write_bytes(path, to_bytes(tensors, metadata=metadata), CheckpointError)


class _Store:
    """The tensors of a file: each once, however many nodes share it."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._keys: dict[tuple[int, torch.Size, tuple[int, ...]], str] = {}

    def __call__(self, key: str, value: Tensor, integer: bool = False) -> str:
        """Keep a tensor, as integers if asked to; returns its key."""
        known = self._keys.setdefault((value.data_ptr(), value.shape, value.stride()), key)
        if known == key:
            held = value.detach().cpu().contiguous().clone()
            self.tensors[key] = _narrowest(held) if integer else held
        return known


def _narrowest(value: Tensor) -> Tensor:
    """Whole numbers in the smallest integer type that holds them."""
    low, high = (int(v) for v in (value.min(), value.max()))
    kind = next(k for k in _INTEGERS if torch.iinfo(k).min <= low and high <= torch.iinfo(k).max)
    narrow = value.to(kind)
    assert torch.equal(narrow.to(value.dtype), value), "whole numbers only"
    return narrow


def _record(net: SpikingNetwork, store: _Store) -> dict[str, Any]:
    return {
        "neuron": _neuron_record(net.neuron),
        "balanced": {name: store(f"{name}/balanced", t) for name, t in net.balanced.items()},
        "report": net.report,
        **_graph_record(net.graph, store),
    }


def _whole_record(net: IntegerNetwork, store: _Store) -> dict[str, Any]:
    """Weights and thresholds as integers, and the floating type each layer computes in."""
    thresholds = {
        name: store(f"whole/{name}/threshold", t, integer=True)
        for name, t in net.thresholds.items()
    }
    return {
        "neuron": _neuron_record(net.neuron),
        "thresholds": thresholds,
        "output_unit": store("whole/output_unit", net.output_unit),
        "sums": net.sums,
        **_graph_record(net.graph, store, "whole/", integer=True),
    }


def _neuron_record(neuron: Neuron) -> dict[str, Any]:
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
        if integer and tensors:
            dtypes = {str(t.dtype).removeprefix("torch.") for t in node.tensors.values()}
            (entry["computed_in"],) = dtypes
        nodes.append(entry)
    return {"output": graph.output, "head": graph.head, "notes": graph.notes, "nodes": nodes}


def load(path: str | Path, device: torch.device | str = "cpu") -> SpikingNetwork:
    """Read a spiking network that `save` wrote.

    It simulates exactly as the saved one did; only the original ANN is gone, so `verify` compares
    with the folded ANN alone.

    Args:
        path: the file.
        device: where the network is to live.

    Raises:
        CheckpointError: there is no such file, or it is truncated, damaged, from a newer version,
            or no network of this library.
    """
    path = Path(path)
    if not path.is_file():
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
        return _rebuild(json.loads(text), tensors).to(torch.device(device))
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
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
    if not version.isdigit() or int(version) > VERSION:
        raise CheckpointError(
            f"{path} has version {version!r} of the format; this snnlib reads up to {VERSION}. "
            "Upgrade snnlib, or convert the ANN again."
        )


def _rebuild(record: dict[str, Any], tensors: dict[str, Tensor]) -> SpikingNetwork:
    graph = _rebuild_graph(record, tensors)
    balanced = {name: tensors[key] for name, key in record["balanced"].items()}
    neuron = _rebuild_neuron(record["neuron"])
    if set(balanced) != set(graph.spiking):
        raise ValueError("thresholds and spiking layers do not match")
    net = SpikingNetwork(graph, neuron, balanced, None, record["report"])
    _check_runs(graph, balanced, net.dtype)
    return _rebuild_whole(net, record["whole"], tensors) if "whole" in record else net


def _rebuild_whole(
    source: SpikingNetwork, record: dict[str, Any], tensors: dict[str, Tensor]
) -> IntegerNetwork:
    graph = _rebuild_graph(record, tensors)
    thresholds = {name: tensors[key].double() for name, key in record["thresholds"].items()}
    if set(thresholds) != set(graph.spiking):
        raise ValueError("whole-number thresholds and spiking layers do not match")
    _check_runs(graph.map_tensors(Tensor.double), thresholds, torch.float64)
    neuron, unit = _rebuild_neuron(record["neuron"]), tensors[record["output_unit"]]
    return IntegerNetwork(source, graph, neuron, thresholds, unit, record["sums"])


def _rebuild_neuron(record: dict[str, Any]) -> Neuron:
    values = dict(record)
    return NEURONS[values.pop("kind")](**values)


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
            dtype = {"float32": torch.float32, "float64": torch.float64}[entry["computed_in"]]
            held = {role: value.to(dtype) for role, value in held.items()}
        nodes[name] = Node(name, op, inputs, entry["attrs"], held)
        shapes[name] = tuple(int(n) for n in entry["shape"])
    return Graph(nodes, record["output"], shapes, list(record["notes"]), record["head"])


def _check_runs(graph: Graph, thresholds: dict[str, Tensor], dtype: torch.dtype) -> None:
    """One empty image through the graph: every node gives the shape that the file states."""
    image = torch.zeros(1, *graph.shapes["input"], dtype=dtype)

    def check(node: Node, value: Tensor) -> None:
        if tuple(value.shape[1:]) != graph.shapes[node.name]:
            raise ValueError(f"node {node.name} gives shape {tuple(value.shape[1:])}")

    with torch.no_grad():
        graph.evaluate(image, visit=check)
    for name, theta in thresholds.items():
        size = math.prod(graph.shapes[name])
        fits = math.prod(torch.broadcast_shapes(theta.shape, graph.shapes[name])) == size
        if not fits or not bool((theta > 0).all()):
            raise ValueError(f"layer {name}: its thresholds do not fit")
