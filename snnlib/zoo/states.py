"""The state that an interrupted training goes on from: written whole, read with a reason."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from snnlib.deploy.files import write_bytes
from snnlib.graph.errors import CheckpointError


def write(path: str | Path, settings: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write a state, whole or not at all.

    Args:
        path: the file; its folder is made.
        settings: what a run must agree in to go on from it: numbers, texts, lists, dictionaries.
        state: tensors, numbers, texts, lists and dictionaries of them.

    Raises:
        CheckpointError: the file cannot be written.
    """
    content = io.BytesIO()
    torch.save({"settings": dict(settings), **state}, content)
    write_bytes(path, content.getvalue(), CheckpointError)


def read(
    path: str | Path,
    settings: Mapping[str, Any],
    take: Callable[[dict[str, Any]], None],
    remedy: str,
) -> None:
    """Hand a state that :func:`write` wrote to ``take``, tensors on the CPU.

    Args:
        path: the file.
        settings: those of the run that is to go on from it.
        take: puts the state in its place.
        remedy: what the user can do about a state that does not fit, as sentences.

    Raises:
        ValueError: the state is of a run with other settings, cannot be read, or ``take`` could
            not use it.
    """
    try:
        state = dict(torch.load(path, map_location="cpu", weights_only=True))
        found = dict(state.pop("settings"))
        differ = sorted(key for key in {*settings, *found} if settings.get(key) != found.get(key))
        if not differ:
            take(state)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ValueError(
            f"{path} is not the state of a training run ({reason}). {remedy}"
        ) from error
    if differ:
        own, other = ({key: of.get(key) for key in differ} for of in (settings, found))
        raise ValueError(
            f"{path} is the state of a run with other settings: {other}, not {own}. {remedy}"
        )
