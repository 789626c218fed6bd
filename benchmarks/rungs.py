"""The steps from a plain loop to snnlib's engine, as chapter *The simulator* shows them.

`benchmarks.ladder` times them. A test holds every class and function below against the one of the
same name in the chapter, so that what is timed is what is read. IF neurons, networks that are a
chain of layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from snnlib.graph.operations import Node, apply


def simulate(layers: Sequence[Node], x: Tensor, steps: int, fire: Any) -> Tensor:
    """Every layer in every step; the mean output, shape (B, classes)."""
    total = torch.zeros(())
    for _ in range(steps):
        value = x.clone()  # neurons may overwrite what they read
        for node in layers:
            spikes = node.kind == "spiking"
            value = fire(node.name, value) if spikes else apply(node, [value])
        total = total + value
    return total / steps


class Neurons:
    """What all layers of neurons remember: potentials and counts by name."""

    def __init__(self, theta: dict[str, float]) -> None:
        self.theta = theta
        self.V: dict[str, Any] = {}
        self.N: dict[str, Any] = {}


class OneByOne(Neurons):
    """Each neuron by itself."""

    def __call__(self, name: str, z: Tensor) -> Tensor:
        theta, size = self.theta[name], z.numel()
        V = self.V.setdefault(name, [theta / 2] * size)
        N, sent = self.N.setdefault(name, [0] * size), [0.0] * size
        for i, current in enumerate(z.flatten().tolist()):
            V[i] += current
            if V[i] >= theta:
                V[i] -= theta
                N[i] += 1
                sent[i] = theta
        return torch.tensor(sent, dtype=z.dtype).reshape(z.shape)


class Tensors(Neurons):
    """All neurons of a layer in one operation."""

    def start(self, name: str, z: Tensor) -> tuple[float, Tensor, Tensor]:
        if name not in self.V:
            self.V[name] = torch.full_like(z, self.theta[name] / 2)
            self.N[name] = torch.zeros_like(z)
        return self.theta[name], self.V[name], self.N[name]

    def __call__(self, name: str, z: Tensor) -> Tensor:
        theta, V, N = self.start(name, z)
        V = V + z
        c = V.ge(theta).to(z.dtype)
        self.V[name], self.N[name] = V - c * theta, N + c
        return c * theta


class InPlace(Tensors):
    """The same without a single new tensor."""

    def __call__(self, name: str, z: Tensor) -> Tensor:
        theta, V, N = self.start(name, z)
        V += z
        c = torch.ge(V, theta, out=z)  # z has been read: its memory takes the spikes
        V.sub_(c, alpha=theta)
        N += c
        return c.mul_(theta)


class Unit(Tensors):
    """Thresholds of one: the spike is the message."""

    def __call__(self, name: str, z: Tensor) -> Tensor:
        _, V, N = self.start(name, z)
        V += z
        c = torch.ge(V, 1, out=z)
        V -= c
        N += c
        return c


def before_spikes(layers: Sequence[Node], x: Tensor) -> tuple[Sequence[Node], Tensor]:
    """What comes before the first neuron, done once; the layers that are left."""
    first = [node.kind for node in layers].index("spiking")
    for node in layers[:first]:
        x = apply(node, [x])
    return layers[first:], x


def channels_last(layers: Sequence[Node]) -> list[Node]:
    """The weights of convolutions with the channels last in memory."""

    def lay(w: Tensor) -> Tensor:
        return w.contiguous(memory_format=torch.channels_last) if w.dim() == 4 else w

    return [node.with_tensors(lay) if node.tensors else node for node in layers]


def in_blocks(layers: Sequence[Node], x: Tensor, steps: int, fire: Any, block: int) -> Tensor:
    """Several steps of a layer before the next layer begins."""
    total = torch.zeros(())
    for done in range(0, steps, block):
        size = min(block, steps - done)
        value = x.repeat(size, 1, 1, 1)  # (steps × images, channels, height, width)
        for node in layers:
            if node.kind == "spiking":
                for z in value.unflatten(0, (size, -1)):
                    fire(node.name, z)  # in place: the current becomes the message
            else:
                value = apply(node, [value])
        total = total + value.unflatten(0, (size, -1)).sum(0)
    return total / steps
