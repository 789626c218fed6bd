"""Time over T: snnlib, other simulators, and the floor, on the same weights and images.

    python -m benchmarks.simulator --peers spikingjelly snntorch sinabs --json

Floor: T × the time of the fastest pass of the folded ANN over the images, in place ReLU, best of
memory formats and batch sizes. All run interleaved, round by round; medians of the rounds, and the
ratio to the floor of the same round with its spread. First all are checked to compute the same:
predictions at T, and the number of spikes.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

import snnlib as snn
from benchmarks.peers import PEERS, Simulate
from snnlib import SpikingNetwork, checkpoints, data, models, provenance

RESULTS = Path(__file__).parent / "results"
NETWORKS = ("cifar10-vgg", "six")
BATCHES = (25, 50, 100)


def network(name: str, images: Tensor) -> tuple[nn.Module, str]:
    """A trained network where there is a checkpoint; else random weights, and what was used."""
    if name == "six":
        torch.manual_seed(0)
        ann = models._cnn(3, (32, 32), (64, 64), (128, 128), normalize=models.CIFAR10)
        for module in ann.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        ann.train()(images[:100])  # batch norm sees the images once
        return ann.eval(), "random (six convolutions 32-32-64-64-128-128), batch norm set by images"
    return models.load(name), f"trained checkpoint {name}"


def cifar(count: int) -> tuple[Tensor, Tensor, Tensor | None, str]:
    """Calibration images, test images and labels; random images where CIFAR-10 is absent."""
    try:
        train, test = data.load("cifar10", download=False)
    except snn.DatasetUnavailable:
        torch.manual_seed(1)
        return torch.rand(200, 3, 32, 32), torch.rand(count, 3, 32, 32), None, "random"
    return (
        data.to_float(train.images[:200]), data.to_float(test.images[:count]), test.labels[:count],
        "cifar10 test",
    )  # fmt: skip


def ann_pass(net: SpikingNetwork, x: Tensor, batch: int, last: bool) -> Callable[[], Tensor]:
    """A pass of the folded ANN over all images."""
    order = torch.channels_last if last else torch.contiguous_format

    def laid_out(value: Tensor) -> Tensor:
        return value.contiguous(memory_format=order) if value.dim() == 4 else value

    graph, images = net.graph.map_tensors(laid_out), laid_out(x)

    def run() -> Tensor:
        parts = [
            graph.evaluate(images[i : i + batch], activation=lambda _, z: z.relu_())
            for i in range(0, len(images), batch)
        ]
        return torch.cat(parts)

    return run


def seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_batches(simulate: Simulate, x: Tensor, steps: int, batch: int) -> tuple[Tensor, int]:
    parts = [simulate(x[i : i + batch], steps) for i in range(0, len(x), batch)]
    return torch.cat([logits for logits, _ in parts]), sum(spikes for _, spikes in parts)


def agree(net: SpikingNetwork, peers: dict[str, Simulate], x: Tensor, steps: int) -> dict[str, Any]:
    """What each peer computes against snnlib's IF run: answers at T and spikes."""
    run = net(x, steps)
    assert run.spikes is not None
    ours, spikes = run.logits[-1], float(run.spikes[-1]) * len(x)
    found = {}
    for name, simulate in peers.items():
        simulate.chain.counting = True  # type: ignore[attr-defined]
        theirs, count = in_batches(simulate, x, steps, 25)
        simulate.chain.counting = False  # type: ignore[attr-defined]
        found[name] = {
            "same_answers": float((ours.argmax(1) == theirs.argmax(1)).double().mean()),
            "spikes_ratio": count / spikes,
            "logit_difference": float((ours - theirs).abs().max() / ours.abs().max()),
        }
        if found[name]["same_answers"] < 0.98 or abs(found[name]["spikes_ratio"] - 1) > 0.01:
            raise SystemExit(f"{name} does not compute what snnlib computes: {found[name]}")
    return found


def benchmark(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Timings of one network."""
    calibration, x, labels, source = cifar(options.images)
    ann, weights = network(name, calibration)
    dtype = getattr(torch, options.dtype)
    net = snn.convert(ann, calibration, snn.IF())
    exact = net.replace()
    net, x = net.replace().to(dtype), x.to(dtype)
    nets = {
        "snnlib IF": net,
        "snnlib Augmented": net.replace(neuron=snn.Augmented(levels=4)),
        "snnlib closed form": net.replace(neuron=snn.Augmented(levels=4, negative=0.0)),
    }
    peers = {peer: PEERS[peer](net) for peer in options.peers}
    with torch.no_grad():
        same = agree(exact, {p: PEERS[p](exact) for p in peers}, x[:50].float(), options.steps[-1])
        accuracy = None
        if labels is not None:
            accuracy = {k: float(v(x, options.steps[-1]).accuracy(labels)[-1]) for k, v in
                        nets.items()}  # fmt: skip
        passes = {
            (batch, last): ann_pass(net, x, batch, last) for batch in BATCHES
            for last in (True, False)
        }  # fmt: skip
        for work in passes.values():
            work()
        trial = {key: min(seconds(work) for _ in range(3)) for key, work in passes.items()}
        best = min(trial, key=lambda key: trial[key])
        sizes = {}
        for peer, simulate in peers.items():
            times = {b: seconds(lambda s=simulate, b=b: in_batches(s, x, 2, b)) for b in BATCHES}
            sizes[peer] = min(times, key=lambda b: times[b])
        rows = []
        for steps in options.steps:
            work = {"ann": passes[best]}
            for label, one in nets.items():
                last = label == "snnlib closed form"
                work[label] = lambda n=one, t=steps, o=last: n(x, t, only_last=o)
            if steps in (options.steps[0], options.steps[-1]):
                for peer, simulate in peers.items():
                    work[peer] = lambda s=simulate, t=steps, b=sizes[peer]: in_batches(s, x, t, b)
            taken: dict[str, list[float]] = {label: [] for label in work}
            for _ in range(options.rounds):
                for label, run in work.items():
                    taken[label].append(seconds(run))
            floors = [steps * t for t in taken.pop("ann")]
            floor = steps * min(floors) / steps
            row = {"steps": steps, "floor": median(floors), "fastest_floor": floor, "times": {}}
            for label, times in taken.items():
                ratios = sorted(f / t for f, t in zip(floors, times, strict=True))
                row["times"][label] = {
                    "median": median(times), "min": min(times), "max": max(times),
                    "efficiency": median(ratios), "efficiency_range": [ratios[0], ratios[-1]],
                    "ann_passes": steps / median(ratios),
                }  # fmt: skip
            rows.append(row)
            print(json.dumps(row), file=sys.stderr)
    return {
        "network": name, "weights": weights, "images": source, "dtype": options.dtype,
        "floor_batch": best[0], "floor_channels_last": best[1],
        "peer_batch": sizes, "same": same, "accuracy": accuracy, "rows": rows,
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.simulator",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--peers", nargs="*", choices=tuple(PEERS), default=[])
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 8, 16, 32])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, help="default: PyTorch's")
    parser.add_argument("--json", action="store_true", help="write benchmarks/results/*.json")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    for name in options.networks:
        began = time.perf_counter()
        found = benchmark(name, options)
        record = {
            "command": shlex.join(["python", "-m", "benchmarks.simulator", *arguments]),
            "commit": provenance.commit(),
            "n": options.images,
            "seed": 0,
            "rounds": options.rounds,
            "threads": torch.get_num_threads(),
            "hardware": provenance.hardware(torch.device("cpu")),
            "versions": provenance.versions("torch", "numpy", "numba", *options.peers),
            "seconds": round(time.perf_counter() - began, 1),
            **found,
        }
        text = json.dumps(record, indent=1) + "\n"
        if options.json:
            path = RESULTS / f"{name}-{options.dtype}.json"
            path.parent.mkdir(exist_ok=True)
            checkpoints.write_bytes(path, text.encode())
            print(path)
        else:
            print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
