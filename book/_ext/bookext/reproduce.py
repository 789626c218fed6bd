"""``{reproduce} results`` and ``{reproduce} networks``: what made every number, as tables.

The first has a row for every file of ``book/results``, the second one for every trained network,
both read from the files when the site is built: command, machine, minutes, images and seed stand
in them, and nowhere else.
"""

from __future__ import annotations

import html
from collections import Counter
from pathlib import Path
from typing import Any

from docutils import nodes

from book.tools import cards
from bookext.stored import Stored
from snnlib.zoo import checkpoints

RESULTS: tuple[str, ...] = ("result", "command", "machine", "minutes", "images", "seed")
NETWORKS: tuple[str, ...] = (
    "network",
    "command",
    "machine",
    "minutes",
    "validation (%)",
    "test (%)",
    "seed",
)


def images(n: int | dict[str, int] | None) -> str:
    """How many images: the usual number, then the networks that had another.

    Example:
        >>> images({"mnist-cnn": 10_000, "digits-cnn": 355, "mnist-mlp": 10_000})
        '10,000; digits-cnn 355'
        >>> images(1000)
        '1,000'
    """
    if not isinstance(n, dict):
        return "–" if n is None else f"{n:,}"
    usual, _ = Counter(n.values()).most_common(1)[0]
    others = [f"{name} {count:,}" for name, count in n.items() if count != usual]
    return "; ".join([f"{usual:,}", *others])


def result_row(name: str, result: dict[str, Any], address: str) -> list[str]:
    """The cells of a result, as HTML: `RESULTS` names them.

    Args:
        name: of the file, without its ending.
        result: what the file holds.
        address: of the folder of results in the repository.
    """
    what = result.get("what") or "; ".join(
        f"{run['label']} on {run['model']}" for run in result["runs"]
    )
    seed = result.get("seed")
    texts = [
        what,
        result["hardware"],
        f"{result['seconds'] / 60:.1f}",
        images(result["n"]),
        "–" if seed is None else str(seed),
    ]
    link = f'<a href="{html.escape(address, quote=True)}/{name}.json">{html.escape(name)}.json</a>'
    what, *rest = map(html.escape, texts)
    return [f"{link}<br>{what}", f"<code>{html.escape(result['command'])}</code>", *rest]


def network_row(name: str, record: dict[str, Any], address: str) -> list[str]:
    """The cells of a trained network, as HTML: `NETWORKS` names them."""
    shares = [f"{100 * record[f'{split}_accuracy']:.2f}" for split in ("validation", "test")]
    texts = [record["hardware"], f"{record['seconds'] / 60:.1f}", *shares, str(record["seed"])]
    link = f'<a href="{html.escape(address, quote=True)}#{name}">{html.escape(name)}</a>'
    return [link, f"<code>{html.escape(record['command'])}</code>", *map(html.escape, texts)]


def table(title: str, head: tuple[str, ...], rows: list[list[str]]) -> str:
    """A table in a box that scrolls on a narrow screen; cells are HTML already."""
    heads = "".join(f'<th scope="col">{name}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>\n'
        for name, *cells in rows
    )
    return (
        f'<div class="snn-reproduce" role="group" tabindex="0" aria-label="{title}"><table>\n'
        f"<thead><tr>{heads}</tr></thead><tbody>\n{body}</tbody></table></div>"
    )


class Reproduce(Stored):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        theme = self.config.html_theme_options
        book = f"{theme['repository_url']}/blob/{theme['repository_branch']}/book"
        if self.arguments[0] == "results":
            found = self.results()
            rows = [result_row(name, r, f"{book}/results") for name, r in found.items()]
            title, head = "What wrote each result", RESULTS
        elif self.arguments[0] == "networks":
            self.env.note_reread()
            files = cards.files(Path(self.env.srcdir) / "book" / "checkpoints")
            card = f"{book}/checkpoints/README.md"
            rows = [network_row(n, checkpoints.read(path)[1], card) for n, path in files.items()]
            title, head = "What trained each network", NETWORKS
        else:
            raise self.error(f"reproduce: results or networks, not {self.arguments[0]!r}")
        return [nodes.raw("", table(title, head, rows), format="html")]


def setup(app: Any) -> None:
    app.add_directive("reproduce", Reproduce)
