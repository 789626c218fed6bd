"""``{results-glance}``: all networks in one table, the numbers of the README's tables."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from docutils import nodes

from book.tools import tables
from bookext import networks
from bookext.figures import NETWORKS
from bookext.stored import Stored

# Of `tables.Line.costs`; both accounts of energy share a cell.
HEADS = ("reached at step", "events/ neuron", "SynOps", "energy<small>litera&shy;ture's</small>")


def table(root: Path) -> str:
    """The table as HTML; empty if nothing is measured.

    Args:
        root: the repository.
    """
    found = tables.best(root, NETWORKS)
    if not found:
        return ""
    names = ["Neuron", *map(str, tables.STEPS), *HEADS]
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    groups = "".join(_group(network, runs) for network, runs in found.items())
    return (
        '<div class="snn-stored"><div class="snn-scroll" role="group" tabindex="0" '
        'aria-label="All networks at a glance: accuracy in percent over time steps, and costs">'
        f'<table class="snn-glance"><thead><tr>{head}</tr></thead>\n{groups}</table></div></div>'
    )


def _group(network: str, runs: list[tables.Run]) -> str:
    """The rows of a network; its name chooses it in the sections below."""
    wide = 1 + len(tables.STEPS) + len(HEADS)
    link = (
        f'<a href="?network={network}#accuracy-over-time" data-network="{network}">'
        f"{html.escape(networks.NAMES[network])}</a>"
    )
    about = html.escape(tables.about(runs[0]))
    rows = [
        f'<tr><th scope="rowgroup" colspan="{wide}"><div>{link} <code>{network}</code> '
        f"<small>{about}</small></div></th></tr>"
    ]
    for line in tables.lines(runs):
        name, _, setting = line.name.partition(", ")
        small = f"<small>{html.escape(setting)}</small>" if setting else ""
        cells = ""
        for share in line.accuracy:
            close = share is not None and line.ann - share <= tables.LOSS + 1e-9
            cells += f"<td{' class=snn-close' * close}>{tables.percent(share)}</td>"
        *costs, ours, literature = line.costs
        costs.append(f"{ours}<small>{literature}</small>" if ours.strip("–") else ours)
        cells += "".join(f"<td>{cost.removeprefix('step ')}</td>" for cost in costs)
        rows.append(f'<tr><th scope="row">{html.escape(name)}{small}</th>{cells}</tr>')
    start = f'<tbody class="snn-group" data-network="{network}">'
    return start + "\n".join(rows) + "</tbody>\n"


class ResultsGlance(Stored):
    def run(self) -> list[nodes.Node]:
        self.env.note_reread()  # a new result is no change of a file that was there
        text = table(Path(self.env.srcdir))
        if not text:
            return [nodes.paragraph("", tables.ABSENT)]
        return [nodes.raw("", text, format="html")]


def setup(app: Any) -> None:
    app.add_directive("results-glance", ResultsGlance)
