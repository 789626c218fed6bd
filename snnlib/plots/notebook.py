"""What the book's notebooks need besides figures: named numbers, stored results, a frame player.

Nothing here needs the packages that build the book, so the notebooks run in Colab as they are.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snnlib.plots import twins
from snnlib.plots.style import MODES

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure

MAX_BYTES = 700_000  # a chapter should stay below 1.5 MB
FRAME_COLORS = 64
_NUMBER = re.compile(r"[-+−±≈<>≤≥]?\s*[\d.]*\d")  # how a number, or one with a unit, begins


def glue(name: str, value: str | int | float) -> None:
    """Store a number under a name, so that the text can hold it: ``<data value="name"></data>``.

    The value travels in the cell's outputs in the form that ``myst_nb.glue`` uses; nothing is
    shown, and ``book/_ext/refresh.py`` writes it between the tags. Pass text, already rounded: it
    must not depend on the number of threads.

    Raises:
        TypeError: if ``value`` is neither text nor a number (a tensor, say).
    """
    from IPython.display import publish_display_data

    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError(f"glue({name!r}): give text or a number, not {type(value).__name__}")
    prefix = "application/papermill.record/"
    publish_display_data(
        {prefix + "text/plain": repr(value)},
        metadata={"scrapbook": {"name": name, "mime_prefix": prefix}},
    )


def results(name: str) -> dict[str, Any]:
    """The stored result ``book/results/NAME.json``, written by the command named inside it.

    Raises:
        FileNotFoundError: if there is no such result; the message lists those that exist.
    """
    here = Path(__file__).resolve().parents[2] / "book" / "results"
    folder = next((f for f in (here, Path("results"), Path("book/results")) if f.is_dir()), here)
    path = folder / f"{name}.json"
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in folder.glob("*.json"))) or "none"
        raise FileNotFoundError(
            f"no result {name!r} in {folder.name}/ (there: {there}); "
            "`snnlib experiment --list` names the commands that write them"
        )
    return json.loads(path.read_text(encoding="utf-8"))


class Table:
    """A table that carries a result: HTML on a page, aligned text where there is none.

    Args:
        columns: the headings; the first column holds the rows' names.
        rows: one sequence of texts and numbers a row, rounded by the caller.
        caption: one line above the table.

    Raises:
        ValueError: a row is longer or shorter than the headings.

    Example:
        >>> Table(["neuron", "events"], [["IF", 3], ["TerMapping", 5]])
        neuron      events
        IF               3
        TerMapping       5
    """

    def __init__(
        self, columns: Sequence[str], rows: Sequence[Sequence[object]], caption: str = ""
    ) -> None:
        self.columns, self.caption = [str(column) for column in columns], caption
        self.rows = [[str(cell) for cell in row] for row in rows]
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"Table: {row} has {len(row)} cells, not {len(self.columns)}")

    def __repr__(self) -> str:
        lines = [self.columns, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        texts = (
            "  ".join(
                cell.rjust(width) if k else cell.ljust(width)
                for k, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )
        return "\n".join([self.caption] * bool(self.caption) + list(texts))

    def _repr_html_(self) -> str:
        # Columns of words are marked, so that only numbers are set flush right.
        words = [
            "" if any(map(_NUMBER.match, column)) else ' class="words"'
            for column in zip(*self.rows, strict=True)
        ] or [""] * len(self.columns)
        head = "".join(
            f'<th scope="col"{kind}>{html.escape(text)}</th>'
            for text, kind in zip(self.columns, ["", *words[1:]], strict=True)
        )
        body = "\n".join(
            f'<tr><th scope="row">{html.escape(name)}</th>'
            + "".join(
                f"<td{kind}>{html.escape(cell)}</td>"
                for cell, kind in zip(cells, words[1:], strict=True)
            )
            + "</tr>"
            for name, *cells in self.rows
        )
        caption = f"<caption>{html.escape(self.caption)}</caption>\n" * bool(self.caption)
        return (
            f'<table class="snn-table">\n{caption}<thead><tr>{head}</tr></thead>\n'
            f"<tbody>\n{body}\n</tbody></table>"
        )


def player(
    figure: Figure,
    draw: Callable[[int], str | None],
    frames: int | Sequence[int],
    *,
    alt: str,
    label: str = "Frame",
    interval: int = 250,
    dpi: int = 110,
    play: bool = True,
    autoplay: bool = False,
) -> HTML:
    """An animation that plays in any browser without a kernel: button, slider, one image a frame.

    ``draw(k)`` redraws the figure for frame k from nothing (it is called in any order) and may
    return a short caption. Frames are images of at most 64 colors that change to the dark palette
    with the page; the last one is shown first, so that a page that is printed or has no scripts
    still tells the story. The figure is closed.

    It starts when the reader says so. With ``autoplay`` it starts when it comes into view, once,
    unless the reader's system asks for less motion, and the button stops it.

    Args:
        figure: the figure that ``draw`` changes.
        draw: called once a frame with the frame's number.
        frames: how many frames, or which numbers.
        alt: what is to be seen, for readers who cannot see it; the first sentence is the caption.
        label: what the slider moves, as in ``"Time step"``.
        interval: milliseconds between frames.
        dpi: resolution; 6.4 inches at 110 dpi are 704 points, a page's width.
        play: have a button that plays; without it the slider alone chooses, say, a threshold.
        autoplay: play once without being asked.

    Raises:
        ValueError: if ``alt`` says nothing, there is no frame, ``autoplay`` has no button that
            stops it, or the result exceeds 700 kB.

    Example:
        >>> notebook.player(
        ...     fig, update, frames=24, alt="The potential climbs to θ and falls."
        ... )  # doctest: +SKIP
    """
    import matplotlib.pyplot as plt
    from IPython.display import HTML

    numbers = list(range(frames)) if isinstance(frames, int) else list(frames)
    if not numbers:
        raise ValueError("player: there is no frame to show")
    if len(alt.split()) < 4:
        raise ValueError(f"player: alt={alt!r} does not tell what is to be seen")
    if autoplay and not play:
        raise ValueError("player: autoplay needs play=True, the button that stops it")
    draw(numbers[-1])
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once, so that nothing jumps between frames
    drawn, captions = [], []
    for at, k in enumerate(numbers, 1):
        captions.append(draw(k) or f"{at} / {len(numbers)}")
        drawn.append(twins.pixels(figure, dpi))
    plt.close(figure)
    pictures = twins.pictures(drawn, FRAME_COLORS)
    bodies = [_base64(picture.body()) for picture in pictures]
    size = sum(map(len, bodies))
    if size > MAX_BYTES:
        raise ValueError(
            f"player: {len(bodies)} frames take {size / 1e3:.0f} kB, more than "
            f"{MAX_BYTES / 1e3:.0f} kB; use fewer frames, a smaller figure or a lower dpi"
        )
    return HTML(
        _page(
            pictures[-1], bodies, captions, alt=alt, label=label, interval=interval, play=play,
            autoplay=autoplay,
        )
    )  # fmt: skip


def _page(
    shown: twins.Picture,
    bodies: Sequence[str],
    captions: Sequence[str],
    *,
    alt: str,
    label: str,
    interval: int,
    play: bool,
    autoplay: bool,
) -> str:
    """The player's HTML: the template with its places filled in."""
    height, width = shown.numbers.shape
    palettes = {mode: _base64(shown.palette(mode)) for mode in MODES}
    name = "player-" + hashlib.sha256("".join(bodies).encode()).hexdigest()[:12]
    page = _PLAYER
    for key, text in {
        "@NAME@": name,
        "@ALT@": html.escape(alt, quote=True),
        "@LAST@": str(len(bodies) - 1),
        "@POSTER@": "data:image/png;base64," + _base64(shown.png()),
        "@CAPTION@": html.escape(captions[-1], quote=True),
        "@LABEL@": html.escape(label, quote=True),
        "@HEAD@": "data:image/png;base64," + _base64(shown.head()),
        "@PALETTES@": json.dumps(palettes),
        "@FRAMES@": json.dumps(bodies),
        "@CAPTIONS@": json.dumps(captions, ensure_ascii=False).replace("</", "<\\/"),
        "@INTERVAL@": str(interval),
        "@HIDDEN@": "" if play else "display:none;",
        "@AUTOPLAY@": json.dumps(autoplay),
        "@WIDTH@": str(width),
        "@HEIGHT@": str(height),
    }.items():
        page = page.replace(key, text)
    return page


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


# The parts of a PNG before its last are multiples of three bytes long, so that their texts in
# base64 follow each other: a frame is a head, a palette and a body. The controls appear with the
# script. The slider says itself where it is; the text beside it is read out where playing stops.
_PLAYER = """\
<div class="snn-player" id="@NAME@" role="group" aria-label="Figure that plays" \
style="margin:1em 0;max-width:@WIDTH@px">
<img alt="@ALT@" src="@POSTER@" width="@WIDTH@" height="@HEIGHT@"
 style="display:block;width:100%;height:auto;border-radius:6px">
<div class="snn-controls" hidden>
<div style="display:flex;flex-wrap:wrap;gap:.3em .8em;align-items:center;margin-top:.5em">
<button type="button" style="@HIDDEN@font:inherit;min-width:5.2em;min-height:2em;\
padding:.25em .6em;border:1px solid currentColor;border-radius:6px;background:none;color:inherit;\
cursor:pointer">Play</button>
<input type="range" min="0" max="@LAST@" value="@LAST@" aria-label="@LABEL@" \
aria-valuetext="@CAPTION@" style="flex:1 1 9em;min-width:0;min-height:2em">
<output aria-live="off" style="min-width:6em;font-variant-numeric:tabular-nums">@CAPTION@</output>
</div></div></div>
<script>(() => {
const root = document.getElementById("@NAME@"), head = "@HEAD@", palettes = @PALETTES@,
  bodies = @FRAMES@, captions = @CAPTIONS@, page = document.documentElement;
const [image, controls, button, slider, caption] =
  ["img", ".snn-controls", "button", "input", "output"].map(part => root.querySelector(part));
let timer = null;
const mode = () => page.dataset.theme === "dark" || document.body.dataset.jpThemeLight === "false"
  ? "dark" : "light";
const paint = theme => { image.src = head + palettes[theme] + bodies[slider.value]; };
const show = k => {
  slider.value = k; paint(mode()); caption.textContent = captions[k];
  slider.setAttribute("aria-valuetext", captions[k]); };
const stop = () => {
  if (!timer) return;
  clearInterval(timer); timer = null; button.textContent = "Play";
  caption.setAttribute("aria-live", "polite"); caption.textContent = "";
  setTimeout(() => { caption.textContent = captions[slider.value]; }, 50); };
const step = () => {
  const k = +slider.value + 1;
  if (k < bodies.length) show(k); else stop(); };
const play = () => {
  if (+slider.value === bodies.length - 1) show(0);
  caption.setAttribute("aria-live", "off"); button.textContent = "Pause";
  timer = setInterval(step, @INTERVAL@); };
button.addEventListener("click", () => timer ? stop() : play());
slider.addEventListener("input", () => {
  stop(); caption.setAttribute("aria-live", "off"); show(+slider.value); });
const themes = {attributes: true, attributeFilter: ["data-theme", "data-jp-theme-light"]};
for (const place of [page, document.body])
  new MutationObserver(() => paint(mode())).observe(place, themes);
addEventListener("beforeprint", () => paint("light"));
addEventListener("afterprint", () => paint(mode()));
controls.hidden = false;
paint(mode());
if (@AUTOPLAY@ && !matchMedia("(prefers-reduced-motion: reduce)").matches) {
  const seen = new IntersectionObserver(views => {
    if (views.some(view => view.isIntersecting)) { seen.disconnect(); if (!timer) play(); } },
    {threshold: 0.6});
  seen.observe(image); }
})();</script>
"""
