"""`verify`: is the graph right, and how far is the spiking network from its ANN, layer by layer?

Two questions, kept apart. The folded graph must compute what the original model computes, to
rounding: if not, the conversion is wrong, and `verify` raises. The spiking layers approach the
ANN's activations as steps grow: the report says how far each is after 1, 2, 4, … steps. Chapter
*Converting a network*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from snnlib.coding import Constant
from snnlib.graph import Node, rectify

if TYPE_CHECKING:
    from snnlib.simulator import SpikingNetwork


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Attributes:
        graph_error: largest difference between the logits of the folded ANN and the original
            model, relative to the largest logit; None if there is no original (a loaded network).
        steps: the numbers of steps at which the layers were compared.
        layer_error: per spiking layer, the root-mean-square difference between its mean output
            and the ANN's activation after each of ``steps``, relative to the ANN's
            root-mean-square activation.
        agreement: fraction of images answered as the ANN does, after each of ``steps``.
    """

    graph_error: float | None
    steps: tuple[int, ...]
    layer_error: dict[str, list[float]]
    agreement: list[float]

    def __str__(self) -> str:
        width = max(len(name) for name in (*self.layer_error, "agreement with ANN"))
        error = "no original to compare" if self.graph_error is None else f"{self.graph_error:.1e}"
        lines = [f"folded ANN against original: {error}", "relative error of the mean output"]
        lines.append(" " * width + "".join(f"{f't={t}':>9}" for t in self.steps))
        for name, errors in self.layer_error.items():
            lines.append(f"{name:<{width}}" + "".join(f"{e:9.4f}" for e in errors))
        shares = "".join(f"{share:9.1%}" for share in self.agreement)
        lines.append(f"{'agreement with ANN':<{width}}" + shares)
        return "\n".join(lines)


def verify(net: SpikingNetwork, x: Tensor, steps: int = 64) -> Verification:
    """Check a conversion on images.

    Args:
        net: the spiking network.
        x: images, shape (B, ...).
        steps: the largest number of time steps to look at.

    Raises:
        ConversionError: the folded graph does not compute what the original model computes.
    """
    from snnlib.convert import graph_error
    from snnlib.simulator import Simulation

    wrong = None if net.reference is None else graph_error(net.graph, net.reference, x)
    activations: dict[str, Tensor] = {}

    def keep(node: Node, z: Tensor) -> Tensor:
        activations[node.name] = rectify(node, z)
        return activations[node.name]

    if steps < 1:
        raise ValueError(f"steps={steps!r} must be a whole number of at least 1")
    times = tuple(2**k for k in range(steps.bit_length()) if 2**k <= steps)
    with torch.no_grad():
        answers = net.graph.evaluate(x, activation=keep).argmax(1)
        simulation = Simulation(net, x, Constant(), 0, None)
        errors: dict[str, list[float]] = {name: [] for name in activations}
        agreement = []
        for t in range(1, times[-1] + 1):
            total = simulation.step()
            if t not in times:
                continue
            agreement.append(float((total.argmax(1) == answers).double().mean()))
            for name, activation in activations.items():
                mean = simulation.states[name].count * net.thresholds[name] / t
                scale = activation.double().square().mean().sqrt().clamp_min(1e-30)
                difference = (mean - activation).double().square().mean().sqrt()
                errors[name].append(float(difference / scale))
    return Verification(wrong, times, errors, agreement)
