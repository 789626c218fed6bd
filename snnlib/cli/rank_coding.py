"""``snnlib rank-coding``: a recurrent network that answers as soon as it is sure, and baselines."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from snnlib._arguments import whole

if TYPE_CHECKING:
    from snnlib.recurrent.compare import Measured

SUMMARY = "train a recurrent network that answers as soon as it is sure, beside its baselines"
EXAMPLES = """
  snnlib rank-coding digits                       needs no data set, under a minute
  snnlib rank-coding bits --json
  snnlib rank-coding spoken --seed 1
  snnlib rank-coding mnist-conv --device cuda     takes minutes there, hours on a processor
  snnlib rank-coding --list

Three networks with the same epochs, read at their first crossing of the task's threshold: trained
there (rank coding, after a warm start), trained at every step, trained at the end. Tasks that have
one show the exact observer too."""
_NAMES = {"first": "rank coding", "every": "at every step", "end": "at the end"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    add = parser.add_argument
    add("task", metavar="TASK", nargs="?", help="see --list")
    add("--list", action="store_true", help="show the tasks")
    add("--seed", type=int, default=0, metavar="S", help="default: 0")
    add("--device", metavar="D", default="cpu", help="cpu or cuda; default: cpu")
    add("--json", action="store_true", help="print one JSON object")
    add("--quiet", action="store_true", help="no progress bar")


def execute(options: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        UsageError, ValueError: no task, one that there is not, or no such device.
    """
    from snnlib.cli.options import UsageError, device_of
    from snnlib.recurrent import contest
    from snnlib.recurrent.compare import compare

    if options.list:
        width = max(map(len, contest.TASKS))
        for task in contest.TASKS.values():
            print(f"{task.name:<{width}}  {task.summary}")
        return
    if not options.task:
        raise UsageError("name a task; snnlib rank-coding --list shows them")
    task = contest.get(options.task)
    seed, device = whole("--seed", options.seed, 0, 2**20), device_of(options.device)
    rows = compare(task, seed, not options.quiet, device)
    if options.json:
        print(json.dumps({"task": task.name, "seed": options.seed, "rows": rows}))
    else:
        print(table(rows))


def table(rows: list[Measured]) -> str:
    """The rows as a person reads them."""
    first = rows[0]
    lines = [f"{first['task']}, {first['n']:,} test sequences, answers at p = {first['read']:g}"]
    lines += [
        f"{'trained':<15}{'right':>9}{'steps':>8}{'skipped':>9}{'at step 1':>11}{'waiting':>9}"
    ]
    for row in rows:
        lines.append(
            f"{_NAMES.get(row['method'], row['method']):<15}{100 * row['accuracy']:>7.2f} %"
            f"{row['mean_time']:>8.2f}{100 * (1 - row['share']):>7.1f} %"
            f"{100 * row['first_step']:>9.2f} %{100 * row['waited']:>7.2f} %"
        )
    for timing in first["timing"]:
        lines.append(
            f"an epoch of rank coding on up to 2,000 sequences: {timing['seconds']:.2f} s, "
            f"{timing['seconds_padded']:.2f} s without skipping"
        )
    most = max(first["times"])
    lines.append("answered by rank coding after each step:")
    for step, count in enumerate(first["times"], 1):
        if count:
            lines.append(f"{step:>5} {count:>7,} {'█' * max(1, round(40 * count / most))}")
    return "\n".join(lines)
