"""When to answer: an image is done as soon as the softmax of its logits is sure enough."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from snnlib._arguments import real


class Decision(NamedTuple):
    """When each image was answered, and how.

    Attributes:
        step: first step (1 … T) at which the answer was confident, T if never; int64 (B,).
        prediction: the class answered then, int64 (B,).
    """

    step: Tensor
    prediction: Tensor


def check_confidence(confidence: float) -> float:
    """A probability above 0, as a float; anything else is a ValueError."""
    return real("confidence", confidence, 0.0, 1.0, above=True)


def confident(logits: Tensor, confidence: float) -> Tensor:
    """Whether the softmax of logits (..., classes) reaches a confidence, shape (...).

    Raises:
        ValueError: confidence is no probability above 0; or the logits are no vectors of classes.
    """
    check_confidence(confidence)
    if logits.dim() > 3 or logits.shape[-1] < 2:
        raise ValueError(
            "early answers need one vector of classes an image, and this output has none"
        )
    return logits.softmax(-1).amax(-1) >= confidence


def first_sure(sure: Tensor, answers: Tensor) -> Decision:
    """The decision at the first step at which an image is sure, or at the last.

    Args:
        sure: after every step, bool (T, B).
        answers: classes, int64 (T, B).
    """
    sure = sure.clone()
    sure[-1] = True
    step = sure.int().argmax(0)  # (B,)
    return Decision(step + 1, answers.gather(0, step[None])[0])


class Answers(Protocol):
    """Images on their way through time, whose answers can be read after every step."""

    def step(self) -> Tensor:
        """Make one time step; logits of the images still there, shape (b, classes)."""

    def keep(self, which: Tensor) -> None:
        """Go on with some of the images only; ``which`` is a mask of shape (b,)."""


def leave(images: Answers, most: int, sure: Callable[[Tensor, int], Tensor]) -> Decision:
    """The decision on images that are no longer computed once they are decided.

    Args:
        images: on their way through time.
        most: images that never get there are answered at this step.
        sure: of logits (b, classes) and the step, 1 …: whom to answer now, bool (b,).
    """
    logits = images.step()
    when = torch.full((len(logits),), most, device=logits.device)
    answer = torch.zeros_like(when)
    waiting = torch.arange(len(logits), device=logits.device)
    for t in range(1, most + 1):
        logits = logits if t == 1 else images.step()
        now = sure(logits, t)
        if t == most:
            now = torch.ones_like(now)
        done = waiting[now]
        when[done], answer[done] = t, logits[now].argmax(1)
        waiting = waiting[~now]
        if len(waiting) == 0:
            break
        if bool(now.any()):
            images.keep(~now)
    return Decision(when, answer)
