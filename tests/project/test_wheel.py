"""An installed snnlib evaluates its embedded network with no network connection and no checkout."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NO_NETWORK = """
import socket


def refuse(self, address):
    raise OSError(f"the test allows no connection, but one to {address} was tried")


socket.socket.connect = refuse
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution."""
    pytest.importorskip("setuptools", minversion="77")
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("archive")
    # Built from a copy: setuptools leaves its working files beside the sources.
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("snnlib", "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for path in ROOT.iterdir():
        if path.is_file() and not path.is_symlink():
            shutil.copy(path, source)
    script = f"from setuptools import build_meta; build_meta.build_sdist({str(target)!r})"
    build = subprocess.run(
        [sys.executable, "-c", script], cwd=source, capture_output=True, text=True
    )
    assert build.returncode == 0, build.stdout + build.stderr
    (path,) = target.glob("*.tar.gz")
    return path


@pytest.fixture(scope="module")
def installed(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the wheel holds, and nothing else but the lock on the network.

    The wheel is made from the source distribution, so that one that lacks a file fails here.
    """
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", archive]
    build = subprocess.run(command, cwd=archive.parent, capture_output=True, text=True)
    assert build.returncode == 0, build.stdout + build.stderr
    (wheel,) = archive.parent.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(target)
    (target / "sitecustomize.py").write_text(NO_NETWORK)
    return target


def test_the_source_distribution_is_the_library_and_its_papers(archive: Path) -> None:
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    tops = {name.partition("/")[0] for name in names} - {""}
    papers = {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "pyproject.toml"}
    made = {"MANIFEST.in", "PKG-INFO", "setup.cfg", "snnlib.egg-info"}
    assert tops == {"snnlib"} | papers | made
    ours = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "snnlib").rglob("*")
        if path.suffix in (".py", ".safetensors", ".json", ".mplstyle", ".typed")
    }
    assert ours <= names


def run(installed: Path, folder: Path, *arguments: str) -> str:
    """Standard output of Python started in an empty folder, with an empty home."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SNNLIB_", "XDG_"))}
    places = {"PYTHONPATH": str(installed), "HOME": str(folder), "USERPROFILE": str(folder)}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=kept | places, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_is_what_runs_and_the_network_is_locked(installed: Path, tmp_path: Path) -> None:
    script = (
        "import snnlib, urllib.request\n"
        "print(snnlib.__file__)\n"
        "try:\n    urllib.request.urlopen('http://127.0.0.1:9')\n"
        "except OSError as error:\n    print(error)\n"
    )
    place, refusal = run(installed, tmp_path, "-c", script).splitlines()
    assert Path(place).is_relative_to(installed)
    assert "allows no connection" in refusal


@pytest.mark.slow
def test_digits_are_evaluated_offline(installed: Path, tmp_path: Path) -> None:
    options = [
        "--neuron",
        "augmented",
        "--levels",
        "8",
        "--negative",
        "0",
        "--steps",
        "4",
        "--json",
    ]
    printed = run(installed, tmp_path, "-m", "snnlib", "evaluate", "digits-cnn", *options)
    result = json.loads(printed)
    assert result["model"] == "digits-cnn"
    assert len(result["accuracy"]) == 4
    assert result["ann_accuracy"] > 0.9
    assert abs(result["accuracy"][-1] - result["ann_accuracy"]) < 0.02
