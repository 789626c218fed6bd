"""`verify`: is the graph right, how far is each layer from its ANN, and which error is it?

Two questions, kept apart. The folded graph must compute what the original model computes, to
rounding: if not, the conversion is wrong, and `verify` raises. The spiking layers approach the
ANN's activations as steps grow; the report says how far each is after 1, 2, 4, … steps, and why.

With a the ANN's activation of a layer, z̄ = (1/t) Σ z the mean current its neurons received, and
r = θ N_t / t their mean output, the error r − a is the sum of four parts, neuron by neuron:

===========  =========================  =========================================================
part         formula                    what it is
===========  =========================  =========================================================
propagated   f(z̄) − a                   the layers before sent something else than the ANN's
clipping     min(f(z̄), κθ) − f(z̄)       more than a neuron can send: κ = 1 for IF and Ternary
rounding     Q(z̄) − min(f(z̄), κθ)       a count is a whole number
unevenness   r − Q(z̄)                   the rest: the current came in an order that a neuron
                                        could not follow (or a reset to zero threw some away)
===========  =========================  =========================================================

Here f is the layer's ReLU (bounded for ReLU6), κ the largest coefficient a step (no limit for
Augmented without cap) and Q(z̄) = (θ/t)·min(⌊t z̄/θ + v0⌋, κt) ≥ 0 what a neuron sends for the
same current in equal parts. So unevenness is zero in the first spiking layer under a constant
input, and everywhere for memoryless neurons. Chapters *Converting a network* and
*When a conversion goes wrong*.

Source: Bu et al., ICLR 2022 (clipping, quantization, unevenness); propagated is ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from snnlib._arguments import whole
from snnlib.backend.modes import own_mode
from snnlib.graph.check import graph_error
from snnlib.graph.errors import ConversionError
from snnlib.graph.graph import Graph
from snnlib.graph.network import Network
from snnlib.graph.operations import Node, rectify
from snnlib.simulation.reference import Stepper
from snnlib.simulation.run import distance, shares

PARTS = ("propagated", "clipping", "rounding", "unevenness")
_SATURATED = 0.01  # share of a channel's neurons that must be clipped


@dataclass(frozen=True)
class LayerReport:
    """One spiking layer; lists run along the compared numbers of steps.

    Attributes:
        name: of the layer.
        scale: root-mean-square activation of the ANN, to which `error` and `parts` are relative.
        error: root-mean-square of r − a.
        parts: root-mean-square of each part of the error, by name (`PARTS`).
        bias: mean of each part in the ANN's units, which add up to the mean of r − a.
        dead: channels that sent nothing in any image at the last number of steps.
        saturated: channels of which more than 1 % of the neurons (over images and positions)
            were to send more than they can: they are clipped.
        channels: how many there are.
    """

    name: str
    scale: float
    error: list[float]
    parts: dict[str, list[float]]
    bias: dict[str, list[float]]
    dead: list[int]
    saturated: list[int]
    channels: int


@dataclass(frozen=True)
class Verification:
    """What `verify` found; prints as two tables.

    Attributes:
        graph_error: largest difference between the logits of the folded ANN and the original
            model, relative to the largest logit; None if there is no original (a loaded network).
        steps: the numbers of steps at which the layers were compared.
        agreement: fraction of answers that are the ANN's, after each of ``steps`` (of a dense
            output, at every position); empty where the output is one value and has no classes,
            not a number before the first step that the network's read-out counts.
        output_error: root-mean-square error of the outputs, relative to the ANN's, likewise.
        layers: a `LayerReport` for every spiking layer.
        images: how many were looked at.
    """

    graph_error: float | None
    steps: tuple[int, ...]
    agreement: list[float]
    output_error: list[float]
    layers: list[LayerReport]
    images: int

    @property
    def layer_error(self) -> dict[str, list[float]]:
        """Relative root-mean-square error of every spiking layer, along ``steps``."""
        return {layer.name: layer.error for layer in self.layers}

    def __str__(self) -> str:
        error = "no original to compare" if self.graph_error is None else f"{self.graph_error:.1e}"
        first = [["", *(f"t={t}" for t in self.steps[-7:])]]
        second = [["", *PARTS, "dead", "saturated"]]
        for layer in self.layers:
            said = ("{:.4f}" if layer.scale else "–").format  # relative to what is zero: a dash
            first.append([layer.name, *map(said, layer.error[-7:])])
            cells = [said(layer.parts[part][-1]) for part in PARTS]
            cells += [f"{len(found)}/{layer.channels}" for found in (layer.dead, layer.saturated)]
            second.append([layer.name, *cells])
        if self.agreement:
            shares = (f"{share:.1%}".replace("nan%", "–") for share in self.agreement[-7:])
            first += [["agreement with ANN", *shares]]
        else:
            first += [["output", *(f"{e:.4f}".replace("nan", "–") for e in self.output_error[-7:])]]
        width = min(28, max(map(len, self.layer_error)))
        return "\n".join([
            f"folded ANN against original: {error} ({self.images} images)", "",
            "error of the mean output, relative to the ANN's activation",
            *(_row(row, max(18, width), 9) for row in first), "",
            f"its parts after {self.steps[-1]} steps", *(_row(row, width, 11) for row in second),
        ])  # fmt: skip


def _row(cells: Sequence[str], width: int, column: int) -> str:
    name, *rest = cells
    short = name if len(name) <= width else "…" + name[1 - width :]
    return (f"{short:<{width}}" + "".join(f"{cell:>{column}}" for cell in rest)).rstrip()


@own_mode()
def verify(
    net: Network, x: Tensor, original: nn.Module | None = None, *, steps: int = 64, batch: int = 32
) -> Verification:
    """Check a conversion on images, and say what kind of error each layer makes.

    Args:
        net: the spiking network; its read-out says how the answers are read.
        x: images as the network takes them, shape (B, ...).
        original: the model that it was converted from, in the dtype of ``net``; None: there is
            none to compare with.
        steps: look after 1, 2, 4, … steps, up to the largest power of two that this allows.
        batch: images looked at together.

    Raises:
        ConversionError: the folded graph does not compute what the original model computes, the
            images have the wrong shape, type or device, or the network is one of whole numbers.
        ValueError: steps or batch is not a whole number of at least 1, or steps leave no answer.
    """
    steps, batch = whole("steps", steps), whole("batch", batch)
    if net.whole is not None:
        raise ConversionError(
            "verify compares with the ANN in its own units: use net.source.verify(...) for the "
            "network that this one of whole numbers was made from"
        )
    ann = net.graph.without_corrections()
    wrong = None
    if original is not None:
        wrong = graph_error(ann, original, x, net.folded, batch)
    times = tuple(2**k for k in range(steps.bit_length()) if 2**k <= steps)
    readout = net.readout.check(times[-1])
    sums = {name: _Sums(net, name, times) for name in net.graph.spiking}
    found: list[tuple[Tensor, Tensor]] = []  # logits after ``times``, and the ANN's
    for part in x.split(batch):
        wanted, activations = _activations(ann, part)
        stepper, reader = Stepper(net, part), readout.reader()
        read = []
        for t in range(1, times[-1] + 1):
            stepper.step()
            answer = reader.read(stepper.total[None], t - 1)
            if t in times:
                read.append(answer)
                for name, total in sums.items():
                    total.add(activations[name], stepper)
        found.append((torch.cat(read), wanted))
    logits, outputs = torch.cat([f for f, _ in found], 1), torch.cat([w for _, w in found])
    same = shares(logits, outputs.argmax(1)).tolist() if outputs.shape[1] > 1 else []
    layers = [total.report() for total in sums.values()]
    return Verification(wrong, times, same, distance(logits, outputs).tolist(), layers, len(x))


def _activations(ann: Graph, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The ANN's output and the activation of every spiking layer."""
    seen: dict[str, Tensor] = {}

    def keep(node: Node, z: Tensor) -> Tensor:
        seen[node.name] = rectify(node, z)
        return seen[node.name]

    return ann.evaluate(x, activation=keep), seen


class _Sums:
    """Sums over the images of one layer's errors, from which its report is made."""

    def __init__(self, net: Network, name: str, times: tuple[int, ...]) -> None:
        self.node, self.neuron = net.graph.nodes[name], net.neurons[name]
        self.theta, self.times = net.thresholds[name].double(), times
        self.squares = torch.zeros(len(times), len(PARTS) + 1, dtype=torch.float64)  # and whole
        self.means = torch.zeros(len(times), len(PARTS), dtype=torch.float64)
        self.power, self.count = 0.0, 0
        channels = net.graph.shapes[name][0]
        self.sent = torch.zeros(channels, dtype=torch.float64)
        self.full = torch.zeros(channels, dtype=torch.float64)

    def add(self, activation: Tensor, stepper: Stepper) -> None:
        t, at, name = stepper.t, self.times.index(stepper.t), self.node.name
        a, count = activation.double(), stepper.states[name].count.double()
        errors = self._split(a, stepper.current[name].double() / t, count, t)
        whole = sum(errors, start=torch.zeros_like(a))
        for i, error in enumerate((*errors, whole)):
            self.squares[at, i] += float(error.square().sum())
        self.means[at] += torch.stack([error.sum() for error in errors]).cpu()
        if t == self.times[-1]:
            self.power += float(a.square().sum())
            self.count += a.numel()
            self.sent += count.transpose(0, 1).flatten(1).sum(1).cpu()
            _, clipping, _, _ = errors
            self.full += (clipping < 0).double().transpose(0, 1).flatten(1).sum(1).cpu()

    def _split(self, a: Tensor, z: Tensor, count: Tensor, t: int) -> tuple[Tensor, ...]:
        wanted, most = rectify(self.node, z), self.neuron.largest  # κ
        possible = wanted.minimum(self.theta * most)
        whole = torch.floor(z * t / self.theta + self.neuron.v0).clamp(0, most * t)
        if (bound := self.node.attrs.get("bound")) is not None:
            whole = whole.minimum(self.neuron.ceiling(bound, self.theta, t))
        even = whole * self.theta / t
        sent = count * self.theta / t
        return wanted - a, possible - wanted, even - possible, sent - even

    def report(self) -> LayerReport:
        scale = math.sqrt(self.power / self.count)
        relative = (self.squares / self.count).sqrt() / max(scale, 1e-30)
        *parts, error = relative.T.tolist()
        bias = (self.means / self.count).T.tolist()
        share = self.full * len(self.full) / self.count
        return LayerReport(
            name=self.node.name,
            scale=scale,
            error=error,
            parts=dict(zip(PARTS, parts, strict=True)),
            bias=dict(zip(PARTS, bias, strict=True)),
            dead=(self.sent == 0).nonzero().flatten().tolist(),
            saturated=(share > _SATURATED).nonzero().flatten().tolist(),
            channels=len(self.sent),
        )
