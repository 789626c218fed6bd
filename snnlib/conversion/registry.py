"""The registry of conversion: which PyTorch operation becomes what, and what is refused and why.

One table, `RULES`, drives the converter and generates the book's page *What converts*. A rule is a
short function that emits nodes of `snnlib.graph`; `snnlib.rules` holds them all, and `rule` adds
one for a module of your own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnlib.graph.operations import Node

Target = Any  # a module class, a function, the name of a Tensor method, or a name with dots


@dataclass(frozen=True)
class Rule:
    """How one PyTorch operation becomes nodes of the graph."""

    label: str
    becomes: str
    note: str
    emit: Callable[..., Any]


RULES: dict[Target, Rule] = {}
REJECTED: dict[Target, str] = {}  # known operations that do not convert → the nearest that does


class Unsupported(Exception):
    """Raised by a rule: this use of the operation does not convert; the text says what would."""


def rule(
    *targets: Target, becomes: str, note: str = "", label: str | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register ``emit(builder, *args, **kwargs) -> node name`` for some targets.

    Args:
        targets: module classes, functions, names of tensor methods (``"relu"``), or full names
            with dots (``"torchvision.transforms.transforms.Normalize"``) of what need not be
            installed. Modules registered here are not looked into.
        becomes: what it is in the spiking network, for the book's table.
        note: the conditions under which it converts.
        label: how the table names it, if the target's own name will not do.

    For a module class the first argument after the builder is the module itself. ``emit`` returns
    the name of the node it stands for, or a list of names for operations that give several.

    Example:
        >>> class Double(torch.nn.Module):
        ...     def forward(self, x):
        ...         return 2 * x
        >>> @rule(Double, becomes="scale")
        ... def _double(b, m, x):
        ...     return b.emit("affine", x, tensors={"scale": torch.tensor(2.0)})
        >>> describe(Double) in {row.operations[-1] for row in support_table()}
        True
        >>> del RULES[Double]
    """

    def register(emit: Callable[..., Any]) -> Callable[..., Any]:
        for target in targets:
            RULES[target] = Rule(label or describe(target), becomes, note, emit)
        return emit

    return register


def describe(target: Target) -> str:
    """A readable name for a trace target: ``nn.ReLU``, ``F.relu``, ``Tensor.relu``."""
    if isinstance(target, str):
        parts = target.split(".")
        return f"Tensor.{target}" if len(parts) == 1 else f"{parts[0]}.{parts[-1]}"
    name = getattr(target, "__name__", str(target))
    module = (getattr(target, "__module__", "") or "").lstrip("_")
    if isinstance(target, type):
        return f"nn.{name}" if module.startswith("torch.nn") else f"{module}.{name}"
    for public in (name, name.lstrip("_")):
        if getattr(F, public, None) is target:
            return f"F.{public}"
    return f"torch.{name}" if getattr(torch, name, None) is target else f"{module}.{name}"


def full_name(target: Target) -> str:
    """Module and name of a class or function, to find rules that are registered by name."""
    return f"{getattr(target, '__module__', '')}.{getattr(target, '__qualname__', '')}"


def find(target: Target) -> Rule | None:
    """The rule for a traced function, method or module class; None if there is none.

    A subclass without a ``forward`` of its own takes the rule of its base.
    """
    found = RULES.get(target) or RULES.get(full_name(target))
    if found is None and isinstance(target, type):
        for base in target.__mro__[1:]:
            if base in RULES and getattr(base, "forward", None) is getattr(target, "forward", None):
                return RULES[base]
    return found


def why_rejected(target: Target) -> str:
    """What is in the way of an operation without a rule, and the nearest thing that converts."""
    classes = target.__mro__ if isinstance(target, type) else (target,)
    for candidate in classes:
        if candidate in REJECTED:
            return REJECTED[candidate]
    return "no rule converts it (page What converts lists what does); snnlib.trace.rule adds one"


@dataclass(frozen=True)
class Support:
    """One row of the table of what converts.

    Attributes:
        operations: their names, as a user writes them.
        converts: whether they do.
        becomes: what they are in the spiking network; for the rest, why not and the way out.
        note: the conditions, if any.
    """

    operations: tuple[str, ...]
    converts: bool
    becomes: str
    note: str = ""


def support_table() -> list[Support]:
    """Every operation the converter knows: one row a rule, then one row a reason to refuse."""
    from snnlib.conversion.rules import weighted as rules  # noqa: F401  (fills the registry)

    rows: dict[tuple[bool, str, str], list[str]] = {}
    for found in RULES.values():
        rows.setdefault((True, found.becomes, found.note), []).append(found.label)
    for target, reason in REJECTED.items():
        rows.setdefault((False, reason, ""), []).append(describe(target))
    return [
        Support(tuple(dict.fromkeys(labels)), converts, becomes, note)
        for (converts, becomes, note), labels in rows.items()
    ]


@dataclass(frozen=True)
class Ref:
    """A value that depends on the images: the name of a graph node."""

    name: str


@dataclass
class Builder:
    """Collects nodes while the trace is walked; rules call `emit`."""

    model: nn.Module
    like: Tensor  # the sample images: device and dtype of constants
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    head: str = ""  # "softmax" or "log_softmax" where the model ends in one
    dropped: list[str] = field(default_factory=list)  # softmax operations: the last alone may go
    current: str = ""  # name for the next emitted node
    result: Any = None  # value of the traced node on the sample images

    def emit(
        self,
        op: str,
        *inputs: Ref,
        name: str | None = None,
        shape: tuple[int, ...] | None = None,
        tensors: dict[str, Tensor | None] | None = None,
        **attrs: Any,
    ) -> str:
        """Append a node; its shape is that of the traced value unless given."""
        for ref in inputs:
            if not isinstance(ref, Ref):
                raise Unsupported("its input is a constant: only the weights may be")
        name = self.unique(name or self.current)
        kept = {}
        for role, value in (tensors or {}).items():
            if isinstance(value, Ref):
                raise Unsupported(f"its {role} depends on the images: use fixed weights")
            if value is not None:
                kept[role] = value.detach()
        self.nodes[name] = Node(name, op, tuple(ref.name for ref in inputs), attrs, kept)
        self.shapes[name] = tuple(self.result.shape[1:]) if shape is None else tuple(shape)
        return name

    def unique(self, name: str) -> str:
        """``name``, or ``name:2``, ``name:3``, … for a module that is called again."""
        if name not in self.nodes:
            return name
        count = 2
        while f"{name}:{count}" in self.nodes:
            count += 1
        return f"{name}:{count}"

    def shape(self, ref: Ref) -> tuple[int, ...]:
        """Shape of one image's value at ``ref``."""
        return self.shapes[ref.name]
