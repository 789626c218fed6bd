"""The pages of the book for paper and for e-readers, by Sphinx's ePub builder."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
MATHML = "_static/mathml.css"
STYLES = ("_static/pygments.css", MATHML, "_static/paper.css")  # of every page, for paper too
NAME = "from-trained-network-to-spiking-network"
DESCRIPTION = (
    "How to turn a trained ReLU network into a network of spiking neurons that gives the same "
    "answers in a few time steps: theory, code that runs, and what it costs."
)


@dataclass(frozen=True)
class Part:
    """A part of the book: its caption and the names of its pages, without a suffix."""

    caption: str
    pages: tuple[str, ...]


def config(root: Path = ROOT) -> dict[str, Any]:
    """What ``_config.yml`` says: title, author, address."""
    found: dict[str, Any] = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    return found


def contents(root: Path = ROOT) -> list[Part]:
    """The table of contents; the first part is the page of the title."""
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    parts = [
        Part(part["caption"], tuple(entry["file"] for entry in part["chapters"]))
        for part in toc["parts"]
    ]
    return [Part("", (toc["root"],)), *parts]


def build(folder: Path, root: Path = ROOT) -> Path:
    """Build all pages into ``folder/pages``, without a network. Warnings are errors.

    Raises:
        RuntimeError: Sphinx warned or failed; what it said stands above.
    """
    from jupyter_book.sphinx import build_sphinx

    from snnlib import __version__

    said = config(root)
    out = folder / "pages"
    shutil.rmtree(out, ignore_errors=True)
    overrides = {
        "external_toc_path": (root / "_toc.yml").as_posix(),
        "latex_individualpages": False,
        "nitpicky": True,
        "version": __version__,
        "release": __version__,
        "language": "en",
        "html_last_updated_fmt": None,
        "epub_basename": NAME,
        "epub_title": said["title"],
        "epub_author": said["author"],
        "epub_publisher": said["author"],
        "epub_contributor": said["author"],
        "epub_copyright": f"{said['copyright']} {said['author']}, text CC BY 4.0, code MIT",
        "epub_description": DESCRIPTION,
        "epub_identifier": said["repository"]["url"],
        "epub_scheme": "URL",
        "epub_uid": "book",
        "epub_show_urls": "no",
        "epub_use_index": False,
        "epub_exclude_files": [".nojekyll"],
    }
    result = build_sphinx(
        root, out, path_config=root / "_config.yml", noconfig=True, confoverrides=overrides,
        builder="epub", warningiserror=True, keep_going=True, tags=["paper"],
        doctreedir=folder / "doctrees", quiet=True,
    )  # fmt: skip
    if result:
        raise RuntimeError("the pages were not built; the warnings above say why")
    return out
