"""What slides show of the chapters, found by labels that outlive a rewritten chapter.

A figure or player is named by words of its alt text, an equation or theorem by its label, a section
by its title. What is not found is an error that lists what there is.
"""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any


class NotFound(ValueError):
    """A slide names something that its chapter does not have."""


@dataclass(frozen=True)
class Picture:
    """A stored figure or player: its alt text, and HTML that shows it without another file."""

    alt: str
    markup: str
    plays: bool


@dataclass(frozen=True)
class Notebook:
    """A chapter as it is stored."""

    path: Path

    @cached_property
    def cells(self) -> list[dict[str, Any]]:
        read: list[dict[str, Any]] = json.loads(self.path.read_text(encoding="utf-8"))["cells"]
        return read

    @cached_property
    def text(self) -> str:
        return "\n\n".join(_text(c["source"]) for c in self.cells if c["cell_type"] == "markdown")

    @cached_property
    def sections(self) -> list[str]:
        """Titles of the sections, without marks."""
        outside = re.sub(r"^(`{3,})[^`].*?^\1`*$", "", self.text, flags=re.M | re.S)
        return [title.replace("`", "") for title in re.findall(r"^## (.+)$", outside, re.M)]

    @cached_property
    def pictures(self) -> list[Picture]:
        found = []
        for cell in self.cells:
            alt = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt", "")
            for output in cell.get("outputs", []):
                data = output.get("data", {})
                if "image/png" in data:
                    source = "data:image/png;base64," + _text(data["image/png"]).replace("\n", "")
                    markup = f'<img alt="{html.escape(alt)}" src="{source}"/>'
                    found.append(Picture(alt, markup, False))
                player = _text(data.get("text/html", ""))
                if "snn-player" in player and (said := re.search(r'alt="([^"]*)"', player)):
                    found.append(Picture(html.unescape(said[1]), player, True))
        return found

    def picture(self, words: str) -> Picture:
        """The one figure or player whose alt text has all of these words, case aside.

        Raises:
            NotFound: none has them, or several have.
        """
        wanted = words.lower().split()
        found = [
            picture
            for picture in self.pictures
            if all(re.search(rf"\b{re.escape(word)}", picture.alt.lower()) for word in wanted)
        ]
        if len(found) != 1:
            there = "\n".join(f"  - {picture.alt[:110]}" for picture in self.pictures)
            raise NotFound(
                f"{self.path.name}: {len(found)} figures have {words!r} in their alt text; "
                f"there are:\n{there}"
            )
        return found[0]

    def equation(self, label: str) -> str:
        """The TeX of a numbered equation.

        Raises:
            NotFound: there is no equation with this label.
        """
        found = re.search(rf"^\$\$\n((?:(?!^\$\$).)*?)\n?\$\$ \({re.escape(label)}\)", self.text,
                          re.M | re.S)  # fmt: skip
        if found is None:
            there = ", ".join(re.findall(r"^\$\$ \((eq:[\w-]+)\)", self.text, re.M))
            raise NotFound(f"{self.path.name}: no equation {label!r}; there are: {there}")
        return found[1].strip()

    def section(self, title: str) -> str:
        """The title of a section, as it stands.

        Raises:
            NotFound: there is no such section.
        """
        if title not in self.sections:
            there = "; ".join(self.sections)
            raise NotFound(f"{self.path.name}: no section {title!r}; there are: {there}")
        return title


def _text(source: Any) -> str:
    return source if isinstance(source, str) else "".join(source)
