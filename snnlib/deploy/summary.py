"""`net.summary()`: the network as a table that fits a terminal."""

from __future__ import annotations

import shutil

from torch import Tensor

from snnlib.graph.network import Network

_HEAD = ("layer", "operation", "output", "neurons", "weights", "threshold")


def summary(net: Network, width: int | None = None) -> str:
    """Every weighted, spiking and max-pooling layer, with output shape, size and threshold.

    Args:
        net: the network.
        width: columns to fit into, at least 80; the terminal's (80 to 100) by default.
    """
    if width is None:
        width = min(100, max(80, shutil.get_terminal_size((80, 24)).columns))
    if width < 80:
        raise ValueError(f"width={width!r} must be at least 80 columns")
    rows = [_HEAD]
    weights = 0
    for node in net.graph:
        held = sum(tensor.numel() for tensor in node.tensors.values())
        weights += held
        if node.kind == "pass" and node.op != "input":
            continue
        spiking = node.kind == "spiking"
        shape = "×".join(str(n) for n in net.graph.shapes[node.name])
        rows.append((
            node.name, net.neurons[node.name].kind if spiking else node.op, shape,
            f"{net.sizes[node.name]:,}" if spiking else "", f"{held:,}" if held else "",
            _threshold(net.thresholds[node.name]) if spiking else "",
        ))  # fmt: skip
    sizes = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    spare = width - sum(sizes[1:]) - 2 * (len(sizes) - 1)
    sizes[0] = min(sizes[0], max(spare, 8))
    lines = [
        "  ".join(
            _shorten(cell, size).rjust(size) if i > 2 else _shorten(cell, size).ljust(size)
            for i, (cell, size) in enumerate(zip(row, sizes, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "─" * min(width, sum(sizes) + 2 * (len(sizes) - 1)))
    told = {key: value for key, value in net.report.items() if not isinstance(value, list | dict)}
    how = ", ".join(f"{key} {value}" for key, value in told.items())
    total = f"{sum(net.sizes.values()):,} neurons, {weights:,} weights, {net.dtype}, {net.device}"
    tail = [repr(net.neuron), total, how, *net.graph.notes[:0]]
    dropped = [note for note in net.graph.notes if "dropped" in note]
    return "\n".join([*lines, lines[1], *(_shorten(text, width) for text in (*tail, *dropped))])


def _threshold(theta: Tensor) -> str:
    low, high = float(theta.min()), float(theta.max())
    return f"{low:.4g}" if theta.numel() == 1 else f"{low:.3g}…{high:.3g}"


def _shorten(text: str, size: int) -> str:
    """Cut the middle out of what is too long: both ends of a layer's name matter."""
    if len(text) <= size:
        return text
    keep = size - 1
    return text[: keep // 2] + "…" + text[len(text) - (keep - keep // 2) :]
