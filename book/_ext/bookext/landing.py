"""``{start-buttons}`` and ``{run-code}``: what the welcome page has besides text and figures."""

from __future__ import annotations

import contextlib
import io
from typing import Any
from urllib.parse import urlparse

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

READ = "why_spikes"
RUN = "01_neurons"


def colab_address(options: dict[str, Any], page: str) -> str:
    """Where Colab opens a chapter, from the options of ``_config.yml``."""
    repository = urlparse(options["repository_url"]).path.strip("/")
    host = options["launch_buttons"]["colab_url"].rstrip("/")
    branch = options["repository_branch"]
    return f"{host}/github/{repository}/blob/{branch}/book/{page}.ipynb"


class StartButtons(SphinxDirective):
    """Two buttons: the first page to read, the first chapter to run."""

    def run(self) -> list[nodes.Node]:
        run = colab_address(self.config.html_theme_options, RUN)
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
