"""``transducer``: digits come out while one listens; with and without alignments at the start.

The *networks* of this experiment are the test speakers: ``strings`` has the official split of the
spoken digits, all six speakers in every part, three seeds; ``strings-few`` the same with a fifth of
the strings to fit; ``strings-NAME`` has one speaker in the test strings alone, one seed. Strings of
3 to 5 digits (`snnlib.recurrent.strings`); validation and test strings are the same for all seeds,
each seed has strings to fit of its own.

The same network (`snnlib.recurrent.transducer`) learns the loss of all paths for as many epochs
from random weights, after encoder pre-training by frame labels, and after pre-training along the
aligned path. Pre-training is training too, so a fourth has its epochs as well, on the loss of all
paths (``longer``). Read greedily and with a small beam, on validation strings, and
on test strings once. ``traces`` show some of these, group of frames by group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache, partial
from statistics import mean
from typing import Any, NotRequired, TypedDict

import torch

from book.experiments.frame import Cell, Context, Experiment, Labeled, Rows
from book.experiments.goals import Goal, goal
from snnlib.recurrent import strings, transducing
from snnlib.recurrent.strings import Strings
from snnlib.recurrent.transducer import PRETRAINING, Transducer
from snnlib.recurrent.transducing import Judged, Plan
from snnlib.zoo import spoken

SEEDS, SIZES, FEW, WIDTH = (0, 1, 2), (1500, 300, 300), 300, 4
BEFORE, AFTER = 8, 24  # epochs of pre-training and of what follows
TRACED = 3  # test strings of the first seed
METHODS = {
    "random": "from random weights",
    "longer": "from random weights, as many epochs in all",
    "encoder": "after encoder pre-training",
    "path": "after pre-training along the path",
}
HELD_OUT = ("random",)  # of the methods, where a speaker is left out
OFFICIAL = ("strings", "strings-few")
NETWORKS = {
    **dict.fromkeys(OFFICIAL), **{f"strings-{speaker}": speaker for speaker in spoken.SPEAKERS}
}  # fmt: skip


class Trace(TypedDict):
    """One test string; no sound can be made from it."""

    digits: list[int]
    begins_ms: list[float]
    ends_ms: list[float]
    loudness: list[float]  # of each frame: mean of the log energies, natural logarithm
    blank: list[float]  # of each group: probability that nothing comes out, of what is out so far
    out: list[int]  # digits that came out
    groups: list[int]  # and the group of frames with which each did


class Transduced(Labeled):
    """One trained network: n counts its test strings."""

    method: str
    seed: int
    epochs: int  # of pre-training and after it
    fitted_strings: int
    parameters: int
    group_ms: float  # frames that are heard together
    losses: list[float]  # mean of each epoch of the loss of all paths, nats a string
    seconds_per_epoch: float  # of the loss of all paths
    validation: Judged  # greedy
    test: Judged
    validation_beam: Judged
    test_beam: Judged
    traces: NotRequired[list[Trace]]


def cells(network: str) -> list[Cell]:
    """A cell a method and seed."""
    whole = network in OFFICIAL
    return [
        Cell(f"{network}/{method}/{seed}", partial(measure, network, method, seed))
        for seed in (SEEDS if whole else SEEDS[:1])
        for method in (METHODS if whole else HELD_OUT)
    ]


@lru_cache(maxsize=1)
def parts(network: str, seed: int, limit: int | None) -> tuple[Strings, Strings, Strings]:
    """The strings of a seed; with a limit so many to choose and to test, twice as many to fit."""
    first = FEW if network == "strings-few" else SIZES[0]
    sizes = (first, *SIZES[1:]) if limit is None else (2 * limit, limit, limit)
    return strings.parts(NETWORKS[network], seed, sizes)


def measure(network: str, method: str, seed: int, context: Context) -> list[Transduced]:
    """Train one network and hear what it says."""
    fit, validation, test = parts(network, seed, context.limit)
    net = transducing.network(fit, seed).to(context.device)
    before, after = (BEFORE, AFTER) if context.limit is None else (1, 1)
    whole = Plan(epochs=after + before * (method == "longer"))
    name = f"{network}/{method}/{seed}"
    if method in PRETRAINING:
        first, label = replace(whole, objective=method, epochs=before), f"{name}/before"
        transducing.fit(
            net, fit, first, seed=seed, state=context.state(label), label=label,
            progress=context.progress,
        )  # fmt: skip
    # Another order of the strings than before.
    history = transducing.fit(
        net, fit, whole, seed=seed + len(SEEDS), state=context.state(name), label=name,
        progress=context.progress,
    )  # fmt: skip
    judged = {
        f"{part}{kind}": transducing.judge(
            held, transducing.transcribe(net, held, width), net.stack
        )
        for part, held in (("validation", validation), ("test", test))
        for kind, width in (("", None), ("_beam", WIDTH))
    }
    row: dict[str, Any] = {
        "model": network,
        "label": METHODS[method],
        "n": len(test),
        "method": method,
        "seed": seed,
        "epochs": after + before * (method != "random"),
        "fitted_strings": len(fit),
        "parameters": sum(p.numel() for p in net.parameters() if p.requires_grad),
        "group_ms": net.stack * spoken.HOP_MS,
        "losses": [epoch["loss"] for epoch in history],
        "seconds_per_epoch": mean(epoch["seconds"] for epoch in history),
        **judged,
    }
    if seed == SEEDS[0]:
        row["traces"] = traces(net, test.take(torch.arange(min(TRACED, len(test)))))
    found: Transduced = row  # type: ignore[assignment]
    return [found]


def traces(net: Transducer, some: Strings) -> list[Trace]:
    """What happens in each of these strings, along what the network says itself."""
    found: list[Trace] = []
    ms = 1000 / spoken.RATE
    for i, emission in enumerate(transducing.transcribe(net, some)):
        one, device = some.take(torch.tensor([i])), net.out.weight.device
        out = torch.tensor([emission.symbols], dtype=torch.int64, device=device)
        with torch.no_grad():
            z = net(one.values.to(device), out)[0]  # (T, U + 1, K)
        steps, groups = torch.arange(z.shape[0]), torch.tensor(emission.groups)
        before = (groups < steps[:, None]).sum(1)  # digits that are out when a group begins
        blank = z.softmax(-1)[steps, before, net.blank].cpu()
        length = int(one.lengths)
        found.append(
            {
                "digits": list(one.said(0)),
                "begins_ms": [round(b * ms, 1) for b in one.begins[0, :length].tolist()],
                "ends_ms": [round(e * ms, 1) for e in one.ends[0, :length].tolist()],
                "loudness": [round(v, 2) for v in one.values[0].mean(1).tolist()],
                "blank": [round(p, 3) for p in blank.tolist()],
                "out": list(emission.symbols),
                "groups": list(emission.groups),
            }
        )
    return found


def conclude(sections: Rows) -> Mapping[str, list[Goal]]:
    """The goals beside what was found: means over the seeds of the official split, test strings."""
    rows = [row for row in sections["runs"] if row["model"] == "strings"]

    def of(method: str, key: str) -> float | None:
        values = [row["test"][key] for row in rows if row["method"] == method]
        return None if None in values or not values else mean(values)

    error, before = of("encoder", "digit_error"), of("random", "digit_error")
    lowered = None if error is None or not before else 1 - error / before
    late, waited = of("encoder", "delay_ms"), of("random", "delay_ms")
    earlier = None if late is None or waited is None else (waited - late) / spoken.HOP_MS
    return {
        "goals": [
            goal("digit error after encoder pre-training", error, at_most=0.05),
            goal("relative part by which encoder pre-training lowers it", lowered, at_least=0.08),
            goal("frames of 10 ms by which digits come out earlier", earlier, at_least=1.0),
        ]
    }


EXPERIMENT = Experiment(
    name="transducer",
    summary="strings of spoken digits as one listens: errors and delays, pre-trained by alignments",
    networks=tuple(NETWORKS),
    cells=cells,
    conclude=conclude,
    datasets=dict.fromkeys(NETWORKS, spoken.NAME),
)
