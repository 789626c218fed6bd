"""A network for the reader's browser: one file that ``spiking.js`` of the book's site simulates.

The file is that of ``net.save`` (`snnlib.deploy.storage`), so `snnlib.load` reads it too and gives
the very network that the page runs. Beside it stand what a page cannot work out quickly: thresholds
for further settings of threshold balancing, fan-outs, and the MACs of the ANN. Page *Playground*.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from snnlib.deploy import storage
from snnlib.graph.errors import ConversionError
from snnlib.graph.network import Network
from snnlib.graph.operations import Node
from snnlib.neurons import Neuron


class Costs(Protocol):
    """What a graph's connections cost, as `snnlib.simulation.costs` counts it."""

    @property
    def fan_outs(self) -> Mapping[str, Tensor]: ...
    @property
    def macs(self) -> int: ...
    @property
    def macs_first_layer(self) -> int: ...


def to_web(
    net: Network,
    path: str | Path,
    costs: Costs,
    *,
    half: bool = True,
    balanced: Mapping[str, Mapping[str, Tensor]] | None = None,
    about: str = "",
) -> Path:
    """Write a network to a file that a page can run; ``net.to_web(path, ...)`` calls it.

    Args:
        net: the network, of real numbers, with one neuron for all layers.
        path: the file, ``.safetensors`` by custom.
        costs: fan-outs and MACs of its graph; ``net.to_web`` brings them.
        half: round the weights to float16, which halves the file; `snnlib.load` then gives the
            rounded network. Thresholds, biases and everything smaller stay as they are.
        balanced: further λ of every spiking layer by title, such as ``{"99.9": other.balanced}``,
            among which a reader can choose.
        about: a line for the reader: which network this is.

    Returns:
        The path.

    Raises:
        ConversionError: the page cannot compute a layer, named with the reason; or it is a network
            of whole numbers, or one with several neurons.
        CheckpointError: the file cannot be written, or the neuron is one of your own.

    Source: page *Playground*.
    """
    _check(net)
    net = net.to(torch.device("cpu"))
    if net.dtype.itemsize < 4:  # the page reads no narrow types
        net = net.to(torch.float32)
    tensors = dict[str, Tensor]()
    shown: dict[str, Any] = {"about": about, "macs": costs.macs, "balanced": {}, "fan_outs": {}}
    shown["macs_first_layer"] = costs.macs_first_layer
    for title, layers in (balanced or {}).items():
        shown["balanced"][title] = {name: f"web/{title}/{name}" for name in layers}
        tensors |= {f"web/{title}/{name}": value.cpu() for name, value in layers.items()}
    for name, value in costs.fan_outs.items():
        if name != "input":
            shown["fan_outs"][name] = f"web/fan_out/{name}"
            tensors[f"web/fan_out/{name}"] = _narrow(value).to(torch.int32)
    whole = {name: storage.dense(value) for name, value in tensors.items()}
    return storage.save(net, path, half=half, more=whole, about={"web": json.dumps(shown)})


def _narrow(value: Tensor) -> Tensor:
    """One value for all channels where they agree."""
    same = value.dim() > 1 and bool((value == value[:1]).all())
    return value[:1] if same else value


def _check(net: Network) -> None:
    """Raise ConversionError with all that a page cannot compute."""
    if net.whole is not None:
        raise ConversionError("to_web takes the network of real numbers: use net.source")
    if not isinstance(net.neuron, Neuron):
        raise ConversionError("to_web takes one neuron for all layers: net.replace(neuron=...)")
    problems = [
        f"{node.name} ({node.op}): {why}" for node in net.graph if (why := _why_not(net, node))
    ]
    if problems:
        raise ConversionError("a page cannot compute " + "; ".join(problems))


def _why_not(net: Network, node: Node) -> str:
    rule = _RULES.get(node.op)
    if rule is None:
        return f"it knows {', '.join(sorted(_RULES))}"
    shape = net.graph.shapes[node.inputs[0]] if node.inputs else ()
    return rule(node, shape)


def _image(node: Node, shape: tuple[int, ...]) -> str:
    attrs = node.attrs
    if len(shape) != 3:
        return f"its input has shape {shape}, not (channels, height, width)"
    if isinstance(attrs.get("padding"), str):
        return f"padding={attrs['padding']!r}: give it as numbers"
    if attrs.get("ceil_mode"):
        return "ceil_mode=True: use ceil_mode=False"
    if node.op == "max_pool" and any(d != 1 for d in attrs["dilation"]):
        return "dilated pooling"
    return ""


def _flat(node: Node, shape: tuple[int, ...]) -> str:
    return "" if len(shape) == 1 else f"its input has shape {shape}: flatten it before"


def _positions(node: Node, shape: tuple[int, ...]) -> str:
    dims = sorted(d % (len(shape) + 1) for d in node.attrs["dims"])
    whole = len(shape) == 3 and dims == [2, 3] and not node.attrs["keepdim"]
    return "" if whole else "only the mean over height and width, without keepdim"


def _any(node: Node, shape: tuple[int, ...]) -> str:
    return ""


_RULES: dict[str, Callable[[Node, tuple[int, ...]], str]] = {
    "input": _any, "relu": _any, "add": _any, "affine": _any, "reshape": _any, "linear": _flat,
    "conv": _image, "avg_pool": _image, "max_pool": _image, "adaptive_avg_pool": _image,
    "mean": _positions,
}  # fmt: skip
