"""``robustness``: accuracy under noise on the input, on the weights, and under lost spikes.

The ANN stands beside each spiking network under the same disturbance: the same noisy images, the
same noisy weights, and for lost spikes activations that are lost as often. Nothing is adapted:
thresholds stay as they were balanced on clean images. Random numbers come from seeded generators on
the CPU, so both networks, and every device, see the same draws of noise. Chapter *CIFAR-10* reads
the results.

Images are the first 1,000 test images; settings are fixed beforehand. Of slow networks IF and
TerMapping run in bfloat16 with float32 potentials, their ANN in bfloat16 too (field ``dtype``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple, NotRequired, TypedDict

import torch
from torch import Tensor

from book.experiments.early_exit import SETTINGS
from book.experiments.frame import SEED, Cell, Context, Experiment, Labeled
from book.experiments.setting import SettingRecord
from snnlib.graph.graph import Graph
from snnlib.graph.operations import Node, rectify
from snnlib.simulation.coding import Constant
from snnlib.simulation.engine import Simulation
from snnlib.simulation.network import SpikingNetwork
from snnlib.simulation.plan import Plan
from snnlib.zoo import models
from snnlib.zoo.data import to_float
from snnlib.zoo.evaluate import LABELS

IMAGES, DRAWS = 1000, 3
INPUT = (0.0, 0.05, 0.1, 0.2, 0.3)  # standard deviation, pixels in [0, 1]
WEIGHTS = (0.0, 0.05, 0.1, 0.2)  # standard deviation, relative to each weight
LOSSES = (0.0, 0.01, 0.05, 0.1, 0.2)  # probability that a spike is lost
_PART = 250
_TOGETHER, _BLOCK = 5, 16  # images and steps computed at once when spikes are lost


class Answers(NamedTuple):
    """To some images: of the SNN after its last step, and of the ANN."""

    snn: Tensor
    ann: Tensor


class Disturbed(TypedDict):
    """One size of a disturbance: mean over the draws, and standard deviation."""

    size: float  # as `INPUT`, `WEIGHTS` and `LOSSES` measure it
    draws: int
    accuracy: float
    accuracy_std: float
    ann_accuracy: float
    ann_accuracy_std: float


class RobustnessRun(Labeled):
    """One neuron under growing sizes of one disturbance, on test images."""

    steps: int
    dtype: NotRequired[str]  # float32 in old rows without it
    disturbance: str
    setting: SettingRecord
    sizes: list[Disturbed]


class Lossy(Simulation):
    """A simulation in which each event is lost on its way with some probability.

    The neuron that sent it has reset and counts it as sent; nobody receives it.
    """

    def __init__(
        self, plan: Plan, x: Tensor, probability: float, generator: torch.Generator
    ) -> None:
        super().__init__(plan, x, Constant())
        self.probability, self.generator = probability, generator

    def _fire(self, node: Node, z: Tensor, steps: int) -> Tensor:
        message = super()._fire(node, z, steps)
        return message.mul_(survivors(message, self.probability, self.generator))


def survivors(value: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """True where something arrives, False where it is lost; shaped like ``value``.

    The probability is rounded to a multiple of 2⁻¹⁶: four values come out of one random number.
    """
    if probability == 1:
        return torch.zeros_like(value, dtype=torch.bool)
    drawn = torch.empty(-(-value.numel() // 4), dtype=torch.int64)
    drawn.random_(torch.iinfo(torch.int64).min, None, generator=generator)
    kept = drawn.view(torch.int16)[: value.numel()] >= round(probability * 2**16) - 2**15
    return kept.as_strided(value.shape, value.stride()).to(value.device)


def noisy_weights(graph: Graph, deviation: float, generator: torch.Generator) -> Graph:
    """The graph with every weight multiplied by 1 + deviation × a normal random number."""
    nodes = {}
    for node in graph:
        tensors = dict(node.tensors)
        if node.kind == "weighted":
            weight = tensors["weight"]
            noise = torch.randn(weight.shape, generator=generator).to(weight)
            tensors["weight"] = weight * (1 + deviation * noise)
        nodes[node.name] = replace(node, tensors=tensors)
    return replace(graph, nodes=nodes)


def lossy_ann(graph: Graph, x: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Logits of the ANN whose activations are lost (zero) with some probability."""

    def activation(node: Node, z: Tensor) -> Tensor:
        return rectify(node, z) * survivors(z, probability, generator)

    return graph.evaluate(x, activation=activation)


def noisy_input(net: SpikingNetwork, x: Tensor, steps: int, size: float, seed: int) -> Answers:
    """Normal noise on the pixels, which are cut to [0, 1] again as a camera would."""
    noise = torch.randn(x.shape, generator=_generator(seed)).to(x)
    x = (x + size * noise).clamp(0, 1)
    return Answers(net(x, steps, only_last=True).predictions[-1], net.ann(x).argmax(1))


def noisy_network(net: SpikingNetwork, x: Tensor, steps: int, size: float, seed: int) -> Answers:
    """Noise on the weights; ``seed`` draws the network."""
    graph = noisy_weights(net.graph, size, _generator(seed))
    other = SpikingNetwork(graph, net.neuron, net.balanced).to(net.dtype)
    return Answers(other(x, steps, only_last=True).predictions[-1], other.ann(x).argmax(1))


def lost_spikes(net: SpikingNetwork, x: Tensor, steps: int, size: float, seed: int) -> Answers:
    """Events lost on their way, beside an ANN whose activations are lost."""
    generator, answers = _generator(seed), []
    with torch.no_grad():
        plan = net.plan()
        for part in x.split(_TOGETHER):
            simulation = Lossy(plan, part, size, generator)
            while simulation.t < steps:
                total = simulation.advance(min(_BLOCK, steps - simulation.t))[-1]
            answers.append(total.argmax(1))
        ann = lossy_ann(net.graph, net.checked(x), size, _generator(seed))
    return Answers(torch.cat(answers), ann.argmax(1))


Disturbance = Callable[[SpikingNetwork, Tensor, int, float, int], Answers]
# What is disturbed, how much, and whether all images share one draw.
KINDS: dict[str, tuple[Disturbance, tuple[float, ...], bool]] = {
    "input noise": (noisy_input, INPUT, False),
    "weight noise": (noisy_network, WEIGHTS, True),
    "lost spikes": (lost_spikes, LOSSES, False),
}


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cells(network: str) -> list[Cell]:
    """A cell a neuron and kind of disturbance."""
    return [
        Cell(f"{network}/{kind}/{what}", partial(measure, network, kind, what))
        for kind in SETTINGS
        for what in KINDS
    ]


def measure(network: str, kind: str, what: str, context: Context) -> list[RobustnessRun]:
    """Accuracy of both networks for every size of one disturbance, mean and spread over draws."""
    subject = context.subject(network)
    setting, steps = SETTINGS[kind]
    net = subject.affordably(subject.convert(setting))
    split = subject.test[:IMAGES]
    disturb, sizes, shared = KINDS[what]
    rows: list[Disturbed] = []
    for size in sizes:
        draws = range(SEED, SEED + (DRAWS if size else 1))
        snn, ann = torch.zeros(2, len(draws), dtype=torch.float64)  # answered right, by draw
        for i, draw in enumerate(draws):
            for start in range(0, len(split), _PART):
                piece = split[start : start + _PART]
                x = to_float(piece.images).to(net.device)
                seed = draw if shared else draw * 1_000_003 + start
                answers = disturb(net, x, steps, size, seed)
                snn[i] += int((answers.snn.cpu() == piece.labels).sum())
                ann[i] += int((answers.ann.cpu() == piece.labels).sum())
        snn, ann = snn / len(split), ann / len(split)
        rows.append(
            {
                "size": size,
                "draws": len(draws),
                "accuracy": float(snn.mean()),
                "accuracy_std": float(snn.std()) if size else 0.0,
                "ann_accuracy": float(ann.mean()),
                "ann_accuracy_std": float(ann.std()) if size else 0.0,
            }
        )
    return [
        {
            "model": network,
            "label": LABELS[kind],
            "n": len(split),
            "steps": steps,
            "dtype": str(net.dtype).removeprefix("torch."),
            "disturbance": what,
            "setting": setting.record(),
            "sizes": rows,
        }
    ]


EXPERIMENT = Experiment(
    name="robustness",
    summary="accuracy under input noise, weight noise and lost spikes, the ANN beside each network",
    networks=models.NAMES,
    cells=cells,
    version=3,
)
