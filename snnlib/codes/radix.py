"""Radix code: a neuron sends the digits of its activation, the most significant first.

An activation is rounded to c = 0 … 2^B − 1 and sent as T = ⌈B / log₂ r⌉ digits of base r. A
receiver shifts what it has and adds what arrives, ::

    V_t = r · V_{t−1} + Σ_j w_j s_{j,t}          after the last digit V_T = Σ_j w_j c_j

and the bias comes with the last digit. Everything is in whole numbers, so the answer is, bit for
bit, that of the rounded network, for every r: only the number of steps and of spikes depends on r.
Max pooling needs no waiting: the largest number so far, digit by digit, is the largest number.

**Latency.** A layer cannot send its first digit before the last one has arrived, since a carry may
change it: with L spiking layers on the longest way an answer takes L · T steps. Layers work side by
side on successive images, so a new image may enter every T steps.

**Costs.** For r = 2 a digit is a spike and its SynOps are additions; for r > 2 digits above 1 are
multiplications, or as many unit spikes. The shift of the potential, an update of the neuron, is not
counted, as no update of a neuron is; where r is no power of two it is a multiplication.

This is quantized inference, bit by bit. Source: Wang, Gu, Goh, Zhou and Luo, Efficient Spiking
Neural Networks with Radix Encoding, TNNLS 35(3):3689–3701, 2024. Theirs: the code, and training for
it. Ours: conversion without training, rounding instead of truncation, max pooling by digits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from snnlib._arguments import whole
from snnlib.backend.modes import exact_sums, own_mode
from snnlib.codes.coded import Coded, Tally
from snnlib.codes.stream import (
    Clock,
    added,
    check,
    depths,
    fired,
    flow,
    in_whole_numbers,
    recorded,
    senders,
)
from snnlib.graph.operations import Node
from snnlib.simulation.costs import Account
from snnlib.simulation.images import checked
from snnlib.simulation.network import SpikingNetwork


def digits(c: Tensor, radix: int, count: int) -> Tensor:
    """The digits of whole numbers, the most significant first, shape (T, ...).

    Example:
        >>> digits(torch.tensor([13.0, 6.0]), radix=2, count=4).T.tolist()
        [[1.0, 1.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0]]
    """
    places = [radix ** (count - t) for t in range(1, count + 1)]
    return torch.stack([torch.floor(c / place) % radix for place in places])


class Radix:
    """A converted network that sends digits.

    Args:
        net: the network, for its weights and the balanced activations λ; its neurons do not count.
        bits: B; an activation is rounded to 2^B levels, from 0 to λ.
        radix: r, 2 to 2^B; the number of digits follows.
        weight_bits: of the weights.

    Attributes:
        net: the rounded network in whole numbers, whose answer after one step is the same.
        digits: T.
        depth: L.

    Raises:
        ConversionError: the network has no form in whole numbers, or pools what are no spikes.
        ValueError: an argument is out of range.

    Example:
        >>> import snnlib as snn
        >>> train, test = snn.data.load("digits")
        >>> images, x = (snn.data.to_float(split.images[:100]) for split in (train, test))
        >>> radix = Radix(snn.convert(snn.models.load("digits-cnn"), images), bits=5)
        >>> run = radix(x)
        >>> radix.digits, run.latency, bool((run.logits == radix.net(x, 1).logits).all())
        (5, 15, True)
    """

    def __init__(
        self, net: SpikingNetwork, bits: int = 5, radix: int = 2, *, weight_bits: int = 8
    ) -> None:
        self.net = in_whole_numbers(net, bits, weight_bits)
        self.bits = whole("bits", bits)
        self.radix = whole("radix", radix, least=2, most=max(2, 2**bits))
        self.digits = next(t for t in range(1, bits + 1) if self.radix**t >= 2**bits)
        check(self.net.graph, "a radix code")
        self.depth = max(depths(self.net.graph).values())
        self.account = Account(self.net.graph)

    @own_mode()
    def __call__(self, x: Tensor, *, record: Sequence[str] = (), batch: int = 50) -> Coded:
        """Answer images, shape (B, ...), in [0, 1] or uint8; ``record``: layers to keep digits of.

        Raises:
            ConversionError: images of another shape, type or device, or not finite.
            ValueError: record names no layer that sends, or batch is no whole number of at least 1.
        """
        x, batch = checked(self.net.network, x), whole("batch", batch)
        record = recorded(senders(self.net.graph, constant_input=True), record)
        with exact_sums():
            return Coded.join([self._part(part, record) for part in x.split(batch)])

    def _part(self, x: Tensor, record: Sequence[str]) -> Coded:
        net, steps = self.net, self.digits
        tally = Tally(self.account, steps, x.device, self.radix - 1)
        trace: dict[str, Tensor] = {}

        def fire(node: Node, planes: Tensor) -> Tensor:
            potential = added(planes.to(net.potential_dtype), self.radix)[-1]
            return digits(fired(net, node, potential), self.radix, steps)

        def sent(node: Node, planes: Tensor) -> None:
            tally.add(node.name, planes)
            if node.name in record:
                trace[node.name] = planes

        clock = Clock(steps, self.radix, constant_at=steps - 1)
        arriving = flow(net.graph, x.to(net.dtype), clock, fire, sent).to(net.potential_dtype)
        logits = added(arriving, self.radix)[-1:] * net.output_unit
        return Coded(logits, tally, self.account, self.depth * steps, steps, trace)
