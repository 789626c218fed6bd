"""How a run is cut into pieces: images a chunk, time steps a block, threads.

Chunks of images bound the memory; blocks of steps let a layer's neurons stay in the cache while
time runs. On a CPU a chunk's largest layer has to fit a core's cache. Chapter *The simulator*.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from snnlib._arguments import number_of_bytes, whole
from snnlib.backend.parallel import even_size, rows_in_cache
from snnlib.graph.network import Network

_BLOCK = 32  # most time steps in a block


class Schedule(NamedTuple):
    """How a run is cut into pieces."""

    images: int  # simulated together
    steps: int  # that a layer takes at once
    workers: int  # threads that simulate at the same time


def plan(
    net: Network, count: int, steps: int, memory: str | int = "1GB", batch: int | None = None
) -> Schedule:
    """How ``count`` images and ``steps`` steps are cut so as to stay within ``memory``.

    Args:
        net: the network.
        count: number of images.
        steps: number of time steps.
        memory: limit for the simulation's own tensors ("512MB", bytes).
        batch: images simulated together, if the caller wants to decide that.

    Raises:
        ValueError: not even one image fits; or an argument is wrong.
    """
    count, steps, allowed = (
        whole("count", count),
        whole("steps", steps),
        number_of_bytes("memory", memory),
    )
    cpu = net.device.type == "cpu"
    rows, threads = (_rows(net), torch.get_num_threads()) if cpu else (512, 1)
    if batch is None:
        block = min(steps, _BLOCK, rows)
        images = even_size(count, max(1, rows // block), threads)
    else:
        images = whole("batch", batch)
        block = min(steps, _BLOCK, max(1, rows // images))
    workers = min(threads, math.ceil(count / images))
    while needed_bytes(net, Schedule(images, block, workers)) > allowed:
        if images > 1 and batch is None:
            images = images // 2
        elif block > 1:
            block = block // 2
        elif workers > 1:
            workers = workers // 2
        else:
            break
    schedule = Schedule(min(images, count), block, workers)
    if batch is None:
        _check(net, schedule, memory)
    return schedule


def chunk(net: Network, count: int, memory: str | int) -> int:
    """Images to simulate together, one step at a time, so as to stay within ``memory``."""
    rows = max(_rows(net) if net.device.type == "cpu" else count, 8)
    while rows > 1 and needed_bytes(net, Schedule(rows, 1, 1)) > number_of_bytes("memory", memory):
        rows -= max(1, rows // 8)
    _check(net, Schedule(rows, 1, 1), memory)
    return min(count, rows)


def _rows(net: Network) -> int:
    """Steps × images that a layer computes at once on a CPU."""
    return rows_in_cache(net.graph.shapes.values(), net.dtype)


def needed_bytes(net: Network, schedule: Schedule) -> int:
    """Bytes that a simulation's tensors take at most: values of all steps, states of one."""
    peak, kept = net.graph.peak
    values = schedule.steps * peak + math.prod(net.graph.shapes["input"])
    image = net.wide.itemsize * kept + net.dtype.itemsize * values
    return schedule.workers * schedule.images * image


def _check(net: Network, schedule: Schedule, memory: str | int) -> None:
    needed = needed_bytes(net, schedule)
    if needed > number_of_bytes("memory", memory):
        count = "one image" if schedule.images == 1 else f"{schedule.images} images"
        raise ValueError(
            f"memory={memory!r} is less than {count} needs ({needed / 1e6:.1f} MB): raise it"
        )
