"""From a trained PyTorch model to a `Graph`: symbolic trace, one rule an operation.

The model is traced with `torch.fx` and run once on a few images for the shapes. Every operation of
the trace is looked up in `RULES`, the one registry that also generates the book's page *What
converts*; what has no rule is collected, and one `ConversionError` names all of it. Nothing is
skipped silently, and the user's model is never modified.

Chapter: *Converting a network*.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from snnlib.graph import ConversionError, Graph, Node

Target = Any  # a module class, a function, or the name of a Tensor method


@dataclass(frozen=True)
class Rule:
    """How one PyTorch operation becomes nodes of the graph."""

    label: str
    becomes: str
    emit: Callable[..., str]


RULES: dict[Target, Rule] = {}
REJECTED: dict[Target, str] = {}  # known operations that do not convert → the nearest that does


class Unsupported(Exception):
    """Raised by a rule: this use of the operation does not convert; the text says what would."""


def rule(*targets: Target, becomes: str, label: str | None = None) -> Callable[..., Any]:
    """Register ``emit(builder, fx_node, *args, **kwargs) -> node name`` for some targets.

    For a module class the first argument is the module itself, then the call's arguments.
    """

    def register(emit: Callable[..., str]) -> Callable[..., str]:
        for target in targets:
            RULES[target] = Rule(label or describe(target), becomes, emit)
        return emit

    return register


def describe(target: Target) -> str:
    """A readable name for a trace target: ``nn.ReLU``, ``F.relu``, ``Tensor.relu``."""
    if isinstance(target, str):
        return f"Tensor.{target}"
    name = getattr(target, "__name__", str(target))
    module = getattr(target, "__module__", "") or ""
    if isinstance(target, type):
        return f"nn.{name}" if module.startswith("torch.nn") else f"{module}.{name}"
    if module == "torch.nn.functional":
        return f"F.{name}"
    return f"{module.lstrip('_')}.{name}" if module.lstrip("_") == "operator" else f"torch.{name}"


@dataclass(frozen=True)
class Ref:
    """A value that depends on the images: the name of a graph node."""

    name: str


@dataclass
class Builder:
    """Collects nodes while the trace is walked."""

    model: nn.Module
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    final: dict[str, str] = field(default_factory=dict)  # must be last → else what is wrong
    head: str = ""  # "softmax" or "log_softmax" where the model ends in one
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
        name = self.unique(name or self.current)
        kept = {k: v.detach().clone() for k, v in (tensors or {}).items() if v is not None}
        self.nodes[name] = Node(name, op, tuple(ref.name for ref in inputs), attrs, kept)
        self.shapes[name] = tuple(self.result.shape[1:]) if shape is None else shape
        return name

    def unique(self, name: str) -> str:
        if name not in self.nodes:
            return name
        count = 2
        while f"{name}:{count}" in self.nodes:
            count += 1
        return f"{name}:{count}"

    def shape(self, ref: Ref) -> tuple[int, ...]:
        """Shape of one image's value at ``ref``."""
        return self.shapes[ref.name]


def trace(model: nn.Module, sample: Tensor) -> Graph:
    """Trace a trained model into a graph, with batch normalisation folded.

    Args:
        model: a trained network; not modified. Traced in evaluation mode.
        sample: a few images (B ≥ 1), shape (B, ...), to learn the shapes from.

    Raises:
        ConversionError: lists every operation that cannot be converted, by qualified name and
            type, with the nearest thing that can.
    """
    from snnlib import rules  # noqa: F401  (fills RULES)

    model = copy.deepcopy(model).eval()
    traced = _symbolic_trace(model)
    builder, problems = Builder(model), []
    env: dict[fx.Node, Any] = {}
    replaced: dict[fx.Node, fx.Node] = {}  # overwritten in place → by what
    output = ""
    ended: list[fx.Node] = []
    for node, result in _walk(traced, sample):
        if node.op == "placeholder":
            env[node] = Ref(builder.emit("input", name="input", shape=tuple(sample.shape[1:])))
            continue
        if node.op == "output":
            for last, (name, reason) in zip(ended, list(builder.final.items()), strict=True):
                if last is not node.args[0]:
                    problems.append((name, "softmax", reason))
            returned = fx.map_arg(node.args[0], lambda n: env.get(replaced.get(n, n), n))
            if isinstance(returned, Ref):
                output = returned.name
            elif not problems:
                raise ConversionError(
                    f"{type(model).__name__}.forward returns {type(result).__name__}, not one "
                    "tensor: wrap the model so that forward returns the logits only"
                )
            continue
        args = fx.map_arg(node.args, lambda n: env[replaced.get(n, n)])
        kwargs = fx.map_arg(node.kwargs, lambda n: env[replaced.get(n, n)])
        if not any(isinstance(a, Ref) for a in _flat((args, kwargs))) or not _is_tensor(result):
            env[node] = result
            continue
        builder.result = result
        builder.current = str(node.target) if node.op == "call_module" else node.name
        module = traced.get_submodule(str(node.target)) if node.op == "call_module" else None
        try:
            env[node] = Ref(_convert(builder, node, module, args, kwargs))
            if len(builder.final) > len(ended):
                ended.append(node)
            if _in_place(node, module):
                replaced[node.all_input_nodes[0]] = node
        except Unsupported as reason:
            problems.append((builder.current, _kind_of(node, module), str(reason)))
            env[node] = Ref(builder.emit("reshape", *_refs(args, kwargs)[:1], to=[]))
    if problems:
        raise ConversionError(_report(type(model).__name__, problems))
    graph = Graph(builder.nodes, output, builder.shapes, builder.notes, builder.head)
    return prune(fold_affine(graph))


def _symbolic_trace(model: nn.Module) -> fx.GraphModule:
    inputs = [p for p in _forward_parameters(model) if p.default is p.empty]
    if len(inputs) != 1:
        names = ", ".join(p.name for p in inputs) or "none"
        raise ConversionError(
            f"{type(model).__name__}.forward takes {len(inputs)} inputs ({names}): a spiking "
            "network here has one input, the images. Write a wrapper that takes them alone"
        )
    tracer = fx.Tracer()
    optional = {p.name: p.default for p in _forward_parameters(model) if p.default is not p.empty}
    try:
        graph = tracer.trace(model, concrete_args=optional or None)
        return fx.GraphModule(tracer.root, graph)
    except Exception as error:
        raise ConversionError(
            f"{type(model).__name__} cannot be traced by torch.fx: {error}. Control flow in "
            "forward that depends on the images (if, for, assert on tensors) has to become "
            "tensor operations, or be decided in __init__"
        ) from error


def _forward_parameters(model: nn.Module) -> list[Any]:
    import inspect

    parameters = inspect.signature(model.forward).parameters.values()
    return [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def _walk(traced: fx.GraphModule, sample: Tensor) -> Iterator[tuple[fx.Node, Any]]:
    """Run the traced model on the sample, giving every node with its value."""
    interpreter = fx.Interpreter(traced)
    interpreter.args_iter = iter([sample])
    with torch.no_grad():
        for node in traced.graph.nodes:
            if node.op == "placeholder":
                value = sample if not interpreter.env else node.args[0] if node.args else None
            else:
                try:
                    value = interpreter.run_node(node)
                except Exception as error:
                    raise ConversionError(
                        f"the model fails on images of shape {tuple(sample.shape)} at "
                        f"{node.target} ({node.op}): {error}. Pass calibration images of the "
                        "shape, dtype and device that the model takes"
                    ) from error
            interpreter.env[node] = value
            yield node, value


def _convert(
    builder: Builder, node: fx.Node, module: nn.Module | None, args: Any, kwargs: Any
) -> str:
    target: Target = node.target if module is None else type(module)
    found = RULES.get(target)
    if found is None and module is not None:
        for base in type(module).__mro__:
            if base in RULES and _same_forward(type(module), base):
                found = RULES[base]
                break
    if found is None:
        hint = REJECTED.get(target, "no rule converts it; see the table of what converts")
        raise Unsupported(hint)
    extra = () if module is None else (module,)
    return found.emit(builder, *extra, *args, **kwargs)


def _same_forward(cls: type, base: type) -> bool:
    return getattr(cls, "forward", None) is getattr(base, "forward", None)


def _in_place(node: fx.Node, module: nn.Module | None) -> bool:
    if module is not None:
        return bool(getattr(module, "inplace", False))
    if node.op == "call_method":
        return str(node.target).endswith("_")
    name = getattr(node.target, "__name__", "")
    operator = getattr(node.target, "__module__", "") == "_operator"
    return (
        bool(node.kwargs.get("inplace"))
        or (name.endswith("_") and not name.endswith("__") and not operator)
        or (operator and name in ("iadd", "isub", "imul", "itruediv"))
    )


def _kind_of(node: fx.Node, module: nn.Module | None) -> str:
    if module is not None:
        return describe(type(module))
    return describe(node.target)


def _report(model: str, problems: list[tuple[str, str, str]]) -> str:
    lines = [f"  {name} ({kind}): {reason}" for name, kind, reason in problems]
    count = "1 operation" if len(lines) == 1 else f"{len(lines)} operations"
    return "\n".join([f"{model} cannot be converted, {count} in the way:", *lines])


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple | list):
        for item in value:
            yield from _flat(item)
    elif isinstance(value, dict):
        yield from _flat(list(value.values()))
    elif isinstance(value, slice):
        yield from (value.start, value.stop, value.step)
    else:
        yield value


def _refs(args: Any, kwargs: Any) -> list[Ref]:
    return [value for value in _flat((args, kwargs)) if isinstance(value, Ref)]


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def fold_affine(graph: Graph) -> Graph:
    """Fold every per-channel affine (batch norm) into the weighted layer right before it.

    Exact: W' = s·W, b' = s·b + shift per output channel, computed in float64. Where the layer
    before is read by others too, or is not weighted, the affine stays and runs every step, its
    offset a bias current, so borders of padded convolutions stay right.
    """
    nodes = dict(graph.nodes)
    renamed: dict[str, str] = {}
    for node in list(graph.nodes.values()):
        if node.op != "affine":
            continue
        source = nodes[renamed.get(node.inputs[0], node.inputs[0])]
        alone = len(graph.users(node.inputs[0])) == 1 and graph.output != node.inputs[0]
        shape = graph.shapes[node.name]
        channels = None if source.op == "linear" and len(shape) > 1 else _per_channel(node, shape)
        if source.kind != "weighted" or not alone or channels is None:
            continue
        nodes[source.name] = _scaled(source, *channels)
        renamed[node.name] = source.name
        del nodes[node.name]
    for name, node in nodes.items():
        inputs = tuple(renamed.get(i, i) for i in node.inputs)
        nodes[name] = replace(node, inputs=inputs)
    notes = [*graph.notes, *(f"{name} folded into {into}" for name, into in renamed.items())]
    output = renamed.get(graph.output, graph.output)
    return replace(graph, nodes=nodes, output=output, notes=notes)


def _per_channel(node: Node, shape: tuple[int, ...]) -> tuple[Tensor, Tensor] | None:
    """Scale and shift of an affine node as vectors of one entry a channel, if they are that."""
    vectors = []
    for key, neutral in (("scale", 1.0), ("shift", 0.0)):
        value = node.tensors.get(key)
        if value is None:
            value = torch.tensor(neutral)
        with contextlib.suppress(RuntimeError):
            full = value.expand(shape)
            flat = full.reshape(shape[0], -1)
            if bool((flat == flat[:, :1]).all()):
                vectors.append(flat[:, 0].double())
    return (vectors[0], vectors[1]) if len(vectors) == 2 else None


def _scaled(node: Node, scale: Tensor, shift: Tensor) -> Node:
    weight, bias = node.tensors["weight"], node.tensors.get("bias")
    scale, shift = scale.to(weight.device), shift.to(weight.device)
    wide = weight.double()
    if node.op == "conv_transpose":  # weight (in, out / groups, ...)
        groups = node.attrs["groups"]
        per_group = scale.reshape(groups, 1, -1, *[1] * (weight.dim() - 2))
        wide = (wide.reshape(groups, -1, *weight.shape[1:]) * per_group).reshape(weight.shape)
    else:
        wide = wide * scale.reshape(-1, *[1] * (weight.dim() - 1))
    offset = shift if bias is None else shift + scale * bias.double()
    tensors = {"weight": wide.to(weight.dtype), "bias": offset.to(weight.dtype)}
    return replace(node, tensors=tensors)


def prune(graph: Graph) -> Graph:
    """Drop the nodes that the output does not depend on."""
    needed, todo = {"input"}, [graph.output]
    while todo:
        name = todo.pop()
        if name not in needed:
            needed.add(name)
            todo.extend(graph.nodes[name].inputs)
    nodes = {name: node for name, node in graph.nodes.items() if name in needed}
    shapes = {name: graph.shapes[name] for name in nodes}
    return replace(graph, nodes=nodes, shapes=shapes)
