"""The same folded network in other simulators: integrate-and-fire, reset by subtraction, V₀ = θ/2.

Each function takes the folded network and returns a function that simulates a batch and gives the
logits after T steps and the number of spikes. A spike is worth θ, as in snnlib; weights, biases and
thresholds are the same numbers. Simulated the way each library documents: one step at a time, the
mean of the outputs as the answer; SpikingJelly also a layer at a time, with all its steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from snnlib import SpikingNetwork
from snnlib.graph.operations import apply

Simulate = Callable[[Tensor, int], tuple[Tensor, int]]


class Layer(nn.Module):
    """A node of the folded network as a module."""

    def __init__(self, node: Any) -> None:
        super().__init__()
        self.node = node

    def forward(self, x: Tensor) -> Tensor:
        return apply(self.node, [x])


def _layers(net: SpikingNetwork, spiking: Callable[[float], nn.Module]) -> nn.Sequential:
    """The network as a chain of modules, with ``spiking(θ)`` where the ReLUs were."""
    chain: list[tuple[str, nn.Module]] = []
    for node in net.graph.nodes.values():
        if node.op == "input":
            continue
        (source,) = node.inputs
        assert source in ("input", *(n for n, _ in chain)), "a chain of layers only"
        module = spiking(float(net.thresholds[node.name])) if node.kind == "spiking" else None
        chain.append((node.name, module or Layer(node)))
    return nn.Sequential(*(module for _, module in chain))


@contextmanager
def _counted(chain: nn.Sequential, kind: type) -> Iterator[list[int]]:
    """Spikes of the neurons, a number a call, if the chain is asked to count (``counting``)."""
    spikes: list[int] = []

    def count(module: nn.Module, inputs: Any, output: Tensor) -> None:
        spikes.append(int((output != 0).sum()))

    wanted = getattr(chain, "counting", False)
    neurons = [m for m in chain.modules() if isinstance(m, kind)] if wanted else []
    hooks = [m.register_forward_hook(count) for m in neurons]
    yield spikes
    for hook in hooks:
        hook.remove()


def _stepwise(chain: nn.Sequential, kind: type, restart: Callable[[Any], None]) -> Simulate:
    """One step after another; ``restart`` puts a neuron, a module of this kind, at V₀ = θ/2."""

    def simulate(x: Tensor, steps: int) -> tuple[Tensor, int]:
        for module in chain.modules():
            if isinstance(module, kind):
                restart(module)
        total = torch.zeros(())
        with _counted(chain, kind) as spikes:
            for _ in range(steps):
                total = total + chain(x)
        return total / steps, sum(spikes)

    simulate.chain = chain  # type: ignore[attr-defined]
    return simulate


def spikingjelly(net: SpikingNetwork) -> Simulate:
    """SpikingJelly as its converter leaves a network: scaler, IFNode, scaler in every layer."""
    from spikingjelly.activation_based import neuron

    class Scaler(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.register_buffer("factor", torch.tensor(factor))

        def forward(self, x: Tensor) -> Tensor:
            factor: Tensor = self.factor  # type: ignore[assignment]
            return x * factor

    def spiking(theta: float) -> nn.Module:
        node = neuron.IFNode(v_threshold=1.0, v_reset=None, step_mode="s")
        return nn.Sequential(Scaler(1 / theta), node, Scaler(theta))

    def restart(node: Any) -> None:
        node.reset()
        node.v = 0.5

    return _stepwise(_layers(net, spiking).eval(), neuron.IFNode, restart)


def spikingjelly_multistep(net: SpikingNetwork) -> Simulate:
    """SpikingJelly in its multi-step mode: a layer takes all T steps before the next one begins."""
    from spikingjelly.activation_based import functional, neuron

    class Neuron(nn.Module):
        def __init__(self, theta: float) -> None:
            super().__init__()
            self.theta, self.steps = theta, 1
            self.node = neuron.IFNode(v_threshold=1.0, v_reset=None, step_mode="m")

        def forward(self, x: Tensor) -> Tensor:
            current = (x * (1 / self.theta)).unflatten(0, (self.steps, -1))
            return self.node(current).flatten(0, 1) * self.theta

    chain = _layers(net, Neuron).eval()

    def simulate(x: Tensor, steps: int) -> tuple[Tensor, int]:
        functional.reset_net(chain)
        for module in chain.modules():
            if isinstance(module, Neuron):
                module.steps, module.node.v = steps, 0.5
        last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
        frames = x.repeat(steps, *[1] * (x.dim() - 1))
        if last:
            frames = frames.contiguous(memory_format=torch.channels_last)
        with _counted(chain, neuron.IFNode) as spikes:
            output = chain(frames)
        return output.unflatten(0, (steps, -1)).mean(0), sum(spikes)

    simulate.chain = chain  # type: ignore[attr-defined]
    return simulate


def snntorch(net: SpikingNetwork) -> Simulate:
    """snnTorch: Leaky with beta = 1. It resets in the step after, which gives the same spikes."""
    import snntorch as snn

    class Neuron(snn.Leaky):
        state: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            if self.state is None:
                self.state = torch.full_like(x, 0.5 * float(self.threshold))
            spikes, self.state = super().forward(x, self.state)
            return (spikes * self.threshold).to(x.dtype)  # its spikes are float32

    def spiking(theta: float) -> nn.Module:
        node = Neuron(beta=1.0, threshold=theta, reset_mechanism="subtract")
        node.state = None
        return node

    def restart(node: Any) -> None:
        node.state = None

    return _stepwise(_layers(net, spiking).eval(), Neuron, restart)


def sinabs(net: SpikingNetwork) -> Simulate:
    """sinabs: IAF with one spike a step at most and no lower bound to the potential."""
    from sinabs import layers
    from sinabs.activation import MembraneSubtract, SingleSpike

    class Neuron(nn.Module):
        def __init__(self, theta: float) -> None:
            super().__init__()
            self.theta = theta
            self.iaf = layers.IAF(
                spike_threshold=torch.tensor(theta), spike_fn=SingleSpike,
                reset_fn=MembraneSubtract(), min_v_mem=None,
            )  # fmt: skip
            self.begun = False

        def forward(self, x: Tensor) -> Tensor:
            x = x.unsqueeze(1)
            if not self.begun:
                self.iaf.init_state_with_shape((x.shape[0], *x.shape[2:]))
                self.iaf.v_mem = torch.full_like(x[:, 0], 0.5 * self.theta)
                self.begun = True
            return (self.iaf(x)[:, 0] * self.theta).to(x.dtype)

    def restart(node: Any) -> None:
        node.begun = False

    return _stepwise(_layers(net, Neuron).eval(), Neuron, restart)


PEERS = {
    "spikingjelly": spikingjelly,
    "spikingjelly-multistep": spikingjelly_multistep,
    "snntorch": snntorch,
    "sinabs": sinabs,
}


def package(peer: str) -> str:
    """The package that a peer is in."""
    return peer.split("-")[0]
