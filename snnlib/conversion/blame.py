"""What a model's own error says to the user, and which line of the user's code it came through."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

import torch

_NOT_THE_USERS = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]), "<")


def told(error: Exception, batch: int) -> str:
    """The message's first line and the place; the images in a run of ours are none of theirs."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    if isinstance(error, RuntimeError):
        text = re.sub(rf"(?<![\d.]){batch}(?![\d.])", "B", text)
    line = _innermost(traceback.extract_tb(error.__traceback__))
    if line is not None:
        text += f" ({Path(line.filename).name}, line {line.lineno}: {line.line})"
    return text


def in_assertion() -> bool:
    """Whether the line of the user's code that is running is an ``assert``."""
    line = _innermost(traceback.extract_stack())
    return line is not None and (line.line or "").startswith("assert ")


def _innermost(stack: traceback.StackSummary) -> traceback.FrameSummary | None:
    lines = (line for line in reversed(stack) if not line.filename.startswith(_NOT_THE_USERS))
    return next(lines, None)
