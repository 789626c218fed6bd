"""A table of the results page as HTML: row and column headings, twins folded, long ones closed."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LONGEST = 16  # rows of a table that is shown without being asked for


@dataclass(frozen=True)
class Table:
    """A title, the heads of the columns, and rows of as many cells.

    Attributes:
        title: what the table shows, without the network.
        head: the first names the rows, the others are columns of numbers.
        network: that it is about; empty if it is about all of them.
    """

    title: str
    head: list[str]
    rows: list[list[str]]
    network: str = ""

    def html(self) -> str:
        """The table with its caption; one that is long lies folded under its title."""
        title = html.escape(f"{self.network}: {self.title}" if self.network else self.title)
        if len(self.rows) > LONGEST:
            return (
                f'<details class="snn-stored"><summary>{title} ({len(self.rows)} rows)</summary>'
                f"{self._scroll(title)}</details>"
            )
        return (
            f'<div class="snn-stored"><p class="snn-caption" aria-hidden="true">{title}</p>'
            f"{self._scroll(title)}</div>"
        )

    def _scroll(self, title: str) -> str:
        head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in self.head)
        body = "".join(
            f'<tr><th scope="row">{html.escape(name)}</th>'
            + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
            + "</tr>\n"
            for name, *cells in self.rows
        )
        return (
            f'<div class="snn-scroll" role="group" tabindex="0" aria-label="{title}"><table>\n'
            f"<thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>"
        )


def folded(rows: Iterable[Sequence[str]]) -> list[list[str]]:
    """Rows that say the same become one, under all their names.

    Example:
        >>> folded([["a", "1"], ["b", "2"], ["c", "1"]])
        [['a; c', '1'], ['b', '2']]
    """
    names: dict[tuple[str, ...], list[str]] = {}
    for name, *cells in rows:
        names.setdefault(tuple(cells), []).append(name)
    return [["; ".join(dict.fromkeys(same)), *cells] for cells, same in names.items()]
