"""Convolutions of small whole numbers with the processor's 8-bit instructions, exactly.

Messages of a whole-number network are small: counts up to a cap, or a few of them added. Such a
value and a weight of 8 bits are multiplied and added up in 32 bits by instructions (VNNI, AMX) with
twice the rate of bfloat16 and four times that of float32. oneDNN has them behind the operators that
``torch.compile`` emits for quantized networks. These are not documented and not always right, so
they get as little to do as possible::

    bytes      u = x + z in 0…2z, for values x in −z…z and for the padding     z ≤ 64
    result     Σ w·u + (b − z Σ w)  =  Σ w·x + b
    bound      2z Σ |w| + |b| < 2^24, for every output channel

- z ≤ 64: processors before VNNI add two products in 16 bits, and 2 · 128 · 127 is less than 2^15.
- The bound: AMX kernels turn Σ w·u into float32 before they add the rest. Below 2^24 every sum is
  exact, in whatever order it is added up.
- No padding and no zero point for oneDNN: with them grouped convolutions are garbage where a window
  lies wholly in the padding, or where the channels of a group do not fill a register.
- Some shapes are wrong all the same (outputs one wide, with a stride, on AMX, some from a certain
  batch on), others fall into plain loops. So `_pays` tries every shape before it is used.

Whatever is refused is computed in float32: the same numbers.
"""

from __future__ import annotations

import functools
import math
import time
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from snnlib.graph.operations import Node, apply, count_paths, operation

MOST = 64  # of the values
LARGEST = 127  # of the weights
_FLOAT32 = 2**24  # whole numbers up to here are exact


def takes(node: Node, largest: float) -> bool:
    """Whether 8 bits hold a convolution of whole numbers, whatever the processor.

    Args:
        node: its weights and biases are whole numbers.
        largest: the largest |x| that it reads.
    """
    weight, bias = node.tensors["weight"], node.tensors.get("bias")
    if node.op not in ("conv", "conv_int8") or weight.dim() != 4 or largest > MOST:
        return False
    sums = 2 * largest * weight.abs().flatten(1).double().sum(1)
    if bias is not None:
        sums = sums + bias.abs()
    return bool(weight.abs().max() <= LARGEST and sums.max() < _FLOAT32)


class _Packed(NamedTuple):
    """Weights in oneDNN's format, with all that its operator wants beside them."""

    weight: Tensor
    scales: Tensor
    zeros: Tensor
    bias: Tensor  # b − z Σ w


def _pack(node: Node) -> _Packed:
    weight, bias, a = node.tensors["weight"], node.tensors.get("bias"), node.attrs
    scales, zeros = torch.ones(len(weight)), torch.zeros(len(weight), dtype=torch.int64)
    packed = torch.ops.onednn.qconv_prepack(
        weight.to(torch.int8), scales, 1.0, 0, a["stride"], [0, 0], a["dilation"], a["groups"]
    )
    rest = -a["zero"] * weight.flatten(1).sum(1)
    return _Packed(packed, scales, zeros, rest if bias is None else rest + bias)


def _convolve(node: Node, x: Tensor, packed: _Packed, rows: int) -> Tensor:
    """Σ w·x + b in 8-bit instructions, for a batch filled up to ``rows`` images."""
    a, (batch, channels, height, width) = node.attrs, x.shape
    top, left = a["padding"]
    shape = rows, height + 2 * top, width + 2 * left, channels
    values = torch.zeros(shape, dtype=torch.int8).permute(0, 3, 1, 2)
    values[:batch, :, top : top + height, left : left + width].copy_(x)
    found: Tensor = torch.ops.onednn.qconv2d_pointwise(
        values.add_(a["zero"]).view(torch.uint8), 1.0, 0, packed.weight, packed.scales,
        packed.zeros, packed.bias, a["stride"], [0, 0], a["dilation"], a["groups"],
        1.0, 0, torch.float32, "none", [], "",
    )  # fmt: skip
    return found[:batch]


@functools.cache
def _pays(
    x: tuple[int, ...], weight: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...],
    dilation: tuple[int, ...], groups: int, threads: int,
) -> bool:  # fmt: skip
    """Whether a convolution is exact in 8 bits, and faster than in float32: tried once a process.

    oneDNN chooses its kernel, and how to cut the work, by the shapes and the number of threads. The
    numbers only decide how large the sums get, and `takes` bounds that.

    Args:
        x, weight: shapes.
        stride, padding, dilation, groups: of the convolution.
        threads: PyTorch's.
    """
    generator = torch.Generator().manual_seed(0)

    def draw(shape: tuple[int, ...], most: int) -> Tensor:
        """Random whole numbers, half of them the largest; channels last in memory."""
        count, channels, *sides = shape
        size = math.prod(shape)
        words = torch.randint(2**62, (size // 8 + 1,), generator=generator)  # of eight numbers each
        values = words.view(torch.int8)[:size].clamp_(-most, most).float()
        return values.reshape(count, *sides, channels).movedim(-1, 1)

    attrs = {
        "stride": list(stride), "padding": list(padding), "dilation": list(dilation),
        "groups": groups, "zero": MOST,
    }  # fmt: skip
    node = Node("trial", "conv", (), attrs, {"weight": draw(weight, LARGEST)})
    values, times = draw(x, MOST), []
    try:
        packed = _pack(node)
        for _ in range(3):  # oneDNN compiles its kernel the first time
            began = time.perf_counter()
            found = _convolve(node, values, packed, len(values))
            times.append(time.perf_counter() - began)
    except (AttributeError, RuntimeError, TypeError):  # no such operator, or another signature
        return False
    began = time.perf_counter()
    expected = apply(node, [values])
    return min(times) < time.perf_counter() - began and torch.equal(found, expected)


_packed = WeakTensorKeyDictionary()  # by weight; two threads may both pack it, to the same end


def _ready(node: Node) -> _Packed | None:
    """The packed weights of a node, kept as long as the weights; None where `takes` says no."""
    weight, bias, a = node.tensors["weight"], node.tensors.get("bias"), node.attrs
    made_for = a["zero"], a["stride"], a["dilation"], a["groups"]
    made, with_bias, packed = _packed.get(weight, (None, None, None))
    if made != made_for or with_bias is not bias:
        packed = _pack(node) if takes(node, a["zero"]) else None
        _packed[weight] = made_for, bias, packed
    return packed


@operation(
    "conv_int8", "weighted", paths=lambda node, x: count_paths(replace(node, op="conv"), [x])
)
def _conv_int8(node: Node, x: Tensor) -> Tensor:
    """A convolution of whole numbers from −zero to zero, ``zero`` an attribute of the node."""
    if x.device.type == "cpu" and _has_kernels():
        a, rows = node.attrs, _filled_up(len(x))
        where = [tuple(a[name]) for name in ("stride", "padding", "dilation")]
        shapes = (rows, *x.shape[1:]), tuple(node.tensors["weight"].shape)
        if _pays(*shapes, *where, a["groups"], torch.get_num_threads()) and (
            packed := _ready(node)
        ):
            return _convolve(node, x, packed, rows)
    return apply(replace(node, op="conv"), [x])


def _has_kernels() -> bool:
    """oneDNN is on, and has more for this processor than plain loops, a hundred times as slow."""
    capability = torch.backends.cpu.get_cpu_capability()
    return bool(torch.backends.mkldnn.enabled) and capability.startswith("AVX")


def _filled_up(batch: int) -> int:
    """Four sizes an octave (…, 16, 20, 24, 28, 32, …), so that few shapes need a trial."""
    step = max(1, 2 ** (batch.bit_length() - 3))
    return -(-batch // step) * step
