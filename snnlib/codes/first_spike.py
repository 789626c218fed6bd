"""Time to first spike: one spike a neuron, and its time is the activation.

Layer l has a window of time of length 1. A neuron with activation a = ReLU(V) sends its only spike
at t = 1 − a/λ after its window opened, and none if a = 0: the larger, the earlier. From each spike
on the potential of a receiver rises with slope λ w until the window closes, so it has risen by ::

    Σ_i w_i λ_i (1 − t_i)  =  Σ_i w_i a_i

there: the ANN's pre-activation. Then the receiver's own window opens, in which its threshold falls
from λ to 0, and it spikes when the threshold meets the potential, which stands still. So windows of
successive layers must not overlap: before the last input the sum is another one.

- **Exact**: analog times. In float64 the answer is the ANN's to rounding, where no activation
  exceeds λ; one that does spikes as its window opens (``Coded.clipped`` counts them).
- **Slots**: times rounded to S slots a window; the answer is that of the ANN rounded to S levels.
- **Greedy**: windows overlap by some slots, and a neuron spikes as soon as the threshold meets what
  has arrived. Large values arrive first, so negative ones can come too late to hold it back.
- **Jitter, lost spikes**: times off by noise, spikes that never arrive. With one spike a neuron
  nothing averages: a lost one is a whole activation.

**Latency**: L windows, L the spiking layers on the longest way. **Costs**: a spike adds w to a
slope, so each SynOp is an addition; the growth of the potential is an update of the neuron, not
counted, as no update of a neuron is. Max pooling lets the first spike of its window through.

Sources: one spike a neuron, Rueckauer and Liu, ISCAS 2018, and Srivatsa et al., You Only Spike Once
(arXiv 2006.09982, 2020); the exact map, Stanojevic et al., Nature Communications 15:6793, 2024.
Ours: the linear threshold in units of λ, slots as rounding, overlap as a parameter.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from snnlib._arguments import flag, names, real, whole
from snnlib.backend.modes import own_mode
from snnlib.codes.coded import Coded, Tally
from snnlib.codes.stream import Clock, added, check, depths, flow, real_valued, recorded
from snnlib.graph.operations import Node, rectify
from snnlib.simulation.costs import Account
from snnlib.simulation.images import checked
from snnlib.simulation.network import SpikingNetwork

MARGIN = 2.0  # λ of analog times, relative to the largest activation that was measured

MOST_SLOTS = 2**20  # every slot is counted on its own
_LATEST = 1 - 2**-20  # where noise would move an analog time out of its window


class FirstSpike:
    """A converted network whose neurons spike once.

    Args:
        net: the network, for its weights and the balanced activations λ; its neurons do not count.
            For exact answers balance it with `snnlib.Max` and take it in float64.
        slots: S, times are rounded to so many slots a window; None: they are analog.
        margin: what λ is multiplied by. Default: 2 for analog times, where room costs nothing, and
            1 for slots, where it costs resolution.
        overlap: slots by which a layer's window opens early, 0 … S.
        jitter: standard deviation of the times, as a fraction of the window.
        lost: probability that a spike never arrives.
        where: layers whose spikes are disturbed; default: all.
        seed: of jitter and lost spikes; the same for every batch size.

    Raises:
        ConversionError: the network pools what are no spikes.
        ValueError: an argument is out of range, or needs slots.

    Example:
        >>> import snnlib as snn
        >>> train, test = snn.data.load("digits")
        >>> images, x = (snn.data.to_float(s.images[:100]).double() for s in (train, test))
        >>> ann = snn.models.load("digits-cnn").double()
        >>> run = FirstSpike(snn.convert(ann, images, balance=snn.Max()))(x)
        >>> bool((run.logits[0] - ann(x)).abs().max() < 1e-9), run.clipped
        (True, 0)
    """

    def __init__(
        self,
        net: SpikingNetwork,
        slots: int | None = None,
        *,
        margin: float | None = None,
        overlap: int = 0,
        jitter: float = 0.0,
        lost: float = 0.0,
        where: Collection[str] | None = None,
        seed: int = 0,
    ) -> None:
        net = real_valued(net)
        self.net, self.graph = net, net.graph.without_corrections()
        self.slots = None if slots is None else whole("slots", slots, most=MOST_SLOTS)
        self.interval = self.slots or 1  # of time, after which the next image may enter
        self.overlap = whole("overlap", overlap, least=0, most=self.slots or 0)
        self.jitter = real("jitter", jitter, low=0.0)
        self.lost = real("lost", lost, 0.0, 1.0)
        if self.overlap and (self.jitter or self.lost):
            raise ValueError("jitter and lost spikes go with windows that do not overlap")
        self.where = set(self.graph.spiking if where is None else names("where", where))
        if strange := self.where - set(self.graph.spiking):
            raise ValueError(f"where={sorted(strange)} names no spiking layer")
        self.seed = whole("seed", seed, least=0)
        default = MARGIN if self.slots is None else 1.0
        self.margin = default if margin is None else real("margin", margin, low=0.0, above=True)
        self.largest = {
            name: value.to(net.potential_dtype) * self.margin
            for name, value in net.balanced.items()
        }
        check(self.graph, "a first-spike code")
        self.opens = depths(self.graph)  # of a spiking layer: the number of its window, from 1
        self.depth = max(self.opens.values())
        self.account = Account(self.graph)

    @own_mode()
    def __call__(
        self,
        x: Tensor,
        *,
        record: Sequence[str] = (),
        early: bool = False,
        first: int = 0,
        batch: int = 50,
    ) -> Coded:
        """Answer images, shape (B, ...), in the units that the ANN was trained on.

        Args:
            x: images.
            record: layers whose spike times to keep, in windows since the image came; infinite
                where there is none.
            early: keep the answers after every slot of the last window, in which large activations
                have arrived and small ones not yet.
            first: number of the first image, for the noise of a part of a data set.
            batch: images computed together.

        Raises:
            ConversionError: images of another shape, type or device, or not finite.
            ValueError: early without slots, or with windows that overlap; record names no layer
                that sends; or first, batch or early is not what its kind can be.
        """
        early, batch = flag("early", early), whole("batch", batch)
        first = whole("first", first, least=0)
        if early and (self.slots is None or self.overlap):
            raise ValueError("early needs slots, and windows that do not overlap")
        x, record = checked(self.net.network, x), recorded(self.graph.spiking, record)
        work = self._greedy if self.overlap else self._in_order
        if self.overlap:  # every slot is a plane of its own
            batch = max(1, 2 * batch // self.interval)
        parts = [
            work(part, record, early, first + i * batch) for i, part in enumerate(x.split(batch))
        ]
        return Coded.join(parts)

    def _in_order(self, x: Tensor, record: Sequence[str], early: bool, first: int) -> Coded:
        """Windows one after another: each sum is complete before the threshold falls."""
        tally, trace, clipped = self._tally(x), dict[str, Tensor](), 0
        last = {name for name in self.graph.spiking if self.opens[name] == self.depth}
        kept: dict[str, Tensor] = {}  # what the last window needs

        def activation(node: Node, z: Tensor) -> Tensor:
            nonlocal clipped
            largest = self.largest[node.name]
            a = rectify(node, z.to(largest.dtype))
            clipped += int((a > largest).sum())
            times = self._disturbed(node.name, self._times(a, largest), first)
            spiked = times < 1
            symbol = None if self.slots is None else ((1 - times.clamp_max(1)) * self.slots).round()
            tally.add(node.name, spiked[None], None if symbol is None else symbol[None])
            if node.name in record:
                opened = times + (self.opens[node.name] - 1)
                trace[node.name] = torch.where(spiked, opened, torch.inf)
            if symbol is None or self.slots is None:
                return torch.where(spiked, largest * (1 - times), 0).to(z.dtype)
            return (largest / self.slots * symbol).to(z.dtype)

        changing = self.graph.dynamic(constant_input=True)

        def visit(node: Node, value: Tensor) -> None:
            if node.kind == "max" and node.name in changing:
                tally.add(node.name, (value != 0)[None])
            if early:
                kept[node.name] = value

        logits = self.graph.evaluate(x, activation, visit).to(self.net.potential_dtype)[None]
        answers = self._while_arriving(kept, last, x) if early else None
        return self._coded(logits, tally, trace, clipped, self.depth * self.interval, answers)

    def _times(self, a: Tensor, largest: Tensor) -> Tensor:
        """Spike times in the window, 0 … 1; 1 or more: none."""
        if self.slots is None:
            return (1 - a / largest).clamp_min(0)
        value = torch.floor(a / (largest / self.slots) + 0.5).clamp_max(self.slots)
        return (self.slots - value) / self.slots

    def _disturbed(self, name: str, times: Tensor, first: int) -> Tensor:
        """Jitter inside the window, and lost spikes; every image has its own random numbers."""
        if not (self.jitter or self.lost) or name not in self.where:
            return times
        noise, chance = torch.empty_like(times), torch.empty_like(times)
        layer = self.graph.spiking.index(name)
        for i in range(len(times)):
            random = np.random.default_rng([self.seed, layer, first + i])
            noise[i] = torch.from_numpy(random.standard_normal(times.shape[1:])).to(times)
            chance[i] = torch.from_numpy(random.random(times.shape[1:])).to(times)
        ends = _LATEST if self.slots is None else 1 - 1 / self.slots
        moved = times + self.jitter * noise
        if self.slots is not None:
            moved = (moved * self.slots).round() / self.slots
        moved = torch.where(times < 1, moved.clamp(0, ends), times)
        return torch.where(chance < self.lost, torch.ones_like(times), moved)

    def _while_arriving(self, kept: dict[str, Tensor], last: set[str], x: Tensor) -> Tensor:
        """Logits after every slot of the last window, (S, B, classes)."""
        assert self.slots is not None
        clock = Clock(self.slots, 1, constant_at=0)
        given = {}
        for name in last:
            value, theta = kept[name], self.largest[name] / self.slots
            slot = self.slots - (value / theta).round()  # its spike's, from 0
            planes = [torch.where(slot == k, value, 0) for k in range(self.slots)]
            given[name] = torch.stack(planes)
        reached = {name: value for name, value in kept.items() if self.opens[name] < self.depth}

        def fire(node: Node, planes: Tensor) -> Tensor:
            raise AssertionError(f"{node.name} is known already")

        arriving = flow(self.graph, x, clock, fire, lambda node, planes: None, given, known=reached)
        return added(arriving.to(self.net.potential_dtype), 1)

    def _greedy(self, x: Tensor, record: Sequence[str], early: bool, first: int) -> Coded:
        """Windows that overlap: slot by slot, what has arrived so far decides."""
        slots, lead = self.slots, self.overlap
        assert slots is not None
        apart = slots - lead  # slots between the openings of successive windows
        tally, trace, clipped = self._tally(x), dict[str, Tensor](), 0

        def align(node: Node, inputs: list[Tensor]) -> list[Tensor]:
            opens = self.opens[node.name]
            found = []
            for name, planes in zip(node.inputs, inputs, strict=True):
                late = (opens - self.opens[name]) * apart if self.opens[name] else 0
                found.append(_later(planes, late))
            return found

        def fire(node: Node, planes: Tensor) -> Tensor:
            nonlocal clipped
            largest = self.largest[node.name]
            theta = largest / slots
            z = added(planes.to(largest.dtype), 1)
            a = rectify(node, z.flatten(0, 1)).unflatten(0, (slots, -1))
            clipped += int((a[-1] > largest).sum())
            now = torch.arange(slots, 0, -1, device=z.device).to(z)  # thresholds in slots
            met = torch.floor(a / theta + 0.5) >= now.view(-1, *[1] * (z.dim() - 1))
            fires = met & (met.cumsum(0) == 1)
            if node.name in record:
                slot = fires.to(z.dtype).argmax(0).to(z) / slots
                opened = slot + (self.opens[node.name] - 1) * apart / slots
                trace[node.name] = torch.where(met.any(0), opened, torch.inf)
            return (fires * now.view(-1, *[1] * (z.dim() - 1)) * theta).to(x.dtype)

        def sent(node: Node, planes: Tensor) -> None:
            if node.kind == "max":  # the first spike of its window is the largest
                tally.add(node.name, (planes != 0).any(0)[None])
                return
            symbol = (planes.sum(0) / (self.largest[node.name] / slots)).round()
            tally.add(node.name, (symbol != 0)[None], symbol[None])

        clock = Clock(slots, 1, constant_at=0)
        arriving = flow(self.graph, x, clock, fire, sent, align=align)
        logits = added(arriving.to(self.net.potential_dtype), 1)[-1:]
        latency = (self.depth - 1) * apart + slots
        return self._coded(logits, tally, trace, clipped, latency, None)

    def _tally(self, x: Tensor) -> Tally:
        return Tally(self.account, 1, x.device, self.interval)

    def _coded(
        self, logits: Tensor, tally: Tally, trace: dict[str, Tensor], clipped: int,
        latency: int, early: Tensor | None,
    ) -> Coded:  # fmt: skip
        if self.slots is None:
            tally.symbols.clear()  # an analog time has no finite number of bits
        return Coded(
            logits, tally, self.account, latency, self.interval, trace, clipped=clipped, early=early
        )


def _later(planes: Tensor, slots: int) -> Tensor:
    """Planes on a clock that starts so many slots later: what came before is there at once."""
    if slots == 0:
        return planes
    found = torch.zeros_like(planes)
    found[0] = planes[: slots + 1].sum(0)
    rest = planes[slots + 1 :]
    found[1 : 1 + len(rest)] = rest
    return found
