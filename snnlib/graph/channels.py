"""Numbers that hold for a channel (scales, units, bounds), and where an operation carries them.

`fold`, `normalize` and `quantize` follow such numbers through the graph. They are tensors that
broadcast to one image's value, (C, 1, ...) as a rule.
"""

from __future__ import annotations

import torch
from torch import Tensor

from snnlib.graph.operations import OPERATIONS, Node, apply


def column(vector: Tensor, rank: int) -> Tensor:
    """One number a channel, shape (C,), as (C, 1, ...) with ``rank`` dimensions."""
    return vector.reshape(-1, *[1] * (rank - 1))


def per_channel(value: Tensor, shape: tuple[int, ...], last: bool = False) -> Tensor | None:
    """One number a channel, shape (C,), or None where they differ within a channel.

    Args:
        value: broadcastable to ``shape``.
        shape: of one image's value.
        last: the channels are the last dimension (linear layers on tokens), not the first.
    """
    full = value.expand(shape)
    rows = full.reshape(-1, shape[-1]).T if last else full.reshape(shape[0], -1)
    return rows[:, 0] if bool((rows == rows[:, :1]).all()) else None


def compact(value: Tensor) -> Tensor:
    """A tensor of one image's shape as a number, or as one number a channel, if it is that."""
    if value.dim() == 0 or bool((value == value.flatten()[0]).all()):
        return value.flatten()[0].clone()
    numbers = per_channel(value, tuple(value.shape))
    return value.contiguous() if numbers is None else column(numbers, value.dim()).clone()


def carried(node: Node, values: list[Tensor]) -> Tensor | None:
    """The numbers of a node's output from those of its inputs, each in its image's full shape.

    Returns:
        A tensor that broadcasts to the output, or None where the operation joins values of
        different numbers or follows no general rule (`Operation.units`).
    """
    rule = OPERATIONS[node.op].units
    if rule == "moves":
        return apply(node, [value[None] for value in values])[0]
    value = values[0]
    if rule == "pads":
        return _padded(node, value)
    if rule == "pools":
        joined = list(range(1, value.dim()))
    elif rule == "reduces":
        joined = [dim - 1 if dim > 0 else dim for dim in node.attrs["dims"]]
    else:
        return None
    first = value
    for dim in joined:
        first = first.narrow(dim, 0, 1)
    if not bool((value == first).all()):
        return None
    if rule == "reduces" and not node.attrs["keepdim"]:
        first = first.squeeze(tuple(joined))
    return first


def _padded(node: Node, value: Tensor) -> Tensor:
    """New positions and channels get the numbers of their neighbors: what is there is zero."""
    if node.attrs["mode"] != "constant":
        return apply(node, [value[None]])[0]
    sides = node.attrs["pad"]
    for i in range(len(sides) // 2):
        dim, before, after = value.dim() - 1 - i, sides[2 * i], sides[2 * i + 1]
        index = torch.arange(-before, value.shape[dim] + after, device=value.device)
        value = value.index_select(dim, index.clamp(0, value.shape[dim] - 1))
    return value


def per_input(node: Node, arriving: Tensor) -> Tensor:
    """Numbers of the input channels, shape (I,), in the shape of a weighted node's weight."""
    weight = node.tensors["weight"]
    ones = [1] * (weight.dim() - 2)
    if node.op == "conv_transpose":  # weight (in, out / groups, ...)
        return arriving.reshape(-1, 1, *ones)
    groups = node.attrs.get("groups", 1)
    each = arriving.reshape(groups, 1, -1).expand(groups, weight.shape[0] // groups, -1)
    return each.reshape(weight.shape[0], -1, *ones)  # (out, in / groups, 1, ...)
