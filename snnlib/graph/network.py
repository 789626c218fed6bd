"""A spiking network as a record: what it is made of, in plain values that never change.

Whatever returns a network makes a new record and leaves the one it came from as it was. The
simulation (`snnlib.simulation`) reads a record and writes nothing into it. Chapter *Converting a
network*.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from snnlib.graph.errors import ConversionError
from snnlib.graph.graph import Graph
from snnlib.graph.readout import Mean, Readout
from snnlib.neurons import Neuron

_SMALLEST = 1e-30  # below, a current divided by θ leaves the range of float32


@dataclass(frozen=True, eq=False)
class Whole:
    """The arithmetic of a network of whole numbers (`snnlib.deploy.whole_numbers`)."""

    source: Network  # the real-valued network it was made from
    thresholds: Mapping[str, Tensor]  # θ of every spiking layer, whole numbers, float64
    output_unit: Tensor  # what one unit of the output stands for, per class
    sums: Mapping[str, float]  # largest possible partial sum of every weighted layer


@dataclass(frozen=True, eq=False)
class Network:
    """Graph, neurons and thresholds of a spiking network.

    Attributes:
        graph: nodes, weights and shapes.
        neuron: the neuron model of all spiking layers, or one for each by name.
        balanced: λ of every spiking layer, as threshold balancing measured it; broadcastable to
            one image's activation.
        readout: how the answer is read from the output.
        whole: for a network of whole numbers what makes it one, else None.
        report: how the network came about, for `snnlib.deploy.summary`.
    """

    graph: Graph
    neuron: Neuron | Mapping[str, Neuron]
    balanced: Mapping[str, Tensor]
    readout: Readout = Mean()  # noqa: RUF009 - frozen
    whole: Whole | None = None
    report: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise ConversionError or ValueError unless the parts fit each other."""
        layers = self.graph.spiking
        _check_neurons(self.neuron, layers)
        if self.balanced.keys() != set(layers):
            raise ValueError(
                f"thresholds and spiking layers do not match: balanced has "
                f"{', '.join(sorted(self.balanced))}, the network {', '.join(layers)}"
            )
        if not isinstance(self.readout, Readout):
            raise ValueError(
                f"readout={self.readout!r}: pass an object such as snnlib.Mean(first=5)"
            )
        for name in layers:
            _check_balanced(name, self.balanced[name], self.graph.shapes[name])
            _check_threshold(name, self.thresholds[name])

    def neuron_of(self, name: str) -> Neuron:
        """The neuron model of a spiking layer."""
        return self.neuron if isinstance(self.neuron, Neuron) else self.neuron[name]

    @cached_property
    def neurons(self) -> dict[str, Neuron]:
        """The neuron model of every spiking layer."""
        return {name: self.neuron_of(name) for name in self.graph.spiking}

    @cached_property
    def thresholds(self) -> Mapping[str, Tensor]:
        """Firing threshold θ of every spiking layer, broadcastable to one image's activation."""
        if self.whole is not None:
            return self.whole.thresholds
        return {name: self.neurons[name].threshold(value) for name, value in self.balanced.items()}

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Number of neurons of every spiking layer."""
        return {name: math.prod(self.graph.shapes[name]) for name in self.graph.spiking}

    @cached_property
    def dtype(self) -> torch.dtype:
        """Floating dtype of the weights; messages travel in it."""
        return torch.float32 if self.whole else next(self._tensors()).dtype

    @property
    def folded(self) -> torch.dtype:
        """The narrowest dtype that the weights have been in, as the report says."""
        found = getattr(torch, str(self.report.get("dtype")), None)
        return found if isinstance(found, torch.dtype) else self.dtype

    @cached_property
    def wide(self) -> torch.dtype:
        """Dtype of potentials, counts and thresholds: float32, or float64 for float64 networks.

        Potentials of whole numbers are held in float64: a silent neuron's grows with the steps.
        """
        return torch.float64 if self.whole or self.dtype == torch.float64 else torch.float32

    @cached_property
    def device(self) -> torch.device:
        """Where the weights live and the simulation runs."""
        return next(self._tensors()).device

    @property
    def memoryless(self) -> bool:
        """Whether all neurons are, so that T steps are one pass: the closed form."""
        return all(neuron.memoryless for neuron in self.neurons.values())

    def _tensors(self) -> Iterator[Tensor]:
        """Weights first; the thresholds tell type and device of a network without weights."""
        for node in self.graph:
            yield from node.tensors.values()
        yield from self.balanced.values()

    def to(self, target: torch.device | torch.dtype) -> Network:
        """The network on another device or in another floating dtype.

        Raises:
            ConversionError: another dtype for whole numbers: it is part of what makes them exact.
        """
        wide, whole, report = target, self.whole, self.report
        if isinstance(target, torch.dtype):
            if whole is not None:
                raise ConversionError(
                    f"a whole-number network has no other dtype ({target}): convert the network "
                    "that it was quantized from"
                )
            wide = torch.float64 if target == torch.float64 else torch.float32
            seen = (self.folded, self.dtype, target)
            narrowest = max(seen, key=lambda dtype: torch.finfo(dtype).eps)
            report = {**report, "dtype": str(narrowest)[6:]}
        elif whole is not None:
            thresholds = {name: value.to(target) for name, value in whole.thresholds.items()}
            unit = whole.output_unit.to(target)
            whole = replace(
                whole, source=whole.source.to(target), thresholds=thresholds, output_unit=unit
            )
        return replace(
            self,
            graph=self.graph.map_tensors(lambda tensor: tensor.to(target)),
            balanced={name: value.to(wide) for name, value in self.balanced.items()},
            whole=whole,
            report=report,
        )


def _check_neurons(neuron: Any, layers: list[str]) -> None:
    named = neuron if isinstance(neuron, Mapping) else dict.fromkeys(layers, neuron)
    for name, value in named.items():
        if not isinstance(value, Neuron):
            raise ConversionError(
                f"neuron={value!r}: pass an object such as snnlib.Augmented(levels=4)"
            )
        if name not in layers:
            raise ConversionError(
                f"neuron: there is no spiking layer {name!r}; there are: {', '.join(layers)}"
            )
    if missing := [name for name in layers if name not in named]:
        raise ConversionError(f"neuron: none is given for {', '.join(missing)}")


def _check_balanced(name: str, balanced: Any, shape: tuple[int, ...]) -> None:
    if not isinstance(balanced, Tensor) or not balanced.is_floating_point():
        kind = balanced.dtype if isinstance(balanced, Tensor) else type(balanced).__name__
        raise ValueError(f"balanced[{name!r}] is {kind}: pass a tensor of real numbers")
    try:
        fits = torch.broadcast_shapes(balanced.shape, shape) == shape
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"balanced[{name!r}] has shape {tuple(balanced.shape)}, which does not broadcast to "
            f"the layer's {shape}"
        )


def _check_threshold(name: str, theta: Tensor) -> None:
    if theta.device.type == "meta":
        return
    wrong = theta[~((theta >= _SMALLEST) & theta.isfinite())]
    if wrong.numel():
        raise ValueError(
            f"layer {name} has the threshold {float(wrong[0]):g}: it must be finite and at least "
            f"{_SMALLEST:g}. A layer that never fires may have 1; a network whose activations are "
            "that small has to be scaled up"
        )
