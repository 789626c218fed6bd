"""`RankCoder`: a recurrent network trained to answer as soon as it is sure.

What is the paper's: the first crossing, the loss there alone, the intensity bins. What is ours:
leaving the batch at t*, logits in the loss, the form of the entropy reward, thresholds that rise,
the warm start.

Source: Jeffares, Guo, Stenetorp and Moraitis, ICLR 2022 (arXiv 2110.02865).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from snnlib._arguments import whole
from snnlib.recurrent import crossing
from snnlib.recurrent.network import Recurrent
from snnlib.recurrent.training import Epoch, Recipe, fit
from snnlib.zoo.sequences import Sequences


class Decisions(NamedTuple):
    """What was answered and when.

    Attributes:
        answers: classes, int64 (B,).
        times: t*, from 1, int64 (B,).
    """

    answers: Tensor
    times: Tensor


class RankCoder(Recurrent):
    """A recurrent network that answers at its first crossing (`snnlib.recurrent.crossing`).

    >>> _ = torch.manual_seed(0)
    >>> coder = RankCoder(inputs=3, classes=4, hidden=8)
    >>> answers, times = coder.decide(torch.randn(5, 7, 3), threshold=0.9)
    >>> times.tolist()  # untrained, it is never sure
    [7, 7, 7, 7, 7]

    It takes the arguments of `snnlib.recurrent.network.Recurrent`.
    """

    def fit(
        self,
        train: Sequences,
        recipe: Recipe | None = None,
        *,
        state: str | Path | None = None,
        device: torch.device | str | None = None,
        progress: bool = False,
    ) -> list[Epoch]:
        """Train from the weights that there are; a second call goes on with another recipe.

        Args:
            train: the sequences.
            recipe: how; default: `Recipe()`, rank coding.
            state: a file to keep the run in after every epoch, and to take it up from.
            device: where; default: where the network is.
            progress: show a progress bar.

        Returns:
            What each epoch left.

        Raises:
            ValueError: nothing to train on, other classes, augmentation of what are no images; or
                the state is of another run.
            CheckpointError: the state file cannot be written.
        """
        return fit(self, train, recipe or Recipe(), state=state, device=device, progress=progress)

    @torch.no_grad()
    def decide(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        threshold: float = 0.95,
        *,
        batch: int = 500,
    ) -> Decisions:
        """Answer each sequence at its first crossing; what comes after it is not computed.

        Args:
            x: sequences (B, T, ...), or what the coding takes.
            lengths: steps of each, int64 (B,); default: T.
            threshold: p, 0…1; read at no less than it was trained with, where answers must be good.
            batch: sequences at a time.

        Raises:
            ValueError: x or the lengths do not fit, or the threshold is out of range.
        """
        found = [self(*part, threshold) for part in self._parts(x, lengths, batch)]
        if not found:
            raise ValueError("there is no sequence to answer")
        answers = [crossing.answer(part.logits) for part in found]
        return Decisions(torch.cat(answers), torch.cat([part.times for part in found]))

    @torch.no_grad()
    def outputs(self, x: Tensor, lengths: Tensor | None = None, *, batch: int = 500) -> Tensor:
        """The logits after every step, nothing skipped: (B, T, C), zeros after a sequence's end.

        Raises:
            ValueError: there is no sequence.
        """
        if not len(x):
            raise ValueError("outputs: there is no sequence")
        found = [self.whole(*part) for part in self._parts(x, lengths, batch)]
        longest = max(part.shape[1] for part in found)
        room = found[0].new_zeros(len(x), longest, found[0].shape[2])
        for part, start in zip(found, range(0, len(x), batch), strict=True):
            room[start : start + batch, : part.shape[1]] = part
        if lengths is not None:
            steps = torch.arange(longest, device=room.device)
            room[steps >= lengths.to(room.device)[:, None]] = 0
        return room

    def _parts(
        self, x: Tensor, lengths: Tensor | None, batch: int
    ) -> list[tuple[Tensor, Tensor | None]]:
        """Batches on the network's device, in eval mode from here on."""
        whole("batch", batch)
        self.eval()
        device = self.readout.weight.device
        if lengths is not None and len(lengths) != len(x):
            raise ValueError(f"{len(lengths)} lengths for {len(x)} sequences")
        return [
            (
                x[start : start + batch].to(device),
                None if lengths is None else lengths[start : start + batch].to(device),
            )
            for start in range(0, len(x), batch)
        ]
