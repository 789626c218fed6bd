"""The book as an ePub: the pages, what they use, a package document, a table of contents.

EPUB 3 has MathML in its standard, and asks each page that holds some to be declared; so the package
is written here, from the pages as they are.
"""

from __future__ import annotations

import datetime
import html
import io
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

from bs4 import BeautifulSoup

from book.press import fonts
from book.press.pages import DESCRIPTION, MATHML, NAME, STYLES, Part, config, contents
from snnlib.deploy.files import write_bytes

FONT = f"_static/{fonts.FILE}"
TYPES = {
    ".xhtml": "application/xhtml+xml", ".css": "text/css", ".png": "image/png",
    ".jpg": "image/jpeg", ".svg": "image/svg+xml", ".woff": "font/woff",
}  # fmt: skip
CONTAINER = """<?xml version="1.0" encoding="UTF-8"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles>
<rootfile full-path="content.opf" media-type="application/oebps-package+xml"/>
</rootfiles>
</container>
"""


@dataclass(frozen=True)
class Page:
    """A page with what the package has to know about it."""

    name: str
    title: str
    sections: tuple[tuple[str, str], ...]
    pictures: frozenset[str]
    properties: str
    text: str


def read(pages: Path, name: str) -> Page:
    """A page, well-formed, and the pictures that it shows.

    Raises:
        ValueError: a picture is missing, or the page has no title.
    """
    file = pages / f"{name}.xhtml"
    text = file.read_text(encoding="utf-8")
    text = re.sub(r'<meta name="viewport"[^>]*>', "", text)
    text = text.replace(
        "<!DOCTYPE html>", '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE html>'
    )
    text = re.sub(r"<html (?![^>]*\blang=)", '<html lang="en" xml:lang="en" ', text, count=1)
    soup = BeautifulSoup(text, "html.parser")
    title = soup.find("h1")
    if title is None:
        raise ValueError(f"{name}.xhtml has no title")
    sections = [
        (str(section["id"]), heading.get_text())
        for heading in soup.select("section > h2")
        if (section := heading.parent) is not None and section.get("id")
    ]
    pictures = set()
    for image in soup.find_all("img"):
        address = unquote(urlparse(str(image["src"])).path)
        picture = (file.parent / address).resolve().relative_to(pages.resolve()).as_posix()
        if not (pages / picture).is_file():
            raise ValueError(f"{name}.xhtml shows {picture}, which is not there")
        pictures.add(picture)
    has = [kind for kind, tag in (("mathml", "math"), ("svg", "svg")) if soup.find(tag)]
    return Page(name, title.get_text(), tuple(sections), frozenset(pictures), " ".join(has), text)


def navigation(book: list[tuple[str, list[Page]]], title: str) -> str:
    """The table of contents that readers show: parts, chapters, sections."""
    items = []
    for caption, pages in book:
        inside = "".join(_entry(page) for page in pages)
        items.append(
            f"<li><span>{html.escape(caption)}</span><ol>{inside}</ol></li>" if caption else inside
        )
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops" lang="en"
 xml:lang="en"><head><title>{html.escape(title)}</title></head><body>
<nav epub:type="toc" id="toc"><h1>Contents</h1><ol>{"".join(items)}</ol></nav></body></html>
"""


def _entry(page: Page) -> str:
    address = f"{page.name}.xhtml"
    inside = "".join(
        f'<li><a href="{address}#{name}">{html.escape(text)}</a></li>'
        for name, text in page.sections
    )
    return (
        f'<li><a href="{address}">{html.escape(page.title)}</a>'
        + (f"<ol>{inside}</ol>" if inside else "")
        + "</li>"
    )


def package(pages: list[Page], files: list[str], said: dict[str, str]) -> str:
    """The package document: what the book is, its files, the order of reading."""
    spine = [f"p{k}" for k in range(len(pages))]
    manifest = [
        f'<item id="{key}" href="{page.name}.xhtml" media-type="application/xhtml+xml"'
        + (f' properties="{page.properties}"' if page.properties else "")
        + "/>"
        for key, page in zip(spine, pages, strict=True)
    ]
    manifest += [
        f'<item id="f{k}" href="{name}" media-type="{TYPES[Path(name).suffix]}"/>'
        for k, name in enumerate(files)
    ]
    order = "".join(f'<itemref idref="{key}"/>' for key in spine)
    e = {key: html.escape(value) for key, value in said.items()}
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="book" xml:lang="en">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:identifier id="book">{e["address"]}#{e["version"]}</dc:identifier>
<dc:title>{e["title"]}</dc:title><dc:language>en</dc:language>
<dc:creator>{e["author"]}</dc:creator><dc:publisher>{e["author"]}</dc:publisher>
<dc:description>{html.escape(DESCRIPTION)}</dc:description>
<dc:rights>Text CC BY 4.0, code MIT</dc:rights>
<meta property="dcterms:modified">{e["modified"]}</meta>
<meta property="schema:accessMode">textual</meta><meta property="schema:accessMode">visual</meta>
<meta property="schema:accessModeSufficient">textual</meta>
<meta property="schema:accessibilityFeature">alternativeText</meta>
<meta property="schema:accessibilityFeature">MathML</meta>
<meta property="schema:accessibilityFeature">tableOfContents</meta>
<meta property="schema:accessibilityHazard">none</meta>
</metadata>
<manifest><item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>
{chr(10).join(manifest)}
</manifest>
<spine>{order}</spine>
</package>
"""


def make(pages: Path, folder: Path, version: str, parts: list[Part] | None = None) -> Path:
    """Pack the pages that `book.press.pages.build` wrote.

    Raises:
        ValueError: a page shows a picture that is not there.
    """
    book = [(p.caption, [read(pages, name) for name in p.pages]) for p in parts or contents()]
    order = [page for _, chapter in book for page in chapter]
    files = [*STYLES, FONT, *sorted(frozenset().union(*(page.pictures for page in order)))]
    read_config = config()
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    said = {
        "title": read_config["title"], "author": read_config["author"], "version": version,
        "address": read_config["repository"]["url"], "modified": now,
    }  # fmt: skip
    out = folder / f"{NAME}.epub"
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        archive.writestr("META-INF/container.xml", CONTAINER)
        archive.writestr("content.opf", package(order, files, said))
        archive.writestr("nav.xhtml", navigation(book, said["title"]))
        for page in order:
            archive.writestr(f"{page.name}.xhtml", page.text)
        for name in files:
            data = fonts.math_subset() if name == FONT else (pages / name).read_bytes()
            if name == MATHML:
                data = fonts.FACE.encode() + data
            archive.writestr(name, data)
    write_bytes(out, whole.getvalue())
    return out
