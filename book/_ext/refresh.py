"""Run notebooks and store their outputs without what changes from run to run.

    python book/_ext/refresh.py [--check | --keep-outputs] [NOTEBOOK ...]

Without names, all chapters. The first code cell of each is written anew with the repository's
address of _config.yml, and every number that the text names gets its value from the outputs.
``--keep-outputs`` runs nothing: for changes of text. ``--check`` changes nothing either and fails
if a notebook is not as this command leaves it, or if a stored result that it names is another one
than when it was run.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import re
import sys
from pathlib import Path
from urllib.parse import urlparse

import nbformat
import yaml

from snnlib.deploy.files import write_bytes

ROOT = Path(__file__).resolve().parents[2]
COLAB = """\
# In Colab: fetch the book's library, checkpoints and results; torch stays as installed.
import os
import subprocess
import sys

URL, HOME = "{url}", "/content/{name}"
CLONE = ["git", "clone", "--quiet", "--depth=1", "--branch={branch}", URL, HOME]
INSTALL = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--editable", HOME]

if "google.colab" in sys.modules:
    for command in [INSTALL] if os.path.isdir(HOME) else [CLONE, INSTALL]:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(
                f"The book could not be fetched from {{URL}}, so no cell below can run.\\n"
                "If this address opens in your browser, run this cell once more. If it fails\\n"
                "again, choose Runtime > Disconnect and delete runtime, and run it once more.\\n"
                f"What {{'git' if command is CLONE else 'pip'}} said: {{done.stderr.strip()}}"
            )
    sys.path.insert(0, HOME)
    os.chdir(f"{{HOME}}/book")"""
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# <data value="rates-soon">98.0 %</data>: HTML's element for a text that stands for a datum. Every
# viewer of Markdown shows the text alone, at the beginning of a line too, where a comment would
# turn the line into a block of HTML.
NUMBER = re.compile(r'(<data value="([\w-]+)">)(.*?)(</data>)', re.S)
WORD = re.compile(r'"([a-z0-9-]+)"')  # how a cell names a stored result
UNSAFE = re.compile(r"[\n<>&`*$|\\]")
GATED = re.compile(r"`{3,}\{solution-(start|end)\}")


def chapters() -> list[Path]:
    """All notebooks: the chapters, in order, and the page before them."""
    return sorted((ROOT / "book").glob("*.ipynb"))


def colab_cell() -> str:
    """The source of the first code cell, the same in every notebook."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    url, branch = config["repository"]["url"], config["repository"]["branch"]
    return COLAB.format(url=url, branch=branch, name=Path(urlparse(url).path).name)


def numbers(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """What the cells named with ``notebook.glue``, from their outputs.

    Raises:
        ValueError: two cells name the same number, or a value would not be text in Markdown.
    """
    found: dict[str, str] = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            named = output.get("metadata", {}).get("scrapbook")
            if not named:
                continue
            name = named["name"]
            value = str(ast.literal_eval(output.data[named["mime_prefix"] + "text/plain"]))
            if name in found:
                raise ValueError(f"two cells name the number {name!r}")
            if UNSAFE.search(value):
                raise ValueError(f"the number {name!r} is no plain text: {value!r}")
            found[name] = value
    return found


def write_numbers(notebook: nbformat.NotebookNode) -> None:
    """Put the values of the outputs into the text that names them.

    Raises:
        ValueError: the text names a number that no cell does.
    """
    known = numbers(notebook)

    def value(tag: re.Match[str]) -> str:
        if tag[2] not in known:
            raise ValueError(
                f"the text names {tag[2]!r}, but no cell does: there are {sorted(known) or 'none'}"
            )
        return f"{tag[1]}{known[tag[2]]}{tag[4]}"

    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = NUMBER.sub(value, cell.source)


def results(notebook: nbformat.NotebookNode, folder: Path) -> dict[str, str]:
    """The stored results that the code names, and the first digits of their SHA-256.

    Whoever names a result that is not stored yet meets it here once it is.
    """
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    paths = [folder / f"{name}.json" for name in sorted(set(WORD.findall(code)))]
    return {
        path.stem: hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        for path in paths
        if path.is_file()
    }


def fold(notebook: nbformat.NotebookNode) -> None:
    """Close in JupyterLab what the site folds or leaves out: plotting code, Colab, solutions."""
    inside = False
    for cell in notebook.cells:
        gate = GATED.match(cell.source) if cell.cell_type == "markdown" else None
        if gate:
            inside = gate[1] == "start"
        elif inside:
            cell.metadata["jupyter"] = {"source_hidden": True}
            if cell.cell_type == "code":
                cell.metadata["jupyter"]["outputs_hidden"] = True
        elif {"hide-input", "colab"} & set(cell.metadata.get("tags", [])):
            cell.metadata["jupyter"] = {"source_hidden": True}


def tidy(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Write the Colab cell and the numbers; drop time stamps, widget state, outputs of live cells.

    Raises:
        ValueError: see `numbers` and `write_numbers`.
    """
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if code and "colab" in code[0].metadata.get("tags", []):
        code[0].source = colab_cell()
    for cell in notebook.cells:
        for noise in ("execution", "collapsed", "ExecuteTime", "jupyter", "vscode", "scrolled"):
            cell.metadata.pop(noise, None)
        if "live" in cell.metadata.get("tags", []):
            cell.outputs = []
    fold(notebook)
    write_numbers(notebook)
    kept = {key: notebook.metadata[key] for key in ("snnlib",) if key in notebook.metadata}
    notebook.metadata = nbformat.from_dict({**METADATA, **kept})
    notebook.nbformat_minor = max(5, notebook.nbformat_minor)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
    return notebook


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def write(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Replace the file, whole or not at all."""
    write_bytes(path, f"{nbformat.writes(tidy(notebook))}\n".encode())


def stale(path: Path) -> str:
    """Why the notebook is not as this command leaves it (outputs aside); empty where it is."""
    notebook = read(path)
    try:
        same = notebook == tidy(read(path))
    except ValueError as error:
        return f"{path}: {error}"
    if not same:
        return f"{path}: not as `python book/_ext/refresh.py {path}` leaves it"
    ran_on = notebook.metadata.get("snnlib", {}).get("results", {})
    now = results(notebook, path.parent / "results")
    other = sorted(name for name in {*ran_on, *now} if ran_on.get(name) != now.get(name))
    return (
        f"{path}: was run on other results ({', '.join(other)}); run"
        f" `python book/_ext/refresh.py {path}`" if other else ""
    )  # fmt: skip


def refresh(path: Path) -> None:
    """Run the notebook from top to bottom in its folder and replace the file."""
    from nbclient import NotebookClient

    notebook = read(path)
    code = [cell for cell in notebook.cells if "colab" in cell.metadata.get("tags", [])]
    for cell in code:
        cell.source = colab_cell()
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.resolve().parent)}},
        coalesce_streams=True,
    )
    client.execute()
    ran_on = results(notebook, path.parent / "results")
    notebook.metadata.setdefault("snnlib", nbformat.NotebookNode())["results"] = ran_on
    write(notebook, path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all chapters")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--check", action="store_true", help="change nothing, fail on stale ones")
    choice.add_argument("--keep-outputs", action="store_true", help="run nothing, write the rest")
    options = parser.parse_args()
    failed = False
    for path in options.notebooks or chapters():
        if options.check:
            problem = stale(path)
        else:
            print(path)
            try:
                write(read(path), path) if options.keep_outputs else refresh(path)
                problem = ""
            except ValueError as error:
                problem = f"{path}: {error}"
        if problem:
            print(problem, file=sys.stderr)
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
