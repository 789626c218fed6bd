"""From a record and images to a `Run`: chunks of images, blocks of steps, threads.

Images are simulated in chunks and steps in blocks (`snnlib.simulation.schedule`), so that memory
stays below a given limit, whatever the number of steps, and what is computed next is still in the
cache. Chapter *The simulator*.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor
from tqdm.auto import tqdm

from snnlib._arguments import flag, names, whole
from snnlib.backend.modes import exact_sums, own_mode
from snnlib.backend.parallel import for_each
from snnlib.graph.network import Network
from snnlib.graph.readout import Reader, Readout
from snnlib.simulation import closed_form, early_exit, schedule
from snnlib.simulation.coding import Coding, Constant
from snnlib.simulation.costs import Account
from snnlib.simulation.early_exit import Decision
from snnlib.simulation.engine import Simulation
from snnlib.simulation.images import checked
from snnlib.simulation.plan import Plan, make_plan
from snnlib.simulation.run import Run, Statistics, Trace


@dataclass
class Ready:
    """A network with what is computed of it once: fan-outs, MACs, plans."""

    network: Network
    account: Account
    _plans: dict[bool, Plan] = field(default_factory=dict)

    def plan(self, constant_input: bool) -> Plan:
        """The plan for a constant or a changing input."""
        if constant_input not in self._plans:
            self._plans[constant_input] = make_plan(self.network, self.account, constant_input)
        return self._plans[constant_input]


@dataclass(frozen=True)
class Request:
    """What a call asks for; see `snnlib.SpikingNetwork.__call__`.

    Raises:
        ValueError: an argument is out of range or of a wrong kind.
    """

    steps: int
    coding: Coding | None = None
    record: Sequence[str] = ()
    memory: str | int = "1GB"
    only_last: bool = False
    batch: int | None = None
    first: int = 0
    progress: bool = False
    readout: Readout | None = None

    def __post_init__(self) -> None:
        coding, record, readout = self.coding, self.record, self.readout
        if readout is not None and not isinstance(readout, Readout):
            raise ValueError(f"readout={readout!r}: pass an object such as snnlib.Mean(first=5)")
        if coding is not None and not isinstance(coding, Coding):
            raise ValueError(
                f"coding={coding!r}: pass an object: snnlib.Constant(), snnlib.Bernoulli(seed=0) "
                "or snnlib.Frames()"
            )
        found = {
            "steps": whole("steps", self.steps),
            "coding": Constant() if coding is None else coding,
            "record": names("record", record),
            "only_last": flag("only_last", self.only_last),
            "batch": None if self.batch is None else whole("batch", self.batch),
            "first": whole("first", self.first, 0, 2**62),
            "progress": flag("progress", self.progress),
        }
        for name, value in found.items():
            object.__setattr__(self, name, value)
        if self.record and self.only_last:
            raise ValueError("record needs every step: leave out only_last=True")


@own_mode()
def simulate(ready: Ready, x: Tensor, request: Request) -> Run:
    """Simulate images from t = 0.

    Raises:
        ConversionError, ValueError: as for `snnlib.SpikingNetwork.__call__`.
    """
    net, coding, steps = ready.network, request.coding, request.steps
    assert coding is not None
    layers = net.graph.spiking
    if unknown := [name for name in request.record if name not in layers]:
        raise ValueError(f"record={unknown} names no spiking layer; there are: {', '.join(layers)}")
    x = checked(net, x, frames=coding.timed)
    coding.check(x, steps)
    readout = (request.readout or net.readout).check(steps)
    count = x.shape[1] if coding.timed else len(x)
    closed = request.only_last and net.memoryless and (coding.constant or readout.first == 1)
    pieces = schedule.plan(net, count, 1 if closed else steps, request.memory, request.batch)
    starts = range(0, count, pieces.images)
    logits, statistics = _room(ready, request, count, pieces.workers)
    traces: dict[int, dict[str, Trace]] = {}
    fast = net.graph.laid_out(net.dtype) if closed else net.graph
    plan = None if closed else ready.plan(coding.constant)

    def work(start: int, worker: int) -> None:
        part = slice(start, start + pieces.images)
        images = x[:, part] if coding.timed else x[part]
        if plan is None:
            mean = coding.mean(images, steps, request.first + start)
            logits[0, part] = closed_form.logits(net, fast, mean, steps, readout)
        else:
            counts = statistics[worker] if statistics else None
            first = request.first + start
            simulation = Simulation(plan, images, coding, first, counts, request.record)
            reader = readout.reader()
            while simulation.t < steps:
                done = simulation.t
                totals = simulation.advance(min(pieces.steps, steps - done))  # (K, b, ...)
                read = reader.read(totals, done)
                if not request.only_last:
                    logits[done : simulation.t, part] = read
                elif simulation.t == steps:
                    logits[0, part] = read[-1]
            traces[start] = simulation.traces
        bar.update(min(pieces.images, count - start))

    bar = tqdm(total=count, disable=not request.progress, unit="image")
    with _arithmetic(net), bar:
        for_each(starts, pieces.workers, work)
    for other in statistics[1:]:
        statistics[0].add(other)
    joined = {
        name: Trace.join([traces[start][name] for start in starts]) for name in request.record
    }
    counted = statistics[0] if statistics else None
    return Run(logits, steps, net, ready.account, coding, counted, joined)


def _room(
    ready: Ready, request: Request, count: int, workers: int
) -> tuple[Tensor, list[Statistics]]:
    """Memory for the results: logits (T, B, ...) and the counts of each worker."""
    net, steps = ready.network, request.steps
    shape = net.graph.shapes[net.graph.output]
    try:
        times = 1 if request.only_last else steps
        logits = torch.empty((times, count, *shape), dtype=net.wide, device=net.device)
        if request.only_last:
            return logits, []
        sources = ready.account.fan_outs
        return logits, [Statistics(sources, steps, net.device) for _ in range(workers)]
    except (RuntimeError, MemoryError, OverflowError, TypeError):
        raise ValueError(
            f"steps={steps}: there is no room for the logits of {count} images after every step: "
            "take fewer steps, fewer images at a time, or only_last=True"
        ) from None


def _arithmetic(net: Network) -> AbstractContextManager[None]:
    """What whole numbers need of the process: sums that are not rounded."""
    return exact_sums() if net.whole is not None else nullcontext()


@own_mode()
def decide(ready: Ready, x: Tensor, confidence: float, request: Request) -> Decision:
    """Answer each image as soon as its softmax reaches a confidence, and stop computing it.

    Raises:
        ConversionError, ValueError: as for `snnlib.SpikingNetwork.decide`.
    """
    net, coding = ready.network, request.coding
    assert coding is not None
    if not coding.constant:
        raise ValueError("early exit needs a constant input: use coding=Constant()")
    confidence = early_exit.check_confidence(confidence)
    x = checked(net, x)
    coding.check(x, request.steps)
    size = request.batch or schedule.chunk(net, len(x), request.memory)
    readout = (request.readout or net.readout).check(request.steps)
    plan, found = ready.plan(constant_input=True), []

    def sure(logits: Tensor, _: int) -> Tensor:
        return early_exit.confident(logits[None], confidence)[0]  # with a dimension of time

    with _arithmetic(net):
        for start in range(0, len(x), size):
            simulation = Simulation(plan, x[start : start + size], coding, start)
            answers = _Answers(simulation, readout.reader())
            found.append(early_exit.leave(answers, request.steps, sure))
    return Decision(*(torch.cat(parts) for parts in zip(*found, strict=True)))


@dataclass
class _Answers:
    """A simulation together with the read-out of its answers."""

    simulation: Simulation
    reader: Reader

    def step(self) -> Tensor:
        return self.reader.read(self.simulation.advance(1), self.simulation.t - 1)[0]

    def keep(self, which: Tensor) -> None:
        self.simulation.keep(which)
        self.reader.keep(which)
