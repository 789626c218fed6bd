"""`net.normalized()`: unit thresholds and rescaled weights, as many chips and file formats want it.

Every value v of the network becomes v' = v / s. A spiking layer has s = θ, so its message c·θ
becomes the bare coefficient c; a weighted layer between scales s and s' gets W' = W·s/s' and
b' = b/s'. Where scales meet (a residual sum, a concatenation) and no weights can take them, an
explicit scale stays. The counts are those of the original network.

Source: Diehl et al., IJCNN 2015 (weight normalisation, there with s = λ). Chapter *Threshold
balancing*.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from snnlib.graph.errors import ConversionError
from snnlib.graph.fold import scaled
from snnlib.graph.graph import Graph
from snnlib.graph.operations import Node, apply
from snnlib.simulation.network import SpikingNetwork

_MOVES = ("reshape", "permute", "slice", "upsample")
_POOLS = ("avg_pool", "adaptive_avg_pool", "max_pool", "adaptive_max_pool")


def normalized(net: SpikingNetwork) -> SpikingNetwork:
    """The equivalent network whose thresholds are all 1: spikes are bare whole numbers.

    Raises:
        ConversionError: a bounded layer (ReLU6) has one threshold a channel, so its bound would
            differ from channel to channel.
    """
    graph = _Scaler(net).run()
    one = torch.full((), float(net.neuron.levels), dtype=net.potential_dtype, device=net.device)
    report = {**net.report, "normalized": True}
    balanced = {name: one.clone() for name in graph.spiking}
    return SpikingNetwork(graph, net.neuron, balanced, net.reference, report)


class _Scaler:
    """Walks the graph; ``scale[name]`` is s of every value, in the shape of one image's value."""

    def __init__(self, net: SpikingNetwork) -> None:
        self.graph, self.dtype = net.graph, net.dtype
        self.theta = {name: value.double() for name, value in net.thresholds.items()}
        self.nodes: dict[str, Node] = {}
        self.shapes = dict(net.graph.shapes)
        self.scale: dict[str, Tensor] = {}
        self.device = net.device

    def run(self) -> Graph:
        for node in self.graph:
            new, scale = self._node(node)
            self.nodes[node.name] = new
            self.scale[node.name] = scale.expand(self.shapes[node.name])
        output = self._rescaled(self.graph.output, self._ones(self.graph.output))
        graph = replace(self.graph, nodes=self.nodes, shapes=self.shapes, output=output)
        return graph.map_tensors(lambda tensor: tensor.to(self.dtype))

    def _ones(self, name: str) -> Tensor:
        shape = self.shapes[name]
        return torch.ones((), dtype=torch.float64, device=self.device).expand(shape)

    def _rescaled(self, name: str, wanted: Tensor) -> str:
        """The value ``name`` at another scale, by a scale of its own if need be."""
        factor = self.scale[name] / wanted
        if bool((factor == 1).all()):
            return name
        new, count = f"{name}.scale", 2
        while new in self.nodes:
            new, count = f"{name}.scale:{count}", count + 1
        self.nodes[new] = Node(new, "affine", (name,), {}, {"scale": _compact(factor)})
        self.shapes[new] = self.shapes[name]
        self.scale[new] = wanted.expand(self.shapes[name])
        return new

    def _target(self, name: str) -> Tensor | None:
        """θ of the one spiking layer that this value leads to, if no other layer reads it."""
        users = self.graph.users(name)
        if len(users) != 1 or name == self.graph.output:
            return None
        user = users[0]
        if user.kind == "spiking":
            return self.theta[user.name]
        same = self.shapes[user.name] == self.shapes[name]
        if user.op in _POOLS or (user.op in ("add", "affine") and same):
            return self._target(user.name)
        return None

    def _node(self, node: Node) -> tuple[Node, Tensor]:
        if node.op == "input":
            return node, self._ones(node.name)
        if node.kind == "spiking":
            return self._spiking(node)
        if node.kind == "weighted":
            return self._weighted(node)
        source = node.inputs[0]
        before = self.scale[source]
        if node.op == "cat":
            values = [self.scale[name][None] for name in node.inputs]
            return node, apply(node, values)[0]
        if node.op in _MOVES:
            return node, apply(node, [before[None]])[0]
        if node.op == "affine" and self.shapes[source] == self.shapes[node.name]:
            tensors = dict(node.tensors)
            if "shift" in tensors:
                tensors["shift"] = _compact(tensors["shift"].double() / before)
            return replace(node, tensors=tensors), before
        if node.op == "add" and self.shapes[source] == self.shapes[node.name]:
            shape = self.shapes[node.inputs[1]]
            if shape == self.shapes[source]:
                target = self._target(node.name)
                wanted = before if target is None else target.expand(shape)
                inputs = tuple(self._rescaled(name, wanted) for name in node.inputs)
                return replace(node, inputs=inputs), wanted
        if (channels := self._passes(node, before)) is not None:
            return node, channels
        inputs = tuple(self._rescaled(name, self._ones(name)) for name in node.inputs)
        return replace(node, inputs=inputs), self._ones(node.name)

    def _passes(self, node: Node, before: Tensor) -> Tensor | None:
        """Scale after pooling and the like, which keep it where it is equal for all they join."""
        zeros = node.op == "pad" and (node.attrs["mode"] != "constant" or not node.attrs["value"])
        if zeros or node.op in _POOLS:
            joined = list(range(1, before.dim()))
        elif node.op in ("mean", "sum", "amax"):
            joined = [d - 1 for d in node.attrs["dims"]]
        else:
            return None
        first = before
        for dim in joined:
            first = first.narrow(dim, 0, 1)
        if not bool((before == first).all()):
            return None
        if node.op in ("mean", "sum", "amax") and not node.attrs["keepdim"]:
            for dim in sorted(joined, reverse=True):
                first = first.squeeze(dim)
        return first

    def _spiking(self, node: Node) -> tuple[Node, Tensor]:
        theta = self.theta[node.name]
        attrs = dict(node.attrs)
        if attrs.get("bound") is not None:
            if theta.numel() > 1:
                raise ConversionError(
                    f"layer {node.name} is bounded at {attrs['bound']} and has one threshold a "
                    "channel, so with unit thresholds its bound would differ from channel to "
                    "channel: convert with per_channel=False, or do not normalise"
                )
            attrs["bound"] = attrs["bound"] / float(theta)
        full = theta.expand(self.shapes[node.name])
        source = self._rescaled(node.inputs[0], full)
        return replace(node, inputs=(source,), attrs=attrs), full

    def _weighted(self, node: Node) -> tuple[Node, Tensor]:
        source, shape = node.inputs[0], self.shapes[node.name]
        tokens = node.op == "linear" and len(shape) > 1
        arriving = _channels(self.scale[source], last=tokens)
        if arriving is None:
            source = self._rescaled(source, self._ones(source))
            arriving = _channels(self.scale[source], last=tokens)
            assert arriving is not None
        leaving = torch.ones(1, dtype=torch.float64, device=self.device)
        target = self._target(node.name)
        if target is not None and (target.numel() == 1 or not tokens):
            leaving = target.reshape(-1)
        weight = node.tensors["weight"].double() * _per_input(node, arriving)
        wide = {role: tensor.double() for role, tensor in node.tensors.items()}
        count = shape[-1] if tokens else shape[0]
        new = scaled(
            replace(node, inputs=(source,), tensors={**wide, "weight": weight}),
            (1 / leaving).expand(count),
            torch.zeros(count, dtype=torch.float64, device=self.device),
        )
        if "bias" not in node.tensors:
            new = replace(new, tensors={"weight": new.tensors["weight"]})
        column = leaving if len(leaving) == 1 else leaving.reshape(-1, *[1] * (len(shape) - 1))
        return new, column.expand(shape)


def _channels(scale: Tensor, last: bool) -> Tensor | None:
    """One scale an input channel, or None where it differs within a channel."""
    rows = scale.reshape(-1, scale.shape[-1]).T if last else scale.reshape(scale.shape[0], -1)
    return rows[:, 0] if bool((rows == rows[:, :1]).all()) else None


def _per_input(node: Node, arriving: Tensor) -> Tensor:
    """The scales of the input channels, in the shape of the weight."""
    weight = node.tensors["weight"]
    ones = [1] * (weight.dim() - 2)
    if node.op == "conv_transpose":  # weight (in, out / groups, ...)
        return arriving.reshape(-1, 1, *ones)
    groups = node.attrs.get("groups", 1)
    each = arriving.reshape(groups, 1, -1).expand(groups, weight.shape[0] // groups, -1)
    return each.reshape(weight.shape[0], -1, *ones)


def _compact(value: Tensor) -> Tensor:
    """A tensor of one image's shape as a number, or as one value a channel, if it is that."""
    flat = value.reshape(value.shape[0], -1) if value.dim() else value.reshape(1, 1)
    if bool((flat == flat[0, 0]).all()):
        return flat[0, 0].clone()
    if bool((flat == flat[:, :1]).all()):
        return flat[:, 0].reshape(-1, *[1] * (value.dim() - 1)).clone()
    return value.contiguous()
