"""A call has its own mode, whatever surrounds it; the switches of the process have one owner.

PyTorch keeps some modes a thread: gradients, inference mode, autocast, the default device. A new
thread does not inherit them, so the same call would compute one thing in the calling thread and
another in its workers. `own_mode` takes them all away, in either.

Other switches hold for the whole process. `exact_sums` turns off those that round a sum of
products; the last of all threads to leave puts them back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

import torch


@contextmanager
def own_mode(device: torch.device | str = "cpu") -> Iterator[None]:
    """No gradients, no inference mode, no autocast, no foreign default device; decorates, too.

    What is made inside are ordinary tensors, which a caller in inference mode can use as its own.

    Args:
        device: of new tensors that name none, should the caller have set a default device.
    """
    with ExitStack() as modes:
        modes.enter_context(torch.inference_mode(False))
        modes.enter_context(torch.no_grad())  # after the line above, which switches gradients on
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                modes.enter_context(torch.autocast(kind, enabled=False))
        if torch.empty(0).device.type != "cpu":
            modes.enter_context(torch.device(device))
        yield


def exact_sums() -> AbstractContextManager[None]:
    """Sums of products of whole numbers are exact while they stay below 2^24, in all threads.

    Rules out Winograd's algorithm (NNPACK, cuDNN) and float32 factors rounded to TF32 or bfloat16
    (cuDNN, cuBLAS, and oneDNN after ``torch.set_float32_matmul_precision("medium")``). The first
    thread in switches them off, the last one out puts back what it found.
    """
    return _EXACT.held()


def full_convolutions() -> AbstractContextManager[None]:
    """Convolutions of float32 on a GPU keep its 24 bits, in all threads; TF32 has 11.

    A spike is sent or not at a threshold, so rounding to three digits would show in the counts.
    """
    return _FULL.held()


Exchange = Callable[[Any], Any]  # sets a value and returns the one before


class _Switches:
    """Settings of the process that hold as long as any thread is inside."""

    def __init__(self, settings: list[tuple[Exchange, Any]]) -> None:
        self.settings, self.before = settings, list[Any]()
        self._inside, self._lock = 0, threading.Lock()

    @contextmanager
    def held(self) -> Iterator[None]:
        with self._lock:
            if self._inside == 0:
                self.before = [exchange(value) for exchange, value in self.settings]
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    for (exchange, _), value in zip(self.settings, self.before, strict=True):
                        exchange(value)


def _attribute(owner: Any, name: str, value: Any) -> Any:
    before = getattr(owner, name)
    setattr(owner, name, value)
    return before


def _nnpack(enabled: bool) -> bool:
    return bool(torch.backends.nnpack.set_flags(enabled)[0])


def _matmul_precision(precision: str) -> str:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    return before


def _precisions() -> list[tuple[Exchange, Any]]:
    onednn: Any = torch.backends.mkldnn
    if not hasattr(onednn, "conv"):  # an older PyTorch has one setting
        return [(_matmul_precision, "highest")]
    parts = (onednn.conv, onednn.matmul, torch.backends.cuda.matmul)
    return [(partial(_attribute, part, "fp32_precision"), "ieee") for part in parts]


_cudnn = partial(_attribute, torch.backends.cudnn, "enabled")
_FULL = _Switches(
    [(partial(_attribute, torch.backends.cudnn.conv, "fp32_precision"), "ieee")]
    if hasattr(torch.backends.cudnn, "conv")
    else [(partial(_attribute, torch.backends.cudnn, "allow_tf32"), False)]
)
_EXACT = _Switches([(_nnpack, False), (_cudnn, False), *_precisions()])
