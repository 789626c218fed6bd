"""The README's results: sections and figures written from ``book/results/*.json``, never by hand.

A section stands between two comments, ``<!-- results:NAME:begin -->`` and ``… :end -->``.
``snnlib report`` writes what is out of date; ``snnlib report --check`` only says so, and a test
calls it, so text, figures and files cannot drift apart. A figure carries the SHA-256 of the numbers
drawn in it.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from book.experiments import index
from book.tools import scoreboard, tables
from snnlib.deploy.files import write_bytes
from snnlib.plots.style import MODES, Mode

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path("book", "results")
INDEX = RESULTS / index.FILE
MNIST = ("mnist-cnn", "mnist-mlp")
FIGURE = "book/_static/mnist-accuracy-{mode}.svg"


def update(root: Path = ROOT, check: bool = False) -> list[Path]:
    """Write the sections and figures that are out of date; returns their paths below ``root``.

    Args:
        root: the repository.
        check: only compare, write nothing.

    Raises:
        ValueError: there is no README with sections in ``root``, or a section is unknown.
    """
    readme = root / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    if "<!-- results:" not in text:
        raise ValueError(f"{readme} has no results to write: run this in a clone of the repository")
    stale = []
    written = re.sub(
        r"(<!-- results:([\w-]+):begin -->\n)(.*?)(<!-- results:\2:end -->)",
        lambda match: match[1] + _section(match[2], root) + match[4],
        text,
        flags=re.DOTALL,
    )
    if written != text:
        stale.append(Path("README.md"))
        if not check:
            write_bytes(readme, written.encode())
    if (root / INDEX).is_file() and (root / INDEX).read_text() != index.render(root / RESULTS):
        stale.append(INDEX)
        if not check:
            index.write(root / RESULTS)
    for mode in MODES:
        path, runs = Path(FIGURE.format(mode=mode)), mnist_runs(root)
        digest = _digest(runs)
        held = (root / path).read_text(encoding="utf-8") if (root / path).is_file() else ""
        if runs.get("mnist-cnn") and digest not in held:
            stale.append(path)
            if not check:
                write_bytes(root / path, _draw(runs["mnist-cnn"], mode, digest))
    return stale


def mnist_runs(root: Path) -> dict[str, list[tables.Run]]:
    """The MNIST networks that were measured: model → runs of IF, TerMapping, AugMapping."""
    return tables.best(root, MNIST)


def _section(name: str, root: Path) -> str:
    if name not in SECTIONS:
        raise ValueError(f"README.md: unknown section results:{name}; known: {', '.join(SECTIONS)}")
    content = SECTIONS[name](root)
    return f"{content}\n" if content else ""


def _mnist_figure(root: Path) -> str:
    runs = mnist_runs(root).get("mnist-cnn")
    if not runs:
        return ""
    ends = "; ".join(
        f"{tables.label(run)}: {100 * run['accuracy'][0]:.1f} % after 1 step, "
        f"{100 * run['accuracy'][3]:.1f} % after 4, {100 * run['accuracy'][-1]:.1f} % after "
        f"{len(run['accuracy'])}"
        for run in runs
    )
    alt = f"Accuracy over time steps on MNIST. {ends}. ANN: {100 * runs[0]['ann_accuracy']:.1f} %."
    return (
        "<picture>\n"
        f'  <source media="(prefers-color-scheme: dark)" srcset="{FIGURE.format(mode="dark")}">\n'
        f'  <img alt="{alt}" src="{FIGURE.format(mode="light")}">\n'
        "</picture>"
    )


def _digest(runs: dict[str, list[tables.Run]]) -> str:
    drawn = [[r["label"], r["accuracy"], r["ann_accuracy"]] for r in runs.get("mnist-cnn", [])]
    return "sha256:" + hashlib.sha256(json.dumps(drawn).encode()).hexdigest()


def _draw(runs: list[tables.Run], mode: Mode, digest: str) -> bytes:
    """Accuracy over time: all of it on the left, the last points on the right."""
    import matplotlib.pyplot as plt

    from snnlib import plots

    ann = runs[0]["ann_accuracy"]
    curves = {tables.label(run): run["accuracy"] for run in runs}
    steps = range(1, max(map(len, curves.values())) + 1)
    with plots.style(mode):
        figure, (whole, close) = plt.subplots(1, 2, figsize=(9, 3.8))
        for ax in (whole, close):
            plots.accuracy_over_time(ax, list(steps), curves, ann)
        whole.set_title(f"{runs[0]['model']}, {runs[0]['n']:,} test images")
        close.set_title("the last percentage point")
        close.set_ylim(100 * ann - 1, 100 * ann + 0.1)
        handles, labels = whole.get_legend_handles_labels()
        whole.get_legend().remove()
        close.get_legend().remove()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Description": digest})
        plt.close(figure)
    return file.getvalue()


SECTIONS: dict[str, Callable[[Path], str]] = {
    "scoreboard": scoreboard.table,
    "codes": scoreboard.codes,
    "sparse": scoreboard.sparse,
    "mnist-table": partial(tables.headline, dataset="mnist"),
    "mnist-figure": _mnist_figure,
    "fashion-table": partial(tables.headline, dataset="fashion_mnist"),
    "cifar10-table": partial(tables.headline, dataset="cifar10"),
    "note": tables.note,
    "targets": tables.targets,
}
