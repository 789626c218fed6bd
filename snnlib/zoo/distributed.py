"""Several processes, one result: evaluation under ``torchrun``.

    torchrun --nproc-per-node 2 -m snnlib evaluate mnist-cnn --steps 32

Each process takes every n-th part of the images, the same parts as a single process would go
through one after the other, and computes them in the same way; what they return is put together in
the order of the parts. So the result is the single process's, to the last bit. Gloo carries it
between processes on CPUs, NCCL between GPUs.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

Item = TypeVar("Item")
_PATIENCE = datetime.timedelta(minutes=30)


class ProcessError(RuntimeError):
    """Another process of the run died, so there is no whole result."""


def size() -> int:
    """Number of processes that work together: 1 without torchrun."""
    return _number("WORLD_SIZE", 1)


def rank() -> int:
    """Number of this process, from 0; process 0 speaks for all."""
    return _number("RANK", 0) if size() > 1 else 0


def _number(name: str, without: int) -> int:
    """What torchrun has set, a whole number."""
    text = os.environ.get(name, str(without)).strip()
    if not text.isdecimal():
        raise ValueError(f"the environment variable {name}={text!r} must be a whole number")
    return int(text)


def device(name: str | torch.device | None = None) -> torch.device:
    """The device of this name, tried; without a name CUDA where there is one, else the CPU.

    Where the machine has several GPUs and none was chosen, every process gets its own.

    Raises:
        ValueError: nothing can be computed there.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name is None:
        name = "cuda" if gpus else "cpu"
    if gpus and size() > 1 and str(name) == "cuda":
        name = f"cuda:{_number('LOCAL_RANK', 0) % gpus}"
    try:
        found = torch.device(name)
        torch.ones(1, device=found).item()  # "meta" has shapes and no numbers
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            f"device {name}: nothing can be computed there on this machine; leave it out or use cpu"
        ) from error
    return found


def mine(items: list[Item]) -> list[Item]:
    """The items that this process works on: every n-th."""
    return items[rank() :: size()]


@contextmanager
def together() -> Iterator[None]:
    """Connect the processes that torchrun started; does nothing in a process by itself."""
    if size() == 1:
        yield
        return
    from torch import distributed

    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def gather(found: list[Item]) -> list[Item]:
    """What all processes found for their items (`mine`), in the order of the items.

    Args:
        found: one result for each of this process's items; tensors on the CPU.

    Returns:
        The results for all items, the same list in every process.

    Raises:
        ProcessError: another process died before it sent its results.
    """
    if size() == 1:
        return found
    from torch import distributed

    parts: list[Any] = [None] * size()
    try:
        distributed.all_gather_object(parts, found)
    except RuntimeError as error:
        raise ProcessError(
            f"process {rank()} of {size()}: another process of this run died, so there is no whole "
            "result. Its own message stands above; run the command again once that is repaired."
        ) from error
    ordered: list[Any] = [None] * sum(len(part) for part in parts)
    for i, part in enumerate(parts):
        ordered[i :: size()] = part
    return ordered
