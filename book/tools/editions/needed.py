"""Which cells of a chapter some of its cells build on, told from their code alone.

A cell is needed if it binds a name that is read further down by a needed cell, or if it may change
the value behind one: ``model.eval()``, ``train(model)``, ``table[key] = …``. Cells that only draw
what they compute are left out. So teachers get the few definitions that the solutions use, and a
test of the exercises need not run the whole chapter.
"""

from __future__ import annotations

import ast
import builtins
import symtable
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

# Statements such as ``plt.show()`` change nothing that another cell computes with.
_SHOW = {"ax", "axes", "display", "fig", "glue", "notebook", "np", "plots", "plt", "print"}

_AT_ONCE = {"listcomp", "setcomp", "dictcomp", "genexpr"}


def needed(cells: Sequence[str], wanted: Collection[int]) -> list[int]:
    """The places of the wanted cells and of all they build on, in order.

    Args:
        cells: the code of every cell.
        wanted: places in ``cells``.
    """
    read, late = [_read(source) for source in cells], set[str]()
    while True:
        kept, names = list[int](), set(late)
        for place in reversed(range(len(cells))):
            cell = read[place]
            if place in wanted or names & (cell.binds | cell.changes) or cell.everywhere:
                kept.append(place)
                names = names - (cell.replaces - late) | cell.uses
        found = set[str]().union(*(_later(read, place) for place in kept))
        if found <= late:
            return kept[::-1]
        late |= found


def _later(cells: Sequence[_Cell], place: int) -> set[str]:
    """What functions of a cell read that is bound only after it."""
    before = set[str]().union(*(cell.binds for cell in cells[: place + 1]))
    return cells[place].late - before


@dataclass
class _Cell:
    """What the code of a cell does to the names of the notebook."""

    uses: set[str] = field(default_factory=set)  # read from cells before
    late: set[str] = field(default_factory=set)  # read by its functions when they are called
    binds: set[str] = field(default_factory=set)
    replaces: set[str] = field(default_factory=set)  # bound on every path
    changes: set[str] = field(default_factory=set)  # values that are changed in place
    everywhere: bool = False  # changes the process: seeds, switches


def _read(source: str) -> _Cell:
    cell, modules = _Cell(), set[str]()
    for statement in ast.parse(source).body:
        bound = _bound(statement)
        now, later = _reads(statement)
        cell.uses |= (now | later) - cell.replaces
        cell.late |= later
        cell.binds |= bound
        if isinstance(statement, ast.Import | ast.ImportFrom):
            modules |= bound
        if not isinstance(statement, ast.For | ast.While | ast.If | ast.Try | ast.With):
            cell.replaces |= bound
        for node in ast.walk(statement):
            cell.changes |= _changed(node)
    cell.everywhere = bool(cell.changes & (modules | {"torch"}))
    return cell


def _reads(statement: ast.stmt) -> tuple[set[str], set[str]]:
    """The names of the notebook that a statement reads at once, and those in its functions."""
    top = symtable.symtable(ast.unparse(statement), "cell", "exec")
    found = {s.get_name() for s in top.get_symbols() if s.is_referenced()}
    later, waiting = set[str](), top.get_children()
    while waiting:
        scope = waiting.pop()
        names = {s.get_name() for s in scope.get_symbols() if s.is_referenced() and s.is_global()}
        if scope.get_name() in _AT_ONCE:
            found |= names
        else:
            later |= names
        waiting += scope.get_children()
    own = [statement.target] if isinstance(statement, ast.For) else []
    if isinstance(statement, ast.With):
        own = [item.optional_vars for item in statement.items if item.optional_vars]
    found -= {name.id for node in own for name in ast.walk(node) if isinstance(name, ast.Name)}
    return found, later - set(dir(builtins))


def _bound(statement: ast.stmt) -> set[str]:
    """The names that a statement binds in the notebook, those inside functions left out."""
    found, waiting = set[str](), [statement]
    while waiting:
        node: ast.AST = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
            continue
        if isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp):
            continue
        if isinstance(node, ast.alias):
            found.add((node.asname or node.name).partition(".")[0])
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        waiting += ast.iter_child_nodes(node)  # type: ignore[arg-type]
    return found


def _changed(node: ast.AST) -> set[str]:
    """The names whose values a node may change in place."""
    if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store):
        return {_base(node)}
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        call = node.value
        if _base(call.func) in _SHOW:
            return set()
        own = {_base(call.func)} if isinstance(call.func, ast.Attribute) else set()
        return own | {arg.id for arg in call.args if isinstance(arg, ast.Name)}
    return set()


def _base(node: ast.expr) -> str:
    """The name that an expression such as ``a.b[c].d`` begins with, else nothing."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""
