"""The rules of conversion for sums and scales."""

from __future__ import annotations

from typing import Any

from snnlib.conversion.registry import Builder, Compare, Ref, Unsupported, rule
from snnlib.conversion.rules.pieces import add, affine, constant
from snnlib.conversion.rules.units import where


@rule("add", becomes="sum of messages; a constant is a bias current")
def _add(b: Builder, input: Any, other: Any, *, alpha: float = 1) -> Ref:
    return add(b, input, other, 1, alpha)


_DIFFERENCE = "difference of messages; a constant is a bias current"


@rule("sub", "subtract", becomes=_DIFFERENCE)
def _sub(b: Builder, input: Any, other: Any, *, alpha: float = 1) -> Ref:
    return add(b, input, other, 1, -alpha)


@rule("rsub", "__rsub__", becomes=_DIFFERENCE)
def _rsub(b: Builder, input: Any, other: Any, *, alpha: float = 1) -> Ref:
    return add(b, other, input, 1, -alpha)


_SCALE, _BY_CONSTANT = "scale of the messages", "by a constant"


@rule("neg", "negative", becomes=_SCALE)
def _neg(b: Builder, input: Ref) -> Ref:
    return affine(b, input, -1.0)


@rule("mul", "multiply", becomes=_SCALE, note=_BY_CONSTANT)
def _mul(b: Builder, input: Any, other: Any) -> Ref:
    for mask, x in ((input, other), (other, input)):
        if isinstance(mask, Compare) and isinstance(x, Ref):
            return where(b, mask, x, 0.0)
    if isinstance(input, Ref) and isinstance(other, Ref):
        raise Unsupported(
            "a product of two activations: spikes can be added, not multiplied (a gate or "
            "attention block has to go, or become a residual sum)"
        )
    x, factor = (input, other) if isinstance(input, Ref) else (other, input)
    return affine(b, x, factor)


@rule("div", "divide", "true_divide", becomes=_SCALE, note=_BY_CONSTANT)
def _div(b: Builder, input: Any, other: Any) -> Ref:
    if not isinstance(input, Ref) or isinstance(other, Ref):
        raise Unsupported("a division by an activation: only constants can divide")
    return affine(b, input, 1.0 / constant(b, other, b.shape(input)))
