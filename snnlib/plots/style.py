"""One look for every figure of the book: light card, color-blind-safe, the ANN always dashed.

Figures are drawn on an opaque light card and have a twin on a dark one (`snnlib.plots.twins`),
because no text color has the contrast of 4.5 : 1 that WCAG AA asks for on a white and on a dark
page at once. Every color here has it on its card, so that words may be written in it.
IF, TerMapping, AugMapping and the ANN keep their color, marker and line style in all chapters.

Matplotlib is imported inside the functions, so that importing this does not load it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Mode = Literal["light", "dark"]
MODES: tuple[Mode, ...] = ("light", "dark")


@dataclass(frozen=True)
class Look:
    """How one method is drawn: color on the light and on the dark card, marker, line style."""

    light: str
    dark: str
    marker: str
    line: str = "-"

    def color(self, mode: Mode = "light") -> str:
        return self.light if mode == "light" else self.dark


# Okabe and Ito's vermilion, green and blue, so much darker that words in them have the contrast of
# 4.5 : 1 on the card and on the site's grounds. Lighter twins of the same hues serve the dark card.
METHODS: dict[str, Look] = {
    "IF": Look("#bc4a00", "#ff9458", "o"),
    "TerMapping": Look("#007d5a", "#4fd1a5", "^"),
    "AugMapping": Look("#0068a8", "#6cbcf5", "s"),
    "ANN": Look("#3d4550", "#d7dde5", "", "--"),
}
# For everything that is no method (layers, parameters): further hues in a fixed order.
EXTRA: tuple[Look, ...] = (
    Look("#9b3d7f", "#e79bcb", "D"),
    Look("#7a6200", "#e3c44c", "v"),
    Look("#4b4fb8", "#a9acf7", "P"),
    Look("#a02c2c", "#f59a9a", "X"),
    Look("#4d6b1f", "#b0d673", "h"),
    Look("#5a6472", "#aab4c2", "<"),
)
CARD: dict[Mode, str] = {"light": "#fbfaf7", "dark": "#171c24"}
INK: dict[Mode, str] = {"light": "#1f2732", "dark": "#e4e9f0"}
GRID: dict[Mode, str] = {"light": "#dcd9d1", "dark": "#323b48"}

# No method's color, since every method sends spikes.
POSITIVE = Look(INK["light"], INK["dark"], "v")  # a spike
NEGATIVE = EXTRA[0]  # a spike taken back


def look(name: str) -> Look:
    """The look of a method; a longer label such as ``"IF, v0 = ½"`` is found by how it starts."""
    for method, found in METHODS.items():
        if name == method or name.startswith((method + " ", method + ",", method + ":")):
            return found
    raise KeyError(f"{name!r} starts with none of the methods {', '.join(METHODS)}")


def color(name: str, mode: Mode = "light") -> str:
    """The fixed color of a method: ``color("AugMapping")``."""
    return look(name).color(mode)


def shades(count: int) -> list[Look]:
    """Looks of an ordered series, as of layers from the input on.

    The ends of the map that would not stand off a card with the contrast of 3 : 1 are left out.
    """
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    light, dark = (
        [to_hex(colormaps["plasma"](place)) for place in np.linspace(*ends, count)]
        for ends in ((0.0, 0.62), (0.45, 1.0))
    )
    return [Look(*both, "o") for both in zip(light, dark, strict=True)]


def parameters(mode: Mode = "light") -> dict[Any, Any]:
    """The matplotlib settings of the book's style, as a dictionary for ``rcParams``."""
    from cycler import cycler

    ink = INK[mode]
    return {
        "figure.figsize": (6.4, 3.6),
        "figure.dpi": 130,
        "savefig.dpi": 130,
        "figure.facecolor": CARD[mode],
        "savefig.facecolor": CARD[mode],
        "figure.constrained_layout.use": True,
        "figure.constrained_layout.w_pad": 0.08,
        "figure.constrained_layout.h_pad": 0.08,
        "axes.facecolor": CARD[mode],
        "axes.edgecolor": ink,
        "axes.labelcolor": ink,
        "axes.titlecolor": ink,
        # A phone shows 6.4 inches as 380 points of its screen: type of 11.5 has 9.5 of them there.
        "axes.titlesize": 12,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": 11.5,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.prop_cycle": cycler(color=[extra.color(mode) for extra in EXTRA]),
        "grid.color": GRID[mode],
        "grid.linewidth": 0.7,
        "text.color": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "xtick.labelsize": 11,
        "ytick.labelsize": 11,
        "font.size": 11.5,
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib: the same everywhere
        "legend.frameon": False,
        "legend.fontsize": 11,
        "lines.linewidth": 2.0,
        "lines.markersize": 5,
        "image.cmap": "cividis",
        "svg.fonttype": "path",
        "svg.hashsalt": "snnlib",  # the same figure gives the same file
    }


@contextmanager
def style(mode: Mode = "light") -> Iterator[None]:
    """The book's style for one figure: ``with plots.style("dark"): ...``."""
    import matplotlib as mpl

    with mpl.rc_context(parameters(mode)):
        yield


def current_mode() -> Mode:
    """The style in force, told by the color of the card."""
    import matplotlib as mpl

    return "dark" if mpl.rcParams["figure.facecolor"] == CARD["dark"] else "light"
