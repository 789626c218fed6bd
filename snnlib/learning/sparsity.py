"""Below the density of the ANN: a network is trained to send less, at its spiking thresholds.

A neuron that sends nothing costs nothing. A `Sparse` network rounds its activations as the
converted one does in one step, so training acts on the very events (`snnlib.learning.rounding`)::

    loss = task + Σ_l μ_l P_l               P_l: count, Hoyer or L1 of a layer
    task = cross-entropy, and divergence from the answers of the dense network

D_l is the share of a layer's neurons that send. w within a layer, and s over layers, are in
proportion to neurons (*events*), or to fan-outs (*synops*: Σ s D is events × fan-out). μ_l is a
fixed strength times s_l that rises slowly, or a Lagrange multiplier that climbs while more is sent
than a target d allows, of all layers together or of each::

    μ_l ← max(0, μ_l + η s_l (Σ s D − d))   or   max(0, μ_l + η (D_l − d_l))

The constraint is on events as they are; its gradient is that of P.

Sources: rounding in training and the operations of spikes in the loss, Sorbaro et al., Frontiers in
Neuroscience 14, 2020; targets by multipliers, Gallego-Posada et al., NeurIPS 2022 (for weights);
distillation, Hinton et al., 2015. Ours: thresholds, fan-outs and targets of a converted network.
Chapter *Sparser than the network you started from* walks the whole path.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnlib.conversion.balance import Max
from snnlib.conversion.convert import convert
from snnlib.learning.rounding import HALF, DeadZone, Penalty, Rounded, check_penalty
from snnlib.neurons import Augmented
from snnlib.simulation.network import SpikingNetwork
from snnlib.zoo import checkpoints, models

_TEMPERATURE = 2.0  # of the answers by which student and teacher are compared


class _Shifted(nn.Module):
    """A ReLU behind a bias of its own."""

    shift: Tensor

    def __init__(self, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("shift", shift)

    def forward(self, z: Tensor) -> Tensor:
        return F.relu(z + self.shift)


class Answering(nn.Module):
    """A network whose logits are shifted."""

    def __init__(self, body: nn.Module, shift: Tensor) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("shift", shift)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.body(x) + self.shift)


class Sparse(nn.Module):
    """A trained network that rounds as its converted one does, and can be trained to send less.

    Args:
        ann: the network that ``net`` was converted from, in evaluation mode; it is copied.
        net: the converted network: its thresholds, fan-outs and neuron are used.
        penalty: P, ``"count"``, ``"hoyer"`` or ``"l1"``; None: none.
        of: what counts: ``"events"``, or ``"synops"``, events × fan-out.
        rounding: round while training; else only `spiking` does.

    Attributes:
        names: the layers, in order.
        shares: s, what of all counts lies in each layer, shape (L,).
        multipliers: μ of each layer, shape (L,).

    Raises:
        ValueError: ``net`` is not of augmented neurons that round (negative 0, v0 ½, no cap); or a
            spiking layer is no nn.ReLU of ``ann``; or there is no such penalty or count.

    Example:
        >>> ann = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
        >>> x = torch.rand(50, 4)
        >>> net = convert(ann, x, Augmented(levels=4, negative=0.0))
        >>> sparse = Sparse(ann, net).eval()
        >>> torch.allclose(sparse(x), net(x, steps=1).logits[0], atol=1e-5)
        True
    """

    shares: Tensor
    multipliers: Tensor
    steps: Tensor
    start: Tensor
    answer: Tensor

    def __init__(
        self, ann: nn.Module, net: SpikingNetwork, penalty: Penalty | None = "count",
        of: Literal["events", "synops"] = "events", rounding: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        check_penalty(penalty)
        if of not in ("events", "synops"):
            raise ValueError(f"Sparse: of={of!r} must be events or synops")
        neuron = net.neuron
        if not (isinstance(neuron, Augmented) and neuron.memoryless and neuron.v0 == HALF):
            raise ValueError(
                f"Sparse: {neuron!r} does not round in one step: convert with "
                "Augmented(levels, negative=0.0, v0=0.5)"
            )
        self.neuron, self.names = neuron, list(net.graph.spiking)
        self.body = copy.deepcopy(ann)
        totals = []
        for name in self.names:
            if not isinstance(dict(self.body.named_modules()).get(name), nn.ReLU):
                raise ValueError(f"Sparse: spiking layer {name} is no nn.ReLU of the network")
            fan_out, size = net.fan_outs[name].to(net.dtype), net.sizes[name]
            if of == "synops":
                total = fan_out.sum()
                weight = fan_out / total
            else:
                total, weight = fan_out.new_tensor(size), fan_out.new_tensor(1 / size)
            totals.append(total)
            layer = Rounded(net.thresholds[name], weight, fan_out.shape, penalty, rounding)
            self.body.set_submodule(name, layer)
        counts = torch.stack(totals)
        self.register_buffer("shares", counts / counts.sum())
        self.register_buffer("multipliers", torch.zeros_like(counts))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64, device=counts.device))
        self.register_buffer("start", torch.zeros_like(counts))  # active shares at first
        logits = net.graph.shapes[net.graph.output]
        self.register_buffer("answer", counts.new_zeros(logits))

    @property
    def layers(self) -> list[Rounded]:
        """The layers that round, in order."""
        return [cast(Rounded, self.body.get_submodule(name)) for name in self.names]

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) → logits (B, classes)."""
        return cast(Tensor, self.body(x) + self.answer)

    def watched(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits; P and the share of active neurons of every layer, shapes (L,)."""
        found: list[tuple[Tensor, Tensor]] = []
        for layer in self.layers:
            layer.look = lambda value, active: found.append((value, active))
        try:
            logits = self(x)
        finally:
            for layer in self.layers:
                layer.look = None
        values, active = zip(*found, strict=True)
        return logits, torch.stack(values), torch.stack(active)

    def dense(self) -> nn.Module:
        """The same weights with ReLUs that round nothing, in evaluation mode; a copy."""
        made = copy.deepcopy(self.body)
        for name, layer in zip(self.names, self.layers, strict=True):
            moved = bool(layer.shift.any())
            made.set_submodule(name, _Shifted(layer.shift.clone()) if moved else nn.ReLU())
        if bool(self.answer.any()):
            made = Answering(made, self.answer.clone())
        return made.eval()

    def spiking(self, images: Tensor) -> SpikingNetwork:
        """The spiking network, with the thresholds that it was trained at.

        Args:
            images: a few, shape (N, C, H, W): the graph is checked on them.
        """
        net = convert(self.dense(), images, self.neuron, balance=Max())
        layers = dict(zip(net.graph.spiking, self.layers, strict=True))  # in the same order
        balanced = {name: layer.theta * self.neuron.levels for name, layer in layers.items()}
        zones = {
            name: DeadZone(self.neuron.levels, 0.0, zone=layer.zone)
            if bool((layer.zone > HALF).any())
            else self.neuron
            for name, layer in layers.items()
        }
        same = all(neuron is self.neuron for neuron in zones.values())
        return net.replace(balanced=balanced, neuron=self.neuron if same else zones)


def restored(path: str | Path, images: Tensor) -> SpikingNetwork:
    """A sparse network of the book from its file, at the thresholds that it was trained at.

    Args:
        path: a checkpoint whose record has ``thresholds``, θ by the name of a layer.
        images: a few, shape (N, C, H, W): the graph is checked on them.

    Raises:
        CheckpointError: no such file, a damaged one, or one without thresholds.
    """
    _, record = checkpoints.read(path)
    if "thresholds" not in record:
        raise checkpoints.CheckpointError(
            f"{path} has no thresholds: load it with snnlib.models.load and convert it"
        )
    ann = models.load(record["architecture"], path)
    net = convert(ann, images, Augmented(levels=1, negative=0.0), balance=Max())
    thetas = [images.new_tensor(theta) for theta in record["thresholds"].values()]
    return net.replace(balanced=dict(zip(net.graph.spiking, thetas, strict=True)))


@dataclass(frozen=True)
class Objective:
    """The loss of a `Sparse`, for `snnlib.learning.loop.fit`.

    A call in training mode is a step: it counts, and moves the multipliers. All that it changes is
    in the network's buffers, so an interrupted training goes on as it was.

    Attributes:
        teacher: whose answers are to be met, in evaluation mode; None: labels alone.
        strength: of the penalty, where there is no target.
        target: largest share of what counts (`Sparse.shares`) that may be active, of all layers or
            of each; None: none.
        climb: η, of the multipliers, a step.
        ramp: steps in which strength, or target from where the network was, is reached.
        distillation: share of the teacher in the task; the rest is cross-entropy.
        prepare: what becomes of images (B, C, H, W) before they are seen, given the step.
        since: strength that the network was trained with before, from which it rises.
    """

    teacher: nn.Module | None = None
    strength: float = 0.0
    target: float | Sequence[float] | None = None
    climb: float = 0.5
    ramp: int = 1
    distillation: float = 0.5
    prepare: Callable[[Tensor, int], Tensor] | None = None
    since: float = 0.0

    def __call__(self, network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        assert isinstance(network, Sparse)
        step = int(network.steps)
        x = x if self.prepare is None else self.prepare(x, step)
        logits, values, active = network.watched(x)
        risen = min(1.0, (step + 1) / self.ramp)
        if network.training:
            self._move(network, active, risen)
        pressure = network.multipliers
        if self.target is None:
            pressure = (self.since + (self.strength - self.since) * risen) * network.shares
        return self.task(logits, x, y) + (pressure * values).sum()

    def task(self, logits: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy and the divergence from the teacher's answers."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        loss = F.cross_entropy(logits, y)
        if self.teacher is None or not self.distillation:
            return loss
        with torch.no_grad():
            wanted = F.log_softmax(self.teacher(x).to(logits) / _TEMPERATURE, 1)
        softer = F.log_softmax(logits / _TEMPERATURE, 1)
        apart = F.kl_div(softer, wanted, reduction="batchmean", log_target=True)
        return torch.lerp(loss, apart * _TEMPERATURE**2, self.distillation)

    @torch.no_grad()
    def _move(self, network: Sparse, active: Tensor, risen: float) -> None:
        """Count the step, and let multipliers climb by how much more is active than may be."""
        active = active.to(network.start)
        if int(network.steps) == 0:
            network.start.copy_(active)
        network.steps.add_(1)
        if self.target is None:
            return
        above = active - torch.lerp(network.start, active.new_tensor(self.target), risen)
        if isinstance(self.target, float | int):
            above = network.shares * (network.shares * above).sum()
        network.multipliers.add_(self.climb * above).clamp_min_(0)
