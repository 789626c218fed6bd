"""Threshold balancing: from the activations of calibration images to one threshold a layer.

A spiking layer sends at most `levels` thresholds a step, so its balanced activation λ decides what
is clipped (too small) and how coarse the answer is (too large). `Max` never clips, `Percentile`
gives up the rare largest activations, `MinError` weighs both errors.

The activations are never kept: `observe` runs the ANN over the images in batches, as often as the
balance needs (once for `Max`, twice or so for the others), and keeps counts.

Sources: Diehl et al., IJCNN 2015 (maximum); Rueckauer et al., 2017 (percentile); Li et al., ICML
2021 (smallest error). Chapter *Threshold balancing*.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from snnlib.graph import Graph, Node, rectify

_BINS = 4096  # histogram resolution of MinError: λ within λ_max / 4096
_SAMPLE = 1 << 17  # activations sampled per layer to guess where the percentile lies


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
    positions, with linear interpolation: exactly ``numpy.percentile(a, q)``.

    Args:
        q: percentile, above 0 and at most 100.

    Raises:
        ValueError: q is out of range.

    Source: Rueckauer et al., Frontiers in Neuroscience 2017. Chapter *Threshold balancing*.
    """

    kind: ClassVar[str] = "percentile"
    q: float = 99.9

    def __post_init__(self) -> None:
        number = isinstance(self.q, int | float) and not isinstance(self.q, bool)
        if not (number and 0 < self.q <= 100):
            raise ValueError(f"Percentile: q={self.q!r} must be above 0 and at most 100")


@dataclass(frozen=True)
class MinError:
    """λ that minimises the squared error of a rounding quantiser clipped at λ.

    Args:
        levels: levels of that quantiser: how many thresholds a neuron can send in the steps you
            plan to run (levels × steps for augmented spikes, steps for IF).

    Raises:
        ValueError: levels is not a whole number of at least 1.

    Source: Li et al., ICML 2021, in the clip-and-round form. Chapter *Threshold balancing*.
    """

    kind: ClassVar[str] = "minerror"
    levels: int = 8

    def __post_init__(self) -> None:
        if isinstance(self.levels, bool) or not isinstance(self.levels, int) or self.levels < 1:
            raise ValueError(f"MinError: levels={self.levels!r} must be a whole number ≥ 1")


Balance = Max | Percentile | MinError


def balance_thresholds(
    graph: Graph, images: Tensor, balance: Balance, per_channel: bool = False, batch: int = 100
) -> dict[str, Tensor]:
    """Balanced activation λ of every spiking layer.

    Args:
        graph: the traced network.
        images: calibration images, shape (N, ...): from the training set, never from the test set.
        balance: `Max`, `Percentile` or `MinError`.
        per_channel: one λ a channel (dimension 1) instead of one a layer.
        batch: images a pass holds at a time.

    Returns:
        Per spiking layer a tensor that broadcasts to one image's activation: shape () or
        (C, 1, ...). A layer (or channel) that never fires has λ = 0: `fill_dead` replaces it.
    """
    groups = {name: graph.shapes[name][0] if per_channel else 1 for name in graph.spiking}
    if isinstance(balance, Max):
        found, _ = _first_pass(graph, images, groups, batch, sample=False)
    elif isinstance(balance, Percentile):
        found = _percentiles(graph, images, groups, batch, balance.q)
    else:
        found = _least_errors(graph, images, groups, batch, balance.levels)
    shaped = {}
    for name, value in found.items():
        rank = len(graph.shapes[name])
        shaped[name] = value.reshape(-1, *[1] * (rank - 1)) if per_channel else value.reshape(())
    return shaped


def fill_dead(
    balanced: dict[str, Tensor], graph: Graph, images: Tensor, balance: Balance, batch: int = 100
) -> tuple[dict[str, Tensor], list[str]]:
    """Replace every λ = 0, with which a neuron would fire for ever.

    A channel gets the λ that the same balance gives its whole layer. A layer whose λ is 0 although
    it fires (a low percentile of sparse activations) gets its largest activation; a layer that
    never fires gets 1.

    Args:
        balanced: what `balance_thresholds` found.
        graph, images, balance, batch: as there; the images are run again only if some λ is 0.

    Returns:
        The filled thresholds, and the names of the layers that never fired.
    """
    if all(bool((value > 0).all()) for value in balanced.values()):
        return balanced, []
    layers = balance_thresholds(graph, images, balance, batch=batch)
    tops = balance_thresholds(graph, images, Max(), batch=batch)
    dead = [name for name, top in tops.items() if float(top) <= 0]
    filled = {}
    for name, value in balanced.items():
        spare = torch.where(layers[name] > 0, layers[name], tops[name])
        spare = torch.where(spare > 0, spare, torch.ones_like(spare))
        filled[name] = torch.where(value > 0, value, spare)
    return filled, dead


def observe(graph: Graph, images: Tensor, batch: int) -> Iterator[tuple[str, Tensor]]:
    """Run the ANN over the images; gives (layer, activations after the ReLU, shape (b, ...))."""
    for start in range(0, len(images), batch):
        seen: dict[str, Tensor] = {}

        def keep(node: Node, z: Tensor, seen: dict[str, Tensor] = seen) -> Tensor:
            seen[node.name] = rectify(node, z)
            return seen[node.name]

        with torch.no_grad():
            graph.evaluate(images[start : start + batch], activation=keep)
        yield from seen.items()


def _rows(value: Tensor, groups: int) -> Tensor:
    """Activations as one row a group: (1, all values) or (C, values of the channel)."""
    return value.reshape(1, -1) if groups == 1 else value.transpose(0, 1).reshape(groups, -1)


def _first_pass(
    graph: Graph, images: Tensor, groups: dict[str, int], batch: int, sample: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Largest value of every group, and a regular sample of its values (rows of equal length)."""
    largest: dict[str, Tensor] = {}
    samples: dict[str, list[Tensor]] = {name: [] for name in groups}
    for name, value in observe(graph, images, batch):
        rows = _rows(value, groups[name])
        top = rows.amax(1)
        largest[name] = torch.maximum(largest[name], top) if name in largest else top
        if sample:
            total = math.prod(graph.shapes[name]) * len(images)
            stride = max(1, total // _SAMPLE) | 1  # odd: does not lock onto image rows
            samples[name].append(rows[:, ::stride])
    return largest, {name: torch.cat(parts, 1) for name, parts in samples.items() if parts}


def _bits(values: Tensor) -> Tensor:
    """Bit patterns of non-negative float32 values: whole numbers in the same order."""
    return (values.float() + 0.0).contiguous().view(torch.int32)  # + 0.0 turns −0 into 0


class _Select:
    """Finds the values of given ranks in every group of one layer, by bracketing their bits.

    Each pass counts the values inside the bracket in ``bins`` bins and keeps the bin that holds
    the rank, so the bracket closes on one float32 after a few passes, in fixed memory.
    """

    def __init__(self, ranks: Tensor, low: Tensor, high: Tensor, top: Tensor) -> None:
        self.ranks, self.low, self.high, self.top = ranks, low, high, top
        self.bins = max(1 << 11, (1 << 20) // len(ranks))
        self.start()

    @property
    def found(self) -> bool:
        return bool((self.low == self.high).all())

    def start(self) -> None:
        self.below = torch.zeros_like(self.ranks)
        self.histogram = torch.zeros(len(self.ranks) * self.bins, dtype=torch.int64)

    def count(self, bits: Tensor) -> None:
        low, high = self.low.to(bits)[:, None], self.high.to(bits)[:, None]
        self.below += (bits < low).sum(1).cpu()
        inside = (bits >= low) & (bits <= high)
        group = inside.nonzero()[:, 0].cpu()
        offset = bits[inside].cpu().long() - self.low[group]
        index = offset * self.bins // (self.high - self.low + 1)[group]
        self.histogram += torch.bincount(group * self.bins + index, minlength=len(self.histogram))

    def narrow(self) -> None:
        cumulative = self.histogram.reshape(-1, self.bins).cumsum(1)
        rank = self.ranks - self.below
        width = self.high - self.low + 1
        chosen = (cumulative <= rank[:, None]).sum(1)
        inside = (rank >= 0) & (chosen < self.bins)
        low = self.low + (chosen * width + self.bins - 1) // self.bins
        high = self.low + ((chosen + 1) * width + self.bins - 1) // self.bins - 1
        missed_low = torch.where(rank < 0, torch.zeros_like(low), self.high + 1)
        missed_high = torch.where(rank < 0, self.low - 1, self.top)
        self.low = torch.where(inside, low, missed_low)
        self.high = torch.where(inside, high, missed_high)
        self.start()


def _percentiles(
    graph: Graph, images: Tensor, groups: dict[str, int], batch: int, q: float
) -> dict[str, Tensor]:
    """Exact percentiles (of the activations in float32) in a few passes over the images."""
    largest, samples = _first_pass(graph, images, groups, batch, sample=True)
    searches: dict[str, tuple[_Select, _Select]] = {}
    weights: dict[str, float] = {}
    for name, count in groups.items():
        total = math.prod(graph.shapes[name]) * len(images) // count
        position = (total - 1) * q / 100
        rank, weights[name] = int(position), position - int(position)
        sample = samples[name].float().sort(1).values.cpu()
        guess, margin = q / 100 * (sample.shape[1] - 1), 2 + 2 * math.sqrt(sample.shape[1] * 0.01)
        low, above = max(0, int(guess - margin)), math.ceil(guess + margin)
        top = _bits(largest[name].cpu()).long()
        lower = _bits(sample[:, low]).long()
        upper = top if above >= sample.shape[1] else _bits(sample[:, above]).long()
        ranks = [torch.full((count,), min(r, total - 1)) for r in (rank, rank + 1)]
        first, second = (_Select(r, lower.clone(), upper.clone(), top) for r in ranks)
        searches[name] = (first, second)
    while pending := {n: [s for s in two if not s.found] for n, two in searches.items()}:
        if not any(pending.values()):
            break
        for name, value in observe(graph, images, batch):
            if pending[name]:
                bits = _bits(_rows(value, groups[name]))
                for search in pending[name]:
                    search.count(bits)
        for waiting in pending.values():
            for search in waiting:
                search.narrow()
    result = {}
    for name, two in searches.items():
        under, over = (s.low.to(torch.int32).view(torch.float32).double() for s in two)
        result[name] = (under + weights[name] * (over - under)).to(largest[name])
    return result


def _least_errors(
    graph: Graph, images: Tensor, groups: dict[str, int], batch: int, levels: int
) -> dict[str, Tensor]:
    """λ of the smallest squared error, from a histogram of ``_BINS`` bins per group."""
    largest, _ = _first_pass(graph, images, groups, batch, sample=False)
    counts = {
        name: torch.zeros(count * _BINS, dtype=torch.float64) for name, count in groups.items()
    }
    for name, value in observe(graph, images, batch):
        rows = _rows(value, groups[name])
        top = largest[name][:, None].clamp_min(torch.finfo(rows.dtype).tiny)
        bins = (rows / top * _BINS).long().clamp_max(_BINS - 1)
        bins += torch.arange(len(rows), device=rows.device)[:, None] * _BINS
        found = torch.bincount(bins.flatten().cpu(), minlength=len(counts[name]))
        counts[name] += found.to(counts[name])
    centres = ((torch.arange(_BINS) + 0.5) / _BINS).double()
    result = {}
    for name, count in groups.items():
        rows = counts[name].reshape(count, _BINS)
        best = [_least_error(row, centres, levels) for row in rows]
        result[name] = largest[name] * torch.tensor(best).to(largest[name])
    return result


def _least_error(counts: Tensor, centres: Tensor, levels: int) -> float:
    """The best λ as a fraction of the maximum: a coarse grid, then a fine one around its best."""
    low, high = 0.0, 1.0
    for _ in range(2):
        candidates = torch.linspace(low, high, 129, dtype=torch.float64)[1:, None]
        theta = candidates / levels
        rounded = theta * torch.floor(centres / theta + 0.5).clamp_max(levels)
        errors = ((rounded - centres).square() * counts).sum(1)
        best, step = float(candidates[errors.argmin(), 0]), (high - low) / 128
        low, high = max(0.0, best - step), min(1.0, best + step)
    return best
