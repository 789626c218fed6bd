"""`python -m book.press pdf|epub|slides`: the book to take along."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from book.press import chromium, pages

sys.path.insert(0, str(pages.ROOT / "book" / "_ext"))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m book.press", description=__doc__)
    parser.add_argument("what", nargs="+", choices=("pdf", "epub", "slides"))
    parser.add_argument("--folder", type=Path, default=pages.ROOT / "_build" / "press")
    chosen = parser.parse_args(arguments)
    try:
        for path in make(chosen.what, chosen.folder.resolve()):
            print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
    except (chromium.ChromiumAbsent, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def make(what: list[str], folder: Path) -> list[Path]:
    """Make each of the forms, the pages once for all of them."""
    from book.press import epub, pdf, slides
    from snnlib import __version__

    if "pdf" in what:
        chromium.find()  # before a minute's work, not after it
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    if {"pdf", "epub"} & set(what):
        built = pages.build(folder)
    if "pdf" in what:
        made.append(pdf.make(built, folder, __version__))
    if "epub" in what:
        made.append(epub.make(built, folder, __version__))
    if "slides" in what:
        notes = sorted((pages.ROOT / "book" / "slides").glob("*.md"))
        made += [slides.make(path, folder) for path in notes]
    return made


if __name__ == "__main__":
    sys.exit(main())
