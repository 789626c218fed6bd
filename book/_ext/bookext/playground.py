"""``{playground}``: knobs, pad and canvases of the playground, and the networks it runs.

The page itself works out nothing in Python: ``book/_static/playground.js`` drives what stands here,
``spiking.js`` simulates. The build writes the networks (`snnlib.deploy.web`) and some handwritten
digits of scikit-learn's test set beside them, so no image is kept in the repository.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from docutils import nodes
from sphinx.util.docutils import SphinxDirective
from torch import Tensor

import snnlib as snn
from bookext.modes import interactive

FOLDER = Path("_static", "networks")
PERCENTILES = (99.0, 99.9, 100.0)
NETWORKS = {
    "digits-cnn": "small, quick",
    "mnist-cnn": "for your own handwriting",
}
RESULTS = Path(__file__).resolve().parents[2] / "results"
# The story of the book in four clicks.
PRESETS = {
    "IF after 4 steps is wrong": "net=digits-cnn&neuron=if&v0=0.5&steps=4&start=1&digit=8",
    "… now take spikes back": (
        "net=digits-cnn&neuron=ternary&negative=0&v0=0.5&steps=4&start=1&digit=8"
    ),
    "… now wider spikes": (
        "net=digits-cnn&neuron=augmented&levels=8&negative=0&v0=0.5&steps=2&start=1&digit=8"
    ),
    "IF, answering late": "net=digits-cnn&neuron=if&v0=0.5&steps=16&start=9&digit=8",
}


def write_networks(folder: Path) -> None:
    """The network files and the digits to pick, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    train, _ = snn.data.load("digits")
    ann, x = snn.models.load("digits-cnn"), snn.data.to_float(train.images)
    nets = {f"{q:g}": snn.convert(ann, x, snn.IF(), balance=snn.Percentile(q)) for q in PERCENTILES}
    others = {title: net.network.balanced for title, net in nets.items()}
    nets["99.9"].to_web(folder / "digits-cnn.safetensors", balanced=others, about="digits-cnn")
    stored = _stored("mnist-cnn")
    model, blank = snn.models.load("mnist-cnn"), torch.rand(2, 1, 28, 28)
    net = snn.convert(model, blank, snn.IF()).replace(balanced=stored)
    net.to_web(
        folder / "mnist-cnn.safetensors", half=True, balanced={"99.9": stored}, about="mnist-cnn"
    )
    digits = [image.astype(int).flatten().tolist() for image in small_digits()]
    (folder / "digits.json").write_text(json.dumps(digits), encoding="utf-8")


def small_digits() -> list[Any]:
    """The first test image of each digit as scikit-learn has it: 8 × 8, in 0 … 16.

    The page scales it to 28 × 28 as `snnlib.data` does.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return [bunch.images[np.flatnonzero(bunch.target == digit)[4]] for digit in range(10)]


def _stored(network: str) -> Mapping[str, Tensor]:
    """λ of a network whose training images a build need not have, from the stored results."""
    record = json.loads((RESULTS / "integer.json").read_text(encoding="utf-8"))
    run = next(run for run in record["runs"] if run["model"] == network)
    found = run["balanced"]
    return {name: torch.tensor(value) for name, value in found.items()}


class Playground(SphinxDirective):
    """The playground; a printed book says where it is."""

    def run(self) -> list[nodes.Node]:
        if not interactive(self.env):
            return [nodes.paragraph("", "The playground runs on the site of the book.")]
        self.env.metadata[self.env.docname]["playground"] = True
        return [nodes.raw("", markup(), format="html")]


def markup() -> str:
    """The playground's HTML."""
    networks = "".join(
        f'<option value="{name}">{name}: {html.escape(what)}</option>'
        for name, what in NETWORKS.items()
    )
    presets = "".join(
        f'<button type="button" data-preset="{html.escape(preset)}">{html.escape(title)}</button>'
        for title, preset in PRESETS.items()
    )
    return _PAGE.replace("@NETWORKS@", networks).replace("@PRESETS@", presets)


_PAGE = """\
<section id="snn-playground" aria-label="Playground">
<noscript><p>The playground needs JavaScript.</p></noscript>
<p class="unready">The playground is loading. Opened as a file it cannot load its networks: serve
the site instead, <code>python -m http.server -d _build/html</code>.</p>
<div class="presets" role="group" aria-label="Stories">@PRESETS@</div>
<div class="board">
<div class="picture">
<canvas data-part="pad" width="280" height="280" role="img"
 aria-label="Pad: draw a digit with mouse, pen or finger, or pick one below"></canvas>
<div data-part="samples" class="samples" role="group" aria-label="Pick a handwritten digit"></div>
<div class="buttons"><button type="button" data-part="clear">Clear</button>
<button type="button" data-part="play" class="main">Play</button>
<button type="button" data-part="step">Step</button>
<button type="button" data-part="restart">Restart</button></div>
</div>
<div class="answer">
<p data-part="status" class="status" role="status"></p>
<div data-part="scores" class="scores" aria-hidden="true"></div>
<p class="legend">Bars: what the output has received a step. Marks: the ANN.</p>
</div>
</div>
<div data-part="layers" class="layers"></div>
<p class="legend">Gray: how often a neuron has fired. <b class="up">Orange</b>: it fires in
this step; <b class="down">blue</b>: it takes spikes back.</p>
<div class="knobs">
<label>Network <select data-knob="net">@NETWORKS@</select></label>
<label>Neuron <select data-knob="neuron"><option value="if">IF</option>
<option value="ternary">TerMapping</option>
<option value="augmented">AugMapping</option></select></label>
<label data-part="levels">Levels <output data-value="levels"></output>
<input type="range" data-knob="levels" min="1" max="16" value="4"></label>
<label data-part="negative">Negative threshold / θ <output data-value="negative"></output>
<input type="range" data-knob="negative" min="0" max="1" step="0.05" value="0"></label>
<label>Initial potential / θ <output data-value="v0"></output>
<input type="range" data-knob="v0" min="0" max="1" step="0.05" value="0.5"></label>
<label>Thresholds: percentile <select data-knob="balance">
<option value="99.9">99.9 %</option></select></label>
<label>Steps <output data-value="steps"></output>
<input type="range" data-knob="steps" min="1" max="64" value="16"></label>
<label>Answer from step <output data-value="start"></output>
<input type="range" data-knob="start" min="1" max="32" value="1"></label>
</div>
<dl class="bill">
<div><dt>Events</dt><dd data-part="events">0</dd></div>
<div><dt>Synaptic operations</dt><dd data-part="synops">0</dd></div>
<div><dt>MACs of the ANN</dt><dd data-part="macs"></dd></div>
<div><dt>Energy of the ANN's, this book's account</dt><dd data-part="ours"></dd></div>
<div><dt>… the literature's account</dt><dd data-part="theirs"></dd></div>
</dl>
<p class="legend">This is one digit: it says how a network works, not how accurate it is.
Network: <span data-part="about"></span>.
<label class="file">Open one of your own
<input type="file" accept=".safetensors" data-part="file"></label></p>
</section>
"""


def assets(app: Any, pagename: str, templatename: str, context: Any, doctree: Any) -> None:
    """Script and style on the page that has a playground."""
    if app.env.metadata.get(pagename, {}).get("playground"):
        app.add_css_file("playground.css")
        app.add_js_file("playground.js", type="module")


def build(app: Any, error: Exception | None) -> None:
    """The networks, beside the site's own files."""
    wanted = any(about.get("playground") for about in app.env.metadata.values())
    if error is None and wanted and app.builder.name in ("html", "dirhtml"):
        write_networks(Path(app.outdir) / FOLDER)


def setup(app: Any) -> None:
    app.add_directive("playground", Playground)
    app.connect("html-page-context", assets)
    app.connect("build-finished", build)
