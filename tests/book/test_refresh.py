"""What refresh.py writes: the cell for Colab, numbers in the text, closed solutions."""

from __future__ import annotations

import copy
import importlib.util
import os
import sys
import types
from pathlib import Path

import nbformat
import pytest
import small_book

from conftest import ROOT

spec = importlib.util.spec_from_file_location("refresh", ROOT / "book/_ext/refresh.py")
assert spec is not None
assert spec.loader is not None
refresh = importlib.util.module_from_spec(spec)
spec.loader.exec_module(refresh)


COMMAND = '#!/bin/sh\necho "$@" >> {log}\n{then}\n'


@pytest.fixture
def colab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs the cell as Colab would, with a git and a pip that do what they are told."""
    home, log = tmp_path / "content", tmp_path / "commands"
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    name = refresh.colab_cell().split('"/content/')[1].split('"')[0]
    book = home / name / "book"

    def run(git: str = f"mkdir -p {book}", pip: str = "true") -> list[str]:
        for command, then in (("git", git), ("python", pip)):
            file = tmp_path / command
            file.write_text(COMMAND.format(log=log, then=then), encoding="utf-8")
            file.chmod(0o755)
        exec(refresh.colab_cell().replace("/content", str(home)), {})
        return log.read_text(encoding="utf-8").splitlines()

    return types.SimpleNamespace(run=run, home=home / name, book=book, log=log)


posix = pytest.mark.skipif(os.name != "posix", reason="needs commands of a POSIX shell")


@posix
def test_colab_cell_fetches_installs_and_goes_there(colab) -> None:
    cloned, installed = colab.run()
    assert cloned.startswith("clone --quiet --depth=1 --branch=")
    assert "--no-deps" in installed, "the installed torch must stay as it is"
    assert sys.path[0] == str(colab.home)
    assert Path.cwd() == colab.book


@posix
@pytest.mark.parametrize(
    ("failing", "said"),
    [
        ({"git": "echo fatal: could not resolve host >&2; exit 128"}, "What git said: fatal:"),
        ({"pip": "echo ERROR: no space left >&2; exit 1"}, "What pip said: ERROR: no space"),
    ],
    ids=["git", "pip"],
)
def test_colab_cell_fails_once_and_says_what_to_do(colab, capfd, failing, said) -> None:
    before = Path.cwd(), list(sys.path)
    with pytest.raises(RuntimeError) as error:
        colab.run(**failing)
    message = str(error.value)
    url = refresh.colab_cell().split('URL, HOME = "')[1].split('"')[0]
    for part in (f"could not be fetched from {url}", "in your browser", "once more", said):
        assert part in message
    assert (Path.cwd(), sys.path) == before, "the cell went on after the error"
    assert capfd.readouterr() == ("", ""), "the error is the only thing to read"
    assert error.value.__cause__ is None


@posix
def test_colab_cell_may_be_run_again(colab) -> None:
    with pytest.raises(RuntimeError):
        colab.run(pip="exit 1", git=f"mkdir -p {colab.book}")
    *_, last = colab.run()
    assert last.startswith("-m pip install")
    assert Path.cwd() == colab.book
    assert colab.log.read_text(encoding="utf-8").count("clone") == 1


def test_colab_cell_does_nothing_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "google.colab", raising=False)
    monkeypatch.setattr("subprocess.run", lambda *a, **k: pytest.fail("runs a command"))
    before = Path.cwd(), list(sys.path)
    exec(refresh.colab_cell(), {})
    assert (Path.cwd(), sys.path) == before


def text(notebook: nbformat.NotebookNode) -> str:
    return "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")


def test_numbers_of_the_outputs_get_into_the_text() -> None:
    notebook = small_book.chapter()
    wanted = text(notebook)
    for cell in notebook.cells:
        cell.source = cell.source.replace(">4</data>", "></data>")
    assert text(refresh.tidy(notebook)) == wanted
    assert text(refresh.tidy(notebook)) == wanted


def test_a_number_that_differs_from_its_output_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "chapter.ipynb"
    refresh.write(small_book.chapter(), path)
    assert refresh.stale(path) == ""
    changed = path.read_text(encoding="utf-8").replace(">4</data>", ">5</data>", 1)
    path.write_text(changed, encoding="utf-8")
    assert "not as" in refresh.stale(path)


def test_a_result_that_is_new_or_changed_makes_the_chapters_that_name_it_stale(
    tmp_path: Path,
) -> None:
    path, notebook = tmp_path / "chapter.ipynb", small_book.chapter()
    notebook.cells[2].source += '\nrows = notebook.results("small-rows")'
    refresh.write(notebook, path)
    assert refresh.stale(path) == ""
    (tmp_path / "results").mkdir()
    (tmp_path / "results/small-other.json").write_text("{}", encoding="utf-8")
    assert refresh.stale(path) == ""
    result = tmp_path / "results/small-rows.json"
    result.write_text('{"rows": [1]}', encoding="utf-8")
    assert "was run on other results (small-rows)" in refresh.stale(path)
    notebook.metadata["snnlib"] = {"results": refresh.results(notebook, result.parent)}
    refresh.write(notebook, path)
    assert refresh.stale(path) == ""
    result.write_text('{"rows": [2]}', encoding="utf-8")
    assert "was run on other results (small-rows)" in refresh.stale(path)


def test_a_number_that_no_cell_names_is_an_error(tmp_path: Path) -> None:
    path, notebook = tmp_path / "chapter.ipynb", small_book.chapter()
    notebook.cells[0].source += '\n\n<data value="small-five"></data>'
    nbformat.write(notebook, path)
    assert "'small-five', but no cell does: there are ['small-four']" in refresh.stale(path)


@pytest.mark.parametrize("value", ["'a|b'", "'<b>'", "'*'", "'$x$'", "'a\\nb'"])
def test_a_number_that_would_be_markup_is_refused(value: str) -> None:
    notebook = small_book.chapter()
    (data,) = (o.data for o in notebook.cells[2].outputs if "scrapbook" in o.metadata)
    data["application/papermill.record/text/plain"] = value
    with pytest.raises(ValueError, match="'small-four' is no plain text"):
        refresh.numbers(notebook)


def test_two_cells_must_not_name_the_same_number() -> None:
    notebook = small_book.chapter()
    notebook.cells.append(copy.deepcopy(notebook.cells[2]))
    with pytest.raises(ValueError, match="two cells name the number 'small-four'"):
        refresh.numbers(notebook)


def test_solutions_and_plotting_code_are_closed_in_jupyterlab() -> None:
    notebook = refresh.tidy(small_book.chapter())
    hidden = {
        cell.source.splitlines()[0]: bool(cell.metadata["jupyter"].get("outputs_hidden"))
        for cell in notebook.cells
        if cell.metadata.get("jupyter", {}).get("source_hidden")
    }
    assert hidden == {
        refresh.colab_cell().splitlines()[0]: False,
        "four = 2 * 2": False,  # hide-input
        "def double(x):": True,
        small_book.CHECK: True,
        "extra = double(four)": True,
        "The rest of the answer is 8.": False,
    }
    assert refresh.tidy(copy.deepcopy(notebook)) == notebook
