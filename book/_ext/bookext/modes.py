"""Figures that are drawn when the site is built: light and dark SVG, one above the other's place.

A `Panel` is one drawing with its alt text. `markup` writes its two files; `figure` puts one panel
or several, a legend and a caption into a ``<figure>``.
"""

from __future__ import annotations

import html
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes

from snnlib import plots
from snnlib.plots.style import MODES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WHOLE = (6.4, 3.8)  # inches: alone in its figure
SMALL = (4.2, 3.1)  # beside others, and as wide as a phone
# Letters are paths, so that they look the same where the reader has other fonts. The grid marks the
# ticks.
LIGHT: dict[Any, Any] = {
    "svg.fonttype": "path",
    # Smaller than the style's, since a panel is narrower than a chapter's figure.
    "font.size": 10.5,
    "axes.titlesize": 11,
    "axes.labelsize": 10.5,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.fontsize": 9.5,
    "xtick.bottom": False,
    "ytick.left": False,
    "xtick.minor.bottom": False,
    "ytick.minor.left": False,
}
GLYPH = r"DejaVuSans[\w-]*"  # the names of letters in a drawing
METADATA = ("Creator", "Date", "Format", "Type")


@dataclass(frozen=True)
class Panel:
    """One drawing: what it draws, and what is to be seen in it for those who do not see it.

    Attributes:
        draw: draws on axes; called once a mode, with the book's style in force.
        alt: the alt text, from the same numbers.
        size: width and height in inches.
    """

    draw: Callable[[Axes, plots.Mode], Any]
    alt: str
    size: tuple[float, float] = SMALL


@dataclass(frozen=True)
class Key:
    """One entry of a legend that stands once beside several panels.

    Attributes:
        label: what it is.
        look: colors, marker and line; an empty line or marker is not drawn.
        hollow: the marker is only an outline.
    """

    label: str
    look: plots.Look
    hollow: bool = False


def svg(panel: Panel, mode: plots.Mode) -> str:
    """The panel as SVG text; the same numbers give the same text."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib.figure import Figure

    with plots.style(mode), mpl.rc_context(LIGHT):
        figure = Figure(figsize=panel.size)
        panel.draw(figure.subplots(), mode)
        target = io.StringIO()
        figure.savefig(target, format="svg", metadata=dict.fromkeys(METADATA))
    return _slim(target.getvalue())


def _slim(text: str) -> str:
    """Without what nobody sees: comments, indents, unused names, more than hundredths of a point.

    Numbers below 1 may be scales and stay. Styles that occur again and again become classes.
    """
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r">\s+<", "><", text)
    text = re.sub(r" ?\n([A-Zz\"])", r"\1", text)
    text = re.sub(r"(?<![\d.])([1-9]\d*\.\d\d)\d+", r"\1", text)
    text = re.sub(r' transform="rotate\(-0 [^"]*"', "", text)
    used = set(re.findall(r"#([\w-]+)", text))
    text = re.sub(r' id="([\w.-]+)"', lambda name: name[0] if name[1] in used else "", text)
    short = {name: f"g{i:x}" for i, name in enumerate(dict.fromkeys(re.findall(GLYPH, text)))}
    text = re.sub(GLYPH, lambda name: short[name[0]], text)
    styles = Counter(re.findall(r' style="([^"]*)"', text))
    classes = {style: f"s{i}" for i, (style, n) in enumerate(styles.items()) if n > 1}
    rules = "".join(f".{name}{{{style}}}" for style, name in classes.items())
    text = re.sub(
        r' style="([^"]*)"',
        lambda style: f' class="{classes[style[1]]}"' if style[1] in classes else style[0],
        text,
    )
    return text.replace("</style>", f"{rules}</style>", 1)


def interactive(env: Any) -> bool:
    """Is it the site, and not a printed book or an e-book?"""
    return env.app.builder.name in ("html", "dirhtml")


def markup(env: Any, name: str, panel: Panel, stamp: str = "") -> str:
    """Write the panel's files beside the site's images; returns the two ``<img>`` that show it.

    Args:
        env: of the build.
        name: of the files.
        panel: what to draw.
        stamp: stands for all that the drawing depends on; a file that carries it is kept.
    """
    folder = Path(env.app.outdir) / "_images"
    folder.mkdir(parents=True, exist_ok=True)
    up = "../" * env.docname.count("/")
    lazy = ' loading="lazy"' if interactive(env) else ""  # what is printed must be there
    width, height = (round(100 * inches) for inches in panel.size)
    images = ""
    for mode in MODES:
        path, end = folder / f"{name}-{mode}.svg", f"<!--{stamp}-->"
        if not (stamp and path.is_file() and path.read_text(encoding="utf-8").endswith(end)):
            path.write_text(svg(panel, mode) + end * bool(stamp), encoding="utf-8")
        images += (
            f'<img class="only-{mode}" src="{up}_images/{name}-{mode}.svg" '
            f'alt="{html.escape(panel.alt)}" width="{width}" height="{height}"{lazy}>\n'
        )
    return images


def figure(
    env: Any,
    name: str,
    panels: Sequence[Panel],
    caption: Iterable[nodes.Node],
    keys: Sequence[Key] = (),
    stamp: str = "",
) -> list[nodes.Node]:
    """A ``<figure>``: a legend, the panels side by side as far as there is room, a caption.

    The stamp is that of `markup`.
    """
    # The images stand in boxes of their own: the theme hides captions beside dark images.
    if len(panels) == 1:
        body = f"<div>\n{markup(env, name, panels[0], stamp)}</div>"
    else:
        boxes = (
            f"<div>\n{markup(env, f'{name}-{number}', panel, stamp)}</div>\n"
            for number, panel in enumerate(panels, 1)
        )
        body = f'<div class="snn-panels">\n{"".join(boxes)}</div>'
    held = nodes.inline("", "", *caption)
    return [
        nodes.raw(
            "", f'<figure class="snn-figure">{legend(keys)}{body}<figcaption>', format="html"
        ),
        held,
        nodes.raw("", "</figcaption></figure>", format="html"),
    ]


def legend(keys: Sequence[Key]) -> str:
    """The legend as a list that wraps; its drawings take the colors of the page's mode."""
    if not keys:
        return ""
    items = "".join(f"<li>{_sample(key)}{html.escape(key.label)}</li>" for key in keys)
    return f'<ul class="snn-legend">{items}</ul>'


def _sample(key: Key) -> str:
    """A piece of the line with the marker on it, 34 by 12 pixels."""
    drawn = ""
    if key.look.line:
        dashes = {"--": ' stroke-dasharray="6 3"', ":": ' stroke-dasharray="2 2.5"'}
        drawn += f'<path d="M1 6H33"{dashes.get(key.look.line, "")}/>'
    if key.look.marker:
        fill = "none" if key.hollow else "currentColor"
        drawn += f'<path fill="{fill}" d="{_marker(key.look.marker)}"/>'
    colors = f"--light:{key.look.light};--dark:{key.look.dark}"
    return f'<svg style="{colors}" viewBox="0 0 34 12" aria-hidden="true">{drawn}</svg>'


def _marker(name: str) -> str:
    """Matplotlib's marker as the data of an SVG path around (17, 6)."""
    from matplotlib.markers import MarkerStyle

    style = MarkerStyle(name)
    path = style.get_path().transformed(style.get_transform())
    letters = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}
    parts = []
    for corners, code in path.iter_segments(simplify=False):
        at = [f"{17 + 8 * x:.1f} {6 - 8 * y:.1f}" for x, y in corners.reshape(-1, 2)]
        parts.append(letters[int(code)] + ("" if int(code) == 79 else " ".join(at)))
    return "".join(parts)
