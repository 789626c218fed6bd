"""``rank-coding``: accuracy against the time of the answer, for three ways to train and observers.

The *networks* of this experiment are the tasks of `snnlib.recurrent.contest`. On each: rank coding
after a warm start, training at every step with as many epochs, training at the end; on the digits
also rank coding from scratch; all with three seeds. Where a speaker is left out, rank coding hears
the frames as they were recorded, too (``recorded``, one seed); on the noisy mean it is rewarded for
entropy (``β = …``). All are read at their first crossing on the test sequences, at the threshold of
the task and along a sweep.
Validation sequences are swept too (``validation``): what is chosen is chosen there. Times are
processor times on a CPU, of an epoch on 2,000 sequences, for thresholds that skip little to much,
of the `TIMED_TASKS`.

``first_bin`` asks how much the first step alone says on MNIST, for several widths of the first bin
of intensity.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from typing import NotRequired, TypedDict

import torch

from book.experiments.frame import Cell, Context, Experiment, Row
from snnlib.recurrent import compare, contest
from snnlib.recurrent.coder import RankCoder
from snnlib.recurrent.compare import Measured, Reading
from snnlib.zoo import spoken
from snnlib.zoo.sequences import Sequences

SEEDS = (0, 1, 2)
TIMED = (0.3, 0.5, 0.7, 0.9, 0.95, 0.99)
TIMED_TASKS = ("bits", "noisy-mean", "spoken", "digits")
BINS = {"mnist": (1, 2, 4, 10, 20), "mnist-conv": (2, 20)}
FIRST_EPOCHS = 6
LONG = ("fashion-conv",)  # hours on a processor: only where it is asked for
TRACED, TRACED_SPEAKER = (4, 5, 6, 7), "jackson"  # pairs that begin with the same sound
SPLITS = tuple(name for name in contest.TASKS if name.startswith("spoken-"))  # speakers held out
RECORDED = "recorded"  # rank coding that is not told how loud a speaker is
REWARDS = {f"β = {beta:g}": beta for beta in (0.1, 0.3, 1.0)}  # of entropy, on noisy-mean


class Trace(TypedDict):
    """What a network answers after every frame of one recording; no sound can be made from it."""

    digit: int
    speaker: str
    take: int
    loudness: list[float]  # of each frame: mean of the log energies, natural logarithm
    outputs: list[list[float]]  # probabilities (frames, 10)


class RankRun(Row, Measured):
    """One method and seed on the test sequences of a task."""

    validation: list[Reading]
    traces: NotRequired[list[Trace]]


class FirstBin(Row):
    """A network that sees the first step alone."""

    n: int
    bins: int
    seed: int
    validation_accuracy: float
    accuracy: float


def cells(task: str) -> list[Cell]:
    """A cell a method and seed; the observer; what belongs to one task alone."""
    methods = [*compare.METHODS]
    methods += {"digits": ["scratch"], "noisy-mean": [*REWARDS]}.get(task, [])
    found = [
        Cell(f"{task}/{method}/{seed}", partial(measure, task, method, seed))
        for seed in SEEDS
        for method in methods
    ]
    if task in SPLITS:
        name = f"{task}/{RECORDED}/{SEEDS[0]}"
        found.append(Cell(name, partial(measure, task, RECORDED, SEEDS[0])))
    if task in ("bits", "noisy-mean"):
        found += [Cell(f"{task}/observer/{seed}", partial(observe, task, seed)) for seed in SEEDS]
    found += [
        Cell(f"{task}/first-bin/{bins}", partial(first_bin, task, bins), "first_bin")
        for bins in BINS.get(task, ())
    ]
    return found


def parts(task: str, seed: int, context: Context) -> contest.Parts:
    """The sequences of a task; with a limit the first of each part, to fit four times as many."""
    found = contest.get(task).parts(seed)
    if context.limit is None:
        return found
    fit, validation, test = found
    n = context.limit
    return fit.take(slice(4 * n)), validation.take(slice(n)), test.take(slice(n))


def measure(task: str, method: str, seed: int, context: Context) -> list[RankRun]:
    """Train and read one network."""
    about, how = contest.get(task), method
    if method == RECORDED:
        about, how = replace(about, network=contest.heard), "first"
    elif method in REWARDS:
        about = replace(about, more=replace(about.more, entropy=REWARDS[method]))
        how = "first"
    fit, validation, test = parts(task, seed, context)
    shared = method in ("first", "every", *REWARDS)
    start = warm(task, seed, context.limit, context.device, context.progress) if shared else None
    coder = compare.train(
        about, fit, how, seed, start=start, device=context.device, progress=context.progress
    )
    here = task in TIMED_TASKS and context.device.type == "cpu"
    timed = fit if here and method == "first" and seed == SEEDS[0] else None
    row = compare.measure(about, coder, test, method, seed, timed, TIMED)
    chosen = compare.measure(about, coder, validation, method, seed)
    found: RankRun = {"model": task, **row, "validation": chosen["sweep"]}
    if task == "spoken" and seed == SEEDS[0] and method != "scratch":
        found["traces"] = traces(coder, test)
    return [found]


@lru_cache(maxsize=1)
def warm(
    task: str, seed: int, limit: int | None, device: torch.device, progress: bool
) -> RankCoder:
    """The same for rank coding and training at every step, so it is computed once."""
    fit, _, _ = parts(task, seed, Context(device, limit))
    about = contest.get(task)
    return compare.warm_start(about, fit, "every", seed, device=device, progress=progress)


def traces(coder: RankCoder, part: Sequences) -> list[Trace]:
    """The recordings `TRACED`, heard to their ends."""
    assert part.lengths is not None
    speaker, take = spoken.SPEAKERS.index(TRACED_SPEAKER), 0
    found: list[Trace] = []
    for digit in TRACED:
        chosen = (part.labels == digit) & (part.info["speaker"] == speaker)
        one = part.take(chosen & (part.info["take"] == take))
        if not len(one):  # left out by a limit
            continue
        assert one.lengths is not None
        frames = one.values[:, : int(one.lengths)]
        outputs = coder.outputs(frames).softmax(-1)[0].cpu()
        found.append(
            {
                "digit": digit,
                "speaker": TRACED_SPEAKER,
                "take": take,
                "loudness": [round(value, 2) for value in frames[0].mean(1).tolist()],
                "outputs": [[round(y, 3) for y in row] for row in outputs.tolist()],
            }
        )
    return found


def observe(task: str, seed: int, context: Context) -> list[RankRun]:
    """The exact observer on the same sequences."""
    about = contest.get(task)
    _, validation, test = parts(task, seed, context)
    row, chosen = (compare.observer(about, part, seed) for part in (test, validation))
    assert row is not None
    assert chosen is not None
    return [{"model": task, **row, "validation": chosen["sweep"]}]


def first_step(coder: RankCoder, part: Sequences) -> float:
    """The share of right answers after one step."""
    answers = coder.decide(part.values, threshold=0.0).answers.cpu()
    return float((answers == part.labels).double().mean())


def first_bin(task: str, bins: int, context: Context) -> list[FirstBin]:
    """A threshold of 0 is crossed at the first step: trained and read there, nothing else is seen.

    One bin shows the whole image as a frame in which every pixel fires: nothing at all.
    """
    about = contest.get(task)
    make = contest.convolutional if task.endswith("-conv") else contest.plain
    seed = SEEDS[0]
    fit, validation, test = parts(task, seed, context)
    torch.manual_seed(seed)
    coder = make(bins, fit)
    recipe = replace(about.more, epochs=FIRST_EPOCHS, threshold=0.0, seed=seed)
    coder.fit(fit, recipe, device=context.device)
    return [
        {
            "model": task,
            "n": len(test),
            "bins": bins,
            "seed": seed,
            "validation_accuracy": first_step(coder, validation),
            "accuracy": first_step(coder, test),
        }
    ]


EXPERIMENT = Experiment(
    name="rank-coding",
    summary="answers at the first crossing: accuracy against mean time, three ways to train",
    networks=tuple(task for task in contest.TASKS if task not in LONG),
    cells=cells,
    datasets={name: task.dataset for name, task in contest.TASKS.items()},
)
