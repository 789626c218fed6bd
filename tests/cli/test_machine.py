"""Machines that are short of something: characters, folders that can be written, a clone."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from snnlib.__main__ import _plain, examples, main

ROOT = Path(__file__).parents[2]


def start(*words, package=ROOT, **environment):
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "snnlib", *words],
        env={**os.environ, "PYTHONPATH": str(package), "OMP_NUM_THREADS": "1", **environment},
        cwd=package,
        capture_output=True,
        timeout=300,
    )


EVALUATE = ("evaluate", "digits-cnn", "--steps", "1", "--limit", "4", "--device", "cpu", "--quiet")
SHOWN = [
    ("evaluate", "--help"),
    ("data", "digits"),
    ("verify", "digits-cnn", "--steps", "2", "--limit", "4", "--device", "cpu"),
    ("support",),
    ("evaluate", "digits-cn…θ"),
]


@pytest.mark.slow
@pytest.mark.parametrize("words", SHOWN, ids=" ".join)
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_output_that_knows_few_characters(words, encoding):
    """What can be shown is shown, the rest is spelled out; nothing is lost and nothing raised."""
    narrow = start(*words, PYTHONIOENCODING=encoding)
    wide = start(*words, PYTHONIOENCODING="utf-8")
    assert narrow.returncode == wide.returncode
    assert b"Traceback" not in narrow.stderr
    for ours, theirs in ((narrow.stdout, wide.stdout), (narrow.stderr, wide.stderr)):
        text = "".join(
            c if c.encode(encoding, "ignore") else _plain(c) for c in theirs.decode("utf-8")
        )
        assert ours.decode(encoding).split() == text.split()


PLAIN = {"θ": "theta", "λ": "lambda", "Σ": "sigma", "×": "x", "…": "...", "½": "1/2", "²": "2"}
PLAIN |= {"−": "-", "→": "->", "≥": ">=", "☃": "snowman", "\uffff": "?"}


@pytest.mark.parametrize(("character", "plain"), PLAIN.items())
def test_characters_spelled_out(character, plain):
    assert _plain(character) == plain


@pytest.mark.parametrize("command", examples())
def test_help_in_ascii(capsys, monkeypatch, command):
    """Every help, as `start` would show it (in this process, since that is fast)."""
    narrow = io_in_ascii(monkeypatch)
    with pytest.raises(SystemExit):
        main([command, "--help"] if command else ["--help"])
    narrow.flush()
    assert b"examples:" in narrow.buffer.getvalue()


def io_in_ascii(monkeypatch):
    import io

    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    return narrow


@pytest.mark.slow
def test_no_folder_can_be_written(tmp_path):
    """Neither the package's nor the home: compiled code is not kept, with one warning."""
    pytest.importorskip("numba")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "snnlib", tmp_path / "snnlib", ignore=ignored)
    # Files where folders should be: that stops a superuser, too.
    for name in ("home", "snnlib/backend/__pycache__"):
        (tmp_path / name).write_text("")
    home = str(tmp_path / "home")
    places = {"HOME": home, "USERPROFILE": home, "XDG_CACHE_HOME": home, "LOCALAPPDATA": home}
    places |= {"NUMBA_CACHE_DIR": "", "PYTHONDONTWRITEBYTECODE": "1"}
    found = start(*EVALUATE, "--json", package=tmp_path, **places)
    assert found.returncode == 0, found.stderr.decode()
    assert found.stderr.count(b"warning") == 1
    assert b"NUMBA_CACHE_DIR" in found.stderr
    usual = start(*EVALUATE, "--json", NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert b"warning" not in usual.stderr
    first, second = (json.loads(run.stdout)["events_per_image"] for run in (found, usual))
    assert first == second


def test_nothing_is_made_in_the_folder_where_a_command_runs(capsys, tmp_path, monkeypatch):
    """Results of the repository's commands go to the repository, wherever they are run."""
    from book.tools import support

    monkeypatch.chdir(tmp_path)
    written = []
    monkeypatch.setattr(support, "write_table", lambda path: written.append(Path(path)) or [])
    monkeypatch.setattr(support, "format_table", lambda rows: "")
    assert main(["support", "--torchvision"]) == 0
    assert written == [Path(support.__file__).resolve().parents[1] / "results" / "torchvision.json"]
    assert main(["support", "--torchvision", "--output", "mine.json"]) == 0
    assert written[1] == Path("mine.json")
    assert list(tmp_path.iterdir()) == []
