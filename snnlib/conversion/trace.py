"""From a trained PyTorch model to a `Graph`: one run of the model, one rule an operation.

The model is run on a few images while `snnlib.conversion.tracer` follows it: every operation is
looked up in `RULES`, the one registry that also generates the book's page *What converts*. What
does not convert is collected, and one `ConversionError` names all of it. Nothing is skipped
silently, and the user's model is never modified. Chapter *Converting a network*.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

import snnlib.conversion.rules  # noqa: F401  (registers them all)
from snnlib.backend.copies import copied, unwrapped
from snnlib.backend.modes import own_mode
from snnlib.conversion.registry import Ref, describe, find, why_rejected
from snnlib.conversion.tracer import Failed, Stopped, Tracer, leaves
from snnlib.graph.errors import ConversionError, Problem
from snnlib.graph.fold import fold_affine, prune
from snnlib.graph.graph import Graph

_Found = tuple[str, str, str]  # name, kind, reason
_SCRIPTED = "it is TorchScript: put the nn.Module it was made from in its place"
_QUANTIZED = (
    "it holds whole-number weights already: convert the float network it was made from; "
    "net.quantize() makes whole numbers of the spiking one"
)


def trace(model: nn.Module, sample: Tensor) -> Graph:
    """Trace a trained model into a graph, with batch normalization folded.

    Args:
        model: a trained network in evaluation mode; not modified.
        sample: one image or more, shape (B, ...), to learn the shapes from. The graph is for
            images of this size.

    Raises:
        ConversionError: lists every operation that cannot be converted, by qualified name and
            type, with the nearest thing that can.
    """
    return traced(model, sample)[0]


def traced(model: nn.Module, sample: Tensor) -> tuple[Graph, torch.dtype | None]:
    """`trace`, and the dtype of an autocast in the model's ``forward``, which is left out."""
    model = unwrapped(model)
    name = type(model).__name__
    if closed := _closed(model):
        raise _refusal(name, [(path or "model", kind, why) for path, kind, why in closed])
    _check_one_input(model)
    with own_mode(sample.device):
        tracer = Tracer(copied(model).eval(), sample)
        try:
            returned = tracer.run()
        except Stopped as reason:
            raise _with_known(f"{name} cannot be traced: {reason}", model) from None
        except Failed as reason:
            shape = ", ".join(["B", *map(str, sample.shape[1:])])
            text = (
                f"{name} fails on calibration images of shape ({shape}) at {reason.name} "
                f"({reason.kind}): {reason}. Pass images of the shape that the model takes"
            )
            raise _with_known(text, model) from None
        graph = prune(fold_affine(_graph(tracer, returned, name)))
    if tracer.autocast is not None:
        graph.notes.append(f"autocast to {tracer.autocast} in forward left out")
    owned: dict[Any, Tensor] = {}

    def own(tensor: Tensor) -> Tensor:
        """A copy, since weights may be held by what could not be copied; shared ones stay so."""
        key = tensor.data_ptr(), tensor.shape, tensor.stride()
        if key not in owned:
            owned[key] = tensor.to(sample.dtype, copy=True)
        return owned[key]

    return graph.map_tensors(own), tracer.autocast


def _graph(tracer: Tracer, returned: Any, model: str) -> Graph:
    """What the output depends on, if all of it converts."""
    b, value = tracer.builder, tracer.value(returned)
    graph = Graph(b.nodes, "input", b.shapes)
    if isinstance(value, Ref) and (last := b.nodes[value.name]).op == "softmax":
        value, head = Ref(last.inputs[0]), str(last.attrs["head"])
        note = f"{last.name}: {head} dropped; the logits before it have the same order"
        graph = replace(graph, head=head, notes=[note])
    problems: dict[str, _Found] = {}
    for found in leaves(value if isinstance(value, Ref) else returned, (Tensor, Ref)):
        if isinstance(ref := tracer.value(found), Ref):
            graph = replace(graph, output=ref.name)
            for node in prune(graph):
                if reason := node.attrs.get("refused"):
                    problems[node.name] = node.attrs["at"], node.attrs["kind"], reason
    if problems:
        raise _refusal(model, list(problems.values()))
    if not isinstance(value, Ref):
        kinds = (("a constant", Tensor), ("dict", dict), ("tuple", tuple), ("list", list))
        what = next((k for k, t in kinds if isinstance(value, t)), type(value).__name__)
        raise ConversionError(
            f"{model}.forward returns {what}, not one tensor computed from the images: wrap the "
            "model in a module whose forward returns the logits only"
        )
    if not b.shapes[value.name]:
        raise ConversionError(
            f"{model}.forward returns shape (B,): return logits of shape (B, classes)"
        )
    return prune(graph)


def _check_one_input(model: nn.Module) -> None:
    name = type(model).__name__
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(model.forward).parameters.values()
    inputs = [p.name for p in parameters if p.default is p.empty and p.kind not in kinds]
    if len(inputs) > 1:
        raise ConversionError(
            f"{name}.forward takes {len(inputs)} inputs ({', '.join(inputs)}): a spiking network "
            "here has one input, the images. Write a module that takes them alone and makes the "
            "rest in __init__"
        )


def _closed(model: nn.Module) -> list[_Found]:
    """Modules that cannot be looked into."""
    found: list[_Found] = []
    for path, module in model.named_modules():
        kind = type(module)
        quantized = kind.__module__.startswith("torch") and ".quantized" in kind.__module__
        if any(not outer or path.startswith(f"{outer}.") for outer, _, _ in found):
            continue  # a part of one that was found
        if isinstance(module, torch.jit.ScriptModule):
            found.append((path, "torch.jit.ScriptModule", _SCRIPTED))
        elif quantized:
            found.append((path, describe(kind), _QUANTIZED))
    return found


def _with_known(text: str, model: nn.Module) -> ConversionError:
    """The error, with the modules that would not convert either, where we got stuck before them."""
    problems = [
        (path, describe(type(module)), reason)
        for path, module in model.named_modules()
        if find(type(module)) is None and (reason := why_rejected(type(module))) is not None
    ]
    if not problems:
        return ConversionError(text)
    more = _refusal(type(model).__name__, problems)
    return ConversionError(f"{text}\n{more}", more.problems)


def _refusal(model: str, found: Sequence[_Found]) -> ConversionError:
    """One error for all operations in the way, grouped by operation and reason."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for name, kind, reason in found:
        grouped.setdefault((kind, reason), []).append(name)
    problems = [Problem(tuple(n), kind, reason) for (kind, reason), n in grouped.items()]
    count = "1 operation" if len(found) == 1 else f"{len(found)} operations"
    lines = [f"{model} cannot be converted, {count} in the way:", *(f"  {p}" for p in problems)]
    return ConversionError("\n".join(lines), problems)
