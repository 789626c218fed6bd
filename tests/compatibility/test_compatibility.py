"""Programs and files of snnlib 0.1 work as they did; old names say where they went.

`network_0_1.safetensors`, `whole_0_1.safetensors`, `script_0_1.py` and `results_0_1.json` were
written by snnlib 0.1 (commit 0df5fda) before the house was built.
"""

import importlib
import json
import math
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

import snnlib as snn
from snnlib import _compatibility

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FILES = [str(HERE / "network_0_1.safetensors"), str(HERE / "whole_0_1.safetensors")]
EXACT = ("events", "spikes", "coefficients", "layers", "synops", "bernoulli", "decided")


def alike(found: Any, stored: Any, path: str = "") -> None:
    """The same structure; floats to rounding, since another processor adds in another order."""
    if isinstance(stored, dict):
        assert found.keys() == stored.keys(), path
        for key, value in stored.items():
            alike(found[key], value, f"{path}/{key}")
    elif isinstance(stored, list):
        assert len(found) == len(stored), path
        for i, (a, b) in enumerate(zip(found, stored, strict=True)):
            alike(a, b, f"{path}/{i}")
    elif isinstance(stored, float):
        assert math.isclose(found, stored, rel_tol=1e-6, abs_tol=1e-9), path
    else:
        assert found == stored, path


def test_a_script_of_0_1_prints_what_it_printed() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "default", str(HERE / "script_0_1.py"), *FILES]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    stored = json.loads((HERE / "results_0_1.json").read_text(encoding="utf-8"))
    alike(found, stored)
    for key in EXACT:  # of saved networks: nothing is measured anew, so every count is the same
        assert found["loaded"][key] == stored["loaded"][key]
        assert found["whole"][key] == stored["whole"][key]
    assert found["whole"]["logits"] == stored["whole"]["logits"]
    assert "snnlib.balance has moved to snnlib.conversion.balance" in done.stderr
    assert "pass record by name" in done.stderr
    assert "script_0_1.py" in done.stderr, "a warning names the line that is to change"


@pytest.mark.parametrize("short", sorted(_compatibility.MOVED))
def test_an_old_path_names_the_new_one(short: str) -> None:
    home = _compatibility.MOVED[short]
    try:
        there = importlib.import_module(home)
    except ModuleNotFoundError as error:
        pytest.skip(f"{home} needs {error.name}")
    name = next(n for n in vars(there) if not n.startswith("_") and n != "annotations")
    old = importlib.import_module(f"snnlib.{short}")
    with pytest.warns(DeprecationWarning, match=rf"snnlib\.{short} has moved to {home};"):
        assert getattr(old, name) is getattr(there, name)
    if short != "convert":  # the name of a function, as before
        with pytest.warns(DeprecationWarning, match="has moved"):
            assert getattr(snn, short) is there


@pytest.mark.parametrize("short", sorted(_compatibility.PUBLIC))
def test_public_modules_keep_their_short_names(short: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert getattr(snn, short).__name__ == _compatibility.PUBLIC[short]
        scope: dict[str, Any] = {}
        exec(f"import snnlib.{short}\nfrom snnlib.{short} import __doc__ as doc", scope)
    assert scope["doc"] is None or scope["doc"]


def test_an_old_path_does_not_hide_a_function() -> None:
    importlib.import_module("snnlib.convert")
    assert callable(snn.convert)
