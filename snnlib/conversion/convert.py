"""`convert`: a trained ReLU network becomes a spiking network.

Trace and fold (`snnlib.trace`), check that the graph computes what the model computes, measure one
threshold a layer (`snnlib.balance`), put spiking neurons where the ReLUs were. Chapters
*Converting a network* and *Threshold balancing*.
"""

from __future__ import annotations

import copy
import warnings

import torch
from torch import Tensor, nn

from snnlib.conversion.balance import Balance, Percentile, firing_thresholds
from snnlib.conversion.calibrate import calibrate_bias as correct_bias
from snnlib.conversion.trace import trace
from snnlib.graph.check import check_whole, graph_error
from snnlib.graph.errors import ConversionError
from snnlib.neurons import Augmented, Neuron
from snnlib.simulation.network import SpikingNetwork


def convert(
    model: nn.Module,
    calibration: Tensor,
    neuron: Neuron | None = None,
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
            trained on. A few hundred to a thousand will do.
        neuron: `IF`, `Ternary` or `Augmented` (default: ``Augmented(levels=4)``).
        balance: `Max`, `Percentile` (default: 99.9) or `MinError`.
        per_channel: one threshold a channel instead of one a layer.
        batch: calibration images a pass holds at a time.
        calibrate_bias: correct each layer's mean conversion error by a bias current, measured
            on the calibration images (`snnlib.calibrate`).
        calibration_steps: the number of steps you plan to run; the correction is for that.

    Returns:
        The spiking network; ``net(x, steps)`` simulates it.

    Raises:
        ValueError: batch or calibration_steps is not a whole number of at least 1.
        ConversionError: the model holds something that does not convert (all of it is listed, by
            name, with the way out), is in training mode, has no ReLU or holds NaN; or the
            calibration images do not fit the model.

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
    _check_arguments(model, calibration, neuron, balance)
    check_whole("batch", batch)
    check_whole("calibration_steps", calibration_steps)
    graph = trace(model, calibration[:2])
    if not graph.spiking:
        raise ConversionError(
            f"{type(model).__name__} has no ReLU, so nothing in it could spike: train it with "
            "nn.ReLU after its hidden layers"
        )
    reference = copy.deepcopy(model)
    graph_error(graph, reference, calibration[:8])
    balanced, dead = firing_thresholds(graph, calibration, balance, per_channel, batch)
    for name in dead:
        warnings.warn(
            f"layer {name} never fires on the {len(calibration)} calibration images; its "
            "threshold is set to 1. Is the layer dead, or are these the wrong images?",
            stacklevel=2,
        )
    wide = torch.float64 if calibration.dtype == torch.float64 else torch.float32
    balanced = {name: value.to(wide) for name, value in balanced.items()}
    report = {
        "balance": repr(balance),
        "per_channel": per_channel,
        "images": len(calibration),
        "dtype": str(calibration.dtype).removeprefix("torch."),
    }
    net = SpikingNetwork(graph, neuron, balanced, reference, report)
    if calibrate_bias:
        return correct_bias(net, calibration, calibration_steps, batch)
    return net


def _check_arguments(model: nn.Module, images: Tensor, neuron: Neuron, balance: Balance) -> None:
    if not isinstance(model, nn.Module):
        raise ConversionError(f"model must be a torch.nn.Module, not {type(model).__name__}")
    if not isinstance(neuron, Neuron):
        raise ConversionError(
            f"neuron={neuron!r}: pass an object such as snnlib.Augmented(levels=4)"
        )
    if not isinstance(balance, Balance):
        raise ConversionError(
            f"balance={balance!r}: pass an object such as snnlib.Percentile(99.9)"
        )
    if not isinstance(images, Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise ConversionError(
            f"calibration is {kind}: pass floating-point images as the model was trained on "
            "(snnlib.data.to_float makes them from uint8)"
        )
    if images.dim() < 2 or images.numel() == 0:
        raise ConversionError(
            f"calibration has shape {tuple(images.shape)}: pass a batch (N, ...) of N ≥ 1 images"
        )
    _check_model(model, images)
    if not bool(images.isfinite().all()):
        raise ConversionError("the calibration images hold NaN or infinite values")


def _check_model(model: nn.Module, images: Tensor) -> None:
    kind = type(model).__name__
    if model.training:
        raise ConversionError(
            f"{kind} is in training mode, where batch norm and dropout depend on the batch: call "
            "model.eval() first"
        )
    if training := [name for name, module in model.named_modules() if module.training]:
        raise ConversionError(
            f"{training[0]} of {kind} is in training mode, the model itself is not: call "
            "model.eval() again"
        )
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if nn.parameter.is_lazy(tensor):
            raise ConversionError(f"{name} has no values yet: run and train the lazy model first")
        if not tensor.is_floating_point():
            continue
        if tensor.device != images.device:
            raise ConversionError(
                f"calibration is on {images.device}, {name} on {tensor.device}: move one of them "
                "with .to(...)"
            )
        if tensor.dtype != images.dtype:
            raise ConversionError(
                f"calibration is {images.dtype}, {name} is {tensor.dtype}: convert one of them "
                "with .to(...)"
            )
        if not bool(tensor.isfinite().all()):
            raise ConversionError(
                f"{name} holds NaN or infinite values: did training diverge? Load an earlier "
                "checkpoint"
            )
