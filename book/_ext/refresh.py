"""Run notebooks and store their outputs without what changes from run to run.

    python book/_ext/refresh.py [--check] [NOTEBOOK ...]

Without names, all chapters. The first code cell of each is written anew with the repository's
address of _config.yml. ``--check`` runs nothing and fails if a notebook is not as this command
leaves it.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from urllib.parse import urlparse

import nbformat
import yaml

ROOT = Path(__file__).resolve().parents[2]
COLAB = """\
# In Colab: fetch the book's library, checkpoints and results; torch stays as installed.
import os
import sys

if "google.colab" in sys.modules and not os.path.isdir("/content/{name}"):
    !git clone --quiet --depth 1 --branch {branch} {url} /content/{name}
    %pip install --quiet --no-deps --editable /content/{name}
    sys.path.insert(0, "/content/{name}")
    %cd -q /content/{name}/book"""
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def chapters() -> list[Path]:
    """All notebooks: the chapters, in order, and the page before them."""
    return sorted((ROOT / "book").glob("*.ipynb"))


def colab_cell() -> str:
    """The source of the first code cell, the same in every notebook."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    url, branch = config["repository"]["url"], config["repository"]["branch"]
    return COLAB.format(url=url, branch=branch, name=Path(urlparse(url).path).name)


def tidy(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Write the Colab cell and drop time stamps, widget state and the outputs of live cells."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if code and "colab" in code[0].metadata.get("tags", []):
        code[0].source = colab_cell()
    for cell in notebook.cells:
        for noise in ("execution", "collapsed", "ExecuteTime", "jupyter", "vscode", "scrolled"):
            cell.metadata.pop(noise, None)
        if "live" in cell.metadata.get("tags", []):
            cell.outputs = []
    kept = {key: notebook.metadata[key] for key in ("snnlib",) if key in notebook.metadata}
    notebook.metadata = nbformat.from_dict({**METADATA, **kept})
    notebook.nbformat_minor = max(5, notebook.nbformat_minor)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
    return notebook


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def is_fresh(path: Path) -> bool:
    """Is the notebook as this command leaves it (outputs aside)?"""
    return read(path) == tidy(read(path))


def refresh(path: Path) -> None:
    """Run the notebook from top to bottom in its folder and replace the file."""
    from nbclient import NotebookClient

    notebook = tidy(read(path))
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.resolve().parent)}},
        coalesce_streams=True,
    )
    client.execute()
    partial = path.with_suffix(".ipynb.partial")
    nbformat.write(tidy(notebook), partial)
    os.replace(partial, path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all chapters")
    parser.add_argument("--check", action="store_true", help="run nothing, fail on stale ones")
    options = parser.parse_args()
    stale = []
    for path in options.notebooks or chapters():
        if options.check:
            stale += [] if is_fresh(path) else [path]
        else:
            print(path)
            refresh(path)
    for path in stale:
        print(f"{path}: not as `python book/_ext/refresh.py {path}` leaves it", file=sys.stderr)
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main())
