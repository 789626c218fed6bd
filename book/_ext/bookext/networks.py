"""What a page shows of one network at a time: blocks by network, and the selector that picks one.

Without scripts all blocks are shown, one below the other. ``{network-selector}`` places a menu that
stays in view; ``book/_static/results.js`` shows the blocks of the network that it names.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from bookext.figures import NETWORKS
from bookext.modes import interactive

NAMES = {
    "cifar10-resnet": "CIFAR-10, residual network",
    "cifar10-vgg": "CIFAR-10, VGG",
    "cifar10-vgg-max": "CIFAR-10, VGG with max pooling",
    "fashion-cnn": "Fashion-MNIST, convolutional",
    "mnist-cnn": "MNIST, convolutional",
    "fashion-mlp": "Fashion-MNIST, fully connected",
    "mnist-mlp": "MNIST, fully connected",
    "digits-cnn": "Digits, convolutional",
}
SCRIPT, STYLE = "results.js", "results.css"


def ordered(found: Iterable[str]) -> list[str]:
    """Networks by name, the hardest first; those that the book does not know last."""
    return sorted(dict.fromkeys(found), key=lambda name: (*NETWORKS, name).index(name))


def by_network(rows: Iterable[Any]) -> dict[str, list[Any]]:
    """The rows of each network, the hardest first."""
    found: dict[str, list[Any]] = {}
    for row in rows:
        found.setdefault(row["model"], []).append(row)
    return {name: found[name] for name in ordered(found)}


def title(network: str) -> str:
    """A network in words, with the name that code calls it by."""
    return f"{NAMES[network]} ({network})" if network in NAMES else network


def blocks(env: Any, found: Mapping[str, Sequence[nodes.Node]]) -> list[nodes.Node]:
    """What belongs to each network, of which a reader with scripts sees one at a time.

    A printed book or an e-book cannot choose, and shows the first, the hardest network.
    """
    names = ordered(found)
    if not names:
        return []
    if not interactive(env):
        return list(found[names[0]])
    missing = "" if set(NETWORKS) <= set(names) else f"Measured on {_listed(names)} only."
    note = f'<p class="snn-absent" hidden>{html.escape(missing)}</p>' if missing else ""
    out: list[nodes.Node] = [nodes.raw("", f'<div class="snn-per">{note}', format="html")]
    for name in names:
        shown = " snn-on" if name == names[0] else ""
        start = f'<div class="snn-of{shown}" data-network="{html.escape(name)}">'
        out += [
            nodes.raw("", start, format="html"),
            *found[name],
            nodes.raw("", "</div>", format="html"),
        ]
    return [*out, nodes.raw("", "</div>", format="html")]


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


class NetworkSelector(SphinxDirective):
    """The menu; a page without scripts does not show it."""

    def run(self) -> list[nodes.Node]:
        if not interactive(self.env):
            return []
        self.env.metadata[self.env.docname]["network-selector"] = True
        options = "".join(f'<option value="{name}">{title(name)}</option>' for name in NETWORKS)
        text = (
            # Before the blocks are read, so that none of them flashes up.
            "<script>document.documentElement.classList.add('snn-choosing')</script>"
            '<div class="snn-choose"><label for="snn-network">Network</label>'
            f'<select id="snn-network" autocomplete="off">{options}'
            '<option value="all">All networks, one below the other</option></select>'
            '<span class="snn-chosen" role="status"></span></div>'
        )
        return [nodes.raw("", text, format="html")]


def assets(app: Any, pagename: str, templatename: str, context: Any, doctree: Any) -> None:
    """The style of stored tables where there are some, the script where the selector is."""
    about = app.env.metadata.get(pagename, {})
    if about.get("network-selector") or about.get("stored-tables"):
        app.add_css_file(STYLE)
    if about.get("network-selector"):
        app.add_js_file(SCRIPT, loading_method="defer")


def setup(app: Any) -> None:
    app.add_directive("network-selector", NetworkSelector)
    app.connect("html-page-context", assets)
