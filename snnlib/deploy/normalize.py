"""`net.normalized()`: unit thresholds and rescaled weights, as many chips and file formats want it.

Every value v of the network becomes v' = v / s. A spiking layer has s = θ, so its message c·θ
becomes the bare coefficient c; a weighted layer between scales s and s' gets W' = W·s/s' and
b' = b/s'. Where scales meet (a residual sum, a concatenation) and no weights can take them, an
explicit scale stays. The counts are those of the original network.

Source: Diehl et al., IJCNN 2015 (weight normalization, there with s = λ). Chapter *Threshold
balancing*.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from snnlib.graph.channels import carried, column, compact, per_channel, per_input
from snnlib.graph.errors import ConversionError
from snnlib.graph.fold import scaled
from snnlib.graph.graph import Graph
from snnlib.graph.network import Network
from snnlib.graph.operations import OPERATIONS, Node


def normalized(net: Network) -> Network:
    """The equivalent network whose thresholds are all 1: spikes are bare whole numbers.

    Raises:
        ConversionError: a bounded layer (ReLU6) has one threshold a channel, so its bound would
            differ from channel to channel; or the network is one of whole numbers already.
    """
    if net.whole is not None:
        raise ConversionError(
            "normalized works on the real-valued network: use net.source.normalized()"
        )
    graph = _Scaler(net).run()
    balanced = {
        name: torch.full((), float(neuron.levels), dtype=net.wide, device=net.device)
        for name, neuron in net.neurons.items()
    }
    report = {**net.report, "normalized": True}
    made = replace(net, graph=graph, balanced=balanced, report=report)
    for name, theta in made.thresholds.items():
        if not bool((theta == 1).all()):
            raise ConversionError(
                f"layer {name}: {net.neurons[name]!r} has a threshold of its own, which does not "
                "become 1 with the weights rescaled"
            )
    return made


class _Scaler:
    """Walks the graph; ``scale[name]`` is s of every value, in the shape of one image's value."""

    def __init__(self, net: Network) -> None:
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
        self.nodes[new] = Node(new, "affine", (name,), {}, {"scale": compact(factor)})
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
        pools = OPERATIONS[user.op].units == "pools"
        if pools or (user.op in ("add", "affine") and same):
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
        same = self.shapes[source] == self.shapes[node.name]
        if node.op == "affine" and same:
            tensors = dict(node.tensors)
            if "shift" in tensors:
                tensors["shift"] = compact(tensors["shift"].double() / before)
            return replace(node, tensors=tensors), before
        if node.op == "add" and same and self.shapes[node.inputs[1]] == self.shapes[source]:
            target = self._target(node.name)
            wanted = before if target is None else target.expand(self.shapes[source])
            inputs = tuple(self._rescaled(name, wanted) for name in node.inputs)
            return replace(node, inputs=inputs), wanted
        pads_a_number = (
            node.op == "pad" and node.attrs["mode"] == "constant" and node.attrs["value"]
        )
        if not pads_a_number:
            moved = carried(node, [self.scale[name] for name in node.inputs])
            if moved is not None:
                return node, moved
        inputs = tuple(self._rescaled(name, self._ones(name)) for name in node.inputs)
        return replace(node, inputs=inputs), self._ones(node.name)

    def _spiking(self, node: Node) -> tuple[Node, Tensor]:
        theta = self.theta[node.name]
        attrs = dict(node.attrs)
        for role, what in (("bound", "is bounded at"), ("step", "is quantized in steps of")):
            if attrs.get(role) is None:
                continue
            if theta.numel() > 1:
                raise ConversionError(
                    f"layer {node.name} {what} {attrs[role]} and has one threshold a channel, so "
                    f"with unit thresholds its {role} would differ from channel to channel: "
                    "convert with per_channel=False, or do not normalize"
                )
            attrs[role] = attrs[role] / float(theta)
        full = theta.expand(self.shapes[node.name])
        source = self._rescaled(node.inputs[0], full)
        return replace(node, inputs=(source,), attrs=attrs), full

    def _weighted(self, node: Node) -> tuple[Node, Tensor]:
        source, shape = node.inputs[0], self.shapes[node.name]
        tokens = node.op == "linear" and len(shape) > 1  # their channels come last
        arriving = per_channel(self.scale[source], self.shapes[source], last=tokens)
        if arriving is None:
            source = self._rescaled(source, self._ones(source))
            arriving = self._ones(source).new_ones(self.shapes[source][-1 if tokens else 0])
        leaving = torch.ones(1, dtype=torch.float64, device=self.device)
        target = self._target(node.name)
        if target is not None and (target.numel() == 1 or not tokens):
            each = target if target.numel() == 1 else per_channel(target, shape)
            leaving = leaving if each is None else each.reshape(-1)
        weight = node.tensors["weight"].double() * per_input(node, arriving)
        wide = {role: tensor.double() for role, tensor in node.tensors.items()}
        count = shape[-1] if tokens else shape[0]
        new = scaled(
            replace(node, inputs=(source,), tensors={**wide, "weight": weight}),
            (1 / leaving).expand(count),
            torch.zeros(count, dtype=torch.float64, device=self.device),
        )
        if "bias" not in node.tensors:
            new = replace(new, tensors={"weight": new.tensors["weight"]})
        return new, (leaving if len(leaving) == 1 else column(leaving, len(shape))).expand(shape)
