"""One picture for light and for dark pages: a PNG with two palettes.

A figure is drawn twice, with the colors of the light card and with their twins on the dark one.
Both drawings share one picture of color numbers, so that the dark one costs a palette of a few
hundred bytes: `as_png` stores it in a text chunk that viewers pass over, and `dark_png` puts it in
the other's place. What a figure shows as an image (a digit, a map of errors) is alike in both.
"""

from __future__ import annotations

import base64
import colorsys
import functools
import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from snnlib.plots.style import CARD, EXTRA, GRID, INK, METHODS, MODES, Mode, parameters

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI, COLORS = 200, 128
KEY = b"snnlib-dark-palette"
SIGNATURE = b"\x89PNG\r\n\x1a\n"

Color = tuple[float, float, float]


def luminance(color: Color) -> float:
    """Relative luminance as WCAG defines it, of red, green and blue from 0 to 1."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _rgb(text: str) -> Color:
    red, green, blue = (int(text[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


@functools.cache
def _twins() -> dict[Color, Color]:
    """The colors of the style: light → dark."""
    pairs = [(both["light"], both["dark"]) for both in (CARD, INK, GRID)]
    pairs += [(look.light, look.dark) for look in (*METHODS.values(), *EXTRA)]
    return {_rgb(light): _rgb(dark) for light, dark in pairs}


@functools.lru_cache(maxsize=4096)
def dark(color: Color) -> Color:
    """What a color of the light card is on the dark one.

    A color of the style becomes its twin. Any other keeps hue and saturation and stands off the
    dark card with the contrast that it has against the light one.
    """
    for known, twin in _twins().items():
        if max(abs(a - b) for a, b in zip(known, color, strict=True)) < 0.6 / 255:
            return twin
    ratio = (luminance(_rgb(CARD["light"])) + 0.05) / (luminance(color) + 0.05)
    wanted = ratio * (luminance(_rgb(CARD["dark"])) + 0.05) - 0.05
    hue, _, saturation = colorsys.rgb_to_hls(*color)
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = (low + high) / 2
        if luminance(colorsys.hls_to_rgb(hue, middle, saturation)) < wanted:
            low = middle
        else:
            high = middle
    return colorsys.hls_to_rgb(hue, low, saturation)


def _darken(color: Any) -> Any:
    """`dark` of one color, opacity kept; None stays None."""
    if color is None:
        return None
    red, green, blue, *opacity = (float(c) for c in color)
    return (*dark((red, green, blue)), *opacity)


class _DarkRenderer:
    """Passes on what is drawn: lines, faces and letters in the colors of the dark card."""

    def __init__(self, renderer: Any) -> None:
        self.renderer = renderer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.renderer, name)

    def _context(self, gc: Any) -> Any:
        from matplotlib.colors import to_rgba

        copy = self.renderer.new_gc()
        copy.copy_properties(gc)
        copy.set_foreground(_darken(gc.get_rgb()), isRGBA=True)
        if gc.get_hatch():
            copy.set_hatch_color(_darken(to_rgba(gc.get_hatch_color())))
        return copy

    def draw_path(self, gc: Any, path: Any, transform: Any, rgbFace: Any = None) -> None:
        self.renderer.draw_path(self._context(gc), path, transform, _darken(rgbFace))

    def draw_markers(
        self, gc: Any, marker: Any, place: Any, path: Any, transform: Any, rgbFace: Any = None
    ) -> None:
        face = _darken(rgbFace)
        self.renderer.draw_markers(self._context(gc), marker, place, path, transform, face)

    def draw_path_collection(
        self, gc: Any, master: Any, paths: Any, all_transforms: Any, offsets: Any,
        offset_transform: Any, faces: Any, edges: Any, *rest: Any, **more: Any,
    ) -> None:  # fmt: skip
        faces, edges = (
            np.array([_darken(c) for c in colors]).reshape(-1, 4) for colors in (faces, edges)
        )
        self.renderer.draw_path_collection(
            self._context(gc), master, paths, all_transforms, offsets, offset_transform, faces,
            edges, *rest, **more,
        )  # fmt: skip

    def draw_text(self, gc: Any, *args: Any, **more: Any) -> None:
        self.renderer.draw_text(self._context(gc), *args, **more)


def pixels(figure: Figure, dpi: float, *, tight: bool = False) -> dict[Mode, np.ndarray]:
    """A figure that is drawn in the light style, on both cards, as (height, width, 3) bytes.

    Args:
        figure: is left as it was.
        dpi: resolution.
        tight: cut off the empty margin, as Jupyter does.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    class DarkCanvas(FigureCanvasAgg):
        def get_renderer(self) -> Any:
            found = super().get_renderer()  # what the last drawing left, perhaps
            return found if isinstance(found, _DarkRenderer) else _DarkRenderer(found)

    before, layout = figure.canvas, figure.get_layout_engine()
    found: dict[Mode, np.ndarray] = {}
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once, so that both drawings lie on each other
    try:
        for mode, canvas in zip(MODES, (FigureCanvasAgg, DarkCanvas), strict=True):
            target = io.BytesIO()
            canvas(figure).print_figure(
                target, format="png", dpi=dpi, bbox_inches="tight" if tight else None,
                pil_kwargs={"compress_level": 1},
            )  # fmt: skip
            found[mode] = np.asarray(Image.open(target).convert("RGB"))
    finally:
        figure.set_canvas(before)
        figure.set_layout_engine(layout)
    return found


@dataclass(frozen=True)
class Picture:
    """A picture of color numbers with its two palettes.

    Attributes:
        numbers: (height, width) color numbers, uint8.
        light: (n, 3) colors on a light page, uint8.
        dark: (n, 3) colors on a dark page, uint8.
    """

    numbers: np.ndarray
    light: np.ndarray
    dark: np.ndarray

    def palette(self, mode: Mode) -> bytes:
        """The palette as a chunk of a PNG, whose length in bytes is a multiple of three."""
        return _chunk(b"PLTE", (self.light if mode == "light" else self.dark).tobytes())

    def head(self) -> bytes:
        """What stands before the palette: 33 bytes."""
        height, width = self.numbers.shape
        size = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
        return SIGNATURE + _chunk(b"IHDR", size)

    def body(self) -> bytes:
        """What stands behind the palette."""
        rows = np.pad(self.numbers, ((0, 0), (1, 0)))  # each row opens with "no filter"
        return _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)) + _chunk(b"IEND", b"")

    def png(self) -> bytes:
        """The picture of the light page, with the palette of the dark one in a text chunk."""
        twin = _chunk(b"tEXt", KEY + b"\0" + base64.b64encode(self.dark.tobytes()))
        return self.head() + self.palette("light") + twin + self.body()


def _chunk(kind: bytes, data: bytes) -> bytes:
    checked = kind + data
    return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))


def pictures(drawn: Sequence[Mapping[Mode, np.ndarray]], colors: int = COLORS) -> list[Picture]:
    """Pictures of one size that share their palettes.

    What is alike in both modes, images, and what is not, the drawing, have color numbers of their
    own, half of them each where there are both.
    """
    light, dark = (np.stack([both[mode] for both in drawn]) for mode in MODES)
    alike = (light == dark).all(-1)
    numbers = np.zeros(light.shape[:-1], np.uint8)
    palettes: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    share = colors // 2 if alike.any() else colors
    for part in (~alike, alike):
        if part.any():
            found, one, other = _reduced(light[part], dark[part], share)
            numbers[part] = found + sum(map(len, palettes[0]))
            palettes[0].append(one)
            palettes[1].append(other)
    both = [np.concatenate(parts) for parts in palettes]
    return [Picture(frame, *both) for frame in numbers]


def _reduced(light: np.ndarray, dark: np.ndarray, colors: int) -> tuple[np.ndarray, ...]:
    """(N, 3) pixels of both modes → (N,) color numbers and the palettes of both."""
    from PIL import Image

    packed = light.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    _, first, inverse, often = np.unique(
        packed, return_index=True, return_inverse=True, return_counts=True
    )
    # By the roots of their frequencies, else the empty card would take every number.
    times = np.ceil(np.sqrt(often)).astype(int)
    sample = np.repeat(light[first], times, axis=0)
    chosen = np.asarray(Image.fromarray(sample[None]).quantize(colors, kmeans=1))[0]
    _, chosen = np.unique(chosen[np.cumsum(times) - 1], return_inverse=True)
    numbers = chosen[inverse]
    many = np.bincount(numbers)[:, None]
    means = (
        np.stack([np.bincount(numbers, side[:, c]) for c in range(3)], 1) / many
        for side in (light, dark)
    )
    return (numbers, *(np.rint(mean).astype(np.uint8) for mean in means))


def as_png(figure: Figure) -> bytes:
    """How a notebook stores a figure: a PNG of few colors that holds its dark twin.

    A figure of another ground than the light card has no twin: its colors are not the style's.
    """
    from matplotlib.colors import to_hex

    if to_hex(figure.get_facecolor()) != CARD["light"]:
        target = io.BytesIO()
        figure.savefig(target, format="png", bbox_inches="tight")
        return target.getvalue()
    return pictures([pixels(figure, DPI, tight=True)])[0].png()


def dark_png(png: bytes) -> bytes | None:
    """The dark twin of what `as_png` wrote; None of any other picture."""
    at, chunks = len(SIGNATURE), []
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        chunks.append((png[at + 4 : at + 8], png[at + 8 : at + 8 + length]))
        at += 12 + length
    twin = next((data for kind, data in chunks if data.startswith(KEY + b"\0")), None)
    if twin is None:
        return None
    palette = base64.b64decode(twin[len(KEY) + 1 :])
    kept = ((kind, data) for kind, data in chunks if kind != b"tEXt")
    swapped = (_chunk(kind, palette if kind == b"PLTE" else data) for kind, data in kept)
    return SIGNATURE + b"".join(swapped)


def _serve_notebooks() -> None:
    """In a notebook, store every figure as `as_png` does; nothing happens elsewhere."""
    import matplotlib as mpl

    try:
        from IPython import get_ipython
    except ImportError:
        return
    shell = get_ipython()
    if shell is None or "inline" not in mpl.get_backend():
        return
    # Loading the backend enters IPython's own way to store figures, which ours must follow.
    import matplotlib_inline.backend_inline  # noqa: F401
    from matplotlib.figure import Figure

    shell.display_formatter.formatters["image/png"].for_type(Figure, as_png)


def use_style(mode: Mode = "light") -> None:
    """Switch the session to the book's style; the first plotting cell of a chapter calls it.

    A notebook then stores figures as PNG of few colors that the site can show on a dark page too.
    """
    import matplotlib as mpl

    mpl.rcParams.update(parameters(mode))
    _serve_notebooks()
