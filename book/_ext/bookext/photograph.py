"""``{hero}``: a photograph that emerges from spikes, and the preview picture made of it.

Each pixel is three integrate-and-fire neurons, one a color, driven by the color's intensity. What
is shown after t steps is their spike count divided by t. The photograph comes with scikit-learn,
so no picture is kept in the repository.
"""

from __future__ import annotations

import html
import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

import snnlib
from bookext.modes import interactive

STEPS = (1, 2, 4, 8, 16, 32)
# All steps take less than five seconds: what moves longer by itself needs a pause (WCAG 2.2.2).
INTERVAL = 750  # ms
CROP = (0, 60, 640, 380)
CREDIT = "danielbuechele, CC BY 2.0"
PREVIEW = "social.jpg"


class Emerging(NamedTuple):
    """The photograph after some steps.

    Attributes:
        steps: how many.
        picture: spike counts / steps, uint8 (height, width, 3).
        spikes: sent so far, a pixel and color.
    """

    steps: int
    picture: np.ndarray
    spikes: float


def photograph() -> np.ndarray:
    """A temple by a lake, as currents from 0 to 1: (427, 640, 3)."""
    from sklearn.datasets import load_sample_image

    return load_sample_image("china.jpg") / 255.0


def emerge(currents: np.ndarray, steps: tuple[int, ...] = STEPS) -> list[Emerging]:
    """Drive one neuron a value with a constant current and look at the counts after some steps."""
    neuron = snnlib.IF()
    z, theta = torch.from_numpy(currents), torch.ones((), dtype=torch.float64)
    state, found = neuron.initial(z, theta), []
    for t in range(1, max(steps) + 1):
        _, state = neuron.step(state, z, theta)
        if t in steps:
            counts = state.count.numpy()
            picture = np.rint(255 * counts / t).astype(np.uint8)
            found.append(Emerging(t, picture, float(counts.mean())))
    return found


def stored(picture: np.ndarray) -> bytes:
    """The picture as a file: exact while there are few colors, else of good quality."""
    from PIL import Image

    image = Image.fromarray(picture)
    exact, good = {"lossless": True}, {"quality": 78, "method": 6}
    return min((encoded(image, "webp", **how) for how in (exact, good)), key=len)


def jpeg(picture: np.ndarray) -> bytes:
    """The picture as a file for e-readers, which need not know WebP."""
    from PIL import Image

    return encoded(Image.fromarray(picture), "jpeg", quality=88)


def encoded(image: Any, kind: str, **options: Any) -> bytes:
    """A Pillow image as a file of this kind."""
    target = io.BytesIO()
    image.save(target, format=kind, **options)
    return target.getvalue()


def spoken(frame: Emerging) -> str:
    """What the line below the picture says of a frame."""
    return f"{frame.steps} step{'s' * (frame.steps > 1)}, {frame.spikes:.1f} spikes a neuron"


def hero(frames: list[Emerging], sources: list[str], caption: str) -> str:
    """The last frame as an image; with scripts it plays once, and has a button and a slider.

    Nothing moves for readers who want less motion until they press the button.
    """
    height, width, _ = frames[-1].picture.shape
    says, last = [spoken(frame) for frame in frames], len(frames) - 1
    alt = (
        "A temple on a hill above a lake. After one step only the purest colors are there, each "
        "fully on or off; with every doubling of the steps more shades appear, until after "
        f"{frames[-1].steps} steps it looks like a photograph."
    )
    return f"""\
<figure class="snn-hero snn-player" data-frames="{html.escape(" ".join(sources))}"
 data-says="{html.escape("|".join(says))}" data-interval="{INTERVAL}">
<img src="{sources[-1]}" width="{width}" height="{height}" alt="{html.escape(alt)}">
<div class="snn-controls" hidden>
<button type="button">Play</button>
<input type="range" min="0" max="{last}" value="{last}" aria-label="Time steps">
<output>{says[-1]}</output>
</div>
<figcaption>{caption}</figcaption></figure>
{SCRIPT}"""


SCRIPT = """\
<script>(() => {
const root = document.currentScript.previousElementSibling, says = root.dataset.says.split("|");
const frames = root.dataset.frames.split(" ");
const [image, controls, button, slider, output] =
  ["img", ".snn-controls", "button", "input", "output"].map(tag => root.querySelector(tag));
let timer = null;
const show = k => {
  slider.value = k; image.src = frames[k]; output.textContent = says[k];
  slider.setAttribute("aria-valuetext", says[k]); };
const stop = () => { clearInterval(timer); timer = null; button.textContent = "Play"; };
const play = () => {
  if (+slider.value === frames.length - 1) show(0);
  button.textContent = "Pause";
  timer = setInterval(() => {
    show(+slider.value + 1); if (+slider.value === frames.length - 1) stop(); },
    +root.dataset.interval); };
const load = () => Promise.all(frames.map(address => {
  const one = new Image(); one.src = address; return one.decode(); }));
button.addEventListener("click", () => timer ? stop() : play());
slider.addEventListener("input", () => { stop(); show(+slider.value); });
slider.setAttribute("aria-valuetext", output.textContent);
controls.hidden = false;
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
if (!still) load().then(() => { if (!timer && +slider.value === frames.length - 1) play(); })
  .catch(() => {});
})();</script>"""


class Hero(SphinxDirective):
    """The picture of the title page; the content is its caption."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        left, top, right, bottom = CROP
        frames = emerge(photograph()[top:bottom, left:right])
        plays = interactive(self.env)
        frames = frames if plays else frames[-1:]
        folder = Path(self.env.app.outdir) / "_images"
        folder.mkdir(parents=True, exist_ok=True)
        sources = []
        for frame in frames:
            name = f"emerging-{frame.steps:02d}.{'webp' if plays else 'jpg'}"
            (folder / name).write_bytes(stored(frame.picture) if plays else jpeg(frame.picture))
            sources.append("../" * self.env.docname.count("/") + f"_images/{name}")
        caption = html.escape(" ".join(self.content)) + f" Photograph: {CREDIT}."
        return [nodes.raw("", hero(frames, sources, caption), format="html")]


def preview() -> bytes:
    """The picture shown where someone shares a page: the title, and the photograph in strips."""
    from PIL import Image, ImageDraw

    width, height, strip = 1200, 630, 170
    card = Image.new("RGB", (width, height), "#0b1f30")
    size = (944, height)  # the photograph as high as the card
    steps = (1, 2, 4, 32)
    for k, frame in enumerate(emerge(photograph(), steps)):
        image = Image.fromarray(frame.picture).resize(size, Image.Resampling.LANCZOS)
        left = 60 + k * strip
        card.paste(image.crop((left, 0, left + strip, height)), (width + (k - 4) * strip, 0))
    draw = ImageDraw.Draw(card)
    for row, line in enumerate(("From trained", "network", "to spiking", "network")):
        draw.text((56, 110 + 78 * row), line, "#ffffff", font(60, "bold"))
    draw.text((58, 462), "An executable book with snnlib", "#c6d6e4", font(26))
    draw.text((58, 560), f"Photograph: {CREDIT}", "#9db8cc", font(18))
    for k, t in enumerate(steps):
        said = f"{t} step{'s' * (t > 1)}"
        middle = width + (k - 3.5) * strip
        draw.rounded_rectangle((middle - 62, 572, middle + 62, 612), 8, fill="#0b1f30")
        draw.text((middle, 592), said, "#ffffff", font(22), anchor="mm")
    return encoded(card, "jpeg", quality=82, optimize=True, progressive=True)


def font(size: int, weight: str = "normal") -> Any:
    """DejaVu Sans, which ships with matplotlib."""
    from matplotlib.font_manager import FontProperties, findfont
    from PIL import ImageFont

    return ImageFont.truetype(findfont(FontProperties(family="DejaVu Sans", weight=weight)), size)


def write_preview(app: Any, error: Exception | None) -> None:
    """Put the preview picture beside the site's other static files, where its address points."""
    if error is None and interactive(app.env):
        (Path(app.outdir) / "_static" / PREVIEW).write_bytes(preview())


def setup(app: Any) -> None:
    app.add_directive("hero", Hero)
    app.connect("build-finished", write_preview)
