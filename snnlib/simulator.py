"""The spiking network and its simulation in time.

`SpikingNetwork` is what `snnlib.convert` returns. Calling it simulates a number of time steps from
t = 0 and leaves nothing behind: no state to reset, no weights changed. Images are simulated in
chunks so that memory stays below a given limit, whatever the number of steps; `Simulation` is the
step-by-step engine for one chunk. Chapter *Converting a network*.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from snnlib import costs, kernels
from snnlib.coding import Coding, Constant, Frames
from snnlib.graph import ConversionError, Graph, Node, apply
from snnlib.neurons import Neuron, State
from snnlib.run import Decision, Run, Statistics, Trace, check_confidence

_CACHE = (
    24 * 2**20
)  # bytes a chunk's largest layers may take on a CPU before they outgrow its cache
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
            return self.graph.without_corrections().evaluate(self._checked(x))

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
            batch: images simulated together; chosen from ``memory`` and the cache by default.
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
        x = self._checked(x, frames=timed)
        coding.check(x, steps)
        count = x.shape[1] if timed else len(x)
        chunk = self.chunk(count, memory) if batch is None else _check_whole("batch", batch)
        runs = []
        with torch.no_grad(), tqdm(total=count, disable=not progress, unit="image") as bar:
            for start in range(0, count, chunk):
                part = x[:, start : start + chunk] if timed else x[start : start + chunk]
                runs.append(self._chunk(part, steps, coding, record, only_last, first + start))
                bar.update(min(chunk, count - start))
        return Run.join(runs)

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
        x = self._checked(x)
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
        """Images to simulate together so that the simulation stays within ``memory``."""
        item = torch.finfo(self.potential_dtype).bits // 8
        sizes = [math.prod(shape) for shape in self.graph.shapes.values()]
        state = sum(2 * n for n in self.neurons.values())
        image = item * (state + sum(sizes) + 4 * max(sizes))
        allowed = _parse_memory(memory) // image
        if allowed < 1:
            raise ValueError(
                f"memory={memory!r} is less than one image needs ({image / 1e6:.1f} MB): raise it"
            )
        if self.device.type == "cpu":
            allowed = min(allowed, max(8, _CACHE // (item * max(sizes))))
        return max(1, min(count, allowed))

    def replace(self, **changes: Any) -> SpikingNetwork:
        """A network with another ``neuron`` or other ``balanced`` λ, sharing the weights."""
        kept = {"neuron": self.neuron, "balanced": self.balanced, **changes}
        return SpikingNetwork(self.graph, reference=self.reference, report=self.report, **kept)

    def verify(self, x: Tensor, **options: Any) -> Any:
        """Check the conversion on images: see `snnlib.verify.verify`."""
        from snnlib.verify import verify

        return verify(self, x, **options)

    def summary(self, width: int | None = None) -> str:
        """The layers as a table that fits a terminal: see `snnlib.summary`."""
        from snnlib.summary import summary

        return summary(self, width)

    def save(self, path: str | Path) -> Path:
        """Write the network to a safetensors file, for `snnlib.load`: see `snnlib.storage`."""
        from snnlib.storage import save

        return save(self, path)

    def normalized(self) -> SpikingNetwork:
        """The equivalent network with unit thresholds: see `snnlib.normalize`."""
        from snnlib.normalize import normalized

        return normalized(self)

    def to_nir(self, path: str | Path) -> Path:
        """Write the network in the NIR exchange format: see `snnlib.nir_export`."""
        from snnlib.nir_export import to_nir

        return to_nir(self, path)

    def _chunk(
        self,
        x: Tensor,
        steps: int,
        coding: Coding,
        record: Sequence[str],
        only_last: bool,
        first: int,
    ) -> Run:
        if only_last and self.neuron.memoryless:
            mean = coding.mean(x, steps, first)
            return Run(self.closed_form(mean, steps)[None], steps, self, None, {})
        statistics = None if only_last else Statistics(self, steps)
        simulation = Simulation(self, x, coding, first, statistics, record)
        logits = []
        for t in range(1, steps + 1):
            total = simulation.step()
            if not only_last or t == steps:
                logits.append(total / t)
        return Run(torch.stack(logits), steps, self, statistics, simulation.traces)

    def closed_form(self, mean_input: Tensor, steps: int) -> Tensor:
        """Logits after ``steps`` steps of memoryless neurons, in one pass; shape (B, classes).

        Every ReLU becomes a rounding quantiser: N_T = max(0, floor(T z̄/θ + v0)), message θ N_T/T.
        """
        thresholds = self.thresholds

        def quantise(node: Node, z: Tensor) -> Tensor:
            theta = thresholds[node.name]
            count = torch.floor(z.to(theta.dtype) * steps / theta + self.neuron.v0).clamp_min(0)
            if (bound := node.attrs.get("bound")) is not None:
                count = torch.minimum(count, self.neuron.ceiling(bound, theta, steps))
            return (count * theta / steps).to(z.dtype)

        return self.graph.evaluate(mean_input, activation=quantise).to(self.potential_dtype)

    def _checked(self, x: Tensor, frames: bool = False) -> Tensor:
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
                "with B ≥ 1"
            )
        if x.device != self.device:
            raise ConversionError(
                f"images are on {x.device}, the network on {self.device}: move one with .to(...)"
            )
        if not bool(x.isfinite().all()):
            raise ConversionError("the images hold NaN or infinite values")
        return x.to(self.dtype)


class Simulation:
    """One chunk of images on its way through time.

    Args:
        net: the network.
        x: images, shape (B, ...), or frames (T, B, ...).
        coding: input coding.
        first: number of the first image in the data set (for Bernoulli coding).
        statistics: where to count events; None to count nothing.
        record: spiking layers to keep potentials and coefficients of.
    """

    def __init__(
        self, net: SpikingNetwork, x: Tensor, coding: Coding, first: int,
        statistics: Statistics | None, record: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.net, self.x, self.coding, self.first = net, x, coding, first
        self.statistics = statistics
        self.traces = {name: Trace([], []) for name in record}
        self.thresholds = net.thresholds
        self.t = 0
        self.states: dict[str, State] = {}
        self.sums: dict[str, Tensor] = {}  # summed messages into a max pooling
        self.sent: dict[str, Tensor] = {}  # what a max pooling has sent so far
        self.total: Tensor | None = None
        changing = net.graph.dynamic(coding.constant)
        self.changing = [node for node in net.graph.nodes.values() if node.name in changing]
        self.static: dict[str, Tensor] = {}
        for node in net.graph.nodes.values():
            if node.name not in changing:
                inputs = [self.static[name] for name in node.inputs]
                self.static[node.name] = x if node.op == "input" else apply(node, inputs)
        needed = {name for node in self.changing for name in node.inputs} | {net.graph.output}
        self.static = {name: value for name, value in self.static.items() if name in needed}
        self.last = net.graph.last_use()

    def step(self) -> Tensor:
        """Advance one time step; returns the summed input of the output so far, (B, classes)."""
        self.t += 1
        values = dict(self.static)
        for node in self.changing:
            inputs = [values[name] for name in node.inputs]
            if node.op == "input":
                value = self.coding.frame(self.x, self.t, self.first)
                self._count(node, value)
            elif node.kind == "spiking":
                value = self._fire(node, inputs[0])
            elif node.kind == "max":
                value = self._pool(node, inputs[0])
            else:
                value = apply(node, inputs)
            values[node.name] = value
            for name in set(node.inputs):
                if self.last[name] == node.name:
                    del values[name]
        output = values[self.net.graph.output].to(self.net.potential_dtype)
        self.total = output.clone() if self.total is None else self.total + output
        return self.total

    def keep(self, which: Tensor) -> None:
        """Go on with some of the images only; ``which`` is a mask of shape (B,)."""
        self.x = self.x[which]
        self.static = {name: value[which] for name, value in self.static.items()}
        self.states = {k: State(v.potential[which], v.count[which]) for k, v in self.states.items()}
        self.sums = {name: value[which] for name, value in self.sums.items()}
        self.sent = {name: value[which] for name, value in self.sent.items()}
        assert self.total is not None
        self.total = self.total[which]

    def _fire(self, node: Node, current: Tensor) -> Tensor:
        neuron, theta = self.net.neuron, self.thresholds[node.name]
        current = current.to(theta.dtype)
        if node.name not in self.states:
            self.states[node.name] = neuron.initial(current, theta)
        state = self.states[node.name]
        bound = node.attrs.get("bound")
        ceiling = None if bound is None else neuron.ceiling(bound, theta, self.t)
        coefficient = kernels.update(neuron, state, current, theta, ceiling)
        self._count(node, coefficient)
        if node.name in self.traces:
            self.traces[node.name].potential.append(state.potential.clone())
            self.traces[node.name].coefficient.append(coefficient)
        return (coefficient * theta).to(self.net.dtype)

    def _pool(self, node: Node, message: Tensor) -> Tensor:
        """Send max(S_t) − max(S_{t−1}), S_t the summed messages: exact for signed spikes too."""
        source = node.inputs[0]
        if source in self.states:  # whole-number counts: no rounding, no spurious changes
            summed: Tensor = self.states[source].count
        else:
            before = self.sums.get(node.name)
            summed = message if before is None else before + message
            self.sums[node.name] = summed
        largest = apply(node, [summed])
        previous = self.sent.get(node.name)
        change = largest if previous is None else largest - previous
        self.sent[node.name] = largest
        self._count(node, change)
        if source in self.states:
            return (change * self.thresholds[source]).to(self.net.dtype)
        return change

    def _count(self, node: Node, coefficient: Tensor) -> None:
        if self.statistics is not None:
            self.statistics.count(node.name, self.t, coefficient)


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
