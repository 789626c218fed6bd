"""``surrogate-depth``: which gradients reach the first layers of a deep spiking network.

Fresh networks of 5, 10 and 20 dense layers (128 neurons each, T = 10, leak 0.9, constant current,
128 training images) are asked once for the gradient of their loss, over the width of the
surrogate: with PyTorch's initial weights, with weights scaled so that currents have a deviation of
one threshold in every layer, or with batch norm on the currents; peak 1 or area 1; through the
reset or not; with and without membrane shortcuts. No weight is trained for it.

Then a convolutional network of 20 weighted layers is trained, plain and with shortcuts, and the
latter once more for five times as many epochs, on images that are mirrored by chance and moved by
up to a pixel. The width was chosen by the curves, not by its accuracy.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import product

import torch
from torch import nn

from book.experiments import learning
from book.experiments.frame import SEED, Cell, Context, Experiment, Labeled, Rows
from book.experiments.goals import Goal, goal
from book.experiments.material import TrainedRow, augmented, material, plan_for, trained_row
from snnlib.learning.lif import LIF, Surrogate
from snnlib.learning.loop import Plan, cross_entropy, fit
from snnlib.learning.surrogate import (
    Unrolled,
    deep_convolutional,
    deep_dense,
    gradient_norms,
    scale_to_fire,
    unrolled,
)
from snnlib.zoo.training import accuracy, bfloat16_pays

STEPS, LEAK, IMAGES, NEURONS = 10, 0.9, 128, 128
DEPTHS = (5, 10, 20)
WIDTHS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)  # in thresholds
INITIAL = {  # of the weights → as tables call it
    "plain": "PyTorch's initial weights",
    "firing": "weights scaled so that neurons fire",
    "norm": "batch norm on currents",
}
SHAPE = "triangle"
STAGES = ((16, 2), (32, 8), (48, 9))  # channels and convolutions: 19, and a linear layer
TRAINED_WIDTH = 1.0
TRAINED_IMAGES, PLAN = 45_000, Plan(epochs=3, batch=128, clip=1.0)
LONGER = replace(PLAN, epochs=15)  # on all images
RATE, DECAY = 3e-3, 1e-2


class GradientRow(Labeled):
    """Gradients of one kind of network over the width; n counts the images."""

    layers: int  # weighted ones
    initial: str  # key of `INITIAL`
    area: bool  # the surrogate has area 1; without, peak 1
    detached: bool  # no gradient through the reset
    shortcut: bool
    shape: str
    steps: int
    leak: float
    widths: list[float]
    norms: list[list[float]]  # of ∂loss/∂W, a row a width, one number a layer
    ratio: list[float | None]  # second layer over last; None: the last one's is zero
    rates: list[float]  # spikes a neuron and step, a layer; the width does not matter


class DepthRow(TrainedRow):
    """The convolutional network of 20 weighted layers, trained."""

    shortcut: bool
    width: float
    steps: int
    spikes_per_neuron: float  # in all steps, mean over layers, on test images
    history: list[float]  # validation accuracy after every epoch


def cells(network: str) -> list[Cell]:
    """A cell a depth and kind of initial weights, and one a trained network."""
    curves = [
        Cell(f"{network}/{layers}-layers/{initial}", partial(curve, network, layers, initial))
        for layers, initial in product(DEPTHS, INITIAL)
    ]
    trained = [
        Cell(f"{network}/trained/{name}", partial(train, network, name), "trained")
        for name in ("shortcut", "plain", "longer")
    ]
    return [*curves, *trained]


def fresh(
    layers: int, initial: str, neuron: LIF, shortcut: bool, x: torch.Tensor, width: int
) -> Unrolled:
    """A network as the curves ask for it, the same random weights whatever else is varied."""
    torch.manual_seed(SEED)
    inputs = x[0].numel()
    ann = deep_dense(layers, width, inputs, norm=initial == "norm", shortcut=shortcut)
    net = unrolled(ann.to(x.device), neuron, STEPS)
    if initial == "firing":
        scale_to_fire(net, x)
    return net


def curve(network: str, layers: int, initial: str, context: Context) -> list[GradientRow]:
    """Gradient norms over the width, for every combination of the other choices."""
    split = material(network, context).fit[:IMAGES]
    x, y = split.floats().to(context.device), split.labels.to(context.device)
    quick = context.limit is not None
    widths = list(WIDTHS[5:6] if quick else WIDTHS)
    rows = []
    for area, detached, shortcut in product((False, True), repeat=3):
        norms = []
        for width in widths:
            neuron = LIF(leak=LEAK, spike=Surrogate(SHAPE, width, area), detach=detached)
            net = fresh(layers, initial, neuron, shortcut, x, 16 if quick else NEURONS)
            norms.append(gradient_norms(net, x, y))
        parts = [
            INITIAL[initial],
            "area 1" if area else "peak 1",
            *(["reset detached"] if detached else []),
            *(["membrane shortcut"] if shortcut else []),
        ]
        rows.append(
            GradientRow(
                model=network,
                label=", ".join(parts),
                n=len(split),
                layers=layers,
                initial=initial,
                area=area,
                detached=detached,
                shortcut=shortcut,
                shape=SHAPE,
                steps=STEPS,
                leak=LEAK,
                widths=widths,
                norms=norms,
                ratio=[each[1] / each[-1] if each[-1] else None for each in norms],
                rates=net.rates(x),
            )
        )
    return rows


def train(network: str, name: str, context: Context) -> list[DepthRow]:
    """Train the convolutional network and judge it on test images."""
    longer, shortcut = name == "longer", name != "plain"
    images = material(network, context, None if longer else TRAINED_IMAGES)
    torch.manual_seed(SEED)
    ann = deep_convolutional(STAGES, images.fit.images.shape[1], shortcut=shortcut)
    neuron = LIF(leak=LEAK, spike=Surrogate(SHAPE, TRAINED_WIDTH))
    net = unrolled(ann, neuron, STEPS).to(context.device)
    plan = plan_for(
        context, replace(LONGER if longer else PLAN, reduced=bfloat16_pays(context.device))
    )
    history = fit(
        net, adamw(net, RATE, DECAY), images.fit, images.validation, plan, seed=SEED,
        loss=augmented if longer else cross_entropy,
        state=context.state(f"{network}-trained-{name}"), label=name,
        progress=context.progress,
    )  # fmt: skip
    rates = net.rates(images.test[:100].floats().to(context.device))
    return [
        {
            **trained_row(
                network,
                f"20 layers, {'membrane shortcut' if shortcut else 'plain'}"
                f"{', longer, augmented images' if longer else ''}",
                SEED, images, plan, history, accuracy(net, images.test, batch=250),
            ),
            "shortcut": shortcut,
            "width": TRAINED_WIDTH,
            "steps": STEPS,
            "spikes_per_neuron": STEPS * sum(rates) / len(rates),
            "history": [e["validation_accuracy"] for e in history],
        }
    ]  # fmt: skip


def adamw(net: nn.Module, rate: float, decay: float) -> torch.optim.Optimizer:
    """AdamW that leaves vectors (biases, batch norm) without decay."""
    matrices = [p for p in net.parameters() if p.ndim > 1]
    vectors = [p for p in net.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}
    ]  # fmt: skip
    return torch.optim.AdamW(groups, lr=rate)


def conclude(sections: Rows) -> dict[str, list[Goal]]:
    """The goals beside what was found, of the training that validation images prefer."""
    found = {}
    for shortcut in (True, False):
        rows: list[DepthRow] = [r for r in sections["trained"] if r["shortcut"] == shortcut]
        best: DepthRow | None = learning.preferred(rows)
        found[shortcut] = None if best is None else best["test_accuracy"]
    return {
        "goals": [
            goal("20 layers, membrane shortcut: test accuracy", found[True], at_least=0.91),
            goal("20 layers, plain: test accuracy", found[False], at_least=0.91),
        ]
    }


EXPERIMENT = Experiment(
    name="surrogate-depth",
    summary="gradients through 5, 10 and 20 spiking layers over the width of the surrogate, and "
    "networks of 20 layers trained",
    networks=("fashion-cnn",),
    cells=cells,
    conclude=conclude,
)
