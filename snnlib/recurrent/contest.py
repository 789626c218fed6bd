"""The tasks, with the network and the recipes that the book uses on each.

Every method gets the same epochs from the same first weights: ``every`` of training at every step,
and then ``more`` of its own, at every step again or at the first crossing. ``end`` trains at the
last step all the while. Chapter *Rank coding* shows what comes of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from snnlib.recurrent import tasks
from snnlib.recurrent.coder import RankCoder
from snnlib.recurrent.coding import Coding, Given, IntensityRank, Leveled, Trace
from snnlib.recurrent.training import Recipe
from snnlib.zoo import data, spoken
from snnlib.zoo.data import Split
from snnlib.zoo.sequences import Sequences

Parts = tuple[Sequences, Sequences, Sequences]  # to fit, validation, test


@dataclass(frozen=True)
class Task:
    """A task of the book.

    Attributes:
        name: as on the command line.
        summary: what it is, in a line.
        parts: sequences to fit, for choices and for the test; made from a seed where they are
            drawn.
        network: the network of a seed, made for the sequences to fit.
        every: training at every step that all methods but ``end`` begin with.
        more: what comes then, its ``when`` aside.
        read: the threshold that answers are read at.
        dataset: the data set it needs, if any.
    """

    name: str
    summary: str
    parts: Callable[[int], Parts]
    network: Callable[[Sequences], RankCoder]
    every: Recipe
    more: Recipe
    read: float = 0.95
    dataset: str | None = None


class Standardize(nn.Module):
    """(x − mean) / std of each feature, measured once: (n, F) → (n, F)."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    @classmethod
    def of(cls, sequences: Sequences) -> Standardize:
        """From all steps of some sequences, padding left out."""
        x = sequences.values
        if sequences.lengths is not None:
            inside = torch.arange(x.shape[1]) < sequences.lengths[:, None]
            x = x[inside]
        x = x.float().flatten(0, -2)  # (steps, F)
        return cls(x.mean(0), x.std(0).clamp_min(1e-6))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class Noise(nn.Module):
    """Gaussian noise of this standard deviation on what it gets, in training alone."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def forward(self, x: Tensor) -> Tensor:
        return x + self.std * torch.randn_like(x) if self.training else x


def _drawn(draw: Callable[[int, int], Sequences], seed: int, fit: int, test: int) -> Parts:
    """Three parts that do not share a random number."""
    sizes = (fit, test, test)
    first, second, third = (draw(n, 3 * seed + i) for i, n in enumerate(sizes))
    return first, second, third


def _images(name: str, seed: int) -> Parts:
    """A data set of images; the validation images are those of the rest of the book."""
    train, test = data.load(name)
    fit, validation = data.validation_split(train)
    first, second, third = (_sequences(part) for part in (fit, validation, test))
    return first, second, third


def _sequences(split: Split) -> Sequences:
    return Sequences(split.images, split.labels, split.classes)


def _spoken(held_out: str | None, seed: int) -> Parts:
    return spoken.split(spoken.load(), held_out)


def _bits(train: Sequences) -> RankCoder:
    return RankCoder(1, 2, 64, block=4)


def _noisy(train: Sequences) -> RankCoder:
    return RankCoder(1, 2, 64, block=4, encoder=Standardize.of(train.take(slice(2000))))


def plain(bins: int, train: Sequences, hidden: int = 125) -> RankCoder:
    """Pixels straight into an LSTM, as in the paper's released notebooks."""
    return RankCoder(28 * 28, 10, hidden, coding=IntensityRank(bins), block=2)


def convolutional(bins: int, train: Sequences) -> RankCoder:
    """Two convolutions look at each frame; group norm, since batch norm would see who has left.

    Pooled before the norm, which then has a quarter to do.
    """
    encoder = nn.Sequential(
        *(nn.Conv2d(1, 32, 5, padding=2), nn.MaxPool2d(2), nn.GroupNorm(4, 32), nn.ReLU()),
        *(nn.Conv2d(32, 64, 5, padding=2), nn.MaxPool2d(2), nn.GroupNorm(8, 64), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(64 * 7 * 7, 256), nn.ReLU(), nn.Dropout(0.3)),
    )
    return RankCoder(256, 10, 125, encoder=encoder, coding=IntensityRank(bins))


def _tracing(train: Sequences) -> RankCoder:
    """Three convolutions look at all that has fired so far, up to the fourth of 20 steps."""
    encoder = nn.Sequential(
        *(nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.GroupNorm(4, 16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.MaxPool2d(2), nn.GroupNorm(4, 32), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.GroupNorm(8, 64), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(64 * 7 * 7, 256), nn.ReLU(), nn.Dropout(0.3)),
    )
    return RankCoder(256, 10, 125, encoder=encoder, coding=Trace(20, stop=4))


def heard(train: Sequences, coding: Coding | None = None) -> RankCoder:
    """Log-mel frames into an LSTM, standardized, as recorded or through a coding."""
    coding = coding or Given()
    told = replace(train, values=coding.prepare(train.values))
    # Without noise and dropout it knows 2,400 recordings by heart and is sure too early of others.
    encoder = nn.Sequential(Standardize.of(told), Noise(0.5), nn.Dropout(0.2))
    return RankCoder(spoken.MELS, 10, 128, encoder=encoder, coding=coding, block=4)


def _image_task(name: str, dataset: str, summary: str, convolutions: bool) -> Task:
    # Without shifts they know the training images by heart, and are sure of others too early.
    make, shift, rate = (convolutional, 2, 1e-3) if convolutions else (plain, 1, 4e-3)
    before, after = (5, 12) if convolutions else (10, 20)
    return Task(
        name, summary, partial(_images, dataset), partial(make, 20),
        every=Recipe("every", epochs=before, batch=256, rate=rate, shift=shift),
        more=Recipe(epochs=after, batch=256, rate=rate, shift=shift), dataset=dataset,
    )  # fmt: skip


def _trace_task(name: str, dataset: str, summary: str) -> Task:
    # Warped, not only shifted: a network that sees where strokes are could know them by heart.
    how = Recipe(batch=256, rate=3e-3, shift=2, degrees=12.0, scale=0.12)
    return Task(
        name, summary, partial(_images, dataset), _tracing,
        every=replace(how, when="every", epochs=5), more=replace(how, epochs=8), dataset=dataset,
    )  # fmt: skip


def _spoken_task(held_out: str | None) -> Task:
    name = "spoken" if held_out is None else f"spoken-{held_out}"
    who = "official split" if held_out is None else f"without {held_out}, who is the test"
    # A new speaker sits at another distance from another microphone.
    network = heard if held_out is None else partial(heard, coding=Leveled())
    return Task(
        name, f"spoken digits, log-mel frames; {who}", partial(_spoken, held_out), network,
        every=Recipe("every", epochs=20, batch=64, rate=2e-3),
        more=Recipe(epochs=20 if held_out is None else 12, batch=64, threshold=0.85),
        dataset=spoken.NAME,
    )  # fmt: skip


_TASKS = (
    Task(
        "bits", "25 random bits: is there a run of five?",
        lambda seed: _drawn(tasks.bits, seed, 250_000, 20_000), _bits,
        every=Recipe("every", epochs=1, batch=128, rate=5e-3),
        more=Recipe(epochs=2, batch=128, rate=3e-3), read=0.99,
    ),
    Task(
        "noisy-mean", "40 noisy samples: is their mean +0.05 or -0.05?",
        lambda seed: _drawn(tasks.noisy_mean, seed, 50_000, 20_000), _noisy,
        every=Recipe("every", epochs=1, batch=128, rate=5e-3),
        more=Recipe(epochs=2, batch=128, rate=3e-3),
    ),
    _image_task("mnist", "mnist", "MNIST, 20 bins of intensity, brightest first", False),
    _image_task("mnist-conv", "mnist", "the same through two convolutions", True),
    _trace_task("mnist-trace", "mnist", "MNIST, the first 4 of 20 bins, all so far in view"),
    _image_task("fashion", "fashion_mnist", "Fashion-MNIST, 20 bins of intensity", False),
    _image_task("fashion-conv", "fashion_mnist", "the same through two convolutions", True),
    *(_spoken_task(held_out) for held_out in (None, *spoken.SPEAKERS)),
    Task(
        "digits", "the embedded digits, 10 bins of intensity",
        partial(_images, "digits"), partial(plain, 10, hidden=64),
        every=Recipe("every", epochs=8, batch=64, rate=5e-3),
        more=Recipe(epochs=8, batch=64, rate=3e-3), dataset="digits",
    ),
)  # fmt: skip
TASKS = {task.name: task for task in _TASKS}


def get(name: str) -> Task:
    """The task of this name.

    Raises:
        ValueError: there is none.
    """
    if name not in TASKS:
        raise ValueError(f"there is no task {name!r}; there are: {', '.join(TASKS)}")
    return TASKS[name]
