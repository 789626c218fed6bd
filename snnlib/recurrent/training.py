"""Training of a network that decides when to answer, and of its two baselines.

``when`` says at which steps the loss is:

- ``"first"``: at the first crossing t* alone (rank coding); later steps are not computed;
- ``"every"``: at every step, the mean over a sequence's steps: the strong baseline;
- ``"end"``: at the last step, as recurrent classifiers usually are trained.

From scratch ``"first"`` can get stuck: as long as nothing crosses early only the last step gets a
gradient. Two ways out: train at every step first and go on from there, or let the threshold rise
(`Ramp`) from 0, where every sequence is answered at its first step. Both are ours.

An epoch's random numbers depend on the seed and the number of the epoch alone, so a run that was
interrupted and taken up gives the same weights as one that was not.
"""

from __future__ import annotations

import hashlib
import math
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import torch
from torch import Tensor, nn
from tqdm import tqdm

from snnlib._arguments import flag, real, whole
from snnlib.recurrent import crossing
from snnlib.recurrent.coding import Given
from snnlib.recurrent.network import Recurrent
from snnlib.zoo import states
from snnlib.zoo.augment import shift_flip, warp
from snnlib.zoo.sequences import Sequences
from snnlib.zoo.training import mixed

WHEN = ("first", "every", "end")


@dataclass(frozen=True)
class Ramp:
    """A threshold that goes from one value to another over a share of the training.

    >>> [Ramp(0.0, 0.9, over=0.5)(share) for share in (0.0, 0.25, 0.5, 1.0)]
    [0.0, 0.45, 0.9, 0.9]

    Args:
        start: p at the beginning, 0…1.
        end: p after it.
        over: share of the training that it takes, 0…1.

    Raises:
        ValueError: a value is not from 0 to 1.
    """

    start: float
    end: float
    over: float = 0.5

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            real(f"Ramp: {name}", value, 0.0, 1.0)

    def __call__(self, share: float) -> float:
        done = min(1.0, share / self.over) if self.over else 1.0
        return self.start + (self.end - self.start) * done


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Args:
        when: ``"first"``, ``"every"`` or ``"end"``.
        epochs: passes over the sequences.
        batch: sequences a step of Adam.
        rate: its learning rate at the start; it falls to 0 along half a cosine.
        threshold: p of the first crossing, or a `Ramp`.
        entropy: β, the reward of the entropy of every answer that the loss is of, in nats.
        clip: largest norm of the gradient.
        skip: do not compute what comes after t*; without, all is computed and t* is looked up.
        shift: images are moved by up to so many pixels each way, anew in every epoch.
        degrees: and rotated and sheared by up to so many.
        scale: and each side changed by up to this share. Every pixel keeps its brightness: it says
            when the pixel fires.
        seed: of the order of the sequences, and of what is done to images.

    Raises:
        ValueError: a value is out of range.
    """

    when: str = "first"
    epochs: int = 10
    batch: int = 128
    rate: float = 1e-3
    threshold: float | Ramp = 0.95
    entropy: float = 0.0
    clip: float = 1.0
    skip: bool = True
    shift: int = 0
    degrees: float = 0.0
    scale: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.when not in WHEN:
            raise ValueError(f"when={self.when!r} must be one of {', '.join(WHEN)}")
        whole("epochs", self.epochs)
        whole("batch", self.batch)
        whole("shift", self.shift, 0)
        whole("seed", self.seed, 0, 2**31 - 1)
        flag("skip", self.skip)
        for name in ("rate", "clip"):
            real(name, getattr(self, name), 0.0, above=True)
        real("entropy", self.entropy)
        real("degrees", self.degrees, 0.0, 90.0)
        real("scale", self.scale, 0.0, 0.9)
        if not isinstance(self.threshold, Ramp):
            real("threshold", self.threshold, 0.0, 1.0)

    def p(self, share: float) -> float:
        """The threshold after a share of the training."""
        return self.threshold(share) if isinstance(self.threshold, Ramp) else self.threshold


class Epoch(TypedDict):
    """What an epoch left."""

    loss: float
    steps: float  # mean t* of the training; the mean length for baselines
    crossed: float  # share of sequences answered before their last step
    computed: float  # share of all steps that were computed, padding aside
    seconds: float  # of training
    accuracy: NotRequired[float]  # on validation sequences, at their first crossing
    time: NotRequired[float]  # mean t* there


class Training:
    """A training run: what changes from epoch to epoch, and nothing else.

    Args:
        network: trained in place.
        train: the sequences.
        recipe: how.
        device: where; the network is moved there.
    """

    def __init__(
        self, network: Recurrent, train: Sequences, recipe: Recipe, device: torch.device
    ) -> None:
        self.network, self.train, self.recipe = network.to(device), train, recipe
        self.device = device
        self.optimizer = torch.optim.Adam(network.parameters(), recipe.rate)
        self.history: list[Epoch] = []

    def epoch(self, bar: tqdm) -> Epoch:
        """One pass over the sequences in a new order."""
        seed = mixed(self.recipe.seed, len(self.history) + 1)
        with torch.random.fork_rng():  # leaves the caller's random state as it was
            torch.manual_seed(seed)  # dropout of an encoder
            return self._epoch(torch.Generator().manual_seed(seed), bar)

    def _epoch(self, generator: torch.Generator, bar: tqdm) -> Epoch:
        recipe, n = self.recipe, len(self.train)
        began, done = time.perf_counter(), len(self.history)
        order = torch.randperm(n, generator=generator)
        batches = order.split(recipe.batch)
        sums, computed = torch.zeros(4, dtype=torch.float64, device=self.device), 0
        self.network.train()
        for i, rows in enumerate(batches):
            share = (done + i / len(batches)) / recipe.epochs
            for group in self.optimizer.param_groups:
                group["lr"] = recipe.rate * 0.5 * (1 + math.cos(math.pi * share))
            x, labels, lengths = self._batch(rows, generator)
            loss, times, steps = self.loss(x, labels, lengths, recipe.p(share))
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip)
            self.optimizer.step()
            ends = self.network.ends(x, lengths)
            now = (loss.detach() * len(x), times.sum(), (times < ends).sum(), ends.sum())
            sums += torch.stack([value.double() for value in now])  # no look: a GPU goes on
            computed += steps
            bar.update()
        total, when, crossed, all_steps = sums.tolist()
        found = {"loss": total / n, "steps": when / n, "crossed": crossed / n}
        found["computed"] = computed / all_steps
        return Epoch(**found, seconds=time.perf_counter() - began)  # type: ignore[typeddict-item]

    def _batch(
        self, rows: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Some sequences on the device, moved if the recipe says so."""
        cut = isinstance(self.network.coding, Given)  # else what lies there is no time step
        x, labels, lengths = self.train.batch(rows, cut)
        recipe = self.recipe
        if recipe.degrees or recipe.scale:
            amounts = (recipe.degrees, recipe.scale, recipe.shift)
            x = warp(x.float(), *amounts, generator, "nearest").to(x.dtype)
        elif recipe.shift:
            x = shift_flip(x, recipe.shift, None, generator)
        there = None if lengths is None else lengths.to(self.device)
        return x.to(self.device), labels.to(self.device), there

    def loss(
        self, x: Tensor, labels: Tensor, lengths: Tensor | None, p: float
    ) -> tuple[Tensor, Tensor, int]:
        """The mean loss of a batch, the times at which it was taken, and the steps computed."""
        recipe, network = self.recipe, self.network
        if recipe.when == "first" and recipe.skip:
            logits, times, computed = network(x, lengths, p)
        else:
            every = network.whole(x, lengths)  # (B, T, C)
            computed = every.shape[0] * every.shape[1]
            ends = network.ends(x, lengths)
            if recipe.when == "every":
                steps = torch.arange(every.shape[1], device=every.device)
                goals = labels[:, None].expand(-1, every.shape[1])
                logits = every.flatten(0, 1)
                losses = crossing.cross_entropy(logits, goals.flatten())
                if recipe.entropy:
                    losses = losses - recipe.entropy * crossing.entropy(logits)
                inside = steps < ends[:, None]  # (B, T)
                losses = (losses.view_as(inside) * inside).sum(1) / ends
                return losses.mean(), ends, computed
            times = crossing.first_crossing(every, p, lengths) if recipe.when == "first" else ends
            logits = crossing.at(every, times)
        losses = crossing.cross_entropy(logits, labels)
        if recipe.entropy:
            losses = losses - recipe.entropy * crossing.entropy(logits)
        return losses.mean(), times, computed

    def save(self, path: Path) -> None:
        """Write the state, whole or not at all."""
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
        }
        states.write(path, self._settings(), state)

    def restore(self, path: Path) -> None:
        """Go on from a state that `save` wrote.

        Raises:
            ValueError: it is of another run, or cannot be read.
        """
        remedy = "Move it away, or choose another file."
        states.read(path, self._settings(), self._go_on, remedy)

    def _go_on(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history = state["history"]

    def _settings(self) -> dict[str, Any]:
        """What a state must agree in to be taken up."""
        digest = hashlib.sha256()
        for part in (self.train.values, self.train.labels, self.train.lengths):
            if part is not None:
                digest.update(part.contiguous().view(torch.uint8).numpy().data)
        network = f"{self.network} {self.network.coding} {self.network.block}"
        return {"recipe": asdict(self.recipe), "network": network, "data": digest.hexdigest()}


def fit(
    network: Recurrent,
    train: Sequences,
    recipe: Recipe,
    *,
    state: str | Path | None = None,
    device: torch.device | str | None = None,
    progress: bool = False,
) -> list[Epoch]:
    """Train a network in place; see `snnlib.recurrent.coder.RankCoder.fit`."""
    if len(train) == 0:
        raise ValueError("there is no sequence to train on")
    for name in ("shift", "degrees", "scale"):
        amount = getattr(recipe, name)
        if amount and train.values.dim() != 4:
            raise ValueError(f"{name}={amount} is for images (N, C, H, W), not for sequences")
    if len(train.classes) != network.classes:
        raise ValueError(
            f"the network answers with {network.classes} classes, the sequences have "
            f"{len(train.classes)}"
        )
    place = next(network.parameters()).device if device is None else torch.device(device)
    run = Training(network, train, recipe, place)
    path = None if state is None else Path(state)
    if path is not None and path.is_file():
        run.restore(path)
    batches = -(-len(train) // recipe.batch)
    with tqdm(
        total=recipe.epochs * batches, unit="batch", disable=not progress, leave=False
    ) as bar:
        bar.update(len(run.history) * batches)
        while len(run.history) < recipe.epochs:
            run.history.append(run.epoch(bar))
            if path is not None:
                run.save(path)
    last = run.history[-1]
    if recipe.when == "first" and last["crossed"] < 0.01 and last["steps"] > 1:
        warnings.warn(
            "hardly a sequence is answered before its last step, so only that step was trained: "
            'train with when="every" first and go on from there, or let the threshold rise with '
            "Ramp(0, p)",
            stacklevel=3,
        )
    return run.history
