"""``{what-converts}``: the converter's own registry as a table."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective


def rows() -> list[tuple[str, str]]:
    """(what it becomes, the operations that become it), in the registry's order."""
    from snnlib import rules  # noqa: F401  (fills the registry)
    from snnlib.trace import RULES

    groups: dict[str, list[str]] = {}
    for rule in RULES.values():
        labels = groups.setdefault(rule.becomes, [])
        if rule.label not in labels:
            labels.append(rule.label)
    return [
        (becomes, ", ".join(f"`{label}`" for label in labels)) for becomes, labels in groups.items()
    ]


def refused() -> list[tuple[str, str]]:
    """(operation, the way out) for what the converter knows and refuses."""
    from snnlib import rules  # noqa: F401
    from snnlib.trace import REJECTED, describe

    found: dict[str, list[str]] = {}
    for target, advice in REJECTED.items():
        label = describe(target)
        labels = found.setdefault(advice, [])
        if label not in labels:
            labels.append(label)
    return [
        (", ".join(f"`{label}`" for label in labels), advice) for advice, labels in found.items()
    ]


def table(head: tuple[str, str], body: list[tuple[str, str]]) -> str:
    lines = [f"| {head[0]} | {head[1]} |", "|---|---|"]
    return "\n".join(lines + [f"| {left} | {right} |" for left, right in body])


class WhatConverts(SphinxDirective):
    """Two tables: ``converts`` or ``refused``, as the argument says."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        import snnlib.rules
        import snnlib.trace

        for module in (snnlib.rules, snnlib.trace):
            self.env.note_dependency(str(module.__file__))
        if self.arguments[0] == "converts":
            text = table(
                ("Operation of the network", "In the spiking network"),
                [(ops, b) for b, ops in rows()],
            )
        elif self.arguments[0] == "refused":
            text = table(("Operation", "Why not, and what to do"), refused())
        else:
            raise self.error(f"what-converts: 'converts' or 'refused', not {self.arguments[0]!r}")
        return self.parse_text_to_nodes(text)


def setup(app: Any) -> None:
    app.add_directive("what-converts", WhatConverts)
