"""Pages for paper and for e-readers: no script, nothing that moves, every picture a file.

`python -m book.press` builds the book with Sphinx's ePub builder and the tag ``paper``. The pages
it writes are the ePub, and bound into one they are printed as the PDF. What a page of the site does
with a script is done here without: a player shows its last frame and says where it plays, a folded
box is an element that folds by itself, a control is left out.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

from bs4 import BeautifulSoup, Tag

from book.press.pages import STYLES
from bookext.address import pages_address

# Parsing HTML writes the names of attributes small, SVG spells these with capitals.
SVG = ("viewBox", "preserveAspectRatio", "gradientUnits", "gradientTransform", "patternUnits",
       "clipPath", "linearGradient", "radialGradient", "textLength", "pathLength")  # fmt: skip
NEEDS_SCRIPT = "script, noscript, style, button, input, output, select, textarea, iframe"
OBSOLETE = ("align", "border", "valign", "bgcolor", "cellpadding", "cellspacing")


def still(body: str, page: str, images: Path, up: str) -> str:
    """The content of a page, well-formed, without what needs a script.

    Args:
        body: the content as HTML.
        page: the address of the page on the site, where its players play.
        images: the folder into which pictures that are part of the page are written.
        up: how the page names that folder.
    """
    soup = BeautifulSoup(body, "html.parser")
    for player in soup.select(".snn-player"):
        note = soup.new_tag("p", attrs={"class": "snn-plays"})
        note.append("The last frame of an animation. ")
        link = soup.new_tag("a", href=page, string="It plays on the page of this chapter.")
        note.append(link)
        player.append(note)
    for tag in soup.select(f"{NEEDS_SCRIPT}, .headerlink, .only-dark, .copybtn"):
        tag.decompose()
    _fold(soup)
    for summary in soup.select("details.hide > summary"):
        summary.string = "Code"
    for image in soup.find_all("img"):
        _file(image, images, up)
    for drawing in soup.find_all("svg"):
        drawing["xmlns"] = "http://www.w3.org/2000/svg"
    for tag in soup.find_all(True):
        for name in OBSOLETE:
            tag.attrs.pop(name, None)
        if tag.get("role") == "doc-biblioentry":  # withdrawn: an entry is an item of a list
            del tag["role"]
    for empty in soup.select("figure > div, figcaption, p"):
        if not empty.get_text(strip=True) and not empty.find(True):
            empty.decompose()
    text = soup.decode(formatter="minimal")
    for name in SVG:
        text = re.sub(rf"(?<=[\s</]){name.lower()}(?=[\s=>])", name, text)
    return text


def _fold(soup: BeautifulSoup) -> None:
    """Boxes that the site folds by a script become elements that fold by themselves."""
    for box in soup.select("div.dropdown"):
        title = box.find(class_="admonition-title")
        if title is None:
            continue
        details, summary = soup.new_tag("details"), soup.new_tag("summary")
        details["class"] = " ".join(name for name in box["class"] if name != "dropdown")
        if "id" in box.attrs:
            details["id"] = box["id"]
        summary["class"] = title["class"]
        summary.extend(list(title.contents))
        title.decompose()
        details.extend([summary, *list(box.contents)])
        box.replace_with(details)


def _file(image: Tag, images: Path, up: str) -> None:
    """A picture that is part of the page becomes a file beside it."""
    found = re.match(r"data:image/(png|jpeg|svg\+xml);base64,(.*)", str(image["src"]), re.S)
    if not found:
        return
    data = base64.b64decode(found[2])
    kind = {"jpeg": "jpg", "svg+xml": "svg"}.get(found[1], found[1])
    name = f"{hashlib.sha256(data).hexdigest()[:16]}.{kind}"
    images.mkdir(parents=True, exist_ok=True)
    (images / name).write_bytes(data)
    image["src"] = f"{up}/{name}"


def configure(app: Any, config: Any) -> None:
    """What differs from the site, if the tag says that the book is made for paper."""
    if not app.tags.has("paper"):
        return
    options = config.html_theme_options
    config.html_math_renderer = "mathml"
    # The theme of the site would look for its buttons.
    kept = ("repository_url", "repository_branch")
    config.html_theme_options = {name: options[name] for name in kept}
    config.html_css_files, config.html_extra_path = [], []
    config.html_static_path = ["book/press/static"]
    config.html_show_sourcelink = False


def on_page(app: Any, pagename: str, templatename: str, context: Any, doctree: Any) -> None:
    if not app.tags.has("paper") or not context.get("body"):
        return
    depth = pagename.count("/")
    site = pages_address(app.config.html_theme_options["repository_url"])
    images = Path(app.outdir) / "_images"
    up = "../" * depth + "_images"
    context["body"] = still(context["body"], f"{site}{pagename}.html", images, up)
    context["css_files"] = list(STYLES)
    context["script_files"] = []


def setup(app: Any) -> None:
    app.connect("config-inited", configure, priority=200)
    app.connect("html-page-context", on_page, priority=998)
