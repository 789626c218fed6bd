"""What every stored number carries: command, commit, date, hardware and versions."""

from __future__ import annotations

import platform
import shlex
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import NotRequired, TypedDict

import torch

from snnlib._version import __version__


class Made(TypedDict):
    """What a result was made by."""

    command: NotRequired[str]
    commit: str | None
    date: str  # UTC
    hardware: str
    versions: dict[str, str]


def record(
    device: torch.device, *packages: str, command: str | Sequence[str] | None = None
) -> Made:
    """What a result was made by, for its JSON; ask when the run begins, the sources may move on.

    Args:
        device: where it computes.
        packages: whose versions matter besides those of snnlib, Python and torch.
        command: what repeats it, as text or in words; left out where there is none.
    """
    made: Made = {
        "commit": commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "hardware": hardware(device),
        "versions": versions(*packages),
    }
    if command is None:
        return made
    return {"command": command if isinstance(command, str) else shlex.join(command), **made}


def hardware(device: torch.device) -> str:
    """What the run was made on: the processor's name and the number of threads, or the GPU's."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), name)
    threads = torch.get_num_threads()
    return f"{name}, {threads} thread{'s' if threads > 1 else ''}"


def versions(*packages: str) -> dict[str, str]:
    """The versions of snnlib, Python, torch and these packages; torch's with its build (+cpu)."""
    found = {"snnlib": __version__, "python": platform.python_version()}
    found["torch"] = str(torch.__version__)  # a wheel's metadata may leave the build out
    return found | {name: metadata.version(name) for name in packages if name not in found}


def commit() -> str | None:
    """The commit of the source tree, where this file is part of one."""
    # A virtual environment may lie inside another project, whose commit says nothing about us.
    command = ["git", "rev-parse", "HEAD", f"HEAD:./{Path(__file__).name}"]
    options = {"cwd": Path(__file__).parent, "capture_output": True, "text": True, "timeout": 10}
    try:
        answer = subprocess.run(command, check=True, **options)  # type: ignore[call-overload]
    except (OSError, subprocess.SubprocessError):
        return None
    return str(answer.stdout).split()[0]
