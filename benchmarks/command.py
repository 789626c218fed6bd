"""The frame of every benchmark: its options, and a result with all that is needed to repeat it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from snnlib.deploy.files import write_bytes
from snnlib.zoo import provenance

RESULTS = Path(__file__).parent / "results"


class Command:
    """The command line of a benchmark.

    Args:
        name: of the module in ``benchmarks``.
        about: its docstring.
        rounds: default of ``--rounds``.
    """

    def __init__(self, name: str, about: str | None, rounds: int) -> None:
        self.name = name
        self.parser = argparse.ArgumentParser(
            prog=f"python -m benchmarks.{name}",
            description=about,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add = self.parser.add_argument
        add("--rounds", type=int, default=rounds, help="default: %(default)s")
        add("--threads", type=int, help="default: PyTorch's")
        add("--json", action="store_true", help="write benchmarks/results/*.json")

    def parse(self, arguments: Sequence[str] | None) -> argparse.Namespace:
        """The options; with ``--threads`` PyTorch has so many from now on."""
        self.arguments = sys.argv[1:] if arguments is None else list(arguments)
        self.options = self.parser.parse_args(self.arguments)
        if self.options.threads:
            torch.set_num_threads(self.options.threads)
        self.begun = time.perf_counter()
        return self.options

    def publish(
        self,
        file: str,
        found: dict[str, Any],
        *,
        n: int,
        seed: int = 0,
        packages: Sequence[str] = (),
    ) -> None:
        """Print the result, or write it whole to ``RESULTS / file`` and print where.

        Args:
            file: name of the results file.
            found: what was measured since `parse` or the last call.
            n: number of images.
            seed: of what is random.
            packages: whose versions belong in the record.
        """
        command = ["python", "-m", f"benchmarks.{self.name}", *self.arguments]
        record = {
            **provenance.record(torch.device("cpu"), "numpy", "numba", *packages, command=command),
            "n": n,
            "seed": seed,
            "rounds": self.options.rounds,
            "threads": torch.get_num_threads(),
            "seconds": round(time.perf_counter() - self.begun, 1),
            **found,
        }
        self.begun = time.perf_counter()
        text = json.dumps(record, indent=1) + "\n"
        if not self.options.json:
            print(text)
            return
        RESULTS.mkdir(exist_ok=True)
        print(write_bytes(RESULTS / file, text.encode()))
