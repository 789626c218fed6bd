"""Progressive tandem learning: count spikes forward, differentiate a ReLU layer backward.

Source: Wu, Xu, Han, Zhou, Zhang, Li and Tan, *Progressive Tandem Learning for Pattern Recognition
with Deep Spiking Neural Networks*, TPAMI 44(11), 2022 (online 2021; arXiv:2007.01204).

A trained ReLU network becomes spiking layer by layer; what is trained after each step is the
network that spikes so far. For a layer that spikes, with a(x) = its weighted sum, batch norm and
bias included, and s_t the messages (θ a spike) of the layer before, T steps::

    V_t = V_{t−1} + a(s_t) − θ n_t,  n_t = [V_{t−1} + a(s_t) ≥ θ]      (B, ...)
    forward     r = θ/T Σ_t n_t               the mean message, θ/T times the spike count
    backward    ∂r/∂· := ∂/∂· clip(a(r'), 0, θ)   r': the mean message of the layer before

The spike trains have no gradient: what is kept for the backward pass is that of the twin ReLU
network, whatever T is. Chapter *Learning for conversion* proves whose gradient it is: under
constant current, that of r averaged over initial potentials.

The paper's: spike counts forward with the gradient of a weight-sharing twin layer, one layer after
another, thresholds from a percentile of the trained network's activations.

Ours: constant input at every step, as everywhere in this book (the release injects the image at
step 1 and a bias of b/T a step); θ in the units of the network, so activations and rates meet
without the factor T at which the release dips; the gradient cut above θ, where no more spikes can
come (`cut`); an initial potential v0; layers that go on training after they were inserted
(`freeze=False`), or all inserted at once. Batch norm uses its trained statistics throughout, so it
is part of the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from snnlib._arguments import real, whole
from snnlib.learning.lif import LIF, run
from snnlib.zoo.models import Network

_NOT_IN_TIME = (nn.ReLU, nn.Dropout)  # dropout is off: it would be another mask every step
_MAXIMA = (
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d,
    nn.AdaptiveMaxPool3d,
)  # fmt: skip


class Tandem(nn.Module):
    """A trained chain of layers, the first of whose ReLU layers spike: images → logits.

    Its parameters are those of ``network``, which learns with it.

    Args:
        network: a chain of layers (`snnlib.models.create`, `load`); its ReLUs are top-level.
        thresholds: θ of every ReLU by its name, scalars or broadcastable to its values.
        steps: T.
        v0: initial potential, a fraction of θ.
        cut: no gradient where the twin lies above θ; else that of a ReLU.

    Raises:
        ValueError: no threshold above 0 for a ReLU, or no top-level ReLU; v0 or steps out of range.
    """

    count: Tensor

    def __init__(
        self, network: Network, thresholds: Mapping[str, Tensor], steps: int, v0: float = 0.5,
        cut: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.steps = whole("Tandem: steps", steps)
        self.neuron = LIF(v0=real("Tandem: v0", v0, 0.0, 1.0))
        self.cut, self.network = cut, network
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.names = [name for name, layer in network._modules.items() if type(layer) is nn.ReLU]
        everywhere = network.named_modules(remove_duplicate=False)  # one may stand in two places
        hidden = sum(isinstance(layer, nn.ReLU) for _, layer in everywhere)
        if not self.names or hidden != len(self.names):
            raise ValueError("Tandem: the network must be a chain of layers with ReLUs among them")
        if missing := [name for name in self.names if name not in thresholds]:
            raise ValueError(f"Tandem: there is no threshold for {', '.join(missing)}")
        for i, name in enumerate(self.names):
            self.register_buffer(f"theta{i}", torch.as_tensor(thresholds[name]).detach().clone())
        if low := [name for name, theta in self.thresholds.items() if not bool((theta > 0).all())]:
            raise ValueError(f"Tandem: the threshold of {', '.join(low)} is not above 0")
        self.sent: dict[str, Tensor] = {}  # spikes of the last pass: (T,) means over images

    def stages(self) -> list[list[nn.Module]]:
        """What stands before each ReLU, and after the last one."""
        found: list[list[nn.Module]] = [[]]
        for layer in self.network._modules.values():
            if isinstance(layer, nn.ReLU):
                found.append([])
            elif layer is not None and not isinstance(layer, _NOT_IN_TIME):
                found[-1].append(layer)
        return found

    @property
    def spiking(self) -> int:
        """How many ReLU layers spike, from the first on; begins with 0."""
        return int(self.count)

    @spiking.setter
    def spiking(self, count: int) -> None:
        self.count.fill_(count)

    @property
    def thresholds(self) -> dict[str, Tensor]:
        """θ of every ReLU by its name."""
        return {name: self.get_buffer(f"theta{i}") for i, name in enumerate(self.names)}

    def train(self, mode: bool = True) -> Tandem:
        """Batch norm and dropout stay as in evaluation: the same weights at every step."""
        super().train(mode)
        self.network.train(False)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, ...) → logits (B, classes), the mean over all steps."""
        return self.over_time(x)[0]

    def over_time(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The logits, and the last layer's values at every step without gradient, (T, B, classes).

        Where not all layers spike, the rest of the network sees the mean message.
        """
        self.sent = {}
        mean, trains = x, None  # the input is the same at every step
        *stages, last = self.stages()
        for i, (name, stage) in enumerate(zip(self.names, stages, strict=True)):
            twin = _through(stage, mean)
            if i >= self.spiking:
                mean, trains = torch.relu(twin), None
                continue
            trains, mean = self._spike(name, stage, twin, trains)
        logits = _through(last, mean)
        steps = logits.detach().expand(self.steps, *logits.shape)
        if trains is not None:
            with torch.no_grad():
                steps = _in_time(last, trains)
        return logits, steps

    def _spike(
        self, name: str, stage: list[nn.Module], twin: Tensor, trains: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Messages of a spiking layer at every step (T, B, ...), and their mean (B, ...)."""
        theta = self.thresholds[name].to(twin)
        with torch.no_grad():
            held = twin.detach()
            currents = held.expand(self.steps, *held.shape) if trains is None else _in_time(
                stage, trains
            )  # fmt: skip
            spikes = run(self.neuron, currents, theta)
            self.sent[name] = spikes.sum(tuple(range(2, spikes.ndim))).mean(1)
            messages = theta * spikes  # (T, B, ...)
            rate = messages.mean(0)
        smooth = torch.relu(twin)
        if self.cut:
            smooth = torch.minimum(smooth, theta)
        # The value of the rate, to the last bit, with the gradient of the twin.
        return messages, cast(Tensor, _Tandem.apply(smooth, rate))

    def insert(self, freeze: bool = False) -> str:
        """One ReLU layer more spikes; returns its name.

        Args:
            freeze: its weights learn no more, as in the paper's release for every layer after the
                first.

        Raises:
            ValueError: all layers spike already.
        """
        if self.spiking == len(self.names):
            raise ValueError("Tandem: all layers spike already")
        stage = self.stages()[self.spiking]
        self.spiking += 1
        for layer in stage if freeze else ():
            layer.requires_grad_(False)
        return self.names[self.spiking - 1]

    def spikes(self) -> float:
        """Spikes an image in the last pass, all layers and steps."""
        return sum(float(sent.sum()) for sent in self.sent.values())


class _Tandem(torch.autograd.Function):
    """The spiking layer's value, the twin's gradient."""

    @staticmethod
    def forward(ctx: object, twin: Tensor, rate: Tensor) -> Tensor:
        return rate.clone()

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def _through(stage: list[nn.Module], value: Tensor) -> Tensor:
    for layer in stage:
        value = layer(value)
    return value


def _in_time(stage: list[nn.Module], trains: Tensor) -> Tensor:
    """A stage on every step, one after another, which is easier on the cache: (T, B, ...).

    A max pooling sends by how much the largest of the summed messages has grown.
    """
    stage = [inner for layer in stage for inner in _flat(layer)]
    pools = [i for i, layer in enumerate(stage) if isinstance(layer, _MAXIMA)]
    if pools:
        before, pool, after = stage[: pools[0]], stage[pools[0]], stage[pools[0] + 1 :]
        largest = torch.stack([pool(summed) for summed in _in_time(before, trains).cumsum(0)])
        return _in_time(after, torch.cat([largest[:1], largest.diff(dim=0)]))
    return torch.stack([_through(stage, step) for step in trains])


def _flat(layer: nn.Module) -> list[nn.Module]:
    """The layers of a chain inside a chain."""
    if type(layer) is not nn.Sequential:
        return [layer]
    return [inner for child in layer for inner in _flat(child)]


def tandem(
    network: Network, thresholds: Mapping[str, Tensor], steps: int, v0: float = 0.5,
    cut: bool = True,
) -> Tandem:  # fmt: skip
    """A network all of whose ReLU layers spike, ready to train; arguments as for `Tandem`."""
    made = Tandem(network, thresholds, steps, v0, cut)
    made.spiking = len(made.names)
    return made
