"""The spiking network and its simulation in time.

`SpikingNetwork` is what `snnlib.convert` returns. Calling it simulates a number of time steps from
t = 0 and leaves nothing behind: no state to reset, no weights changed. Images are simulated in
chunks and steps in blocks (`snnlib.engine`), so that memory stays below a given limit, whatever the
number of steps, and what is computed next is still in the cache. Chapter *Converting a network*.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from snnlib.graph.errors import ConversionError
from snnlib.graph.graph import Graph
from snnlib.graph.layout import laid_out
from snnlib.graph.operations import Node
from snnlib.neurons import Neuron
from snnlib.simulation import costs, kernels
from snnlib.simulation.coding import Coding, Constant, Frames
from snnlib.simulation.engine import Plan, Simulation
from snnlib.simulation.parallel import even_size, for_each, rows_in_cache
from snnlib.simulation.run import Decision, Run, Statistics, Trace, check_confidence

if TYPE_CHECKING:
    from snnlib.graph.whole_numbers import IntegerNetwork

__all__ = ["Schedule", "Simulation", "SpikingNetwork"]

_BLOCK = 32  # most time steps in a block
_UNITS = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
}


class Schedule(NamedTuple):
    """How a run is cut into pieces.

    Attributes:
        images: images simulated together.
        steps: time steps a layer takes at once.
        workers: threads that simulate at the same time.
    """

    images: int
    steps: int
    workers: int


class SpikingNetwork:
    """A network of spiking neurons, with the topology and weights of a trained ReLU network.

    Everything is in the ANN's own units: a spike of layer l carries θ of layer l, so no weight is
    rescaled. Made by `snnlib.convert`.

    Attributes:
        graph: nodes, weights and shapes.
        neuron: the neuron model of all spiking layers.
        balanced: λ of every spiking layer, as threshold balancing measured it.
        reference: the original ANN, for `verify`; None after loading from a file.
        report: how the network came about, for `summary`.
    """

    # Whole-number networks send counts c, not c·θ, and their output is in units of its own.
    counts_only = False
    output_unit: Tensor | None = None

    def __init__(
        self,
        graph: Graph,
        neuron: Neuron,
        balanced: Mapping[str, Tensor],
        reference: nn.Module | None = None,
        report: Mapping[str, Any] | None = None,
    ) -> None:
        self.graph = graph
        self.neuron = neuron
        self.balanced = dict(balanced)
        self.reference = reference
        self.report = dict(report or {})
        self._fan_outs: dict[str, Tensor] | None = None

    @property
    def thresholds(self) -> dict[str, Tensor]:
        """Firing threshold θ of every spiking layer, broadcastable to one image's activation."""
        return {name: self.neuron.threshold(value) for name, value in self.balanced.items()}

    @property
    def neurons(self) -> dict[str, int]:
        """Number of neurons of every spiking layer."""
        return {name: math.prod(self.graph.shapes[name]) for name in self.graph.spiking}

    @property
    def dtype(self) -> torch.dtype:
        """Floating dtype of the weights; potentials are float32 where this is narrower."""
        return next(self._tensors()).dtype

    @property
    def device(self) -> torch.device:
        """Where the weights live and the simulation runs."""
        return next(self._tensors()).device

    def _tensors(self) -> Iterator[Tensor]:
        """Weights first; the thresholds tell type and device of a network without weights."""
        for node in self.graph:
            yield from node.tensors.values()
        yield from self.balanced.values()

    @property
    def potential_dtype(self) -> torch.dtype:
        """Dtype of potentials, counts and thresholds: float32, or float64 for such networks."""
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    def to(self, target: torch.device | str | torch.dtype) -> SpikingNetwork:
        """Move to a device or convert to a floating dtype, in place; returns self."""
        self.graph = self.graph.map_tensors(lambda tensor: tensor.to(target))
        wide = target
        if isinstance(target, torch.dtype):
            wide = torch.float64 if target == torch.float64 else torch.float32
        self.balanced = {name: value.to(wide) for name, value in self.balanced.items()}
        if self.reference is not None:
            self.reference = self.reference.to(target)
        return self

    def double(self) -> SpikingNetwork:
        """Convert to float64, in place; returns self."""
        return self.to(torch.float64)

    def ann(self, x: Tensor) -> Tensor:
        """Logits of the folded ANN, shape (B, classes)."""
        with torch.no_grad():
            return self.graph.without_corrections().evaluate(self.checked(x))

    @property
    def fan_outs(self) -> dict[str, Tensor]:
        """Synapses each neuron's event reaches (`snnlib.costs.fan_outs`), computed once."""
        if self._fan_outs is None:
            self._fan_outs = costs.fan_outs(self.graph)
        return {name: value.to(self.device) for name, value in self._fan_outs.items()}

    def __call__(
        self,
        x: Tensor,
        steps: int,
        coding: Coding | None = None,
        record: Sequence[str] = (),
        memory: str | int = "1GB",
        only_last: bool = False,
        batch: int | None = None,
        first: int = 0,
        progress: bool = False,
    ) -> Run:
        """Simulate ``steps`` time steps from t = 0.

        Args:
            x: images, shape (B, ...) in the units the ANN was trained on; (T, B, ...) for Frames.
            steps: number of time steps T, at least 1.
            coding: `Constant` (default), `Bernoulli` or `Frames`.
            record: names of spiking layers whose potentials and coefficients to keep.
            memory: limit for the simulation's own tensors ("512MB", bytes); results and records
                come on top.
            only_last: only step T's logits; no events are counted. Where the neurons are
                memoryless this costs one ANN pass (the closed form).
            batch: images simulated together, whatever ``memory`` says; chosen from ``memory`` and
                the cache by default.
            first: number of the first image, for Bernoulli coding of a part of a data set.
            progress: show a progress bar over the images.

        Returns:
            What happened, as a `Run`.

        Raises:
            ConversionError: images of wrong shape, type or device, or not finite.
            ValueError: steps, record, memory, batch or the coding's input is wrong.

        Source: Yu et al., TNNLS 2022; chapter *Converting a network*.
        """
        coding = Constant() if coding is None else coding
        _check_whole("steps", steps)
        if unknown := [name for name in record if name not in self.graph.spiking]:
            raise ValueError(
                f"record={unknown} names no spiking layer; there are: "
                f"{', '.join(self.graph.spiking)}"
            )
        if record and only_last:
            raise ValueError("record needs every step: leave out only_last=True")
        timed = isinstance(coding, Frames)
        x = self.checked(x, frames=timed)
        coding.check(x, steps)
        count = x.shape[1] if timed else len(x)
        if batch is not None:
            _check_whole("batch", batch)
        closed = only_last and self.neuron.memoryless
        schedule = self.schedule(count, 1 if closed else steps, memory, batch)
        shape = (1 if only_last else steps, count, *self.graph.shapes[self.graph.output])
        logits = torch.empty(shape, dtype=self.potential_dtype, device=self.device)
        fast = self.graph.laid_out(self.dtype) if closed else self.graph
        plan = None if closed else Plan(self, coding.constant)
        statistics = [Statistics(self, steps) for _ in range(0 if only_last else schedule.workers)]
        traces: dict[int, dict[str, Trace]] = {}

        def work(start: int, worker: int) -> None:
            part = slice(start, start + schedule.images)
            images = x[:, part] if timed else x[part]
            if closed:
                mean = coding.mean(images, steps, first + start)
                logits[0, part] = self._closed_form(fast, mean, steps)
            else:
                kept = None if only_last else statistics[worker]
                simulation = Simulation(self, images, coding, first + start, kept, record, plan)
                while simulation.t < steps:
                    done = simulation.t
                    totals = simulation.advance(min(schedule.steps, steps - done))
                    times = torch.arange(done + 1, simulation.t + 1).to(totals)
                    means = totals / times.view(-1, *[1] * (totals.dim() - 1))
                    if not only_last:
                        logits[done : simulation.t, part] = means
                    elif simulation.t == steps:
                        logits[0, part] = means[-1]
                if record:
                    traces[start] = simulation.traces
            bar.update(min(schedule.images, count - start))

        starts = range(0, count, schedule.images)
        with tqdm(total=count, disable=not progress, unit="image") as bar:
            for_each(starts, schedule.workers, work)
        for other in statistics[1:]:
            statistics[0].add(other)
        joined = {name: Trace.join([traces[start][name] for start in starts]) for name in record}
        return Run(logits, steps, self, statistics[0] if statistics else None, joined)

    def decide(
        self, x: Tensor, confidence: float, max_steps: int, coding: Coding | None = None,
        memory: str | int = "1GB", batch: int | None = None,
    ) -> Decision:  # fmt: skip
        """Answer each image as soon as its softmax reaches ``confidence``, and stop computing it.

        Equal to ``run.first_confident(confidence)`` of a run of ``max_steps`` steps; decided
        images leave the batch, so the time shrinks with the mean number of steps.

        Args:
            x: images, shape (B, ...).
            confidence: softmax probability of the answer, above 0 and at most 1.
            max_steps: images that never get there are answered at this step.

        Returns:
            Step (1 … max_steps) and predicted class of every image, int64 tensors of shape (B,).

        Raises:
            ConversionError, ValueError: as for calling the network.
        """
        coding = Constant() if coding is None else coding
        if not coding.constant:
            raise ValueError("early exit needs a constant input: use coding=Constant()")
        check_confidence(confidence)
        _check_whole("max_steps", max_steps)
        x = self.checked(x)
        coding.check(x, max_steps)
        step = torch.full((len(x),), max_steps, device=self.device)
        answer = torch.zeros(len(x), dtype=torch.int64, device=self.device)
        chunk = self.chunk(len(x), memory) if batch is None else _check_whole("batch", batch)
        with torch.no_grad():
            for start in range(0, len(x), chunk):
                part = x[start : start + chunk]
                waiting = torch.arange(start, start + len(part), device=self.device)
                simulation = Simulation(self, part, coding, start, None)
                for t in range(1, max_steps + 1):
                    logits = simulation.step() / t
                    sure = logits.softmax(1).amax(1) >= confidence
                    if t == max_steps:
                        sure = torch.ones_like(sure)
                    done = waiting[sure]
                    step[done], answer[done] = t, logits[sure].argmax(1)
                    waiting = waiting[~sure]
                    if len(waiting) == 0:
                        break
                    if bool(sure.any()):
                        simulation.keep(~sure)
        return Decision(step, answer)

    def chunk(self, count: int, memory: str | int) -> int:
        """Images to simulate together, one step at a time, so as to stay within ``memory``."""
        rows = self._rows() if self.device.type == "cpu" else count
        rows = max(rows, 8)
        while rows > 1 and self._bytes(Schedule(rows, 1, 1)) > _parse_memory(memory):
            rows -= max(1, rows // 8)
        self._check_memory(Schedule(rows, 1, 1), memory)
        return min(count, rows)

    def schedule(
        self, count: int, steps: int, memory: str | int = "1GB", batch: int | None = None
    ) -> Schedule:
        """How ``count`` images and ``steps`` steps are cut so as to stay within ``memory``.

        Args:
            count: number of images.
            steps: number of time steps.
            memory: limit for the simulation's own tensors.
            batch: images simulated together, if the caller wants to decide that.

        Raises:
            ValueError: not even one image fits.
        """
        allowed = _parse_memory(memory)
        cpu = self.device.type == "cpu"
        rows, threads = (self._rows(), torch.get_num_threads()) if cpu else (512, 1)
        block = min(steps, _BLOCK, rows if batch is None else max(1, rows // batch))
        images = max(1, rows // block) if batch is None else batch
        if batch is None:
            images = even_size(count, images, threads)
        workers = min(threads, math.ceil(count / images))
        while self._bytes(Schedule(images, block, workers)) > allowed:
            if images > 1 and batch is None:
                images = images // 2
            elif block > 1:
                block = block // 2
            elif workers > 1:
                workers = workers // 2
            else:
                break
        schedule = Schedule(min(images, count), block, workers)
        if batch is None:
            self._check_memory(schedule, memory)
        return schedule

    def _rows(self) -> int:
        """Steps × images that a layer computes at once on a CPU."""
        return rows_in_cache(self.graph.shapes.values(), self.dtype)

    def _bytes(self, schedule: Schedule) -> int:
        """Bytes that a simulation's tensors take at most: values of all steps, states of one."""
        wide, narrow = self.potential_dtype.itemsize, self.dtype.itemsize
        sizes = {name: math.prod(shape) for name, shape in self.graph.shapes.items()}
        last, live, peak = self.graph.last_use(), dict.fromkeys(sizes, 0), 0
        for node in self.graph.nodes.values():
            live[node.name] = sizes[node.name]
            extra = 3 * sizes[node.inputs[0]] if node.kind == "max" else sizes[node.name]
            peak = max(peak, sum(live.values()) + extra)
            for name in {*node.inputs, node.name}:
                if last[name] == node.name:
                    live[name] = 0
        kept = sum(2 * sizes[node.name] for node in self.graph.nodes.values()
                   if node.kind in ("spiking", "max"))  # fmt: skip
        image = wide * kept + narrow * (schedule.steps * peak + sizes["input"])
        return schedule.workers * schedule.images * image

    def _check_memory(self, schedule: Schedule, memory: str | int) -> None:
        needed = self._bytes(schedule)
        if needed > _parse_memory(memory):
            count = "one image" if schedule.images == 1 else f"{schedule.images} images"
            raise ValueError(
                f"memory={memory!r} is less than {count} needs ({needed / 1e6:.1f} MB): raise it"
            )

    def replace(self, **changes: Any) -> SpikingNetwork:
        """A network with another ``neuron`` or other ``balanced`` λ, sharing the weights."""
        kept = {"neuron": self.neuron, "balanced": self.balanced, **changes}
        changed = SpikingNetwork(self.graph, reference=self.reference, report=self.report, **kept)
        changed._fan_outs = self._fan_outs
        return changed

    def verify(self, x: Tensor, **options: Any) -> Any:
        """Check the conversion on images: see `snnlib.verify.verify`."""
        from snnlib.simulation.verify import verify

        return verify(self, x, **options)

    def summary(self, width: int | None = None) -> str:
        """The layers as a table that fits a terminal: see `snnlib.summary`."""
        from snnlib.graph.summary import summary

        return summary(self, width)

    def save(self, path: str | Path) -> Path:
        """Write the network to a safetensors file, for `snnlib.load`: see `snnlib.storage`."""
        from snnlib.graph.storage import save

        return save(self, path)

    def normalized(self) -> SpikingNetwork:
        """The equivalent network with unit thresholds: see `snnlib.normalize`."""
        from snnlib.graph.normalize import normalized

        return normalized(self)

    def quantize(self, weight_bits: int = 8, cap: int | None = None) -> IntegerNetwork:
        """The network in whole numbers, the same bits on every machine: see `snnlib.quantize`."""
        from snnlib.graph.quantize import quantize

        return quantize(self, weight_bits, cap)

    def to_nir(self, path: str | Path) -> Path:
        """Write the network in the NIR exchange format: see `snnlib.nir_export`."""
        from snnlib.graph.nir import to_nir

        return to_nir(self, path)

    def closed_form(self, mean_input: Tensor, steps: int) -> Tensor:
        """Logits after ``steps`` steps of memoryless neurons, in one pass; shape (B, classes).

        Every ReLU becomes a rounding quantiser: N_T = max(0, floor(T z̄/θ + v0)), message θ N_T/T.
        """
        return self._closed_form(self.graph.laid_out(self.dtype), mean_input, steps)

    def _closed_form(self, graph: Graph, mean_input: Tensor, steps: int) -> Tensor:
        thresholds, fresh = self.thresholds, graph.overwritable(graph.nodes)

        def quantise(node: Node, z: Tensor) -> Tensor:
            theta, bound = thresholds[node.name], node.attrs.get("bound")
            out = z if node.name in fresh else torch.empty_like(z)
            return kernels.quantise(z, theta, steps, self.neuron.v0, bound, out)

        images = laid_out(mean_input, self.dtype)
        return graph.evaluate(images, activation=quantise).to(self.potential_dtype)

    def checked(self, x: Tensor, frames: bool = False) -> Tensor:
        """Images as the network takes them, in its dtype; anything else is a ConversionError."""
        expected = self.graph.shapes["input"]
        if not isinstance(x, Tensor):
            raise ConversionError(f"images must be a torch.Tensor, not {type(x).__name__}")
        if not x.is_floating_point():
            raise ConversionError(
                f"images are {x.dtype}: pass floating-point images, as the ANN was trained on "
                "(snnlib.data.to_float makes them from uint8)"
            )
        shape = x.shape[1:] if frames else x.shape
        if tuple(shape[1:]) != expected or shape.numel() == 0:
            raise ConversionError(
                f"images have shape {tuple(shape)}; this network takes (B, {str(expected)[1:-1]}) "
                "with B ≥ 1; to run it on another image size, convert it again with such images"
            )
        if x.device != self.device:
            raise ConversionError(
                f"images are on {x.device}, the network on {self.device}: move one with .to(...)"
            )
        if not bool(x.isfinite().all()):
            raise ConversionError("the images hold NaN or infinite values")
        return x.to(self.dtype)


def _check_whole(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}={value!r} must be a whole number of at least 1")
    return value


def _parse_memory(memory: str | int) -> int:
    if isinstance(memory, int) and not isinstance(memory, bool) and memory > 0:
        return memory
    match = re.fullmatch(r"\s*([0-9.]+)\s*([KMG]?I?B?)\s*", str(memory).upper())
    if match is None or match[2] not in _UNITS:
        raise ValueError(f'memory={memory!r}: write it as "512MB", "1GB" or a number of bytes')
    return int(float(match[1]) * _UNITS[match[2]])
