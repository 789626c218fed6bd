"""From real numbers to whole ones: how `snnlib.integer` networks are made.

Every value v of the network stands for the real number u · v, and the unit u is followed through
the graph, one a channel::

    pixels         v in 0…255                          u = 1/255
    weighted       W = round(w · u_in / s)             u = s = max |w · u_in| / (2^(bits−1) − 1)
    average pool   the plain sum                       u = u_in / (number of values)
    spiking        V, θ whole; sends c, |c| ≤ cap      u = θ · u_in
    sum            whole multiples of a shared unit

A bounded activation (ReLU6) has one ceiling for all its channels, floor(bound · t / θ + v0). So its
channels are brought to a shared unit too, a power of two below θ: bound and θ are whole numbers
then, their quotient is exact, and so is the ceiling.

The largest possible value of every node is followed too. Where it stays below 2^24, the node is
computed in float32, else in float64. Chapter *Fewer bits*.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import replace
from typing import NoReturn

import torch
from torch import Tensor

from snnlib.graph import int8
from snnlib.graph.errors import ConversionError
from snnlib.graph.operations import Node, apply
from snnlib.graph.whole_numbers import IntegerNetwork
from snnlib.neurons import Augmented, Neuron
from snnlib.simulation.network import SpikingNetwork

_FLOAT32, _FLOAT64 = 2**24, 2**53  # whole numbers up to here are exact
_FINER = 8  # an offset is rounded to 1/8 of the unit of what it is added to
_RESOLUTION = 64  # a sum's branches are multiples of at least this, so within 1 % of their weight
_COMMON = 256  # likewise for the channels of a bounded activation, which share a unit
_CONSTANT = 4096  # units in the bias of a channel without weights
_SHAPES = {"reshape", "permute", "slice", "cat"}  # operations that move channels about


def quantize(net: SpikingNetwork, weight_bits: int = 8, cap: int | None = None) -> IntegerNetwork:
    """The whole-number version of a network whose images lie in [0, 1].

    Args:
        net: the spiking network; not changed.
        weight_bits: bits a weight, 2 to 16.
        cap: largest |c| a neuron may send in a step; by default the neuron's own, or 4 × levels.
            `IF` and `Ternary` send 1 at most.

    Returns:
        The whole-number network.

    Raises:
        ConversionError: the network holds something that has no exact whole-number form, or its
            sums could exceed 2^53.
        ValueError: weight_bits or cap is out of range.

    Source: integer inference with per-channel scales, Jacob et al., CVPR 2018. Chapter *Fewer
    bits*.
    """
    if (
        isinstance(weight_bits, bool)
        or not isinstance(weight_bits, int)
        or not 2 <= weight_bits <= 16
    ):
        raise ValueError(f"weight_bits={weight_bits!r} must be a whole number from 2 to 16")
    if isinstance(net, IntegerNetwork):
        raise ConversionError("this network is quantized already: quantize net.source")
    neuron, largest = net.neuron, 1
    if isinstance(neuron, Augmented):
        largest = cap or neuron.cap or 4 * neuron.levels
        neuron = dataclasses.replace(neuron, cap=largest)
    elif cap not in (None, 1):
        raise ValueError(f"cap={cap!r}: {type(neuron).__name__} sends one spike at most")
    if largest >= _FLOAT32:
        raise ValueError(f"cap={largest}: messages travel in float32, so it must be below 2^24")
    return _Quantizer(net, neuron, largest, 2 ** (weight_bits - 1) - 1).run()


class _Quantizer:
    """Goes through the graph in order; knows unit and largest value of every node."""

    def __init__(self, net: SpikingNetwork, neuron: Neuron, cap: int, largest: int) -> None:
        self.net, self.neuron, self.cap, self.largest = net, neuron, cap, largest
        self.graph = net.graph
        self.nodes: dict[str, Node] = {}
        self.shapes = dict(net.graph.shapes)
        self.units: dict[str, Tensor] = {}  # one image's shape, or (C, 1, ...)
        self.bounds: dict[str, Tensor] = {}  # largest |value|, likewise
        self.renamed: dict[str, str] = {}
        self.thresholds: dict[str, Tensor] = {}
        self.sums: dict[str, float] = {}
        self.wide: set[str] = set()  # nodes with values in float64

    def run(self) -> IntegerNetwork:
        for node in self.graph.nodes.values():
            inputs = tuple(self.renamed.get(name, name) for name in node.inputs)
            handler = getattr(self, f"_{node.op}", None)
            if node.kind == "weighted":
                handler = self._weighted
            elif node.kind == "max":
                handler = self._keep
            elif node.op in _SHAPES:
                handler = self._move
            if handler is None:
                self._fail(node, f"{node.op} has no whole-number form here")
            handler(replace(node, inputs=inputs))
            if float(self.bounds[self.renamed.get(node.name, node.name)].max()) >= _FLOAT64:
                self._fail(node, "its values could exceed 2^53: lower cap or weight_bits")
        output = self.renamed.get(self.graph.output, self.graph.output)
        graph = replace(self.graph, nodes=self.nodes, shapes=self.shapes, output=output)
        unit = self.units[output].expand(self.shapes[output]).clone()
        return IntegerNetwork(self.net, graph, self.neuron, self.thresholds, unit, self.sums)

    def _fail(self, node: Node, reason: str) -> NoReturn:
        raise ConversionError(f"{node.name} ({node.op}) cannot be quantized: {reason}")

    def _emit(self, node: Node, unit: Tensor, bound: Tensor) -> None:
        """Append a node; before one that adds up to 2^24 or more, go over to float64."""
        held = {t.dtype for t in node.tensors.values()}
        wide = torch.float64 in held or not self.wide.isdisjoint(node.inputs)
        if node.kind in ("pass", "max") and not wide and float(bound.max()) >= _FLOAT32:
            source, *others = node.inputs
            one = torch.ones_like(self.units[source])
            widened = Node(f"{node.name}.wide", "affine", (source,), tensors={"scale": one})
            self.shapes[widened.name] = self.shapes[source]
            self._emit(widened, self.units[source], self.bounds[source])
            node, wide = replace(node, inputs=(widened.name, *others)), True
        if wide and node.kind == "max":
            self._fail(node, "its values could exceed 2^24: lower cap or weight_bits")
        if wide and (node.kind == "pass" or torch.float64 in held):
            self.wide.add(node.name)
        self.nodes[node.name], self.units[node.name], self.bounds[node.name] = node, unit, bound

    def _channel(self, node: Node, value: Tensor, name: str) -> Tensor:
        """A value per channel, if it is one number a channel."""
        flat = value.expand(self.shapes[name]).reshape(self.shapes[name][0], -1)
        if not bool((flat == flat[:, :1]).all()):
            self._fail(node, "the units differ within a channel")
        return flat[:, 0]

    def _column(self, value: Tensor, name: str) -> Tensor:
        return value.reshape(-1, *[1] * (len(self.shapes[name]) - 1))

    def _input(self, node: Node) -> None:
        one = torch.ones([1] * len(self.shapes[node.name]), dtype=torch.float64,
                         device=self.net.device)  # fmt: skip
        self._emit(node, one, one)
        pixels = Node(f"{node.name}.pixels", "pixels", (node.name,))
        self.shapes[pixels.name] = self.shapes[node.name]
        self._emit(pixels, one / 255, one * 255)
        self.renamed[node.name] = pixels.name

    def _affine(self, node: Node) -> None:
        source = node.inputs[0]
        scale = node.tensors.get("scale", torch.ones(())).double().to(self.net.device)
        unit, bound = self.units[source] * scale, self.bounds[source]
        shift = node.tensors.get("shift")
        if bool((unit == 0).any()):
            self._fail(node, "a scale of zero")
        if shift is None:
            self._emit(replace(node, tensors={}), unit, bound)
            return
        unit = unit / _FINER
        offset = torch.round(shift.double() / unit)
        # Pixels and counts are not negative, so an offset that cancels them does not add up.
        bound = torch.maximum((bound * _FINER + offset).abs(), offset.abs()) if (
            self._positive(source)) else bound * _FINER + offset.abs()  # fmt: skip
        dtype = _dtype(bound)
        factor = torch.full_like(offset, _FINER)
        tensors = {"scale": factor.to(dtype), "shift": offset.to(dtype)}
        self._emit(replace(node, tensors=tensors), unit, bound)

    def _positive(self, name: str) -> bool:
        return self.nodes[name].op == "pixels"

    def _weighted(self, node: Node) -> None:
        source = node.inputs[0]
        weight = node.tensors["weight"].double()
        unit = self._channel(node, self.units[source], source)
        bound = self._channel(node, self.bounds[source], source)
        if node.op == "linear" and len(self.shapes[source]) > 1:
            self._fail(node, "a linear layer on more than vectors")
        tail = [1] * (weight.dim() - 2)
        if node.op == "conv_transpose":
            if node.attrs["groups"] != 1:
                self._fail(node, "grouped transposed convolution")
            rows = weight.transpose(0, 1)
            unit, bound = unit.reshape(1, -1, *tail), bound.reshape(1, -1, *tail)
        else:
            rows = weight
            groups = node.attrs.get("groups", 1)
            share = (groups, -1, *tail)
            repeat = len(weight) // groups
            unit, bound = (v.reshape(share).repeat_interleave(repeat, 0) for v in (unit, bound))
        real = rows * unit
        scale = real.abs().flatten(1).amax(1) / self.largest
        bias = node.tensors.get("bias")
        if bias is not None:  # a channel without weights still has its bias
            alone = bias.double().abs().reshape(len(scale), -1).amax(1) / _CONSTANT
            scale = torch.where(scale > 0, scale, alone)
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        whole = torch.round(real / scale.reshape(-1, 1, *tail))
        sums = (whole.abs() * bound).flatten(1).sum(1)
        tensors: dict[str, Tensor] = {}
        if bias is not None:
            column = scale.reshape(-1, *[1] * (bias.dim() - 1))
            tensors["bias"] = torch.round(bias.double() / column)
            sums = sums + tensors["bias"].abs().flatten(1 if bias.dim() > 1 else 0).reshape(
                len(sums), -1).amax(1)  # fmt: skip
        if float(sums.max()) >= _FLOAT64:
            self._fail(node, "its sums could exceed 2^53: lower cap or weight_bits")
        tensors["weight"] = (
            whole.transpose(0, 1).contiguous() if node.op == "conv_transpose" else whole
        )
        tensors = {role: value.to(_dtype(sums)) for role, value in tensors.items()}
        self.sums[node.name] = float(sums.max())
        node = replace(node, tensors=tensors)
        inputs = float(self.bounds[source].max())
        if (
            node.op == "conv"
            and weight.dim() == 4
            and max(self.largest, inputs) <= int8.LARGEST
            and float(sums.max()) < _FLOAT32
        ):
            node = replace(node, op="conv_int8", attrs={**node.attrs, "zero": int(inputs)})
        self._emit(node, self._column(scale, node.name), self._column(sums, node.name))

    def _relu(self, node: Node) -> None:
        unit = self.units[node.inputs[0]]
        if not bool((unit > 0).all()):
            self._fail(node, "its input has a negative unit")
        theta = self.net.thresholds[node.name].double()
        if node.attrs.get("bound") is not None:
            node, unit = self._shared(node, unit, theta)
        whole = torch.round(theta / unit).clamp_min(1)
        self.thresholds[node.name] = whole
        self._emit(node, whole * unit, torch.full_like(unit, self.cap))

    def _shared(self, node: Node, unit: Tensor, theta: Tensor) -> tuple[Node, Tensor]:
        """A bounded activation after a node that brings all channels to the unit θ / 2^k."""
        if theta.numel() > 1:
            self._fail(
                node, "a bounded activation with a threshold a channel: use per_channel=False"
            )
        theta = theta.reshape(())
        power = math.ceil(math.log2(_COMMON * float(theta) / float(unit.min())))
        shared = theta / 2.0**power
        factor = torch.round(unit / shared)
        source, common = node.inputs[0], f"{node.name}.common"
        bound = self.bounds[source] * factor
        self.shapes[common] = self.shapes[source]
        tensors = {"scale": factor.to(_dtype(bound))}
        one = shared.reshape([1] * len(self.shapes[source]))
        self._emit(Node(common, "affine", (source,), tensors=tensors), one, bound)
        ceiling = float(torch.round(node.attrs["bound"] / shared))
        node = replace(node, inputs=(common,), attrs={**node.attrs, "bound": ceiling})
        return node, one

    def _avg_pool(self, node: Node) -> None:
        a = node.attrs
        if len(a["kernel_size"]) != 2 or a.get("divisor_override") is not None:
            self._fail(node, "only plain two-dimensional average pooling")
        if a["ceil_mode"] or (not a["count_include_pad"] and any(a["padding"])):
            self._fail(node, "windows of different size at the border")
        size = math.prod(a["kernel_size"])
        node = replace(node, attrs={**a, "divisor_override": 1})
        self._scaled(node, size)

    def _adaptive_avg_pool(self, node: Node) -> None:
        sides, wanted = self.shapes[node.inputs[0]][1:], node.attrs["output_size"]
        if len(sides) != 2 or any(n % m for n, m in zip(sides, wanted, strict=True)):
            self._fail(node, "windows of different size")
        kernel = [n // m for n, m in zip(sides, wanted, strict=True)]
        attrs = {
            "kernel_size": kernel, "stride": kernel, "padding": [0, 0], "ceil_mode": False,
            "count_include_pad": True, "divisor_override": 1,
        }  # fmt: skip
        self._scaled(replace(node, op="avg_pool", attrs=attrs), math.prod(kernel))

    def _mean(self, node: Node) -> None:
        before = self.shapes[node.inputs[0]]
        size = math.prod(before[d - 1 if d > 0 else d] for d in node.attrs["dims"])
        self._reduced(replace(node, op="sum"), size, size)

    def _sum(self, node: Node) -> None:
        before = self.shapes[node.inputs[0]]
        self._reduced(node, math.prod(before[d - 1 if d > 0 else d] for d in node.attrs["dims"]), 1)

    def _scaled(self, node: Node, size: int) -> None:
        source = node.inputs[0]
        unit = self._column(self._channel(node, self.units[source], source), node.name)
        bound = self._column(self._channel(node, self.bounds[source], source), node.name)
        self._emit(node, unit / size, bound * size)

    def _reduced(self, node: Node, size: int, divisor: int) -> None:
        """A sum over positions; ``divisor`` makes it a mean."""
        source = node.inputs[0]
        shape = self.shapes[source]
        unit = self.units[source].expand(shape)[None]
        low, high = (f(unit, dim=node.attrs["dims"], keepdim=node.attrs["keepdim"])
                     for f in (torch.amin, torch.amax))  # fmt: skip
        if not torch.equal(low, high):
            self._fail(node, "it adds values of different units")
        bound = torch.amax(self.bounds[source].expand(shape)[None], dim=node.attrs["dims"],
                           keepdim=node.attrs["keepdim"])  # fmt: skip
        self._emit(node, low[0] / divisor, bound[0] * size)

    def _keep(self, node: Node) -> None:
        source = node.inputs[0]
        unit = self._channel(node, self.units[source], source)
        bound = self._channel(node, self.bounds[source], source)
        self._emit(node, self._column(unit, node.name), self._column(bound, node.name))

    _upsample = _keep

    def _pad(self, node: Node) -> None:
        source, value = node.inputs[0], node.attrs.get("value") or 0.0
        if node.attrs["mode"] == "constant" and value:
            unit = self.units[source]
            if not bool((unit == unit.flatten()[0]).all()):
                self._fail(node, "it pads channels of different units with one value")
            whole = float(torch.round(value / unit.flatten()[0]))
            node = replace(node, attrs={**node.attrs, "value": whole})
            self.bounds[source] = self.bounds[source].clamp_min(abs(whole))
        self._keep(node)

    def _move(self, node: Node) -> None:
        units, bounds = [
            apply(node, [table[name].expand(self.shapes[name])[None] for name in node.inputs])[0]
            for table in (self.units, self.bounds)
        ]
        self._emit(node, units, bounds)

    def _add(self, node: Node) -> None:
        """Branches as multiples of a shared unit, `_RESOLUTION` times it or more."""
        alpha = node.attrs.get("alpha", 1)
        units = [self.units[node.inputs[0]], self.units[node.inputs[1]] * alpha]
        if torch.equal(*[u.expand(self.shapes[node.name]) for u in units]):
            shared, multiples = units[0], [torch.ones_like(units[0])] * 2
        else:
            small = torch.minimum(units[0].abs(), units[1].abs())
            ratio = torch.maximum(units[0].abs(), units[1].abs()) / small
            shared = small / torch.ceil(_RESOLUTION / ratio).clamp_min(1)
            multiples = [torch.round(unit / shared) for unit in units]
        names, bound = [], torch.zeros((), dtype=torch.float64, device=shared.device)
        for i, (name, factor) in enumerate(zip(node.inputs, multiples, strict=True)):
            value = self.bounds[name] * factor.abs()
            bound = bound + value
            if bool((factor != 1).any()):
                scaled = f"{node.name}.branch{i + 1}"
                self.shapes[scaled] = self.shapes[name]
                tensors = {"scale": factor.to(_dtype(value))}
                self._emit(Node(scaled, "affine", (name,), tensors=tensors), shared, value)
                name = scaled
            names.append(name)
        attrs = {**node.attrs, "alpha": 1}
        self._emit(replace(node, inputs=tuple(names), attrs=attrs), shared, bound)


def _dtype(bound: Tensor) -> torch.dtype:
    """The floating type that holds whole numbers up to the bound."""
    return torch.float32 if float(bound.max()) < _FLOAT32 else torch.float64
