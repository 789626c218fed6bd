"""Chromium, which prints pages: found, or one error that says how to get it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "msedge",
)
PLACES = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
    "C:/Program Files (x86)/Microsoft/Edge/Application/msedge.exe",
)
ABSENT = """\
the PDF is printed by Chromium, and there is none here.
Install it (Debian and Ubuntu: sudo apt install chromium; macOS: brew install --cask chromium;
Windows has Edge, which is one), or name yours: CHROMIUM=/path/to/chromium make pdf"""
# The pages are files that were made here, containers have no sandbox, and nothing may be fetched.
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip


class ChromiumAbsent(RuntimeError):
    """There is no browser that could print."""


def find() -> str:
    """The path of a Chromium: the environment's CHROMIUM, else a name or a usual place.

    Raises:
        ChromiumAbsent: there is none; the message says how to install one.
    """
    named = os.environ.get("CHROMIUM", "")
    if named and not (shutil.which(named) or Path(named).is_file()):
        raise ChromiumAbsent(f"CHROMIUM={named}: no such program.\n{ABSENT}")
    for name in (named, *NAMES):
        if name and (found := shutil.which(name)):
            return found
    for place in PLACES:
        if Path(place).is_file():
            return place
    raise ChromiumAbsent(ABSENT)


def print_pdf(page: Path, out: Path, timeout: float = 300) -> None:
    """Print a page that lies on this machine, with an outline of its headings.

    Raises:
        ChromiumAbsent: there is no Chromium.
        RuntimeError: it wrote no PDF; the message holds what it said.
    """
    out.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        done = subprocess.run(
            [find(), *FLAGS, f"--user-data-dir={profile}", "--no-pdf-header-footer",
             "--generate-pdf-document-outline", f"--print-to-pdf={out}", page.resolve().as_uri()],
            capture_output=True, text=True, errors="replace", timeout=timeout,
        )  # fmt: skip
    if not out.is_file():
        raise RuntimeError(
            f"Chromium wrote no PDF (exit {done.returncode}):\n{done.stderr[-2000:]}"
        )
