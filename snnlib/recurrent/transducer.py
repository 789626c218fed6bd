"""A recurrent transducer: symbols come out while the sound still goes in.

::

    f_t = encoder(x_1 … x_t)                (B, T, hidden)    LSTM on groups of `stack` frames
    g_u = predictor(y_1 … y_u)              (B, U + 1, size)  LSTM on the symbols so far
    z_{t,u} = W tanh(E f_t + P g_u + b)     (B, T, U + 1, K)  joint network, K − 1 symbols and blank
    loss = −ln Σ over paths                 (B,)              `snnlib.recurrent.lattice`

Nothing looks ahead: f_t has heard what is in its own group and before. Which path to take, and so
when a symbol comes out, is left open by the loss. Hu et al. start from alignments, before the loss
of all paths goes on from there (`PRETRAINING`):

- *encoder*: each f_t names the symbol that is being said, by a linear layer of its own that is
  thrown away afterward;
- *path*: the whole network learns one path through the lattice, each symbol at the frame that the
  alignment says.

The paper's: both ideas. Ours: the cross-entropy of the second runs along the aligned path alone,
and a symbol is placed where its last sample is heard; the digits, which need no language model.

Decoding takes the most probable edge at each node (`greedy`), or keeps several strings and adds up
the paths that lead to the same one (`beam`).

Source: Hu, Zhao, Li, Lu and Gong, *Exploring Pre-training with Alignments for RNN Transducer Based
End-to-End Speech Recognition*, ICASSP 2020 (arXiv:2005.00572). The transducer: Graves, 2012.
Derived in chapter *Emitting as you listen*.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnlib._arguments import whole
from snnlib.recurrent.lattice import path_loss, transducer_loss
from snnlib.recurrent.strings import Strings, emitted, frame_labels

PRETRAINING = ("encoder", "path")
OBJECTIVES = (*PRETRAINING, "transducer")
PER_GROUP = 3  # symbols that may come out in one group of frames, at most

_State = tuple[Tensor, Tensor]  # of the predictor, (1, n, size) each


class Emission(NamedTuple):
    """What came out of one string.

    Attributes:
        symbols: one after the other.
        groups: the group of frames in which each came out, from 0.
    """

    symbols: tuple[int, ...]
    groups: tuple[int, ...]


class Transducer(nn.Module):
    """Encoder, predictor and joint network.

    Args:
        features: numbers a frame.
        symbols: without the blank, which gets the last index.
        hidden: units of the encoder's LSTM.
        stack: frames a group.
        predictor: units of the predictor's LSTM.
        joint: units of the joint network.
        front: from frames (n, features) to (n, features), frame by frame; None: as they are.

    Raises:
        ValueError: a number is no whole number of at least 1.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> net = Transducer(features=40, symbols=10, hidden=16)
        >>> sound, frames = torch.randn(2, 31, 40), torch.tensor([31, 20])
        >>> net(sound, torch.zeros(2, 3, dtype=torch.int64)).shape  # 10 groups, up to 3 out
        torch.Size([2, 10, 4, 11])
        >>> [len(emission.symbols) <= 30 for emission in net.greedy(sound, frames)]
        [True, True]
    """

    def __init__(
        self,
        features: int,
        symbols: int,
        hidden: int = 128,
        *,
        stack: int = 3,
        predictor: int = 32,
        joint: int = 64,
        front: nn.Module | None = None,
    ) -> None:
        super().__init__()
        sizes = {"features": features, "symbols": symbols, "hidden": hidden, "stack": stack}
        for name, value in {**sizes, "predictor": predictor, "joint": joint}.items():
            whole(f"Transducer: {name}", value)
        self.blank, self.stack = symbols, stack
        self.front = front or nn.Identity()
        self.encoder = nn.LSTM(features * stack, hidden, batch_first=True)
        self.embedding = nn.Embedding(symbols + 1, predictor)  # the last one stands for the start
        self.predictor = nn.LSTM(predictor, predictor, batch_first=True)
        self.of_sound = nn.Linear(hidden, joint)
        self.of_symbols = nn.Linear(predictor, joint, bias=False)
        self.out = nn.Linear(joint, symbols + 1)
        self.namer = nn.Linear(hidden, symbols + 1)  # of encoder pre-training alone

    def encode(self, sound: Tensor) -> Tensor:
        """(B, frames, features) → f (B, T, hidden), T = frames // stack.

        Raises:
            ValueError: another shape, or there is not one group of frames.
        """
        groups = sound.shape[1] // self.stack if sound.dim() == 3 else 0
        if not groups:
            raise ValueError(f"sound of shape {tuple(sound.shape)} has no {self.stack} frames")
        kept = sound[:, : groups * self.stack]
        flat = self.front(kept.flatten(0, 1)).view(len(sound), groups, -1)  # (B, T, stack · F)
        found: Tensor = self.encoder(flat)[0]
        return found

    def predict(self, targets: Tensor, state: _State | None = None) -> tuple[Tensor, _State]:
        """Symbols (n, U) → what is expected after each, (n, U, size), and the state after all."""
        found: tuple[Tensor, _State] = self.predictor(self.embedding(targets), state)
        return found

    def join(self, f: Tensor, g: Tensor) -> Tensor:
        """z of nodes, for f and g whose shapes but the last go together."""
        found: Tensor = self.out(torch.tanh(self.of_sound(f) + self.of_symbols(g)))
        return found

    def forward(self, sound: Tensor, targets: Tensor) -> Tensor:
        """z of the whole lattice, (B, T, U + 1, K), for sound (B, frames, F), targets (B, U)."""
        f = self.encode(sound)
        g, _ = self.predict(F.pad(targets, (1, 0), value=self.blank))  # (B, U + 1, size)
        return self.join(f[:, :, None], g[:, None])

    def loss(self, strings: Strings, objective: str = "transducer") -> Tensor:
        """The mean loss of a batch, in nats: of a string, or of a group of frames (``encoder``).

        Raises:
            ValueError: there is no such objective.
        """
        if objective not in OBJECTIVES:
            raise ValueError(f"objective={objective!r} must be one of {', '.join(OBJECTIVES)}")
        device = self.out.weight.device
        sound, groups = strings.values.to(device), (strings.frames // self.stack).to(device)
        if objective == "encoder":
            named = self.namer(self.encode(sound))  # (B, T, K)
            inside = torch.arange(named.shape[1], device=device) < groups[:, None]
            goals = frame_labels(strings, self.stack).to(device)
            return F.cross_entropy(named[inside], goals[inside])
        targets, lengths = strings.digits.to(device), strings.lengths.to(device)
        targets = targets[:, : int(lengths.max())]
        z = self(sound, targets)
        if objective == "transducer":
            return transducer_loss(z, targets, groups, lengths).mean()
        at = emitted(strings, self.stack)[:, : targets.shape[1]].to(device)
        return path_loss(z, targets, at, groups, lengths).mean()

    @torch.no_grad()
    def greedy(self, sound: Tensor, frames: Tensor) -> list[Emission]:
        """At each node the most probable edge, at most `PER_GROUP` symbols a group.

        Args:
            sound: (B, frames, features).
            frames: of each, int64 (B,).
        """
        f = self.of_sound(self.encode(sound))  # (B, T, joint)
        rows, groups = len(f), (frames // self.stack).to(f.device)
        start = torch.full((rows, 1), self.blank, device=f.device)
        g, state = self.predict(start)  # (B, 1, size)
        symbols: list[list[int]] = [[] for _ in range(rows)]
        times: list[list[int]] = [[] for _ in range(rows)]
        for t in range(f.shape[1]):
            going = t < groups  # (B,): neither ended nor done with this group
            for _ in range(PER_GROUP):
                best = self.out(torch.tanh(f[:, t] + self.of_symbols(g[:, 0]))).argmax(1)
                going = going & (best != self.blank)
                if not going.any():
                    break
                moved, after = self.predict(torch.where(going, best, self.blank)[:, None], state)
                g = torch.where(going[:, None, None], moved, g)
                state = tuple(  # type: ignore[assignment]
                    torch.where(going[:, None], *pair) for pair in zip(after, state, strict=True)
                )
                for row in going.nonzero()[:, 0].tolist():
                    symbols[row].append(int(best[row]))
                    times[row].append(t)
        return [Emission(tuple(s), tuple(t)) for s, t in zip(symbols, times, strict=True)]

    @torch.no_grad()
    def beam(self, sound: Tensor, frames: Tensor, width: int = 4) -> list[Emission]:
        """The most probable of the strings that a beam of this width keeps.

        Paths that lead to the same string are added up, at most `PER_GROUP` symbols a group; a
        string's times are those of the way on which it was found first.
        """
        whole("width", width)
        f = self.of_sound(self.encode(sound))
        ends = (frames // self.stack).tolist()
        return [self._search(one[:end], width)[0][0] for one, end in zip(f, ends, strict=True)]

    def _search(self, f: Tensor, width: int) -> list[tuple[Emission, float]]:
        """Strings and ln P of each after all groups, best first; f is (T, joint), E f_t + b."""
        known: dict[tuple[int, ...], tuple[Tensor, _State]] = {}
        begin = self.predict(torch.tensor([[self.blank]], device=f.device))
        known[()] = self.of_symbols(begin[0][0, 0]), begin[1]

        def expected(string: tuple[int, ...]) -> Tensor:
            if string not in known:
                last = torch.tensor([[string[-1]]], device=f.device)
                g, state = self.predict(last, known[string[:-1]][1])
                known[string] = self.of_symbols(g[0, 0]), state
            return known[string][0]

        kept: dict[tuple[int, ...], float] = {(): 0.0}
        times: dict[tuple[int, ...], tuple[int, ...]] = {(): ()}
        for t, sound in enumerate(f):
            here, after = kept, dict[tuple[int, ...], float]()
            for count in range(PER_GROUP + 1):
                g = torch.stack([expected(string) for string in here])  # (n, joint)
                scores = self.out(torch.tanh(sound + g)).log_softmax(1).tolist()
                longer: dict[tuple[int, ...], float] = {}
                for (string, score), row in zip(here.items(), scores, strict=True):
                    _add(after, string, score + row[self.blank])
                    if count < PER_GROUP:
                        for symbol in range(self.blank):
                            _add(longer, (*string, symbol), score + row[symbol])
                here = _best(longer, width)
                for string in here:
                    times.setdefault(string, (*times[string[:-1]], t))
                if not here:
                    break
            kept = _best(after, width)
        return [(Emission(string, times[string]), score) for string, score in kept.items()]


def _add(scores: dict[tuple[int, ...], float], string: tuple[int, ...], score: float) -> None:
    """ln (P + p) in the place of ln P."""
    held = scores.get(string, -torch.inf)
    high, low = max(held, score), min(held, score)
    scores[string] = high + math.log1p(math.exp(low - high))


def _best(scores: dict[tuple[int, ...], float], width: int) -> dict[tuple[int, ...], float]:
    """The most probable strings, best first; of equals the one found first."""
    return dict(sorted(scores.items(), key=lambda pair: -pair[1])[:width])
