"""``{what-converts} converts`` and ``{what-converts} refused``: the converter's own registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

HEADS = {
    "converts": ("Operation of the network", "In the spiking network", "On condition"),
    "refused": ("Operation", "Why not, and what to do"),
}


def table(which: str) -> str:
    """The registry's rows that convert, or those that do not, as a Markdown table."""
    from snnlib.registry import support_table

    head = HEADS[which]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in support_table():
        if row.converts == (which == "converts"):
            names = ", ".join(f"`{name}`" for name in row.operations)
            cells = (names, row.becomes, row.note)[: len(head)]
            lines.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    return "\n".join(lines)


class WhatConverts(SphinxDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        import snnlib.registry

        for path in Path(str(snnlib.registry.__file__)).parent.glob("*.py"):
            self.env.note_dependency(str(path))
        if self.arguments[0] not in HEADS:
            raise self.error(f"what-converts: {' or '.join(HEADS)}, not {self.arguments[0]!r}")
        return self.parse_text_to_nodes(table(self.arguments[0]))


def setup(app: Any) -> None:
    app.add_directive("what-converts", WhatConverts)
