"""The axes that figures of several experiments share: lost accuracy, answers, costs, layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CLOSE = 0.1  # points below the ANN that still count as its accuracy
# Of long runs these steps get a mark: their neighbors say the same and make the page heavy.
MARKED = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)


def number(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def loss_axis(ax: Axes, losses: Sequence[float]) -> None:
    """Points lost against the ANN, positive is worse and lower: linear within ± 0.1, then log."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    ax.set_yscale("symlog", linthresh=0.1, linscale=0.6)
    worst, best = max(1.3 * max(losses), 0.3), min(1.5 * min(losses), -0.12)
    ax.set_ylim(worst, best)
    places = (100, 30, 10, 3, 1, 0.3, 0.1, 0, -0.1, -0.3, -1, -3)
    ax.yaxis.set_major_locator(FixedLocator([y for y in places if best <= y <= worst]))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}".replace("-", "−")))
    ax.set_ylabel("points lost against the ANN")


def differ_axis(ax: Axes, most: float) -> None:
    """Answers that differ from the ANN's, in percent: linear within 0.5, logarithmic beyond."""
    from matplotlib.ticker import NullLocator

    ax.set_yscale("symlog", linthresh=0.5)
    places = [y for y in (0, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if y <= most]
    ax.set_yticks(places, [f"{place:g}" for place in places])
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_ylim(0, most)
    ax.set_ylabel("answers that differ (%)")


def cost_axis(ax: Axes, label: str) -> None:
    """A logarithmic axis: doublings of what is counted, 1, 2, 5, 10 … of what is measured."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    doublings = label.endswith("steps") or label in ("levels", "|c|")
    ax.set_xscale("log", base=2 if doublings else 10)
    ax.xaxis.set_major_locator(LogLocator(base=2) if doublings else LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.4g}"))
    ax.set_xlabel(label)


def layer_axis(ax: Axes, names: Sequence[str]) -> None:
    """The names of the layers, of many only some."""
    every = -(-len(names) // 8)
    ax.set_xticks(range(0, len(names), every), names[::every], rotation=35, ha="right")
    ax.set_xlim(-0.4, len(names) - 0.6)
