"""``touch``: a recurrent spiking network reads ON and OFF events, an LSTM beside it.

The *networks* of this experiment are what is read. ``spoken-events`` stands in for touch: 40
channels of spoken digits (log-mel energies, a step of 10 ms, recordings cut after a second) as a
fingertip's taxels would send them, by their changes (`snnlib.learning.touch`); the signals
themselves are kept in 8 bits. ``braille`` are the
published recordings, where ``$SNNLIB_DATA/braille/reading_braille_data.zip`` holds them; none of
its numbers are stored here.

First a sweep of the coding's threshold, judged on validation recordings alone (``sweep``). Then, at
the largest threshold that is within a point of the best there, three seeds of: the recurrent
spiking network; the same without recurrence; the same with decays that are not learned; an LSTM on
the same events; an LSTM on the signals themselves, where there are any. Operations and energy are
of a test recording, mean.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from book.experiments import learning
from book.experiments.frame import SEED, Cell, Context, Experiment, Row, Rows
from book.experiments.goals import Goal, goal
from book.experiments.learning import Recipe
from book.experiments.material import Material, TrainedRow
from snnlib.learning.loop import Plan
from snnlib.learning.touch import Counts, LSTMReader, SpikingReader, as_clips, delta_code
from snnlib.zoo import braille, spoken
from snnlib.zoo.data import Split
from snnlib.zoo.sequences import Sequences
from snnlib.zoo.training import accuracy

THETAS = {"spoken-events": (0.5, 1.0, 2.0), "braille": (1.0, 2.0, 5.0)}
LONGEST, HIDDEN, SEEDS = 100, 128, 3  # steps; neurons and LSTM units
RECIPE = Recipe(Plan(epochs=40, batch=64, clip=1.0), rate=4e-3)
SWEEP = Recipe(Plan(epochs=15, batch=64, clip=1.0), rate=4e-3)
PENALTY = 2.0  # of the mean spikes a neuron and step; 0.5: no better on validation, more spikes
TOLERANCE = 0.01  # of validation accuracy, for fewer events
DROP, NOISE = 0.2, 0.5  # of inputs, in training; noise of the LSTM's signals, in deviations
METHODS = {
    "rsnn": "recurrent spiking network",
    "feed-forward": "without recurrence",
    "fixed": "decays not learned",
    "lstm-events": "LSTM on events",
    "lstm": "LSTM on signals",
}
Reader = SpikingReader | LSTMReader


class Touched(TrainedRow):
    """One trained network; counts and costs are means a test recording."""

    method: str
    theta: float
    parameters: int
    steps: float
    events: float  # that come in; 0 where signals do
    spikes: float
    additions: float
    macs: float
    operations: float
    energy_nj: float  # this book's account
    literature_nj: float
    decays: tuple[float, float] | None  # means of α and β after training


class Swept(Row):
    """One threshold; nothing of it is of test recordings."""

    n: int  # validation recordings
    theta: float
    epochs: int
    events: float  # a validation recording, mean
    validation_accuracy: float


class Front(nn.Module):
    """Signals (n, F) standardized by mean and deviation, with noise and dropout in training."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, clips: Tensor) -> None:
        super().__init__()
        inside = clips[..., -1] > 0
        x = clips[..., :-1][inside]  # (steps of all, F)
        self.register_buffer("mean", x.mean(0))
        self.register_buffer("deviation", x.std(0).clamp_min(1e-6))

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.mean) / self.deviation
        if self.training:
            x = F.dropout(x + NOISE * torch.randn_like(x), DROP)
        return x


Parts = tuple[Sequences, Sequences, Sequences]  # to fit, validation, test


@lru_cache(maxsize=1)
def heard() -> Parts:
    """Spoken digits, cut after `LONGEST` steps."""
    fit, validation, test = (
        replace(part, values=part.values[:, :LONGEST], lengths=part.lengths.clamp(max=LONGEST))
        for part in spoken.split(spoken.load())
        if part.lengths is not None
    )
    return fit, validation, test


@lru_cache(maxsize=1)
def touched(theta: float) -> Parts:
    """The published recordings of a threshold.

    Raises:
        DatasetUnavailable: they are not here.
    """
    folder = Path(os.environ.get("SNNLIB_DATA", "")).expanduser() / "braille"
    return braille.split(braille.load(folder / braille.ARCHIVE, threshold=round(theta)))


def recordings(network: str, theta: float | None, limit: int | None) -> Material:
    """Clips to fit, for choices and for the test; events of a threshold, or the signals (None)."""
    parts = touched(theta or 1.0) if network == "braille" else heard()
    low, high = span(parts[0])
    sizes = (None, None, None) if limit is None else (5 * limit, limit, limit)
    few = [part.take(slice(size)) for part, size in zip(parts, sizes, strict=True)]
    found = []
    for part in few:
        if network == "braille":  # events already
            values = part.values.clamp(max=1)
        elif theta is not None:
            values = delta_code(part.values, theta)
        else:
            values = ((part.values - low) / (high - low)).clamp(0, 1)
        found.append(as_split(values, part))
    return Material(*found)


def span(part: Sequences) -> tuple[float, float]:
    """Smallest and largest value of some sequences, padding left out."""
    values = part.values
    if part.lengths is not None:
        values = values[torch.arange(values.shape[1]) < part.lengths[:, None]]
    return float(values.min()), float(values.max())


def as_split(values: Tensor, part: Sequences) -> Split:
    """Values in [0, 1] as clips of 8 bits: events are kept as they are, signals are rounded."""
    steps = values.shape[1]
    lengths = torch.full((len(part),), steps) if part.lengths is None else part.lengths
    held = as_clips(values, lengths.clamp(max=steps))
    return Split((255 * held).round().to(torch.uint8), part.labels, part.classes)


def made(method: str, material: Material, seed: int) -> Reader:
    """The untrained network of a method."""
    inputs, classes = material.fit.images.shape[-1] - 1, len(material.fit.classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if method.startswith("lstm"):
            front = Front(material.fit.floats()) if method == "lstm" else nn.Dropout(DROP)
            return LSTMReader(inputs, classes, HIDDEN, events=method != "lstm", front=front)
        return SpikingReader(
            inputs, classes, HIDDEN,
            recurrent=method != "feed-forward", learned=method != "fixed", drop=DROP,
        )  # fmt: skip


def cells(network: str) -> list[Cell]:
    """The sweep, then a cell a method and seed."""
    found = [
        Cell(f"{network}/sweep/{theta}", partial(sweep, network, theta), "sweep")
        for theta in THETAS[network]
    ]
    methods = [name for name in METHODS if network != "braille" or name != "lstm"]
    return found + [
        Cell(f"{network}/{method}/{seed}", partial(measure, network, method, seed))
        for seed in range(SEED, SEED + SEEDS)
        for method in methods
    ]


def sweep(network: str, theta: float, context: Context) -> list[Swept]:
    """A short training at one threshold."""
    material = recordings(network, theta, context.limit)
    net = made("rsnn", material, SEED).to(context.device)
    trained = train(net, material, SWEEP, SEED, context, f"{network}/sweep/{theta}")
    return [
        {
            "model": network,
            "n": len(material.validation),
            "theta": theta,
            "epochs": trained.epochs,
            "events": counted(net, material.validation)[1].events,
            "validation_accuracy": accuracy(net, material.validation, batch=200),
        }
    ]


def train(
    net: Reader, material: Material, recipe: Recipe, seed: int, context: Context, name: str
) -> learning.Trained:
    """Train in place; spikes cost a little where there are any."""

    def loss(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        found = F.cross_entropy(module(x), y)
        return found + PENALTY * module.rate if isinstance(module, SpikingReader) else found

    torch.manual_seed(seed)  # of dropout and noise
    return learning.train(net, material, recipe, seed, context, name, loss)


def counted(net: Reader, part: Split) -> tuple[Tensor, Counts]:
    """Answers, and what a recording took, mean."""
    taken = torch.zeros(3, dtype=torch.float64)

    def add(size: int) -> None:
        taken.add_(size * torch.tensor(net.counts, dtype=torch.float64))

    found = learning.answers(net.eval(), part, add)
    return found, Counts(*(taken / len(part)).tolist())


def chosen(swept: list[Swept]) -> float:
    """The largest threshold that is within `TOLERANCE` of the best on validation recordings."""
    best = max(row["validation_accuracy"] for row in swept)
    near = [row["theta"] for row in swept if row["validation_accuracy"] >= best - TOLERANCE]
    return max(near)


def measure(network: str, method: str, seed: int, context: Context) -> list[Touched]:
    """Train one network at the threshold that the sweep chose."""
    theta = chosen([context.rows[f"{network}/sweep/{theta}"][0] for theta in THETAS[network]])
    material = recordings(network, None if method == "lstm" else theta, context.limit)
    net = made(method, material, seed).to(context.device)
    trained = train(net, material, RECIPE, seed, context, f"{network}/{method}/{seed}")
    answers, counts = counted(net, material.test)
    cost, decays = net.cost(counts), None
    if isinstance(net, SpikingReader):
        alpha, beta = net.of_current.detach().sigmoid(), net.of_potential.detach().sigmoid()
        decays = float(alpha.mean()), float(beta.mean())
    return [
        {
            "model": network,
            "label": METHODS[method],
            "n": len(material.test),
            "seed": seed,
            "epochs": trained.epochs,
            "fitted_images": trained.images,
            "validation_accuracy": accuracy(net, material.validation, batch=200),
            "test_accuracy": float((answers == material.test.labels).double().mean()),
            "seconds_per_epoch": trained.seconds,
            "method": method,
            "theta": theta,
            "parameters": sum(p.numel() for p in net.parameters() if p.requires_grad),
            "steps": counts.steps,
            "events": counts.events,
            "spikes": counts.spikes,
            "additions": cost.additions,
            "macs": cost.macs,
            "operations": cost.operations,
            "energy_nj": cost.energy,
            "literature_nj": cost.literature,
            "decays": decays,
        }
    ]


def conclude(sections: Rows) -> Mapping[str, list[Goal]]:
    """The goals beside what was found: means over the seeds, on the stand-in."""
    of = partial(learning.mean_of, sections["runs"], model="spoken-events")
    lstm, own = of("test_accuracy", method="lstm"), of("test_accuracy", method="rsnn")
    many, few = of("operations", method="lstm"), of("operations", method="rsnn")
    behind = None if lstm is None or own is None else 100 * (lstm - own)
    return {
        "goals": [
            goal("accuracy of the LSTM on signals", lstm, at_least=0.95),
            goal("points by which the spiking network is behind", behind, at_most=5.0),
            goal("times fewer operations", many / few if many and few else None, at_least=20.0),
        ]
    }


EXPERIMENT = Experiment(
    name="touch",
    summary="ON and OFF events read by a recurrent spiking network and an LSTM: operations, energy",
    networks=("spoken-events",),
    cells=cells,
    conclude=conclude,
    datasets={"spoken-events": spoken.NAME, "braille": None},
)
