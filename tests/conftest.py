"""The site, built once a test session, whatever the number of workers."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]


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
