"""What tests share: threads in a hurry, and the site, built once whatever the number of workers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure() -> None:
    """SNNLIB_SWITCH_INTERVAL=1e-6 lets threads take turns as often as they can, in all tests."""
    if interval := os.environ.get("SNNLIB_SWITCH_INTERVAL"):
        sys.setswitchinterval(float(interval))


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads that take turns as often as they can, in one test."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@dataclass(frozen=True)
class Site:
    """The built book: its folder of HTML and what the build said."""

    html: Path
    log: str
    code: int

    def pages(self) -> list[Path]:
        """All pages that a reader can open."""
        return sorted(p for p in self.html.rglob("*.html") if "_static" not in p.parts)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Build the book as `make book` does, outside the working tree."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    out, log = base / "book", base / "book.log"
    with FileLock(base / "book.lock"):
        if not log.exists():
            start = "from jupyter_book.cli.main import main; main()"
            command = [sys.executable, "-c", start, "build", ".", "-W", "-n"]
            command += ["--keep-going", "--path-output", str(out)]
            env = {**os.environ, "NO_COLOR": "1", "PYTHONWARNINGS": "ignore"}
            done = subprocess.run(
                command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            text = done.stdout.decode(errors="replace")
            log.write_text(f"{done.returncode}\n{text}", encoding="utf-8")
    code, _, text = log.read_text(encoding="utf-8").partition("\n")
    return Site(out / "_build" / "html", text, int(code))
