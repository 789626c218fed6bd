"""Small steps that several rules emit: scales and shifts, padding, reshaping, reordering."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snnlib.conversion.registry import MASK, Builder, Compare, Ref, Unsupported


def same_for_all(constant: Tensor) -> Tensor:
    """What a constant (B, ...) is for one image; it must be the same for all of them."""
    if not bool((constant == constant[:1]).all()):
        raise Unsupported(
            "a constant that differs from image to image (random numbers?): use one value for "
            "all images"
        )
    return constant[0]


def constant(b: Builder, value: Any, shape: tuple[int, ...]) -> Tensor:
    """A number or tensor as something broadcastable to one image's value of ``shape``."""
    if isinstance(value, Compare):
        raise Unsupported(MASK)
    if not isinstance(value, Tensor):
        value = torch.as_tensor(value, dtype=torch.float64, device=b.like.device)
    value = value.detach().double()
    if value.dim() > len(shape):
        if value.dim() > len(shape) + 1 or len(value) not in (1, len(b.like)):
            raise Unsupported("a constant with a batch dimension: use one value for all images")
        value = same_for_all(value)
    return value


def affine(b: Builder, x: Ref, scale: Any = None, shift: Any = None, name: str = "") -> Ref:
    """scale · x + shift; nothing is emitted where that is x."""
    shape = b.shape(x)
    tensors: dict[str, Tensor | None] = {}
    for role, value, neutral in (("scale", scale, 1), ("shift", shift, 0)):
        if value is not None:
            found = constant(b, value, shape)
            if not bool(found.isfinite().all()):
                raise Unsupported(
                    "it computes with a number that is not finite: fill masks with one below all "
                    "activations, such as 0 after a ReLU"
                )
            larger = torch.broadcast_shapes(found.shape, shape) != shape
            tensors[role] = found if larger or bool((found != neutral).any()) else None
    if all(tensor is None for tensor in tensors.values()):
        return x
    given = [tensor.shape for tensor in tensors.values() if tensor is not None]
    shape = torch.broadcast_shapes(shape, *given)
    return b.then("affine", x, name=name, shape=tuple(shape), tensors=tensors)


def add(b: Builder, x: Any, y: Any, alpha: float = 1, beta: float = 1) -> Ref:
    """alpha · x + beta · y, of which at least one depends on the images."""
    if not (isinstance(x, Ref) and isinstance(y, Ref)):
        ref, own, other, weight = (x, alpha, y, beta) if isinstance(x, Ref) else (y, beta, x, alpha)
        return affine(b, ref, own, constant(b, other, b.shape(ref)) * weight)
    if alpha == 1 and beta in (1, -1) and (rest := _canceled(b, x, y, beta)) is not None:
        return rest
    if len(b.shape(x)) != len(b.shape(y)):
        raise Unsupported(
            f"a sum of shapes {('B', *b.shape(x))} and {('B', *b.shape(y))} mixes the images of a "
            "batch: give both the same number of dimensions"
        )
    return b.then("add", affine(b, x, alpha, name=".scale"), y, alpha=beta)


def _canceled(b: Builder, x: Ref, y: Ref, beta: float) -> Ref | None:
    """What is left of x + beta · y where one of them is a sum and the other takes a part away.

    So is a quantizer written whose gradient passes straight through:
    ``x + (quantized - x).detach()``.
    """
    for one, other, factors in ((x, y, (1, beta)), (y, x, (beta, 1))):
        node = b.nodes[other.name]
        if node.op != "add":
            continue
        total = {one.name: factors[0]}
        for name, weight in zip(node.inputs, (1, node.attrs["alpha"]), strict=True):
            total[name] = total.get(name, 0) + factors[1] * weight
        left = [name for name, weight in total.items() if weight]
        if (
            len(left) == 1 < len(total)
            and total[left[0]] == 1
            and (b.shapes[left[0]] == torch.broadcast_shapes(b.shape(x), b.shape(y)))
        ):
            return Ref(left[0])
    return None


def per_dimension(value: Any, dims: int) -> list[int]:
    """A size given once, or once a dimension, as one whole number a dimension."""
    if isinstance(value, tuple | list):
        return [int(v) for v in value] * (dims if len(value) == 1 else 1)
    return [int(value)] * dims


def image_dimensions(b: Builder, x: Ref, dim: Any) -> list[int]:
    """Dimensions to reduce over, as positive numbers; the batch must not be among them."""
    rank = len(b.shape(x)) + 1
    given = dim if isinstance(dim, tuple | list) else [] if dim is None else [dim]
    dims = [int(d) % rank for d in given]
    if not dims or 0 in dims:
        raise Unsupported("it reduces over the batch: name the image dimensions in dim")
    return dims


def pad(b: Builder, x: Ref, sides: list[int], mode: str = "constant", value: float = 0.0) -> Ref:
    """Padding as of `torch.nn.functional.pad`, under a name of its own."""
    shape = list(b.shape(x))
    for i in range(len(sides) // 2):
        shape[-1 - i] += sides[2 * i] + sides[2 * i + 1]
    return b.then("pad", x, name=".pad", shape=tuple(shape), pad=sides, mode=mode, value=value)


def reshaped(b: Builder, x: Ref, shape: tuple[int, ...], name: str = ".shape") -> Ref:
    """x as one image's ``shape``."""
    if b.shape(x) == shape:
        return x
    return b.then("reshape", x, name=name, shape=shape, to=list(shape))


def permuted(b: Builder, x: Ref, order: list[int], name: str = ".order") -> Ref:
    """x with its dimensions, the batch among them, in another order."""
    if order == sorted(order):
        return x
    shape = tuple(b.shape(x)[d - 1] for d in order[1:])
    return b.then("permute", x, name=name, shape=shape, dims=order)


def picked(b: Builder, x: Ref, dim: int, index: list[int]) -> Ref:
    """The entries ``index`` of dimension ``dim``; entries may come again, in any order."""
    shape = list(b.shape(x))
    if index == list(range(shape[dim - 1])):
        return x
    shape[dim - 1] = len(index)
    step = index[1] - index[0] if len(index) > 1 else 1
    if step > 0 and index == list(range(index[0], index[-1] + 1, step)):
        ends = {"start": index[0], "stop": index[-1] + 1, "step": step}
        return b.then("slice", x, shape=tuple(shape), dim=dim, **ends)
    return b.then("take", x, shape=tuple(shape), dim=dim, index=index)
