"""A browser for the tests: the site on a local port, no network, a driven Chromium."""

from __future__ import annotations

import base64
import functools
import http.server
import io
import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import platformdirs

MATHJAX, AXE = ("mathjax", "3.2.2"), ("axe-core", "4.10.3")
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
    "--disable-dev-shm-usage",
    "--force-prefers-no-reduced-motion",
]


@functools.cache
def package(name: str, version: str) -> Path | None:
    """The folder of an npm package, fetched once into the user's cache; None where that fails."""
    folder = platformdirs.user_cache_path("snnlib") / "npm" / f"{name}-{version}"
    if folder.is_dir():
        return folder
    npm = shutil.which("npm")
    if npm is None:
        return None
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        subprocess.run(
            [npm, "pack", "--silent", f"{name}@{version}"],
            cwd=partial, check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        (archive,) = partial.glob("*.tgz")
        with tarfile.open(archive) as tar:
            # Python 3.11 before 3.11.4 has no filters, and no argument for them.
            tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
            tar.extractall(partial)
        (partial / "package").replace(folder)
    except (subprocess.SubprocessError, OSError, ValueError):
        return folder if folder.is_dir() else None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves the site; pages get MathJax from this server in place of the network.

    Addresses under the prefix, where the published site will be, mean the same pages.
    """

    mathjax: Path | None = None
    prefix = "/"

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if path.suffix == ".html" and path.is_file():
            name, version = MATHJAX
            page = path.read_text(encoding="utf-8")
            page = page.replace(f"https://cdn.jsdelivr.net/npm/{name}@{version}/", "/_mathjax/")
            body = page.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        else:
            super().do_GET()

    def translate_path(self, path: str) -> str:
        if path.startswith("/_mathjax/") and self.mathjax is not None:
            return str(self.mathjax / path.removeprefix("/_mathjax/").split("?")[0])
        if path.startswith(self.prefix):
            path = "/" + path.removeprefix(self.prefix)
        return super().translate_path(path)

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def serve(folder: Path, mathjax: Path | None, prefix: str) -> Iterator[str]:
    """The address of a server for the folder."""
    handler = type("Local", (Handler,), {"mathjax": mathjax, "prefix": prefix})
    make = functools.partial(handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), make)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def chromium(profile: Path) -> Any:
    """A Chromium that reaches nothing but this machine."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={profile}")
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
    options.binary_location = next(
        found for name in ("chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    )  # fmt: skip
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.set_script_timeout(60)
    return driver


def set_view(driver: Any, width: int, theme: str) -> None:
    """The width of the window, a phone's or a desktop's, and light or dark."""
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    driver.execute_script(
        "if (!document.getElementById('still')) document.head.insertAdjacentHTML('beforeend',"
        "  '<style id=still>* {transition: none !important}</style>');"
        "document.documentElement.dataset.mode = arguments[0];"
        "document.documentElement.dataset.theme = arguments[0]", theme,
    )  # fmt: skip


def screenshot(driver: Any, path: Path) -> None:
    """The whole page, from top to bottom, as a PNG of few colors."""
    from PIL import Image

    size = driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 9000)}
    shot = driver.execute_cdp_cmd(
        "Page.captureScreenshot",
        {
            "format": "jpeg",
            "quality": 70,
            "captureBeyondViewport": True,
            "clip": {**clip, "scale": 1},
        },
    )
    Image.open(io.BytesIO(base64.b64decode(shot["data"]))).save(path, quality=70)
