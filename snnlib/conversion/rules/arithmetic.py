"""The rules of conversion for sums and scales."""

from __future__ import annotations

from typing import Any

from snnlib.conversion.registry import Builder, Compare, Ref, Unsupported, rule
from snnlib.conversion.rules.pieces import add, affine, constant
from snnlib.conversion.rules.units import where

_SUM = "sum of messages; a constant is a bias current"
_DIFFERENCE = "difference of messages; a constant is a bias current"
_SCALE, _BY_CONSTANT = "scale of the messages", "by a constant"

rule("add", becomes=_SUM)(lambda b, input, other, *, alpha=1: add(b, input, other, 1, alpha))
rule("sub", "subtract", becomes=_DIFFERENCE)(
    lambda b, input, other, *, alpha=1: add(b, input, other, 1, -alpha)
)
rule("rsub", "__rsub__", becomes=_DIFFERENCE)(
    lambda b, input, other, *, alpha=1: add(b, other, input, 1, -alpha)
)
rule("neg", "negative", becomes=_SCALE)(lambda b, input: affine(b, input, -1.0))


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
    return affine(b, input, other) if isinstance(input, Ref) else affine(b, other, input)


@rule("div", "divide", "true_divide", becomes=_SCALE, note=_BY_CONSTANT)
def _div(b: Builder, input: Any, other: Any) -> Ref:
    if not isinstance(input, Ref) or isinstance(other, Ref):
        raise Unsupported("a division by an activation: only constants can divide")
    return affine(b, input, 1.0 / constant(b, other, b.shape(input)))
