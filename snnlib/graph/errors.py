"""The errors of the library: what is wrong, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Problem(NamedTuple):
    """One operation that stands in the way of a conversion.

    Attributes:
        layers: qualified names in the user's model.
        operation: what it is, as a user writes it: ``nn.GELU``.
        reason: why it does not convert, and the nearest thing that does.
    """

    layers: tuple[str, ...]
    operation: str
    reason: str

    def __str__(self) -> str:
        times = {name: self.layers.count(name) for name in self.layers}
        named = (name if n == 1 else f"{name} ×{n}" for name, n in times.items())
        return f"{', '.join(named)} ({self.operation}): {self.reason}"


class ConversionError(ValueError):
    """A network, its calibration or its input cannot be converted or run; says what, where, why.

    Attributes:
        problems: the operations in the way, one record each kind; empty where it is no operation.
    """

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class FileError(RuntimeError):
    """A file cannot be written or read: says which, why and what to do."""


class CheckpointError(FileError):
    """A checkpoint is absent, damaged or of another network: says what, where and what to do."""
