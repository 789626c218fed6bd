"""What cells show: figures with number and caption, dark twins, outputs that wrap, fewer folds.

The caption of a figure is the first sentence of its alt text, and the alt text keeps the others,
so that nobody hears it twice. Sphinx numbers what has a caption: Figure 2.3. A cell's metadata may
name a figure, so that text can cite it with ``{numref}``:
``"mystnb": {"figure": {"name": "fig-rates-parabola"}}``.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform

from bookext.modes import interactive
from snnlib.plots import twins

LONG = 110  # characters of a caption beyond which it ends at its colon
WIDE = 80  # characters that a page shows of a line of output
DARK = "only-dark"


def caption_and_alt(alt: str) -> tuple[str, str]:
    """The first sentence of an alt text, and what is left; all of it where nothing would be left.

    A long first sentence ends at its colon, if it has one.
    """
    text = " ".join(alt.split())
    found = re.match(r"(.+?[.!?])\s+(?=[A-Z\d“(])", text)
    first, rest = (found[1], text[found.end() :]) if found else (text, "")
    if len(first) > LONG and ": " in first:
        first, more = first.split(": ", 1)
        rest = f"{more[0].upper()}{more[1:]} {rest}".strip()
        first += "."
    return first, rest or text


class MergedFolds(SphinxTransform):
    """One fold where several would follow each other: folded code without output joins the next."""

    default_priority = 820

    def apply(self, **kwargs: Any) -> None:
        for cell in list(self.document.findall(_is_folded)):
            cell["prompt_show"], cell["prompt_hide"] = "Show the code", "Hide the code"
            place = cell.parent.index(cell) + 1
            after = cell.parent[place] if place < len(cell.parent) else None
            if len(cell) == 1 and after is not None and _is_folded(after):
                after[0].insert(0, cell[0].children)
                cell.parent.remove(cell)


def _is_folded(node: nodes.Node) -> bool:
    """Is it a code cell whose code, and nothing else, is folded?"""
    return (
        isinstance(node, nodes.container)
        and node.get("nb_element") == "cell_code"
        and node.get("hide_mode") == "input"
        and node[0].get("nb_element") == "cell_code_source"
    )


class Captions(SphinxTransform):
    """Images and players in the outputs of cells become figures with a caption."""

    default_priority = 830  # before images are collected, and before anything is numbered

    def apply(self, **kwargs: Any) -> None:
        for output in list(self.document.findall(_is_output)):
            for image in list(output.findall(nodes.image)):
                caption, image["alt"] = caption_and_alt(image.get("alt", ""))
                # In a box, since the theme hides captions that follow an image of the other mode.
                box = nodes.container("", classes=["snn-image"])
                image.parent[image.parent.index(image)] = box
                box += [image, *self.twin(image)]
                self.caption(box, caption)
            for player in list(output.findall(nodes.raw)):
                found = re.search(r'<img alt="([^"]*)"', player.astext())
                if 'class="snn-player"' in player.astext() and found:
                    caption, rest = caption_and_alt(html.unescape(found[1]))
                    shown = player.astext().replace(found[0], f'<img alt="{html.escape(rest)}"', 1)
                    new = nodes.raw("", shown, format=player["format"])
                    player.replace_self(new)
                    self.caption(new, caption)

    def twin(self, image: nodes.image) -> Iterator[nodes.image]:
        """The dark twin of an image, if it has one; the image itself is then the light page's."""
        _, name = self.env.relfn2path(image["uri"], self.env.docname)
        path = Path(name)
        dark = twins.dark_png(path.read_bytes()) if path.suffix == ".png" else None
        if dark is None:
            return
        other = path.with_name(f"{path.stem}-dark.png")
        other.write_bytes(dark)
        image["classes"].append("only-light")
        twin = image.deepcopy()
        twin["uri"] = image["uri"].removesuffix(".png") + "-dark.png"
        twin["classes"] = [DARK]
        yield twin

    def caption(self, shown: nodes.Element, text: str) -> None:
        """Put a caption under what is shown, in its figure or a new one."""
        figure: Any = shown.parent
        while figure is not None and not isinstance(figure, nodes.figure):
            figure = figure.parent
        if figure is None:
            figure = nodes.figure()
            shown.parent[shown.parent.index(shown)] = figure
            figure += shown
        if not text or any(isinstance(child, nodes.caption) for child in figure):
            return
        figure["classes"].append("snn-captioned")
        figure += nodes.caption("", text)
        if not figure["ids"]:
            name = base = f"fig-{nodes.make_id(text)[:40].rstrip('-')}"
            number = 1
            while name in self.document.ids:
                number += 1
                name = f"{base}-{number}"
            figure["ids"] = [name]
            self.document.ids[name] = figure


def _is_output(node: nodes.Node) -> bool:
    return isinstance(node, nodes.container) and node.get("nb_element") == "cell_code_output"


class Printed(SphinxTransform):
    """Printed lines that are wider than a page wrap; tables of a cell scroll in a box."""

    default_priority = 840

    def apply(self, **kwargs: Any) -> None:
        for output in self.document.findall(_is_output):
            for block in output.findall(nodes.literal_block):
                if any(len(line) > WIDE for line in block.astext().splitlines()):
                    block["classes"].append("snn-wrap")
            for raw in list(output.findall(nodes.raw)):
                text = raw.astext()
                if '<table class="snn-table"' in text:
                    boxed = f'<div class="table-scroll">{text}</div>'
                    raw.replace_self(nodes.raw("", boxed, format=raw["format"]))


class OneMode(SphinxPostTransform):
    """Only the site has a dark mode: elsewhere the dark twins would stand below the others."""

    default_priority = 5  # behind the choice of an output's type, before images are copied

    def run(self, **kwargs: Any) -> None:
        if interactive(self.env):
            return
        for image in list(self.document.findall(nodes.image)):
            if DARK in image["classes"]:
                image.parent.remove(image)


def setup(app: Any) -> None:
    for transform in (MergedFolds, Captions, Printed):
        app.add_transform(transform)
    app.add_post_transform(OneMode)
    app.add_js_file("book.js")
