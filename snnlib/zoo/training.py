"""A training run: SGD over augmented batches, epoch by epoch, with a state that can be taken up.

One cycle of SGD with Nesterov momentum, light augmentation on whole batches, label smoothing, an
average of the weights; bfloat16 and channels-last where the processor gains by them.

An epoch's random numbers depend on the seed and the number of the epoch alone. So the state after
an epoch is weights, optimizer and counters, and a run that was interrupted and resumed gives the
same network as one that was not (on the same machine and number of threads).

`snnlib.train.fit` is the call.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from snnlib.zoo import data, models, states
from snnlib.zoo.augment import cutout, shift_flip, warp
from snnlib.zoo.data import Split
from snnlib.zoo.recipes import Recipe

TEMPERATURE = 2.0  # of the answers that teachers and their student are compared by
_CPU = Path("/proc/cpuinfo")  # Linux alone has it
_PROGRESS = ("best", "best_epoch", "epoch", "history", "seconds")  # of a `Run`, kept in its state


class Run:
    """A training run: what changes from epoch to epoch, and nothing else."""

    def __init__(self, name: str, recipe: Recipe, seed: int, device: torch.device) -> None:
        self.name, self.recipe, self.seed, self.device = name, recipe, seed, device
        self.reduced = bfloat16_pays(device)
        torch.manual_seed(seed)
        network = models.create(name)
        if recipe.start:
            network.load_state_dict(_trained(recipe.start, name).state_dict())
        for parameter in network.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        self.network = network.to(device).train()
        self.teachers = [models.load(teacher).to(device) for teacher in recipe.teachers]
        self.average = (
            AveragedModel(self.network, multi_avg_fn=_running(recipe.average), use_buffers=True)
            if recipe.average
            else None
        )
        matrices = [p for p in network.parameters() if p.ndim > 1]
        vectors = [p for p in network.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.SGD(
            [
                {"params": matrices, "weight_decay": recipe.decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=recipe.rate,
            momentum=recipe.momentum,
            nesterov=recipe.momentum > 0,
        )
        self.epoch = 0
        self.history: list[float] = []  # validation accuracy after each epoch
        self.best: dict[str, Tensor] = {}
        self.best_epoch = 0
        self.seconds = 0.0

    def steps_per_epoch(self, images: int) -> int:
        """Whole batches only: a small last batch would disturb the batch-norm statistics."""
        return max(1, images // self.recipe.batch)

    def train_epoch(self, split: Split, bar: tqdm) -> None:
        """One pass over the images in a new order."""
        began = time.perf_counter()
        recipe = self.recipe
        generator = torch.Generator().manual_seed(mixed(self.seed, self.epoch + 1))
        torch.manual_seed(mixed(self.seed, -self.epoch - 1))  # dropout
        order = torch.randperm(len(split), generator=generator)
        sides = torch.Generator().manual_seed(self.seed)
        flip = torch.randint(2, (len(split),), generator=sides) + self.epoch
        flip = flip % 2 == 1 if recipe.flip else torch.zeros(len(split), dtype=torch.bool)
        steps = self.steps_per_epoch(len(split))
        self.network.train()
        for step in range(steps):
            chosen = order[step * recipe.batch : (step + 1) * recipe.batch]
            x = self._augmented(split.images[chosen], flip[chosen], generator)
            y = split.labels[chosen].to(self.device)
            share = (self.epoch * steps + step + 0.5) / (recipe.epochs * steps)
            for group in self.optimizer.param_groups:
                group["lr"] = recipe.rate * one_cycle(share, recipe.warmup)
            with self._autocast():
                logits = self.network(x)
            loss = F.cross_entropy(logits.float(), y, label_smoothing=recipe.smoothing)
            if self.teachers:
                loss = (loss + self._divergence(logits.float(), x)) / 2
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            if self.average is not None:
                self.average.update_parameters(self.network)
            bar.update()
        self.epoch += 1
        self.seconds += time.perf_counter() - began

    def validate(self, split: Split) -> None:
        """Accuracy of the (averaged) network; keeps the best epoch so far, the later of equals."""
        began = time.perf_counter()
        network = self.average.module if self.average is not None else self.network
        with self._autocast():
            self.history.append(accuracy(network, split))
        if self.history[-1] >= max(self.history):
            self.best = {k: v.detach().cpu().clone() for k, v in network.state_dict().items()}
            self.best_epoch = self.epoch
        self.seconds += time.perf_counter() - began

    def save(self, path: Path) -> None:
        """Write the state of the run, whole or not at all.

        Raises:
            CheckpointError: the file cannot be written.
        """
        states.write(path, self._settings(), self._state())

    def restore(self, path: Path) -> None:
        """Go on from a state that :meth:`save` wrote.

        Raises:
            ValueError: the state belongs to a run of other settings, or cannot be read.
        """
        remedy = (
            "Move it away, choose another output, or overwrite it with resume=False (--no-resume)."
        )
        states.read(path, self._settings(), self._go_on, remedy)

    def _go_on(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        for name in _PROGRESS:
            setattr(self, name, state[name])

    def _settings(self) -> dict[str, Any]:
        return {"name": self.name, "seed": self.seed, "recipe": asdict(self.recipe)}

    def _state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
            **{name: getattr(self, name) for name in _PROGRESS},
        }

    def _augmented(self, images: Tensor, flip: Tensor, generator: torch.Generator) -> Tensor:
        recipe = self.recipe
        images = images.to(self.device)
        if recipe.degrees:
            x = warp(data.to_float(images), recipe.degrees, recipe.scale, recipe.shift, generator)
        elif recipe.shift or recipe.flip:
            x = data.to_float(shift_flip(images, recipe.shift, flip, generator))
        else:
            x = data.to_float(images)
        if recipe.cutout:
            x = cutout(x, recipe.cutout, generator)
        return x.contiguous(memory_format=torch.channels_last)

    def _divergence(self, logits: Tensor, x: Tensor) -> Tensor:
        """How far the answers are from the teachers'; the gradient is on the scale of the loss."""
        with torch.no_grad(), self._autocast():
            answers = [F.log_softmax(teacher(x).float(), 1) for teacher in self.teachers]
        goal = torch.stack(answers).mean(0)
        softer, goal = (F.log_softmax(y / TEMPERATURE, 1) for y in (logits, goal))
        apart = F.kl_div(softer, goal, reduction="batchmean", log_target=True)
        return apart * TEMPERATURE**2

    def _autocast(self) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16) if self.reduced else nullcontext()


def accuracy(network: nn.Module, split: Split, batch: int = 500) -> float:
    """Share of the images that the network, in eval mode, classifies as labeled.

    Args:
        network: takes the images as floats; its mode is put back afterward.
        split: images and labels, at least one.
        batch: images at a time.

    Raises:
        ValueError: there is no image.
    """
    if not len(split):
        raise ValueError("accuracy: there is no image")
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    right = 0
    with torch.inference_mode():
        for start in range(0, len(split), batch):
            part = split[start : start + batch]
            x = part.floats().to(device).contiguous(memory_format=torch.channels_last)
            right += int((network(x).argmax(1).cpu() == part.labels).sum())
    network.train(training)
    return right / len(split)


def one_cycle(share: float, warmup: float) -> float:
    """The learning rate relative to its peak after a share of all steps (Smith & Topin, 2018).

    >>> [round(one_cycle(s, 0.2), 3) for s in (0.0, 0.1, 0.2, 0.6, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if share < warmup:
        return share / warmup
    return 0.5 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup)))


def bfloat16_pays(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32: it is where the hardware multiplies it.

    Forward and backward of a CIFAR-10 network on two cores with AVX512-BF16 (torch 2.13, otherwise
    idle machines): 388 GFLOP/s against 128 in float32 on an AMD EPYC (134 M MACs, batch 256), but
    133 against 170 on an Intel Xeon whose AMX tiles are hidden (102 M MACs, batch 128).
    Channels-last gained a fifth on ``mnist-cnn`` and nothing there.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not _CPU.is_file():
        return False
    about = _CPU.read_text(encoding="utf-8")
    return "amx_bf16" in about or ("avx512_bf16" in about and "AuthenticAMD" in about)


def _trained(start: str, name: str) -> models.Network:
    """The network to start from: one of the book's, or a checkpoint file of the same network."""
    if start in models.NAMES:
        return models.load(start)
    return models.load(name, start)


def _running(largest: float) -> Callable[[Any, Any, Any], None]:
    """A running average that forgets fast at first: the initial weights are not worth keeping."""

    def update(average: list[Tensor], current: list[Tensor], steps: Tensor) -> None:
        decay = min(largest, (1 + float(steps)) / (10 + float(steps)))
        get_ema_multi_avg_fn(decay)(average, current, steps)

    return update


def mixed(seed: int, number: int) -> int:
    """One seed out of a seed and a number (of an epoch, of a step), distinct for all that occur."""
    return (seed * 1_000_003 + number) % 2**63
