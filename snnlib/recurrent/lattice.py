"""The lattice of a transducer: all ways in which symbols can come out while frames go in.

At node (t, u) frame t is heard and u symbols are out. A *blank* leads on to frame t + 1, the next
symbol to (t, u + 1); a path ends when the last frame is left with all U symbols out::

    α(0, 0) = 1
    α(t, u) = α(t−1, u) · blank(t−1, u) + α(t, u−1) · symbol(t, u−1)
    P(y) = α(T, U) = Σ over all paths,        loss = −ln P(y)

Nodes with the same t + u do not depend on each other, so a diagonal is computed at once (in
logarithms): T + U steps instead of T · U. The gradient needs no autograd through them. With β, the
same sum from the end, the probability that a path takes an edge, given y, is

    q(edge from n to m) = α(n) · edge · β(m) / P(y) = −∂ loss / ∂ ln edge.

Every path crosses every diagonal once, so the q of the edges that leave a diagonal sum to 1.

Source: Graves, *Sequence Transduction with Recurrent Neural Networks*, arXiv:1211.3711, 2012.
Derived in chapter *Emitting as you listen*.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor


def transducer_loss(logits: Tensor, targets: Tensor, frames: Tensor, lengths: Tensor) -> Tensor:
    """−ln P(y) of every sequence, in nats: shape (B,).

    Args:
        logits: of every node, (B, T, U + 1, K); the last of the K symbols is the blank.
        targets: y, int64 (B, U); what is beyond a sequence's length does not count.
        frames: frames of each sequence, int64 (B,), 1…T.
        lengths: symbols of each, int64 (B,), 0…U.

    Raises:
        ValueError: shapes do not go together, or a number is out of range.

    Example:
        >>> flat = torch.zeros(1, 2, 2, 2)  # two frames, one symbol, every edge ½
        >>> one = torch.tensor([1])
        >>> loss = transducer_loss(flat, torch.tensor([[0]]), 2 * one, one)
        >>> loss.exp().reciprocal().tolist()  # two paths of three edges
        [0.25]
    """
    blank, symbol = edges(logits, targets, frames, lengths)
    return cast(Tensor, _Lattice.apply(blank, symbol, frames, lengths))


def path_loss(
    logits: Tensor, targets: Tensor, emitted: Tensor, frames: Tensor, lengths: Tensor
) -> Tensor:
    """−ln of the probability of one path, in nats: shape (B,).

    Args:
        logits: as for `transducer_loss`, like the others.
        targets: y, (B, U).
        emitted: the frame at which each symbol comes out, from 0, never falling: int64 (B, U).
        frames: (B,).
        lengths: (B,).

    Raises:
        ValueError: as `transducer_loss`.
    """
    blank, symbol = edges(logits, targets, frames, lengths)
    steps = torch.arange(logits.shape[1], device=logits.device)
    there = torch.arange(targets.shape[1], device=logits.device) < lengths[:, None]  # (B, U)
    out = (emitted[:, None] <= steps[:, None]) & there[:, None]  # (B, T, U)
    blanks = blank.gather(2, out.sum(2, keepdim=True))[..., 0]  # (B, T): left with so many out
    blanks = blanks.masked_fill(steps >= frames[:, None], 0)
    symbols = symbol[:, :, :-1].gather(1, emitted.clamp(0, len(steps) - 1)[:, None])[:, 0]  # (B, U)
    return -blanks.sum(1) - symbols.masked_fill(~there, 0).sum(1)


def emission_posterior(logits: Tensor, targets: Tensor, frames: Tensor, lengths: Tensor) -> Tensor:
    """q of the symbols' edges: how likely symbol u comes out at frame t, given y: (B, T, U).

    Arguments as for `transducer_loss`. Over a sequence's frames each of its symbols sums to 1.
    """
    with torch.enable_grad():
        found = [part.detach() for part in edges(logits, targets, frames, lengths)]
        symbol = found[1].requires_grad_()
        loss = cast(Tensor, _Lattice.apply(found[0], symbol, frames, lengths))
        return -torch.autograd.grad(loss.sum(), symbol)[0][:, :, :-1]


def edges(
    logits: Tensor, targets: Tensor, frames: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """Logarithms of the edges' probabilities, blank and next symbol: (B, T, U + 1) each.

    Edges that a sequence does not have are −∞.
    """
    _check(logits, targets, frames, lengths)
    scores = F.log_softmax(logits, -1)
    nodes, blanks = logits.shape[1:3], logits.shape[3] - 1
    steps = torch.arange(nodes[0], device=logits.device)[:, None]  # (T, 1)
    out = torch.arange(nodes[1], device=logits.device)  # (U + 1,)
    ends, most = frames[:, None, None], lengths[:, None, None]
    there = torch.where(out[:-1] < lengths[:, None], targets, 0)
    index = F.pad(there, (0, 1))[:, None, :, None]  # (B, 1, U + 1, 1)
    symbol = scores.gather(3, index.expand(-1, nodes[0], -1, -1))[..., 0]
    blank = scores[..., blanks].masked_fill((steps >= ends) | (out > most), -torch.inf)
    return blank, symbol.masked_fill((steps >= ends) | (out >= most), -torch.inf)


def _check(logits: Tensor, targets: Tensor, frames: Tensor, lengths: Tensor) -> None:
    if logits.dim() != 4 or 0 in logits.shape:
        raise ValueError(f"logits must be (B, T, U + 1, K), not {tuple(logits.shape)}")
    batch, steps, nodes, symbols = logits.shape
    if targets.shape != (batch, nodes - 1):
        raise ValueError(f"targets must be ({batch}, {nodes - 1}), not {tuple(targets.shape)}")
    for name, value, least, most in (
        ("frames", frames, 1, steps),
        ("lengths", lengths, 0, nodes - 1),
    ):
        if value.shape != (batch,) or int(value.min()) < least or int(value.max()) > most:
            raise ValueError(f"{name} must be {batch} whole numbers from {least} to {most}")
    there = torch.arange(nodes - 1, device=targets.device) < lengths[:, None]
    wrong = there & ((targets < 0) | (targets >= symbols - 1))
    if bool(wrong.any()):
        raise ValueError(f"targets must lie in 0…{symbols - 2}: the last symbol is the blank")


class _Lattice(torch.autograd.Function):
    """−ln P(y) from the edges; backward −q of every edge."""

    @staticmethod
    def forward(ctx: Any, blank: Tensor, symbol: Tensor, frames: Tensor, lengths: Tensor) -> Tensor:
        blanks, symbols = _skewed(blank), _skewed(symbol)  # (D, B, U + 1)
        rows, ends = torch.arange(len(frames), device=frames.device), frames + lengths
        alpha = torch.full_like(blanks[0], -torch.inf)
        alpha[:, 0] = 0
        alphas = [alpha]
        for stay, move in zip(blanks, symbols, strict=True):
            moved = F.pad((alpha + move)[:, :-1], (1, 0), value=-torch.inf)
            alpha = torch.logaddexp(alpha + stay, moved)  # (B, U + 1)
            alphas.append(alpha)
        whole = torch.stack(alphas)  # (D + 1, B, U + 1)
        total = whole[ends, rows, lengths]
        ctx.save_for_backward(blanks, symbols, whole, total, ends, lengths)
        return -total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        blanks, symbols, alphas, total, ends, lengths = ctx.saved_tensors
        start = torch.full_like(alphas[0], -torch.inf).scatter(1, lengths[:, None], 0.0)
        beta = torch.where(ends[:, None] == len(blanks), start, -torch.inf)
        for_blank, for_symbol = torch.empty_like(blanks), torch.empty_like(symbols)
        for d in reversed(range(len(blanks))):
            ahead = F.pad(beta[:, 1:], (0, 1), value=-torch.inf)
            stay, move = blanks[d] + beta, symbols[d] + ahead
            known = alphas[d] - total[:, None]
            torch.exp(known + stay, out=for_blank[d])
            torch.exp(known + move, out=for_symbol[d])
            beta = torch.where(ends[:, None] == d, start, torch.logaddexp(stay, move))
        scale = -gradients[0][:, None, None]
        return scale * _straight(for_blank), scale * _straight(for_symbol), None, None


def _skewed(x: Tensor) -> Tensor:
    """(B, T, U + 1) → (T + U, B, U + 1): row d holds the nodes with t + u = d, −∞ beyond."""
    steps, nodes = x.shape[1:]
    out = torch.arange(nodes, device=x.device)
    t = torch.arange(steps + nodes - 1, device=x.device)[:, None] - out  # (D, U + 1)
    outside = (t < 0) | (t >= steps)
    found = x[:, t.clamp(0, steps - 1), out].masked_fill(outside, -torch.inf)
    return found.transpose(0, 1).contiguous()


def _straight(x: Tensor) -> Tensor:
    """(T + U, B, U + 1) → (B, T, U + 1): the way back."""
    nodes = x.shape[2]
    out = torch.arange(nodes, device=x.device)
    steps = torch.arange(x.shape[0] - nodes + 1, device=x.device)[:, None]
    return x.transpose(0, 1)[:, steps + out, out]
