"""Answers at the first crossing, as tables of the results page: all tasks in one."""

from __future__ import annotations

from statistics import mean
from typing import TYPE_CHECKING

from book.tools.tables import percent
from bookext.results import Result, spread
from bookext.table import Table

if TYPE_CHECKING:
    from book.experiments.rank_coding import RankRun

METHODS = {
    "first": "rank coding", "scratch": "rank coding, no warm start", "every": "at every step",
    "end": "at the end", "observer": "exact observer",
}  # fmt: skip
HEAD = [
    "Task, trained", "p", "Seeds", "Right (%)", "Mean step", "Steps used (%)",
    "Right after step 1 (%)", "Right if made to wait (%)",
]  # fmt: skip


def tables(result: Result) -> list[Table]:
    """One table of all tasks and ways to train; none where no run says how it was trained."""
    runs: list[RankRun] = [run for run in result.get("runs", []) if "waited" in run]
    groups: dict[tuple[str, str], list[RankRun]] = {}
    for run in runs:
        groups.setdefault((run["task"], run["method"]), []).append(run)
    rows = [_row(f"{task}, {METHODS[way]}", same) for (task, way), same in groups.items()]
    found = [Table("answers at the first crossing, test sequences", HEAD, rows)] if rows else []
    first = result.get("first_bin", [])
    if first:
        head = ["Bins", "Task", "Right (%)"]
        cells = [[f"{row['bins']}", row["model"], percent(row["accuracy"])] for row in first]
        found.append(Table("what the first step alone tells", head, cells))
    return found


def _row(name: str, runs: list[RankRun]) -> list[str]:
    return [
        name,
        f"{runs[0]['read']:g}",
        f"{len(runs)}",
        spread(run["accuracy"] for run in runs),
        f"{mean(run['mean_time'] for run in runs):.2f}",
        f"{100 * mean(run['share'] for run in runs):.1f}",
        percent(mean(run["first_step"] for run in runs)),
        percent(mean(run["waited"] for run in runs)),
    ]
