"""The converted network as plain data: named nodes, in order, with their tensors.

`snnlib.trace` turns a trained model into a `Graph`; `snnlib.simulator` runs it in time. A node has
one of four kinds, and that kind is all the simulator needs to know:

========  =====================================================  ================================
kind      operations                                             what a time step does
========  =====================================================  ================================
weighted  linear, conv, conv_transpose                           apply; bias is a bias current
pass      averages, sums, concatenation, padding, shapes, scale  apply
max       max pooling                                            apply to the summed messages
spiking   relu (with or without an upper bound)                  a neuron of `snnlib.neurons`
========  =====================================================  ================================

Everything but *max* and *spiking* is affine, so running it on every step's messages gives the
right mean: an offset added once a step is a bias current. Chapter *Converting a network*.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from snnlib.layout import laid_out

_VIEWS = {"input", "reshape", "permute", "slice", "relu", "pad", "affine"}  # may share memory


class ConversionError(ValueError):
    """A network, its calibration or its input cannot be converted or run; says what, where, why."""


def check_whole(name: str, value: object) -> None:
    """Raise ValueError unless an argument is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}={value!r} must be a whole number of at least 1")


@dataclass(frozen=True)
class Node:
    """One operation.

    Attributes:
        name: qualified name in the user's model (``features.3``), unique in the graph.
        op: one of `OPERATIONS`.
        inputs: names of the nodes it reads.
        attrs: plain values (numbers, strings, lists) that parametrise it.
        tensors: its weights, by role: ``weight``, ``bias``, ``scale``, ``shift``.
    """

    name: str
    op: str
    inputs: tuple[str, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return OPERATIONS[self.op].kind


@dataclass
class Graph:
    """Nodes in topological order; the first is ``input``, ``output`` names the last to be read."""

    nodes: dict[str, Node]
    output: str
    shapes: dict[str, tuple[int, ...]]  # per image, without the batch dimension
    notes: list[str] = field(default_factory=list)  # what was dropped or folded, for the reader
    head: str = ""  # "softmax" or "log_softmax" if the model ended in one, which was dropped

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    @property
    def spiking(self) -> list[str]:
        """Names of the spiking layers, in order."""
        return [node.name for node in self.nodes.values() if node.kind == "spiking"]

    def users(self, name: str) -> list[Node]:
        """The nodes that read ``name``."""
        return [node for node in self.nodes.values() if name in node.inputs]

    def map_tensors(self, function: Callable[[Tensor], Tensor]) -> Graph:
        """The same graph with ``function`` applied to every tensor."""
        nodes = {
            name: replace(node, tensors={k: function(v) for k, v in node.tensors.items()})
            for name, node in self.nodes.items()
        }
        return replace(self, nodes=nodes)

    def laid_out(self, dtype: torch.dtype) -> Graph:
        """The same graph with its weights in the memory format that is fastest in ``dtype``."""
        return self.map_tensors(lambda tensor: laid_out(tensor, dtype))

    def without_corrections(self) -> Graph:
        """The same graph without the bias currents of `snnlib.calibrate`: the ANN as trained."""
        bypassed = {
            node.name: node.inputs[0]
            for node in self.nodes.values()
            if node.attrs.get("correction")
        }
        if not bypassed:
            return self
        nodes = {
            name: replace(node, inputs=tuple(bypassed.get(i, i) for i in node.inputs))
            for name, node in self.nodes.items()
            if name not in bypassed
        }
        return replace(self, nodes=nodes, shapes={name: self.shapes[name] for name in nodes})

    def dynamic(self, constant_input: bool) -> set[str]:
        """Names of the nodes whose value changes from step to step.

        Under a constant input everything before the first spiking layer stays the same and is
        computed once.
        """
        changing: set[str] = set()
        for node in self.nodes.values():
            if node.op == "input":
                moves = not constant_input
            else:
                moves = node.kind == "spiking" or any(i in changing for i in node.inputs)
            if moves:
                changing.add(node.name)
        return changing

    def last_use(self) -> dict[str, str]:
        """For every node, the last node that reads it: its value can be freed after that."""
        last = {name: name for name in self.nodes}
        for node in self.nodes.values():
            for source in node.inputs:
                last[source] = node.name
        last[self.output] = ""
        return last

    def overwritable(self, among: Collection[str]) -> set[str]:
        """Spiking layers whose input is new memory that nobody else reads, so they may reuse it.

        Args:
            among: names of the nodes that are computed anew; others keep their values.
        """
        return {
            name
            for name in self.spiking
            if (source := self.nodes[self.nodes[name].inputs[0]]).op not in _VIEWS
            and source.name in among
            and len(self.users(source.name)) == 1
            and source.name != self.output
        }

    def evaluate(
        self,
        x: Tensor,
        activation: Callable[[Node, Tensor], Tensor] | None = None,
        visit: Callable[[Node, Tensor], None] | None = None,
    ) -> Tensor:
        """The graph as an ANN.

        Args:
            x: images, shape (B, ...).
            activation: what a spiking node does to its input (default: the ReLU it stands for).
            visit: called with every node and its value.

        Returns:
            The value of the output node, shape (B, classes).
        """
        activation = activation or rectify
        last = self.last_use()
        values: dict[str, Tensor] = {}
        for node in self.nodes.values():
            inputs = [values[name] for name in node.inputs]
            if node.op == "input":
                value = x
            elif node.kind == "spiking":
                value = activation(node, inputs[0])
            else:
                value = apply(node, inputs)
            values[node.name] = value
            if visit is not None:
                visit(node, value)
            for name in {*node.inputs, node.name}:
                if last[name] == node.name and name != self.output:
                    del values[name]
        return values[self.output]


def rectify(node: Node, z: Tensor, out: Tensor | None = None) -> Tensor:
    """ReLU of a spiking node, clipped at its bound where it has one (ReLU6: 6)."""
    return torch.clamp(z, 0, node.attrs.get("bound"), out=out)


def apply(node: Node, inputs: list[Tensor]) -> Tensor:
    """Value of a weighted, pass or max node for the values of its inputs, shapes (B, ...)."""
    return OPERATIONS[node.op].function(node, *inputs)


@dataclass(frozen=True)
class Operation:
    """Kind and implementation of one ``Node.op``."""

    kind: str
    function: Callable[..., Tensor]


OPERATIONS: dict[str, Operation] = {}


def _operation(name: str, kind: str) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    def register(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        OPERATIONS[name] = Operation(kind, function)
        return function

    return register


@_operation("input", "pass")
def _input(node: Node) -> Tensor:
    raise AssertionError("the input node has no operation")


@_operation("relu", "spiking")
def _relu(node: Node, z: Tensor) -> Tensor:
    return rectify(node, z)


@_operation("linear", "weighted")
def _linear(node: Node, x: Tensor) -> Tensor:
    return F.linear(x, node.tensors["weight"], node.tensors.get("bias"))


@_operation("conv", "weighted")
def _conv(node: Node, x: Tensor) -> Tensor:
    weight, a = node.tensors["weight"], node.attrs
    function = (F.conv1d, F.conv2d, F.conv3d)[weight.dim() - 3]
    return function(
        x, weight, node.tensors.get("bias"), a["stride"], a["padding"], a["dilation"], a["groups"]
    )


@_operation("conv_transpose", "weighted")
def _conv_transpose(node: Node, x: Tensor) -> Tensor:
    weight, a = node.tensors["weight"], node.attrs
    function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[weight.dim() - 3]
    return function(
        x, weight, node.tensors.get("bias"), a["stride"], a["padding"], a["output_padding"],
        a["groups"], a["dilation"],
    )  # fmt: skip


@_operation("affine", "pass")
def _affine(node: Node, x: Tensor) -> Tensor:
    """x · scale + shift, each broadcastable to one image."""
    scale, shift = node.tensors.get("scale"), node.tensors.get("shift")
    value = x if scale is None else x * scale
    return value if shift is None else value + shift


@_operation("avg_pool", "pass")
def _avg_pool(node: Node, x: Tensor) -> Tensor:
    a = node.attrs
    if len(a["kernel_size"]) == 1:
        return F.avg_pool1d(
            x, a["kernel_size"], a["stride"], a["padding"], a["ceil_mode"], a["count_include_pad"]
        )
    function = (F.avg_pool2d, F.avg_pool3d)[len(a["kernel_size"]) - 2]
    return function(
        x, a["kernel_size"], a["stride"], a["padding"], a["ceil_mode"], a["count_include_pad"],
        a.get("divisor_override"),
    )  # fmt: skip


@_operation("adaptive_avg_pool", "pass")
def _adaptive_avg_pool(node: Node, x: Tensor) -> Tensor:
    size = node.attrs["output_size"]
    pools = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
    return pools[len(size) - 1](x, size)


@_operation("mean", "pass")
def _mean(node: Node, x: Tensor) -> Tensor:
    return x.mean(node.attrs["dims"], keepdim=node.attrs["keepdim"])


@_operation("sum", "pass")
def _sum(node: Node, x: Tensor) -> Tensor:
    return x.sum(node.attrs["dims"], keepdim=node.attrs["keepdim"])


@_operation("max_pool", "max")
def _max_pool(node: Node, x: Tensor) -> Tensor:
    a = node.attrs
    function = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(a["kernel_size"]) - 1]
    return function(
        x, a["kernel_size"], a["stride"], a["padding"], a["dilation"], ceil_mode=a["ceil_mode"]
    )


@_operation("adaptive_max_pool", "max")
def _adaptive_max_pool(node: Node, x: Tensor) -> Tensor:
    size = node.attrs["output_size"]
    pools = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)
    return pools[len(size) - 1](x, size)


@_operation("amax", "max")
def _amax(node: Node, x: Tensor) -> Tensor:
    return x.amax(node.attrs["dims"], keepdim=node.attrs["keepdim"])


@_operation("reshape", "pass")
def _reshape(node: Node, x: Tensor) -> Tensor:
    return x.reshape(x.shape[0], *node.attrs["to"])


@_operation("permute", "pass")
def _permute(node: Node, x: Tensor) -> Tensor:
    return x.permute(node.attrs["dims"])


@_operation("upsample", "pass")
def _upsample(node: Node, x: Tensor) -> Tensor:
    a = node.attrs
    return F.interpolate(x, a.get("size"), a.get("scale_factor"), a["mode"])


@_operation("pad", "pass")
def _pad(node: Node, x: Tensor) -> Tensor:
    mode = node.attrs["mode"]
    value = {"value": node.attrs["value"]} if mode == "constant" else {}
    return F.pad(x, node.attrs["pad"], mode, **value)


@_operation("add", "pass")
def _add(node: Node, x: Tensor, y: Tensor) -> Tensor:
    return torch.add(x, y, alpha=node.attrs.get("alpha", 1))


@_operation("cat", "pass")
def _cat(node: Node, *inputs: Tensor) -> Tensor:
    return torch.cat(inputs, node.attrs["dim"])


@_operation("slice", "pass")
def _slice(node: Node, x: Tensor) -> Tensor:
    a = node.attrs
    return x[(slice(None),) * a["dim"] + (slice(a["start"], a["stop"], a["step"]),)]
