"""Work on chunks of images in parallel threads, each of which computes with one thread.

PyTorch splits every single operation among its threads and waits for the slowest each time. Chunks
of images need no waiting: a thread takes the next chunk when it is done with one.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from snnlib.backend.modes import own_mode

Item = TypeVar("Item")

_CACHE = 12 * 2**20  # bytes a thread's largest layer may take on a CPU: measured, see benchmarks/
_ROWS = 4, 256  # fewest and most images (× steps) a layer computes at once on a CPU


def rows_in_cache(shapes: Iterable[Sequence[int]], dtype: torch.dtype) -> int:
    """Images (× steps) that a thread computes at once, so that its layers stay in the cache.

    Args:
        shapes: of one image's values in every layer.
        dtype: of those values.
    """
    largest = max(math.prod(shape) for shape in shapes)
    return min(max(_CACHE // (dtype.itemsize * largest), _ROWS[0]), _ROWS[1])


def even_size(count: int, most: int, workers: int) -> int:
    """Size of the parts of ``count`` items, at most ``most``, such that all workers get equal work.

    100 images in parts of at most 45 for two workers: four parts of 25, not 45, 45 and 10.
    """
    rounds = math.ceil(count / (most * workers))
    return math.ceil(count / (rounds * workers))


def for_each(items: Sequence[Item], workers: int, work: Callable[[Item, int], None]) -> None:
    """Call ``work(item, worker)`` for every item, in a mode of its own (`own_mode`).

    Args:
        items: what to work on.
        workers: number of threads; with 1 the calling thread does it, with all of PyTorch's
            threads inside each operation.
        work: gets an item and the number of the worker (0, 1, …), so that each worker can keep
            results of its own.

    Raises:
        What ``work`` raised; what was not begun by then is left.
    """
    _keep_freed_memory()
    if workers == 1:
        with own_mode():
            for item in items:
                work(item, 0)
        return
    queue, lock, failed = iter(items), threading.Lock(), threading.Event()
    ready = threading.Barrier(workers + 1)

    def serve(worker: int) -> None:
        torch.get_num_threads()  # a thread's first look takes over what was set last, anywhere
        torch.set_num_threads(1)
        ready.wait()
        with own_mode():
            while not failed.is_set():
                with lock:
                    item = next(queue, None)
                if item is None:
                    return
                try:
                    work(item, worker)
                except BaseException:
                    failed.set()
                    raise

    threads = torch.get_num_threads()
    with ThreadPoolExecutor(workers) as pool:
        try:
            futures = [pool.submit(serve, worker) for worker in range(workers)]
            ready.wait()
            torch.set_num_threads(threads)
            for future in futures:
                future.result()
        except BaseException:
            failed.set()
            ready.abort()  # not all could be started: those that wait for them must not
            pool.shutdown()
            torch.set_num_threads(threads)
            raise


@functools.cache
def _keep_freed_memory() -> None:
    """Let the C library keep the memory of large tensors for the next ones.

    By default glibc gives freed blocks above a threshold back to the system, and the same pages,
    cleared, come back fault by fault: that took a tenth of a simulation's time. Freeing one block
    of the largest size it looks at (32 MB, never touched) moves that threshold up to 64 MB.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8)
