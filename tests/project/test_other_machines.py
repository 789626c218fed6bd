"""The arithmetic is right on processors and in hurries that are not this machine's.

The tests of neurons, kernels, simulation, balancing and whole numbers run again, in a process of
their own, in the two settings that found most faults: without the processor's vector instructions,
so that libraries add in another order and choose other kernels, and with four threads that take
turns all the time. Further settings, to run by hand: ``CONTRIBUTING.md``.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = (
    "tests/test_neurons.py", "tests/backend", "tests/simulation", "tests/deploy",
    "tests/conversion/test_balance.py", "tests/conversion/test_convert.py",
    "--ignore=tests/deploy/test_web.py",  # a page's arithmetic is the browser's
)  # fmt: skip
PLAIN = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "OMP_NUM_THREADS": "1"}
HURRIED = {"SNNLIB_THREADS": "4", "SNNLIB_SWITCH_INTERVAL": "1e-6"}


OURS = ("PYTEST_", "ATEN_", "ONEDNN_", "OMP_", "SNNLIB_THREADS", "SNNLIB_SWITCH")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "said"),
    [(PLAIN, "1 thread, DEFAULT,"), (HURRIED, "4 threads, ")],
    ids=["plain", "hurried"],
)
def test_arithmetic(setting: dict[str, str], said: str) -> None:
    surroundings = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
    left_out = "not slow and not dataset and not browser and not cuda"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", left_out, *TESTS],
        cwd=ROOT, env={**surroundings, **setting}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:]
    assert said in done.stdout, "the setting did not take hold"
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 500, done.stdout[-2000:]
