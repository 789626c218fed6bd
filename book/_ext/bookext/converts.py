"""``{what-converts} converts``, ``refused`` and ``codes``: the converter's own registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

HEADS = {
    "converts": ("Operation of the network", "In the spiking network"),
    "refused": ("Operation", "Why not, and what to do"),
    "codes": ("Code", "What it sends"),
}
# The rows that most readers look for stand first; the rest keeps the registry's order.
FIRST = (
    "nn.Linear", "nn.Conv2d", "nn.ConvTranspose2d", "nn.BatchNorm2d", "nn.ReLU", "nn.ReLU6",
    "nn.Hardtanh", "nn.AvgPool2d", "nn.AdaptiveAvgPool2d", "nn.MaxPool2d", "torch.add",
    "torch.cat", "nn.Flatten", "nn.Dropout",
)  # fmt: skip


def table(which: str) -> str:
    """The registry's rows that convert, or do not, or the other codes', as a Markdown table."""
    from snnlib.cli.support import CODES, CODES_REFUSE, Support, support_table

    def place(row: Support) -> int:
        return min((FIRST.index(n) for n in row.operations if n in FIRST), default=len(FIRST))

    lines = [f"| {' | '.join(HEADS[which])} |", "|---|---|"]
    if which == "codes":
        rows = [*CODES.items(), ("none of them", CODES_REFUSE)]
        return "\n".join([*lines, *(f"| {name} | {text} |" for name, text in rows)])
    for row in sorted(support_table(), key=place):
        if row.converts == (which == "converts"):
            names = ", ".join(f"`{name}`" for name in row.operations)
            text = f"{row.becomes}; {row.note}" if row.note else row.becomes
            lines.append(f"| {names} | {text.replace('|', '&#124;')} |")
    return "\n".join(lines)


class WhatConverts(SphinxDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        from snnlib.conversion import registry

        for path in Path(str(registry.__file__)).parent.glob("**/*.py"):
            self.env.note_dependency(str(path))
        if self.arguments[0] not in HEADS:
            raise self.error(f"what-converts: {' or '.join(HEADS)}, not {self.arguments[0]!r}")
        return self.parse_text_to_nodes(table(self.arguments[0]))


def setup(app: Any) -> None:
    app.add_directive("what-converts", WhatConverts)
