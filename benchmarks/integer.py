"""Integer mode beside float32 and bfloat16: the same network, images, steps and threads.

    python -m benchmarks.integer --threads 1 --rounds 10 --json

Every network is simulated in four ways that take turns, round by round: in float32, in bfloat16, in
whole numbers, and in whole numbers with all convolutions in float32 (`snnlib.deploy.int8` switched
off), whose logits have to be the same to the bit. Least times of the rounds, since whatever else
runs on a machine can only add to them; the file has the medians and the largest too.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any
from unittest import mock

import torch

import snnlib as snn
from benchmarks.command import Command
from benchmarks.simulator import seconds
from snnlib.deploy import int8
from snnlib.zoo import data, models

NETWORKS = ("mnist-cnn", "fashion-cnn", "cifar10-vgg")
NEURON, STEPS = snn.Augmented(levels=4, negative=0.0), 4
WHOLE, PLAIN = "whole numbers", "whole numbers, convolutions in float32"


def instructions() -> dict[str, Any]:
    """What of this processor matters here, and what of it oneDNN may use."""
    known = {"vnni": "_is_vnni_supported", "amx": "_is_amx_tile_supported"}
    found = {name: getattr(torch.cpu, check, lambda: None)() for name, check in known.items()}
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA")
    return {"capability": torch.backends.cpu.get_cpu_capability(), **found, "limit": limit}


def benchmark(name: str, images: int, rounds: int) -> dict[str, Any]:
    """Timings of one network."""
    train, test = data.load(models.dataset_of(name), download=False)
    x, labels = data.to_float(test.images[:images]), test.labels[:images]
    net = snn.convert(models.load(name), data.to_float(train.images[:1000]), NEURON)
    whole, narrow, x16 = net.quantize(), net.replace().to(torch.bfloat16), x.bfloat16()

    def plain() -> snn.Run:
        with mock.patch.object(int8, "_has_kernels", return_value=False):
            return whole(x, STEPS)

    works: dict[str, Callable[[], snn.Run]] = {
        "float32": lambda: net(x, STEPS), "bfloat16": lambda: narrow(x16, STEPS),
        WHOLE: lambda: whole(x, STEPS), PLAIN: plain,
    }  # fmt: skip
    first = {label: seconds(work) for label, work in works.items()}  # compiles and tries kernels
    taken: dict[str, list[float]] = {label: [] for label in works}
    for _ in range(rounds):
        for label, work in works.items():
            taken[label].append(seconds(work))
    runs = {label: work() for label, work in works.items()}
    if not torch.equal(runs[WHOLE].logits, runs[PLAIN].logits):
        raise SystemExit(f"{name}: 8-bit convolutions give other numbers than float32")
    return {
        "network": name,
        "images": len(x),
        "convolutions": sum(node.op in ("conv", "conv_int8") for node in whole.graph),
        "in_eight_bits": sum(node.op == "conv_int8" for node in whole.graph),
        "ways": {
            label: {
                "first": first[label], "min": min(times), "median": median(times),
                "max": max(times), "accuracy": float(runs[label].accuracy(labels)[-1]),
            }
            for label, times in taken.items()
        },
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    command = Command("integer", __doc__, rounds=7)
    add = command.parser.add_argument
    add("--networks", nargs="+", choices=models.NAMES, default=list(NETWORKS))
    add("--images", type=int, default=200)
    options = command.parse(arguments)
    networks = [benchmark(name, options.images, options.rounds) for name in options.networks]
    found = {
        "neuron": str(NEURON), "steps": STEPS, "instructions": instructions(),
        "networks": networks,
    }  # fmt: skip
    command.publish("integer.json", found, n=options.images)
    return 0


if __name__ == "__main__":
    sys.exit(main())
