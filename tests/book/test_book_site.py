"""The built site: no warning, no dead link, alt text, contrast, generated pages that are true."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import book_rules
import pytest
import yaml
from bs4 import BeautifulSoup

from conftest import ROOT, Site
from snnlib import plots

pytestmark = pytest.mark.slow
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))


@functools.cache
def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@functools.cache
def anchors(path: Path) -> frozenset[str]:
    return frozenset(tag["id"] for tag in soup(path).find_all(id=True))


def chapters() -> list[Path]:
    """The notebooks that the table of contents names."""
    return [
        ROOT / f"{name}.ipynb" for name in book_rules.toc() if (ROOT / f"{name}.ipynb").is_file()
    ]


def content(path: Path) -> list[BeautifulSoup]:
    return soup(path).select("article.bd-article")


def test_builds_without_a_warning(site: Site) -> None:
    said = [line for line in site.log.splitlines() if re.search(r"WARNING|ERROR", line)]
    assert site.code == 0, "\n".join(said) or site.log[-2000:]
    assert not said


def test_every_page_of_the_contents_is_there(site: Site) -> None:
    missing = [name for name in book_rules.toc() if not (site.html / f"{name}.html").is_file()]
    assert not missing
    assert (site.html / "404.html").is_file()


def test_links_and_anchors_inside_the_site(site: Site) -> None:
    dead = []
    for page in site.pages():
        if page.name == "404.html":  # served from any address, so its links are absolute
            continue
        for tag in soup(page).find_all(["a", "link", "img", "script"]):
            address = tag.get("href") or tag.get("src") or ""
            parts = urlparse(address)
            if parts.scheme or parts.netloc or not address:
                continue
            target = page if not parts.path else (page.parent / unquote(parts.path)).resolve()
            if target.is_dir():
                target = target / "index.html"
            if not target.is_file():
                dead.append(f"{page.name}: {address}: no such file")
                continue
            page_of_ours = bool(parts.fragment) and target.suffix == ".html"
            if page_of_ours and unquote(parts.fragment) not in anchors(target):
                dead.append(f"{page.name}: {address}: no such anchor")
    assert not dead, "\n".join(sorted(set(dead)))


def test_ids_are_unique(site: Site) -> None:
    for page in site.pages():
        ids = [tag["id"] for part in content(page) for tag in part.find_all(id=True)]
        assert len(ids) == len(set(ids)), (
            f"{page.name}: {sorted({i for i in ids if ids.count(i) > 1})}"
        )


def test_every_image_says_what_is_to_be_seen(site: Site) -> None:
    silent = [
        f"{page.name}: {tag.get('src', '')[:60]}"
        for page in site.pages()
        for part in content(page)
        for tag in part.find_all("img")
        if len(tag.get("alt", "").split()) < 4
    ]
    assert not silent


def unseen(image: Any) -> bool:
    """Is it an image that no browser fetches: the other mode's, or of a network not chosen?"""
    block = image.find_parent(class_="snn-of")
    hidden = block is not None and "snn-on" not in block["class"]
    return image.get("loading") == "lazy" and (hidden or "only-dark" in image["class"])


def test_pages_are_light(site: Site) -> None:
    for page in site.pages():
        size = page.stat().st_size
        for tag in (tag for part in content(page) for tag in part.find_all("img")):
            if not tag["src"].startswith("data:") and not unseen(tag):
                size += (page.parent / tag["src"]).resolve().stat().st_size
        assert size < 1_600_000, f"{page.name}: {size / 1e6:.2f} MB with its figures"


def test_pages_load_only_mathjax_from_elsewhere(site: Site) -> None:
    for page in site.pages():
        loaded = [tag.get("src") or "" for tag in soup(page).find_all(["script", "img", "iframe"])]
        loaded += [
            tag["href"]
            for tag in soup(page).find_all("link", href=True)
            if not {"canonical", "index", "search", "next", "prev"} & set(tag.get("rel", ()))
        ]
        elsewhere = {a for a in loaded if urlparse(a).netloc and not a.startswith("data:")}
        mathjax = {CONFIG["sphinx"]["config"]["mathjax_path"]}
        assert elsewhere <= mathjax, page.name
        assert elsewhere == mathjax or not soup(page).select("article .math"), page.name


def test_pages_tell_nothing_of_the_machine(site: Site) -> None:
    for page in site.pages():
        text = page.read_text(encoding="utf-8")
        assert str(ROOT) not in text, page.name
        assert not re.search(r"/(home|root|Users)/\w", text), page.name


def test_pages_preview_well_when_shared(site: Site) -> None:
    for name in ("book/index", *(f"book/{p.stem}" for p in chapters())):
        page = soup(site.html / f"{name}.html")
        for meta in ("og:title", "og:description", "og:image"):
            tag = page.find("meta", property=meta)
            assert tag, f"{name} has no {meta}"
            assert tag["content"].strip(), f"{name}: {meta} is empty"
        image = urlparse(page.find("meta", property="og:image")["content"]).path
        assert list(site.html.rglob(Path(image).name)), f"{image} is not in the site"


def test_chapters_open_in_colab_and_binder_and_can_be_downloaded(site: Site) -> None:
    repository = urlparse(CONFIG["repository"]["url"]).path.strip("/")
    for path in chapters():
        page = soup(site.html / "book" / f"{path.stem}.html")
        links = [tag["href"] for tag in page.find_all("a", href=True)]
        for host in ("colab.research.google.com", "mybinder.org"):
            launch = [link for link in links if urlparse(link).netloc == host]
            assert launch, f"{path.name}: no button for {host}"
            assert repository in launch[0]
        assert any(link.endswith(f"_sources/book/{path.name}") for link in links)


def test_support_table_lists_the_whole_registry(site: Site) -> None:
    from snnlib.cli.support import support_table

    shown = {tag.get_text() for tag in soup(site.html / "book/what_converts.html").find_all("code")}
    wanted = {name for row in support_table() for name in row.operations}
    assert wanted
    assert wanted <= shown, sorted(wanted - shown)


def test_reproduce_page_links_to_every_stored_result(site: Site) -> None:
    page = soup(site.html / "book/reproduce.html")
    text, links = page.get_text(), {str(link.get("href")) for link in page.find_all("a")}
    for path in sorted((ROOT / "book/results").glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        assert any(link.endswith(f"/book/results/{path.name}") for link in links), path.name
        if "command" in result:
            assert " ".join(str(result["command"]).split()) in " ".join(text.split()), path.name


def test_chapter_map_shows_every_chapter_with_its_minutes(site: Site) -> None:
    rows = [
        row.get_text(" ", strip=True) for row in soup(site.html / "book/index.html").find_all("tr")
    ]
    for path in chapters():
        first = book_rules.read(path).notebook.cells[0].source
        title = re.search(r"^# (.+)$", first, re.M)
        minutes = re.search(r"\*\*Time:\*\* (\d+) minutes", first)
        assert title
        assert minutes
        assert any(title[1] in row and f"{minutes[1]} min" in row for row in rows), path.name


def test_api_page_documents_every_exported_name(site: Site) -> None:
    import snnlib

    known = anchors(site.html / "book/api.html")
    modules = {name for name in snnlib.__all__ if hasattr(getattr(snnlib, name), "__path__")}
    modules |= {n for n in snnlib.__all__ if type(getattr(snnlib, n)).__name__ == "module"}
    for name in set(snnlib.__all__) - modules - {"__version__"}:
        assert f"snnlib.{name}" in known, f"snnlib.{name} is not on the API page"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colors_of_the_site_have_the_contrast_of_wcag_aa(theme: str) -> None:
    css = (ROOT / "book/_static/book.css").read_text(encoding="utf-8")
    block = re.search(rf'html\[data-theme="{theme}"\] \{{(.*?)\}}', css, re.S)
    assert block
    colors = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block[1]))
    grounds = [colors[f"pst-color-{name}"] for name in ("background", "on-background", "surface")]
    words = ("text-base", "text-muted", "link", "link-hover", "primary", "secondary", "inline-code")
    for name in words:
        for ground in grounds:
            assert book_rules.contrast(colors[f"pst-color-{name}"], ground) >= 4.5, (name, ground)
    for name in ("if", "aug", "ann"):  # words are written in them
        for ground in grounds:
            assert book_rules.contrast(colors[f"snn-{name}"], ground) >= 4.5, (name, ground)
    for name in ("goals", "provenance", "pitfall", "proof", "exercise"):
        for ground in grounds:
            assert book_rules.contrast(colors[f"snn-{name}"], ground) >= 3, (name, ground)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_colors_of_figures_have_the_contrast_of_wcag_aa(mode: plots.Mode) -> None:
    assert book_rules.contrast(plots.INK[mode], plots.CARD[mode]) >= 4.5
    for look in (*plots.METHODS.values(), *plots.EXTRA):  # words are written in them
        assert book_rules.contrast(look.color(mode), plots.CARD[mode]) >= 4.5, look
