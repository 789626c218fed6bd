"""Threshold balancing: from the activations of calibration images to one threshold a layer.

Neurons send multiples of θ = λ / `levels`, with a cap only so many a step, so λ decides what is
clipped (too small) and how coarse the answer is (too large). `Max` never clips, `Percentile`
gives up the rare largest activations, `MinError` weighs both errors.

The activations are never kept: `observe` runs the ANN over the images in batches, as often as the
balance needs (once for `Max` and nearly always for `Percentile`, twice for `MinError`).

Sources: Diehl et al., IJCNN 2015 (maximum); Rueckauer et al., 2017 (percentile); Li et al., ICML
2021 (smallest error). Chapter *Threshold balancing*.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from snnlib._arguments import real, whole
from snnlib.backend.layout import laid_out
from snnlib.backend.modes import own_mode
from snnlib.backend.order_statistics import Digits, Largest, grouped
from snnlib.backend.parallel import even_size, for_each, rows_in_cache
from snnlib.conversion.least_error import Histogram, least_error
from snnlib.graph.check import check_finite
from snnlib.graph.graph import Graph
from snnlib.graph.operations import Node, rectify

_KEPT = 1 << 24  # most activations that Percentile keeps, of all layers together: 256 MB at most


@dataclass(frozen=True)
class Max:
    """λ = the largest activation seen: nothing is clipped on the calibration images.

    Source: Diehl et al., IJCNN 2015. Chapter *Threshold balancing*.
    """

    kind: ClassVar[str] = "max"


@dataclass(frozen=True)
class Percentile:
    """λ = the q-th percentile of the activations after the ReLU.

    Over all values of the layer (or channel), zeros included, all calibration images and
    positions, with linear interpolation: ``numpy.percentile(a, q)``, in float32.

    Args:
        q: percentile, above 1 (what is smaller is a fraction by mistake) and at most 100.

    Raises:
        ValueError: q is out of range.

    Source: Rueckauer et al., Frontiers in Neuroscience 2017. Chapter *Threshold balancing*.
    """

    kind: ClassVar[str] = "percentile"
    q: float = 99.9

    def __post_init__(self) -> None:
        q = real("Percentile: q", self.q, 0, 100, above=True)
        if q <= 1:
            raise ValueError(
                f"Percentile: q={self.q!r} must be above 1, it is in percent; did you mean "
                f"q={100 * q:.10g}?"
            )
        if type(self.q) is not int:  # a NumPy number, say
            object.__setattr__(self, "q", q)


@dataclass(frozen=True)
class MinError:
    """λ that minimizes the squared error of a rounding quantizer clipped at λ.

    Args:
        levels: levels of that quantizer: how many thresholds a neuron can send in the steps you
            plan to run (levels × steps for augmented spikes, steps for IF).

    Raises:
        ValueError: levels is not a whole number from 1 to 2^53.

    Source: Li et al., ICML 2021, in the clip-and-round form. Chapter *Threshold balancing*.
    """

    kind: ClassVar[str] = "minerror"
    levels: int = 8

    def __post_init__(self) -> None:
        levels = whole("MinError: levels", self.levels, most=2**53)
        object.__setattr__(self, "levels", levels)


Balance = Max | Percentile | MinError


class Group(NamedTuple):
    """What gets one λ each: the channels of a layer, or the layer (``channels`` = 1)."""

    layer: str
    channels: int


Found = dict[Group, Tensor]  # one number a channel, shape (channels,)


@own_mode()
def balance_thresholds(
    graph: Graph, images: Tensor, balance: Balance, per_channel: bool = False, batch: int = 100
) -> dict[str, Tensor]:
    """Balanced activation λ of every spiking layer, as measured.

    Args:
        graph: the traced network.
        images: calibration images, shape (N, ...): from the training set, never from the test set.
        balance: `Max`, `Percentile` or `MinError`.
        per_channel: one λ a channel (dimension 1) instead of one a layer.
        batch: images a thread holds at a time, at most.

    Returns:
        Per spiking layer a tensor that broadcasts to one image's activation: shape () or
        (C, 1, ...). A layer (or channel) that never fires has λ = 0: see `firing_thresholds`.
    """
    groups = _groups(graph, graph.spiking, per_channel)
    found, _ = _measure(graph, images, balance, groups, batch)
    return {g.layer: _shaped(graph, g, found[g], per_channel) for g in groups}


@own_mode()
def firing_thresholds(
    graph: Graph, images: Tensor, balance: Balance, per_channel: bool = False, batch: int = 100
) -> tuple[dict[str, Tensor], list[str]]:
    """`balance_thresholds` without any λ = 0, with which a neuron would fire for ever.

    A channel gets the λ that the same balance gives its whole layer. A layer whose λ is 0 although
    it fires (a low percentile of sparse activations) gets its largest activation; a layer that
    never fires gets 1.

    Args:
        graph, images, balance, per_channel, batch: as there.

    Returns:
        The thresholds, and the names of the layers that never fired.
    """
    groups = _groups(graph, graph.spiking, per_channel)
    found, tops = _measure(graph, images, balance, groups, batch)
    lacking = [group for group in groups if not bool((found[group] > 0).all())]
    missing = [Group(g.layer, 1) for g in lacking if Group(g.layer, 1) not in found]
    if missing:
        found |= _measure(graph, images, balance, missing, batch)[0]
    dead = []
    for group in lacking:
        top, spare = tops[group].amax(), found[Group(group.layer, 1)]
        if float(top) <= 0:
            dead.append(group.layer)
        spare = torch.where(spare > 0, spare, top if float(top) > 0 else torch.ones_like(top))
        found[group] = torch.where(found[group] > 0, found[group], spare)
    return {g.layer: _shaped(graph, g, found[g], per_channel) for g in groups}, dead


def _groups(graph: Graph, layers: Sequence[str], per_channel: bool) -> list[Group]:
    return [Group(name, graph.shapes[name][0] if per_channel else 1) for name in layers]


def _shaped(graph: Graph, group: Group, found: Tensor, per_channel: bool) -> Tensor:
    rank = len(graph.shapes[group.layer])
    return found.reshape(-1, *[1] * (rank - 1)) if per_channel else found.reshape(())


def observe(graph: Graph, images: Tensor, batch: int, look: Callable[[str, Tensor], None]) -> None:
    """Run the ANN over the images, in the memory format and batches in which it is fastest.

    Args:
        graph: the traced network.
        images: shape (N, ...).
        batch: images a thread holds at a time, at most.
        look: called with a layer's name and its activations after the ReLU, shape (b, ...); from
            several threads at once.
    """
    dtype, threads = images.dtype, 1
    if images.device.type == "cpu":
        threads = torch.get_num_threads()
        batch = min(batch, rows_in_cache(graph.shapes.values(), dtype))
        batch = even_size(len(images), batch, threads)
    fast = graph.laid_out(dtype)
    own = graph.overwritable(graph.nodes)

    def activation(node: Node, z: Tensor) -> Tensor:
        value = rectify(node, z, out=z if node.name in own else None)
        look(node.name, value)
        return value

    def work(start: int, worker: int) -> None:
        logits = fast.evaluate(laid_out(images[start : start + batch], dtype), activation)
        check_finite(logits, "the network")

    starts = range(0, len(images), batch)
    for_each(starts, min(threads, len(starts)), work)


def _measure(
    graph: Graph, images: Tensor, balance: Balance, groups: list[Group], batch: int
) -> tuple[Found, Found]:
    """λ and the largest activation of every group; maybe also the λ of some layers as a whole."""
    if isinstance(balance, Max):
        tops = _maxima(graph, images, groups, batch)
        return dict(tops), tops
    if isinstance(balance, MinError):
        return _least_errors(graph, images, groups, batch, balance.levels)
    return _percentiles(graph, images, groups, batch, balance.q)


def _show(graph: Graph, images: Tensor, batch: int, lookers: Mapping[Group, Any]) -> None:
    """One pass: every group's looker is told to ``add`` its activations, (outer, groups, inner)."""

    def look(name: str, value: Tensor) -> None:
        for group, looker in lookers.items():
            if group.layer == name:
                looker.add(grouped(value, group.channels))

    observe(graph, images, batch, look)


class _Top:
    """The largest value of every channel."""

    def __init__(self) -> None:
        self.parts: list[Tensor] = []

    def add(self, values: Tensor) -> None:
        self.parts.append(values.amax(0).amax(1))

    @property
    def value(self) -> Tensor:
        return torch.stack(self.parts).amax(0)


def _maxima(graph: Graph, images: Tensor, groups: list[Group], batch: int) -> Found:
    tops = {group: _Top() for group in groups}
    _show(graph, images, batch, tops)
    return {group: top.value for group, top in tops.items()}


def _percentiles(
    graph: Graph, images: Tensor, groups: list[Group], batch: int, q: float
) -> tuple[Found, Found]:
    """Exact percentiles (of the activations in float32)."""
    totals = {g: math.prod(graph.shapes[g.layer]) * len(images) // g.channels for g in groups}
    position = {group: (total - 1) * q / 100 for group, total in totals.items()}
    count = {group: total - int(position[group]) for group, total in totals.items()}
    if sum(n * group.channels for group, n in count.items()) <= _KEPT:
        ends = {group: Largest(group.channels, count[group]) for group in groups}
        _show(graph, images, batch, ends)
        under = {g: end.from_top(count[g] - 1) for g, end in ends.items()}
        over = {g: end.from_top(max(0, count[g] - 2)) for g, end in ends.items()}
        tops = {group: end.from_top(0) for group, end in ends.items()}
    else:
        ranks = {g: (int(at), min(int(at) + 1, totals[g] - 1)) for g, at in position.items()}
        digits = {group: Digits(group.channels, ranks[group]) for group in groups}
        while any(not each.done for each in digits.values()):
            _show(graph, images, batch, digits)
            for each in digits.values():
                each.narrow()
        under, over = ({g: each.values[i] for g, each in digits.items()} for i in (0, 1))
        tops = {group: each.top for group, each in digits.items()}
    found = {}
    for group, low in under.items():
        weight = position[group] - int(position[group])
        value = low.double() + weight * (over[group].double() - low.double())
        found[group] = value.to(images)
    return found, {group: top.to(images) for group, top in tops.items()}


def _least_errors(
    graph: Graph, images: Tensor, groups: list[Group], batch: int, levels: int
) -> tuple[Found, Found]:
    """λ of the smallest squared error, from a histogram of every group."""
    tops = _maxima(graph, images, groups, batch)
    for group, top in list(tops.items()):
        if group.channels > 1 and not bool((top > 0).all()):  # the layer's λ will be asked for
            tops[Group(group.layer, 1)] = top.amax().reshape(1)
    histograms = {group: Histogram(top) for group, top in tops.items()}
    _show(graph, images, batch, histograms)
    found = {}
    for group, top in tops.items():
        found[group] = top * least_error(histograms[group].rows, levels).to(top)
    return found, tops
