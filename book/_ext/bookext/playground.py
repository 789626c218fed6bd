"""``{playground}``: knobs, pad and canvases of the playground, and the networks it runs.

The page itself works out nothing in Python: ``book/_static/playground.js`` drives what stands here,
``spiking.js`` simulates. The build writes the networks (`snnlib.deploy.web`) and some handwritten
digits of scikit-learn's test set beside them, so no image is kept in the repository.
"""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from docutils import nodes
from sphinx.util.docutils import SphinxDirective
from torch import Tensor

import snnlib as snn
from book.experiments.playground import PERCENTILES
from bookext.modes import interactive

FOLDER = Path("_static", "networks")
NETWORKS = {
    "digits-cnn": "small",
    "mnist-cnn": "larger",
}
RESULTS = Path(__file__).resolve().parents[2] / "results"
# The story of the book in four steps, for the digit 8.
_DIGITS = "net=digits-cnn&v0=0.5&balance=99.9&digit=8&"
PRESETS = {
    "IF neurons, 6 steps": _DIGITS + "neuron=if&steps=6&start=1",
    "Spikes may be taken back": _DIGITS + "neuron=ternary&negative=0&steps=6&start=1",
    "Spikes as numbers": _DIGITS + "neuron=augmented&levels=8&negative=0&steps=2&start=1",
    "IF neurons, read late": _DIGITS + "neuron=if&steps=16&start=9",
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
    net = snn.convert(model, blank, snn.IF()).replace(balanced=stored["99.9"])
    net.to_web(folder / "mnist-cnn.safetensors", balanced=stored, about="mnist-cnn")
    digits = [image.astype(int).flatten().tolist() for image in small_digits()]
    (folder / "digits.json").write_text(json.dumps(digits), encoding="utf-8")


def small_digits() -> list[Any]:
    """The first test image of each digit as scikit-learn has it: 8 × 8, in 0 … 16.

    The page scales it to 28 × 28 as `snnlib.data` does.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return [bunch.images[np.flatnonzero(bunch.target == digit)[4]] for digit in range(10)]


def _stored(network: str) -> dict[str, dict[str, Tensor]]:
    """λ at every percentile of a network whose training images a build need not have."""
    record = json.loads((RESULTS / "playground.json").read_text(encoding="utf-8"))
    return {
        f"{run['percentile']:g}": {name: torch.tensor(v) for name, v in run["balanced"].items()}
        for run in record["runs"]
        if run["model"] == network
    }


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
        f'<option value="{name}">{name} ({html.escape(what)})</option>'
        for name, what in NETWORKS.items()
    )
    presets = "".join(
        f'<button type="button" data-preset="{html.escape(preset)}" aria-pressed="false">'
        f"<b>{number}</b> {html.escape(title)}</button>"
        for number, (title, preset) in enumerate(PRESETS.items(), 1)
    )
    return _PAGE.replace("@NETWORKS@", networks).replace("@PRESETS@", presets)


_PAGE = """\
<section id="snn-playground" aria-label="Playground">
<noscript><p>The playground needs JavaScript.</p></noscript>
<p class="unready">The playground is loading. Opened as a file it cannot load its networks: serve
the site instead, <code>python -m http.server -d _build/html</code>.</p>
<div class="presets" role="group" aria-label="A story in four steps">@PRESETS@</div>
<div class="board">
<div class="picture">
<canvas data-part="pad" width="280" height="280" role="img"
 aria-label="Pad: draw a digit with mouse, pen or finger, or pick one below"></canvas>
<div class="buttons"><button type="button" data-part="play" class="main">Play</button>
<button type="button" data-part="step">Step</button>
<button type="button" data-part="restart">Restart</button>
<button type="button" data-part="clear">Clear</button></div>
<div data-part="samples" class="samples" role="group" aria-label="Pick a handwritten digit"></div>
</div>
<div class="result">
<div class="verdict"><p>Spiking network <strong data-part="answer" class="lead">–</strong></p>
<p>ANN <strong data-part="ann">–</strong></p></div>
<p data-part="status" class="status" role="status"></p>
<div data-part="scores" class="scores" aria-hidden="true"></div>
<p class="legend">Bars: mean input of each output so far. Dashed: the ANN's.</p>
</div>
</div>
<div class="knobs" role="group" aria-label="Settings">
<label>Neuron <select data-knob="neuron"><option value="if">IF</option>
<option value="ternary">TerMapping</option>
<option value="augmented">AugMapping</option></select></label>
<label><span>Steps <output data-value="steps"></output></span>
<input type="range" data-knob="steps" min="1" max="64" value="16"></label>
<label><span>Negative threshold <output data-value="negative"></output></span>
<input type="range" data-knob="negative" min="0" max="1" step="0.05" value="0"></label>
<label><span>Levels <output data-value="levels"></output></span>
<input type="range" data-knob="levels" min="1" max="16" value="4"></label>
<label><span>Initial potential <output data-value="v0"></output></span>
<input type="range" data-knob="v0" min="0" max="1" step="0.05" value="0.5"></label>
<label><span>Answer from step <output data-value="start"></output></span>
<input type="range" data-knob="start" min="1" max="32" value="1"></label>
<label>Thresholds at <select data-knob="balance">
<option value="99.9">99.9 %</option></select></label>
<label>Network <select data-knob="net">@NETWORKS@</select></label>
</div>
<div data-part="layers" class="layers"></div>
<p class="legend">One square a neuron. Gray: how much it has sent. <b class="up">Orange</b>: it
fires in this step; <b class="down">blue</b>: it takes back; the larger the spike, the larger or
stronger the mark. Press a layer to see it larger.</p>
<dl class="bill">
<div><dt>Events so far</dt><dd data-part="events">0</dd></div>
<div><dt>Synaptic operations</dt><dd data-part="synops">0</dd></div>
<div><dt>The ANN's MACs</dt><dd data-part="macs"></dd></div>
<div><dt>Energy, of the ANN's: this book's account</dt><dd data-part="ours"></dd></div>
<div><dt>Energy, of the ANN's: the usual account</dt><dd data-part="theirs"></dd></div>
</dl>
<p class="legend">This is one digit: it shows how a network works, not how accurate it is.
Network: <span data-part="about"></span>.</p>
<div class="foot"><button type="button" data-part="copy">Copy link</button>
<label class="file">Open a network of your own
<input type="file" accept=".safetensors" data-part="file"></label></div>
</section>
"""


def assets(app: Any, pagename: str, templatename: str, context: Any, doctree: Any) -> None:
    """Script and style on a page that has a playground, or a control that needs no kernel."""
    if app.env.metadata.get(pagename, {}).get("playground"):
        app.add_css_file("playground.css")
        app.add_js_file("playground.js", type="module")
    if 'class="snn-widget"' in context.get("body", ""):
        app.add_css_file("widgets.css")
        app.add_js_file("widgets.js", type="module")


def build(app: Any, error: Exception | None) -> None:
    """The networks, beside the site's own files."""
    wanted = any(about.get("playground") for about in app.env.metadata.values())
    if error is None and wanted and app.builder.name in ("html", "dirhtml"):
        write_networks(Path(app.outdir) / FOLDER)


def setup(app: Any) -> None:
    app.add_directive("playground", Playground)
    app.connect("html-page-context", assets)
    app.connect("build-finished", build)
