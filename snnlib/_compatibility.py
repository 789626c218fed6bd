"""What keeps programs of snnlib 0.1 running for one version: old module paths and positions.

Two kinds of names are served here. The public modules (``snnlib.data``, ``snnlib.models``, …) live
in a room of the house and keep their short names for good. All other old paths still work, with a
`DeprecationWarning` that names the new one; they go with version 0.3.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

PUBLIC = {
    "checkpoints": "snnlib.zoo.checkpoints",
    "data": "snnlib.zoo.data",
    "models": "snnlib.zoo.models",
    "train": "snnlib.zoo.train",
}
_ROOMS = {
    "backend": "layout order_statistics parallel",
    "deploy": "int8 normalize quantize storage summary",
    "graph": "fold",
    "simulation": "coding costs engine run verify",
    "conversion": "balance calibrate convert registry trace",
    "zoo": "augment distributed evaluate fetch provenance recipes vision",
}
MOVED = {name: f"snnlib.{room}.{name}" for room, names in _ROOMS.items() for name in names.split()}
MOVED |= {
    "cards": "book.tools.cards",
    "experiments": "book.experiments",
    "integer": "snnlib.deploy.whole_numbers",
    "kernels": "snnlib.backend.updates",
    "kernels_cpu": "snnlib.backend.cpu",
    "kernels_cuda": "snnlib.backend.cuda",
    "nir_export": "snnlib.deploy.nir",
    "notebook": "snnlib.plots.notebook",
    "options": "snnlib.cli.options",
    "rejected": "snnlib.conversion.rules.refused",
    "report": "book.tools.report",
    "rules": "snnlib.conversion.rules",
    "rules_shapes": "snnlib.conversion.rules.shapes",
    "rules_units": "snnlib.conversion.rules.units",
    "simulator": "snnlib.simulation.network",
    "stepper": "snnlib.simulation.reference",
    "support": "book.tools.support",
    "tables": "book.tools.tables",
}
# Names that did not go where the rest of their module went.
_REGISTRY = "REJECTED RULES Builder Unsupported describe rule"
_SUPPORT = ("Support", "support_table")
_ELSEWHERE = {
    **{("trace", name): "snnlib.conversion.registry" for name in _REGISTRY.split()},
    **{(old, name): "snnlib.cli.support" for old in ("trace", "registry") for name in _SUPPORT},
    ("checkpoints", "CheckpointError"): "snnlib.graph.errors",
    ("convert", "graph_error"): "snnlib.graph.check",
    ("evaluate", "table"): "snnlib.cli.table",
    ("integer", "IntegerNetwork"): "snnlib._compatibility",
    ("run", "Decision"): "snnlib.simulation.early_exit",
    ("engine", "Plan"): "snnlib.simulation.plan",
    ("simulator", "Schedule"): "snnlib.simulation.schedule",
    ("storage", "load"): "snnlib.simulation.network",
}
# Functions of a network that are methods now: the rooms below know its record alone.
_METHODS = {"normalized", "quantize", "save", "summary", "to_nir", "verify"}


class _OldModule(ModuleType):
    """Stands under an old path; looks names up at the new one."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        short = self.__name__.removeprefix("snnlib.")
        if short not in PUBLIC:
            _warn(short, stacklevel=2)
        if short not in PUBLIC and name in _METHODS:
            return lambda net, *args, **kwargs: getattr(net, name)(*args, **kwargs)
        home = _ELSEWHERE.get((short, name)) or PUBLIC.get(short) or MOVED[short]
        try:
            module = importlib.import_module(home)
        except ModuleNotFoundError as error:  # book/ is there in a clone of the repository only
            raise AttributeError(f"{self.__name__} is {home} now, which is not here") from error
        return getattr(module, name)


def _warn(short: str, stacklevel: int) -> None:
    warnings.warn(
        f"snnlib.{short} has moved to {MOVED[short]}; the old path goes with version 0.3",
        DeprecationWarning,
        stacklevel=stacklevel + 1,
    )


def install() -> None:
    """Make the old paths importable."""
    for short in (*PUBLIC, *MOVED):
        sys.modules.setdefault(f"snnlib.{short}", _OldModule(f"snnlib.{short}"))


def moved(short: str) -> ModuleType:
    """The module that ``snnlib.SHORT`` was, for ``from snnlib import SHORT``."""
    if short in PUBLIC:
        return importlib.import_module(PUBLIC[short])
    _warn(short, stacklevel=3)
    return importlib.import_module(MOVED[short])


F = TypeVar("F", bound=Callable[..., Any])


def by_name_after(count: int) -> Callable[[F], F]:
    """Let a function whose further arguments go by name take them in their old positions, too.

    Args:
        count: how many arguments (without ``self``) may be positional.

    The decorated function states them after ``*``; a call in the old way warns.
    """

    def decorate(function: F) -> F:
        parameters = list(inspect.signature(function).parameters.values())
        shift = int(bool(parameters) and parameters[0].name == "self")
        late = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        most = count + shift

        @functools.wraps(function)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if len(args) > most:
                extra = dict(zip(late, args[most:], strict=False))
                if len(args) - most > len(late) or extra.keys() & kwargs.keys():
                    return function(*args, **kwargs)  # Python says what is wrong
                warnings.warn(
                    f"{function.__qualname__}: pass {', '.join(extra)} by name; from version 0.3 "
                    f"on only the first {count} arguments may go by position",
                    DeprecationWarning,
                    stacklevel=2,
                )
                args, kwargs = args[:most], {**extra, **kwargs}
            return function(*args, **kwargs)

        return wrapped  # type: ignore[return-value]

    return decorate


class _Whole(type):
    def __instancecheck__(cls, thing: object) -> bool:
        return getattr(thing, "whole", None) is not None


class IntegerNetwork(metaclass=_Whole):
    """What ``isinstance(net, IntegerNetwork)`` asked: is it a network of whole numbers?"""
