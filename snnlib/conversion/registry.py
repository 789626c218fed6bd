"""The registry of conversion: which PyTorch operation becomes what, and what is refused and why.

One table, `RULES`, drives the converter and generates the book's page *What converts*. A rule is a
short function that emits nodes of `snnlib.graph`; `snnlib.conversion.rules` holds them all, and
`rule` adds one for a module or function of your own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnlib.graph.operations import Node

Target = Any  # a module class, a function, the name of a Tensor method, or a full name with dots


@dataclass(frozen=True)
class Rule:
    """How one PyTorch operation becomes nodes of the graph; see `rule`.

    A module class with ``whole`` is converted as one operation; without, it only shares the row of
    the table with the functions that its ``forward`` calls.
    """

    label: str
    becomes: str
    note: str
    emit: Callable[..., Any]
    whole: bool = False


RULES: dict[Target, Rule] = {}
REJECTED: dict[Target, str] = {}  # known operations that do not convert → the nearest that does
MASK = (
    "it computes with the 0 and 1 of a comparison: only ReLUs written with one convert, such as "
    "torch.where(x > 0, x, 0) or x * (x > 0)"
)


class Unsupported(Exception):
    """Raised by a rule: this use of the operation does not convert; the text says what would."""


def rule(
    *targets: Target, becomes: str, note: str = "", label: str | None = None,
    modules: tuple[type[nn.Module], ...] = (), replace: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:  # fmt: skip
    """Register ``emit(builder, *args, **kwargs) -> node name`` for some targets.

    Args:
        targets: module classes, which are then not looked into; functions; a name such as
            ``"relu"`` for ``Tensor.relu``, ``torch.relu`` and ``F.relu``, also in place
            (``"Tensor.relu"``: that alone); or the full name ``"package.module.Class"`` of what
            need not be installed.
        becomes: what it is in the spiking network, for the book's table.
        note: the conditions under which it converts.
        label: how the table names it, if the target's own name will not do.
        modules: module classes whose ``forward`` calls these functions, for the table.
        replace: take the place of a rule that is there.

    For a module class the first argument after the builder is the module itself. ``emit`` returns
    the name of the node it stands for, or a list of names for operations that give several.

    Raises:
        ValueError: a target has a rule already, and ``replace`` is not given.

    Example:
        >>> class Double(torch.nn.Module):
        ...     def forward(self, x):
        ...         return 2 * x
        >>> @rule(Double, becomes="scale")
        ... def _double(b, m, x):
        ...     return b.emit("affine", x, tensors={"scale": torch.tensor(2.0)})
        >>> RULES.pop(Double).becomes
        'scale'
    """
    keys = list(_spelled_out(targets))
    if not replace and (taken := [describe(key) for key in (*modules, *keys) if key in RULES]):
        raise ValueError(
            f"{', '.join(taken)} has a rule already: pass replace=True to put yours in its place"
        )

    def register(emit: Callable[..., Any]) -> Callable[..., Any]:
        for key in (*modules, *keys):
            whole = isinstance(key, type) and key not in modules
            RULES[key] = Rule(label or describe(key), becomes, note, emit, whole)
        return emit

    return register


def refuse(reason: str, *targets: Target) -> None:
    """Enter operations into `REJECTED`; targets as for `rule`."""
    REJECTED.update(dict.fromkeys(_spelled_out(targets), reason))


def _spelled_out(targets: tuple[Target, ...]) -> Iterator[Target]:
    """The targets, a name such as ``"relu"`` as all functions that it stands for."""
    for target in targets:
        if not isinstance(target, str) or "." in target:
            yield target.removeprefix("Tensor.") if isinstance(target, str) else target
            continue
        found: dict[Target, None] = {}
        for space in (Tensor,) if target.startswith("_") else (F, torch, Tensor):
            for name in (target, f"{target}_"):
                if callable(function := getattr(space, name, None)):
                    found[name if space is Tensor else function] = None
        yield from found or {target: None}  # properties such as Tensor.mT are no functions


# function → how a user writes it
_PUBLIC = {
    function: f"{space}.{name}"
    for space, module in (("torch", torch), ("F", F))
    for name, function in vars(module).items()
    if callable(function) and not name.startswith("_")
}


def describe(target: Target) -> str:
    """A readable name for a target: ``nn.ReLU``, ``F.relu``, ``Tensor.relu``."""
    if isinstance(target, str):
        parts = target.split(".")
        return f"Tensor.{target}" if len(parts) == 1 else f"{parts[0]}.{parts[-1]}"
    name = getattr(target, "__name__", str(target))
    module = (getattr(target, "__module__", "") or "").lstrip("_")
    if isinstance(target, type) and module.startswith("torch.nn."):
        return f"nn.{name}"
    return _PUBLIC.get(target) or f"{module}.{name}"


def find(target: Target) -> Rule | None:
    """The rule for a function, a Tensor method's name or a module class; None if there is none.

    A subclass without a ``forward`` of its own takes the rule of its base.
    """
    full_name = f"{getattr(target, '__module__', '')}.{getattr(target, '__qualname__', '')}"
    return RULES.get(target) or RULES.get(full_name) or _inherited(target, RULES)


def why_rejected(target: Target) -> str | None:
    """Why a known operation does not convert, and the nearest thing that does; None if unknown."""
    return REJECTED.get(target) or _inherited(target, REJECTED)


def _inherited(target: Any, table: dict[Target, Any]) -> Any:
    bases: tuple[Any, ...] = target.__mro__[1:] if isinstance(target, type) else ()
    return next((table[c] for c in bases if c in table and c.forward is target.forward), None)


@dataclass(frozen=True)
class Ref:
    """A value that depends on the images: the name of a graph node."""

    name: str


@dataclass(frozen=True)
class Compare:
    """A comparison ``x > limit`` (or ``<``): no value of the graph, but a ReLU can hold one."""

    x: Ref
    limit: Any  # a number, a tensor, or another activation
    above: bool


@dataclass
class Builder:
    """Collects the nodes of the graph to be; rules call `emit`."""

    like: Tensor  # sample images (B, ...): batch size, device and dtype
    result: Tensor  # what the operation that is being converted gave on them, the first of several
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    current: str = ""  # name for the next node
    kind: str = ""  # the operation as a user writes it
    function: Callable[..., Any] | None = None  # the operation, for rules that try it on numbers

    def emit(
        self, op: str, *inputs: Ref, name: str = "", shape: tuple[int, ...] | None = None,
        tensors: dict[str, Tensor | None] | None = None, **attrs: Any,
    ) -> str:  # fmt: skip
        """Append a node, named `current` + ``name``; its shape is the result's unless given."""
        for ref in inputs:
            if isinstance(ref, Compare):
                raise Unsupported(MASK)
            if not isinstance(ref, Ref):
                raise Unsupported("its input is a constant: only the weights may be")
        kept = {}
        for role, value in (tensors or {}).items():
            if isinstance(value, Ref | Compare):
                raise Unsupported(f"its {role} depends on the images: use fixed weights")
            if value is not None:
                kept[role] = value.detach()
        name = self.current + name
        free, count = name, 2
        while free in self.nodes:  # a module that is called again
            free, count = f"{name}:{count}", count + 1
        self.nodes[free] = Node(free, op, tuple(ref.name for ref in inputs), attrs, kept)
        self.shapes[free] = tuple(self.result.shape[1:] if shape is None else shape)
        return free

    def then(self, op: str, *inputs: Ref, **options: Any) -> Ref:
        """`emit` for a step on the way: the node as a reference."""
        return Ref(self.emit(op, *inputs, **options))

    def refused(self, op: str, why: str, *inputs: Ref, **options: Any) -> Ref:
        """A node that does not convert, so an error if the output depends on it."""
        return self.then(op, *inputs, refused=why, at=self.current, kind=self.kind, **options)

    def shape(self, ref: Ref) -> tuple[int, ...]:
        """Shape of one image's value at ``ref``."""
        return self.shapes[ref.name]


def wrong_rank(shape: tuple[int, ...], dims: int) -> str:
    """What to say of a layer for images of ``dims`` dimensions of space that gets another shape."""
    axes = ", ".join(["B", "C", *("D", "H", "W")[3 - dims :]])
    seen = ", ".join(["B", *map(str, shape)])
    return (
        f"it takes a batch of shape ({axes}) and sees ({seen}): if the channel axis is missing, "
        "images.unsqueeze(1) adds it; if it is the batch dimension, images.unsqueeze(0)"
    )
