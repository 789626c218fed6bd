"""From a trained PyTorch model to a `Graph`: symbolic trace, one rule an operation.

The model is traced with `torch.fx` and run once on a few images for the shapes. Every operation of
the trace is looked up in `RULES`, the one registry that also generates the book's page *What
converts*; what has no rule is collected, and one `ConversionError` names all of it. Nothing is
skipped silently, and the user's model is never modified.

Chapter: *Converting a network*.
"""

from __future__ import annotations

import copy
import inspect
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from snnlib.conversion.registry import REJECTED as REJECTED
from snnlib.conversion.registry import RULES as RULES
from snnlib.conversion.registry import Builder, Ref, Unsupported, find, why_rejected
from snnlib.conversion.registry import describe as describe
from snnlib.conversion.registry import rule as rule
from snnlib.conversion.registry import support_table as support_table
from snnlib.graph.errors import ConversionError
from snnlib.graph.fold import fold_affine, prune
from snnlib.graph.graph import Graph

_BATCH = 3  # images in the trace: a number no layer size is likely to be
_SHAPE_QUERIES = {"size", "dim", "ndimension", "numel", "nelement", "is_floating_point", "stride"}


def trace(model: nn.Module, sample: Tensor) -> Graph:
    """Trace a trained model into a graph, with batch normalisation folded.

    Args:
        model: a trained network; not modified. Traced in evaluation mode.
        sample: one image or more, shape (B, ...), to learn the shapes from. The graph is for
            images of this size.

    Raises:
        ConversionError: lists every operation that cannot be converted, by qualified name and
            type, with the nearest thing that can.
    """
    from snnlib.conversion.rules import weighted as rules  # noqa: F401  (fills RULES)

    _check_one_input(model)
    sample = torch.cat([sample] * _BATCH)[:_BATCH]
    root = _Root(copy.deepcopy(model).eval())
    walk = _Walk(root, _symbolic_trace(root), sample)
    output = walk.run()
    builder = walk.builder
    graph = Graph(builder.nodes, output, builder.shapes, builder.notes, builder.head)
    graph = prune(fold_affine(graph))
    return graph.map_tensors(lambda t: t.to(sample.dtype) if t.is_floating_point() else t)


class _Root(nn.Module):
    """Calls the user's model with the images alone, so that optional inputs keep their defaults."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Any:
        return self.model(x)


class _Tracer(fx.Tracer):
    """Does not look into modules that have a rule of their own."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return find(type(m)) is not None or super().is_leaf_module(m, module_qualified_name)


def _check_one_input(model: nn.Module) -> None:
    name = type(model).__name__
    if isinstance(model, torch.jit.ScriptModule):
        raise ConversionError(f"{name} is TorchScript: pass the nn.Module it was made from")
    if hasattr(model, "_orig_mod"):
        raise ConversionError(f"{name} is compiled: pass the module given to torch.compile")
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise ConversionError(f"the model is wrapped in {name}: pass model.module")
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(model.forward).parameters.values()
    inputs = [p.name for p in parameters if p.default is p.empty and p.kind not in kinds]
    if len(inputs) > 1:
        raise ConversionError(
            f"{name}.forward takes {len(inputs)} inputs ({', '.join(inputs)}): a spiking network "
            "here has one input, the images. Write a module that takes them alone and makes the "
            "rest in __init__"
        )


def _symbolic_trace(root: _Root) -> fx.GraphModule:
    tracer = _Tracer()
    try:
        return fx.GraphModule(root, tracer.trace(root))
    except Exception as error:
        name = type(root.model).__name__
        lines = [
            f"{name} cannot be traced by torch.fx: {_first_line(error)}{_where(error)}. Control "
            "flow in forward that depends on the images (if, for, assert, len, int on tensors), "
            "or an assignment into a part of one, has to become tensor operations, or be decided "
            "in __init__"
        ]
        raise ConversionError("\n".join([*lines, *_known_problems(root.model)])) from None


def _known_problems(model: nn.Module) -> list[str]:
    """Lines on the modules that would not convert either, where the trace got stuck before them."""
    problems = [
        (path, describe(type(module)), why_rejected(type(module)))
        for path, module in model.named_modules()
        if find(type(module)) is None and any(c in REJECTED for c in type(module).__mro__)
    ]
    return _report(type(model).__name__, problems).splitlines() if problems else []


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _where(error: Exception) -> str:
    """The line of the user's code that the error came through."""
    ours = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith((*ours, "<")):
            return f" ({Path(frame.filename).name}, line {frame.lineno}: {frame.line})"
    return ""


class _Walk:
    """Runs the traced model on the sample, node by node, and converts every node on the way."""

    def __init__(self, root: _Root, traced: fx.GraphModule, sample: Tensor) -> None:
        self.model, self.traced, self.sample = root.model, traced, sample
        self.builder = Builder(root.model, sample)
        self.values: dict[fx.Node, Any] = {}
        self.replaced: dict[fx.Node, fx.Node] = {}  # overwritten in place → by what
        self.problems: list[tuple[str, str, str]] = []
        self.heads: list[fx.Node] = []  # where a softmax was dropped

    def run(self) -> str:
        """Convert everything; returns the name of the output node."""
        output = ""
        for node, result, overwritten in self._execute():
            self.builder.result = result
            if node.op == "placeholder":
                self.values[node] = Ref(self.builder.emit("input", name="input"))
            elif node.op == "output":
                output = self._output(node, result)
            else:
                self._node(node, result)
                for old in overwritten:
                    self.replaced[self._latest(old)] = node
        if self.problems:
            raise ConversionError(_report(type(self.model).__name__, self.problems))
        return output

    def _execute(self) -> Iterator[tuple[fx.Node, Any, list[fx.Node]]]:
        """Every node with its value on the sample, and the nodes whose values it overwrote."""
        interpreter = fx.Interpreter(self.traced)
        with torch.inference_mode(False), torch.no_grad():
            for node in self.traced.graph.nodes:
                versions = {n: _version(interpreter.env[n]) for n in node.all_input_nodes}
                try:
                    is_input = node.op == "placeholder"
                    value = self.sample.clone() if is_input else interpreter.run_node(node)
                except Exception as error:
                    line = (
                        f"{type(self.model).__name__} fails on calibration images of shape "
                        f"(B, {str(tuple(self.sample.shape[1:]))[1:-1]}) at {self._name(node)} "
                        f"({self._kind(node)}): {_first_line(error)}. Pass images of the shape "
                        "that the model takes"
                    )
                    lines = [line, *_known_problems(self.model)]
                    raise ConversionError("\n".join(lines)) from None
                interpreter.env[node] = value
                changed = [n for n, v in versions.items() if _version(interpreter.env[n]) != v]
                yield node, value, changed

    def _node(self, node: fx.Node, result: Any) -> None:
        args: Any = fx.map_arg(node.args, self._value)
        kwargs = fx.map_arg(node.kwargs, self._value)
        refs = [value for value in _flat((args, kwargs)) if isinstance(value, Ref)]
        if not refs:
            self.values[node] = result
            return
        if _picks(node, args):
            self.values[node] = args[0][args[1]]
            return
        if _asks_for_shape(node, result):
            self.values[node] = result
            return
        self.builder.current = self._name(node)
        dropped = len(self.builder.dropped)
        try:
            self.values[node] = self._convert(node, args, kwargs, result)
        except Unsupported as reason:
            self.problems.append((self.builder.current, self._kind(node), str(reason)))
            self.values[node] = self._stand_in(result, refs[0])
        if len(self.builder.dropped) > dropped:
            self.heads.append(node)

    def _convert(self, node: fx.Node, args: Any, kwargs: Any, result: Any) -> Any:
        module = self._module(node)
        target = node.target if module is None else type(module)
        found = find(target)
        if found is None:
            raise Unsupported(why_rejected(target))
        before = () if module is None else (module,)
        try:
            inspect.signature(found.emit).bind(self.builder, *before, *args, **kwargs)
        except TypeError as error:
            raise Unsupported(f"called in a way that does not convert ({error})") from None
        try:
            made = found.emit(self.builder, *before, *args, **kwargs)
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise Unsupported(f"used in a way its rule does not know ({error})") from None
        tensors = [value for value in _flat(result) if isinstance(value, Tensor)]
        if any(value.dim() == 0 or len(value) != _BATCH for value in tensors):
            raise Unsupported("its result mixes or drops the batch dimension: keep it first")
        return [Ref(name) for name in made] if isinstance(made, list) else Ref(made)

    def _output(self, node: fx.Node, result: Any) -> str:
        returned = fx.map_arg(node.args[0], self._value)
        last = self._latest(node.args[0]) if isinstance(node.args[0], fx.Node) else None
        for name, head in zip(self.builder.dropped, self.heads, strict=True):
            if head is not last:
                self.problems.append((name, self._kind(head), "only a last softmax can be dropped"))
        if self.problems:
            return ""
        model = type(self.model).__name__
        if not isinstance(returned, Ref):
            kinds = (("a constant", Tensor), ("dict", dict), ("tuple", tuple), ("list", list))
            what = next((k for k, t in kinds if isinstance(result, t)), type(result).__name__)
            raise ConversionError(
                f"{model}.forward returns {what}, not one tensor computed from the images: wrap "
                "the model in a module whose forward returns the logits only"
            )
        if result.dim() < 2:
            raise ConversionError(
                f"{model}.forward returns shape (B,): return logits of shape (B, classes)"
            )
        return returned.name

    def _value(self, node: fx.Node) -> Any:
        return self.values[self._latest(node)]

    def _latest(self, node: fx.Node) -> fx.Node:
        while node in self.replaced:
            node = self.replaced[node]
        return node

    def _stand_in(self, result: Any, ref: Ref) -> Any:
        """Something to go on with after an operation that does not convert."""
        if isinstance(result, Tensor):
            return Ref(self.builder.emit("reshape", ref, shape=tuple(result.shape[1:]), to=[]))
        if isinstance(result, tuple | list):
            return [self._stand_in(value, ref) for value in result]
        return result

    def _module(self, node: fx.Node) -> nn.Module | None:
        return self.traced.get_submodule(str(node.target)) if node.op == "call_module" else None

    def _kind(self, node: fx.Node) -> str:
        module = self._module(node)
        return describe(node.target if module is None else type(module))

    def _name(self, node: fx.Node) -> str:
        """Qualified name: of the module, or of the module that calls a function and the function.

        The first part is dropped: it is `_Root.model`.
        """
        if node.op == "call_module":
            path = str(node.target)
            return path.partition(".")[2] or self._kind(node).rpartition(".")[2].lower()
        stack = node.meta.get("nn_module_stack") or {}
        path = [str(entry[0]) for entry in stack.values()][-1] if stack else ""
        function = describe(node.target).rpartition(".")[2].strip("_")
        inside = path.partition(".")[2]
        return f"{inside}.{function}" if inside else function


def _picks(node: fx.Node, args: Any) -> bool:
    """Whether the node is ``parts[i]`` of an operation that gave several values."""
    return getattr(node.target, "__name__", "") == "getitem" and isinstance(args[0], list | tuple)


def _asks_for_shape(node: fx.Node, result: Any) -> bool:
    """Whether the node reads only the shape or type of an activation."""
    if any(isinstance(value, Tensor) for value in _flat(result)):
        return False
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return name in _SHAPE_QUERIES or name == "getattr"


def _version(value: Any) -> int:
    """How often a tensor was written to: grows with every operation in place."""
    return value._version if isinstance(value, Tensor) else 0


def _report(model: str, problems: list[tuple[str, str, str]]) -> str:
    grouped: dict[tuple[str, str], list[str]] = {}
    for name, kind, reason in problems:
        grouped.setdefault((kind, reason), []).append(name)
    lines = [f"  {', '.join(n)} ({kind}): {reason}" for (kind, reason), n in grouped.items()]
    count = "1 operation" if len(problems) == 1 else f"{len(problems)} operations"
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
