"""The rules of conversion for activations: ReLUs however they are written, and quantizers.

All of them are made of one unit, clip(z, 0, m), which a spiking neuron with a bounded count
approaches::

    clamp(x, l, h)                 l + clip(x − l, 0, h − l)
    s·x for x > 0, t·x for x < 0   s·relu(x) − t·relu(−x)      (LeakyReLU: s = 1, t its slope)
    max(x, y)                      max pooling over the two

A quantizer ``clamp(round(x·L) / L, 0, m)`` is the unit with attributes ``step`` = 1/L, ``bound`` =
m and ``offset`` = ½ (what is added before rounding down; without it, half to even, as `torch.round`
does). `snnlib.graph.operations.rectify` computes it as the model does. With λ = m and levels × time
steps = m / step, memoryless neurons (v0 = ``offset``) send exactly what the quantizer gives; after
more steps the network approaches the unrounded clip, half a step beside it at most.

Bounded units: chapter *Spiking neurons*. Quantized ones: Bu et al., ICLR 2022.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnlib.conversion.registry import Builder, Compare, Ref, Unsupported, rule
from snnlib.conversion.rules.pieces import add, affine, constant, reshaped

_SPIKING, _BOUNDED = "spiking neurons", "spiking neurons with a bounded count"
_AS_RELU = "in a ReLU: torch.where(x > 0, x, a * x), x * (x > 0)"
_TWO = "two layers of spiking neurons, for x > 0 and for x < 0"
_QUANTIZED = "spiking neurons with a bounded count in steps of the quantizer"
_ROUNDED = (
    "rounding converts inside a quantized ReLU only, such as "
    "torch.clamp(torch.round(x * L) / L, 0, 1), with one step for the whole layer"
)
_CHOICE = (
    "a choice that depends on the images: only ReLUs written so convert, such as "
    "torch.where(x > 0, x, a * x), and torch.maximum of two activations"
)


def clip(b: Builder, x: Ref, low: Any, high: Any, name: str = "") -> Ref:
    """clamp(x, low, high); a limit is a number, a fixed tensor, or None."""
    low, high = _limit(low), _limit(high)
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        if low is not None:
            x = affine(b, relu(b, affine(b, x, 1, -low, ".above"), name), 1, low, ".limited")
        return x if high is None else _below(b, x, high, name)
    if low is not None and high is not None and low >= high:
        raise Unsupported(f"limits {low:g} … {high:g} leave a constant: give two different ones")
    found = _clip_rounded(b, x, low, high, name) or _clip_again(b, x, low, high, name)
    if found is not None:
        return found
    if low is None:
        return x if high is None else _below(b, x, high, name)
    bound = None if high is None else high - low
    unit = _unit(b, affine(b, x, 1, -low, ".above"), name, bound=bound)
    return affine(b, unit, 1, low, ".limited")


def relu(b: Builder, x: Ref, name: str = "") -> Ref:
    """relu(x)."""
    return clip(b, x, 0.0, None, name)


def _below(b: Builder, x: Ref, high: Any, name: str) -> Ref:
    """min(x, high) = high − relu(high − x)."""
    return affine(b, relu(b, affine(b, x, -1, high, ".below"), name), -1, high, ".limited")


def _limit(value: Any) -> float | Tensor | None:
    if isinstance(value, Ref | Compare):
        raise Unsupported("limits that depend on the images: use torch.maximum or torch.minimum")
    if isinstance(value, Tensor):
        one = value.flatten()[0]
        value = float(one) if bool((value == one).all()) else value.detach().double()
    return None if isinstance(value, float) and math.isinf(value) else value


def _unit(b: Builder, z: Ref, name: str, **attrs: float | None) -> Ref:
    """A spiking node; attributes that are None are left out."""
    kept = {key: float(value) for key, value in attrs.items() if value is not None}
    return b.then("relu", z, name=name, shape=b.shape(z), **kept)


def line(b: Builder, x: Ref) -> tuple[Ref, float, float]:
    """Source, scale and shift with x = scale · source + shift, as plain numbers."""
    node, scale, shift = b.nodes[x.name], 1.0, 0.0
    while node.op == "affine" and all(t.numel() == 1 for t in node.tensors.values()):
        shift += scale * float(node.tensors.get("shift", 0.0))
        scale *= float(node.tensors.get("scale", 1.0))
        node = b.nodes[node.inputs[0]]
    return Ref(node.name), scale, shift


# quantizers


def rounded(b: Builder, x: Ref, even: bool) -> Ref:
    """floor(x), or round(x) with halves to the even side.

    Of a ReLU it is a unit with steps. Of anything else it is a node that waits for its limits.
    """
    source, scale, shift = line(b, x)
    node = b.nodes[source.name]
    if scale <= 0 or node.op != "relu" or "step" in node.attrs:
        if scale <= 0:
            source, scale, shift = x, 1.0, 0.0
        attrs = {"scale": scale, "shift": shift, "even": even}
        return b.refused("round", _ROUNDED, source, name=".waiting", **attrs)
    exact = even and shift == 0
    whole, offset = (0.0, None) if exact else divmod(shift + (0.5 if even else 0.0), 1.0)
    bound = node.attrs.get("bound")
    if bound is not None:
        top = scale * bound
        bound = (round(top) if exact else math.floor(top + offset + 1e-6)) / scale
    unit = _unit(b, Ref(node.inputs[0]), "", step=1 / scale, offset=offset, bound=bound)
    return affine(b, unit, scale, whole, ".scaled")


def _clip_rounded(b: Builder, x: Ref, low: Any, high: Any, name: str) -> Ref | None:
    """A node that waits for its limits gets them."""
    source, scale, shift = line(b, x)
    node = b.nodes[source.name]
    if node.op != "round" or scale <= 0 or low is None:
        return None
    least = (low - shift) / scale
    if abs(least - round(least)) > 1e-6:
        raise Unsupported(
            "its lower limit is no whole number of the quantizer's steps: make it one"
        )
    whole, offset = node.attrs["shift"], None
    if not node.attrs["even"]:
        whole, offset = divmod(whole, 1.0)
    least, slope = round(least), scale * node.attrs["scale"]
    z = affine(b, Ref(node.inputs[0]), slope, scale * (whole - least), ".above")
    bound = None if high is None else high - low
    unit = _unit(b, z, name, step=scale, offset=offset, bound=bound)
    return affine(b, unit, 1, shift + scale * least, ".limited")


def _clip_again(b: Builder, x: Ref, low: Any, high: Any, name: str) -> Ref | None:
    """A ReLU gets an upper limit: relu(x).clamp_max(m)."""
    source, scale, shift = line(b, x)
    node = b.nodes[source.name]
    if node.op != "relu" or scale <= 0 or high is None:
        return None
    top = (high - shift) / scale
    if top <= 0 or (low is not None and low > shift):
        return None
    attrs = {**node.attrs, "bound": min(top, node.attrs.get("bound", top))}
    return affine(b, _unit(b, Ref(node.inputs[0]), name, **attrs), scale, shift, ".scaled")


# choices


def where(b: Builder, mask: Compare, p: Any, q: Any) -> Ref:
    """p where the comparison holds, q elsewhere; it must be continuous, as a ReLU is."""
    x, limit = mask.x, mask.limit
    if not mask.above:
        p, q = q, p  # p where x > limit
    if isinstance(limit, Ref):
        if (p, q) in ((x, limit), (limit, x)):
            return maximum(b, x, limit, -1 if q == x else 1)
    elif _same(q, limit) and p == x:
        return clip(b, x, limit, None)
    elif _same(p, limit) and q == x:
        return clip(b, x, None, limit)
    elif _same(limit, 0.0):
        up, down = _multiple(b, p, x), _multiple(b, q, x)
        if up is not None and down is not None:
            return two_slopes(b, x, up, down)
    raise Unsupported(_CHOICE)


def _same(value: Any, other: Any) -> bool:
    """Whether two constants are equal."""
    if isinstance(value, Ref | Compare) or isinstance(other, Ref | Compare):
        return False
    real = (v for v in (value, other) if isinstance(v, Tensor) and v.is_floating_point())
    dtype = next((v.dtype for v in real), None)
    one, two = (torch.as_tensor(v, dtype=dtype) for v in (value, other))
    return bool((one == two).all())


def _multiple(b: Builder, value: Any, x: Ref) -> Any:
    """s with value = s · x, None if it is no multiple."""
    if not isinstance(value, Ref):
        return 0.0 if _same(value, 0.0) else None
    node = b.nodes[value.name]
    if value == x:
        return 1.0
    scaled = node.op == "affine" and node.inputs == (x.name,) and node.tensors.keys() == {"scale"}
    return node.tensors["scale"] if scaled else None


def two_slopes(b: Builder, x: Ref, up: Any, down: Any) -> Ref:
    """up · x for x > 0, down · x for x < 0: up · relu(x) − down · relu(−x)."""
    if _same(down, 0.0):
        return affine(b, relu(b, x), up, name=".scaled")
    under = relu(b, affine(b, x, -1, name=".negated"), ".negative")
    if _same(up, 0.0):
        return affine(b, under, -torch.as_tensor(down), name=".scaled")
    over = affine(b, relu(b, x), up, name=".scaled")
    if isinstance(down, Tensor):
        under, down = affine(b, under, down, name=".slope"), 1.0
    return b.then("add", over, under, name=".sum", alpha=-down)


def maximum(b: Builder, x: Any, y: Any, sign: int = 1) -> Ref:
    """The larger of x and y; with ``sign`` −1 the smaller."""
    if not (isinstance(x, Ref) and isinstance(y, Ref)):
        x, limit = (x, y) if isinstance(x, Ref) else (y, x)
        if isinstance(limit, Tensor):
            limit = constant(b, limit, b.shape(x))
        return clip(b, x, *((limit, None) if sign == 1 else (None, limit)))
    for one, other in ((x, y), (y, x)):  # max(x, 0.1 x) is a LeakyReLU
        slope = _multiple(b, other, one)
        if slope is not None and torch.as_tensor(slope).numel() == 1:
            slopes = sorted((1.0, float(slope)), reverse=sign == 1)
            return two_slopes(b, one, *slopes)
    if b.shape(x) != b.shape(y):
        raise Unsupported("a maximum of activations of different shapes: give both the same")
    shape = b.shape(x)
    both = [
        reshaped(b, affine(b, v, sign, name=".sign"), (1, *shape), ".unsqueeze") for v in (x, y)
    ]
    joined = b.then("cat", *both, name=".both", shape=(2, *shape), dim=1)
    largest = b.then("amax", joined, dims=[1], keepdim=False)
    return affine(b, largest, sign, name=".signed")


# the rules, those of one line as such
rule("relu", becomes=_SPIKING, modules=(nn.ReLU,))(lambda b, input, inplace=False: relu(b, input))
rule("relu6", becomes=_BOUNDED)(lambda b, input, inplace=False: clip(b, input, 0.0, 6.0))
rule("clamp_min", becomes=_SPIKING)(lambda b, input, min: clip(b, input, min, None))
rule("clamp_max", becomes=_BOUNDED, note="of a ReLU, or a ReLU of max − x")(
    lambda b, input, max: clip(b, input, None, max)
)
rule("hardsigmoid", becomes=_BOUNDED, modules=(nn.Hardsigmoid,))(
    lambda b, input, inplace=False: clip(b, affine(b, input, 1 / 6, 0.5, ".inner"), 0.0, 1.0)
)
rule("leaky_relu", becomes=_TWO, modules=(nn.LeakyReLU,))(
    lambda b, input, negative_slope=0.01, inplace=False: two_slopes(b, input, 1.0, negative_slope)
)
rule("abs", "absolute", becomes=_TWO)(lambda b, input: two_slopes(b, input, 1.0, -1.0))


@rule("clamp", "clip", becomes=_BOUNDED, note="without a count's bound where one limit is missing")
def _clamp(b: Builder, input: Ref, min: Any = None, max: Any = None) -> Ref:
    return clip(b, input, min, max)


@rule(F.hardtanh, F.hardtanh_, becomes=_BOUNDED, modules=(nn.ReLU6, nn.Hardtanh))
def _hardtanh(
    b: Builder, input: Ref, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Ref:
    return clip(b, input, min_val, max_val)


@rule("threshold", becomes=_SPIKING, note="value = threshold", modules=(nn.Threshold,))
def _threshold(
    b: Builder, input: Ref, threshold: float, value: float, inplace: bool = False
) -> Ref:
    if threshold != value:
        raise Unsupported("it jumps from value to threshold: train with both equal, as in nn.ReLU")
    return clip(b, input, threshold, None)


@rule("prelu", becomes=_TWO, note="one slope, or one a channel", modules=(nn.PReLU,))
def _prelu(b: Builder, input: Ref, weight: Tensor) -> Ref:
    rank = 1 if weight.numel() == 1 else len(b.shape(input))
    return two_slopes(b, input, 1.0, weight.detach().double().reshape(-1, *[1] * (rank - 1)))


@rule("gt", "ge", "greater", "greater_equal", becomes=_SPIKING, note=_AS_RELU)
def _above(b: Builder, input: Any, other: Any) -> Compare:
    return Compare(input, other, True) if isinstance(input, Ref) else Compare(other, input, False)


rule("lt", "le", "less", "less_equal", becomes=_SPIKING, note=_AS_RELU)(
    lambda b, input, other: _above(b, other, input)
)
rule("logical_not", "bitwise_not", "__invert__", becomes=_SPIKING, note=_AS_RELU)(
    lambda b, input: Compare(input.x, input.limit, not input.above)
)


@rule("where", becomes=_SPIKING, note=f"{_AS_RELU}; or a fixed mask")
def _where(b: Builder, condition: Any, input: Any, other: Any) -> Ref:
    if b.function is torch.Tensor.where:  # x.where(x > 0, 0)
        condition, input = input, condition
    if isinstance(condition, Compare):
        return where(b, condition, input, other)
    shape = tuple(b.result.shape[1:])
    mask = constant(b, condition, shape)
    one, two = (
        affine(b, v, m, name=".masked")
        if isinstance(v, Ref)
        else torch.where(m > 0, constant(b, v, shape), 0.0)
        for v, m in ((input, mask), (other, 1 - mask))
    )
    return add(b, one, two)


rule("masked_fill", becomes=_SPIKING, note=f"{_AS_RELU}; or a fixed mask")(
    lambda b, input, mask, value: _where(b, mask, value, input)
)
rule("floor", becomes=_QUANTIZED, note="inside: clamp(floor(x * L + 0.5) / L, 0, 1)")(
    lambda b, input: rounded(b, input, False)
)
rule("round", becomes=_QUANTIZED, note="inside: clamp(round(x * L) / L, 0, 1)")(
    lambda b, input: rounded(b, input, True)
)


@rule("fake_quantize_per_tensor_affine", becomes=_QUANTIZED, note="one fixed step")
def _fake_quantize(
    b: Builder, input: Ref, scale: Any, zero_point: Any, quant_min: int, quant_max: int
) -> Ref:
    if isinstance(scale, Ref) or isinstance(zero_point, Ref):
        raise Unsupported("its step is measured on the images: switch the observers off first")
    step, zero = float(scale), float(zero_point)
    counts = rounded(b, affine(b, input, 1 / step, name=".inner"), True)
    low, high = ((end - zero) * step for end in (quant_min, quant_max))
    return clip(b, affine(b, counts, step, name=".outer"), low, high)
