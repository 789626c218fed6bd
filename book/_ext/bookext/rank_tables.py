"""Answers at the first crossing, as tables of the results page: all tasks in one."""

from __future__ import annotations

from statistics import mean, stdev
from typing import TYPE_CHECKING

from bookext.results import Result, spread
from bookext.table import Table

if TYPE_CHECKING:
    from book.experiments.rank_coding import FirstBin, RankRun

METHODS = {
    "first": "rank coding", "scratch": "rank coding, no warm start", "every": "at every step",
    "end": "at the end", "observer": "exact observer", "recorded": "rank coding, as recorded",
}  # fmt: skip
HEAD = [
    "Task, trained", "p", "Seeds", "Right (%)", "Mean step", "Steps used (%)",
    "Right after step 1 (%)", "Right if made to wait (%)",
]  # fmt: skip
OUT, ASKED = "spoken-", (0.95, 0.99)  # tasks that leave a speaker out, and where they are read
Groups = dict[tuple[str, str], list["RankRun"]]


def tables(result: Result) -> list[Table]:
    """All tasks and ways to train; speakers left out; the first step alone. What there is of it."""
    runs: list[RankRun] = [run for run in result.get("runs", []) if "waited" in run]
    groups: Groups = {}
    for run in runs:
        groups.setdefault((run["task"], run["method"]), []).append(run)
    rows = [_row(f"{task}, {_named(way)}", same) for (task, way), same in groups.items()]
    found = [Table("answers at the first crossing, test sequences", HEAD, rows)] if rows else []
    out = {key: same for key, same in groups.items() if key[0].startswith(OUT)}
    if out:
        found.append(_speakers(out))
    first: list[FirstBin] = result.get("first_bin", [])
    if first:
        found.append(_first_bins(first))
    return found


def _named(way: str) -> str:
    """Rank coding that is rewarded for entropy is called by its β."""
    return METHODS.get(way, f"{METHODS['first']}, {way}")


def _row(name: str, runs: list[RankRun]) -> list[str]:
    times = [run["mean_time"] for run in runs]
    deviation = f" ± {stdev(times):.2f}" if len(times) > 1 else ""
    return [
        name,
        f"{runs[0]['read']:g}",
        f"{len(runs)}",
        spread(run["accuracy"] for run in runs),
        f"{mean(times):.2f}{deviation}",
        spread(run["share"] for run in runs),
        spread(run["first_step"] for run in runs),
        spread(run["waited"] for run in runs),
    ]


def _speakers(groups: Groups) -> Table:
    """Each speaker in turn is the test: the mean of the speakers, and the worst of them."""
    rows = []
    for p in ASKED:
        for way in dict.fromkeys(way for _, way in groups):
            right = {
                task.removeprefix(OUT): [_right(run, p) for run in runs]
                for (task, method), runs in groups.items()
                if method == way
            }
            by_seed = [mean(seed) for seed in zip(*right.values(), strict=True)]
            worst = min(right, key=lambda name: mean(right[name]))
            rows.append([f"{_named(way)}, p = {p:g}", spread(by_seed), spread(right[worst]), worst])
    head = ["Trained, read at", "Mean of the speakers (%)", "Worst speaker (%)", "Who"]
    return Table("spoken digits, the test speaker left out of training", head, rows)


def _right(run: RankRun, p: float) -> float:
    return next(read["accuracy"] for read in run["sweep"] if read["threshold"] == p)


def _first_bins(rows: list[FirstBin]) -> Table:
    groups: dict[tuple[int, str], list[float]] = {}
    for row in rows:
        groups.setdefault((row["bins"], row["model"]), []).append(row["accuracy"])
    cells = [[f"{bins}", task, spread(shares)] for (bins, task), shares in groups.items()]
    return Table("what the first step alone tells", ["Bins", "Task", "Right (%)"], cells)
