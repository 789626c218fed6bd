"""``activity``: how much of an exact ANN is zero, and what skipping its zeros saves.

A ReLU is silent for every input that is not positive. Counted on validation images, for every
network: the share of neurons that are not, layer by layer and in all, and the multiply-accumulates
whose input is not zero. The latter is what an accelerator that skips zeros has to do, and the rival
that a spiking network is to be compared with (chapter *What does a spike cost?*). Nothing is
chosen here. Multiply-accumulates of the first layer, which sees pixels, are all counted: an image
is no sparse message.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypedDict, final

import torch
from torch import Tensor

from book.experiments.frame import Cell, Context, Experiment, Labeled
from book.experiments.setting import Setting
from snnlib.graph.graph import Graph
from snnlib.graph.operations import Node, count_paths
from snnlib.neurons import IF
from snnlib.simulation import costs
from snnlib.zoo import models
from snnlib.zoo.data import to_float

IMAGES, PART = 1000, 50


class Layer(TypedDict):
    """One ReLU layer."""

    name: str
    neurons: int
    active: float  # share of its neurons that are not zero, mean over the images


@final
class Activity(Labeled):
    """What is not zero in one network, means an image."""

    images: str
    neurons: int
    active: float  # share of all neurons
    layers: list[Layer]
    ann_macs: int
    macs_first_layer: int
    macs_with_input: float  # whose input is not zero; the first layer's all


def cells(network: str) -> list[Cell]:
    """One cell a network."""
    return [Cell(f"{network}/ann", partial(measure, network))]


def measure(network: str, context: Context) -> list[Activity]:
    """Count on the first validation images."""
    subject = context.subject(network)
    net = subject.convert(Setting(IF()))
    images = subject.validation[:IMAGES].images
    active = dict.fromkeys(net.sizes, 0.0)
    useful = 0.0
    for part in images.split(PART):
        found, work = count(net.graph, to_float(part).to(net.device))
        active = {name: active[name] + found[name] for name in active}
        useful += work
    first, n = costs.macs(net.graph, analog_only=True), len(images)
    neurons = sum(net.sizes.values())
    return [
        {
            "model": network,
            "label": "ANN",
            "n": n,
            "images": "validation",
            "neurons": neurons,
            "active": sum(active.values()) / n / neurons,
            "layers": [
                {"name": name, "neurons": size, "active": active[name] / n / size}
                for name, size in net.sizes.items()
            ],
            "ann_macs": costs.macs(net.graph),
            "macs_first_layer": first,
            "macs_with_input": first + useful / n,
        }
    ]


def count(
    graph: Graph, x: Tensor, activation: Callable[[Node, Tensor], Tensor] | None = None
) -> tuple[dict[str, float], float]:
    """Sums over images: active neurons of every ReLU layer, MACs whose input is not zero.

    Args:
        graph: the network.
        x: images, shape (B, ...).
        activation: of the ReLU layers; None: their own.

    Returns:
        Active neurons by layer; the MACs after the first layer.
    """
    changing = graph.dynamic(constant_input=True)
    read = {n.inputs[0] for n in graph if n.kind == "weighted" and n.inputs[0] in changing}
    active: dict[str, float] = {}
    busy: dict[str, Tensor] = {}  # how many images have a value there, by what is read

    def visit(node: Node, value: Tensor) -> None:
        if node.kind == "spiking":
            active[node.name] = float((value > 0).sum())
        if node.name in read:
            busy[node.name] = (value != 0).sum(0, dtype=torch.float64, keepdim=True).cpu()

    with torch.no_grad():
        graph.evaluate(x, activation=activation, visit=visit)
        work = sum(
            float(count_paths(node, [busy[node.inputs[0]]]).sum())
            for node in graph
            if node.kind == "weighted" and node.inputs[0] in read
        )
    return active, work


EXPERIMENT = Experiment(
    name="activity",
    summary="share of an exact ANN's neurons that are not zero, and of its MACs that see them",
    networks=models.NAMES,
    cells=cells,
)
