"""What a node of the graph can be: one table, `OPERATIONS`, with everything that is known of each.

A node has one of four kinds, and that kind says what a time step does with it:

========  =====================================================  ================================
kind      operations                                             what a time step does
========  =====================================================  ================================
weighted  linear, conv, conv_transpose                           apply; bias is a bias current
pass      averages, sums, concatenation, padding, shapes, scale  apply
max       max pooling                                            apply to the summed messages
spiking   relu (with or without an upper bound)                  a neuron of `snnlib.neurons`
========  =====================================================  ================================

Everything but *max* and *spiking* is affine, so running it on every step's messages gives the
right mean: an offset added once a step is a bias current. What simulation, costs, normalization,
quantization and NIR need to know of an operation are traits beside it. A new operation is one
decorated function (`operation`). Chapter *Converting a network*.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Kind = Literal["weighted", "pass", "max", "spiking"]
Function = Callable[..., Tensor]  # (node, *inputs of shape (B, ...)) → (B, ...)


@dataclass(frozen=True)
class Operation:
    """What there is to know of one ``Node.op``.

    Attributes:
        kind: what a time step does with it (see above).
        function: its value for a node and the values of the node's inputs, shapes (B, ...).
        view: the value may share memory with the input, so nobody may overwrite it.
        homogeneous: f(θ·x) = θ·f(x) for one number θ > 0, so a threshold can be taken past it.
        paths: the same with every connection of weight one and no offset, in float64: it counts
            the paths from inputs to outputs. Default: the function itself.
        units: what becomes of numbers that hold for a channel (`snnlib.graph.channels`):
            ``"moves"``: they go where the values go; ``"pools"``: they stay with the channel;
            ``"pads"``: new positions and channels are added; ``"reduces"``: dimensions ``dims`` are
            joined; ``""``: no general rule.
        nir: why NIR cannot say it; empty where it can.
    """

    kind: Kind
    function: Function
    view: bool = False
    homogeneous: bool = False
    paths: Function | None = None
    units: Literal["moves", "pools", "pads", "reduces", ""] = ""
    nir: str = ""


OPERATIONS: dict[str, Operation] = {}


@dataclass(frozen=True)
class Node:
    """One operation of a network."""

    name: str  # qualified name in the user's model (``features.3``), unique in the graph
    op: str  # one of `OPERATIONS`
    inputs: tuple[str, ...] = ()  # names of the nodes it reads
    attrs: Mapping[str, Any] = field(default_factory=dict)  # plain values that parametrize it
    # its weights, by role: ``weight``, ``bias``, ``scale``, ``shift``
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        return OPERATIONS[self.op].kind

    def with_tensors(self, function: Callable[[Tensor], Tensor]) -> Node:
        """The same node with ``function`` applied to every tensor."""
        return replace(self, tensors={k: function(v) for k, v in self.tensors.items()})


def operation(
    name: str, kind: Kind, *, replace: bool = False, **traits: Any
) -> Callable[[Function], Function]:
    """Enter a function into `OPERATIONS`; ``traits`` are the further fields of `Operation`.

    Raises:
        ValueError: there is one of that name already, and ``replace`` is not given.
    """
    if name in OPERATIONS and not replace:
        raise ValueError(f"there is an operation {name!r} already: pass replace=True to replace it")

    def register(function: Function) -> Function:
        OPERATIONS[name] = Operation(kind, function, **traits)
        return function

    return register


def apply(node: Node, inputs: list[Tensor]) -> Tensor:
    """Value of a weighted, pass or max node for the values of its inputs, shapes (B, ...)."""
    return OPERATIONS[node.op].function(node, *inputs)


def count_paths(node: Node, inputs: list[Tensor]) -> Tensor:
    """The node with every connection of weight one and no offset (`Operation.paths`)."""
    entry = OPERATIONS[node.op]
    return (entry.paths or entry.function)(node, *inputs)


def rectify(node: Node, z: Tensor, out: Tensor | None = None) -> Tensor:
    """ReLU of a spiking node, clipped at its bound where it has one (ReLU6: 6).

    With a ``step`` it is a quantizer, step · ⌊z/step + offset⌋, without offset halves go to even.
    """
    bound, step = node.attrs.get("bound"), node.attrs.get("step")
    if step is not None:
        offset = node.attrs.get("offset")
        count = torch.round(z / step) if offset is None else torch.floor(z / step + offset)
        z = count * step
    return torch.clamp(z, 0, bound, out=out)


@operation("input", "pass", view=True)
def _input(node: Node) -> Tensor:
    raise AssertionError("the input node has no operation")


@operation("relu", "spiking", view=True)
def _relu(node: Node, z: Tensor) -> Tensor:
    return rectify(node, z)


# weighted layers


def _all_ones(node: Node, x: Tensor) -> Tensor:
    """A weighted node with weights of one and no bias; as many synapses as weights."""
    ones = {"weight": torch.ones_like(node.tensors["weight"], dtype=x.dtype, device=x.device)}
    return apply(replace(node, tensors=ones), [x])


@operation("linear", "weighted", paths=_all_ones)
def _linear(node: Node, x: Tensor) -> Tensor:
    return F.linear(x, node.tensors["weight"], node.tensors.get("bias"))


@operation("conv", "weighted", paths=_all_ones)
def _conv(node: Node, x: Tensor) -> Tensor:
    weight, a = node.tensors["weight"], node.attrs
    function = (F.conv1d, F.conv2d, F.conv3d)[weight.dim() - 3]
    return function(
        x, weight, node.tensors.get("bias"), a["stride"], a["padding"], a["dilation"], a["groups"]
    )


@operation(
    "conv_transpose", "weighted", paths=_all_ones,
    nir="NIR has no transposed convolution: use convolutions only",
)  # fmt: skip
def _conv_transpose(node: Node, x: Tensor) -> Tensor:
    weight, a = node.tensors["weight"], node.attrs
    function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[weight.dim() - 3]
    return function(
        x, weight, node.tensors.get("bias"), a["stride"], a["padding"], a["output_padding"],
        a["groups"], a["dilation"],
    )  # fmt: skip


# scales and sums


def _affine_paths(node: Node, x: Tensor) -> Tensor:
    shapes = [value.shape for value in node.tensors.values()]
    return x.expand(len(x), *torch.broadcast_shapes(x.shape[1:], *shapes))


@operation("affine", "pass", view=True, paths=_affine_paths)
def _affine(node: Node, x: Tensor) -> Tensor:
    """x · scale + shift, each broadcastable to one image."""
    scale, shift = node.tensors.get("scale"), node.tensors.get("shift")
    value = x if scale is None else x * scale
    return value if shift is None else value + shift


@operation("add", "pass", paths=lambda node, x, y: x + y)
def _add(node: Node, x: Tensor, y: Tensor) -> Tensor:
    return torch.add(x, y, alpha=node.attrs.get("alpha", 1))


@operation(
    "cat", "pass", units="moves",
    nir="NIR has no concatenation: join the activations by a sum instead",
)  # fmt: skip
def _cat(node: Node, *inputs: Tensor) -> Tensor:
    return torch.cat(inputs, node.attrs["dim"])


# averages


def _avg_pool_paths(node: Node, x: Tensor) -> Tensor:
    size = node.attrs["kernel_size"]
    if len(size) == 1:  # has no divisor_override
        x, size = x.unsqueeze(-1), [*size, 1]
        wide = {key: [*node.attrs[key], fill] for key, fill in (("stride", 1), ("padding", 0))}
        return count_paths(
            replace(node, attrs={**node.attrs, **wide, "kernel_size": size}), [x]
        ).squeeze(-1)
    return apply(replace(node, attrs={**node.attrs, "divisor_override": 1}), [x])


@operation("avg_pool", "pass", homogeneous=True, paths=_avg_pool_paths, units="pools")
def _avg_pool(node: Node, x: Tensor) -> Tensor:
    a, dims = node.attrs, len(node.attrs["kernel_size"])
    function: Function = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[dims - 1]
    return function(
        x, a["kernel_size"], a["stride"], a["padding"], a["ceil_mode"], a["count_include_pad"],
        *((a.get("divisor_override"),) if dims > 1 else ()),
    )  # fmt: skip


def _adaptive_avg_pool_paths(node: Node, x: Tensor) -> Tensor:
    sizes = torch.ones((), dtype=x.dtype, device=x.device)  # inputs that each output averages
    for n, m in zip(x.shape[2:], node.attrs["output_size"], strict=True):
        side = [math.ceil((i + 1) * n / m) - i * n // m for i in range(m)]
        sizes = sizes[..., None] * torch.tensor(side, dtype=x.dtype, device=x.device)
    return apply(node, [x]) * sizes


def _adaptive(node: Node, x: Tensor) -> Tensor:
    size = node.attrs["output_size"]
    pool: Function = getattr(F, f"{node.op}{len(size)}d")
    return pool(x, size)


operation(
    "adaptive_avg_pool", "pass", homogeneous=True, paths=_adaptive_avg_pool_paths, units="pools"
)(_adaptive)


def _sum(node: Node, x: Tensor) -> Tensor:
    return x.sum(node.attrs["dims"], keepdim=node.attrs["keepdim"])


@operation("mean", "pass", homogeneous=True, paths=_sum, units="reduces")
def _mean(node: Node, x: Tensor) -> Tensor:
    return x.mean(node.attrs["dims"], keepdim=node.attrs["keepdim"])


operation(
    "sum", "pass", homogeneous=True, units="reduces",
    nir="NIR has no sum over dimensions: use average pooling",
)(_sum)  # fmt: skip


# maxima
_NO_MAXIMUM = "NIR has no maximum: train with average pooling"


@operation("max_pool", "max", homogeneous=True, units="pools", nir=_NO_MAXIMUM)
def _max_pool(node: Node, x: Tensor) -> Tensor:
    a = node.attrs
    function = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(a["kernel_size"]) - 1]
    return function(
        x, a["kernel_size"], a["stride"], a["padding"], a["dilation"], ceil_mode=a["ceil_mode"]
    )


operation("adaptive_max_pool", "max", homogeneous=True, units="pools", nir=_NO_MAXIMUM)(_adaptive)


@operation("amax", "max", homogeneous=True, units="reduces", nir=_NO_MAXIMUM)
def _amax(node: Node, x: Tensor) -> Tensor:
    return x.amax(node.attrs["dims"], keepdim=node.attrs["keepdim"])


# shapes: where a message goes


@operation("reshape", "pass", view=True, homogeneous=True, units="moves")
def _reshape(node: Node, x: Tensor) -> Tensor:
    return x.reshape(x.shape[0], *node.attrs["to"])


@operation(
    "permute", "pass", view=True, homogeneous=True, units="moves",
    nir="NIR cannot reorder dimensions",
)  # fmt: skip
def _permute(node: Node, x: Tensor) -> Tensor:
    return x.permute(node.attrs["dims"])


@operation(
    "slice", "pass", view=True, homogeneous=True, units="moves",
    nir="NIR cannot take a part of an activation",
)  # fmt: skip
def _slice(node: Node, x: Tensor) -> Tensor:
    a = node.attrs
    return x[(slice(None),) * a["dim"] + (slice(a["start"], a["stop"], a["step"]),)]


@operation(
    "upsample", "pass", homogeneous=True, units="moves",
    nir="NIR has no upsampling: keep or lower the resolution",
)  # fmt: skip
def _upsample(node: Node, x: Tensor) -> Tensor:
    a = node.attrs
    return F.interpolate(x, a.get("size"), a.get("scale_factor"), a["mode"])


def _pad_paths(node: Node, x: Tensor) -> Tensor:
    return apply(replace(node, attrs={**node.attrs, "value": 0.0}), [x])


@operation(
    "pad", "pass", view=True, paths=_pad_paths, units="pads",
    nir="NIR pads with zeros inside a convolution only: use padding= and padding_mode='zeros'",
)  # fmt: skip
def _pad(node: Node, x: Tensor) -> Tensor:
    mode = node.attrs["mode"]
    value = {"value": node.attrs["value"]} if mode == "constant" else {}
    return F.pad(x, node.attrs["pad"], mode, **value)


@operation(
    "take", "pass", homogeneous=True, units="moves",
    nir="NIR cannot reorder or repeat the entries of an activation",
)  # fmt: skip
def _take(node: Node, x: Tensor) -> Tensor:
    """The entries ``index`` of dimension ``dim``, in any order, some maybe several times."""
    return x.index_select(node.attrs["dim"], torch.tensor(node.attrs["index"], device=x.device))
