"""What the book's notebooks need besides figures: named numbers, stored results, a frame player.

Nothing here needs the packages that build the book, so the notebooks run in Colab as they are.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure

MAX_BYTES = 700_000  # a chapter should stay below 1.5 MB


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
        head = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in self.columns)
        body = "\n".join(
            f'<tr><th scope="row">{html.escape(name)}</th>'
            + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
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
    interval: int = 250,
    dpi: int = 80,
) -> HTML:
    """An animation that plays in any browser without a kernel: button, slider, one image a frame.

    ``draw(k)`` redraws the figure for frame k from nothing (it is called in any order) and may
    return a short caption. Frames are stored
    as images of at most 64 colors; the last one is shown first, so that a page that is printed
    or has no scripts still tells the story. The figure is closed.

    Args:
        figure: the figure that ``draw`` changes.
        draw: called once a frame with the frame's number.
        frames: how many frames, or which numbers.
        alt: what is to be seen, for readers who cannot see it.
        interval: milliseconds between frames.
        dpi: resolution; 6.4 inches at 80 dpi are 512 points of a phone's or a page's width.

    Raises:
        ValueError: if ``alt`` says nothing, there is no frame, or the result exceeds 700 kB.

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
    draw(numbers[-1])
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once, so that nothing jumps between frames
    pictures, captions = [], []
    for k in numbers:
        captions.append(draw(k) or f"{k + 1} / {len(numbers)}")
        pictures.append(_picture(figure, dpi))
    plt.close(figure)
    size = sum(map(len, pictures))
    if size > MAX_BYTES:
        raise ValueError(
            f"player: {len(pictures)} frames take {size / 1e3:.0f} kB, more than "
            f"{MAX_BYTES / 1e3:.0f} kB; use fewer frames, a smaller figure or a lower dpi"
        )
    width, height = (int(side * dpi) for side in figure.get_size_inches())
    name = "player-" + hashlib.sha256("".join(pictures).encode()).hexdigest()[:12]
    page = _PLAYER
    for key, text in {
        "@NAME@": name,
        "@ALT@": html.escape(alt, quote=True),
        "@LAST@": str(len(pictures) - 1),
        "@POSTER@": pictures[-1],
        "@CAPTION@": html.escape(captions[-1]),
        "@FRAMES@": json.dumps(pictures),
        "@CAPTIONS@": json.dumps(captions, ensure_ascii=False).replace("</", "<\\/"),
        "@INTERVAL@": str(interval),
        "@WIDTH@": str(width),
        "@HEIGHT@": str(height),
    }.items():
        page = page.replace(key, text)
    return HTML(page)


def _picture(figure: Figure, dpi: int) -> str:
    """The figure as it stands, as a data address of a small PNG."""
    from PIL import Image

    raw, small = io.BytesIO(), io.BytesIO()
    figure.savefig(raw, format="png", dpi=dpi, bbox_inches=None)
    Image.open(raw).convert("RGB").quantize(64).save(small, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(small.getvalue()).decode()


_PLAYER = """\
<figure class="snn-player" id="@NAME@" style="margin:1em 0;max-width:@WIDTH@px">
<img alt="@ALT@" src="@POSTER@" width="@WIDTH@" height="@HEIGHT@"
 style="display:block;width:100%;height:auto;border-radius:6px">
<div style="display:flex;gap:.6em;align-items:center;margin-top:.4em">
<button type="button" aria-label="Play" style="font:inherit;min-width:5.2em;padding:.25em .6em;\
border:1px solid currentColor;border-radius:6px;background:none;color:inherit;cursor:pointer">\
Play</button>
<input type="range" min="0" max="@LAST@" value="@LAST@" aria-label="Frame" style="flex:1">
<output style="min-width:6em;font-variant-numeric:tabular-nums">@CAPTION@</output>
</div></figure>
<script>(() => {
const root = document.getElementById("@NAME@"), pictures = @FRAMES@, captions = @CAPTIONS@;
const [image, button, slider, caption] =
  ["img", "button", "input", "output"].map(tag => root.querySelector(tag));
let timer = null;
const show = k => {
  slider.value = k; image.src = pictures[k]; caption.textContent = captions[k];
  slider.setAttribute("aria-valuetext", captions[k]); };
const stop = () => {
  clearInterval(timer); timer = null;
  button.textContent = "Play"; button.setAttribute("aria-label", "Play"); };
const step = () => {
  const k = +slider.value + 1;
  if (k < pictures.length) show(k); else stop(); };
button.addEventListener("click", () => {
  if (timer) return stop();
  if (+slider.value === pictures.length - 1) show(0);
  button.textContent = "Pause"; button.setAttribute("aria-label", "Pause");
  timer = setInterval(step, @INTERVAL@); });
slider.addEventListener("input", () => { stop(); show(+slider.value); });
})();</script>
"""
