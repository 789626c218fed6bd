"""Reading by touch: signals become ON and OFF events, a recurrent spiking network reads them.

A channel x is sent by its changes (`delta_code`). The receiver knows r, at first x_1. Each step::

    n_t = trunc((x_t − r_{t−1}) / θ)       limited to −most … most
    ON_t = max(n_t, 0),  OFF_t = max(−n_t, 0),  r_t = r_{t−1} + θ n_t

so without the limit |x_t − r_t| < θ always: what is sent is known up to the threshold (`decode`).

The hidden layer is recurrent, of current-based LIF neurons, each with learned decays α and β of its
own (logistic functions of parameters)::

    I_t = α I_{t−1} + W e_t + R s_{t−1}    (B, n)   e: events (B, n_in), s: spikes
    V_t = β V_{t−1} + I_t;  s_t, reset     (B, n)   the step of `snnlib.learning.lif`
    y = gain/L · Σ_{t ≤ L} W_o s_t + b     (B, classes)   L: steps of the recording

The paper's: ON/OFF events by thresholds, current-based neurons, recurrence, learned decays, a fast
sigmoid as surrogate, a penalty on spikes, an LSTM beside it. Ours: whole steps, and at most `most`
events a channel in each; outputs that are mean currents, not spikes; the accounts (`Cost`).

Source: Müller-Cleve and others, *Braille Letter Reading: A Benchmark for Spatio-Temporal Pattern
Recognition on Neuromorphic Hardware*, Frontiers in Neuroscience 16:951164, 2022.
Derived in chapter *Touch and sound as events*.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnlib._arguments import real, whole
from snnlib.learning.lif import LIF, Surrogate
from snnlib.neurons import State
from snnlib.simulation.costs import AC_PICOJOULE, MAC_PICOJOULE, literature_energy

SPIKE = Surrogate("fast-sigmoid", 0.2)  # the paper's form, 1 / (5 |x| + 1)²


def delta_code(x: Tensor, theta: float, most: int | None = 1) -> Tensor:
    """ON and OFF events of every step: (B, T, F) → uint8 (B, T, 2 F), ON of all channels first.

    Args:
        x: signals, shape (B, T, F).
        theta: θ, in their units.
        most: events a channel may send in a step; what is left waits. None: no limit but 255.

    Raises:
        ValueError: θ is not positive, ``most`` is no whole number from 1 to 255.

    Example:
        >>> signal = torch.tensor([0.0, 0.4, 2.3, 2.3, 0.9])
        >>> delta_code(signal[None, :, None], 1.0)[0].T.tolist()  # one event waits a step
        [[0, 0, 1, 1, 0], [0, 0, 0, 0, 1]]
    """
    real("theta", theta, 0.0, above=True)
    limit = 255 if most is None else whole("most", most, 1, 255)
    known, sent = x[:, 0], []
    for value in x.unbind(1):  # (B, F)
        n = torch.trunc((value - known) / theta).clamp(-limit, limit)
        known = known + theta * n
        sent.append(torch.cat([n.clamp_min(0), (-n).clamp_min(0)], 1))
    return torch.stack(sent, 1).to(torch.uint8)


def decode(events: Tensor, start: Tensor, theta: float) -> Tensor:
    """What the receiver knows after every step: (B, T, 2 F) and x_1 (B, F) → (B, T, F)."""
    on, off = events.to(start).chunk(2, -1)
    return start[:, None] + theta * (on - off).cumsum(1)


class Counts(NamedTuple):
    """What one pass over a batch took, means a recording.

    Attributes:
        steps: L.
        events: that came in.
        spikes: of the hidden layer.
    """

    steps: float
    events: float
    spikes: float


@dataclass(frozen=True)
class Cost:
    """Operations and energy of a recording, mean.

    Attributes:
        additions: one an event or spike and synapse that it reaches.
        macs: multiplications with an addition, decays and the analog input among them.
        literature: the literature's energy, in nJ: additions of the events for a spiking network,
            all products for another; neither decays nor reset.
    """

    additions: float
    macs: float
    literature: float

    @property
    def operations(self) -> float:
        """Additions and MACs."""
        return self.additions + self.macs

    @property
    def energy(self) -> float:
        """This book's account in nJ: 0.9 pJ an addition, 4.6 pJ a MAC; memory left out."""
        return (AC_PICOJOULE * self.additions + MAC_PICOJOULE * self.macs) / 1000


def lasting(clips: Tensor) -> tuple[Tensor, Tensor]:
    """Clips (B, 1, T, F + 1) → inputs (B, T', F) and which steps are the recording's (B, T').

    The last column is 1 for as long as a recording lasts; T' is the longest of the batch.
    """
    inside = clips[:, 0, :, -1] > 0
    longest = max(1, int(inside.sum(1).max()))
    return clips[:, 0, :longest, :-1], inside[:, :longest]


def as_clips(x: Tensor, lengths: Tensor) -> Tensor:
    """Sequences (B, T, F) and their lengths → float32 (B, 1, T, F + 1), zero after their ends."""
    inside = (torch.arange(x.shape[1]) < lengths[:, None]).float()[..., None]
    return torch.cat([x.float() * inside, inside], 2)[:, None]


class SpikingReader(nn.Module):
    """The recurrent spiking network: clips (B, 1, T, n_in + 1) → logits (B, classes).

    Args:
        inputs: n_in, channels of events.
        classes: that it answers with.
        hidden: n.
        recurrent: with R; without, the layer is feed-forward.
        learned: learn the decays; without, they keep their first values.
        decays: first α and β.
        drop: share of the events that are left out, in training alone.
        gain: of the outputs, which are means over time and small.

    Raises:
        ValueError: a number is out of range.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> net = SpikingReader(inputs=24, classes=27, hidden=16)
        >>> events = torch.randint(2, (3, 20, 24))
        >>> net(as_clips(events, torch.tensor([20, 12, 7]))).shape
        torch.Size([3, 27])
        >>> net.counts.steps  # mean of the three
        13.0
    """

    def __init__(
        self,
        inputs: int,
        classes: int,
        hidden: int = 128,
        *,
        recurrent: bool = True,
        learned: bool = True,
        decays: tuple[float, float] = (0.8, 0.9),
        drop: float = 0.0,
        gain: float = 10.0,
    ) -> None:
        super().__init__()
        for name, value in {"inputs": inputs, "classes": classes, "hidden": hidden}.items():
            whole(f"SpikingReader: {name}", value)
        for decay in decays:
            if not 0 < real("SpikingReader: decays", decay, 0.0, 1.0) < 1:
                raise ValueError(f"SpikingReader: decays={decays} must lie between 0 and 1")
        self.drop, self.gain = real("SpikingReader: drop", drop, 0.0, 1.0), gain
        # Currents of a few events must reach the threshold: the sum over decays is what counts.
        self.weight = nn.Parameter(torch.randn(hidden, inputs) * (0.6 / math.sqrt(inputs)))
        self.own = nn.Parameter(torch.randn(hidden, hidden) * (0.2 / math.sqrt(hidden)))
        self.own.requires_grad_(recurrent)
        self.recurrent = recurrent
        first = [torch.full((hidden,), math.log(d / (1 - d))) for d in decays]
        self.of_current, self.of_potential = (
            nn.Parameter(logit, requires_grad=learned) for logit in first
        )
        self.out = nn.Linear(hidden, classes)
        self.neuron = LIF(leak=1.0, spike=SPIKE)  # its leak is learned, so it stands in `simulate`
        self.counts = Counts(0.0, 0.0, 0.0)

    def simulate(self, events: Tensor) -> Tensor:
        """Spikes of the hidden layer, (B, T, n), for events (B, T, n_in)."""
        given = F.linear(events, self.weight).unbind(1)  # (B, n) of every step
        alpha, beta = self.of_current.sigmoid(), self.of_potential.sigmoid()
        theta = events.new_ones(())
        state = self.neuron.initial(given[0], theta)
        current, spike, sent = torch.zeros_like(given[0]), torch.zeros_like(given[0]), []
        for now in given:
            current = alpha * current + now
            if self.recurrent:
                current = current + F.linear(spike, self.own)
            leaked = State(beta * state.potential, state.count)
            spike, state = self.neuron.step(leaked, current, theta)
            sent.append(spike)
        return torch.stack(sent, 1)

    def forward(self, clips: Tensor) -> Tensor:
        """Logits (B, classes); sets ``counts``, and ``rate``: mean spikes a neuron and step."""
        events, inside = lasting(clips)
        if self.training and self.drop:
            events = events * (torch.rand_like(events) >= self.drop)
        spikes = self.simulate(events) * inside[..., None]  # nothing counts after the end
        lengths = inside.sum(1, keepdim=True)  # (B, 1)
        mean = spikes.sum(1) / lengths.clamp_min(1)  # (B, n)
        self.rate = mean.mean()
        taken = (lengths.double().mean(), events.detach().sum((1, 2)).mean(),
                 spikes.detach().sum((1, 2)).mean())  # fmt: skip
        self.counts = Counts(*(float(value) for value in taken))
        found: Tensor = self.gain * F.linear(mean, self.out.weight) + self.out.bias
        return found

    def __getstate__(self) -> dict[str, Any]:
        """For copies: without the graph of the last pass."""
        return {**self.__dict__, "rate": self.rate.detach()}

    def cost(self, counts: Counts) -> Cost:
        """Of a recording: events and spikes at their synapses, two decays a neuron and step."""
        hidden, classes = self.own.shape[0], self.out.out_features
        reached = counts.spikes * (classes + hidden * self.recurrent)
        additions = counts.events * hidden + reached
        return Cost(additions, 2 * hidden * counts.steps, literature_energy(additions))


class LSTMReader(nn.Module):
    """An LSTM beside it: clips (B, 1, T, n_in + 1) → logits (B, classes) after the last step.

    Args:
        inputs: n_in.
        classes: that it answers with.
        hidden: units.
        events: what comes in are events: then products with the input are additions, where there
            is an event, and nothing elsewhere.
        front: from inputs (n, n_in) to (n, n_in), step by step; None: as they are.
    """

    def __init__(
        self, inputs: int, classes: int, hidden: int = 128, *, events: bool = False,
        front: nn.Module | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.events, self.front = events, front or nn.Identity()
        self.cell = nn.LSTM(inputs, hidden, batch_first=True)
        self.out = nn.Linear(hidden, classes)
        self.counts = Counts(0.0, 0.0, 0.0)

    def forward(self, clips: Tensor) -> Tensor:
        """Logits (B, classes); sets ``counts``."""
        x, inside = lasting(clips)
        lengths = inside.sum(1)
        came = float(x.detach().sum((1, 2)).mean()) if self.events else 0.0
        self.counts = Counts(float(lengths.double().mean()), came, 0.0)
        shaped = self.front(x.flatten(0, 1)).view_as(x)
        hidden, _ = self.cell(shaped)  # (B, T', hidden)
        last = hidden[torch.arange(len(x), device=x.device), lengths.clamp_min(1) - 1]
        found: Tensor = self.out(last)
        return found

    def cost(self, counts: Counts) -> Cost:
        """Of a recording: four gates a step, their products with the cell, one read-out."""
        hidden, inputs = self.cell.hidden_size, self.cell.input_size
        macs = counts.steps * (4 * hidden * hidden + 3 * hidden) + hidden * self.out.out_features
        additions = counts.events * 4 * hidden
        if not self.events:
            macs += counts.steps * 4 * hidden * inputs
        picojoule = MAC_PICOJOULE * macs + AC_PICOJOULE * additions
        return Cost(additions, macs, picojoule / 1000)
