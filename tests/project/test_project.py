"""The frame holds: metadata, licenses, commands and pins agree with each other and the code."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
MODULES = sorted((ROOT / "snnlib").rglob("*.py"))
needs_make = pytest.mark.skipif(not shutil.which("make"), reason="needs make")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def tracked() -> list[Path]:
    """The files that git knows; without git or a repository there is nothing to check."""
    try:
        listing = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [path for name in listing.split("\0") if name and (path := ROOT / name).is_file()]


def text_of(path: Path) -> str | None:
    """The text of a file; None for a binary one."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


def pins() -> dict[str, Requirement]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonical(requirement.name): requirement for requirement in found}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def version_of(requirement: Requirement) -> str:
    (specifier,) = requirement.specifier
    return specifier.version


def test_one_version_everywhere() -> None:
    import snnlib

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert snnlib.__version__ == PROJECT["version"] == str(citation["version"])


def test_installed_command_points_at_a_function() -> None:
    module, function = PROJECT["scripts"]["snnlib"].split(":")
    source = ROOT / Path(*module.split(".")).with_suffix(".py")
    names = {
        node.name
        for node in ast.parse(source.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    assert function in names


def test_every_file_of_the_package_travels_in_the_wheel() -> None:
    (patterns,) = PYPROJECT["tool"]["setuptools"]["package-data"].values()
    package = ROOT / "snnlib"
    packed = {path for pattern in patterns for path in package.glob(pattern)}
    files = {path for path in tracked() if package in path.parents and path.suffix != ".py"}
    assert files - packed == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_and_its_public_names_are_documented(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), f"{path.name} has no module docstring"
    definitions = (ast.FunctionDef, ast.ClassDef)
    bare = [
        f"{path.name}:{node.lineno} {node.name}"
        for node in tree.body
        if isinstance(node, definitions)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
        and "overload" not in map(ast.unparse, node.decorator_list)  # what is documented follows
    ]
    assert not bare, f"public names without a docstring: {bare}"


def test_every_requirement_is_pinned_exactly() -> None:
    loose = [str(r) for r in pins().values() if [s.operator for s in r.specifier] != ["=="]]
    assert not loose, f"not pinned with ==: {loose}"


def test_pins_satisfy_what_the_package_and_its_extras_ask_for() -> None:
    extras = PROJECT["optional-dependencies"].values()
    wanted = [Requirement(line) for line in sum(extras, PROJECT["dependencies"])]
    for requirement in wanted:
        if requirement.name == PROJECT["name"]:
            continue
        pin = pins().get(canonical(requirement.name))
        assert pin is not None, f"requirements.txt does not pin {requirement.name}"
        assert requirement.specifier.contains(version_of(pin)), f"{pin} is not {requirement}"


def test_pinned_site_avoids_the_releases_that_break_it() -> None:
    major = int(version_of(pins()["jupyter-book"]).split(".")[0])
    theme = tuple(map(int, version_of(pins()["sphinx-book-theme"]).split(".")[:2]))
    assert major < 2, "Jupyter Book 2 ignores _config.yml and builds nothing"
    assert theme < (1, 3), "sphinx-book-theme 1.3 draws a second header"


def test_torch_and_torchvision_are_a_pair() -> None:
    try:
        installed = metadata.distribution("torchvision")
    except metadata.PackageNotFoundError:
        pytest.skip("torchvision is not installed")
    if installed.version.split("+")[0] != version_of(pins()["torchvision"]):
        pytest.skip("another torchvision is installed than the pinned one")
    (pair,) = [r for r in map(Requirement, installed.requires or []) if r.name == "torch"]
    assert pair.specifier.contains(version_of(pins()["torch"]))


@needs_make
def test_readme_names_every_make_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = set(re.findall(r"^  ([a-z]+) +\S", shown.stdout, re.MULTILINE))
    assert listed == set(phony.split())
    assert {name for name in listed if f"`make {name}`" not in README} == set()


@needs_make
def test_make_names_a_python_that_is_too_old(tmp_path: Path) -> None:
    (tmp_path / "old-python").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "old-python").chmod(0o755)
    (tmp_path / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
    for name in ("requirements.txt", "pyproject.toml"):
        (tmp_path / name).touch()
    run = subprocess.run(
        ["make", "setup", "PYTHON=./old-python"], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode != 0
    assert "no Python 3.11 or newer among: ./old-python" in run.stderr
    assert not (tmp_path / ".venv").exists()


@needs_make
def test_make_setup_takes_an_index_for_torch(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
    for name in ("requirements.txt", "pyproject.toml"):
        (tmp_path / name).touch()
    for index, ending in (
        ("", "requirements.txt"),
        ("https://a/b", "--extra-index-url https://a/b"),
    ):
        command = ["make", "--dry-run", "setup", f"TORCH_INDEX={index}"]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        (line,) = [line for line in run.stdout.splitlines() if "install -r" in line]
        assert line.rstrip().endswith(ending)
    assert "TORCH_INDEX=https://download.pytorch.org/whl/cpu" in README


def test_readme_links_and_result_sections() -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", README):
        assert (ROOT / target).exists(), f"README links to {target}, which does not exist"
    begins = re.findall(r"<!-- results:([\w-]+):begin -->", README)
    ends = re.findall(r"<!-- results:([\w-]+):end -->", README)
    assert begins == ends
    assert len(set(begins)) == len(begins)


def test_readme_python_example_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(example, "README.md", "exec"), names)
    assert len(names["run"].accuracy(names["test"].labels)) == 8


def test_import_is_light() -> None:
    heavy = ["torchvision", "sklearn", "matplotlib", "triton"]
    script = f"import snnlib, sys; print([name for name in {heavy} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.strip() == "[]"


def test_citation_names_software_and_paper() -> None:
    citation: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    (paper,) = citation["references"]
    assert paper["doi"] == "10.1109/TNNLS.2020.3043415"
    assert [author["family-names"] for author in paper["authors"]] == [
        "Yu",
        "Ma",
        "Song",
        "Zhang",
        "Dang",
        "Tan",
    ]
    assert paper["doi"] in README


def test_repository_address_is_the_one_of_the_site() -> None:
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    address = config["repository"]["url"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert PROJECT["urls"]["Homepage"] == citation["repository-code"] == address
    assert f"git clone {address} " in README


def test_no_path_of_a_machine_in_the_repository() -> None:
    # Split, so that this file does not find itself.
    homes = "|".join(
        ["/home" + "/", "/Users" + "/", "/root" + "/", "/work" + "/", "C:" + r"\\Users"]
    )
    machine = re.compile(rf"(?<![\w.:/~}}-])(?:{homes})[\w.-]+")
    found = []
    for path in tracked():
        text = text_of(path)
        for number, line in enumerate((text or "").splitlines(), 1):
            if match := machine.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match.group()}")
    assert not found, "paths of a machine: " + ", ".join(found[:20])


def test_nothing_generated_and_no_data_set_is_tracked() -> None:
    unwanted = re.compile(
        r"(^|/)(_build|\.venv|__pycache__|\.ipynb_checkpoints|MNIST|FashionMNIST)/"
        r"|-ubyte(\.gz)?$|\.(partial|pyc|pkl|bin|tar\.gz)$"
    )
    names = [str(path.relative_to(ROOT)) for path in tracked()]
    assert [name for name in names if unwanted.search(name)] == []


def test_repository_stays_small() -> None:
    megabytes = sum(path.stat().st_size for path in tracked()) / 1e6
    assert megabytes < 60, f"the tracked files take {megabytes:.0f} MB"
