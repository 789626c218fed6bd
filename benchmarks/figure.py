"""The book's figures of speed, drawn from the results of the benchmarks.

    python -m benchmarks.figure

Writes ``book/_static/time-over-steps-{light,dark}.svg``, from benchmarks/results/NETWORK-float32,
and ``cost-lines-{light,dark}.svg``, from benchmarks/results/scaling.json; prints alt texts.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from benchmarks.command import RESULTS
from benchmarks.simulator import CLOSED, NETWORKS
from snnlib import plots
from snnlib.deploy.files import write_bytes
from snnlib.plots.style import EXTRA, INK, METHODS, Look, Mode, current_mode

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TARGET = Path(__file__).parents[1] / "book" / "_static"
NAMES = {
    "snnlib IF": ("snnlib, IF", METHODS["IF"]),
    "snnlib Augmented": ("snnlib, AugMapping", METHODS["AugMapping"]),
    CLOSED: ("snnlib, last step only", Look("#0068a8", "#6cbcf5", "o", ":")),
    "spikingjelly": ("SpikingJelly", EXTRA[0]),
    "spikingjelly-multistep": ("SpikingJelly, multi-step", EXTRA[4]),
    "snntorch": ("snnTorch", EXTRA[1]),
    "sinabs": ("sinabs", EXTRA[3]),
}
TITLES = {"cifar10-vgg": "cifar10-vgg", "six": "Six convolutions"}
AXES = {"steps": "time steps", "images": "images", "neurons": "neurons (thousands)"}


def time_over_steps(records: Sequence[Mapping[str, Any]]) -> Figure:
    """Milliseconds an image over the number of time steps, one panel a network.

    Args:
        records: what ``python -m benchmarks.simulator --json`` wrote for each network.

    Returns:
        The figure: both axes logarithmic, the floor dashed, the range of the rounds as a band.
    """
    import matplotlib.pyplot as plt

    mode = current_mode()
    figure, panels = plt.subplots(
        1, len(records), figsize=(4.9 * len(records) + 0.4, 4.2), squeeze=False
    )
    for ax, record in zip(panels[0], records, strict=True):
        rows = record["rows"]
        steps = [row["steps"] for row in rows]
        shown = [label for label in NAMES if label in rows[-1]["times"]]
        for label in shown:
            name, look = NAMES[label]
            times = [row["times"][label] for row in rows]
            middle, low, high = (
                [1000 / record["n"] * one[key] for one in times] for key in ("median", "min", "max")
            )
            wide = 3.4 if label == "snnlib IF" else 2.0  # IF and AugMapping take the same time
            ax.plot(
                steps, middle, look.line, color=look.color(mode), marker=look.marker, label=name,
                linewidth=wide,
            )  # fmt: skip
            ax.fill_between(steps, low, high, color=look.color(mode), alpha=0.2, linewidth=0)
        floor = [1000 / record["n"] * row["floor"] for row in rows]
        ax.plot(steps, floor, "--", color=INK[mode], label="floor: T passes of the ANN")
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.set_xticks(steps, [str(t) for t in steps])
        ax.set(xlabel="time steps", title=TITLES[record["network"]])
    panels[0][0].set_ylabel("milliseconds an image")
    handles: dict[str, Any] = {}
    for ax in panels[0]:
        handles |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    wanted = [name for name, _ in NAMES.values()] + ["floor: T passes of the ANN"]
    found = {name: handles[name] for name in wanted if name in handles}
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=3)
    return figure


def cost_lines(record: Mapping[str, Any]) -> Figure:
    """Seconds over time steps, images and neurons with their straight lines, a panel each.

    Args:
        record: what ``python -m benchmarks.scaling --json`` wrote.
    """
    import matplotlib.pyplot as plt

    mode = current_mode()
    figure, panels = plt.subplots(1, 3, figsize=(9.6, 3.7), sharey=False)
    for ax, (what, found) in zip(panels, record["lines"].items(), strict=True):
        for method, name in (("IF", "IF"), ("AugMapping", "Augmented")):
            look, one = METHODS[method], found[name]
            unit = 1000 if what == "neurons" else 1
            x = [value / unit for value in one[what]]
            ends = [0, max(x)]
            fitted = [one["intercept"] + one["slope"] * unit * end for end in ends]
            ax.plot(ends, fitted, color=look.color(mode), linewidth=1.4)
            ax.plot(x, one["seconds"], look.marker, color=look.color(mode),
                    label=f"{method}, R² = {_floored(one['r2'])}")  # fmt: skip
        ax.set(xlabel=AXES[what], xlim=(0, None), ylim=(0, 1.25 * ax.get_ylim()[1]))
        ax.legend(loc="upper left", handletextpad=0.2, borderaxespad=0.2)
    panels[0].set_ylabel("seconds")
    return figure


def _floored(share: float) -> str:
    """Three digits, never rounded up: 0.9996 is not 1."""
    return f"{int(share * 1000) / 1000:.3f}"


def alt_text(records: Sequence[Mapping[str, Any]]) -> str:
    """What is to be seen in `time_over_steps`, in words."""
    parts = []
    for record in records:
        row = record["rows"][-1]
        times = ", ".join(
            f"{NAMES[label][0]} {_short(row['times'][label]['median'], record)}"
            for label in NAMES if label in row["times"]
        )  # fmt: skip
        floor = _short(row["floor"], record)
        parts.append(
            f"{TITLES[record['network']]}, milliseconds an image for {row['steps']} steps: "
            f"{times}; floor {floor}."
        )
    return "Time over time steps, both axes logarithmic. " + " ".join(parts)


def _short(seconds: float, record: Mapping[str, Any]) -> str:
    """Milliseconds an image, two digits."""
    value = 1000 * seconds / record["n"]
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def lines_alt_text(record: Mapping[str, Any]) -> str:
    """What is to be seen in `cost_lines`, in words."""
    parts = [
        f"{what}: R² {_floored(min(one['r2'] for one in found.values()))} or more"
        for what, found in record["lines"].items()
    ]
    return "Simulation time grows along straight lines. " + "; ".join(parts) + "."


def draw(name: str, make: Any, *arguments: Any, folder: Path = TARGET) -> list[Path]:
    """Write a figure in both modes as SVG; the same results give the same files."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    mpl.use("Agg")
    paths = []
    for mode in get_args(Mode):
        with plots.style(mode):
            figure, file = make(*arguments), io.BytesIO()
            figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
            plt.close(figure)
        path = folder / f"{name}-{mode}.svg"
        paths.append(write_bytes(path, file.getvalue()))
    return paths


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.figure",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the results are")
    parser.add_argument("--to", type=Path, default=TARGET, help="default: book/_static")
    options = parser.parse_args(arguments)
    files = [options.results / f"{name}-float32.json" for name in NETWORKS]
    records = [json.loads(file.read_text("utf-8")) for file in files if file.is_file()]
    if not records:
        parser.error(f"{files[0]} is missing: run python -m benchmarks.simulator --json")
    written = draw("time-over-steps", time_over_steps, records, folder=options.to)
    print(*written, alt_text(records), sep="\n")
    scaling = options.results / "scaling.json"
    if not scaling.is_file():
        parser.error(f"{scaling} is missing: run python -m benchmarks.scaling --json")
    record = json.loads(scaling.read_text("utf-8"))
    written = draw("cost-lines", cost_lines, record, folder=options.to)
    print(*written, lines_alt_text(record), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
