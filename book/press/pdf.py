"""The book as a PDF: its pages bound into one, printed by Chromium, twice.

The first print tells on which page everything is, the second carries the numbers in the contents
and beside the exercises. Formulas are MathML, which Chromium draws; all fonts come with Python
packages, so the PDF looks the same on every machine and nothing is fetched.
"""

from __future__ import annotations

import html
import re
from pathlib import Path

from book.press import bind, chromium, fonts
from book.press.pages import DESCRIPTION, NAME, STYLES, Part, config, contents

HERE = Path(__file__).resolve().parent
FIT = (HERE / "fit.js").read_text(encoding="utf-8")


def title_page(said: dict[str, str], hero: str, version: str) -> str:
    return f"""<header class="cover">
<p class="cover-author">{html.escape(said["author"])}</p>
<h1 class="unnumbered">{html.escape(said["title"])}</h1>
<p class="cover-line">{html.escape(DESCRIPTION)}</p>
{hero}
<p class="cover-foot">In print solutions stand at the back, animations show their last frame, and
code that only draws and the tables of every network are left to the site and the notebooks.</p>
<p class="cover-foot cover-last">Version {version} · text CC BY 4.0, code MIT<br/>
{html.escape(said["site"])}</p>
</header>"""


def document(pages: Path, parts: list[Part], said: dict[str, str], version: str) -> str:
    """The whole book as one page of HTML."""
    bound = bind.bind(pages, parts)
    front = bound[0][1][0].body
    figure = front.select_one("figure.snn-hero, figure.snn-player")
    hero = figure.select_one("svg, img") if figure else None
    if figure is not None:
        figure.extract()  # it is on the cover
    sections = [
        f'<section class="chapter" id="{chapter.key}">{chapter.body.decode(formatter="minimal")}'
        "</section>"
        for _, chapters in bound
        for chapter in chapters
    ]
    style = "\n".join(
        [fonts.faces(), *((pages / name).read_text(encoding="utf-8") for name in STYLES),
         (HERE / "print.css").read_text(encoding="utf-8"), bind.heads(bound, said["title"])]
    )  # fmt: skip
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"/>'
        f"<title>{html.escape(said['title'])}</title>"
        f'<meta name="author" content="{html.escape(said["author"])}"/>'
        f"<style>{style}</style></head><body>"
        + title_page(said, str(hero or ""), version)
        + bind.contents(bound)
        + "".join(sections)
        + f"<script>{FIT}</script></body></html>"
    )


def places(pdf: Path) -> dict[str, int]:
    """On which page each target of a link is, counted from 1."""
    from pypdf import PdfReader

    reader = PdfReader(pdf)
    found = {}
    for name, target in reader.named_destinations.items():
        page = reader.get_destination_page_number(target)
        if page is not None:
            found[name.lstrip("/")] = page + 1
    return found


def numbered(page: str, where: dict[str, int]) -> str:
    """Enter the numbers of pages where the first print left them blank."""

    def number(match: re.Match[str]) -> str:
        if match[2] not in where:
            raise RuntimeError(f"the print has no page for #{match[2]}")
        return f"{match[1]}{where[match[2]]}{match[3]}"

    page = re.sub(r'(<span class="page" data-of="([^"]+)">)(</span>)', number, page)
    return re.sub(r'(<a class="page" href="#([^"]+)">)(</a>)', number, page)


def make(pages: Path, folder: Path, version: str) -> Path:
    """Print the book.

    Args:
        pages: what `book.press.pages.build` wrote.
        folder: where the PDF goes, and the page that is printed.
        version: printed on the cover.

    Raises:
        ChromiumAbsent: there is no Chromium.
    """
    from bookext.address import pages_address

    read = config()
    said = {"title": read["title"], "author": read["author"]}
    said["site"] = pages_address(read["repository"]["url"])
    page, out = folder / f"{NAME}.html", folder / f"{NAME}.pdf"
    text = document(pages, contents(), said, version)
    page.write_text(text, encoding="utf-8")
    chromium.print_pdf(page, out)
    page.write_text(numbered(text, places(out)), encoding="utf-8")
    chromium.print_pdf(page, out)
    return out
