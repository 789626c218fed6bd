"""An independent reference: spiking simulation written from the definitions, one neuron at a time.

Nothing of snnlib is used. Batch norm is not folded but applied to every step's current, so that its
offset is a bias current; convolutions run in float64; a neuron is plain Python arithmetic.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Rule:
    """What decides a spike: kind, thresholds as fractions of θ, levels, cap, reset."""

    kind: str
    v0: float = 0.5
    negative: float = 1.0
    levels: int = 1
    cap: float = math.inf
    reset: str = "subtract"

    def coefficient(self, v: float, n: int, theta: float) -> int:
        """Spike coefficient of a neuron with potential ``v`` before the reset and count ``n``."""
        if self.kind == "if":
            return 1 if v >= theta else 0
        if self.kind == "ternary":
            if v >= theta:
                return 1
            below = v < 0 if self.negative == 0 else v <= -self.negative * theta
            return -1 if below and n > 0 else 0
        c = 0
        if v >= theta:
            c = math.floor(v / theta)
        elif self.negative == 0:
            c = math.floor(v / theta) if v < 0 else 0
        elif v <= -self.negative * theta:
            c = -(math.floor(-v / theta - self.negative) + 1)
        c = int(max(-self.cap, min(self.cap, c)))
        return max(c, -n)


@dataclass
class Layer:
    """A layer of neurons: flat lists of potentials and counts."""

    rule: Rule
    theta: float
    bound: float | None = None
    potential: list[float] = field(default_factory=list)
    count: list[int] = field(default_factory=list)
    time: int = 0

    def step(self, current: np.ndarray) -> np.ndarray:
        """Coefficients of this step, shaped like the current."""
        self.time += 1
        if not self.potential:
            self.potential = [self.rule.v0 * self.theta] * current.size
            self.count = [0] * current.size
        sent = []
        for i, z in enumerate(current.reshape(-1).tolist()):
            v = self.potential[i] + z
            c = self.rule.coefficient(v, self.count[i], self.theta)
            if self.bound is not None:
                most = math.floor(self.bound * self.time / self.theta + self.rule.v0)
                c = min(c, most - self.count[i])
            if self.rule.reset == "zero":
                self.potential[i] = 0.0 if c else v
            else:
                self.potential[i] = v - c * self.theta
            self.count[i] += c
            sent.append(c)
        return np.array(sent, dtype=np.float64).reshape(current.shape)


class TestNet(nn.Module):
    """Everything that the book's networks hold, small: BN, max and average pooling, a residual sum.

    Biases everywhere, a bounded unit (ReLU6 scaled to 1), images 1 × 8 × 8, three classes.
    """

    __test__ = False

    def __init__(self, bounded: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu1 = nn.Hardtanh(0, 0.8) if bounded else nn.ReLU()
        self.maxpool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(4)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(4, 4, 3, padding=1)
        self.bn3 = nn.BatchNorm2d(4)
        self.relu3 = nn.ReLU()
        self.avgpool = nn.AvgPool2d(2)
        self.flatten = nn.Flatten()
        self.fc1 = nn.Linear(16, 12)
        self.relu4 = nn.ReLU()
        self.fc2 = nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 1, 8, 8) → (B, 3)."""
        x = self.maxpool(self.relu1(self.bn1(self.conv1(x))))
        y = self.relu2(self.bn2(self.conv2(x)))
        y = self.relu3(self.bn3(self.conv3(y)) + x)
        return self.fc2(self.relu4(self.fc1(self.flatten(self.avgpool(y)))))


def make(bounded: bool = False, seed: int = 0) -> TestNet:
    """A network in float64 with random weights and random batch-norm statistics."""
    generator = torch.Generator().manual_seed(seed)
    net = TestNet(bounded).double().eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                scale = 1.6 / math.sqrt(module.weight[0].numel())
                module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * scale)
                if module.bias is not None:
                    module.bias.copy_(torch.randn(module.bias.shape, generator=generator) * 0.2)
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.copy_(torch.randn(4, generator=generator) * 0.2)
                module.running_var.copy_(torch.rand(4, generator=generator) + 0.5)
                module.weight.copy_(torch.rand(4, generator=generator) + 0.7)
                module.bias.copy_(torch.randn(4, generator=generator) * 0.2)
    return net


def _bn(layer: nn.BatchNorm2d, z: np.ndarray) -> np.ndarray:
    mean, var, scale, shift = (
        value.detach().numpy()[:, None, None]
        for value in (layer.running_mean, layer.running_var, layer.weight, layer.bias)
    )
    return (z - mean) / np.sqrt(var + layer.eps) * scale + shift


def _conv(layer: nn.Conv2d, x: np.ndarray) -> np.ndarray:
    bias = None if layer.bias is None else layer.bias.detach()
    value = F.conv2d(torch.from_numpy(x)[None], layer.weight.detach(), bias, padding=1)
    return value[0].numpy()


def _linear(layer: nn.Linear, x: np.ndarray) -> np.ndarray:
    return layer.weight.detach().numpy() @ x + layer.bias.detach().numpy()


def _pool(x: np.ndarray, how: str) -> np.ndarray:
    windows = x.reshape(x.shape[0], x.shape[1] // 2, 2, x.shape[2] // 2, 2)
    return windows.max((2, 4)) if how == "max" else windows.mean((2, 4))


def simulate(
    net: TestNet, image: np.ndarray, rule: Rule, thresholds: dict[str, float], steps: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """One image in time.

    Args:
        net: the trained network.
        image: (1, 8, 8), the constant input current.
        rule: the neuron.
        thresholds: θ of each spiking layer.
        steps: number of time steps.

    Returns:
        The coefficients of every layer, (T, ...), and the mean input of the output, (T, 3).
    """
    bounds = {"relu1": getattr(net.relu1, "max_val", None)}
    layers = {name: Layer(rule, theta, bounds.get(name)) for name, theta in thresholds.items()}
    sent: dict[str, list[np.ndarray]] = {name: [] for name in layers}

    def fire(name: str, current: np.ndarray) -> np.ndarray:
        c = layers[name].step(current)
        sent[name].append(c)
        return c * thresholds[name]

    summed, pooled, total, logits = 0.0, 0.0, 0.0, []
    for t in range(1, steps + 1):
        summed = summed + fire("relu1", _bn(net.bn1, _conv(net.conv1, image)))
        largest = _pool(summed, "max")
        x, pooled = largest - pooled, largest
        y = fire("relu2", _bn(net.bn2, _conv(net.conv2, x)))
        y = fire("relu3", _bn(net.bn3, _conv(net.conv3, y)) + x)
        y = fire("relu4", _linear(net.fc1, _pool(y, "mean").reshape(-1)))
        total = total + _linear(net.fc2, y)
        logits.append(total / t)
    return {name: np.stack(values) for name, values in sent.items()}, np.stack(logits)
