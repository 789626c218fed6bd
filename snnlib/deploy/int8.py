"""Convolutions of small whole numbers with the processor's 8-bit instructions, exactly.

Messages of a whole-number network are small: counts up to a cap, or a few of them added. Such a
value and a weight of 8 bits are multiplied and added up in 32 bits by instructions (VNNI, AMX) with
twice the rate of bfloat16 and four times that of float32. oneDNN has them behind the operators that
``torch.compile`` emits for quantised networks. These are not documented, and processors before
VNNI saturate in 16 bits, so `available` first computes sums as large as they get and compares.
Where it says no, the same numbers come from a convolution in float32.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from snnlib.graph.operations import OPERATIONS, Node, count_paths, operation

LARGEST = 127  # of the values and weights: a value plus as much fits in eight bits without a sign

_packed = WeakTensorKeyDictionary()  # weights in oneDNN's format


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, zero: int, a: Any) -> Tensor:
    """x − zero convolved with the weights.

    Args:
        x: uint8, shape (B, C, H, W).
        weight: whole numbers −127…127 in float32, shape (O, C, kH, kW).
        bias: whole numbers in float32, shape (O,).
        zero: what stands for zero in x.
        a: stride, padding, dilation and groups.

    Returns:
        Whole numbers in float32, exact below 2^24.
    """
    where = a["stride"], a["padding"], a["dilation"], a["groups"]
    packed, ones, zeros = _packed.get(weight, (None, None, None))
    if packed is None:
        ones = torch.ones(len(weight))
        zeros = torch.zeros(len(weight), dtype=torch.int64)
        packed = torch.ops.onednn.qconv_prepack(weight.to(torch.int8), ones, 1.0, zero, *where)
        _packed[weight] = packed, ones, zeros
    return torch.ops.onednn.qconv2d_pointwise(
        x, 1.0, zero, packed, ones, zeros, bias, *where, 1.0, 0, torch.float32, "none", [], ""
    )


@functools.cache
def available() -> bool:
    """Whether the operators are there and add up the largest values without saturating."""
    a = {"stride": [1, 1], "padding": [1, 1], "dilation": [1, 1], "groups": 1}
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 2 * LARGEST + 1, (2, 64, 5, 5), generator=generator)
    weight = torch.randint(-LARGEST, LARGEST + 1, (16, 64, 3, 3), generator=generator)
    x[0, :, :3] = 2 * LARGEST
    x[1] = torch.randint(240, 2 * LARGEST + 1, x[1].shape, generator=generator)
    weight[0], weight[1] = LARGEST, -LARGEST
    weight[2] = torch.randint(120, LARGEST + 1, weight[2].shape, generator=generator)
    bias = torch.arange(16)
    expected = F.conv2d((x - LARGEST).double(), weight.double(), bias.double(), padding=1)
    x = x.to(torch.uint8).contiguous(memory_format=torch.channels_last)
    try:
        found = _convolve(x, weight.float(), bias.float(), LARGEST, a)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return torch.equal(found.double(), expected)


def _conv_int8(node: Node, x: Tensor) -> Tensor:
    """A convolution of whole numbers from −zero to zero, ``zero`` an attribute of the node."""
    if x.device.type != "cpu" or not torch.backends.mkldnn.enabled or not available():
        return OPERATIONS["conv"].function(node, x)
    weight, zero = node.tensors["weight"], node.attrs["zero"]
    shifted = (x + zero).to(torch.uint8)
    return _convolve(shifted, weight, node.tensors.get("bias"), zero, node.attrs)


def _paths(node: Node, x: Tensor) -> Tensor:
    return count_paths(replace(node, op="conv"), [x])


operation("conv_int8", "weighted", paths=_paths)(_conv_int8)
