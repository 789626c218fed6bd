"""Tests and notebooks declare what they need; what is missing skips them and says the way out."""

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from hypothesis import settings

ROOT = Path(__file__).resolve().parent

# A slow machine is no failure, and CI must not fail on an example nobody can repeat.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

# Doctests are looked for by importing, and Triton comes with CUDA builds of PyTorch only.
collect_ignore = ["tests/compatibility/script_0_1.py"]
if not find_spec("triton"):
    collect_ignore.append("snnlib/backend/cuda.py")
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
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
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


def pytest_configure() -> None:
    """Settings that show faults of other machines (`tests/project/test_other_machines.py`).

    SNNLIB_THREADS=4 sets PyTorch's threads, which OMP_NUM_THREADS does up to the number of cores;
    SNNLIB_SWITCH_INTERVAL=1e-6 lets threads take turns as often as they can.
    """
    if threads := os.environ.get("SNNLIB_THREADS"):
        torch.set_num_threads(int(threads))
    if interval := os.environ.get("SNNLIB_SWITCH_INTERVAL"):
        sys.setswitchinterval(float(interval))


def pytest_report_header() -> str:
    """What tests of numbers depend on."""
    threads = torch.get_num_threads()
    return (
        f"torch: {torch.__version__}, {threads} thread{'s' * (threads > 1)}, "
        f"{torch.backends.cpu.get_cpu_capability()}, switch interval {sys.getswitchinterval():g} s"
    )


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads that take turns as often as they can, in one test."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        reason = missing(item)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


@dataclass(frozen=True)
class Site:
    """The built book: its folder of HTML and what the build said."""

    html: Path
    log: str
    code: int

    def pages(self) -> list[Path]:
        """All pages that a reader can open; slides to take along are no page of the site."""
        apart = {"_static", "take-along"}
        return sorted(p for p in self.html.rglob("*.html") if not apart & set(p.parts))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Build the book as `make book` does, outside the working tree.

    SNNLIB_SITE names a folder with ``html`` and ``book.log`` in which `make book` has done so.
    """
    if folder := os.environ.get("SNNLIB_SITE"):
        built = Path(folder)
        return Site(built / "html", (built / "book.log").read_text(encoding="utf-8"), 0)
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    out, log = base / "book", base / "book.log"
    with FileLock(base / "book.lock"):
        if not log.exists():
            start = "from jupyter_book.cli.main import main; main()"
            command = [sys.executable, "-c", start, "build", ".", "-W", "-n"]
            command += ["--keep-going", "--path-output", str(out)]
            # Without git's history, as in a downloaded archive: the build must not need it.
            env = {**os.environ, "NO_COLOR": "1", "PYTHONWARNINGS": "ignore", "GIT_DIR": os.devnull}
            done = subprocess.run(
                command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            text = done.stdout.decode(errors="replace")
            log.write_text(f"{done.returncode}\n{text}", encoding="utf-8")
    code, _, text = log.read_text(encoding="utf-8").partition("\n")
    return Site(out / "_build" / "html", text, int(code))
