"""One run of a model on real images, every operation turned into nodes as it happens.

While the model runs, each PyTorch function that touches a value computed from the images is looked
up in `RULES`. Python sees true shapes, so loops and choices that depend on shapes alone just run;
what asks for the numbers in the images stops the run, with the line that asked. What does not
convert becomes a node that says why, which matters only if the output depends on it. Nothing is
patched globally: models can be traced in threads. Chapter *Converting a network*.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from snnlib.conversion import registry
from snnlib.conversion.blame import in_assertion, told
from snnlib.conversion.registry import Builder, Compare, Ref, Rule, Unsupported, wrong_rank

_BATCH = 11  # images in the run: a number no layer size is likely to be
_MARK = "_snnlib_value"  # attribute of tensors computed from the images
# What may be asked of an activation, since the answer does not depend on its numbers …
_ASKED = {
    "size", "dim", "ndimension", "numel", "nelement", "stride", "storage_offset", "element_size",
    "get_device", "type", "__len__", "__repr__", "__format__", "__hash__", "is_contiguous",
    "is_floating_point", "is_complex", "is_signed", "is_inference", "is_same_size", "result_type",
}  # fmt: skip
# … and what makes a constant of its shape.
_CONSTANTS = {
    "zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like",
    "randint_like", "new_zeros", "new_ones", "new_full", "new_empty", "new_tensor",
}  # fmt: skip
_ALIASES = {"axis": "dim", "keepdims": "keepdim"}  # NumPy's names, which PyTorch takes as well
# What a rule raises that is handed something it does not know.
_MISUSED = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
_ADVICE = (
    "Control flow in forward that depends on the images (if, for, assert, int on tensors) has to "
    "become tensor operations, or be decided in __init__"
)
_UNKNOWN = (
    "no rule converts it (page What converts lists what does); snnlib.conversion.registry.rule "
    "adds one"
)


class Stopped(Exception):
    """The model cannot be followed."""


class Failed(Exception):
    """The model fails on the images, in an operation of that name and kind."""

    def __init__(self, reason: str, name: str, kind: str) -> None:
        super().__init__(reason)
        self.name, self.kind = name, kind


class Tracer(TorchFunctionMode):
    """Runs a model once.

    Args:
        model: loses its own ``forward`` methods: hand over a copy.
        sample: one image or more, shape (B, ...).

    Attributes:
        builder: the nodes; of what does not convert, they hold why as attribute ``refused``.
        autocast: the narrow dtype that ``forward`` asks for itself, which is left out.
    """

    def __init__(self, model: nn.Module, sample: Tensor) -> None:
        super().__init__()
        # One that differs everywhere: what depends on equal pixels would look constant.
        noise = torch.rand(sample[:1].shape, generator=torch.Generator().manual_seed(0))
        sample = torch.cat([sample, 0.5 * sample[:1] + 0.1 + 0.4 * noise.to(sample)])
        self.model, self.sample = model, torch.cat([sample] * _BATCH)[:_BATCH]
        self.builder = Builder(self.sample, self.sample)
        self.autocast: torch.dtype | None = None
        self.running: list[tuple[str, nn.Module]] = []  # the modules, outermost first
        self.inside = False  # an operation that counts as one
        self.failed: tuple[Exception | None, str, str] = (None, "", "")
        self.hidden = ""
        for path, module in model.named_modules():
            module.forward = partial(self._run, path, module, module.forward)

    def run(self) -> Any:
        """What ``forward`` returns; `value` tells what became of it.

        Raises:
            Stopped, Failed: see there.
        """
        images = self.sample.clone()
        self.builder.current = "input"
        self._mark(images, self.builder.then("input"))
        try:
            with _Watch(self), self:
                returned = self.model(images)
        except Failed:
            raise
        except Exception as error:
            failed, *place = self.failed
            text = told(error, _BATCH)
            if failed is error and not isinstance(error, Stopped):
                raise Failed(text, *place) from None
            raise Stopped(f"{text}. {_ADVICE}") from None
        if isinstance(self.failed[0], Stopped):
            caught = "also where the model catches the error"
            raise Stopped(f"{told(self.failed[0], _BATCH)}. {_ADVICE}, {caught}")
        if self.hidden:
            raise Stopped(
                f"{self.hidden} computes on the images out of sight, as TorchScript does: call the "
                "Python function that it was made from"
            )
        return returned

    def value(self, tensor: Any) -> Any:
        """The Ref or Compare of a tensor computed from the images; anything else as it is."""
        marked = getattr(tensor, _MARK, None) if isinstance(tensor, Tensor) else None
        return marked[1] if marked and marked[0] is self else tensor

    def touches(self, values: Any) -> bool:
        """Whether a tensor computed from the images is among some values."""
        return any(self.value(tensor) is not tensor for tensor in leaves(values, Tensor))

    def _mark(self, tensor: Tensor, value: Any) -> None:
        setattr(tensor, _MARK, (self, value))

    def _run(self, path: str, module: nn.Module, forward: Any, *args: Any, **kwargs: Any) -> Any:
        """Stands in for ``module.forward``: knows where we are, and what converts as a whole."""
        kind = type(module)
        found = registry.find(kind)
        whole = found.whole if found is not None else registry.why_rejected(kind) is not None
        self.running.append((path, module))
        try:
            if whole and not self.inside and self.touches((args, kwargs)):
                return self._call(kind, forward, args, kwargs, (module,))
            return forward(*args, **kwargs)
        except Exception as error:
            self._blame(error, path or "forward", registry.describe(kind))
            raise
        finally:
            self.running.pop()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.inside or not self.touches((args, kwargs)):
            return func(*args, **kwargs)
        return self._call(_target(func), func, args, kwargs)

    def _call(
        self, target: Any, function: Any, args: Any, kwargs: Any, before: tuple[Any, ...] = ()
    ) -> Any:
        """Call a function, and give what it made its place in the graph."""
        b, found = self.builder, registry.find(target)
        b.current, b.kind = self._place(target, found)
        b.function, self.inside = function, True
        try:
            held, named = mapped((args, kwargs), self.value)
            if _name(function).endswith("_") and isinstance(held[0], Tensor):
                held = (held[0].clone(), *held[1:])  # a constant before it is written into
            tensors = leaves((args, kwargs), Tensor)
            versions = [_version(tensor) for tensor in tensors]
            # Views share a counter of writings: an activation that stays as it was is not written.
            others = tensors[1:] if _name(function).endswith("_") else []
            kept = {id(t): t.clone() for t in others if self.touches(t)}
            result = self._computed(function, args, kwargs)
            made = direct = leaves(result, Tensor)
            written = [t for t, v in zip(tensors, versions, strict=True) if _version(t) != v]
            written = [t for t in written if id(t) not in kept or not t.equal(kept[id(t)])]
            made = made + [t for t in written if not any(t is other for other in made)]
            if not made:
                _check_answer(function, result)
            elif _name(function) not in _CONSTANTS or self.touches((args[1:], kwargs)):
                b.result = (direct or made)[0]
                values = self._converted(target, found, (*before, *held), named, made)
                for tensor, value in zip(made, values, strict=True):
                    self._mark(tensor, value)
            return result
        except Exception as error:
            self._blame(error, b.current, b.kind)
            raise
        finally:
            self.inside = False

    def _computed(self, function: Any, args: Any, kwargs: Any) -> Any:
        """What the function gives, without autocast."""
        if _name(function).startswith("conv") and len(args) > 1 and isinstance(args[1], Tensor):
            dims = args[1].dim() - 2
            if args[0].dim() != dims + 2:  # PyTorch would take (B, H, W) for (C, H, W)
                shape = tuple(args[0].shape[1:])
                raise Failed(wrong_rank(shape, dims), self.builder.current, self.builder.kind)
        device = self.sample.device.type
        if device in ("cpu", "cuda") and torch.is_autocast_enabled(device):
            self.autocast = torch.get_autocast_dtype(device)
            with torch.autocast(device, enabled=False):
                return function(*args, **kwargs)
        return function(*args, **kwargs)

    def _converted(
        self, target: Any, rule: Rule | None, args: Any, kwargs: Any, made: list[Tensor]
    ) -> list[Any]:
        """What becomes of every tensor that a call made: Ref or Compare."""
        reason = Unsupported("it writes into a tensor that is not its result")
        try:
            if rule is None:
                raise Unsupported(registry.why_rejected(target) or _UNKNOWN)
            with torch._C._DisableTorchDispatch():  # `_Watch` need not look at rules
                found = _ruled(self.builder, rule, args, kwargs)
        except Unsupported as error:
            found, reason = [], error
        found += [reason] * len(made)
        refs = [getattr(value, "x", value) for value in leaves((args, kwargs), (Ref, Compare))]
        return [self._checked(new, tensor, refs) for new, tensor in zip(found, made, strict=False)]

    def _checked(self, new: Any, tensor: Tensor, refs: list[Ref]) -> Any:
        """What a tensor became, or a node that says why it cannot."""
        like, why = self.sample, str(new) if isinstance(new, Unsupported) else ""
        if isinstance(new, str | Ref):
            if tensor.dim() == 0 or len(tensor) != len(like):
                why = "its result mixes or drops the batch dimension: keep it first"
            elif tensor.dtype != like.dtype or tensor.device != like.device:
                why = (
                    f"it turns {like.dtype} on {like.device} into {tensor.dtype} on "
                    f"{tensor.device}: keep one dtype and device in the whole network"
                )
        if why:  # something to go on with
            return self.builder.refused("refused", why, *refs, shape=tuple(tensor.shape[1:]))
        return Ref(new) if isinstance(new, str) else new

    def _place(self, target: Any, found: Rule | None) -> tuple[str, str]:
        """Name and kind of an operation: those of the module that consists of it, if there is."""
        path, module = self._now()
        for kind in type(module).__mro__:
            rule = registry.RULES.get(kind)
            if target is kind or (found and rule and rule.emit is found.emit):
                return path or kind.__name__.lower(), registry.describe(kind)
        label = registry.describe(target)
        function = label.rpartition(".")[2].strip("_")
        return f"{path}.{function}" if path else function, label

    def _now(self) -> tuple[str, nn.Module]:
        """The module that is running, by path; hooks of the model itself run in none."""
        return self.running[-1] if self.running else ("", self.model)

    def _blame(self, error: Exception, name: str, kind: str) -> None:
        if self.failed[0] is not error and not isinstance(self.failed[0], Stopped):
            self.failed = error, name, kind


class _Watch(TorchDispatchMode):
    """Notices operations on activations that `Tracer` does not get to see."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        tracer, kwargs = self.tracer, kwargs or {}
        inside = tracer.inside
        if not inside and not tracer.hidden and tracer.touches((args, kwargs)):
            path, module = tracer._now()
            tracer.hidden = f"{path or 'forward'} ({registry.describe(type(module))})"
        tracer.inside = True
        try:
            return func(*args, **kwargs)
        finally:
            tracer.inside = inside


def _ruled(b: Builder, rule: Rule, args: Any, kwargs: Any) -> list[Any]:
    """What the rule makes of a call: node names, Compare, or Unsupported for single results."""
    kwargs = {_ALIASES.get(key, key): value for key, value in kwargs.items()}
    try:
        inspect.signature(rule.emit).bind(b, *args, **kwargs)
    except TypeError as error:
        raise Unsupported(f"called in a way that does not convert ({error})") from None
    try:
        made = rule.emit(b, *args, **kwargs)
    except _MISUSED as error:
        raise Unsupported(f"used in a way its rule does not know ({error})") from None
    return made if isinstance(made, list) else [made]


def _check_answer(function: Any, result: Any) -> None:
    """Python gets something that is no tensor: fine if other images would give the same."""
    if result is None or _name(function) in _ASKED or _is_property(function):
        return
    if not in_assertion():  # which stops the model by itself, or holds
        raise Stopped(f"its forward asks for numbers computed from the images ({_name(function)})")


def _target(function: Any) -> Any:
    """What the rule of a function is registered for."""
    of_tensor = getattr(function, "__qualname__", "").startswith(("Tensor.", "TensorBase."))
    return _name(function) if of_tensor or _is_property(function) else function


def _is_property(function: Any) -> bool:
    """Whether it reads ``Tensor.shape`` or the like."""
    return getattr(function, "__name__", "") == "__get__"


def _name(function: Any) -> str:
    if not _is_property(function):
        return str(getattr(function, "__name__", ""))
    attribute = function.__self__
    return str(getattr(attribute, "__name__", None) or attribute.fget.__name__)


def _version(tensor: Tensor) -> int:
    """How often a tensor was written to."""
    return 0 if tensor.is_inference() else tensor._version


def mapped(value: Any, function: Callable[[Any], Any]) -> Any:
    """The same structure of tuples, lists, dictionaries and slices, its leaves replaced."""
    if isinstance(value, tuple | list):
        items = [mapped(item, function) for item in value]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, dict):
        return {key: mapped(item, function) for key, item in value.items()}
    if isinstance(value, slice):
        return slice(*mapped((value.start, value.stop, value.step), function))
    return function(value)


def leaves(value: Any, kind: type | tuple[type, ...]) -> list[Any]:
    """What there is of one kind in a structure of tuples, lists, dictionaries and slices."""
    found, todo = [], [value]
    while todo:
        item = todo.pop()
        if isinstance(item, tuple | list):
            todo += reversed(item)
        elif isinstance(item, dict):
            todo += reversed(item.values())
        elif isinstance(item, slice):
            todo += (item.step, item.stop, item.start)
        elif isinstance(item, kind):
            found.append(item)
    return found
