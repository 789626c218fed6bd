"""Work in threads: every item once, one thread each, nothing left behind when one fails."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from snnlib.backend.parallel import for_each


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_item_comes_once(workers: int) -> None:
    seen: list[list[int]] = [[] for _ in range(workers)]
    for_each(range(500), workers, lambda item, worker: seen[worker].append(item))
    assert sorted(item for part in seen for item in part) == list(range(500))
    assert all(part == sorted(part) for part in seen)


@pytest.mark.parametrize("workers", [1, 2])
def test_what_was_not_begun_when_one_fails_is_left(workers: int) -> None:
    def work(item: int, worker: int) -> None:
        if item == 3:
            raise KeyError(item)

    with pytest.raises(KeyError, match="3"):
        for_each(range(10**12), workers, work)  # all of them would take days


@pytest.mark.usefixtures("two_threads")
def test_a_worker_computes_with_one_thread_whatever_others_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another call puts its number back just after a worker has set its own."""
    set_number, seen = torch.set_num_threads, []

    def meddled(number: int) -> None:
        set_number(number)
        if number == 1:
            with ThreadPoolExecutor(1) as pool:
                pool.submit(set_number, 2)

    monkeypatch.setattr(torch, "set_num_threads", meddled)
    for_each(range(8), 2, lambda item, worker: seen.append(torch.get_num_threads()))
    monkeypatch.undo()
    assert seen == [1] * 8
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("number", [1, 2])
def test_a_worker_that_cannot_be_started(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that wait for it go, and PyTorch has as many threads as before."""
    start, started, raised = threading.Thread.start, [], []

    def refuse(thread: threading.Thread) -> None:
        started.append(thread)
        if len(started) == number + 1:  # the first one is the caller
            raise RuntimeError("can't start new thread")
        start(thread)

    def call() -> None:
        torch.set_num_threads(2)
        try:
            for_each(range(4), 2, lambda item, worker: None)
        except RuntimeError as error:
            raised.append((str(error), torch.get_num_threads()))

    caller = threading.Thread(target=call, daemon=True)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        caller.start()
        caller.join(20)
    assert raised == [("can't start new thread", 2)]
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 2
