"""``{start-buttons}`` and ``{run-code}``: what the welcome page has besides text and figures."""

from __future__ import annotations

import contextlib
import io
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from bookext import editions

READ = "why_spikes"
RUN = "01_neurons"


class StartButtons(SphinxDirective):
    """Two buttons: the first page to read, the first chapter to run."""

    def run(self) -> list[nodes.Node]:
        if "launch_buttons" not in self.config.html_theme_options:  # on paper
            return []
        run = editions.launch(self.env.app, f"book/{RUN}")["Colab"]
        found = self.parse_text_to_nodes(f"[Start reading]({READ}.ipynb) [Run it in Colab]({run})")
        for node in found:
            node["classes"].append("snn-buttons")
        return found


def output_of(code: str) -> str:
    """What a piece of Python prints, run in a namespace of its own."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code, "<run-code>", "exec"), {"__name__": "run-code"})
    return said.getvalue().rstrip()


class RunCode(SphinxDirective):
    """Python that is run when the site is built, with what it printed below it."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        code = "\n".join(self.content)
        printed = output_of(code)
        blocks = [
            nodes.literal_block(text, text, language=language, classes=[kind])
            for text, language, kind in ((code, "python", "code"), (printed, "none", "printed"))
        ]
        return [nodes.container("", *blocks, classes=["snn-run"])]


def setup(app: Any) -> None:
    app.add_directive("start-buttons", StartButtons)
    app.add_directive("run-code", RunCode)
