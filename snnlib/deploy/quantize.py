"""From real numbers to whole ones: how networks of `snnlib.deploy.whole_numbers` are made.

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
computed in float32, else in float64.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import replace
from typing import NoReturn

import torch
from torch import Tensor

from snnlib._arguments import whole
from snnlib.deploy import int8, whole_numbers  # noqa: F401  (registers its operations)
from snnlib.graph.channels import carried, column, per_channel, per_input
from snnlib.graph.errors import ConversionError
from snnlib.graph.network import Network, Whole
from snnlib.graph.operations import OPERATIONS, Node
from snnlib.neurons import Neuron

_FLOAT32, _FLOAT64 = 2**24, 2**53  # whole numbers up to here are exact
_FINER = 8  # an offset is rounded to 1/8 of the unit of what it is added to
_RESOLUTION = 64  # a sum's branches are multiples of at least this, so within 1 % of their weight
_COMMON = 256  # likewise for the channels of a bounded activation, which share a unit
_CONSTANT = 4096  # units in the bias of a channel without weights


def quantize(net: Network, weight_bits: int = 8, cap: int | None = None) -> Network:
    """The whole-number version of a network whose images lie in [0, 1].

    Args:
        net: the spiking network.
        weight_bits: bits a weight, 2 to 16.
        cap: largest |c| a neuron may send in a step; by default the neuron's own, or 4 × levels.
            `IF` and `Ternary` send 1 at most.

    Returns:
        The whole-number network (``whole`` is not None).

    Raises:
        ConversionError: the network holds something that has no exact whole-number form, or its
            sums could exceed 2^53.
        ValueError: weight_bits or cap is out of range.

    Source: integer inference with per-channel scales, Jacob et al., CVPR 2018.

    """
    weight_bits = whole("weight_bits", weight_bits, least=2, most=16)
    if net.whole is not None:
        raise ConversionError("this network is quantized already: quantize net.source")
    cap = None if cap is None else whole("cap", cap)
    capped = {name: _capped(name, neuron, cap) for name, neuron in net.neurons.items()}
    return _Quantizer(net, capped, 2 ** (weight_bits - 1) - 1).run()


def _capped(name: str, neuron: Neuron, cap: int | None) -> Neuron:
    """The neuron with a largest coefficient, whose rule maps whole numbers to whole numbers."""
    if neuron.fused is None:
        raise ConversionError(
            f"layer {name}: {neuron!r} is a neuron of your own, of which nothing says that it "
            "keeps whole numbers whole: quantize networks of snnlib.IF, Ternary or Augmented"
        )
    if neuron.largest == 1:
        if cap not in (None, 1):
            raise ValueError(f"cap={cap!r}: {type(neuron).__name__} sends one spike at most")
        return neuron
    largest = cap or (4 * neuron.levels if math.isinf(neuron.largest) else int(neuron.largest))
    if largest >= _FLOAT32:
        raise ValueError(f"cap={largest}: messages travel in float32, so it must be below 2^24")
    return dataclasses.replace(neuron, cap=largest)  # type: ignore[type-var]


class _Quantizer:
    """Goes through the graph in order; knows unit and largest value of every node.

    ``units`` and ``bounds`` (largest |value|) broadcast to one image's value: (C, 1, ...) as a
    rule.
    """

    def __init__(self, net: Network, neurons: dict[str, Neuron], largest: int) -> None:
        self.net, self.neurons, self.largest = net, neurons, largest
        self.graph = net.graph
        self.nodes: dict[str, Node] = {}
        self.shapes = dict(net.graph.shapes)
        self.units: dict[str, Tensor] = {}
        self.bounds: dict[str, Tensor] = {}
        self.renamed: dict[str, str] = {}
        self.thresholds: dict[str, Tensor] = {}
        self.sums: dict[str, float] = {}
        self.wide: set[str] = set()  # nodes with values in float64

    def run(self) -> Network:
        for node in self.graph:
            inputs = tuple(self.renamed.get(name, name) for name in node.inputs)
            name = "weighted" if node.kind == "weighted" else node.op
            handler = getattr(self, f"_{name}", None)
            if handler is None and OPERATIONS[node.op].units:
                handler = self._carry
            if handler is None:
                self._fail(node, f"{node.op} has no whole-number form here")
            handler(replace(node, inputs=inputs))
            if float(self.bounds[self.renamed.get(node.name, node.name)].max()) >= _FLOAT64:
                self._fail(node, "its values could exceed 2^53: lower cap or weight_bits")
        output = self.renamed.get(self.graph.output, self.graph.output)
        graph = replace(self.graph, nodes=self.nodes, shapes=self.shapes, output=output)
        unit = self.units[output].expand(self.shapes[output]).clone()
        one = isinstance(self.net.neuron, Neuron)
        neuron = next(iter(self.neurons.values())) if one else self.neurons
        made = Whole(self.net, self.thresholds, unit, self.sums)
        return replace(self.net, graph=graph, neuron=neuron, whole=made)

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
        """A value per channel, if it is one number a channel; shape (C,)."""
        found = per_channel(value, self.shapes[name])
        if found is None:
            self._fail(node, "the units differ within a channel")
        return found

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
            self.nodes[source].op == "pixels") else bound * _FINER + offset.abs()  # fmt: skip
        tensors = {"scale": torch.full_like(offset, _FINER), "shift": offset}
        tensors = {k: value.to(_dtype(bound)) for k, value in tensors.items()}
        self._emit(replace(node, tensors=tensors), unit, bound)

    def _weighted(self, node: Node) -> None:
        source, transposed = node.inputs[0], node.op == "conv_transpose"
        if node.op == "linear" and len(self.shapes[source]) > 1:
            self._fail(node, "a linear layer on more than vectors")
        if transposed and node.attrs["groups"] != 1:
            self._fail(node, "grouped transposed convolution")

        def rows(value: Tensor) -> Tensor:  # (out, in / groups, ...)
            return value.transpose(0, 1) if transposed else value

        weight = node.tensors["weight"].double()
        unit, bound = (
            rows(per_input(node, self._channel(node, table[source], source)))
            for table in (self.units, self.bounds)
        )
        real = rows(weight) * unit
        scale = real.abs().flatten(1).amax(1) / self.largest  # (out,)
        bias = node.tensors.get("bias")
        if bias is not None:  # a channel without weights still has its bias
            scale = torch.where(scale > 0, scale, bias.double().abs() / _CONSTANT)
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        rounded = torch.round(real / scale.reshape(-1, *[1] * (real.dim() - 1)))
        sums = (rounded.abs() * bound).flatten(1).sum(1)
        tensors = {"weight": rows(rounded).contiguous()}
        if bias is not None:
            tensors["bias"] = torch.round(bias.double() / scale)
            sums = sums + tensors["bias"].abs()
        if float(sums.max()) >= _FLOAT64:
            self._fail(node, "its sums could exceed 2^53: lower cap or weight_bits")
        self.sums[node.name] = float(sums.max())
        node = replace(node, tensors={k: value.to(_dtype(sums)) for k, value in tensors.items()})
        inputs = float(self.bounds[source].max())
        if int8.takes(node, inputs):
            node = replace(node, op="conv_int8", attrs={**node.attrs, "zero": int(inputs)})
        dims = len(self.shapes[node.name])
        self._emit(node, column(scale, dims), column(sums, dims))

    def _relu(self, node: Node) -> None:
        unit = self.units[node.inputs[0]]
        if not bool((unit > 0).all()):
            self._fail(node, "its input has a negative unit")
        theta = self.net.thresholds[node.name].double()
        if node.attrs.get("bound") is not None:
            node, unit = self._shared(node, unit, theta)
        count = torch.round(theta / unit).clamp_min(1)
        self.thresholds[node.name] = count
        self._emit(node, count * unit, torch.full_like(unit, self.neurons[node.name].largest))

    def _shared(self, node: Node, unit: Tensor, theta: Tensor) -> tuple[Node, Tensor]:
        """A bounded activation after a node that brings all channels to the unit θ / 2^k."""
        if theta.numel() > 1:
            self._fail(node, "bounded, with a threshold a channel: use per_channel=False")
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
        attrs = {**node.attrs, "bound": float(torch.round(node.attrs["bound"] / shared))}
        return replace(node, inputs=(common,), attrs=attrs), one

    def _avg_pool(self, node: Node) -> None:
        a = node.attrs
        if len(a["kernel_size"]) != 2 or a.get("divisor_override") is not None:
            self._fail(node, "only plain two-dimensional average pooling")
        if a["ceil_mode"] or (not a["count_include_pad"] and any(a["padding"])):
            self._fail(node, "windows of different size at the border")
        self._scaled(replace(node, attrs={**a, "divisor_override": 1}), math.prod(a["kernel_size"]))

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
        self._scaled(replace(node, op="sum"), self._joined(node))

    def _sum(self, node: Node) -> None:
        unit, bound = self._carried(node)
        self._emit(node, unit, bound * self._joined(node))

    def _joined(self, node: Node) -> int:
        """How many values a sum over dimensions adds up."""
        before = self.shapes[node.inputs[0]]
        return math.prod(before[d - 1 if d > 0 else d] for d in node.attrs["dims"])

    def _scaled(self, node: Node, size: int) -> None:
        """An average that is left at the sum of its ``size`` values."""
        unit, bound = self._carried(node)
        self._emit(node, unit / size, bound * size)

    def _carried(self, node: Node) -> tuple[Tensor, Tensor]:
        """Units and bounds that the node's values have from those of its inputs."""
        found = []
        for table in (self.units, self.bounds):
            values = [table[name].expand(self.shapes[name]) for name in node.inputs]
            if table is self.bounds and OPERATIONS[node.op].units in ("pools", "reduces"):
                values = [self._largest(node, values[0])]
            numbers = carried(node, values)
            if numbers is None:
                self._fail(node, "it joins values of different units")
            found.append(numbers)
        return found[0], found[1]

    def _largest(self, node: Node, bound: Tensor) -> Tensor:
        """The largest bound among the values that a pooling or a sum joins, for all of them."""
        dims = [d - 1 if d > 0 else d for d in node.attrs.get("dims", ())]
        dims = dims or list(range(1, bound.dim()))
        return bound.amax(dims, keepdim=True).expand_as(bound) if dims else bound

    def _carry(self, node: Node) -> None:
        unit, bound = self._carried(node)
        if node.kind == "max" and not bool((unit > 0).all()):
            self._fail(node, "its input has a negative unit, so its largest value is the smallest")
        self._emit(node, unit, bound)

    def _pad(self, node: Node) -> None:
        source, value = node.inputs[0], node.attrs.get("value") or 0.0
        if node.attrs["mode"] == "constant" and value:
            unit = self.units[source]
            if not bool((unit == unit.flatten()[0]).all()):
                self._fail(node, "it pads channels of different units with one value")
            whole_value = float(torch.round(value / unit.flatten()[0]))
            node = replace(node, attrs={**node.attrs, "value": whole_value})
            self.bounds[source] = self.bounds[source].clamp_min(abs(whole_value))
        self._carry(node)

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
        node = replace(node, inputs=tuple(names), attrs={**node.attrs, "alpha": 1})
        self._emit(node, shared, bound)


def _dtype(bound: Tensor) -> torch.dtype:
    """The floating type that holds whole numbers up to the bound."""
    return torch.float32 if float(bound.max()) < _FLOAT32 else torch.float64
