"""A copy of a model, whatever it carries, without the wrappers of other tools.

`copy.deepcopy` gives up on a model with a lock among its attributes, or an open file, or a tensor
that belongs to an autograd graph, as pruning and weight normalization leave one behind. Here such a
tensor is copied without its history, and what cannot be copied at all is shared.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn


def copied(model: nn.Module) -> nn.Module:
    """A copy that shares neither parameters nor buffers with the model, and has no wrappers."""
    model = unwrapped(model)
    try:
        twin = copy.deepcopy(model)
    except Exception:  # whatever a foreign object says when it is copied
        twin = copy.deepcopy(model, _kept(model))
    for module in twin.modules():
        for name, child in module._modules.items():
            module._modules[name] = inner = unwrapped(child)
            # A forward may reach into its wrapper: self.net.module(x).
            for wrapper in ("module", "_orig_mod") if inner is not child else ():
                if not hasattr(inner, wrapper):
                    object.__setattr__(inner, wrapper, inner)
    return twin


def _kept(model: nn.Module) -> dict[int, Any]:
    """What stands in the copy for the objects that cannot be copied, by id."""
    modules = list(model.modules())
    # An attribute may point back into the model: that is copied once, at the end.
    apart: dict[int, Any] = {id(m): m for m in modules} | {id(p): p for p in model.parameters()}
    memo: dict[int, Any] = {}
    for module in modules:
        for value in _held(vars(module)):
            if id(value) in apart or id(value) in memo:
                continue
            if isinstance(value, Tensor):
                if not value.is_leaf:
                    memo[id(value)] = value.detach().clone()
                continue
            try:
                copy.deepcopy(value, {**apart, **memo})
            except Exception:
                memo[id(value)] = value
    return memo


def unwrapped(model: Any) -> Any:
    """The module inside DataParallel, DistributedDataParallel and torch.compile."""
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif getattr(model, "_orig_mod", model) is not model:
            model = model._orig_mod
        else:
            return model


def _held(value: Any) -> Iterator[Any]:
    """The objects in an attribute, looked for in lists, tuples and dictionaries."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _held(item)
    else:
        yield value
