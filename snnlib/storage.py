"""Save a converted network and load it again: safetensors plus a readable graph, no pickle.

The file is a safetensors file. Its tensors are the weights and the balanced activations λ; its
metadata holds ``format`` and ``network``, a JSON text with the nodes of the graph, the neuron and
how the network came about: ``safetensors.safe_open(path, "pt").metadata()["network"]`` shows it to
anyone. The round trip is exact to the bit. A SHA-256 over graph and tensors tells a damaged file.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor

from snnlib.checkpoints import CheckpointError, read_safetensors, write_bytes
from snnlib.graph import OPERATIONS, Graph, Node
from snnlib.neurons import NEURONS
from snnlib.simulator import SpikingNetwork

FORMAT, VERSION = "snnlib-network", 1


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
    keys: dict[tuple[int, torch.Size, tuple[int, ...]], str] = {}
    tensors: dict[str, Tensor] = {}

    def store(key: str, value: Tensor) -> str:
        """Keep a tensor once, however many nodes share it; returns its key."""
        known = keys.setdefault((value.data_ptr(), value.shape, value.stride()), key)
        if known == key:
            tensors[key] = value.detach().cpu().contiguous().clone()
        return known

    graph = net.graph
    nodes = [
        {
            "name": node.name,
            "op": node.op,
            "inputs": list(node.inputs),
            "attrs": dict(node.attrs),
            "tensors": {role: store(f"{node.name}/{role}", t) for role, t in node.tensors.items()},
            "shape": list(graph.shapes[node.name]),
        }
        for node in graph
    ]
    record = {
        "neuron": {"kind": net.neuron.kind, **vars(net.neuron)},
        "balanced": {name: store(f"{name}/balanced", t) for name, t in net.balanced.items()},
        "report": net.report,
        "output": graph.output,
        "head": graph.head,
        "notes": graph.notes,
        "nodes": nodes,
    }
    text = json.dumps(record, indent=1, ensure_ascii=False)
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "network": text,
        "sha256": _digest(text, tensors),
    }
    return write_bytes(path, to_bytes(tensors, metadata=metadata))


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
    if header.get("sha256") != _digest(text, tensors):
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
    nodes: dict[str, Node] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for entry in record["nodes"]:
        name, op, inputs = entry["name"], entry["op"], tuple(entry["inputs"])
        if op not in OPERATIONS:
            raise ValueError(f"node {name}: unknown operation {op!r}")
        if unknown := [source for source in inputs if source not in nodes]:
            raise ValueError(f"node {name} reads {unknown}, which do not come before it")
        held = {role: tensors[key] for role, key in entry["tensors"].items()}
        nodes[name] = Node(name, op, inputs, entry["attrs"], held)
        shapes[name] = tuple(int(n) for n in entry["shape"])
    graph = Graph(nodes, record["output"], shapes, list(record["notes"]), record["head"])
    neuron = dict(record["neuron"])
    balanced = {name: tensors[key] for name, key in record["balanced"].items()}
    if set(balanced) != set(graph.spiking):
        raise ValueError("thresholds and spiking layers do not match")
    kind = NEURONS[neuron.pop("kind")]
    net = SpikingNetwork(graph, kind(**neuron), balanced, None, record["report"])
    _check_runs(net)
    return net


def _check_runs(net: SpikingNetwork) -> None:
    """One empty image through the graph: every node gives the shape that the file states."""
    graph = net.graph
    image = torch.zeros(1, *graph.shapes["input"], dtype=net.dtype)

    def check(node: Node, value: Tensor) -> None:
        if tuple(value.shape[1:]) != graph.shapes[node.name]:
            raise ValueError(f"node {node.name} gives shape {tuple(value.shape[1:])}")

    with torch.no_grad():
        graph.evaluate(image, visit=check)
    for name, balanced in net.balanced.items():
        if math.prod(torch.broadcast_shapes(balanced.shape, graph.shapes[name])) != math.prod(
            graph.shapes[name]
        ) or not bool((balanced > 0).all()):
            raise ValueError(f"layer {name}: its thresholds do not fit")


def _digest(text: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
