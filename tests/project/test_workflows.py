"""The workflows: pinned actions, least permissions, limits, and the systems that are promised."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PINNED = re.compile(r"^\s*(?:- )?uses: ([\w.-]+/[\w./-]+)@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)$")
# Who may write what, and no other job anything.
WRITES = {
    ("site", "deploy"): {"pages": "write", "id-token": "write"},
    ("site", "editions"): {"contents": "write"},
}

each = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def load(path: Path) -> dict:
    """A workflow; YAML 1.1 reads the key ``on`` as True."""
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    found["on"] = found.pop(True)
    return found


def steps(workflow: dict) -> list[dict]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_there_is_one_for_tests_package_site_and_links() -> None:
    assert [path.stem for path in WORKFLOWS] == ["links", "package", "site", "tests"]


@each
def test_actions_are_pinned_by_commit_with_their_version(path: Path) -> None:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if "uses:" in line]
    assert lines
    for line in lines:
        assert PINNED.match(line), f"not ACTION@40-DIGIT-COMMIT # vX.Y.Z: {line.strip()}"


def test_an_action_is_pinned_to_one_commit_everywhere() -> None:
    found: dict[str, set[tuple[str, str]]] = {}
    for path in WORKFLOWS:
        for line in path.read_text(encoding="utf-8").splitlines():
            if match := PINNED.match(line):
                found.setdefault(match[1], set()).add((match[2], match[3]))
    assert {name: pins for name, pins in found.items() if len(pins) > 1} == {}


@each
def test_permissions_are_the_least(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert job.get("permissions") == WRITES.get((path.stem, name)), name
    for step in steps(workflow):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@each
def test_runs_end_and_do_not_pile_up(path: Path) -> None:
    workflow = load(path)
    assert workflow["concurrency"]["group"].startswith(path.stem)
    for name, job in workflow["jobs"].items():
        assert 0 < job["timeout-minutes"] <= 120, name


@each
def test_no_text_of_others_becomes_a_command(path: Path) -> None:
    for step in steps(load(path)):
        assert "${{" not in step.get("run", ""), step["run"]


@each
def test_only_what_a_stranger_may_start(path: Path) -> None:
    assert not {"pull_request_target", "workflow_run", "issue_comment"} & load(path)["on"].keys()


def test_tests_run_on_every_promised_python_and_system() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    versions = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))
    matrix = load(ROOT / ".github/workflows/tests.yml")["jobs"]["tests"]["strategy"]["matrix"]
    assert matrix["python"] == versions
    assert [name.split("-")[0] for name in matrix["os"]] == ["ubuntu", "macos", "windows"]


@each
def test_make_targets_and_files_exist(path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for step in steps(load(path)):
        for target in re.findall(r"^make ([a-z]+)", step.get("run", ""), re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
        if file := step.get("with", {}).get("cache-dependency-path"):
            assert (ROOT / file).is_file()


def test_actionlint_has_nothing_to_say() -> None:
    if not (program := shutil.which("actionlint")):
        pytest.skip("needs actionlint: https://github.com/rhysd/actionlint")
    done = subprocess.run([program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
