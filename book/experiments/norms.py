"""``norms``: batch norms that square nothing, bounded weights, and weight decay without decay.

A small convolutional network (three convolutions, ReLU) is trained with L2, L1,
top-10 and L∞ batch norm and with L2 and bounded weights, three seeds each; the spiking network that
each folds into answers beside it.

Then weight decay: on, off, and off with the gradients that `snnlib.learning.norms.Mimic` scales, a
seed a triple, without momentum, where the law is exact, and with it, as in practice. *Distance* is
the mean over epochs of how far the validation accuracy, or the training loss, is from that of decay
on. The rate stays at its peak and decay is strong, so that weights come to their equilibrium within
the run. It is in float64, and validation images are answered with the statistics of their batch:
running ones lag behind the scale of the weights, which is what differs between the runs.

Last, 16-bit numbers: the spread of a trained layer's currents, scaled by powers of ten, computed
with each norm in float16 and bfloat16 against float64.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from book.experiments.frame import SEED, Cell, Context, Experiment, Labeled
from book.experiments.material import TrainedRow, material, plan_for, seeds, trained_row
from snnlib.conversion.convert import convert
from snnlib.learning.loop import Epoch, Plan, fit
from snnlib.learning.norms import (
    Mimic,
    ScaleNorm,
    bound_weight,
    channel_norms,
    spread,
    weights_before_norm,
    with_norm,
)
from snnlib.neurons import Augmented
from snnlib.zoo.training import accuracy

NORMS = {
    "l2": "L2 (batch norm)",
    "l1": "L1",
    "top-10": "top-10",
    "top-1": "L∞",
    "bounded": "L2 and bounded weights",
}
DECAYS = {"on": "decay on", "off": "decay off", "mimic": "decay off, mimicked"}
WIDTHS = (16, 32, 48)
PLAN, RATE, DECAY = Plan(epochs=8), 0.1, 5e-4
MIMIC_PLAN, MIMIC_DECAY = Plan(epochs=12, batch=100, constant=True), 2e-3
MIMIC_RATES = {0.0: 0.5, 0.9: 0.05}  # momentum → rate: as fast as each other
MIMIC_IMAGES, MIMIC_SEEDS = 10_000, 3
SNN_STEPS, SNN_IMAGES = 4, 1000
SCALES = tuple(10.0**e for e in range(-6, 5))


class NormRow(TrainedRow):
    """One norm and seed."""

    norm: str
    history: list[float]  # validation accuracy after every epoch
    snn_steps: int
    snn_images: int
    snn_accuracy: float  # of the spiking network it folds into, on the first test images
    snn_ann_accuracy: float  # of the network itself on the same images
    scales_left: int  # affine nodes that did not fold


class DecayRow(Labeled):
    """One way to decay and seed; n counts validation images."""

    decay: str
    seed: int
    momentum: float
    rate: float
    weight_decay: float
    history: list[float]  # validation accuracy after every epoch
    losses: list[float]  # training loss of every epoch
    norms: list[float]  # mean ‖w‖² a channel at the end of every epoch


class Distance(Labeled):
    """How far one seed's curves are from those of decay on; n counts validation images."""

    seed: int
    momentum: float
    off: float  # mean over epochs of |validation accuracy − that of decay on|
    mimic: float
    share: float | None  # mimic / off; None: off is zero
    off_loss: float  # the same of the training loss
    mimic_loss: float
    share_loss: float | None


class PrecisionRow(Labeled):
    """One norm and dtype over scales; n counts the images whose currents are used."""

    norm: str
    dtype: str
    scales: list[float]
    error: list[float | None]  # largest relative error of a channel; None: not finite, or zero


def network(channels: int) -> nn.Sequential:
    """Three convolutions with batch norm and ReLU, in halves of the resolution, mean, linear."""
    layers, before = nn.Sequential(), channels
    for width in WIDTHS:
        conv = nn.Conv2d(before, width, 3, 2, padding=1, bias=False)
        layers.extend([conv, nn.BatchNorm2d(width), nn.ReLU()])
        before = width
    return layers.extend([nn.Flatten(), nn.LazyLinear(10)])


def made(norm: str, x: Tensor, seed: int) -> nn.Sequential:
    """The network with a norm, initialized by a seed."""
    torch.manual_seed(seed)
    net = network(x.shape[1])
    net(x)  # tells the last layer its size
    if norm == "bounded":
        for layer in list(net):
            if isinstance(layer, nn.Conv2d):
                bound_weight(layer)
    elif norm == "l1":
        with_norm(net, lambda channels: ScaleNorm(channels, "l1"))
    elif norm.startswith("top-"):
        k = int(norm.removeprefix("top-"))
        with_norm(net, lambda channels: ScaleNorm(channels, "top-k", k))
    return net.to(x.device)


def sgd(
    net: nn.Module, rate: float, decay: float, momentum: float = 0.9
) -> torch.optim.SGD:  # fmt: skip
    """SGD that decays convolutions alone, in the first group."""
    convolutions = [p for p in net.parameters() if p.ndim == 4]
    rest = [p for p in net.parameters() if p.ndim != 4]
    groups: list[dict[str, Any]] = [
        {"params": convolutions, "weight_decay": decay}, {"params": rest}
    ]  # fmt: skip
    return torch.optim.SGD(groups, lr=rate, momentum=momentum)


def cells(name: str) -> list[Cell]:
    """A cell a norm; one for each seed of the three decays, with distances; one for 16 bits."""
    runs = [Cell(f"{name}/{norm}", partial(train, name, norm)) for norm in NORMS]
    return [
        *runs,
        *(
            Cell(
                f"{name}/decay/{momentum:g}/{seed}", partial(decays, name, momentum, seed), "decay"
            )
            for momentum, seed in _pairs()
        ),
        Cell(f"{name}/distance", partial(distances, name), "distances"),
        Cell(f"{name}/precision", partial(precision, name), "precision"),
    ]


def train(name: str, norm: str, context: Context) -> list[NormRow]:
    """One norm, a row a seed."""
    images = material(name, context)
    rows: list[NormRow] = []
    plan = plan_for(context, PLAN)
    x = images.fit[:200].floats().to(context.device)
    for seed in seeds(context):
        net = made(norm, x, seed)
        history = fit(
            net, sgd(net, RATE, DECAY), images.fit, images.validation, plan, seed=seed,
            label=f"{norm}, seed {seed}", state=context.state(f"{name}-{norm}-{seed}"),
            progress=context.progress,
        )  # fmt: skip
        few = images.test[:SNN_IMAGES]
        snn = convert(net, x, Augmented(levels=4, negative=0.0))
        answers = snn(few.floats().to(context.device), SNN_STEPS, only_last=True).predictions[-1]
        rows.append(
            {
                **trained_row(
                    name, NORMS[norm], seed, images, plan, history, accuracy(net, images.test)
                ),
                "norm": norm,
                "history": [e["validation_accuracy"] for e in history],
                "snn_steps": SNN_STEPS,
                "snn_images": len(few),
                "snn_accuracy": float((answers.cpu() == few.labels).double().mean()),
                "snn_ann_accuracy": accuracy(net, few),
                "scales_left": sum(node.op == "affine" for node in snn.graph),
            }
        )
    return rows


class _ByBatch(nn.Module):
    """A network in float64 that always normalizes by the batch it sees."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.double())

    def train(self, mode: bool = True) -> _ByBatch:
        return super().train(True)


def _exact_loss(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy in the network's dtype."""
    return F.cross_entropy(network(x), y)


def decays(name: str, momentum: float, seed: int, context: Context) -> list[DecayRow]:
    """Decay on, off and mimicked, from the same weights and in the same order of images."""
    images, rows = material(name, context, MIMIC_IMAGES), []
    plan, norms = plan_for(context, MIMIC_PLAN), torch.empty(0)
    steps = len(images.fit) // plan.batch
    x = images.fit[:8].floats().to(context.device)
    for kind in DECAYS:
        plain = made("l2", x, seed)  # without batch norm's ε, which knows the scale of the weights
        net = _ByBatch(with_norm(plain, lambda channels: ScaleNorm(channels, "l2", eps=1e-12)))
        weights: list[Tensor] = weights_before_norm(net)
        seen: list[Tensor] = []
        decay = MIMIC_DECAY if kind == "on" else 0.0
        optimizer = sgd(net, MIMIC_RATES[momentum], decay, momentum)
        mimic = Mimic(weights, norms, MIMIC_DECAY, partial(_rate, optimizer))

        def each_step(
            step: int, kind: str = kind, mimic: Mimic = mimic, weights: list[Tensor] = weights,
            seen: list[Tensor] = seen,
        ) -> None:  # fmt: skip
            seen.append(channel_norms(weights).cpu())
            if kind == "mimic":
                mimic(step)

        history: list[Epoch] = fit(
            net, optimizer, images.fit, images.validation, replace(plan, constant=True), seed=seed,
            loss=_exact_loss, each_step=each_step, label=f"decay {kind}",
            progress=context.progress,
        )  # fmt: skip
        if kind == "on":
            norms = torch.stack(seen)
        ends = [*range(steps, len(seen), steps), len(seen) - 1]
        rows.append(
            DecayRow(
                model=name,
                label=DECAYS[kind],
                n=len(images.validation),
                decay=kind,
                seed=seed,
                momentum=momentum,
                rate=MIMIC_RATES[momentum],
                weight_decay=MIMIC_DECAY,
                history=[e["validation_accuracy"] for e in history],
                losses=[e["loss"] for e in history],
                norms=[float(seen[i].mean()) for i in ends],
            )
        )
    return rows


def _pairs() -> list[tuple[float, int]]:
    """Momentum and seed of every triple."""
    return [(m, s) for m in MIMIC_RATES for s in range(SEED, SEED + MIMIC_SEEDS)]


def _rate(optimizer: torch.optim.Optimizer) -> float:
    return float(optimizer.param_groups[0]["lr"])


def distances(name: str, context: Context) -> list[Distance]:
    """Mean distance of the curves of every seed from decay on."""
    found = []
    for momentum, seed in _pairs():
        rows: list[DecayRow] = context.rows[f"{name}/decay/{momentum:g}/{seed}"]
        curves = {row["decay"]: row["history"] for row in rows}
        losses = {row["decay"]: row["losses"] for row in rows}
        off, mimic = (_apart(curves["on"], curves[kind]) for kind in ("off", "mimic"))
        off_loss, mimic_loss = (_apart(losses["on"], losses[kind]) for kind in ("off", "mimic"))
        found.append(
            Distance(
                model=name,
                label=f"momentum {momentum:g}, seed {seed}",
                n=rows[0]["n"],
                seed=seed,
                momentum=momentum,
                off=off,
                mimic=mimic,
                share=mimic / off if off else None,
                off_loss=off_loss,
                mimic_loss=mimic_loss,
                share_loss=mimic_loss / off_loss if off_loss else None,
            )
        )
    return found


def _apart(one: list[float], other: list[float]) -> float:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / len(one)


def precision(name: str, context: Context) -> list[PrecisionRow]:
    """Spreads in 16 bits, of the currents of the book's network after its first convolution."""
    subject = context.subject(name)
    split = material(name, context, 32).fit[:32]
    conv = next(m for m in subject.ann.modules() if isinstance(m, nn.Conv2d))
    with torch.no_grad():
        currents = conv(split.floats().to(context.device)).double()
    kinds = {"l2": ("l2", 1), "l1": ("l1", 1), "top-10": ("top-k", 10), "top-1": ("top-k", 1)}
    rows = []
    for norm, (kind, k) in kinds.items():
        for dtype in (torch.float16, torch.bfloat16):
            errors = [_error(scale * currents, kind, k, dtype) for scale in SCALES]
            rows.append(
                PrecisionRow(
                    model=name,
                    label=f"{NORMS[norm]}, {str(dtype).removeprefix('torch.')}",
                    n=len(split),
                    norm=norm,
                    dtype=str(dtype).removeprefix("torch."),
                    scales=list(SCALES),
                    error=errors,
                )
            )
    return rows


def _error(x: Tensor, kind: str, k: int, dtype: torch.dtype) -> float | None:
    """Largest relative error of a channel's spread in a dtype, given exact input in that dtype."""
    narrow = x.to(dtype)
    center = narrow.transpose(0, 1).flatten(1).mean(1)
    found = spread(narrow, center, kind, k).double()
    exact = spread(x, x.transpose(0, 1).flatten(1).mean(1), kind, k)
    worst = float(((found - exact).abs() / exact).max())
    return worst if math.isfinite(worst) and bool((found > 0).all()) else None


EXPERIMENT = Experiment(
    name="norms",
    summary="batch norms that square nothing, bounded weights, decay without decay, 16-bit norms",
    networks=("fashion-cnn",),
    cells=cells,
)
