"""Sequences of events and digits, and networks that send less, as tables of the results page."""

from __future__ import annotations

import re
from statistics import mean
from typing import TYPE_CHECKING, Any

from book.tools.tables import loss
from bookext.networks import by_network
from bookext.results import Result, average, spread
from bookext.table import Table, folded

if TYPE_CHECKING:
    from book.experiments.event_graph import Graphed
    from book.experiments.goals import Goal
    from book.experiments.sparse_exits import Exit
    from book.experiments.sparse_points import Point
    from book.experiments.touch import Touched
    from book.experiments.transducer import Transduced

SUBJECTS = {
    "spoken-events": "spoken digits as ON and OFF events", "braille": "Braille letters",
    "moved-mnist": "MNIST moved before a sensor", "moved-digits": "digits moved before a sensor",
    "strings": "strings of spoken digits", "strings-few": "few strings to learn from",
}  # fmt: skip
LOST = "Points lost, 95 % interval"


def tables(result: Result) -> list[Table]:
    """The tables of a result on sequences or on sparser networks."""
    runs = result.get("runs", [])
    kinds = (
        (_touched, [row for row in runs if "operations" in row]),
        (_graphed, [row for row in runs if "walked" in row]),
        (_transduced, [row for row in runs if "test_beam" in row]),
        (_sparse, [row for row in runs if "way" in row]),
        (_exits, [row for row in result.get("exits", []) if "one_step" in row]),
    )
    found = [make(*each) for make, rows in kinds for each in by_network(rows).items()]
    return [*found, _goals(result.get("goals", []))]


def _goals(rows: list[Goal]) -> Table:
    """What was asked for before the measurement."""
    cells = [
        [
            row["goal"],
            f"≥ {row['at_least']:g}" if row["at_most"] is None else f"≤ {row['at_most']:g}",
            "" if row["found"] is None else re.sub("^-", "−", f"{row['found']:.4g}"),
            "yes" if row["reached"] else "no",
        ]
        for row in rows
    ]
    head = ["Goal", "Asked", "Found", "Reached"]
    return Table("goals set before the measurement, fractions as such", head, cells)


def _by_label(rows: list[Any]) -> dict[str, list[Any]]:
    """The seeds of each way."""
    found: dict[str, list[Any]] = {}
    for row in rows:
        found.setdefault(row["label"], []).append(row)
    return found


def _title(model: str, rows: list[Any], what: str) -> str:
    speaker = f", {model.removeprefix('strings-')} heard in the test alone"
    name = SUBJECTS.get(model, SUBJECTS["strings"] + speaker)
    return f"{name}, {rows[0]['n']:,} {what}"


def _touched(model: str, rows: list[Touched]) -> Table:
    """Accuracy, and what a recording takes, in both accounts of energy."""
    cells = [
        [
            label,
            f"{len(same)}",
            spread(row["test_accuracy"] for row in same),
            average(same, "parameters", "{:,.0f}"),
            average(same, "events", "{:,.0f}"),
            average(same, "spikes", "{:,.0f}"),
            average(same, "operations", "{:,.0f}"),
            average(same, "energy_nj", "{:,.0f}"),
            average(same, "literature_nj", "{:,.0f}"),
        ]
        for label, same in _by_label(rows).items()
    ]
    head = ["Network", "Seeds", "Right (%)", "Parameters", "Events in", "Spikes", "Operations"]
    head += ["Energy, ours (nJ)", "literature's (nJ)"]
    return Table(_title(model, rows, "test recordings"), head, cells)


def _graphed(model: str, rows: list[Graphed]) -> Table:
    """Accuracy, and what an event changes against computing the graph anew."""
    cells = [
        [
            row["label"],
            f"{100 * row['test_accuracy']:.2f}",
            f"{row['events']:.0f}",
            f"{row['updates']:.1f}",
            f"{row['all_updates']:.1f}",
            f"{row['all_updates'] / row['updates']:.1f}",
            f"{row['all_macs'] / row['macs']:.1f}",
            f"{row['event_ms']:.2f}",
            f"{row['whole_ms']:.2f}",
            f"{row['difference']:.0e}",
        ]
        for row in rows
    ]
    head = ["Edges", "Right (%)", "Events", "Nodes an event", "of the whole graph", "Times fewer"]
    head += ["MACs, times fewer", "ms an event", "ms of the whole graph", "Apart by"]
    return Table(_title(model, rows, "test recordings"), head, cells)


def _transduced(model: str, rows: list[Transduced]) -> Table:
    """Errors read greedily and with a beam, and the delay of recognized digits."""
    cells = [
        [
            label,
            f"{len(same)}",
            f"{same[0]['epochs']}",
            spread(row["test"]["digit_error"] for row in same),
            spread(row["test_beam"]["digit_error"] for row in same),
            spread(row["test"]["string_error"] for row in same),
            _delay(same, "delay_ms"),
            _delay(same, "delay_90_ms"),
        ]
        for label, same in _by_label(rows).items()
    ]
    head = ["Trained", "Seeds", "Epochs", "Digit errors (%)", "with a beam", "Strings wrong (%)"]
    head += ["Delay (ms)", "nine of ten within"]
    return Table(_title(model, rows, "test strings"), head, cells)


def _delay(rows: list[Transduced], key: str) -> str:
    found = [row["test"].get(key) for row in rows]
    known = [float(str(value)) for value in found if value is not None]
    return f"{mean(known):.0f}" if known else ""


def _sparse(model: str, rows: list[Point]) -> Table:
    """The points that were chosen, on one scale of events, bits, operations and energy."""
    cells = [
        [
            row["label"],
            row["way"],
            loss(row["dense_accuracy"] - row["accuracy"], row["loss_interval"]),
            f"{row['events_per_neuron']:.3f}",
            f"{row['bits_per_neuron']:.3f}",
            f"{100 * row['synops_share']:.1f}",
            f"{row['energy_nj_per_image'] / 1000:.3f}",
            f"{row['literature_energy_nj_per_image'] / 1000:.3f}",
        ]
        for row in rows
    ]
    head = ["Chosen", "Way", LOST, "Events a neuron", "Bits a neuron", "SynOps / MACs (%)"]
    head += ["Energy, ours (µJ)", "literature's (µJ)"]
    return Table(f"sparser networks, {rows[0]['n']:,} test images", head, folded(cells), model)


def _exits(model: str, rows: list[Exit]) -> Table:
    """Early answers of the sparsest network."""
    cells = [
        [
            f"{row['label']}: {row['confidence']:g}{' (chosen)' if row['chosen'] else ''}",
            f"{100 * row['accuracy']:.2f}",
            f"{row['mean_steps']:.2f}",
            f"{row['events_per_neuron']:.3f}",
        ]
        for row in rows
    ]
    head = ["Network: confidence", "Right (%)", "Mean steps", "Events a neuron and answer"]
    return Table("sparser networks answer early", head, cells, model)
