"""Make the library's docstrings, which are written for reading in a terminal, good pages."""

from __future__ import annotations

import contextlib
import functools
import importlib
import pkgutil
import re
from typing import Any

import snnlib

# |c| is an absolute value here and a substitution in reStructuredText.
BARS = re.compile(r"(?<![\\`|])\|(?=[\wλθΣ])")


def process(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    literal = False
    for number, line in enumerate(lines):
        literal = literal and (not line.strip() or line.startswith(" "))
        if not literal:
            lines[number] = BARS.sub(r"\\|", line)
        literal = literal or line.rstrip().endswith("::")
    if what in ("attribute", "data", "property") and lines:
        # Napoleon takes the words before a colon for a type.
        lines[0] = re.sub(r"(?<!:): (?!:)", " – ", lines[0], count=1)


def public_names() -> dict[str, str]:
    """``snnlib.neurons.IF`` → ``snnlib.IF`` for everything that the package exports."""
    found = {}
    for name in snnlib.__all__:
        thing = getattr(snnlib, name)
        if hasattr(thing, "__qualname__"):
            found[f"{thing.__module__}.{thing.__qualname__}"] = f"snnlib.{name}"
    return found


def resolve(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Find a name by the module that defines it where the page documents the exported name."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    short = public_names().get(target) or public_names().get(f"{node.get('py:module')}.{target}")
    candidates = [short] if short else []
    candidates += [full for full in public_names().values() if full.endswith(f".{target}")]
    domain = env.get_domain("py")
    for candidate in candidates:
        found = domain.resolve_xref(
            env, node["refdoc"], app.builder, "obj", candidate, node, contnode
        )
        if found is not None:
            return found
    return contnode if exists(target) else None


@functools.cache
def library() -> dict[str, Any]:
    """All modules of the library that can be imported on this machine, by name."""
    found = {"snnlib": snnlib}
    for module in pkgutil.walk_packages(snnlib.__path__, "snnlib."):
        if not module.name.endswith("__main__"):
            with contextlib.suppress(ImportError):
                found[module.name] = importlib.import_module(module.name)
    return found


def exists(target: str) -> bool:
    """Is it a name of the library that has no entry on the page? Then it is no misspelling."""
    if target in library():
        return True
    for name, home in library().items():
        thing: Any = home
        for part in target.removeprefix(f"{name}.").split("."):
            thing = getattr(thing, part, None)
        if thing is not None:
            return True
    return False


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", process, priority=400)
    app.connect("missing-reference", resolve)
