"""Rate Norm Layer and rate inference loss: a ReLU whose output is a rate, made to arrive soon.

Source: Ding, Yu, Tian and Huang, *Optimal ANN-SNN Conversion for Fast and Accurate Inference in
Deep Spiking Neural Networks*, IJCAI 2021.

The layer divides by a threshold that is a trained share p of the largest activation m::

    r = clip(z / θ, 0, 1)            θ = p · m,  p = sigmoid(α)            (B, ...)
    m ← 0.9 m + 0.1 · max(z)         while training

A rate is what an integrate-and-fire neuron of threshold θ sends, so it takes the layer's place and
no weight is rescaled (`spiking`). How late its rate arrives is bounded by a number that falls as
rates go to 0 and 1; the second stage trains α alone, all weights fixed::

    Ω_l = Σ r_l / Σ r_l²             an image and layer, ≥ 1, 1 only for rates of 0 and 1
    loss = 1 − cos(y, ŷ) + Λ · mean Ω

The paper's: the layer, Ω, the loss, one α a layer. Ours: ŷ comes from a frozen copy of the network
(in the released code y and ŷ are of the same network, so that term has no gradient); `from_relu`,
which begins with a trained ReLU network instead of a training from scratch, whose first threshold
clips as little as one asks for. A layer made from a ReLU multiplies the rate by the first θ
(``unit``), so that the network computes what it did: a rate of 1 stands for that many units of the
ANN, also after θ has moved. A lower θ then makes the layer louder, not only clipped. Chapter
*Learning for conversion* proves that neurons arrive at the rates and says what Ω measures.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from snnlib._arguments import real
from snnlib.conversion.balance import Max
from snnlib.conversion.convert import convert
from snnlib.neurons import IF
from snnlib.simulation.network import SpikingNetwork

_MEMORY = 0.9  # of the running maximum, a batch


class RateNorm(nn.Module):
    """clip(z / θ, 0, 1) with a trained θ = sigmoid(α) · m.

    Args:
        share: p at first, strictly between 0 and 1.
        largest: m at first; 0: the first batch says.
        unit: what a rate of 1 is worth to the next layer.
        dtype: of all three; default: PyTorch's.

    Attributes:
        alpha: α, shape ().
        largest: m, shape ().

    Raises:
        ValueError: ``share`` is not strictly between 0 and 1.
    """

    largest: Tensor
    unit: Tensor

    def __init__(
        self, share: float = 0.95, largest: float = 0.0, unit: float = 1.0,
        dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if not 0 < share < 1:
            raise ValueError(f"RateNorm: share={share} must lie strictly between 0 and 1")
        self.alpha = nn.Parameter(torch.tensor(math.log(share / (1 - share)), dtype=dtype))
        self.register_buffer("largest", torch.tensor(float(largest), dtype=dtype))
        self.register_buffer("unit", torch.tensor(float(unit), dtype=dtype))
        self.look: Callable[[Tensor], None] | None = None  # shown the rates

    def threshold(self) -> Tensor:
        """θ, shape (); 1 before anything was above 0, when no rate is."""
        return torch.where(self.largest > 0, torch.sigmoid(self.alpha) * self.largest, 1.0)

    def forward(self, z: Tensor) -> Tensor:
        """Rates (times ``unit``), the shape of z."""
        if self.training:
            with torch.no_grad():
                top = z.amax().clamp_min(0)
                first = self.largest == 0
                kept = torch.where(first, top, _MEMORY * self.largest + (1 - _MEMORY) * top)
                self.largest.copy_(kept)
        rate = torch.clamp(z / self.threshold(), 0, 1)
        if self.look is not None:
            self.look(rate)
        return rate * self.unit

    def extra_repr(self) -> str:
        return f"theta={float(self.threshold().detach()):.4g}, unit={float(self.unit):.4g}"


class Tuned(TypedDict):
    """What tuning the thresholds left: before, after each tenth of the steps, and at the end."""

    step: int
    omega: float  # mean over layers and images of a batch
    apart: float  # 1 − cos(y, ŷ)
    shares: list[float]  # p of every layer


def layers_of(model: nn.Module) -> list[RateNorm]:
    """The rate norm layers of a network, in order."""
    return [module for module in model.modules() if isinstance(module, RateNorm)]


def from_relu(
    ann: nn.Module, images: Tensor, share: float = 0.95, batch: int = 200, quantile: float = 1.0
) -> nn.Module:
    """A copy of a trained network with a `RateNorm` in the place of every ReLU.

    Args:
        ann: in evaluation mode.
        images: training images, shape (N, C, H, W), on which activations are measured.
        share: p at first.
        batch: images at a time.
        quantile: θ at first is this quantile of the activations (zeros included), the mean over
            batches; 1: the maximum over all.

    Raises:
        ValueError: there is no ReLU, ``share`` is not strictly between 0 and 1, ``quantile`` is not
            above 0 and at most 1, or there are no images.

    Example:
        >>> ann = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
        >>> x = torch.rand(50, 4)
        >>> net = from_relu(ann, x)
        >>> bool(layers_of(net)[0].threshold() > 0)
        True
    """
    real("from_relu: quantile", quantile, 0.0, 1.0, above=True)
    if not len(images):
        raise ValueError("from_relu: there are no images to measure activations on")
    made = copy.deepcopy(ann).eval()
    everywhere = list(made.named_modules(remove_duplicate=False))
    names = [name for name, m in everywhere if isinstance(m, nn.ReLU)]
    if not names:
        raise ValueError("from_relu: the network has no nn.ReLU to replace")
    relus = [(name, nn.ReLU()) for name in names]  # one in two places becomes two
    for name, module in relus:
        made.set_submodule(name, module)
    tops = _tops(made, [module for _, module in relus], images, batch, quantile)
    for (name, _), (top, dtype) in zip(relus, tops, strict=True):
        made.set_submodule(name, RateNorm(share, top / share, top, dtype))
    return made.to(images.device).eval()


@torch.no_grad()
def _tops(
    model: nn.Module, relus: list[nn.Module], images: Tensor, batch: int, quantile: float
) -> list[tuple[float, torch.dtype]]:
    """A quantile of every ReLU's output, and its dtype."""
    found: list[list[Tensor]] = [[] for _ in relus]

    def watch(values: list[Tensor]) -> Callable[[nn.Module, object, Tensor], None]:
        def look(module: nn.Module, given: object, out: Tensor) -> None:
            k = max(1, math.ceil(quantile * out.numel()))
            values.append(out.flatten().kthvalue(k).values)

        return look

    hooks = [m.register_forward_hook(watch(v)) for m, v in zip(relus, found, strict=True)]
    for part in images.split(batch):
        model(part)
    for hook in hooks:
        hook.remove()
    tops = [float(torch.stack(v).amax() if quantile == 1 else torch.stack(v).mean()) for v in found]
    return [(top if top > 0 else 1.0, v[0].dtype) for top, v in zip(tops, found, strict=True)]


def omega(rate: Tensor) -> Tensor:
    """Ω of some rates, an image: Σ r / Σ r², shape (B,); 1 where nothing fires."""
    r = rate.flatten(1)
    return torch.where(r.amax(1) > 0, r.sum(1) / r.square().sum(1).clamp_min(1e-12), 1.0)


def answers_and_omega(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (B, classes), and Ω as a mean over layers and images, shape ()."""
    found: list[Tensor] = []
    layers = layers_of(model)
    for layer in layers:
        layer.look = lambda rate: found.append(omega(rate).mean())
    try:
        logits = model(x)
    finally:
        for layer in layers:
            layer.look = None
    return logits, torch.stack(found).mean()


def tune(
    model: nn.Module,
    images: Tensor,
    weight: float = 0.5,
    steps: int = 400,
    rate: float = 0.05,
    batch: int = 100,
    seed: int = 0,
    progress: bool = False,
) -> list[Tuned]:
    """The second stage: train the thresholds alone, in place, on 1 − cos + Λ Ω.

    Args:
        model: with `RateNorm` layers; weights, batch norm and m stay as they are.
        images: training images, shape (N, C, H, W); no labels are needed.
        weight: Λ.
        steps: of Adam.
        rate: of Adam, for α. α sits where a sigmoid is flat, so it needs many steps or a high rate.
        batch: images a step.
        seed: of their order.
        progress: show a progress bar.
    """
    model.eval()
    teacher = copy.deepcopy(model)
    layers = layers_of(model)
    alphas = [layer.alpha for layer in layers]
    adam = torch.optim.Adam(alphas, lr=rate)
    generator = torch.Generator().manual_seed(seed)
    history: list[Tuned] = []
    with _alone(model, alphas):
        for step in tqdm(range(steps + 1), desc="thresholds", disable=not progress, leave=False):
            chosen = torch.randint(len(images), (batch,), generator=generator)
            x = images[chosen.to(images.device)]
            logits, late = answers_and_omega(model, x)
            with torch.no_grad():
                wanted = teacher(x)
            apart = (1 - F.cosine_similarity(logits, wanted, dim=1)).mean()
            if step % max(1, steps // 10) == 0:
                shares = [float(torch.sigmoid(a.detach())) for a in alphas]
                found = Tuned(step=step, omega=late.item(), apart=apart.item(), shares=shares)
                history.append(found)
            if step < steps:
                adam.zero_grad()
                (apart + weight * late).backward()
                adam.step()
    return history


@contextmanager
def _alone(model: nn.Module, learning: list[nn.Parameter]) -> Iterator[None]:
    """These parameters learn, and no other; at the end all are as they were."""
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    for parameter, _ in before:
        parameter.requires_grad_(False)
    for parameter in learning:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter, learned in before:
            parameter.requires_grad_(learned)


def spiking(model: nn.Module, images: Tensor, v0: float = 0.0) -> SpikingNetwork:
    """The network with an IF neuron of threshold θ in the place of every `RateNorm`.

    Args:
        model: in evaluation mode; it converts as it is, since it computes clamp(z / θ, 0, 1).
        images: a few, shape (N, C, H, W): the graph is checked on them.
        v0: initial potential, a fraction of θ.
    """
    net = convert(model, images, IF(v0=v0), balance=Max())
    one = {name: torch.ones_like(value) for name, value in net.balanced.items()}
    return net.replace(balanced=one)  # the largest rate, whatever these images reach
