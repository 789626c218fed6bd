"""What a code returned: answers, and what was sent for them.

The definitions are those of `snnlib.simulation.run`: an **event** is a message that is not zero,
**spikes** are Σ|c|, SynOps and both energies are those of `snnlib.simulation.costs`. **Bits** are
the least that a code without memory could send in its place: the entropy of each layer's messages
in each step, silence included, a neuron and image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from snnlib.graph.graph import Graph
from snnlib.simulation.costs import Account, Sums, SynOps
from snnlib.simulation.run import Statistics, of_classes, predicted, right_answers


class Tally:
    """Counts messages: sums over the images a source and step, and how often each message was sent.

    Args:
        account: of the network's connections.
        steps: T.
        device: to count on.
        largest: the largest |message| there is.
    """

    def __init__(self, account: Account, steps: int, device: torch.device, largest: int) -> None:
        self.fan_outs, self.largest = account.fan_outs, largest
        self.spiking = set(account.graph.spiking)
        self.statistics = Statistics(self.fan_outs, steps, device)
        self.symbols: dict[str, Tensor] = {}

    def add(self, name: str, c: Tensor, symbol: Tensor | None = None) -> None:
        """Count what a source sent.

        Args:
            name: of the source.
            c: whole numbers, shape (T, B, ...).
            symbol: what tells messages apart, if that is not c but the time of a spike.
        """
        size = c.double().abs()
        busy, fan_out = (c != 0).double(), self.fan_outs[name].to(c.device)
        columns = (busy, size, busy * fan_out, busy * (size > 1) * fan_out, size * fan_out)
        rows = torch.stack([column.flatten(1).sum(1) for column in columns], 1)  # (T, 5)
        self.statistics.add_rows(name, 0, rows)
        if name in self.spiking:
            shown = (c if symbol is None else symbol).flatten(1).long() + self.largest
            counts = [torch.bincount(row, minlength=2 * self.largest + 1) for row in shown]
            found = torch.stack(counts).cpu()  # (T, symbols)
            self.symbols[name] = self.symbols.get(name, 0) + found


@dataclass(frozen=True, repr=False)
class Coded:
    """What a code sent for some images, and the answers.

    Attributes:
        logits: shape (K, B, classes): K = 1 for one answer an image, or one a frame.
        tally: what was sent, T steps.
        account: of the network's connections.
        latency: steps from the image to the answer; in windows for analog spike times.
        interval: steps after which the next image may enter, where layers work side by side.
        trace: what recorded layers sent: digits (T, B, ...), spike times (B, ...), changes.
        clipped: messages, over all images, that could not hold their value.
        early: logits after every slot of the last window, (S, B, classes), if asked for.
        anew: what sending every frame anew would send, for `Delta`.
        first_macs: MACs of the first layer up to each answer, summed over images, where they
            depend on the images; else None.
    """

    logits: Tensor
    tally: Tally
    account: Account
    latency: int = 1
    interval: int = 1
    trace: dict[str, Tensor] = field(default_factory=dict)
    clipped: int = 0
    early: Tensor | None = None
    anew: Coded | None = None
    first_macs: Tensor | None = None

    def __len__(self) -> int:
        """Number of images."""
        return self.logits.shape[1]

    def __repr__(self) -> str:
        events = f"{float(self.events[-1]):,.0f} events an image"
        return f"<Coded run of {len(self)} images: {len(self.logits)} answers each, {events}>"

    @property
    def predictions(self) -> Tensor:
        """Answers, int64 (K, B), or (K, B, ...) if dense.

        Raises:
            ValueError: the output is one value, so there are no classes.
        """
        return predicted(of_classes(self.logits, "predictions"))

    def accuracy(self, labels: Tensor) -> Tensor:
        """Share of right answers, shape (K,), for labels (B,), or (B, ...) for dense outputs.

        Raises:
            ValueError: there is not one label for every answer, they are no whole numbers of the
                classes, or the output has no classes.
        """
        return right_answers(self.logits, labels)

    @property
    def events(self) -> Tensor:
        """Events of the spiking layers up to each answer, an image, shape (K,)."""
        return self._sums(self._graph.spiking).events

    @property
    def spikes(self) -> Tensor:
        """Σ|c| of the spiking layers up to each answer, an image, shape (K,)."""
        return self._sums(self._graph.spiking).spikes

    @property
    def events_by_step(self) -> Tensor:
        """Events of the spiking layers in each step (digit, frame), an image, shape (T,)."""
        return self.tally.statistics.of(*self._graph.spiking).events / len(self)

    @property
    def synops(self) -> SynOps:
        """Synaptic operations and energy up to each answer, an image, shapes (K,)."""
        found = self.account.synops(self._sums(self.tally.fan_outs), False, constant=True)
        if self.first_macs is None:
            return found
        every = self.first_macs / len(self)
        return replace(found, macs_first_layer_every_step=every, reusable=False)

    @property
    def bits(self) -> Tensor | None:
        """Entropy of the messages up to each answer, a neuron and image, (K,); None: analog."""
        if not self.tally.symbols:
            return None
        sizes = {name: self.account.fan_outs[name].numel() for name in self.tally.symbols}
        each = [_entropy(table) * sizes[name] for name, table in self.tally.symbols.items()]
        return self._until(torch.stack(each).sum(0)) / sum(sizes.values())

    @property
    def settled(self) -> Tensor:
        """Slot of the last window from which on the answer stays, 1 … S, int64 (B,).

        Known in hindsight only: a network that answers then has to know that nothing will change.

        Raises:
            ValueError: nothing was kept of the last window, or the output has no classes.
        """
        if self.early is None:
            raise ValueError("settled needs the answers of the last window: run with early=True")
        answers = of_classes(self.early, "settled").argmax(2)  # (S, B)
        wrong = (answers != answers[-1]).flip(0).cumsum(0) > 0  # somewhere from here on
        return (wrong.sum(0) + 1).clamp_max(len(answers))

    @staticmethod
    def join(parts: Sequence[Coded]) -> Coded:
        """Other images' results, of the same code, beside these; the first part is used up."""
        first, *others = parts
        for other in others:
            first.tally.statistics.add(other.tally.statistics)
            for name, table in other.tally.symbols.items():
                first.tally.symbols[name] = first.tally.symbols[name] + table
        macs = [part.first_macs for part in parts if part.first_macs is not None]
        anew = [part.anew for part in parts if part.anew is not None]
        early = [part.early for part in parts if part.early is not None]
        return replace(
            first,
            logits=torch.cat([part.logits for part in parts], 1),
            trace={
                name: torch.cat([part.trace[name] for part in parts], _images_at(first, name))
                for name in first.trace
            },
            clipped=sum(part.clipped for part in parts),
            early=torch.cat(early, 1) if early else None,
            anew=Coded.join(anew) if anew else None,
            first_macs=torch.stack(macs).sum(0) if macs else None,
        )

    @property
    def _graph(self) -> Graph:
        return self.account.graph

    def _sums(self, sources: Sequence[str] | dict[str, Tensor]) -> Sums:
        found = self.tally.statistics.of(*sources)
        return Sums(*(self._until(column) / len(self) for column in found))

    def _until(self, steps: Tensor) -> Tensor:
        """Numbers of the T steps as sums up to each of the K answers."""
        total = steps.cumsum(0)
        return total if len(self.logits) == len(total) else total[-1:]


def _images_at(part: Coded, name: str) -> int:
    """The dimension of a trace that counts images."""
    return part.trace[name].dim() - 1 - len(part.account.graph.shapes[name])


def _entropy(counts: Tensor) -> Tensor:
    """Entropy in bits of each row of counts, shape (T,)."""
    share = counts.double() / counts.sum(1, keepdim=True).clamp_min(1)
    return -(share * share.clamp_min(1e-300).log2()).sum(1)
