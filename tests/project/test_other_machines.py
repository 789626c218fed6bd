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
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = (
    "tests/test_neurons.py", "tests/backend", "tests/simulation", "tests/deploy",
    "tests/conversion/test_balance.py", "tests/conversion/test_convert.py",
    "--ignore=tests/deploy/test_web.py",  # a page's arithmetic is the browser's
)  # fmt: skip
SETTINGS = {
    "plain": {
        "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "OMP_NUM_THREADS": "1"
    },
    "hurried": {"SNNLIB_THREADS": "4", "SNNLIB_SWITCH_INTERVAL": "1e-6"},
}  # fmt: skip
SAID = {"plain": "1 thread, DEFAULT,", "hurried": "4 threads, "}
OURS = ("PYTEST_", "ATEN_", "ONEDNN_", "OMP_", "SNNLIB_THREADS", "SNNLIB_SWITCH")


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, tuple[subprocess.Popen[bytes], Path]]]:
    """Both settings side by side: where this file comes last, other cores are free."""
    surroundings = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
    left_out = "not slow and not dataset and not browser and not cuda"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", left_out, *TESTS]
    found = {}
    for name, setting in SETTINGS.items():
        log = tmp_path_factory.mktemp(name) / "said.txt"
        with log.open("wb") as file:
            process = subprocess.Popen(
                command, cwd=ROOT, env={**surroundings, **setting}, stdout=file, stderr=file
            )
        found[name] = process, log
    yield found
    for process, _ in found.values():
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_arithmetic(running: dict[str, tuple[subprocess.Popen[bytes], Path]], name: str) -> None:
    process, log = running[name]
    code, said = process.wait(), log.read_text(encoding="utf-8")
    assert code == 0, said[-8000:]
    assert SAID[name] in said, "the setting did not take hold"
    assert int(re.search(r"(\d+) passed", said)[1]) > 500, said[-2000:]
