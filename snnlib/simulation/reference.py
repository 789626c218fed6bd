"""A plain second simulator: the definitions of the book, one line each, nothing fused.

It runs the pure neurons of `snnlib.neurons` and keeps what an explanation needs: the summed input
current of every layer. `verify` looks through it; tests hold the fast simulator against it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from snnlib.graph.network import Network
from snnlib.graph.operations import apply
from snnlib.neurons import State


class Stepper:
    """Step-by-step simulation of a constant input.

    Args:
        net: the spiking network (a record, or what holds one as ``network``).
        x: images, shape (B, ...), fed as a constant current.

    Attributes:
        t: steps done.
        current: per spiking layer the summed input current Σ z, shape (B, ...).
        states: per spiking layer potential and net count, shape (B, ...).
        total: summed input of the output, shape (B, classes).
    """

    def __init__(self, net: Network, x: Tensor) -> None:
        net = getattr(net, "network", net)
        self.net, self.x, self.t = net, x.to(net.dtype), 0
        self.thresholds = net.thresholds
        self.current: dict[str, Tensor] = {}
        self.states: dict[str, State] = {}
        self.received: dict[str, Tensor] = {}  # summed messages into a max pooling
        self.total = torch.zeros((), dtype=net.wide, device=x.device)

    def step(self) -> None:
        """Advance one time step."""
        self.t += 1
        values: dict[str, Tensor] = {}
        for node in self.net.graph:
            inputs = [values[name] for name in node.inputs]
            if node.op == "input":
                values[node.name] = self.x
            elif node.kind == "spiking":
                values[node.name] = self._fire(node.name, node.attrs.get("bound"), inputs[0])
            elif node.kind == "max":
                before, arriving = self.received.get(node.name), inputs[0].to(self.net.wide)
                summed = arriving if before is None else before + arriving
                largest = apply(node, [summed])
                change = largest if before is None else largest - apply(node, [before])
                values[node.name] = change.to(self.net.dtype)
                self.received[node.name] = summed
            else:
                values[node.name] = apply(node, inputs)
        self.total = self.total + values[self.net.graph.output].to(self.total.dtype)

    def _fire(self, name: str, bound: float | None, current: Tensor) -> Tensor:
        neuron, theta = self.net.neurons[name], self.thresholds[name]
        z = current.to(theta.dtype)
        state = self.states.get(name) or neuron.initial(z, theta)
        ceiling = None if bound is None else neuron.ceiling(bound, theta, self.t)
        coefficient, self.states[name] = neuron.step(state, z, theta, ceiling)
        self.current[name] = self.current[name] + z if name in self.current else z
        return (coefficient * theta).to(self.net.dtype)
