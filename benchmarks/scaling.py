"""Cost against time steps, images and neurons, and memory against time steps.

    python -m benchmarks.scaling --json

Time: a network of six convolutions of random weights; each line is measured over several rounds
in which all its points take turns, for IF and Augmented neurons, and a straight line is fitted to
the medians. Neurons: the same weights on larger images. Memory: peak resident memory of a process
of its own that loads the network and simulates, for two numbers of steps and two values of
``memory=``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

import snnlib as snn
from benchmarks.command import Command
from benchmarks.simulator import random_network, seconds
from snnlib import SpikingNetwork
from snnlib.simulation.schedule import needed_bytes
from snnlib.zoo import models

WIDTHS = (16, 16), (32, 32), (64, 64)
NEURONS = {"IF": snn.IF(), "Augmented": snn.Augmented(levels=4)}
SIDE, IMAGES, STEPS = 32, 30, 16
LINES: dict[str, tuple[int, ...]] = {
    "steps": (8, 16, 32, 64, 128, 256),
    "images": (30, 60, 120, 240, 480),
    "side": (16, 24, 32, 48, 64),
}
MEMORY = "16MB", "1GB"  # the second is the default, and more than the network can use
MEMORY_STEPS, MEMORY_IMAGES = (32, 256), 100


def network(side: int = SIDE) -> SpikingNetwork:
    """Six convolutions with batch norm and average pooling, for images (3, side, side)."""
    images = torch.rand(50, 3, side, side, generator=torch.Generator().manual_seed(side))
    ann = random_network(models._cnn(3, *WIDTHS), images)
    return snn.convert(ann, images, snn.IF())


def random_images(count: int, side: int = SIDE) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def fit(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """Least-squares line through (x, y), and how well it fits.

    Returns:
        slope and intercept; r2, the share of the variance of y that the line explains; largest
        distance of a point from it, as a fraction of the point.
    """
    slope, intercept = (float(value) for value in np.polyfit(x, y, 1))
    measured, predicted = np.asarray(y), slope * np.asarray(x) + intercept
    spread = np.square(measured - np.mean(measured)).sum()
    rest = float(np.square(measured - predicted).sum() / spread)
    off = float(np.abs((measured - predicted) / measured).max())
    return {"slope": slope, "intercept": intercept, "r2": 1 - rest, "largest_deviation": off}


def line(works: dict[tuple[str, int], Callable[[], Any]], rounds: int) -> list[list[float]]:
    """Seconds of each piece of work in each round: the pieces take turns."""
    for work in works.values():
        work()
    taken: dict[tuple[str, int], list[float]] = {key: [] for key in works}
    for _ in range(rounds):
        for key, work in works.items():
            taken[key].append(seconds(work))
    return list(taken.values())


def lines(rounds: int) -> dict[str, Any]:
    """The three lines for each neuron: points, medians, spread and fit."""
    found: dict[str, Any] = {}
    base = {name: network().replace(neuron=neuron) for name, neuron in NEURONS.items()}
    images = random_images(max(LINES["images"]))
    for what, points in LINES.items():
        works: dict[tuple[str, int], Callable[[], Any]] = {}
        neurons = list(points)
        if what == "side":
            nets = {side: network(side) for side in points}
            neurons = [sum(net.neurons.values()) for net in nets.values()]
        for name, neuron in NEURONS.items():
            net = base[name]
            for point in points:
                if what == "steps":
                    works[name, point] = partial(net, images[:IMAGES], point)
                elif what == "images":
                    works[name, point] = partial(net, images[:point], STEPS)
                else:
                    x, wide = random_images(IMAGES, point), nets[point].replace(neuron=neuron)
                    works[name, point] = partial(wide, x, STEPS)
        taken = line(works, rounds)
        for i, name in enumerate(NEURONS):
            times = taken[i * len(points) : (i + 1) * len(points)]
            medians = [median(t) for t in times]
            label = "neurons" if what == "side" else what
            found.setdefault(label, {})[name] = {
                label: neurons, "seconds": medians,
                "fastest": [min(t) for t in times], "slowest": [max(t) for t in times],
                **fit(neurons, medians),
            }  # fmt: skip
            if what == "side":
                found[label][name]["image_side"] = list(points)
    fixed = {"steps": STEPS, "images": IMAGES, "neurons": sum(base["IF"].neurons.values())}
    return {"elsewhere": fixed, "lines": found}


def resident() -> tuple[int, int]:
    """Bytes of memory this process has in use, and the most it ever had."""
    status = Path("/proc/self/status")
    if status.is_file():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        now, peak = (int(fields[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM"))
        return now, peak
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak, peak * (1 if sys.platform == "darwin" else 1024)


def one_process(path: str, steps: int, memory: str) -> dict[str, int]:
    """Load a network, simulate, and say what it took: what the processes of `peaks` do."""
    net = snn.load(path)
    images = random_images(MEMORY_IMAGES)
    net(images[:2], 2)  # loads what every run needs
    before, _ = resident()
    run = net(images, steps, memory=memory)
    _, peak = resident()
    schedule = net.schedule(MEMORY_IMAGES, steps, memory)
    return {
        "steps": steps, "before": before, "peak": peak, "results": run.logits.nbytes,
        "images_at_once": schedule.images, "steps_at_once": schedule.steps,
        "planned": needed_bytes(net.network, schedule),
    }  # fmt: skip


def peaks() -> dict[str, Any]:
    """Peak resident memory in processes of their own."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = network().save(Path(folder) / "net.safetensors")
        for memory in MEMORY:
            for steps in MEMORY_STEPS:
                call = [sys.executable, "-m", "benchmarks.scaling", "--process", str(path),
                        str(steps), memory]  # fmt: skip
                answer = subprocess.run(call, capture_output=True, text=True, check=False)
                if answer.returncode:
                    raise SystemExit(f"the process that measures memory failed:\n{answer.stderr}")
                rows.append({"memory": memory, **json.loads(answer.stdout)})
    ratios = {}
    for memory in MEMORY:
        few, many = (row["peak"] for row in rows if row["memory"] == memory)
        ratios[memory] = many / few
    return {
        "images": MEMORY_IMAGES, "processes": rows,
        f"peak_at_{MEMORY_STEPS[1]}_over_{MEMORY_STEPS[0]}_steps": ratios,
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    command = Command("scaling", __doc__, rounds=5)
    command.parser.add_argument(
        "--process", nargs=3, metavar=("FILE", "STEPS", "MEMORY"),
        help="measure the memory of this process only",
    )  # fmt: skip
    options = command.parse(arguments)
    if options.process:
        path, steps, memory = options.process
        print(json.dumps(one_process(path, int(steps), memory)))
        return 0
    network = f"six convolutions of widths {WIDTHS}, random weights, random images"
    found = {"network": network, "memory": peaks(), **lines(options.rounds)}
    command.publish("scaling.json", found, n=max(LINES["images"]), seed=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
