"""From a plain loop to snnlib's engine, rung by rung; roofline, and memory over the steps.

    python -m benchmarks.ladder --threads 1 --json

The rungs (`benchmarks.rungs`) simulate the same images with the same network and IF neurons, taking
turns, round by round, after a check that all give the same answers; the closed form stands beside
them with augmented spikes. *Floor*: T passes of the folded ANN in the best memory format and batch.
The loop over single neurons simulates one image for one step, and is scaled.

Roofline: convolutions of that network and updates of its neurons, each with the arithmetic it does
a second and a byte, beside what this processor reaches in a matrix product and in adding up long
arrays. Time and peak memory over the number of steps: a process of its own for each way, on the
network of `benchmarks.scaling`.

Each time is the least of the rounds, once by the clock and once as the process's own processor
time, which other work on the machine lengthens less. With one thread both mean the same on a
machine that does nothing else; the load is in the file.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor

import snnlib as snn
from benchmarks import rungs, scaling
from benchmarks.command import Command
from benchmarks.simulator import ann_pass, cifar, network
from snnlib import SpikingNetwork
from snnlib.backend import updates
from snnlib.backend.parallel import rows_in_cache
from snnlib.graph.operations import Node, apply

Work = Callable[[], Any]
OVER_STEPS = 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256
WAYS = ("one step at a time", "all steps at once", "snnlib", "closed form")
LONG = 2**25  # numbers in the arrays that are added up
SQUARE = 2048  # side of the matrices that are multiplied


def take_turns(
    works: dict[str, Work], rounds: int, first: int = 1
) -> dict[str, dict[str, float]]:  # fmt: skip
    """Least and median times of each piece of work, in seconds; the pieces take turns.

    Args:
        works: the pieces by name.
        rounds: how often each is timed.
        first: rounds before them, which compile and take their memory.
    """
    clocks = {"wall": time.perf_counter, "cpu": time.process_time}
    taken: dict[str, dict[str, list[float]]] = {
        name: {clock: [] for clock in clocks} for name in works
    }
    for number in range(first + rounds):
        for name, work in works.items():
            began = {clock: now() for clock, now in clocks.items()}
            work()
            if number >= first:
                for clock, now in clocks.items():
                    taken[name][clock].append(now() - began[clock])
    return {
        name: {
            "wall": min(t["wall"]), "cpu": min(t["cpu"]), "median_cpu": median(t["cpu"]),
            "median_wall": median(t["wall"]),
        }
        for name, t in taken.items()
    }  # fmt: skip


def in_batches(run: Callable[[Tensor], Tensor], x: Tensor, size: int) -> Tensor:
    return torch.cat([run(part) for part in x.split(size)])


def thresholds(net: SpikingNetwork) -> dict[str, float]:
    return {name: float(theta) for name, theta in net.thresholds.items()}


def ladder(net: SpikingNetwork, x: Tensor, steps: int) -> dict[str, Work]:
    """Each rung by name: a function that simulates all images and returns the logits."""
    layers, theta = list(net.graph)[1:], thresholds(net)
    unit = net.normalized()
    ones, units = thresholds(unit), list(unit.graph)[1:]
    lasts, last = rungs.channels_last(units), x.contiguous(memory_format=torch.channels_last)
    rows = rows_in_cache(net.graph.shapes.values(), net.dtype)
    closed = net.replace(neuron=snn.Augmented(levels=4, negative=0.0))

    def once(layers: Sequence[Node], fire: rungs.Tensors, x: Tensor) -> Tensor:
        return rungs.simulate(*rungs.before_spikes(layers, x), steps, fire)

    def blocks(x: Tensor) -> Tensor:
        before = rungs.before_spikes(lasts, x)
        return rungs.in_blocks(*before, steps, rungs.Unit(ones), steps)

    return {
        "one neuron at a time": lambda: rungs.simulate(layers, x[:1], 1, rungs.OneByOne(theta)),
        "tensors": lambda: rungs.simulate(layers, x, steps, rungs.Tensors(theta)),
        "first layer once": lambda: once(layers, rungs.Tensors(theta), x),
        "in place": lambda: once(layers, rungs.InPlace(theta), x),
        "thresholds folded": lambda: once(units, rungs.Unit(ones), x),
        "channels last": lambda: once(lasts, rungs.Unit(ones), last),
        "batches that fit": lambda: in_batches(
            lambda part: once(lasts, rungs.Unit(ones), part), last, rows
        ),
        "blocks of steps": lambda: in_batches(blocks, last, max(1, rows // steps)),
        "snnlib": lambda: net(x, steps, only_last=True).logits[0],
        "snnlib, all counted": lambda: net(x, steps).logits[-1],
        "closed form": lambda: closed(x, steps, only_last=True).logits[0],
    }


def check(works: dict[str, Work], x: Tensor) -> dict[str, float]:
    """How many answers of each rung are those of the engine.

    Raises:
        SystemExit: fewer than 98 of 100 are.
    """
    answers = {name: work().argmax(1) for name, work in works.items() if "neuron" not in name}
    same = {
        name: float((found == answers["snnlib"]).double().mean())
        for name, found in answers.items() if name != "closed form"  # its neurons are others
    }  # fmt: skip
    if wrong := [name for name, share in same.items() if share < 0.98]:
        raise SystemExit(f"{', '.join(wrong)}: other answers than snnlib's: {same}")
    return same


def floors(net: SpikingNetwork, x: Tensor) -> dict[str, Work]:
    """Passes of the ANN over all images, one for each memory format and batch."""
    return {
        f"{batch} images, channels {'last' if last else 'first'}": ann_pass(net, x, batch, last)
        for batch in (8, 24, 48, 96, len(x)) if batch <= len(x) for last in (True, False)
    }  # fmt: skip


def rung_times(net: SpikingNetwork, x: Tensor, steps: int, rounds: int) -> dict[str, Any]:
    """The ladder: milliseconds an image and step of each rung and of the floor."""
    works = ladder(net, x, steps)
    same = check(works, x)
    passes = take_turns(floors(net, x), 2)
    best = min(passes, key=lambda name: passes[name]["cpu"])
    works["floor"] = floors(net, x)[best]
    taken = take_turns(works, rounds)
    done = {name: len(x) * steps for name in works}
    done |= {"one neuron at a time": 1, "floor": len(x)}
    return {
        "floor_way": best,
        "same_answers": same,
        "ms_a_step": {
            name: {clock: 1000 * t / done[name] for clock, t in times.items()}
            for name, times in taken.items()
        },
    }


def work_of_convolution(node: Node, x: Tensor, out: Tensor) -> dict[str, float]:
    """Operations of a convolution (a MAC is two) and the bytes it reads and writes at least."""
    values = x.numel() + out.numel() + sum(w.numel() for w in node.tensors.values())
    flop = 2.0 * out.numel() * node.tensors["weight"][0].numel()
    return {"flop": flop, "bytes": float(x.itemsize * values)}


def convolutions(
    net: SpikingNetwork, x: Tensor, dtype: torch.dtype
) -> Iterable[tuple[str, dict[str, float], Work]]:
    """Every convolution but the first: its name, its work, and a function that does it."""
    value = x.to(dtype).contiguous(memory_format=torch.channels_last)
    for node in rungs.channels_last(list(net.graph)[1:]):
        if node.kind == "spiking":
            value = value.relu()
            continue
        cast = node.with_tensors(lambda w: w.to(dtype)) if node.tensors else node
        out = apply(cast, [value])
        if node.op == "conv" and node.tensors["weight"].shape[1] > 4:
            yield node.name, work_of_convolution(cast, value, out), partial(apply, cast, [value])
        value = out


def neuron_updates(net: SpikingNetwork, x: Tensor) -> Iterable[tuple[str, dict[str, float], Work]]:
    """The update of the first layer's neurons: in plain tensors, in place, and fused."""
    name, block = net.graph.spiking[0], 8
    shape = (len(x), *net.graph.shapes[name])
    current = torch.rand(shape).contiguous(memory_format=torch.channels_last)
    neuron, theta = net.network.neurons[name], torch.tensor(0.7)
    state = neuron.initial(current[: len(x) // block], theta)
    by_step = current.clone().unflatten(0, (block, -1))  # (steps, images, ...)
    plain, place = rungs.Tensors({name: 0.7}), rungs.InPlace({name: 0.7})
    # Numbers read and written. Plain: V + z, ≥ with its byte, c · θ, V − cθ, N + c, c · θ; in
    # place: V + z, ≥, V − cθ, N + c, c · θ; fused: z and the message.
    works: dict[str, tuple[float, Work]] = {
        "plain": (3 + 2.5 + 2 + 3 + 3 + 2, lambda: plain(name, current)),
        "in place": (3 + 2 + 3 + 3 + 2, lambda: place(name, current)),
        "fused": (2, lambda: updates.advance(neuron, state, by_step, theta, by_step)),
    }
    for label, (numbers, work) in works.items():
        moved = 4.0 * numbers * current.numel()
        yield label, {"flop": 4.0 * current.numel(), "bytes": moved}, work  # +, ≥, −, count


def roofline(net: SpikingNetwork, x: Tensor, rounds: int) -> dict[str, Any]:
    """Arithmetic a byte and a second of what a step does, and what the processor reaches."""
    found: dict[str, Any] = {}
    works: dict[str, Work] = {}
    for dtype in (torch.float32, torch.bfloat16):
        label = str(dtype).removeprefix("torch.")
        for name, work, function in convolutions(net, x, dtype):
            found[f"{name}, {label}"] = work
            works[f"{name}, {label}"] = function
        square = torch.rand(SQUARE, SQUARE).to(dtype)
        found[f"matrix product, {label}"] = {"flop": 2.0 * SQUARE**3, "bytes": 0.0}
        works[f"matrix product, {label}"] = partial(torch.mm, square, square)
    for name, work, function in neuron_updates(net, x):
        found[f"update, {name}"], works[f"update, {name}"] = work, function
    a, b, out = torch.rand(LONG), torch.rand(LONG), torch.empty(LONG)
    found["sum of arrays"] = {"flop": float(LONG), "bytes": 12.0 * LONG}
    works["sum of arrays"] = partial(torch.add, a, b, out=out)
    for name, times in take_turns(works, rounds).items():
        found[name] |= {clock: times[clock] for clock in ("wall", "cpu")}
    return found


def one_process(way: str, most: int = OVER_STEPS[-1]) -> list[dict[str, Any]]:
    """Simulate in one way, with more and more steps: what the processes of `over_steps` do.

    Returns:
        For each number of steps the least processor time of two runs, in seconds, and the most
        memory that the process had taken by then, beside what it had before, in bytes.
    """
    net, x = scaling.network(), scaling.random_images(24)
    unit = net.normalized()
    layers, ones = list(unit.graph)[1:], thresholds(unit)
    closed = net.replace(neuron=snn.Augmented(levels=4, negative=0.0))

    def run(steps: int) -> Any:
        if way in ("snnlib", "closed form"):
            return (net if way == "snnlib" else closed)(x, steps, only_last=True)
        before = rungs.before_spikes(layers, x)
        if way == "one step at a time":
            return rungs.simulate(*before, steps, rungs.Unit(ones))
        return rungs.in_blocks(*before, steps, rungs.Unit(ones), steps)

    with torch.no_grad():
        run(1)  # loads what every run needs
        start, _ = scaling.resident()
        rows = []
        for steps in (steps for steps in OVER_STEPS if steps <= most):
            cpu = take_turns({way: partial(run, steps)}, 2, first=0)[way]["cpu"]
            _, peak = scaling.resident()
            row = {"steps": steps, "cpu": cpu, "before": start, "peak": peak}
            rows.append({"way": way, "images": len(x), **row})
    return rows


def over_steps(threads: int) -> list[dict[str, Any]]:
    """Time and peak memory over the number of steps, each way in a process of its own."""
    rows = []
    for way in WAYS:
        call = [sys.executable, "-m", "benchmarks.ladder", "--process", way]
        call += ["--threads", str(threads)]
        answer = subprocess.run(call, capture_output=True, text=True, check=False)
        if answer.returncode:
            raise SystemExit(f"the process of {way!r} failed:\n{answer.stderr}")
        rows += json.loads(answer.stdout)
    return rows


def shortened(value: Any) -> Any:
    """Numbers with six digits that count."""
    if isinstance(value, dict):
        return {key: shortened(part) for key, part in value.items()}
    if isinstance(value, float) and value and math.isfinite(value):
        return float(f"{value:.6g}")
    return [shortened(part) for part in value] if isinstance(value, list) else value


def main(arguments: Sequence[str] | None = None) -> int:
    command = Command("ladder", __doc__, rounds=5)
    add = command.parser.add_argument
    add("--network", choices=("cifar10-vgg", "six"), default="cifar10-vgg")
    add("--images", type=int, default=192)
    add("--steps", type=int, default=8)
    add("--process", choices=WAYS, metavar="WAY", help="only time and memory of this way, here")
    options = command.parse(arguments)
    if options.process:
        print(json.dumps(one_process(options.process)))
        return 0
    load = [os.getloadavg()[0]]
    with torch.no_grad():
        calibration, x, _, source = cifar(options.images)
        model, weights = network(options.network, calibration)
        net = snn.convert(model, calibration, snn.IF())
        found = {
            "network": options.network, "weights": weights, "images": source,
            "steps": options.steps,
            "neurons": sum(net.neurons.values()),
            **rung_times(net, x, options.steps, options.rounds),
            "roofline": roofline(net, x[:48], 3 * options.rounds),
            "over_steps": over_steps(torch.get_num_threads()),
        }  # fmt: skip
    load.append(os.getloadavg()[0])
    command.publish("ladder.json", shortened({**found, "load": load}), n=options.images)
    return 0


if __name__ == "__main__":
    sys.exit(main())
