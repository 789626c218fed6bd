"""Train the book's networks: one call from the data set to a checkpoint with its record.

The epoch is chosen on the validation images; the test images are looked at once, at the end. How an
epoch goes stands in `snnlib.zoo.training`.

>>> path = fit("digits-cnn", epochs=1, out="trained.safetensors")  # doctest: +SKIP

"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

import torch
from torch import Tensor
from tqdm import tqdm

from snnlib._arguments import whole
from snnlib.zoo import checkpoints, data, distributed, models, provenance
from snnlib.zoo.data import Split
from snnlib.zoo.recipes import FURTHER, RECIPES, Recipe
from snnlib.zoo.training import Run, accuracy, bfloat16_pays, one_cycle

__all__ = ["Run", "accuracy", "bfloat16_pays", "fit", "one_cycle"]


class Trained(TypedDict):
    """What a training went by."""

    recipe: dict[str, Any]  # fields of `Recipe`
    best_epoch: int
    validation_history: list[float]  # accuracy after each epoch
    seed: int
    seconds: float
    precision: str


class Tested(TypedDict):
    """What the stored weights reach; accuracies are fractions."""

    validation_accuracy: float
    validation_images: int
    test_accuracy: float
    test_images: int
    parameters: int
    storage: str  # dtype of the matrices


class Record(Trained, Tested, provenance.Made):
    """The record in a checkpoint."""

    architecture: str
    dataset: str
    first: NotRequired[Record]  # of the cycle before
    note: NotRequired[str]
    macs: NotRequired[int]  # by snnlib 0.1, padding counted


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
        ValueError: unknown network or device, one without a recipe for a further cycle, a recipe
            beside ``first``, a seed that is no whole number from 0 to 2⁶³ − 1, or a state file of
            other settings.
        DatasetUnavailable: the data set cannot be had.
        CheckpointError: the file cannot be written; or the recipe starts from the weights of
            another network, and they are not to be had or do not fit.
    """
    dataset = models.dataset_of(name)  # before anything slow: an unknown name fails at once
    seed = whole("seed", seed, 0, 2**63 - 1)
    command, recipe = _plan(name, seed, epochs, recipe, first)
    where = distributed.device(device)
    path = Path(out) if out is not None else _default_path(name)
    if path.is_dir():
        raise checkpoints.CheckpointError(f"{path} is a folder: name a file in it")
    before = models.load(name, first).metadata if first is not None else None
    made = provenance.record(where, "numpy", "safetensors", command=command)
    train, test = data.load(dataset, root)
    fit_part, validation = data.validation_split(train)
    state_file = path.with_name(path.name + ".state")
    with torch.random.fork_rng():  # leaves the caller's random state as it was
        run = Run(name, recipe, seed, where)
        if resume and state_file.is_file():
            run.restore(state_file)
        _train(run, fit_part, validation, state_file, progress)
    weights, found = _finished(run, validation, test)
    record: Record = {
        "architecture": name, "dataset": dataset, **found, **_about(run), **made
    }  # fmt: skip
    if before is not None:
        record["first"] = cast("Record", before)
    checkpoints.write(path, weights, record)
    state_file.unlink(missing_ok=True)
    return path


def _about(run: Run) -> Trained:
    """What a finished run says of itself, for the record."""
    return {
        "recipe": asdict(run.recipe),
        "best_epoch": run.best_epoch,
        "validation_history": [round(a, 5) for a in run.history],
        "seed": run.seed,
        "seconds": round(run.seconds, 1),
        "precision": "bfloat16 autocast" if run.reduced else "float32",
    }


def _plan(
    name: str, seed: int, epochs: int | None, recipe: Recipe | None, first: str | Path | None
) -> tuple[str, Recipe]:
    """The command that repeats the run, and the recipe it goes by."""
    if recipe is not None and first is not None:
        raise ValueError("first and recipe both say how to begin: give a recipe with start=FILE")
    chosen = recipe or _recipe(name, first)
    if epochs is not None:
        chosen = replace(chosen, epochs=epochs)
    chosen = replace(chosen, epochs=whole("epochs", chosen.epochs))
    if recipe is not None:
        return f"snnlib.train.fit({name!r}, seed={seed}, recipe={chosen})", chosen
    command = f"snnlib train {name} --seed {seed}"
    command += f" --epochs {epochs}" if epochs is not None else ""
    command += f" --first {first}" if first is not None else ""
    return command, chosen


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


def _train(run: Run, fit_part: Split, validation: Split, state_file: Path, progress: bool) -> None:
    """The epochs that are left; the state is kept after each."""
    run.save(state_file)  # a folder that cannot be written shows now, not after an epoch
    steps = run.steps_per_epoch(len(fit_part))
    with tqdm(
        total=run.recipe.epochs * steps, initial=run.epoch * steps, desc=run.name,
        disable=not progress, mininterval=1.0,
    ) as bar:  # fmt: skip
        while run.epoch < run.recipe.epochs:
            run.train_epoch(fit_part, bar)
            run.validate(validation)
            bar.set_postfix_str(f"validation {100 * run.history[-1]:.2f} %")
            run.save(state_file)


def _finished(run: Run, validation: Split, test: Split) -> tuple[dict[str, Tensor], Tested]:
    """The best weights, in float16 where validation does not suffer, and what they reach."""
    network = run.network.eval()
    network.load_state_dict(run.best)
    full = accuracy(network, validation)
    weights, storage = checkpoints.narrow(run.best), "float16"
    network.load_state_dict(weights)
    if accuracy(network, validation) < full:
        weights, storage = run.best, "float32"
        network.load_state_dict(weights)
    return weights, {
        "validation_accuracy": accuracy(network, validation),
        "validation_images": len(validation),
        "test_accuracy": accuracy(network, test),
        "test_images": len(test),
        "parameters": sum(p.numel() for p in network.parameters()),
        "storage": storage,
    }


def _default_path(name: str) -> Path:
    folder = Path("book", "checkpoints")
    return (folder if folder.is_dir() else Path()) / f"{name}.safetensors"
