"""The frame of every experiment: named cells, one after another, each kept as soon as it is done.

The results file is written whole when the last cell is done. Until then finished cells lie beside
it in ``NAME.partial``, rewritten whole after every cell; a long cell may keep the state of its
training in ``NAME.training.partial/``. A resumed run goes on from there (or adds networks to a
finished file), and refuses where its setting or a checkpoint is another one: numbers of different
settings never meet in one file. Numbers of different machines may: every cell carries the hardware
that it was computed on. With a limit on the images the file has another name,
``NAME-first-N.json``, so that it cannot be taken for the full result.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import torch
from tqdm import tqdm

from book.experiments import index
from book.experiments.setting import Subject
from snnlib.backend.modes import full_convolutions
from snnlib.deploy.files import write_bytes
from snnlib.zoo import checkpoints, data, models, provenance

FOLDER = Path(__file__).resolve().parents[1] / "results"  # wherever the command is run
SEED = 0
Rows = dict[str, list[Any]]  # as JSON holds them; who reads some says of which type they are
# What an unfinished run holds, and what each of its cells does.
_STATE = {"settings": dict, "networks": list, "checkpoints": dict, "cells": dict}
_CELL = {"rows", "seconds", "commit", "date", "hardware", "versions"}


class Row(TypedDict):
    """What every row of a results file holds; a cell's function says what else its rows do."""

    cell: NotRequired[str]  # that computed it: written into the file with the row
    model: str  # the network's name


class Labeled(Row):
    """A row with the name it has in tables and figures."""

    label: str
    n: int  # images


class ExperimentError(ValueError):
    """An experiment cannot run, or go on: says what is missing or different and what to do."""


@dataclass
class Context:
    """What all cells share.

    Attributes:
        device: where to compute.
        limit: the first so many test and validation images; None: all.
        rows: rows of the cells done so far, by name.
        scratch: folder for what long cells keep between interruptions; None: nothing is kept.
        progress: long cells show progress bars of their own.
    """

    device: torch.device
    limit: int | None
    rows: Rows = field(default_factory=dict)
    scratch: Path | None = None
    progress: bool = False
    _subject: Subject | None = None

    def subject(self, network: str) -> Subject:
        """A network with its images; the last one used is kept."""
        if self._subject is None or self._subject.name != network:
            self._subject = Subject(network, self.device, self.limit)
        return self._subject

    def state(self, name: str) -> Path | None:
        """The file that keeps the state of a cell's training; None: nowhere."""
        return None if self.scratch is None else self.scratch / f"{name.replace('/', '-')}.state"


@dataclass(frozen=True)
class Cell:
    """One piece of work.

    Attributes:
        name: unique in the experiment, beginning with the network: ``mnist-cnn/if/plain``.
        compute: gives the rows; may look up rows of earlier cells in the context.
        section: the list of the results file that the rows belong to.
    """

    name: str
    compute: Callable[[Context], Sequence[Mapping[str, Any]]]
    section: str = "runs"


@dataclass(frozen=True)
class Experiment:
    """A named experiment.

    Attributes:
        name: as on the command line.
        summary: one line: what is measured.
        networks: those it is made for; or whatever else it is about, named in ``datasets``.
        cells: the cells of one network.
        conclude: further entries of the results file, computed from its sections.
        datasets: what of ``networks`` is no network of the book, and the data set that it needs;
            None: none.
        version: raised when cells come to mean something else, so that old ones are not mixed in.
    """

    name: str
    summary: str
    networks: tuple[str, ...]
    cells: Callable[[str], list[Cell]]
    conclude: Callable[[Rows], Mapping[str, Any]] = lambda sections: {}
    datasets: Mapping[str, str | None] = field(default_factory=dict)
    version: int = 1


def results_file(experiment: str, limit: int | None = None, folder: Path = FOLDER) -> Path:
    """The results file of an experiment; another one where the images are limited."""
    suffix = "" if limit is None else f"-first-{limit}"
    return folder / f"{experiment}{suffix}.json"


def run(
    experiment: Experiment,
    networks: Sequence[str] | None = None,
    limit: int | None = None,
    device: torch.device | str = "cpu",
    resume: bool = False,
    folder: str | Path = FOLDER,
    progress: bool = True,
    renew: bool = False,
) -> Path:
    """Compute the cells of an experiment that are not done, and write its results file.

    Args:
        experiment: what to run.
        networks: those to run on; default: all it is made for (with ``resume`` and an unfinished
            run: those of that run).
        limit: use the first so many test and validation images only.
        device: where to compute.
        resume: keep the cells of an unfinished run, or of the results file.
        folder: of the results file.
        progress: show a progress bar.
        renew: with ``resume``, compute the cells anew that came from another checkpoint than the
            one that is here now, and keep all others.

    Returns:
        The results file.

    Raises:
        ExperimentError: a network, checkpoint or data set that is needed is not here; an
            unfinished run is in the way, or was made in another setting.
    """
    device = torch.device(device)
    target = results_file(experiment.name, limit, Path(folder))
    unfinished = target.with_suffix(".partial")
    if unfinished.is_file() and not resume:
        raise ExperimentError(
            f"{unfinished} holds an unfinished run: go on with --resume, or move it away to begin "
            "anew"
        )
    settings = {"version": experiment.version, "limit": limit, "seed": SEED}
    state: dict[str, Any] = {"settings": settings, "networks": [], "checkpoints": {}, "cells": {}}
    if resume and (unfinished.is_file() or target.is_file()):
        state = _read(unfinished if unfinished.is_file() else target)
        _check_settings(state["settings"], settings, target)
        if networks is None and unfinished.is_file():
            networks = state["networks"]
    chosen = _choose(experiment, networks, state["networks"])
    digests = _available(experiment, chosen)
    changed = [n for n, digest in digests.items() if state["checkpoints"].get(n, digest) != digest]
    if changed and not renew:
        raise ExperimentError(
            f"{target.name}: the cells of {', '.join(changed)} were computed from another "
            f"checkpoint; compute these anew with --renew, or run without --resume"
            f"{_after(unfinished)}"
        )
    for name in changed:
        for cell in experiment.cells(name):
            state["cells"].pop(cell.name, None)
    state |= {"networks": chosen, "checkpoints": digests}
    cells = [cell for network in chosen for cell in experiment.cells(network)]
    scratch = unfinished.with_suffix(".training.partial")
    if changed or not resume:
        shutil.rmtree(scratch, ignore_errors=True)
    context = Context(device, limit, scratch=scratch, progress=progress)
    _compute(cells, context, state, unfinished)
    record = _record(experiment, cells, state)
    write_bytes(target, _text(record).encode())
    unfinished.unlink(missing_ok=True)
    shutil.rmtree(scratch, ignore_errors=True)  # states of trainings that are done
    index.write(target.parent)
    return target


def _compute(cells: list[Cell], context: Context, state: dict[str, Any], unfinished: Path) -> None:
    done = state["cells"]
    # cuDNN would round the factors of float32 products to TF32: spikes at thresholds would differ.
    with (
        full_convolutions(),
        tqdm(total=len(cells), unit="cell", disable=not context.progress) as bar,
    ):
        for cell in cells:
            bar.set_description(cell.name)
            if cell.name not in done:
                began, made = time.perf_counter(), provenance.record(context.device, "numpy")
                rows = _rounded(cell.compute(context))
                seconds = round(time.perf_counter() - began, 1)
                done[cell.name] = {"rows": rows, "seconds": seconds, **made}
                write_bytes(unfinished, json.dumps(state).encode())
            context.rows[cell.name] = done[cell.name]["rows"]
            bar.update()


def _choose(
    experiment: Experiment, networks: Sequence[str] | None, held: Sequence[str]
) -> list[str]:
    """The networks asked for and those already there, in the experiment's order."""
    asked = experiment.networks if networks is None else networks
    known = [*models.NAMES, *experiment.datasets]
    if unknown := [name for name in asked if name not in known]:
        raise ExperimentError(
            f"--networks {unknown[0]}: there is no such network; there are: {', '.join(known)}"
        )
    return [name for name in known if name in asked or name in held]


def _available(experiment: Experiment, networks: list[str]) -> dict[str, str]:
    """SHA-256 of every network's weights; one error that names everything that is missing."""
    digests: dict[str, str] = {}
    missing, problems = [], []
    loaded: set[str] = set()
    for name in networks:
        try:
            if name in experiment.datasets:
                dataset = experiment.datasets[name]
            else:
                digests[name] = hashlib.sha256(checkpoints.find(name).read_bytes()).hexdigest()
                dataset = models.dataset_of(name)
            if dataset is not None and dataset not in loaded:
                data.load(dataset)
                loaded.add(dataset)
        except (checkpoints.CheckpointError, data.DatasetUnavailable) as error:
            missing.append(name)
            problems.append(f"  {name}: {error}")
    if problems:
        rest = [name for name in networks if name not in missing]
        way = f"\nOr leave them out: --networks {','.join(rest)}" if rest else ""
        listed = "\n".join(problems)
        raise ExperimentError(f"{experiment.name} needs what is not here:\n{listed}{way}")
    return digests


def _check_settings(held: Mapping[str, Any], asked: Mapping[str, Any], target: Path) -> None:
    for key, value in asked.items():
        if held.get(key) != value:
            raise ExperimentError(
                f"{target.name} was begun with {key} {held.get(key)}, this run has {key} {value}: "
                "results of different settings are not mixed. Use the same, or run without "
                f"--resume{_after(target.with_suffix('.partial'))}"
            )


def _after(unfinished: Path) -> str:
    return f" after moving {unfinished} away" if unfinished.is_file() else ""


def _read(path: Path) -> dict[str, Any]:
    """The cells of an unfinished run or of a results file."""
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if path.suffix != ".partial":
            cells = {name: {**stamp, "rows": []} for name, stamp in record["cells"].items()}
            for section in record["sections"]:
                for row in record[section]:
                    own = dict(row)
                    cells[own.pop("cell")]["rows"].append(own)
            record = {**{key: record[key] for key in _STATE}, "cells": cells}
        wrong = [key for key, kind in _STATE.items() if not isinstance(record[key], kind)]
        wrong += [name for name, cell in record["cells"].items() if _CELL - cell.keys()]
        if wrong:
            raise ValueError(f"{wrong[0]} is incomplete")
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise ExperimentError(
            f"{path} is damaged, from another version or of another kind ({type(error).__name__}: "
            f"{error}); move it away and run without --resume"
        ) from error
    return record


def _record(experiment: Experiment, cells: list[Cell], state: dict[str, Any]) -> dict[str, Any]:
    done, settings = state["cells"], state["settings"]
    sections: Rows = {"runs": []}
    for cell in cells:
        rows = [{"cell": cell.name, **row} for row in done[cell.name]["rows"]]
        sections.setdefault(cell.section, []).extend(rows)
    stamps = {
        cell.name: {key: value for key, value in done[cell.name].items() if key != "rows"}
        for cell in cells
    }
    last = done[cells[-1].name]
    counts: dict[str, int] = {}
    for row in sections["runs"]:
        counts[row["model"]] = max(row["n"], counts.get(row["model"], 0))
    return {
        "experiment": experiment.name,
        "what": experiment.summary,
        "command": command(experiment, state["networks"], settings),
        "commit": last["commit"],
        "date": max(stamp["date"] for stamp in stamps.values()),
        "n": counts,
        "seed": settings["seed"],
        "hardware": "; ".join(dict.fromkeys(stamp["hardware"] for stamp in stamps.values())),
        "versions": last["versions"],
        "seconds": round(sum(stamp["seconds"] for stamp in stamps.values()), 1),
        "settings": settings,
        "networks": state["networks"],
        "checkpoints": state["checkpoints"],
        **experiment.conclude(sections),
        "sections": list(sections),
        **sections,
        "cells": stamps,
    }


def command(experiment: Experiment, networks: Sequence[str], settings: Mapping[str, Any]) -> str:
    """The command that computes a results file anew."""
    words = ["snnlib", "experiment", experiment.name]
    if tuple(networks) != experiment.networks:
        words += ["--networks", ",".join(networks)]
    if settings["limit"] is not None:
        words += ["--limit", str(settings["limit"])]
    return shlex.join(words)


def _rounded(value: Any) -> Any:
    """Floats with six significant digits: more would be noise, and the files are committed."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value


def _text(record: dict[str, Any]) -> str:
    """Indented JSON with each list of numbers on one line."""
    text = json.dumps(record, indent=1, ensure_ascii=False)
    return re.sub(r"\[[-\d.,eE+\s]+\]", lambda m: " ".join(m[0].split()), text) + "\n"
