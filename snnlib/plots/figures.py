"""The book's figures: accuracy over time, rasters, membrane potentials, layer errors.

Each draws into axes of the caller, in the style of `snnlib.plots.style`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from snnlib.plots.style import (
    EXTRA,
    GRID,
    INK,
    METHODS,
    NEGATIVE,
    POSITIVE,
    Look,
    current_mode,
    look,
    shades,
)  # fmt: skip

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike


class Report(Protocol):
    """What ``net.verify`` returns: steps, and of each layer name, error and parts by name."""

    steps: Sequence[int]
    layers: Sequence[Any]


def accuracy_over_time(
    ax: Axes,
    steps: ArrayLike,
    curves: Mapping[str, ArrayLike],
    ann: float | None = None,
    *,
    percent: bool = True,
) -> Axes:
    """Accuracy after every time step, one curve a method, the ANN as a dashed line.

    Args:
        ax: axes to draw on.
        steps: (T,) time steps, starting at 1.
        curves: label → (T,) accuracies as fractions; nan (no answer yet) is not drawn. A label that
            starts with ``IF``, ``TerMapping`` or ``AugMapping`` takes that method's color and
            marker. A shorter curve is drawn over the first steps. Two labels of one method differ
            in line style.
        ann: accuracy of the ANN as a fraction.
        percent: write the axis in percent.

    Raises:
        ValueError: if a curve is longer than ``steps`` or lies outside 0…1.
    """
    mode, times = current_mode(), np.asarray(steps)
    scale = 100.0 if percent else 1.0
    seen: dict[str, int] = {}
    extra = 0
    for number, (label, values) in enumerate(curves.items()):
        y = np.asarray(values, dtype=float)
        if y.ndim != 1 or len(y) > len(times):
            raise ValueError(
                f"curve {label!r} has shape {y.shape}, but there are {len(times)} steps"
            )
        known = y[~np.isnan(y)]
        if known.size and not (known.min() >= 0 and known.max() <= 1):
            raise ValueError(
                f"curve {label!r} is not a fraction: {known.min():g} … {known.max():g}"
            )
        try:
            drawn = look(label)
        except KeyError:
            drawn, extra = EXTRA[extra % len(EXTRA)], extra + 1
        line = ("-", ":", "-.")[seen.get(drawn.light, 0) % 3]
        seen[drawn.light] = seen.get(drawn.light, 0) + 1
        ax.plot(
            times[: len(y)],
            scale * y,
            line,
            color=drawn.color(mode),
            marker=drawn.marker,
            markevery=_marked(times, len(y)),
            linewidth=max(1.6, 3.2 - 0.6 * number),  # where curves coincide, all stay visible
            label=label,
        )
    if ann is not None:
        drawn = METHODS["ANN"]
        ax.axhline(scale * ann, color=drawn.color(mode), linestyle=drawn.line, label="ANN")
    _step_axis(ax, times)
    ax.set_ylabel("accuracy (%)" if percent else "accuracy")
    ax.legend(loc="lower right")
    return ax


def _marked(times: np.ndarray, length: int) -> list[int]:
    """Which of a curve's steps get a marker: all of a few, doublings of many."""
    if len(times) <= 16:
        return list(range(length))
    return [int(i) for i in np.flatnonzero(np.isin(times[:length], 2 ** np.arange(20)))]


def _step_axis(ax: Axes, times: np.ndarray) -> None:
    """Label the axis of time steps; doublings once there are more than sixteen of them."""
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, ScalarFormatter

    ax.set_xlabel("time steps")
    if times.size and times.max() > 16 and times.min() > 0:
        ax.set_xscale("log", base=2)
        top = int(np.ceil(np.log2(times.max())))
        ax.xaxis.set_major_locator(FixedLocator([2**k for k in range(top + 1)]))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(ScalarFormatter())
    elif times.size:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def raster(
    ax: Axes,
    coefficients: ArrayLike,
    *,
    labels: Sequence[str] | None = None,
    methods: str | Sequence[str] | None = None,
) -> Axes:
    """Spikes of several neurons over time: one row a neuron, one mark an event.

    Args:
        ax: axes to draw on.
        coefficients: (T, N) spike coefficients, whole numbers; negative ones are drawn hanging
            below their row, |c| > 1 taller and with the number beside it.
        labels: N names for the rows. A row whose name starts with ``IF``, ``TerMapping`` or
            ``AugMapping`` takes that method's color.
        methods: the method of all rows, or of each, where the labels do not tell. Without a method
            spikes have the color of the text, negative ones another.

    Raises:
        ValueError: if ``coefficients`` has another number of dimensions than two, or there is not
            one method a row.
        KeyError: if a method has no color.
    """
    c, mode = np.asarray(coefficients), current_mode()
    if c.ndim != 2:
        raise ValueError(f"coefficients must have shape (T, N), not {c.shape}")
    tallest = max(1.0, float(np.abs(c).max(initial=1)))
    looks = _row_looks(c.shape[1], labels, methods)
    for sign, drawn in ((1, POSITIVE), (-1, NEGATIVE)):
        t, n = np.nonzero(c * sign > 0)
        height = 0.18 + 0.22 * np.abs(c[t, n]) / tallest
        colors = [(looks[row] or drawn).color(mode) for row in n]
        ax.vlines(t + 1, n, n + sign * height, color=colors, linewidth=2.2)
    for t, n in zip(*np.nonzero(np.abs(c) > 1), strict=True):
        end = n + np.sign(c[t, n]) * (0.2 + 0.22 * abs(c[t, n]) / tallest)
        va = "bottom" if c[t, n] > 0 else "top"
        ax.text(t + 1, end, f"{c[t, n]:+g}".replace("-", "−"), fontsize=9, ha="center", va=va)
    ax.set(xlim=(0.4, len(c) + 0.8), ylim=(-0.6, c.shape[1] - 0.4), xlabel="time step")
    ax.set_yticks(range(c.shape[1]), labels or [str(n) for n in range(c.shape[1])])
    if labels is None:
        ax.set_ylabel("neuron")
    ax.grid(axis="x", visible=False)
    return ax


def _row_looks(
    rows: int, labels: Sequence[str] | None, methods: str | Sequence[str] | None
) -> list[Look | None]:
    """The look of each row's method; None for a row without one."""
    if methods is not None:
        named = [methods] * rows if isinstance(methods, str) else list(methods)
        if len(named) != rows:
            raise ValueError(f"there are {rows} rows and {len(named)} methods")
        return [look(name) for name in named]
    found: list[Look | None] = []
    for label in labels or [""] * rows:
        try:
            found.append(look(label))
        except KeyError:
            found.append(None)
    return found


def membrane(
    ax: Axes,
    potential: ArrayLike,
    coefficients: ArrayLike | None = None,
    *,
    threshold: float | None = None,
    negative: float | None = None,
    method: str | None = None,
) -> Axes:
    """One neuron's membrane potential after each step, its thresholds and its spikes.

    Args:
        ax: axes to draw on.
        potential: (T,) potential after the reset of each step, in the ANN's units.
        coefficients: (T,) spike coefficients; steps with an event get a mark on the upper edge.
        threshold: θ, drawn as a dashed line.
        negative: size of the negative threshold as a fraction of θ, drawn below zero.
        method: the neuron's method, whose color spikes and thresholds take.

    Raises:
        ValueError: if ``potential`` and ``coefficients`` differ in length.
        KeyError: if the method has no color.
    """
    mode, v = current_mode(), np.asarray(potential, dtype=float)
    positive, taken = (look(method),) * 2 if method else (POSITIVE, NEGATIVE)
    t = np.arange(1, len(v) + 1)
    ax.step(t, v, where="post", color=INK[mode], linewidth=1.6, label="membrane potential")
    ax.axhline(0, color=GRID[mode], linewidth=1)
    if threshold is not None:
        ax.axhline(threshold, color=positive.color(mode), linestyle="--", linewidth=1.2)
        ax.text(0.995, threshold, "θ", transform=ax.get_yaxis_transform(), ha="right", va="bottom")
        if negative is not None:
            color = taken.color(mode)
            ax.axhline(-negative * threshold, color=color, linestyle="--", linewidth=1.2)
    if coefficients is not None:
        c = np.asarray(coefficients)
        if c.shape != v.shape:
            raise ValueError(f"potential has shape {v.shape}, coefficients {c.shape}")
        for sign, drawn in ((1, positive), (-1, taken)):
            hit = c * sign > 0
            if not hit.any():
                continue
            ax.plot(
                t[hit],
                np.ones(hit.sum()),
                marker="v" if sign > 0 else "x",
                linestyle="",
                color=drawn.color(mode),
                transform=ax.get_xaxis_transform(),
                clip_on=False,
                label="spike" if sign > 0 else "negative spike",
            )
    ax.set(xlabel="time step", ylabel="membrane potential", xlim=(1, max(2, len(v))))
    return ax


def layer_errors(report: Report, figure: Figure | None = None) -> Figure:
    """What `net.verify` found: the error of every layer as steps grow, and its parts at the end.

    Args:
        report: what `verify` returned.
        figure: an empty figure to draw on; a new one by default.

    Returns:
        The figure; above the relative error against the time steps, one line a layer (both axes
        logarithmic); below the parts of the error along the layers, after the last step.
    """
    import matplotlib.pyplot as plt

    mode = current_mode()
    figure = plt.figure(figsize=(6.4, 6.8)) if figure is None else figure
    above, below = figure.subplots(2, 1)
    count = len(report.layers)
    for i, (layer, drawn) in enumerate(zip(report.layers, shades(count), strict=True)):
        label = layer.name if count <= 8 or i in (0, count - 1) else "_nolegend_"
        above.plot(report.steps, layer.error, color=drawn.color(mode), marker="o", label=label)
    above.set_xscale("log", base=2)
    above.set_yscale("log")
    above.set_xticks(report.steps, [str(t) for t in report.steps])
    above.set(xlabel="time step", ylabel="error relative to the ANN", title="Error of each layer")
    above.legend()
    names = [layer.name for layer in report.layers]
    for part, drawn in zip(report.layers[0].parts, EXTRA, strict=False):
        values = [layer.parts[part][-1] for layer in report.layers]
        color, marker = drawn.color(mode), drawn.marker
        below.plot(range(len(names)), values, color=color, marker=marker, label=part)
    every = -(-len(names) // 10)
    below.set_xticks(range(0, len(names), every), names[::every], rotation=40, ha="right")
    below.set(
        xlabel="layer",
        ylabel="part of the error",
        title=f"Its parts after {report.steps[-1]} steps",
    )
    low, high = below.get_ylim()
    below.set_ylim(low, high + 0.3 * (high - low))  # room for the legend above the curves
    below.legend(loc="upper center", ncols=2)
    return figure
