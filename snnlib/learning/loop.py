"""A small training loop for what is trained directly: epochs, one cycle of the rate, a state kept.

Any module that gives logits (B, classes) for images (B, C, H, W) in [0, 1] can be trained, with an
optimizer of the caller's, whose learning rate is the peak of the cycle::

    rate of a step = peak · one_cycle(share of all steps)        (Smith and Topin, 2018)

The order of an epoch's images depends on the seed and the epoch alone. So the state after an epoch
is weights, optimizer and history, and a training that was interrupted and taken up again gives the
same network as one that was not (on the same machine and number of threads).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from snnlib.zoo import epochs
from snnlib.zoo.data import Split
from snnlib.zoo.training import accuracy, mixed, one_cycle

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


class Epoch(TypedDict):
    """What one epoch left."""

    loss: float  # mean over its images
    validation_accuracy: float  # a fraction
    seconds: float  # of training, without validation


@dataclass(frozen=True)
class Plan:
    """How long to train.

    Attributes:
        epochs: passes over the images.
        batch: images a step; a smaller last batch is left out.
        warmup: share of the steps in which the rate rises to its peak.
        constant: leave the rate at its peak.
        clip: largest norm of the whole gradient; None: it is left.
        reduced: multiply in bfloat16 (autocast).
    """

    epochs: int
    batch: int = 128
    warmup: float = 0.2
    constant: bool = False
    clip: float | None = None
    reduced: bool = False


def cross_entropy(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Loss of the logits for labels y, int64 (B,)."""
    return F.cross_entropy(network(x).float(), y)


def fit(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Split,
    validation: Split,
    plan: Plan,
    *,
    seed: int = 0,
    loss: Loss = cross_entropy,
    state: Path | None = None,
    each_step: Callable[[int], None] | None = None,
    label: str = "",
    progress: bool = False,
) -> list[Epoch]:
    """Train a network in place; returns what each epoch left.

    Args:
        network: changed in place, and left in evaluation mode.
        optimizer: of its parameters; its learning rates are the peaks of the cycle.
        images: to fit.
        validation: judged after each epoch, for the history; nothing is chosen here.
        plan: epochs, batch, cycle.
        seed: of the order of the images, of noise and dropout.
        loss: of the network on images (B, C, H, W) and labels (B,).
        state: a file that keeps the state after each epoch and that a later call of the same plan,
            seed and label goes on from; it is left behind. None: nothing is kept.
        each_step: called with the number of the step, from 0, before the optimizer's.
        label: of the progress bar, and part of what the state is for.
        progress: show a progress bar.

    Raises:
        ValueError: fewer images than a batch, no validation image; or the state file is of another
            training.
        CheckpointError: the state file cannot be written.

    Example:
        >>> from snnlib.zoo import data
        >>> train, test = data.load("digits")
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
        >>> sgd = torch.optim.SGD(net.parameters(), 0.1)
        >>> history = fit(net, sgd, train[:256], test[:100], Plan(epochs=2, batch=32))
        >>> len(history), net.training
        (2, False)
    """
    steps = len(images) // plan.batch
    if not steps:
        raise ValueError(f"fit: {len(images)} images are less than one batch of {plan.batch}")
    if not len(validation):
        raise ValueError("fit: there is no validation image to judge an epoch by")
    peaks = [group["lr"] for group in optimizer.param_groups]
    settings = {"plan": asdict(plan), "seed": seed, "label": label, "images": len(images)}

    def one(number: int, bar: tqdm) -> Epoch:
        began, total = time.perf_counter(), 0.0
        with torch.random.fork_rng():
            torch.manual_seed(mixed(seed, number))  # of dropout and noise: an epoch can be repeated
            for step, (x, y) in enumerate(_batches(images, plan.batch, seed, number)):
                done = number * steps + step
                for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                    share = (done + 0.5) / (plan.epochs * steps)
                    group["lr"] = peak * (1 if plan.constant else one_cycle(share, plan.warmup))
                total += _step(network, optimizer, loss, x, y, plan, each_step, done)
                bar.update()
        seconds = time.perf_counter() - began
        found = accuracy(network, validation, batch=250)
        bar.set_postfix_str(f"validation {100 * found:.2f} %")
        return Epoch(loss=total / steps, validation_accuracy=found, seconds=seconds)

    history = epochs.run(
        network, optimizer, plan.epochs, steps, one, settings, state=state, label=label,
        progress=progress,
    )  # fmt: skip
    for group, peak in zip(optimizer.param_groups, peaks, strict=True):
        group["lr"] = peak
    return history


def _step(
    network: nn.Module, optimizer: torch.optim.Optimizer, loss: Loss, x: Tensor, y: Tensor,
    plan: Plan, each_step: Callable[[int], None] | None, number: int,
) -> float:  # fmt: skip
    device = next(network.parameters()).device
    narrow = torch.autocast(device.type, torch.bfloat16) if plan.reduced else nullcontext()
    with narrow:
        value = loss(network, x.to(device), y.to(device))
    optimizer.zero_grad()
    value.backward()
    if plan.clip is not None:
        nn.utils.clip_grad_norm_(network.parameters(), plan.clip)
    if each_step is not None:
        each_step(number)
    optimizer.step()
    return float(value.detach())


def _batches(images: Split, batch: int, seed: int, epoch: int) -> Any:
    """Whole batches of an epoch: images (batch, C, H, W) in [0, 1] and labels (batch,)."""
    generator = torch.Generator().manual_seed(mixed(seed, epoch))
    order = torch.randperm(len(images), generator=generator)
    for start in range(0, len(images) - batch + 1, batch):
        piece = images.take(order[start : start + batch])
        yield piece.floats(), piece.labels


def kept_bytes(compute: Callable[[], Tensor]) -> int:
    """Bytes that autograd keeps for the backward pass of what is computed, parameters included.

    A storage that is kept by several operations counts once. Chapter *Gradients without time*
    counts three ways to learn.

    Example:
        >>> x = torch.ones(1000, requires_grad=True)
        >>> kept_bytes(lambda: x.exp().sum())  # exp keeps its result
        4000
    """
    seen: dict[int, int] = {}
    alive = []  # a storage that is freed on the way would lend its address to another

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        alive.append(storage)
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        compute()
    return sum(seen.values())
