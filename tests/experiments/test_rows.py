"""Rows hold what they are declared to hold: those in ``book/results`` and those computed today."""

import json
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import (
    Any,
    Literal,
    NotRequired,
    TypedDict,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import pytest
import torch

from book import experiments
from book.experiments.goals import Goal
from book.experiments.targets import Verdict
from book.tools import cards
from book.tools.support import ModelSupport
from snnlib.zoo import checkpoints
from snnlib.zoo.evaluate import Report
from snnlib.zoo.train import Record

RESULTS = Path(__file__).resolve().parents[2] / "book" / "results"


@cache
def hints(kind):
    """Key → type and whether it may be absent; annotations are text, so ask for their meaning."""
    found = get_type_hints(kind, include_extras=True)
    absent = {key for key, hint in found.items() if get_origin(hint) is NotRequired}
    return {
        key: (get_args(hint)[0] if key in absent else hint, key in absent)
        for key, hint in found.items()
    }


def misfit(value, kind, place="row"):
    """Where a value from JSON is not as declared, and how; None where it is."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        found = [misfit(value, part, place) for part in parts]
        return None if None in found else found[0]
    if is_typeddict(kind) or is_dataclass(kind):
        if not isinstance(value, dict):
            return f"{place}: {value!r} is no {kind.__name__}"
        keys = hints(kind)
        missing = {key for key, (_, absent) in keys.items() if not absent} - value.keys()
        if wrong := missing or value.keys() - keys.keys():
            return f"{place}: {'lacks' if missing else 'has undeclared'} {sorted(wrong)}"
        inner = [(held, keys[key][0], f"{place}.{key}") for key, held in value.items()]
    elif origin in (list, tuple, dict):
        if not isinstance(value, dict if origin is dict else list):
            return f"{place}: {value!r} is no {kind}"
        if origin is tuple and len(value) != len(parts):
            return f"{place}: {len(value)} values instead of {len(parts)}"
        values = value.values() if origin is dict else value
        kinds = parts if origin is tuple else [parts[-1]] * len(value)
        inner = [(*pair, f"{place}[…]") for pair in zip(values, kinds, strict=True)]
    else:
        types = {Any: (type(value),), float: (float, int)}.get(kind, (kind,))
        fits = value in parts if origin is Literal else type(value) in types
        return None if fits else f"{place}: {value!r} is no {kind}"
    return next((found for one in inner if (found := misfit(*one)) is not None), None)


class Sample(TypedDict):
    """Of every kind that rows are made of."""

    name: str
    steps: list[int]
    interval: tuple[float, float]
    cost: Literal["steps", "bits"]
    bound: int | None
    more: NotRequired[dict[str, float]]


FIT = {"name": "x", "steps": [1], "interval": [0.5, 1], "cost": "bits", "bound": None}


@pytest.mark.parametrize("fit", [FIT, FIT | {"bound": 3, "more": {"relu1": 0.5}}])
def test_what_is_as_declared_passes(fit):
    assert misfit(fit, Sample) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"nmae": "x"}, "row: has undeclared ['nmae']"),
        ({"name": None}, "row.name: None is no <class 'str'>"),
        ({"steps": [1, 2.5]}, "row.steps[…]: 2.5 is no <class 'int'>"),
        ({"steps": [True]}, "row.steps[…]: True is no <class 'int'>"),
        ({"interval": [0.5]}, "row.interval: 1 values instead of 2"),
        ({"cost": "joules"}, "row.cost: 'joules' is no typing.Literal['steps', 'bits']"),
        ({"bound": "none"}, "row.bound: 'none' is no <class 'int'>"),
        ({"more": {"relu1": "0.5"}}, "row.more[…]: '0.5' is no <class 'float'>"),
        ({"more": 3}, "row.more: 3 is no dict[str, float]"),
    ],
)
def test_what_is_not_as_declared_is_named(change, said):
    assert misfit(FIT | change, Sample) == said


def test_what_is_missing_is_named():
    assert misfit({"name": "x"}, Sample) == "row: lacks ['bound', 'cost', 'interval', 'steps']"


def declared(cell):
    """The type of a cell's rows: what its function says it returns."""
    (kind,) = get_args(get_type_hints(cell.compute.func)["return"])
    return kind


STORED = {path.name: path for path in sorted(RESULTS.glob("*.json"))}


@pytest.mark.parametrize("name", STORED)
def test_stored_rows_are_as_declared(name):
    record = json.loads(STORED[name].read_text(encoding="utf-8"))
    if "experiment" not in record:
        rows = [(run, Report) for run in record["runs"]]
    elif record["experiment"] not in experiments.NAMES:
        rows = [(row, ModelSupport) for row in record["models"]]
    else:
        experiment = experiments.get(record["experiment"])
        cells = [cell for network in record["networks"] for cell in experiment.cells(network)]
        kinds = {(cell.section, cell.name): declared(cell) for cell in cells}
        assert {section for section, _ in kinds} == set(record["sections"])
        rows = [
            (row, kinds[section, row["cell"]])
            for section in record["sections"]
            for row in record[section]
        ]
        rows += [(row, Verdict) for row in record.get("targets", ())]
        rows += [(row, Goal) for row in record.get("goals", ())]
    assert rows
    wrong = {found for row, kind in rows if (found := misfit(row, kind)) is not None}
    assert not wrong


# What those on no network run on.
TASKS = {"transducer": "strings", "touch": "spoken-events", "event-graph": "moved-digits"}
HEARD = ("transducer", "touch")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=[pytest.mark.slow] * (name == "accuracy-over-time")
            + [pytest.mark.dataset("spoken_digits")] * (name in HEARD),
        )
        for name in experiments.NAMES
        if name not in ("peers", "rank-coding")  # one needs a library, one is slow on its tasks
    ],
)
def test_computed_rows_are_as_declared(name):
    """Of every cell, on a few digits."""
    context = experiments.Context(torch.device("cpu"), limit=4 if name in TASKS else 20)
    experiment, sections = experiments.get(name), {"runs": []}
    for cell in experiment.cells(TASKS.get(name, "digits-cnn")):
        rows = json.loads(json.dumps(cell.compute(context)))
        context.rows[cell.name] = rows
        sections.setdefault(cell.section, []).extend(rows)
        for row in rows:
            assert misfit(row, declared(cell)) is None
    assert all(sections.values())
    found = experiment.conclude(sections)
    for row in found.get("targets", ()):
        assert misfit(row, Verdict) is None
    for row in found.get("goals", ()):
        assert misfit(row, Goal) is None


def test_records_of_checkpoints_are_as_declared():
    for path in cards.files().values():
        _, record = checkpoints.read(path)
        assert misfit(record, Record) is None
