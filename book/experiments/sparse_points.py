"""What a sparse network is measured by: events, bits, operations, two energies, the ANN beside it.

One step of augmented spikes. *Bits* are the bound of `snnlib.learning.rounding.Bits`, a histogram a
layer. *Silent* neurons sent nothing for any of the counted images. The sparse ANN with zero
skipping stands beside: *ann* are the same trained weights without rounding; *rounded_energy_nj* is
the ANN that rounds as the spikes do. Both pool before they multiply, so an average of four messages
is one input to them and four events to the spiking network, whose *synops_share* of the dense
ANN's MACs may therefore pass 1. Losses are against the dense ANN, the book's network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import mean
from typing import TypedDict

import torch
from torch import Tensor

from book.experiments.frame import Labeled
from book.experiments.goals import Goal, goal
from book.experiments.measure import Interval, loss_intervals
from book.experiments.setting import Subject
from snnlib.graph.graph import Graph
from snnlib.graph.operations import Node, count_paths
from snnlib.learning.rounding import bits
from snnlib.learning.sparsity import Sparse
from snnlib.simulation import costs
from snnlib.simulation.network import SpikingNetwork
from snnlib.simulation.run import Trace
from snnlib.zoo.data import Split
from snnlib.zoo.evaluate import evaluate
from snnlib.zoo.training import accuracy

COUNTED_IMAGES, PART = 1000, 50
ALLOWED = 0.001  # accuracy that a network may lose on test images and still reach a goal
GOALS = {  # events and bits a neuron, at most
    "mnist-cnn": (0.05, 0.35),
    "fashion-cnn": (0.18, 1.0),
    "cifar10-vgg": (0.20, 1.1),
    "cifar10-resnet": (0.20, 1.1),
}


class LayerRow(TypedDict):
    """One layer, means an image."""

    name: str
    neurons: int
    active: float  # share that sends
    silent: float  # share that sent nothing for any of the counted images


class SparseAnn(TypedDict):
    """The same weights without rounding and without time, zeros skipped."""

    accuracy: float
    active: float
    macs_with_input: float
    energy_nj_per_image: float


class Point(Labeled):
    """One network that sends less; costs are of one step, an image."""

    images: str  # validation or test
    way: str  # free or trained
    levels: int
    dense_accuracy: float  # of the book's network
    accuracy: float
    loss_interval: Interval  # fractions
    events_per_neuron: float
    bits_per_neuron: float
    where_bits: float  # of them, whether anything is sent
    counted: int  # images whose bits and silent neurons were counted
    synops_per_image: float
    synops_share: float  # of the dense ANN's MACs
    energy_nj_per_image: float
    literature_energy_nj_per_image: float
    rounded_energy_nj: float
    ann_energy_nj: float  # of the dense ANN
    layers: list[LayerRow]


def point(model: Sparse, label: str, images: str, way: str, subject: Subject) -> Point:
    """One network on all validation or test images.

    Args:
        model: in evaluation mode.
        label: as tables call it.
        images: validation or test.
        way: free or trained.
        subject: the network that it was made from.
    """
    split = subject.test if images == "test" else subject.validation
    net = model.spiking(subject.calibration[:8])
    found = evaluate(net, subject.ann, split, 1)
    assert found.synops is not None
    assert found.events is not None
    synops, (total,) = found.synops, found.synops.total.tolist()
    images_counted = split[:COUNTED_IMAGES]
    where, least, layers, useful = counted(net, model.names, images_counted)
    neurons = sum(net.sizes.values())
    return {
        "model": subject.name,
        "label": label,
        "n": found.n,
        "images": images,
        "way": way,
        "levels": model.neuron.levels,
        "dense_accuracy": found.ann_accuracy,
        "accuracy": found.accuracy[0],
        "loss_interval": loss_intervals(found.answers, found.ann_answers, split.labels)[0],
        "events_per_neuron": found.events[0] / neurons,
        "bits_per_neuron": least,
        "where_bits": where,
        "counted": len(images_counted),
        "synops_per_image": total,
        "synops_share": total / synops.ann_macs,
        "energy_nj_per_image": float(synops.energy()[0]),
        "literature_energy_nj_per_image": float(synops.literature_energy[0]),
        "rounded_energy_nj": (synops.macs_first_layer + useful) * costs.MAC_PICOJOULE / 1000,
        "ann_energy_nj": synops.ann_energy,
        "layers": layers,
    }


def counted(
    net: SpikingNetwork, names: list[str], split: Split
) -> tuple[float, float, list[LayerRow], float]:
    """Bits a neuron for whether anything is sent, and in all; layers; MACs an image that see it.

    Args:
        net: the spiking network.
        names: of its layers, as the book calls them.
        split: images to count.
    """
    tables: dict[str, Tensor] = {}
    seen: dict[str, Tensor] = {}
    useful = 0.0
    for start in range(0, len(split), PART):
        x = split[start : start + PART].floats().to(net.device)
        traces = net(x, 1, record=tuple(net.graph.spiking)).trace
        useful += macs_with_input(net.graph, x, partial(_sent, traces))
        for name, trace in traces.items():
            sent = trace.coefficient[0].long()
            table = torch.bincount(sent.flatten(), minlength=len(tables.get(name, ())))
            if name in tables:
                table[: len(tables[name])] += tables[name]
            tables[name] = table
            seen[name] = seen.get(name, torch.zeros_like(sent[0])) + (sent > 0).sum(0)
    found = {name: bits(table) for name, table in tables.items()}
    neurons = sum(net.sizes.values())
    where, total = (
        sum(getattr(found[name], part) * size for name, size in net.sizes.items()) / neurons
        for part in ("where", "total")
    )
    layers: list[LayerRow] = [
        {
            "name": own,
            "neurons": size,
            "active": found[name].active,
            "silent": float((seen[name] == 0).double().mean()),
        }
        for own, (name, size) in zip(names, net.sizes.items(), strict=True)
    ]
    return where, total, layers, useful / len(split)


def _sent(traces: Mapping[str, Trace], node: Node, z: Tensor) -> Tensor:
    """What a layer sent in one step, in thresholds: it is zero where messages are."""
    return traces[node.name].coefficient[0]


def sparse_ann(model: Sparse, split: Split, subject: Subject) -> SparseAnn:
    """The network that rounds nothing: its accuracy, and what skipping its zeros leaves.

    Args:
        model: one that was trained: biases of dead zones stand for what rounding takes away.
        split: images; the first are counted.
        subject: the network that it was made from.
    """
    graph = model.spiking(subject.calibration[:8]).graph
    active, useful, images = 0, 0.0, split[:COUNTED_IMAGES]

    def watched(node: Node, z: Tensor) -> Tensor:
        nonlocal active
        active += int((z > 0).sum())
        return z.clamp_min(0)

    for start in range(0, len(images), PART):
        x = images[start : start + PART].floats().to(subject.device)
        useful += macs_with_input(graph, x, watched)
    macs = costs.macs(graph, analog_only=True) + useful / len(images)
    neurons = sum(math.prod(graph.shapes[name]) for name in graph.spiking)
    return {
        "accuracy": accuracy(model.dense(), split),
        "active": active / len(images) / neurons,
        "macs_with_input": macs,
        "energy_nj_per_image": macs * costs.MAC_PICOJOULE / 1000,
    }


def macs_with_input(graph: Graph, x: Tensor, activation: Callable[[Node, Tensor], Tensor]) -> float:
    """MACs after the first layer whose input is not zero, summed over images.

    Args:
        graph: the network.
        x: images, shape (B, ...).
        activation: what a spiking node sends for its input.
    """
    changing = graph.dynamic(constant_input=True)
    reading = [n for n in graph if n.kind == "weighted" and n.inputs[0] in changing]
    busy: dict[str, Tensor] = {}  # how many images have a value there, by what is read
    read = {node.inputs[0] for node in reading}

    def visit(node: Node, value: Tensor) -> None:
        if node.name in read:
            busy[node.name] = (value != 0).sum(0, dtype=torch.float64, keepdim=True).cpu()

    with torch.no_grad():
        graph.evaluate(x, activation, visit)
        return sum(float(count_paths(n, [busy[n.inputs[0]]]).sum()) for n in reading)


def goals(rows: Sequence[Point]) -> list[Goal]:
    """The least events and bits of trained networks that lose little, beside what was asked.

    Each number is a mean over the seeds of a choice; None where every choice lost more.

    Args:
        rows: what was chosen on validation images, on test images.
    """
    found: list[Goal] = []
    for network, limits in GOALS.items():
        chosen: dict[str, list[Point]] = {}
        for row in rows:
            if row["model"] == network and row["way"] == "trained":
                chosen.setdefault(row["label"], []).append(row)
        close = [
            same for same in chosen.values()
            if mean(row["dense_accuracy"] - row["accuracy"] for row in same) <= ALLOWED + 1e-9
        ]  # fmt: skip
        costs = {
            "events": [mean(row["events_per_neuron"] for row in same) for same in close],
            "bits": [mean(row["bits_per_neuron"] for row in same) for same in close],
        }
        for (what, own), most in zip(costs.items(), limits, strict=True):
            if chosen:
                name = f"{what} a neuron of {network} at 0.1 points"
                found.append(goal(name, min(own, default=None), at_most=most))
    return found
