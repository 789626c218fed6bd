"""Two processes under torchrun give what one gives, and fail as one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from snnlib.zoo import distributed


def launch(*words, processes=2, program=("-m", "snnlib")):
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": root}
    if processes == 1:
        command = [sys.executable, *program, *words]
    else:
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone",
            "--nproc-per-node", str(processes), *program, *words,
        ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


TIMED = ("seconds", "images_per_second", "hardware")


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [("--negative", "0"), ("--input", "bernoulli", "--seed", "3")], ids=" ".join
)
def test_two_processes_give_the_single_process_result(options):
    words = ("evaluate", "digits-cnn", "--steps", "4", "--batch", "60", "--json", *options)
    one, two = launch(*words, processes=1), launch(*words)
    assert one.returncode == two.returncode == 0, two.stderr
    results = [json.loads(run.stdout) for run in (one, two)]
    for result in results:
        for name in TIMED:
            del result[name]
    assert results[0] == results[1]
    assert results[0]["n"] > 250, "one part only: the second process had nothing to do"
    assert two.stderr.count("  0%|") == 1, "one bar for both"


_DIES = """
import os, sys
from snnlib.zoo import distributed
with distributed.together():
    if distributed.rank() == 1:
        os._exit(7)
    try:
        distributed.gather(["result"])
    except distributed.ProcessError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
"""


@pytest.mark.slow
def test_the_run_fails_when_a_process_dies(tmp_path):
    script = tmp_path / "dies.py"
    script.write_text(_DIES)
    run = launch(program=(str(script),))
    assert run.returncode != 0
    assert "another process of this run died" in run.stderr or "exitcode  : 7" in run.stderr


@pytest.mark.parametrize("count", [0, 1, 5, 8])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_the_parts_are_shared_out_and_put_in_order(monkeypatch, processes, count):
    items = list(range(count))
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    shares = []
    for rank in range(processes):
        monkeypatch.setenv("RANK", str(rank))
        shares.append(distributed.mine(items))

    def all_gather_object(parts, found):
        parts[:] = shares

    monkeypatch.setattr("torch.distributed.all_gather_object", all_gather_object)
    assert distributed.gather(shares[-1]) == items
