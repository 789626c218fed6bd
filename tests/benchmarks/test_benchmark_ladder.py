"""The ladder times what its chapter shows, and every rung is the library's simulation."""

import ast
import json
from pathlib import Path

import nbformat
import pytest
import torch

import snnlib as snn
from benchmarks import command, ladder, rungs
from snnlib.zoo import data, models

ROOT = Path(__file__).resolve().parents[2]
CHAPTER = ROOT / "book/07_simulator.ipynb"


class _Bare(ast.NodeTransformer):
    """Code without annotations."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        assert node.value is not None
        return ast.Assign([node.target], node.value, lineno=node.lineno)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg(node.arg)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)


def definitions(source: str) -> dict[str, str]:
    """Classes and functions of a source, without annotations and comments, by name."""
    tree = _Bare().visit(ast.parse(source))
    kinds = (ast.ClassDef, ast.FunctionDef)
    return {node.name: ast.unparse(node) for node in tree.body if isinstance(node, kinds)}


def test_what_is_timed_is_what_the_chapter_shows() -> None:
    cells = nbformat.read(CHAPTER, as_version=4).cells
    shown: dict[str, str] = {}
    for cell in cells:
        if cell.cell_type == "code":
            shown |= definitions(cell.source)
    timed = definitions(Path(rungs.__file__).read_text(encoding="utf-8"))
    assert {name: shown.get(name) for name in timed} == timed


def test_other_code_is_noticed() -> None:
    one = definitions("def f(x: int) -> int:\n    y: int = x  # the same\n    return y")
    assert one == definitions("def f(x):\n    y = x\n    return y")
    assert one != definitions("def f(x):\n    y = -x\n    return y")


def test_every_rung_is_the_librarys_simulation() -> None:
    images = data.to_float(data.load("digits")[1].images[:60]).double()
    net = snn.convert(models.load("digits-cnn").double(), images, snn.IF())
    with torch.no_grad():
        works = ladder.ladder(net, images[:20], steps=8)
        expected = net(images[:20], 8).logits[-1]
        for name, work in works.items():
            if name == "closed form":
                expected = net.replace(neuron=snn.Augmented(levels=4, negative=0.0))(
                    images[:20], 8
                ).logits[-1]
            if name != "one neuron at a time":
                assert torch.allclose(work(), expected, rtol=0, atol=1e-11), name
        one = rungs.OneByOne(ladder.thresholds(net))
        found = rungs.simulate(list(net.graph)[1:], images[:1], 8, one)
    assert torch.allclose(found, net(images[:1], 8).logits[-1], rtol=0, atol=1e-11)


def test_other_answers_are_noticed() -> None:
    x, one, other = torch.zeros(2, 1), torch.eye(2), torch.eye(2).flip(0)
    with pytest.raises(SystemExit, match="tensors: other answers"):
        ladder.check({"snnlib": lambda: one, "tensors": lambda: other}, x)


def test_the_benchmark_from_end_to_end(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(command, "RESULTS", tmp_path)
    monkeypatch.setattr(ladder, "LONG", 1000)
    monkeypatch.setattr(ladder, "SQUARE", 32)
    # After two steps of a random network, a spike that tips in 32 bits may change an answer.
    monkeypatch.setattr(ladder, "check", lambda works, x: dict.fromkeys(works, 1.0))
    rows = ladder.one_process("snnlib", most=3)
    assert [row["steps"] for row in rows] == [1, 2, 3]
    assert all(row["peak"] >= row["before"] > 0 < row["cpu"] for row in rows)
    monkeypatch.setattr(ladder, "over_steps", lambda threads: rows)
    call = ["--network", "six", "--images", "8", "--steps", "2", "--rounds", "1", "--json"]
    assert ladder.main(call) == 0
    record = json.loads((tmp_path / "ladder.json").read_text())
    assert (record["n"], record["steps"], len(record["load"])) == (8, 2, 2)
    assert set(record["ms_a_step"]) > {"one neuron at a time", "tensors", "snnlib", "floor"}
    assert all(0 < times["cpu"] <= times["median_cpu"] for times in record["ms_a_step"].values())
    assert all(work["cpu"] > 0 for work in record["roofline"].values())


def test_a_process_that_fails_is_named(monkeypatch) -> None:
    monkeypatch.setattr(ladder, "WAYS", ("no such way",))
    with pytest.raises(SystemExit, match="'no such way' failed"):
        ladder.over_steps(1)
