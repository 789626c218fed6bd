"""Drawings of the full grid of the experiment ``ablations``: does a choice depend on the others?"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from book.experiments.ablations import BALANCES
from book.experiments.ablations import LEVELS as LEVELS
from book.experiments.ablations import V0S as V0S
from bookext.axes import cost_axis, differ_axis
from bookext.modes import Key, Panel
from bookext.results import Result, of
from snnlib import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from book.experiments.ablations import GridRow

AFTER = 2  # steps: few enough that the choices still differ
NAMES = {"max": "maximum", "min-error": "least error"}  # the others are percentiles
SCOPES = {"layer": "-", "channel": ":"}
LOOKS = dict(zip(BALANCES, plots.EXTRA, strict=False))


class Differ(NamedTuple):
    """Answers that differ (%) over all second thresholds, and without one."""

    low: float
    high: float
    plain: float


Curves = dict[tuple[str, str], list[Differ]]  # balancing and scope → one a number of levels


def grid(result: Result, model: str) -> tuple[list[Panel], list[Key]]:
    """A panel for each initial potential: answers that differ from the ANN's, against levels."""
    rows: list[GridRow] = of(result, model, "grid")
    if not rows:
        return [], []
    keys = [Key(name(balance), look) for balance, look in LOOKS.items()]
    ink = plots.INK["light"], plots.INK["dark"]
    keys += [
        Key(f"one threshold a {scope}", plots.Look(*ink, "", line))
        for scope, line in SCOPES.items()
    ]
    return [panel(curves(rows, v0), v0, model) for v0 in V0S], keys


def name(balance: str) -> str:
    return NAMES.get(balance, f"{balance}th percentile")


def curves(rows: list[GridRow], v0: float) -> Curves:
    """Every balancing and scope with this initial potential, after `AFTER` steps."""
    differ: dict[tuple[str, str, int], dict[float, float]] = {}  # by second threshold
    for row in rows:
        if row["v0"] == v0:
            point = differ.setdefault((row["balance"], row["scope"], row["levels"]), {})
            point[row["negative"]] = 100 * (1 - row["agreement"][AFTER - 1])
    return {
        (balance, scope): [
            Differ(min(point.values()), max(point.values()), point[0.0])
            for point in (differ[balance, scope, levels] for levels in LEVELS)
        ]
        for balance in BALANCES
        for scope in SCOPES
    }


def panel(found: Curves, v0: float, model: str) -> Panel:
    """Curves over the number of levels; a bar spans the second thresholds."""

    def draw(ax: Axes, mode: plots.Mode) -> None:
        for (balance, scope), points in found.items():
            look = LOOKS[balance]
            ax.plot(
                LEVELS, [p.plain for p in points], SCOPES[scope], color=look.color(mode),
                marker=look.marker, ms=4, lw=1.3, mfc="none" if scope == "channel" else None,
            )  # fmt: skip
            bars = [
                (x, p.low, p.high) for x, p in zip(LEVELS, points, strict=True) if p.low < p.high
            ]
            if bars:
                ax.vlines(*zip(*bars, strict=True), color=look.color(mode), lw=1)
        cost_axis(ax, "levels")
        differ_axis(ax, 100)
        ax.set_ylim(bottom=-0.05)  # markers at zero stay whole
        ax.set_title(f"{model}, v0 = {'½' if v0 else '0'}")

    said = []
    for place in (0, -1):
        ends = {
            f"{name(balance)}, one a {scope}": points[place].plain
            for (balance, scope), points in found.items()
        }
        best, worst = min(ends, key=lambda key: ends[key]), max(ends, key=lambda key: ends[key])
        said.append(
            f"with {LEVELS[place]} level{'s' * (LEVELS[place] > 1)} they go from "
            f"{ends[best]:.1f} % ({best}) to {ends[worst]:.1f} % ({worst})"
        )
    spread = max(p.high - p.low for points in found.values() for p in points)
    return Panel(
        draw,
        f"Answers that differ from the ANN's after {AFTER} steps against the number of levels, "
        f"v0 = {v0:g}, {model}: {'; '.join(said)}. Between the second thresholds they differ by at "
        f"most {spread:.1f} points.",
    )
