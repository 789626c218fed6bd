"""A recurrent network that stops at its answers: sequences that have decided leave the batch.

::

    x_1 … x_T → encoder → LSTM, GRU or RNN → W h_t + b = z_t → first crossing t*

After each step (or block of them) the sequences whose output has crossed, or which have ended,
leave: their logits are kept, their rows dropped from the state, and the next step is computed for
the rest alone. That is one pass, in training too: what was never computed has no influence on
z_t*, so the gradients are those of the padded computation.

On a GPU a look at the outputs costs more than the steps of a few sequences. So there the blocks
become longer as the batch empties; answers and gradients are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from snnlib._arguments import real, whole
from snnlib.recurrent import crossing
from snnlib.recurrent.coding import Coding, Given

CELLS: dict[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
_State = Tensor | tuple[Tensor, Tensor]  # (layers, b, hidden), an LSTM has two


class Crossing(NamedTuple):
    """Where a batch of sequences was answered.

    Attributes:
        logits: at t*, shape (B, C).
        times: t*, int64 (B,), from 1.
        computed: steps computed, all sequences together.
    """

    logits: Tensor
    times: Tensor
    computed: int


class Recurrent(nn.Module):
    """Encoder, recurrent layers and a linear read-out.

    Args:
        inputs: numbers that the recurrent layer gets each step (of the encoder, where there is
            one; else frames are flattened).
        classes: at least 2; two classes share one output.
        hidden: units a layer.
        cell: ``"lstm"``, ``"gru"`` or ``"rnn"``.
        layers: recurrent layers.
        encoder: from frames (n, ...) to (n, inputs), frame by frame; no batch statistics, which
            would depend on which frames are skipped.
        coding: how x becomes a sequence; default: it is one, shape (B, T, ...).
        block: steps between two looks at the outputs. Up to block − 1 steps a sequence are computed
            in vain (on a GPU more), with fewer and larger products.

    Raises:
        ValueError: there is no such cell, a number is out of range, or batch statistics.
    """

    def __init__(
        self,
        inputs: int,
        classes: int,
        hidden: int = 125,
        *,
        cell: str = "lstm",
        layers: int = 1,
        encoder: nn.Module | None = None,
        coding: Coding | None = None,
        block: int = 1,
    ) -> None:
        super().__init__()
        if cell not in CELLS:
            raise ValueError(f"cell={cell!r} must be one of {', '.join(CELLS)}")
        counts = {"inputs": inputs, "hidden": hidden, "layers": layers, "block": block}
        for name, value in counts.items():
            whole(name, value)
        self.classes, self.block = whole("classes", classes, 2), block
        self.coding = coding or Given()
        self.encoder = encoder or nn.Flatten()
        norms = nn.modules.batchnorm._BatchNorm
        if any(isinstance(module, norms) for module in self.encoder.modules()):
            raise ValueError(
                "the encoder has batch norm, whose statistics would depend on which steps are "
                "skipped: use nn.GroupNorm or nn.LayerNorm"
            )
        self.cell = CELLS[cell](inputs, hidden, layers, batch_first=True)
        self.readout = nn.Linear(hidden, 1 if classes == 2 else classes)

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, threshold: float = 0.95
    ) -> Crossing:
        """Go through time until every sequence has been answered.

        Args:
            x: sequences (B, T, ...), or what the coding takes.
            lengths: steps of each, int64 (B,); default: all have T.
            threshold: p, 0…1.

        Raises:
            ValueError: x is empty, the lengths do not fit, or p is out of range.
        """
        real("threshold", threshold, 0.0, 1.0)
        ends = self.ends(x, lengths)
        held = self.coding.prepare(x)
        rows = torch.arange(len(held), device=held.device)
        state: _State | None = None
        found, order, times, start, computed = [], [], [], 0, 0
        while len(rows):
            ahead = self._stride(len(rows), len(held), held.is_cuda)
            stop = min(start + ahead, self.coding.steps(x))
            now = held if len(rows) == len(held) else held[rows]
            logits, state = self._advance(now, start, stop, state)  # (b, k, C)
            computed += logits.shape[0] * logits.shape[1]
            with torch.no_grad():
                steps = torch.arange(start + 1, start + 1 + logits.shape[1], device=held.device)
                done = crossing.sure(logits, threshold) | (steps >= ends[rows, None])  # (b, k)
                leaves, first = done.any(1), done.int().argmax(1)
                ranked = leaves.int().argsort(descending=True, stable=True)  # who leaves first
                gone, stay = ranked.tensor_split([int(leaves.sum())])
            if len(gone):
                found.append(logits[gone, first[gone]])
                order.append(rows[gone])
                times.append(first[gone] + start + 1)
                rows, state = rows[stay], _rows(state, stay)
            start = stop
        back = torch.cat(order).argsort()
        return Crossing(torch.cat(found)[back], torch.cat(times)[back], computed)

    def whole(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The logits after every step, nothing skipped: shape (B, T, C)."""
        ends = self.ends(x, lengths)
        longest = self.coding.steps(x) if lengths is None else int(ends.amax())
        return self._advance(self.coding.prepare(x), 0, longest, None)[0]

    def _stride(self, rows: int, batch: int, grows: bool) -> int:
        """Steps up to the next look: a block, or as many as have half the first block's frames."""
        return max(self.block, self.block * batch // (2 * rows)) if grows else self.block

    def ends(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """The last step of each sequence, int64 (B,).

        Raises:
            ValueError: there is no sequence, or a length that it cannot have.
        """
        if x.dim() < 2 or 0 in x.shape:
            raise ValueError(f"there is no step to compute in x of shape {tuple(x.shape)}")
        steps = self.coding.steps(x)
        if lengths is None:
            return torch.full((len(x),), steps, device=x.device)
        fits = lengths.shape == x.shape[:1] and not lengths.is_floating_point()
        if not fits or int(lengths.amin()) < 1 or int(lengths.amax()) > steps:
            raise ValueError(
                f"lengths must be {len(x)} whole numbers from 1 to {steps}, one a sequence, not "
                f"{lengths.dtype} of shape {tuple(lengths.shape)}"
                + (f" from {lengths.amin()} to {lengths.amax()}" if lengths.numel() else "")
            )
        return lengths.to(x.device)

    def _advance(
        self, held: Tensor, start: int, stop: int, state: _State | None
    ) -> tuple[Tensor, _State]:
        """Steps start + 1 … stop (or T): logits (b, k, C) and the state after them."""
        frames = self.coding.frames(held, start, stop)  # (b, k, ...)
        frames = frames.to(self.readout.weight.dtype)
        encoded = self.encoder(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        if encoded.shape[2:] != (self.cell.input_size,):
            raise ValueError(
                f"the recurrent layer was made for {self.cell.input_size} inputs a step and gets "
                f"{tuple(encoded.shape[2:])}: frames have shape {tuple(frames.shape[2:])}"
            )
        out, state = self.cell(encoded, state)  # (b, k, hidden)
        return self.readout(out), state


def _rows(state: _State, rows: Tensor) -> _State:
    """The state of some sequences: (layers, b, hidden), rows of b."""
    if isinstance(state, tuple):
        return state[0].index_select(1, rows), state[1].index_select(1, rows)
    return state.index_select(1, rows)  # contiguous, as a GPU's kernels want it
