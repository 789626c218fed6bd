"""Epoch after epoch, with a bar and a state that an interrupted training goes on from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from tqdm import tqdm

from snnlib.zoo import states

Epoch = TypeVar("Epoch")


def run(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    epochs: int,
    steps: int,
    one: Callable[[int, tqdm], Epoch],
    settings: Mapping[str, Any],
    *,
    state: str | Path | None = None,
    label: str = "",
    progress: bool = False,
) -> list[Epoch]:
    """Train until there are so many epochs; what each left. The network ends in evaluation mode.

    Args:
        network: changed in place.
        optimizer: of its parameters.
        epochs: how many there are to be, those of the state included.
        steps: of an epoch, for the bar.
        one: trains an epoch, given its number from 0 and the bar, which it moves on a step at a
            time; what it returns is kept: numbers, texts, lists, dictionaries.
        settings: what a training must agree in to go on from a state.
        state: a file that keeps the state after each epoch. None: nothing is kept.
        label: of the progress bar.
        progress: show a progress bar.

    Raises:
        ValueError: the state file is of another training.
        CheckpointError: the state file cannot be written.
    """
    history: list[Epoch] = []

    def go_on(held: dict[str, Any]) -> None:
        network.load_state_dict(held["network"])
        optimizer.load_state_dict(held["optimizer"])
        history.extend(held["history"])

    path = None if state is None else Path(state)
    if path is not None and path.is_file():
        states.read(path, settings, go_on, "Move it away to begin anew.")
    with tqdm(
        total=epochs * steps, initial=len(history) * steps, desc=label, mininterval=1.0,
        disable=not progress, leave=False,
    ) as bar:  # fmt: skip
        while len(history) < epochs:
            network.train()
            history.append(one(len(history), bar))
            if path is not None:
                held = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
                states.write(path, settings, {"history": history, **held})
    network.eval()
    return history
