"""Train the book's networks: one call from the data set to a checkpoint with its record.

One cycle of SGD with Nesterov momentum, light augmentation on whole batches, label smoothing, an
average of the weights; bfloat16 and channels-last where the processor gains by them. The epoch is
chosen on the validation images; the test images are looked at once, at the end.

An epoch's random numbers depend on the seed and the number of the epoch alone. So the state after
an epoch is weights, optimiser and counters, and a run that was interrupted and resumed gives the
same network as one that was not (on the same machine and number of threads).

>>> path = fit("digits-cnn", epochs=1, out="trained.safetensors")  # doctest: +SKIP

Explained in the chapter on networks and data.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from snnlib.deploy.files import write_bytes
from snnlib.zoo import checkpoints, data, models, provenance
from snnlib.zoo.augment import cutout, shift_flip, warp
from snnlib.zoo.data import Split
from snnlib.zoo.recipes import FURTHER, RECIPES, Recipe


def fit(
    name: str,
    *,
    out: str | Path | None = None,
    seed: int = 0,
    epochs: int | None = None,
    recipe: Recipe | None = None,
    first: str | Path | None = None,
    device: str | torch.device | None = None,
    root: str | Path | None = None,
    resume: bool = True,
    progress: bool = True,
) -> Path:
    """Train a network and write its checkpoint; returns the path of the file.

    Args:
        name: one of :data:`snnlib.models.NAMES`.
        out: the checkpoint; by default ``NAME.safetensors`` in ``book/checkpoints`` where that
            folder exists below the working folder, else in the working folder.
        seed: of the initial weights, the order of the images and the augmentation.
        epochs: other than the recipe's.
        recipe: other than :data:`snnlib.recipes.RECIPES` ``[name]``.
        first: a checkpoint of this network; it is trained for a further cycle, by the recipe in
            :data:`snnlib.recipes.FURTHER`.
        device: by default CUDA where there is one, else the CPU.
        root: folder of the data sets, as in :func:`snnlib.data.load`.
        resume: go on from the state that an interrupted run of the same settings left next to
            ``out``; with ``False`` begin anew.
        progress: show a progress bar.

    Raises:
        ValueError: unknown network, one without a recipe for a further cycle, a recipe beside
            ``first``, or a state file of other settings.
        DatasetUnavailable: the data set cannot be had.
        CheckpointError: the file cannot be written; or the recipe starts from the weights of
            another network, and they are not to be had or do not fit.
    """
    dataset = models.dataset_of(name)  # before anything slow: an unknown name fails at once
    command = f"snnlib train {name} --seed {seed}"
    if epochs is not None:
        command += f" --epochs {epochs}"
    if recipe is not None and first is not None:
        raise ValueError("first and recipe both say how to begin: give a recipe with start=FILE")
    given, recipe = recipe, recipe or _recipe(name, first)
    if first is not None:
        command += f" --first {first}"
    if epochs is not None:
        recipe = replace(recipe, epochs=epochs)
    if given is not None:
        command = f"snnlib.train.fit({name!r}, seed={seed}, recipe={recipe})"
    if recipe.epochs < 1:
        raise ValueError(f"epochs must be at least 1, not {recipe.epochs}")
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    path = Path(out) if out is not None else _default_path(name)
    before = models.load(name, first).metadata if first is not None else None
    commit = provenance.commit()  # now: the source tree may move on while the network trains
    train, test = data.load(dataset, root)
    fit_part, validation = data.validation_split(train)

    with torch.random.fork_rng():  # leaves the caller's random state as it was
        run = Run(name, recipe, seed, where)
        state_file = path.with_name(path.name + ".state")
        if resume and state_file.is_file():
            run.restore(state_file)
        run.save(state_file)  # a folder that cannot be written shows now, not after an epoch
        with tqdm(
            total=recipe.epochs * run.steps_per_epoch(len(fit_part)),
            initial=run.epoch * run.steps_per_epoch(len(fit_part)),
            desc=name,
            disable=not progress,
            mininterval=1.0,
        ) as bar:
            while run.epoch < recipe.epochs:
                run.train_epoch(fit_part, bar)
                run.validate(validation)
                bar.set_postfix_str(f"validation {100 * run.history[-1]:.2f} %")
                run.save(state_file)

    result = run.network.eval()
    result.load_state_dict(run.best)
    full = accuracy(result, validation)
    state: dict[str, Tensor] = checkpoints.narrow(run.best)
    result.load_state_dict(state)
    storage = "float16"
    if accuracy(result, validation) < full:
        state, storage = run.best, "float32"
        result.load_state_dict(state)
    record = {
        "architecture": name,
        "dataset": dataset,
        "validation_accuracy": accuracy(result, validation),
        "validation_images": len(validation),
        "test_accuracy": accuracy(result, test),
        "test_images": len(test),
        "parameters": sum(p.numel() for p in result.parameters()),
        "macs": macs(result, tuple(test.images.shape[1:])),
        "storage": storage,
        "recipe": asdict(recipe),
        "best_epoch": run.best_epoch,
        "validation_history": [round(a, 5) for a in run.history],
        "seed": seed,
        "command": command,
        "commit": commit,
        "seconds": round(run.seconds, 1),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "hardware": provenance.hardware(where),
        "precision": "bfloat16 autocast" if run.reduced else "float32",
        "versions": provenance.versions("torch", "numpy", "safetensors"),
    }
    if before is not None:
        record["first"] = before
    checkpoints.write(path, state, record)
    state_file.unlink(missing_ok=True)
    return path


TEMPERATURE = 2.0  # of the answers that teachers and their student are compared by


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
        generator = torch.Generator().manual_seed(_mix(self.seed, self.epoch + 1))
        torch.manual_seed(_mix(self.seed, -self.epoch - 1))  # dropout
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
        content = io.BytesIO()
        torch.save({"settings": self._settings(), **self._state()}, content)
        write_bytes(path, content.getvalue(), checkpoints.CheckpointError)

    def restore(self, path: Path) -> None:
        """Go on from a state that :meth:`save` wrote.

        Raises:
            ValueError: the state belongs to a run of other settings, or cannot be read.
        """
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            settings = state["settings"]
        except Exception as error:
            raise ValueError(
                f"{path} is not the state of a training run ({error}). Delete it, or begin anew "
                "with resume=False (--no-resume)."
            ) from error
        if settings != self._settings():
            raise ValueError(
                f"{path} is the state of a run with other settings: {settings}. Delete it, or "
                "begin anew with resume=False (--no-resume)."
            )
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.best, self.best_epoch = state["best"], state["best_epoch"]
        self.epoch, self.history, self.seconds = state["epoch"], state["history"], state["seconds"]

    def _settings(self) -> dict[str, Any]:
        return {"name": self.name, "seed": self.seed, "recipe": asdict(self.recipe)}

    def _state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "epoch": self.epoch,
            "history": self.history,
            "seconds": self.seconds,
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
    """Share of the images that the network, in eval mode, classifies as labelled.

    Args:
        network: takes images in [0, 1]; its mode is put back afterwards.
        split: images and labels.
        batch: images at a time.
    """
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    right = 0
    with torch.inference_mode():
        for start in range(0, len(split), batch):
            part = split[start : start + batch]
            x = data.to_float(part.images.to(device)).contiguous(memory_format=torch.channels_last)
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


def macs(network: nn.Module, shape: Iterable[int]) -> int:
    """Multiply–accumulates of one image (C, H, W): convolutions and linear layers, padding in."""
    total = 0

    def count(module: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output[0].numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            total += output[0].numel() * module.in_features

    hooks = [m.register_forward_hook(count) for m in network.modules()]
    training = network.training
    with torch.inference_mode():
        network.eval()(torch.zeros(1, *shape, device=next(network.parameters()).device))
    network.train(training)
    for hook in hooks:
        hook.remove()
    return total


def bfloat16_pays(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32: it is where the hardware multiplies it.

    Forward and backward of a CIFAR-10 network of 134 M MACs, batch 256, on two cores of an AMD EPYC
    with AVX512-BF16 (torch 2.13, an otherwise idle machine, one run of four steps): 388 GFLOP/s
    against 128 in float32. Channels-last gained a fifth on ``mnist-cnn`` and nothing there.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capability = torch.backends.cpu.get_cpu_capability()
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    return capability == "AVX512" and ("avx512_bf16" in flags or "amx_bf16" in flags)


def _recipe(name: str, first: str | Path | None) -> Recipe:
    """The recipe of the first cycle, or of one after ``first``."""
    if first is None:
        return RECIPES[name]
    if name not in FURTHER:
        raise ValueError(
            f"{name} has no recipe for a further cycle after {first}. Those that have one: "
            f"{', '.join(FURTHER)}. Give a recipe with start={str(first)!r}."
        )
    return replace(FURTHER[name], start=str(first))


def _trained(start: str, name: str) -> models.Network:
    """The network to start from: one of the book's, or a checkpoint file of the same network."""
    if start in models.NAMES:
        return models.load(start)
    return models.load(name, start)


def _default_path(name: str) -> Path:
    folder = Path("book", "checkpoints")
    return (folder if folder.is_dir() else Path()) / f"{name}.safetensors"


def _running(largest: float) -> Callable[[Any, Any, Any], None]:
    """A running average that forgets fast at first: the initial weights are not worth keeping."""

    def update(average: list[Tensor], current: list[Tensor], steps: Tensor) -> None:
        decay = min(largest, (1 + float(steps)) / (10 + float(steps)))
        get_ema_multi_avg_fn(decay)(average, current, steps)

    return update


def _mix(seed: int, number: int) -> int:
    """One seed out of two numbers, distinct for all that occur here."""
    return (seed * 1_000_003 + number) % 2**63
