"""The PDF, the ePub and the slides on the site: copied where they were made, linked only then.

``make pdf epub slides book`` makes a site that carries them. Without them no link is shown, so none
is ever dead. ``{take-along}`` is the line for a page; every page has the links in its footer.
"""

from __future__ import annotations

import html
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from bookext.modes import interactive

FOLDER = "take-along"
KINDS = {".pdf": "PDF", ".epub": "ePub"}


def forms(source: Path) -> list[tuple[str, Path]]:
    """What was made: the names of the forms with their files, slides last."""
    folder = source / "_build" / "press"
    found = [
        (KINDS[path.suffix], path) for suffix in KINDS for path in sorted(folder.glob(f"*{suffix}"))
    ]
    slides = sorted(folder.glob("slides-*.html"))
    names = [path.stem.replace("slides-part-", "slides of part ") for path in slides]
    return found + list(zip(names, slides, strict=True))


def links(source: Path, up: str) -> str:
    """Links to the files as HTML, or nothing."""
    return ", ".join(
        f'<a href="{up}{FOLDER}/{path.name}">{html.escape(name)}</a>'
        for name, path in forms(source)
    )


class TakeAlong(SphinxDirective):
    """A line that links the forms that were made, or says how to make them."""

    def run(self) -> list[nodes.Node]:
        if not interactive(self.env):
            return []  # whoever reads this has taken the book along
        self.env.note_reread()  # the files may be there the next time
        there = links(Path(self.env.srcdir), "../" * self.env.docname.count("/"))
        if not there:
            return self.parse_text_to_nodes(
                "To take the book along, run `make pdf`, `make epub` or `make slides` in a copy of "
                "the repository."
            )
        return [nodes.raw("", f"<p>Take the book along: {there}.</p>", format="html")]


def on_page(app: Any, pagename: str, templatename: str, context: Any, doctree: Any) -> None:
    if app.builder.name != "html" or pagename == "404":
        return
    there = links(Path(app.srcdir), "../" * pagename.count("/"))
    if there:
        footer = context.get("theme_extra_footer", "")
        context["theme_extra_footer"] = f"{footer}<p>Take it along: {there}.</p>"


def copy(app: Any, exception: Exception | None) -> None:
    if exception or app.builder.name != "html":
        return
    target = Path(app.outdir) / FOLDER
    shutil.rmtree(target, ignore_errors=True)
    for _, path in forms(Path(app.srcdir)):
        target.mkdir(exist_ok=True)
        shutil.copy2(path, target)


def setup(app: Any) -> None:
    app.add_directive("take-along", TakeAlong)
    app.connect("html-page-context", on_page)
    app.connect("build-finished", copy)
