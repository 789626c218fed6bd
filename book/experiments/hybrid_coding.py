"""``hybrid-coding``: what enters at each step, and neurons that change from step to step.

Direct, time-coded and mixed input × one set of neuron parameters for all steps or one for each, at
2, 4 and 7 steps, on a small convolutional network trained from scratch
(`snnlib.learning.hybrid_coding`). Three seeds at 4 steps, one at the others.
"""

from __future__ import annotations

from functools import partial

import torch

from book.experiments import learning
from book.experiments.frame import Cell, Context, Experiment
from book.experiments.learning import Learned, Recipe
from book.experiments.material import material
from snnlib.learning.hybrid_coding import INPUTS, HybridCoding, Input
from snnlib.learning.loop import Plan

WIDTHS, GAIN = (8, 16, 32), 1.0
SEEDS = {4: 3, 2: 1, 7: 1}  # by number of steps
RECIPE = Recipe(Plan(epochs=3, batch=100, clip=5.0), rate=5e-3, images=10_000)


def cells(network: str) -> list[Cell]:
    """A cell a number of steps, input, kind of parameters and seed."""
    return [
        Cell(
            f"{network}/{steps}/{form}/{'per-step' if own else 'shared'}/{seed}",
            partial(measure, network, steps, form, own, seed),
        )
        for steps, seeds in SEEDS.items()
        for seed in range(seeds)
        for form in INPUTS
        for own in (False, True)
    ]


def measure(
    network: str, steps: int, form: Input, per_step: bool, seed: int, context: Context
) -> list[Learned]:
    """Train one network."""
    images = material(network, context)
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # of the initial weights
        net = HybridCoding(learning.cnn(images.shape, *WIDTHS), steps, form, per_step, GAIN)
    net = net.to(context.device)
    kind = "per-step" if per_step else "shared"
    name = f"{network}/{steps}/{form}/{kind}/{seed}"
    trained = learning.train(net, images, RECIPE, seed, context, name)
    return [
        learning.row(
            network, f"{form} input, {kind} parameters", f"{form}/{kind}",
            f"cnn {'-'.join(map(str, WIDTHS))}", seed, steps, trained, net, images, net.spikes,
            learning.neurons(images.shape, *WIDTHS),
        )
    ]  # fmt: skip


EXPERIMENT = Experiment(
    name="hybrid-coding",
    summary="direct, time-coded and mixed input, neurons with and without parameters of each step",
    networks=("fashion-cnn",),
    cells=cells,
)
