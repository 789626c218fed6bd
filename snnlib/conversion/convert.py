"""`convert`: a trained ReLU network becomes a spiking network.

Trace and fold (`snnlib.conversion.trace`), check that the graph computes what the model computes,
measure one threshold a layer (`snnlib.conversion.balance`), put spiking neurons where the ReLUs
were. Chapters *Converting a network* and *Threshold balancing*.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from snnlib._arguments import flag, whole
from snnlib._compatibility import by_name_after
from snnlib.backend.copies import copied
from snnlib.backend.modes import own_mode
from snnlib.conversion.balance import Balance, Percentile, firing_thresholds
from snnlib.conversion.calibrate import calibrate_bias as correct_bias
from snnlib.conversion.trace import traced
from snnlib.graph.check import graph_error
from snnlib.graph.errors import ConversionError
from snnlib.graph.operations import Node
from snnlib.neurons import Augmented, Neuron
from snnlib.simulation.network import SpikingNetwork

_MOST = 1000  # images taken from a data loader: more would not move the thresholds
_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


@by_name_after(3)
def convert(
    model: nn.Module,
    calibration: Tensor | Iterable[Any],
    neuron: Neuron | Mapping[str, Neuron] | None = None,
    *,
    balance: Balance | None = None,
    per_channel: bool = False,
    batch: int = 100,
    calibrate_bias: bool = False,
    calibration_steps: int = 8,
) -> SpikingNetwork:
    """Convert a trained ReLU network into a spiking network.

    Args:
        model: the trained network, in evaluation mode; it is copied, never modified.
        calibration: images from the training set, shape (N, ...), in the units the model was
            trained on. A few hundred to a thousand will do. Of a data loader or data set, of
            images or of (images, labels), the first 1,000 images are taken.
        neuron: `IF`, `Ternary` or `Augmented` (default: ``Augmented(levels=4)``), one of your own,
            or one for each ReLU by name.
        balance: `Max`, `Percentile` (default: 99.9) or `MinError`.
        per_channel: one threshold a channel instead of one a layer.
        batch: calibration images a thread holds at a time.
        calibrate_bias: correct each layer's mean conversion error by a bias current, measured
            on the calibration images (`snnlib.conversion.calibrate`).
        calibration_steps: the number of steps you plan to run; the correction is for that.

    Returns:
        The spiking network; ``net(x, steps)`` simulates it.

    Raises:
        ValueError: batch or calibration_steps is not a whole number of at least 1, per_channel or
            calibrate_bias neither True nor False.
        ConversionError: the model holds something that does not convert (all of it is listed, by
            name, with the way out, and in the error's ``problems``), is in training mode, has no
            ReLU or holds NaN; or the calibration images do not fit the model.

    Source: Diehl et al., 2015 (threshold balancing); Yu et al., TNNLS 2022 (TerMapping,
    AugMapping). Chapters *Converting a network*, *Threshold balancing*.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> _ = torch.manual_seed(0)
        >>> ann = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
        >>> net = convert(ann, calibration=torch.rand(100, 4))
        >>> net(torch.rand(5, 4), steps=8).logits.shape
        torch.Size([8, 5, 3])
    """
    neuron = Augmented(levels=4) if neuron is None else neuron
    balance = Percentile(99.9) if balance is None else balance
    per_channel = flag("per_channel", per_channel)
    calibrate_bias = flag("calibrate_bias", calibrate_bias)
    batch, steps = whole("batch", batch), whole("calibration_steps", calibration_steps)
    _check_objects(model, neuron, balance)
    weight = next(model.parameters(), None)
    with own_mode("cpu" if weight is None else weight.device):
        images = _images(model, calibration)
        net, dead = _converted(model, images, neuron, balance, per_channel, batch)
        if calibrate_bias:
            net = correct_bias(net, images, steps, batch)
    for name in dead:
        warnings.warn(
            f"layer {name} never fires on the {len(images)} calibration images, which say nothing "
            "of its threshold. Is the layer dead, or are these the wrong images?",
            stacklevel=3,
        )
    return net


def _converted(
    model: nn.Module, images: Tensor, neuron: Neuron | Mapping[str, Neuron], balance: Balance,
    per_channel: bool, batch: int,
) -> tuple[SpikingNetwork, list[str]]:  # fmt: skip
    """The spiking network, and its layers that never fire on the images."""
    graph, narrow = traced(model, images[:2])
    graph_error(graph, copied(model), images[:8], narrow)  # a model may count what it sees
    reference = copied(model)
    if not graph.spiking:
        raise ConversionError(
            f"{type(model).__name__} has no ReLU, so nothing in it could spike: train it with "
            "nn.ReLU after its hidden layers"
        )
    measured, dead = firing_thresholds(graph, images, balance, per_channel, batch)
    wide = torch.float64 if images.dtype == torch.float64 else torch.float32
    balanced = {name: _trained(graph.nodes[name], v).to(wide) for name, v in measured.items()}
    report = {
        "balance": repr(balance),
        "per_channel": per_channel,
        "images": len(images),
        "dtype": str(narrow or images.dtype).removeprefix("torch."),
    }
    return SpikingNetwork(graph, neuron, balanced, reference, report), dead


def _trained(node: Node, measured: Tensor) -> Tensor:
    """λ of a layer: as measured, but where training quantized and clipped it, its clip value."""
    quantized = "step" in node.attrs and "bound" in node.attrs
    return torch.full_like(measured, node.attrs["bound"]) if quantized else measured


def _check_objects(model: Any, neuron: Any, balance: Any) -> None:
    if not isinstance(model, nn.Module):
        raise ConversionError(f"model must be a torch.nn.Module, not {type(model).__name__}")
    for text, right, example in (
        (f"neuron={neuron!r}", isinstance(neuron, Neuron | Mapping), "Augmented(levels=4)"),
        (f"balance={balance!r}", isinstance(balance, Balance), "Percentile(99.9)"),
    ):
        if not right:
            raise ConversionError(f"{text}: pass an object such as snnlib.{example}")


def _images(model: nn.Module, calibration: Any) -> Tensor:
    """The calibration images, checked against the model."""
    images = calibration
    if not isinstance(calibration, Tensor) and isinstance(calibration, Iterable | Dataset):
        images, like = _gathered(calibration), next(model.parameters(), None)
        if isinstance(images, Tensor) and like is not None:
            images = images.to(like.device)
    if not isinstance(images, Tensor) or images.dtype not in _DTYPES:
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise ConversionError(
            f"calibration is {kind}: pass floating-point images as the model was trained on "
            "(snnlib.data.to_float makes them from uint8)"
        )
    if images.layout != torch.strided or images.is_nested or images.device.type == "meta":
        kind = "nested" if images.is_nested else str(images.layout)
        kind = "on meta, without values" if images.device.type == "meta" else kind
        raise ConversionError(f"calibration is {kind}: pass an ordinary tensor (.to_dense())")
    if images.dim() < 2 or images.numel() == 0:
        raise ConversionError(
            f"calibration has shape {tuple(images.shape)}: pass a batch (N, ...) of N ≥ 1 images"
        )
    _check_model(model, images)
    if not bool(images.isfinite().all()):
        raise ConversionError("the calibration images hold NaN or infinite values")
    return images


def _gathered(source: Any) -> Any:
    """The first images of a data loader, a data set or another iterable of images."""
    single = isinstance(source, Dataset)
    if isinstance(source, str | bytes | dict) or hasattr(source, "__array__"):
        return source
    if single and hasattr(source, "__len__"):  # whose end no IndexError need tell
        source = islice(source, min(len(source), _MOST))
    found: list[Tensor] = []
    for item in source:
        images = item[0] if isinstance(item, tuple | list) and item else item
        if not isinstance(images, Tensor):
            raise ConversionError(
                f"calibration gives {type(images).__name__}: it must give tensors of images, or "
                "tuples that begin with one"
            )
        found.append(images[None] if single else images)
        if len({part.shape[1:] for part in found}) > 1 or found[0].dim() == 0:
            shapes = " and ".join(str(tuple(part.shape)) for part in (found[0], found[-1]))
            raise ConversionError(f"calibration gives images of shapes {shapes}: give all one size")
        if sum(map(len, found)) >= _MOST:
            break
    if not found:
        raise ConversionError("calibration gives no images: pass N ≥ 1 of them")
    try:
        return torch.cat(found)[:_MOST]
    except RuntimeError as error:  # sparse or nested ones, or some on another device
        raise ConversionError(f"calibration gives images that cannot be joined: {error}") from None


def _check_model(model: nn.Module, images: Tensor) -> None:
    kind = type(model).__name__
    modules = model.named_modules()  # frozen TorchScript is in no mode
    if training := [name for name, module in modules if getattr(module, "training", False)]:
        what = f"{training[0]} of {kind}" if training[0] else kind
        raise ConversionError(
            f"{what} is in training mode, where batch norm and dropout depend on the batch: call "
            "model.eval() first. If images went through it like that, load its weights again: "
            "batch norm has changed its running statistics"
        )
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if nn.parameter.is_lazy(tensor):
            raise ConversionError(f"{name} has no values yet: run and train the lazy model first")
        if not tensor.is_floating_point():
            continue
        if tensor.layout != torch.strided:
            raise ConversionError(f"{name} is {tensor.layout}: make it dense (.to_dense()) first")
        for ours, theirs in ((images.device, tensor.device), (images.dtype, tensor.dtype)):
            if ours != theirs:
                raise ConversionError(
                    f"calibration is {ours}, {name} is {theirs}: convert one with .to(...)"
                )
        if not bool(tensor.isfinite().all()):
            raise ConversionError(
                f"{name} holds NaN or infinite values: did training diverge? Load an earlier "
                "checkpoint"
            )
