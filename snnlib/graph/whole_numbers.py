"""Whole-number networks: what a neuromorphic chip computes, bit for bit.

``net.quantize()`` (`snnlib.quantize`) turns a spiking network into one of whole numbers only:
weights of 8 bits with one scale per output channel, whole-number biases, thresholds and potentials,
pixels from 0 to 255, average pooling as a plain sum. Its sums are small enough for the floating
type they are computed in to hold every partial sum exactly (2^24 for float32, 2^53 for float64), so
the order of the additions does not matter: a run gives the same bits on every machine, for every
batch size and number of threads. Convolutions of values of 8 bits use 8-bit instructions where the
processor has them (`snnlib.int8`). Chapter *Fewer bits*.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from torch import Tensor

from snnlib.graph import int8  # noqa: F401  (registers its operation)
from snnlib.graph.errors import ConversionError
from snnlib.graph.graph import Graph
from snnlib.graph.operations import OPERATIONS, Node, Operation
from snnlib.neurons import Neuron
from snnlib.simulation.network import SpikingNetwork
from snnlib.simulation.run import Decision, Run


def _pixels(node: Node, x: Tensor) -> Tensor:
    """Images in [0, 1] as whole numbers 0…255."""
    return torch.round(x * 255)


OPERATIONS["pixels"] = Operation("pass", _pixels)


class IntegerNetwork(SpikingNetwork):
    """A spiking network of whole numbers. Made by ``net.quantize()``; called like any other.

    Takes images in [0, 1] (rounded to 1/255) or uint8 images 0…255. ``save`` and `snnlib.load`
    keep it, with its source, to the bit.

    Attributes:
        source: the network it was made from.
        integer_thresholds: θ of every spiking layer, whole numbers, float64.
        output_unit: what one unit of the output stands for, per class.
        sums: largest possible partial sum of every weighted layer.
    """

    counts_only = True
    output_unit: Tensor

    def __init__(
        self, source: SpikingNetwork, graph: Graph, neuron: Neuron,
        thresholds: Mapping[str, Tensor], output_unit: Tensor, sums: Mapping[str, float],
    ) -> None:  # fmt: skip
        super().__init__(graph, neuron, source.balanced, source.reference, source.report)
        self.source = source
        self.integer_thresholds = dict(thresholds)
        self.output_unit = output_unit
        self.sums = dict(sums)
        self._fan_outs = source.fan_outs

    @property
    def thresholds(self) -> dict[str, Tensor]:
        """Firing threshold of every spiking layer: whole numbers, in that layer's units."""
        return self.integer_thresholds

    @property
    def dtype(self) -> torch.dtype:
        """Messages are whole numbers held in float32."""
        return torch.float32

    @property
    def potential_dtype(self) -> torch.dtype:
        """Potentials are whole numbers held in float64: a silent neuron's grows with the steps."""
        return torch.float64

    def to(self, target: torch.device | str | torch.dtype) -> IntegerNetwork:
        """Move to a device, in place; returns self.

        Raises:
            ConversionError: for a dtype: it is part of what makes the results exact.
        """
        if isinstance(target, torch.dtype):
            raise ConversionError(
                f"a whole-number network has no other dtype ({target}): convert the network "
                "that it was quantized from"
            )
        self.graph = self.graph.map_tensors(lambda tensor: tensor.to(target))
        self.integer_thresholds = {k: v.to(target) for k, v in self.integer_thresholds.items()}
        self.output_unit = self.output_unit.to(target)
        self.source = self.source.to(target)
        return self

    def ann(self, x: Tensor) -> Tensor:
        """Logits of the real-valued ANN that the network came from, shape (B, classes)."""
        return self.source.ann(self.checked(x))

    def __call__(  # type: ignore[override]
        self, x: Tensor, steps: int, **options: Any
    ) -> Run:
        """Simulate, exactly: see `SpikingNetwork.__call__`."""
        with _exact():
            return super().__call__(x, steps, **options)

    def decide(  # type: ignore[override]
        self, x: Tensor, confidence: float, max_steps: int, **options: Any
    ) -> Decision:
        """Answer each image as soon as it is clear: see `SpikingNetwork.decide`."""
        with _exact():
            return super().decide(x, confidence, max_steps, **options)

    def replace(self, **changes: Any) -> SpikingNetwork:
        """A whole-number network of a changed real-valued one.

        Raises:
            ConversionError: always; change the real-valued network and quantize that.
        """
        self._refuse("replace")

    def normalized(self) -> SpikingNetwork:
        """Thresholds are part of a whole-number network: always raises ConversionError."""
        self._refuse("normalized")

    def _refuse(self, what: str) -> NoReturn:
        raise ConversionError(
            f"{what} works on the real-valued network: use net.source.{what}(...) and quantize "
            "the result"
        )

    def checked(self, x: Tensor, frames: bool = False) -> Tensor:
        """Images in [0, 1], float32; anything else is a ConversionError."""
        if isinstance(x, Tensor) and x.dtype == torch.uint8:
            x = x.float() / 255
        x = super().checked(x, frames)
        low, high = float(x.min()), float(x.max())
        if low < 0 or high > 1:
            raise ConversionError(
                f"images lie in [{low:.4g}, {high:.4g}]: a whole-number network takes [0, 1] or "
                "uint8 (put the normalisation into the network)"
            )
        return x


@contextmanager
def _exact() -> Iterator[None]:
    """Rule out convolutions that are not sums of products: NNPACK's and cuDNN's Winograd, TF32."""
    with (
        torch.backends.nnpack.flags(enabled=False),
        torch.backends.cudnn.flags(enabled=False, allow_tf32=False),
    ):
        yield
