"""The house stands: imports point one way, files and functions stay small enough to read."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "snnlib"
# From the ground up: a room may import itself and what stands before it. Those of the last group
# are leaves: each may import everything before the group, and no other leaf, but for the entry.
FLOORS = [
    "_version", "_arguments", "_compatibility", "neurons", "backend", "graph", "deploy",
    "simulation", "conversion", "codes", "zoo",
]  # fmt: skip
LEAVES = ["recurrent", "events", "learning"]
ALONE = ["plots"]  # needs NumPy and Matplotlib, nothing of snnlib
ENTRY = ["cli", "__main__", "__init__"]  # may import all
LISTS = ("rule", "refuse", "operation")  # decorators whose values are a list of one kind
MOST_LINES, MOST_IN_FUNCTION, MOST_IN_CLASS, MOST_POSITIONS = 350, 60, 250, 8
REASONS = {  # what is longer than that, and why
    "backend/cpu.py": "numba's cache looks at one file, so compiled code stands in one",
    "backend/cuda.py": "a kernel is one function",
    "simulation/network.py": "the public class: nearly all of it is documentation",
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(name: str) -> str:
    """``snnlib.graph.fold`` → ``graph``."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports(path: Path) -> Iterator[str]:
    """The modules of this project that a file imports, wherever in it: lazy and typed ones too."""
    known = {".".join(p.relative_to(ROOT).with_suffix("").parts) for p in modules()}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by the full name"
            names = [
                f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in known
                or f"{node.module}.{alias.name}.__init__" in known else str(node.module)
                for alias in node.names
            ]  # fmt: skip
        yield from (
            n for n in names if n.split(".")[0] in ("snnlib", "book", "tests", "benchmarks")
        )


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    allowed = {own}
    if own in FLOORS:
        allowed |= set(FLOORS[: FLOORS.index(own)])
    elif own in LEAVES:
        allowed |= set(FLOORS)
    elif own in ENTRY:
        allowed |= {*FLOORS, *LEAVES, *ALONE, *ENTRY}
    else:
        assert own in ALONE, f"{own}: a new room needs a place in this test"
    upward = [n for n in imports(path) if not n.startswith("snnlib") or room(n) not in allowed]
    if own == "simulation":  # lazily, from methods: the file formats and the check
        upward = [n for n in upward if room(n) != "conversion"]
    assert not upward, f"{path.relative_to(ROOT)} imports {upward} from above or beside it"


def test_no_circles() -> None:
    """Not even inside a room: there is an order in which the files can be read."""
    names = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in modules()}
    needs = {}
    for name, path in names.items():
        found = {n if n in names else f"{n}.__init__" for n in imports(path)}
        needs[name.removesuffix(".__init__")] = {n.removesuffix(".__init__") for n in found}
    packages = {n.removesuffix(".__init__") for n in names if n.endswith(".__init__")}
    done: set[str] = set()
    while todo := needs.keys() - done:
        # A file in a package may name the package itself; what it needs are the package's files.
        ready = {n for n in todo if not {d for d in needs[n] - done - packages if d != n}}
        assert ready, f"these import each other in circles: {sorted(todo)}"
        done |= ready


def lengths(path: Path, kinds: tuple[type, ...]) -> Iterator[tuple[str, int]]:
    """Names and lines of code of definitions, their docstrings not counted."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, kinds):
            body = node.body  # type: ignore[attr-defined]
            documented = ast.get_docstring(node) is not None  # type: ignore[arg-type]
            skipped = body[0].end_lineno - body[0].lineno + 1 if documented else 0
            yield node.name, node.end_lineno - node.lineno + 1 - skipped  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_file_is_one_idea(path: Path) -> None:
    name = str(path.relative_to(PACKAGE))
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES or name in REASONS, f"{name} has {lines} lines: two ideas?"
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    long = [f for f in lengths(path, functions) if f[1] > MOST_IN_FUNCTION]
    long += [c for c in lengths(path, (ast.ClassDef,)) if c[1] > MOST_IN_CLASS]
    assert not long or name in REASONS, f"{name}: {long}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_calls_can_be_read(path: Path) -> None:
    """No call with a long row of nameless values; compiled kernels have no other way."""
    if path.parent.name == "backend":  # compiled code takes its arguments by position
        return
    crowded = [
        f"line {node.lineno}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and len(node.args) > MOST_POSITIONS
        and ast.unparse(node.func) not in LISTS and "torch.ops" not in ast.unparse(node.func)
        and not any(isinstance(arg, ast.Starred) for arg in node.args)
    ]  # fmt: skip
    assert not crowded, f"{path.name}: more than {MOST_POSITIONS} values by position: {crowded}"


def test_the_readable_core_stays_small() -> None:
    core = [PACKAGE / "neurons.py"]
    core += [p for r in ("graph", "simulation", "conversion") for p in (PACKAGE / r).rglob("*.py")]
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in core)
    assert lines < 6500, f"neurons, graph, simulation and conversion have {lines} lines together"


def test_the_first_level_tells_the_story() -> None:
    shown = {p.name for p in PACKAGE.iterdir() if not p.name.startswith(("_", "."))}
    rooms = {name for name in (*FLOORS, *LEAVES, *ALONE, "cli") if not name.startswith("_")}
    assert shown <= {*rooms, "neurons.py", "py.typed"}
    for path in sorted(PACKAGE.glob("*/__init__.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        assert len(text) > 60, f"{path.parent.name}/ does not say what is in it"
