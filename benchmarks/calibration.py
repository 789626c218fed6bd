"""What a conversion costs, in passes of the ANN over its calibration images.

    python -m benchmarks.calibration --json

Times `snnlib.convert` as a whole (tracing, checking, balancing) for every way of threshold
balancing, per layer and per channel, interleaved with a pass of the folded ANN over the same images
in the best of memory formats and batch sizes. Medians over the rounds of the ratio within a round.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from statistics import median
from typing import Any

import torch

import snnlib as snn
from benchmarks.command import Command
from benchmarks.simulator import BATCHES, NETWORKS, ann_pass, fastest, network, seconds
from snnlib.conversion.balance import Balance
from snnlib.zoo import data

BALANCES: dict[str, Balance] = {
    "Max": snn.Max(),
    "Percentile 99": snn.Percentile(99),
    "Percentile 99.9": snn.Percentile(99.9),
    "Percentile 99.99": snn.Percentile(99.99),
    "MinError": snn.MinError(8),
}


def images(count: int) -> tuple[torch.Tensor, str]:
    """Training images of CIFAR-10; smooth random ones where it is absent."""
    try:
        train, _ = data.load("cifar10", download=False)
    except snn.DatasetUnavailable:
        torch.manual_seed(1)
        small = torch.rand(count, 3, 8, 8)
        return torch.nn.functional.interpolate(small, size=32, mode="bilinear"), "random"
    return data.to_float(train.images[:count]), "cifar10 train"


def benchmark(name: str, count: int, rounds: int) -> dict[str, Any]:
    """Timings of one network."""
    x, source = images(count)
    model, weights = network(name, x)
    net = snn.convert(model, x[: max(BATCHES)], snn.IF())
    some = x[: 2 * max(BATCHES)]
    with torch.no_grad():
        ways = [(batch, last) for batch in BATCHES for last in (True, False)]
        best, _ = fastest({way: ann_pass(net, some, *way) for way in ways})
        ann = ann_pass(net, x, *best)
        work = {
            (label, per_channel): partial(
                snn.convert, model, x, balance=balance, per_channel=per_channel
            )
            for label, balance in BALANCES.items()
            for per_channel in (False, True)
        }
        floors: list[float] = []
        taken: dict[tuple[str, bool], list[float]] = {key: [] for key in work}
        for _ in range(rounds):
            floors.append(median(seconds(ann) for _ in range(3)))
            for key, run in work.items():
                taken[key].append(seconds(run))
    rows = []
    for (label, per_channel), times in taken.items():
        ratios = sorted(t / f for t, f in zip(times, floors, strict=True))
        rows.append({
            "balance": label, "per_channel": per_channel, "seconds": median(times),
            "ann_passes": median(ratios), "ann_passes_range": [ratios[0], ratios[-1]],
        })  # fmt: skip
    return {
        "network": name, "weights": weights, "images": source, "ann_seconds": median(floors),
        "ann_batch": best[0], "ann_channels_last": best[1], "rows": rows,
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    command = Command("calibration", __doc__, rounds=3)
    add = command.parser.add_argument
    add("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    add("--images", type=int, default=1000)
    options = command.parse(arguments)
    networks = [benchmark(name, options.images, options.rounds) for name in options.networks]
    command.publish("calibration.json", {"networks": networks}, n=options.images)
    return 0


if __name__ == "__main__":
    sys.exit(main())
