"""`net.to_nir(path)`: the network in NIR, the exchange format of neuromorphic simulators and chips.

NIR (https://neuroir.org) knows integrate-and-fire neurons, dense and convolutional weights, average
and sum pooling, scales and flattening; sums are edges that meet. It knows no signed or graded
spikes, no initial potential, no maximum, no concatenation: such networks are refused, with the
reason.

The **reset** is where the format stops short: its ``IF`` node goes to ``v_reset`` after a spike,
which is our ``IF(reset="zero")`` to the letter. Reset by subtraction has no node of its own. It is
written as ``IF`` too, with ``reset: subtract`` in the file's metadata and a warning, because the
reading simulator must be told (in SpikingJelly: ``module.v_reset = None``). One time step is
dt = 1, and a neuron fires at V ≥ θ (NIR: V > θ; no difference but for exact ties).

Source: Pedersen et al., Nature Communications 2024. Chapter *Converting a network*.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from snnlib.deploy.files import write_bytes
from snnlib.deploy.normalize import normalized
from snnlib.graph.errors import CheckpointError, ConversionError
from snnlib.graph.graph import Graph
from snnlib.graph.network import Network
from snnlib.graph.operations import OPERATIONS, Node
from snnlib.neurons import IF


def to_nir(net: Network, path: str | Path) -> Path:
    """Write an integrate-and-fire network to a NIR file (HDF5), whole or not at all.

    Weights are those of `net.normalized()`: unit thresholds, spikes of size one.

    Args:
        net: a network of ``IF(v0=0)`` neurons.
        path: the file, ``.nir`` by custom.

    Raises:
        ImportError: the package ``nir`` is not installed.
        ConversionError: NIR cannot express the neurons or some layers; all are listed.
        CheckpointError: the file cannot be written.

    Warns:
        UserWarning: the neurons are reset by subtraction, which the reader must be told.
    """
    try:
        import nir
    except ImportError:
        raise ImportError("to_nir needs the package nir: pip install 'snnlib[nir]'") from None
    neuron, *others = net.neurons.values()
    if different := [other for other in others if other != neuron]:
        raise ConversionError(
            f"the layers have different neurons ({neuron!r}, {different[0]!r}): convert with one "
            "neuron=snnlib.IF(v0=0.0) for all"
        )
    if not (isinstance(neuron, IF) and neuron.fused):
        raise ConversionError(
            f"{neuron!r} sends signed or graded spikes, or spikes of its own; NIR's neurons send "
            "single positive ones: convert with neuron=snnlib.IF(v0=0.0)"
        )
    if neuron.v0 != 0:
        raise ConversionError(
            f"{neuron!r} starts at {neuron.v0} θ, but NIR has no initial potential: convert with "
            "neuron=snnlib.IF(v0=0.0)"
        )
    writer = _Writer(normalized(net).graph, nir)
    metadata = {"reset": neuron.reset, "dt": 1.0, "written_by": "snnlib", "fires_at": "V >= 1"}
    content = nir.NIRGraph(writer.nodes, writer.edges, metadata=metadata)
    if neuron.reset == "subtract":
        warnings.warn(
            "NIR's IF neuron resets to v_reset, this network resets by subtraction: tell the "
            "simulator that reads the file (SpikingJelly: v_reset=None); reset='zero' is exact",
            stacklevel=3,
        )
    file = io.BytesIO()
    nir.write(file, content)
    return write_bytes(path, file.getvalue(), CheckpointError)


class _Refused(Exception):
    """NIR cannot express this node; the text says why."""


class _Writer:
    """Turns the nodes of a normalized graph into NIR nodes and edges."""

    def __init__(self, graph: Graph, nir: Any) -> None:
        self.graph, self.nir = graph, nir
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.sources: dict[str, list[str]] = {}  # per graph node: NIR nodes whose outputs add up
        problems = []
        for node in graph:
            try:
                self.sources[node.name] = self._node(node)
            except _Refused as reason:
                problems.append(f"  {node.name} ({node.op}): {reason}")
                self.sources[node.name] = []
        if problems:
            raise ConversionError("\n".join(["this network has no NIR form:", *problems]))
        shape = np.array(graph.shapes[graph.output])
        self._add("output", nir.Output({"output": shape}), self.sources[graph.output])

    def _add(self, name: str, content: Any, sources: list[str]) -> list[str]:
        name = name.replace(".", "_").replace(":", "_")
        while name in self.nodes:
            name += "_"
        self.nodes[name] = content
        self.edges += [(source, name) for source in sources]
        return [name]

    def _node(self, node: Node) -> list[str]:
        nir, shape = self.nir, self.graph.shapes[node.name]
        if node.op == "input":
            return self._add("input", nir.Input({"input": np.array(shape)}), [])
        if reason := OPERATIONS[node.op].nir:
            raise _Refused(reason)
        before = self.graph.shapes[node.inputs[0]]
        sources = self.sources[node.inputs[0]]
        if node.op == "relu":
            if node.attrs.get("bound") is not None:
                raise _Refused("NIR has no bounded neuron: train with nn.ReLU instead of nn.ReLU6")
            return self._add(node.name, self._neuron(shape), sources)
        if node.op == "add":
            return self._sum(node)
        if node.op == "reshape":
            if shape == before:
                return sources
            if len(shape) > 1:
                raise _Refused("NIR can only flatten an activation")
            flat = nir.Flatten({"input": np.array(before)}, start_dim=0, end_dim=-1)
            return self._add(node.name, flat, sources)
        if node.op in ("mean", "avg_pool", "adaptive_avg_pool"):
            return self._average(node, before, shape, sources)
        if node.op == "affine":
            return self._add(node.name, self._affine(node, shape), sources)
        return self._add(node.name, self._weighted(node, before), sources)

    def _neuron(self, shape: tuple[int, ...]) -> Any:
        ones = np.ones(shape, dtype=np.float32)
        return self.nir.IF(r=ones, v_threshold=ones.copy(), v_reset=np.zeros_like(ones))

    def _sum(self, node: Node) -> list[str]:
        first, second = (self.sources[name] for name in node.inputs)
        shapes = {self.graph.shapes[name] for name in (*node.inputs, node.name)}
        if len(shapes) > 1:
            raise _Refused("NIR cannot broadcast a sum: give both inputs the same shape")
        alpha = float(node.attrs.get("alpha", 1))
        if alpha != 1 or set(first) & set(second):
            factor = np.full(self.graph.shapes[node.name], alpha, dtype=np.float32)
            second = self._add(f"{node.name}_factor", self.nir.Scale(scale=factor), second)
        return [*first, *second]

    def _average(
        self, node: Node, before: tuple[int, ...], shape: tuple[int, ...], sources: list[str]
    ) -> list[str]:
        a = node.attrs
        if len(before) != 3:
            raise _Refused("NIR averages over two dimensions of space only")
        space = list(before[1:])
        kernel, stride, padding = space, space, [0, 0]
        if node.op == "avg_pool":
            kernel, stride, padding = a["kernel_size"], a["stride"], a["padding"]
            borders = any(padding) and not a["count_include_pad"]
            if a["ceil_mode"] or a["divisor_override"] or borders:
                raise _Refused("NIR's pooling has no ceil_mode, divisor or count_include_pad=False")
        elif node.op == "adaptive_avg_pool":
            if any(n % m for n, m in zip(space, a["output_size"], strict=True)):
                raise _Refused(f"NIR's windows are equal: {space} is no multiple of the output")
            kernel = stride = [n // m for n, m in zip(space, a["output_size"], strict=True)]
        elif sorted(a["dims"]) != [2, 3]:
            raise _Refused("NIR averages over height and width only")
        pool = self.nir.AvgPool2d(
            kernel_size=np.array(kernel), stride=np.array(stride), padding=np.array(padding)
        )
        made = self._add(node.name, pool, sources)
        if len(shape) == 1:
            flat = self.nir.Flatten({"input": np.array((before[0], 1, 1))}, start_dim=0, end_dim=-1)
            made = self._add(f"{node.name}_flatten", flat, made)
        return made

    def _affine(self, node: Node, shape: tuple[int, ...]) -> Any:
        scale, shift = node.tensors.get("scale"), node.tensors.get("shift")
        full = np.ones(shape, np.float32) if scale is None else _array(scale.expand(shape))
        if shift is None:
            return self.nir.Scale(scale=full)
        offset = _array(shift.expand(shape))
        if len(shape) == 1:
            return self.nir.Affine(weight=np.diag(full), bias=offset)
        axes = tuple(range(1, len(shape)))
        if len(shape) != 3 or np.ptp(full, axes).any() or np.ptp(offset, axes).any():
            raise _Refused("NIR's bias is one number a channel: this one differs by position")
        return self.nir.Conv2d(
            input_shape=shape[1:], weight=np.diag(full[:, 0, 0])[:, :, None, None], stride=1,
            padding=0, dilation=1, groups=1, bias=offset[:, 0, 0],
        )  # fmt: skip

    def _weighted(self, node: Node, before: tuple[int, ...]) -> Any:
        weight, bias = _array(node.tensors["weight"]), node.tensors.get("bias")
        if node.op == "linear":
            if len(before) > 1:
                raise _Refused("NIR's dense layer takes vectors: flatten its input")
            if bias is None:
                return self.nir.Linear(weight=weight)
            return self.nir.Affine(weight=weight, bias=_array(bias))
        a, dims = node.attrs, weight.ndim - 2
        if dims > 2:
            raise _Refused("NIR has convolutions of one and two dimensions only")
        if len(set(weight.shape[2:])) > 1:
            raise _Refused("the nir package gets the shapes behind oblong kernels wrong")
        offset = np.zeros(len(weight), np.float32) if bias is None else _array(bias)
        pick = (lambda v: v[0]) if dims == 1 else tuple
        kind = self.nir.Conv1d if dims == 1 else self.nir.Conv2d
        return kind(
            input_shape=pick(before[1:]), weight=_ungrouped(weight, a["groups"]),
            stride=pick(a["stride"]), padding=pick(a["padding"]), dilation=pick(a["dilation"]),
            groups=1, bias=offset,
        )  # fmt: skip


def _ungrouped(weight: np.ndarray, groups: int) -> np.ndarray:
    """The weights of a convolution in groups as one of all channels, which every reader knows.

    Args:
        weight: (out, in / groups, ...).
        groups: their number; the nir package infers wrong shapes for more than one.

    Returns:
        (out, in, ...), zero between groups.
    """
    rows, columns = len(weight) // groups, weight.shape[1]
    full = np.zeros((len(weight), columns * groups, *weight.shape[2:]), weight.dtype)
    for g in range(groups):
        own = slice(g * rows, (g + 1) * rows)
        full[own, g * columns : (g + 1) * columns] = weight[own]
    return full


def _array(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().cpu().float().numpy())
