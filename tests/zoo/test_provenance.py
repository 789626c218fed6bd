"""What stored numbers carry: the build that ran, the commit of this source and of no other."""

import importlib.util
import re
import shutil
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import pytest
import torch

import snnlib
from snnlib.zoo import provenance


@pytest.mark.parametrize("build", ["2.13.0", "2.13.0+cpu", "2.13.0+cu130"])
def test_versions_say_which_build_of_torch_ran(monkeypatch, build):
    """The metadata of a wheel from a package index may leave the build out."""
    monkeypatch.setattr(torch, "__version__", build)
    monkeypatch.setattr(metadata, "version", lambda name: "2.13.0" if name == "torch" else "1.0")
    found = provenance.versions("numpy", "torch")
    assert found["torch"] == build
    assert list(found) == ["snnlib", "python", "torch", "numpy"]


def test_a_record_is_what_every_result_carries():
    made = provenance.record(torch.device("cpu"), "numpy", command=["snnlib", "train", "a b"])
    assert list(made) == ["command", "commit", "date", "hardware", "versions"]
    assert made["command"] == "snnlib train 'a b'"
    assert abs((datetime.now(UTC).date() - datetime.fromisoformat(made["date"]).date()).days) <= 1
    assert made["versions"]["snnlib"] == snnlib.__version__
    assert made["versions"]["numpy"] == metadata.version("numpy")
    assert "thread" in made["hardware"]
    assert "command" not in provenance.record(torch.device("cpu"))


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_the_commit_is_that_of_a_tree_with_this_file(tmp_path):
    """An environment inside another project does not take that project's commit."""
    folder = tmp_path / "venv" / "snnlib"
    folder.mkdir(parents=True)
    copy = folder / "provenance.py"
    copy.write_bytes(Path(provenance.__file__).read_bytes())
    spec = importlib.util.spec_from_file_location("copied", copy)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    (tmp_path / "other.txt").write_text("")
    git("init")
    git("add", "other.txt")
    git("commit", "-m", "another project")
    assert module.commit() is None
    git("add", ".")
    git("commit", "-m", "with this file")
    assert re.fullmatch("[0-9a-f]{40}", module.commit())
