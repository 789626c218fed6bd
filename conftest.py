"""Tests and notebooks declare what they need; what is missing skips them and says the way out."""

import functools
import json
import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

# A slow machine is no failure, and CI must not fail on an example nobody can repeat.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

# Doctests are looked for by importing, and Triton comes with CUDA builds of PyTorch only.
collect_ignore = ["tests/compatibility/script_0_1.py"]
if not find_spec("triton"):
    collect_ignore.append("snnlib/simulation/kernels/cuda.py")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@functools.cache
def why_absent(name: str) -> str | None:
    """The reason why a data set cannot be loaded without a download; None where it can be."""
    import snnlib

    try:
        snnlib.data.load(name, download=False)
    except snnlib.DatasetUnavailable as error:
        return str(error)
    return None


@functools.cache
def notebook_datasets(path: Path) -> tuple[str, ...]:
    """The data sets that a notebook declares in its metadata."""
    metadata = json.loads(path.read_text(encoding="utf-8"))["metadata"]
    return tuple(metadata.get("snnlib", {}).get("datasets", ()))


def missing(item: pytest.Item) -> str | None:
    """What this test or notebook cell needs and the machine does not have, else None."""
    if item.get_closest_marker("cuda"):
        import torch

        if not torch.cuda.is_available():
            return "needs a CUDA device"
    if item.get_closest_marker("browser"):
        if not any(map(shutil.which, BROWSERS)):
            return "needs Chromium: install the package chromium of your system"
        if not shutil.which("chromedriver"):
            return "needs ChromeDriver: install the package chromium-driver of your system"
    names = [name for marker in item.iter_markers("dataset") for name in marker.args]
    if item.path.suffix == ".ipynb":
        names += notebook_datasets(item.path)
    return next(filter(None, map(why_absent, names)), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        reason = missing(item)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))
