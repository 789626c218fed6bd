"""Surrogate gradients through many layers, with batch norm on the currents.

Source: Ledinauskas, Ruseckas, Juršėnas and Buračas, *Training Deep Spiking Neural Networks*,
arXiv:2006.04436, 2020. Membrane shortcuts: Hu, Deng, Wu, Yao and Li, IEEE TNNLS, 2024. Weights
scaled on data, layer by layer: Mishkin and Matas, ICLR 2016.

A ReLU network becomes a spiking one that is trained through time (`unrolled`): every ReLU is a
layer of LIF neurons, the image a constant current, the answer the mean current of the last layer::

    z^l_t = norm(W^l θ s^(l−1)_t + b^l)      (B, n_l)   currents of step t
    s^l_t, V^l_t = LIF step of z^l_t         (B, n_l)   `snnlib.learning.lif`
    y = (1/T) Σ_t (W^L θ s^(L−1)_t + b^L)    (B, classes)

Batch norm sees the currents of all steps as one batch of T·B, so its statistics, and what it does
at test time, are those of T steps. Backward, a spike has the slope of a `Surrogate`. With reset by
subtraction a potential passes its gradient on as

    ∂V_(t+1)/∂V_t = leak · (1 − slope(V_t/θ − 1)),

which grows over time where the slope exceeds 2; a layer passes on E[slope²] · n · Var(w) of a
gradient's square, which grows or vanishes over depth. So width, peak and initial weights decide
together (`gradient_norms`; ours, as are the comparison of peak 1 with area 1 and the initial
weights that keep neurons firing, `scale_to_fire`). A membrane shortcut (`Shortcut`) adds currents
past the neurons, so the gradient always has a way of slope 1. Chapter *Why deep spiking networks
fail to learn, and what mends it*.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from snnlib._arguments import real, whole
from snnlib.learning.lif import LIF, run


class Spiking(nn.Module):
    """A layer of neurons over folded time: currents (T·B, ...) in, messages, θ a spike, out.

    Args:
        neuron: the neuron model.
        steps: T.
        theta: firing threshold of the layer.
    """

    def __init__(self, neuron: LIF, steps: int, theta: float = 1.0) -> None:
        super().__init__()
        self.neuron, self.steps, self.theta = neuron, steps, theta
        self.look: Callable[[Tensor], None] | None = None  # shown the spikes, for accounts

    def forward(self, currents: Tensor) -> Tensor:
        """(T·B, ...) → (T·B, ...)."""
        z = currents.unflatten(0, (self.steps, -1))  # (T, B, ...)
        spikes = run(self.neuron, z, z.new_tensor(self.theta))
        if self.look is not None:
            self.look(spikes)
        return (spikes * self.theta).flatten(0, 1)

    def extra_repr(self) -> str:
        return f"{self.neuron}, steps={self.steps}, theta={self.theta:g}"


class _Repeat(nn.Module):
    """(B, ...) → (T·B, ...): the same current in every step."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        return x.expand(self.steps, *x.shape).flatten(0, 1)


class Unrolled(nn.Module):
    """A spiking network over T steps, as an ordinary module: images in, logits (B, classes) out.

    Made by `unrolled`. What comes before the first neurons is computed once, not in every step.
    """

    def __init__(self, layers: nn.Sequential, steps: int) -> None:
        super().__init__()
        self.layers, self.steps = layers, steps

    def forward(self, x: Tensor) -> Tensor:
        """Mean current of the last layer, (B, classes), for images (B, C, H, W)."""
        return self.layers(x).unflatten(0, (self.steps, -1)).mean(0)

    @property
    def spiking(self) -> list[Spiking]:
        """The layers of neurons, in order."""
        return [module for module in self.modules() if isinstance(module, Spiking)]

    def rates(self, x: Tensor) -> list[float]:
        """Spikes a neuron and step of every layer, on some images; the network stays as it is.

        In training mode batch norm measures these images, and keeps the statistics that it had.
        """
        found: list[float] = []
        kept = {name: value.clone() for name, value in self.named_buffers()}
        for layer in self.spiking:
            layer.look = lambda spikes: found.append(float(spikes.detach().mean()))
        try:
            with torch.no_grad():
                self(x)
        finally:
            for layer in self.spiking:
                layer.look = None
            for name, value in self.named_buffers():
                value.copy_(kept[name])
        return found


def unrolled(
    ann: nn.Sequential, neuron: LIF | None = None, steps: int = 10, theta: float = 1.0
) -> Unrolled:
    """A spiking network with the layers of a ReLU network, to be trained through time.

    Args:
        ann: a chain of layers; modules in it may have any shape. It is copied.
        neuron: in the place of every ReLU; default: ``LIF(leak=0.9)``.
        steps: T.
        theta: firing threshold of all layers, above 0.

    Raises:
        ValueError: there is no ReLU, or steps or theta is out of range.

    Example:
        >>> ann = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
        >>> net = unrolled(ann, LIF(leak=0.9), steps=5)
        >>> net(torch.rand(6, 4)).shape
        torch.Size([6, 3])
    """
    chosen = LIF(leak=0.9) if neuron is None else neuron
    steps, theta = whole("steps", steps), real("theta", theta, 0.0, above=True)
    children = [
        (name, Spiking(chosen, steps, theta) if isinstance(child, nn.ReLU) else _inside(
            copy.deepcopy(child), chosen, steps, theta))
        for name, child in ann._modules.items()  # a module in two places counts twice
        if child is not None
    ]  # fmt: skip
    spiking = [
        i for i, (_, child) in enumerate(children)
        if any(isinstance(module, Spiking) for module in child.modules())
    ]  # fmt: skip
    if not spiking:
        raise ValueError("unrolled: the network has no nn.ReLU, so nothing in it could spike")
    layers = nn.Sequential()
    for i, (name, child) in enumerate(children):
        if i == spiking[0]:
            layers.add_module("repeat", _Repeat(steps))
        layers.add_module(name, child)
    return Unrolled(layers, steps)


def _inside(module: nn.Module, neuron: LIF, steps: int, theta: float) -> nn.Module:
    for name, child in list(module._modules.items()):
        if isinstance(child, nn.ReLU):
            setattr(module, name, Spiking(neuron, steps, theta))
        elif child is not None:
            _inside(child, neuron, steps, theta)
    return module


class Shortcut(nn.Module):
    """Currents past the neurons: z ↦ z + layers(z), where the layers begin with a ReLU."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        """Any shape that the layers keep."""
        return z + self.layers(z)


def deep_dense(
    layers: int, width: int = 128, inputs: int = 784, *, norm: bool = False, shortcut: bool = False
) -> nn.Sequential:
    """A ReLU network of so many weighted layers, all hidden ones alike.

    Args:
        layers: weighted layers, at least 2.
        width: of the hidden layers.
        inputs: pixels of an image.
        norm: batch norm on the currents of every hidden layer.
        shortcut: a membrane shortcut past every hidden layer but the first.
    """

    def hidden(n: int) -> list[nn.Module]:
        linear = nn.Linear(n, width, bias=not norm)
        return [linear, nn.BatchNorm1d(width)] if norm else [linear]

    net = nn.Sequential(nn.Flatten(), *hidden(inputs))
    for _ in range(layers - 2):
        block = [nn.ReLU(), *hidden(width)]
        net.extend([Shortcut(*block)] if shortcut else block)
    return net.extend([nn.ReLU(), nn.Linear(width, 10)])


def deep_convolutional(
    stages: tuple[tuple[int, int], ...], channels: int = 1, *, shortcut: bool = False
) -> nn.Sequential:
    """A ReLU network of 3×3 convolutions with batch norm, in stages that halve the resolution.

    Args:
        stages: channels and number of convolutions of each; the first of a stage halves.
        channels: of the image.
        shortcut: a membrane shortcut past every convolution that keeps the shape.

    With the linear layer at the end it has one weighted layer more than convolutions.
    """
    net, before = nn.Sequential(), channels
    for width, count in stages:
        for i in range(count):
            stride = 2 if i == 0 else 1
            conv = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
            layers: list[nn.Module] = [conv, nn.BatchNorm2d(width)]
            if len(net):
                layers.insert(0, nn.ReLU())
            net.extend([Shortcut(*layers)] if shortcut and i else layers)
            before = width
    head = [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10)]
    return net.extend(head)


@torch.no_grad()
def scale_to_fire(net: Unrolled, x: Tensor, deviation: float = 1.0) -> None:
    """Scale weights and bias of hidden layers, first to last, until currents have a deviation.

    Args:
        net: changed in place; without batch norm, which would undo it.
        x: images (B, C, H, W).
        deviation: standard deviation of the currents of a layer, in their units (thresholds where
            θ is 1), over images, neurons and steps: about 1 keeps neurons firing at every depth, as
            batch norm does.
    """
    weighted = [m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    for layer in weighted[:-1]:
        spread = float(_output(layer, net, x).std())
        if spread > 0:
            for parameter in layer.parameters():
                parameter.mul_(deviation / spread)


def _output(layer: nn.Module, net: nn.Module, x: Tensor) -> Tensor:
    """What a layer gives while the network sees some images."""
    seen: list[Tensor] = []
    hook = layer.register_forward_hook(lambda module, given, out: seen.append(out))
    try:
        net(x)
    finally:
        hook.remove()
    return seen[0]


def gradient_norms(net: nn.Module, x: Tensor, y: Tensor) -> list[float]:
    """Norm of ∂loss/∂W of every weighted layer, first to last, for the cross-entropy of a batch.

    Args:
        net: any network; its gradients are cleared.
        x: images (B, C, H, W).
        y: labels, int64 (B,).
    """
    net.zero_grad()
    nn.functional.cross_entropy(net(x), y).backward()
    weighted = [m for m in net.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    norms = [float(m.weight.grad.norm()) for m in weighted if m.weight.grad is not None]
    net.zero_grad()
    return norms
