"""Time over T: snnlib, other simulators, and the floor, on the same weights and images.

    python -m benchmarks.simulator --peers spikingjelly snntorch sinabs --json

Floor: T × the time of the fastest pass of the folded ANN over the images, in place ReLU, best of
memory formats and batch sizes; peers too run in the best of them. All run interleaved, round by
round; medians of the rounds, and the ratio to the floor of the same round with its spread. At the
largest T snnlib simulates all images in every round. Peers, and snnlib at smaller T, simulate
another part of the images in every round, as many parts as rounds; their times are scaled to all
images. First all are checked to compute the same: predictions at T, and the number of spikes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

import snnlib as snn
from benchmarks.command import Command
from benchmarks.peers import PEERS, Simulate, package
from snnlib import SpikingNetwork
from snnlib.backend.parallel import for_each
from snnlib.zoo import data, models

NETWORKS = ("cifar10-vgg", "six")
BATCHES = (25, 50, 100)
TRIAL_STEPS = {"spikingjelly-multistep": 16}  # its best batch depends on T; 2 for the others
TRIAL_BATCHES = {"spikingjelly-multistep": (4, 12, 24)}
CLOSED = "snnlib closed form"


def random_network(ann: nn.Module, images: Tensor) -> nn.Module:
    """Random weights of He's scale; every batch norm takes its statistics from the images."""
    torch.manual_seed(0)
    for module in ann.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d) and module.momentum:
            module.momentum = 1.0
    with torch.no_grad():
        ann.train()(images)
    return ann.eval()


def network(name: str, images: Tensor) -> tuple[nn.Module, str]:
    """A trained network where there is a checkpoint; else random weights, and what was used."""
    if name == "six":
        ann: nn.Module = models._cnn(3, (32, 32), (64, 64), (128, 128), normalize=models.CIFAR10)
        what = "random (six convolutions 32-32-64-64-128-128)"
    else:
        try:
            return models.load(name), f"trained checkpoint {name}"
        except snn.CheckpointError:
            ann, what = models.create(name), f"random ({name})"
    return random_network(ann, images[:100]), f"{what}, batch norm set by images"


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


def laid_out(value: Tensor, last: bool) -> Tensor:
    """Images or weights (B, C, H, W) with the channels last in memory, or not."""
    order = torch.channels_last if last else torch.contiguous_format
    return value.contiguous(memory_format=order) if value.dim() == 4 else value


def ann_pass(
    net: SpikingNetwork, x: Tensor, batch: int, last: bool, chunks: bool = False
) -> Callable[[], Tensor]:
    """A pass of the folded ANN over all images.

    With ``chunks`` each thread takes batches of its own; otherwise all share every operation.
    """
    graph = net.graph.map_tensors(lambda value: laid_out(value, last))
    images = laid_out(x, last)
    workers = torch.get_num_threads() if chunks else 1

    def run() -> Tensor:
        parts: dict[int, Tensor] = {}

        def work(start: int, worker: int) -> None:
            batched = images[start : start + batch]
            parts[start] = graph.evaluate(batched, activation=lambda _, z: z.relu_())

        for_each(range(0, len(images), batch), workers, work)
        return torch.cat([parts[start] for start in sorted(parts)])

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


def fastest(works: dict[Any, Callable[[], Any]], repeats: int = 3) -> tuple[Any, float]:
    """The quickest of several ways to do the same, and its least time in seconds."""
    for work in works.values():
        work()
    trial = {key: min(seconds(work) for _ in range(repeats)) for key, work in works.items()}
    best = min(trial, key=lambda key: trial[key])
    return best, trial[best]


def arranged(net: SpikingNetwork, peer: str, x: Tensor) -> tuple[Simulate, int, bool]:
    """A peer in its best memory format and batch size, and what these are."""
    ways: dict[bool, Simulate] = {}
    steps = TRIAL_STEPS.get(peer, 2)
    x = x[: max(TRIAL_BATCHES.get(peer, BATCHES))]
    for last in (True, False):
        graph = net.graph.map_tensors(partial(laid_out, last=last))
        ways[last] = PEERS[peer](SpikingNetwork.of(replace(net.network, graph=graph)))
    tried = {
        (batch, last): partial(in_batches, simulate, laid_out(x, last), steps, batch)
        for batch in TRIAL_BATCHES.get(peer, BATCHES)
        for last, simulate in ways.items()
    }
    (batch, last), _ = fastest(dict(tried), 1)
    return ways[last], batch, last


def laid_out_in_batches(simulate: Simulate, last: bool, steps: int, batch: int, x: Tensor) -> Any:
    """A peer on images in the memory format that it is fastest in."""
    return in_batches(simulate, laid_out(x, last), steps, batch)


Work = Callable[[Tensor], Any]


def time_row(
    steps: int, ann: Callable[[], Any], whole: dict[str, Work], parts: dict[str, Work],
    x: Tensor, rounds: int,
) -> dict[str, Any]:  # fmt: skip
    """Times at one T, interleaved.

    Args:
        steps: T.
        ann: a pass of the ANN over all images.
        whole: what simulates all images in every round.
        parts: what simulates another part of them in every round.
        x: the images.
        rounds: how often.
    """
    taken: dict[str, list[float]] = {label: [] for label in (*whole, *parts)}
    floors = []
    for part in x.tensor_split(rounds):
        floors.append(steps * median(seconds(ann) for _ in range(3)))
        for label, work in whole.items():
            taken[label].append(seconds(partial(work, x)))
        for label, work in parts.items():
            taken[label].append(seconds(partial(work, part)) * len(x) / len(part))
    row: dict[str, Any] = {
        "steps": steps, "floor": median(floors), "fastest_floor": min(floors), "times": {}
    }  # fmt: skip
    for label, times in taken.items():
        ratios = sorted(f / t for f, t in zip(floors, times, strict=True))
        row["times"][label] = {
            "median": median(times), "min": min(times), "max": max(times),
            "efficiency": median(ratios), "efficiency_range": [ratios[0], ratios[-1]],
            "ann_passes": steps / median(ratios),
            "images_a_round": len(x) if label in whole else len(x) // rounds,
        }  # fmt: skip
    return row


def benchmark(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Timings of one network."""
    calibration, x, labels, source = cifar(options.images)
    model, weights = network(name, calibration)
    dtype = getattr(torch, options.dtype)
    net = snn.convert(model, calibration, snn.IF())
    exact, net, x = net, net.to(dtype), x.to(dtype)
    nets = {
        "snnlib IF": net,
        "snnlib Augmented": net.replace(neuron=snn.Augmented(levels=4)),
        CLOSED: net.replace(neuron=snn.Augmented(levels=4, negative=0.0)),
    }
    top, runs = max(options.steps), {}

    def ours(label: str, steps: int, images: Tensor) -> None:
        runs[label] = nets[label](images, steps, only_last=label == CLOSED)

    with torch.no_grad():
        same = agree(exact, {p: PEERS[p](exact) for p in options.peers}, x[:50].float(), top)
        some = x[: 2 * max(BATCHES)]
        ways = [(batch, last) for batch in BATCHES for last in (True, False)]
        best, _ = fastest({way: ann_pass(net, some, *way) for way in ways})
        chunked, _ = fastest({way: ann_pass(net, some, *way, chunks=True) for way in ways})
        ann = ann_pass(net, x, best[0], best[1])
        in_chunks = ann_pass(net, x, chunked[0], chunked[1], chunks=True)
        peers = {peer: arranged(net, peer, some[: max(BATCHES)]) for peer in options.peers}
        for label in nets:
            ours(label, 2, x[:20])  # compiles what it needs
        rows = []
        for steps in sorted(options.steps):
            whole: dict[str, Work] = {label: partial(ours, label, steps) for label in nets}
            parts: dict[str, Work] = {
                peer: partial(laid_out_in_batches, s, last, steps, batch)
                for peer, (s, batch, last) in peers.items()
            }
            if steps < top:
                parts = {label: whole.pop(label) for label in nets if label != CLOSED} | parts
            rows.append(time_row(steps, ann, whole, parts, x, options.rounds))
            print(json.dumps(rows[-1]), file=sys.stderr)
        passes = {"shared_operations": ann, "chunks_of_images": in_chunks}
        ann_seconds = {label: fastest({"": work})[1] for label, work in passes.items()}
    trained = labels is not None and weights.startswith("trained")
    accuracy = None
    if trained and labels is not None:
        accuracy = {label: float(run.accuracy(labels)[-1]) for label, run in runs.items()}
    return {
        "network": name, "weights": weights, "images": source, "dtype": options.dtype,
        "floor_batch": best[0], "floor_channels_last": best[1],
        "ann_seconds": ann_seconds,
        "peers": {p: {"batch": b, "channels_last": last} for p, (_, b, last) in peers.items()},
        "same": same, "accuracy": accuracy, "rows": rows,
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    command = Command("simulator", __doc__, rounds=5)
    add = command.parser.add_argument
    add("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    add("--peers", nargs="*", choices=tuple(PEERS), default=[])
    add("--images", type=int, default=500)
    add("--steps", type=int, nargs="+", default=[1, 4, 8, 16, 32])
    add("--dtype", choices=("float32", "bfloat16"), default="float32")
    options = command.parse(arguments)
    if options.images < options.rounds:
        command.parser.error("--images: at least one image a round (--rounds)")
    packages = sorted({package(peer) for peer in options.peers})
    for name in options.networks:
        found = benchmark(name, options)
        command.publish(f"{name}-{options.dtype}.json", found, n=options.images, packages=packages)
    return 0


if __name__ == "__main__":
    sys.exit(main())
