"""AEGNN, the network: splines on edges, two residuals, a max-pooling; trained on whole graphs.

Two levels, two convolutions on each (`snnlib.events.graph` has nodes, edges and cells)::

    events:  h1 = B(p)    h2 = B(h1) + h1          p: polarity of each event, ±1
    cells:   g0 = max of h2 over a cell's events
             g1 = B(g0)   g2 = B(g1) + g1
    answer:  linear of the maxima of g2 over a grid of places; a place without a node is 0

``B`` is convolution, ELU, batch normalization. The **convolution** weighs a neighbor by where it
lies, e in [0, 1]³ (column, row, time), with a matrix that is interpolated between K corners::

    conv(x)ᵢ = mean over j in N(i) of  Σ_k b_k(e_ij) W_k xⱼ   +   R xᵢ + bias    b_k ≥ 0, sum 1

This is SplineConv (Fey and others, CVPR 2018) of degree 1 with m knots a side, K = m³. The mean
of b_k xⱼ is taken first, by PyTorch Geometric, and multiplied by W then: the same by linearity, and
no compiled extension is needed.

Schaefer, Gehrig and Scaramuzza, *AEGNN: Asynchronous Event-Based Graph Neural Networks*, CVPR 2022:
splines, ELU, batch normalization, residuals, pooling, linear. Sizes, neighbors (`graph`), cells
that stay in place, and R and bias in what runs event by event (`asynchronous`) are ours. Chapter
*One event at a time*.

Needs PyTorch Geometric: ``pip install 'snnlib[events]'``; nothing else in this package imports it.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnlib._arguments import whole
from snnlib.events.graph import Rule, edges
from snnlib.zoo.event_files import Recordings

try:
    from torch_geometric.data import Data
    from torch_geometric.nn import MessagePassing
    from torch_geometric.utils import scatter
except ImportError as error:
    raise ImportError(
        "snnlib.events.aegnn needs PyTorch Geometric: pip install 'snnlib[events]'"
    ) from error

KNOTS = 2  # a side: with 8 matrices an edge, weights are linear between the corners of the cube


def basis(e: Tensor, knots: int = KNOTS) -> Tensor:
    """b_k of places e (E, 3) in [0, 1]³: (E, knots³); at least 0, with sum 1."""
    corner = torch.arange(knots, dtype=e.dtype, device=e.device)
    hats = (1 - (e[..., None] * (knots - 1) - corner).abs()).clamp_min(0)  # (E, 3, knots)
    x, y, t = hats.unbind(1)
    return (x[:, :, None, None] * y[:, None, :, None] * t[:, None, None, :]).flatten(1)


def graph(recordings: Recordings, rule: Rule, dtype: torch.dtype = torch.float32) -> Data:
    """One graph of all events of some recordings, with its cells.

    Returns:
        ``x`` (n, 1) polarity, ``edge_index`` (2, E), ``edge_attr`` (E, 3) where sources lie,
        ``cell`` (n,) of each event; ``cells`` (m, 4): recording, column, row and span of each cell,
        ``cell_edges`` (2, E'), ``cell_attr`` (E', 3); ``y`` (N,) labels.
    """
    found = edges(recordings, rule)
    t = recordings.t.astype(np.float64)
    at = np.stack([recordings.x, recordings.y, t], axis=1)  # (n, 3)
    own = rule.cells(recordings.x, recordings.y, t)
    recording = np.repeat(np.arange(len(recordings)), recordings.counts)
    keyed = np.c_[recording, own]  # (n, 4)
    sides = tuple(keyed.max(0, initial=0) + 1)
    flat, cell = np.unique(np.ravel_multi_index(tuple(keyed.T), sides), return_inverse=True)
    cells = np.stack(np.unravel_index(flat, sides), axis=1)  # (m, 4)
    joined = np.unique(cell[found[0]] * len(cells) + cell[found[1]])
    pairs = np.stack([joined // max(len(cells), 1), joined % max(len(cells), 1)])
    pairs = pairs[:, pairs[0] != pairs[1]]

    def floats(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(dtype)

    return Data(
        x=floats(recordings.p.astype(np.float64))[:, None],
        edge_index=torch.from_numpy(np.ascontiguousarray(found)),
        edge_attr=floats(rule.between(at[found[0]], at[found[1]])),
        cell=torch.from_numpy(cell),
        cells=torch.from_numpy(cells),
        cell_edges=torch.from_numpy(np.ascontiguousarray(pairs)),
        cell_attr=floats(rule.between_cells(cells[pairs[0], 1:], cells[pairs[1], 1:])),
        y=torch.from_numpy(recordings.labels),
    )


class SplineConvolution(MessagePassing):
    """The convolution above: x (n, C), edges, b (E, K) → (n, C')."""

    def __init__(self, inputs: int, outputs: int, knots: int = KNOTS) -> None:
        super().__init__(aggr="mean")
        self.lin = nn.Linear(knots**3 * inputs, outputs, bias=False)  # all W_k
        self.root = nn.Linear(inputs, outputs)  # R and bias

    def forward(self, x: Tensor, edge_index: Tensor, b: Tensor) -> Tensor:
        """Every node hears its neighbors and itself."""
        heard = self.propagate(edge_index, x=x, b=b)  # (n, K C)
        found: Tensor = self.lin(heard) + self.root(x)
        return found

    def message(self, x_j: Tensor, b: Tensor) -> Tensor:
        """b_k xⱼ, (E, K C)."""
        return (b[:, :, None] * x_j[:, None]).flatten(1)


class Block(nn.Module):
    """Convolution, ELU, batch normalization."""

    def __init__(self, inputs: int, outputs: int, knots: int = KNOTS) -> None:
        super().__init__()
        self.conv = SplineConvolution(inputs, outputs, knots)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor, edge_index: Tensor, b: Tensor) -> Tensor:
        """(n, C) → (n, C')."""
        found: Tensor = self.norm(F.elu(self.conv(x, edge_index, b)))
        return found


class AEGNN(nn.Module):
    """The network: a graph of recordings → logits (N, classes).

    Args:
        size: width and height of the sensor.
        classes: that it answers with.
        rule: which events are neighbors, and the cells.
        widths: channels of events and of cells.
        grid: places a side of the answer.
        knots: a side, of splines.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(
        self, size: tuple[int, int], classes: int, rule: Rule, *,
        widths: tuple[int, int] = (16, 32), grid: int = 4, knots: int = KNOTS,
    ) -> None:  # fmt: skip
        super().__init__()
        first, second = (whole("widths", width) for width in widths)
        self.size, self.rule, self.grid = size, rule, whole("grid", grid)
        self.knots = whole("knots", knots, 2)
        self.events = nn.ModuleList([Block(1, first, knots), Block(first, first, knots)])
        self.cells = nn.ModuleList([Block(first, second, knots), Block(second, second, knots)])
        self.out = nn.Linear(second * grid * grid, classes)

    def places(self, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Where in the grid of the answer cells lie, 0 to grid² − 1."""
        across, down = (-(-n // self.rule.side) for n in self.size)  # cells
        found: np.ndarray = rows * self.grid // down * self.grid + columns * self.grid // across
        return found

    def forward(self, data: Data) -> Tensor:
        """Logits of each recording of `graph`; one without an event answers by the bias."""
        b = basis(data.edge_attr, self.knots)
        h = self.events[0](data.x, data.edge_index, b)
        h = self.events[1](h, data.edge_index, b) + h
        g = scatter(h, data.cell, dim=0, dim_size=len(data.cells), reduce="max")
        b = basis(data.cell_attr, self.knots)
        g = self.cells[0](g, data.cell_edges, b)
        g = self.cells[1](g, data.cell_edges, b) + g
        recording, columns, rows, _ = data.cells.numpy().T
        places = recording * self.grid**2 + self.places(columns, rows)
        held = scatter(
            g, torch.from_numpy(places), dim=0, dim_size=len(data.y) * self.grid**2, reduce="max"
        )
        found: Tensor = self.out(held.view(len(data.y), -1))
        return found
