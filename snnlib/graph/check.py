"""Does the graph compute what the model computes? The question every conversion starts with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snnlib.graph.errors import ConversionError
from snnlib.graph.graph import Graph

_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.02}


def graph_error(
    graph: Graph, model: nn.Module, images: Tensor, folded: torch.dtype | None = None,
    batch: int | None = None,
) -> float:  # fmt: skip
    """Largest difference between graph and model on some images, relative to the largest logit.

    Args:
        graph: the traced and folded network.
        model: the original.
        images: shape (B, ...), in the dtype of both.
        folded: narrowest dtype that the graph's weights have been in, if it was another: rounding
            is judged by it.
        batch: images looked at together; default: all.

    Where the model itself quantizes, half of the images decide: rounding that differs in the last
    bit can tip a value to the next step of a quantizer, but not in most of the images.

    Raises:
        ConversionError: it is more than rounding, so the graph is not the model.
    """
    parts = images.split(batch or len(images))
    with torch.no_grad():
        ours = torch.cat([graph.evaluate(part) for part in parts])
        theirs = torch.cat([_given(model, part) for part in parts])
    check_finite(theirs, type(model).__name__)
    if graph.head:
        ours = ours.softmax(1) if graph.head == "softmax" else ours.log_softmax(1)
    theirs = theirs.double()  # in which the least that is divided by is not 0
    errors = (ours - theirs).abs().flatten(1).amax(1) / theirs.abs().max().clamp_min(1e-30)
    quantized = any("step" in node.attrs for node in graph)
    error = float(errors.median() if quantized else errors.max())
    tolerance = max(_TOLERANCE.get(dtype, 1e-3) for dtype in (images.dtype, folded or images.dtype))
    if not error <= tolerance:
        raise ConversionError(
            f"the traced graph does not compute what {type(model).__name__} computes (relative "
            f"error {error:.2g}): something in its forward is hidden from the trace, such as a "
            "tensor changed in place through a view of it, or a choice that depends on the images"
        )
    return error


def _given(model: nn.Module, images: Tensor) -> Tensor:
    """The model's logits."""
    try:
        found: Tensor = model(images.clone())
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, ValueError) as why:
        raise ConversionError(
            f"{type(model).__name__} fails on a batch of {len(images)} images of {images.dtype}: "
            f"{why}. It has to take batches of every size, in the dtype it was trained in"
        ) from None
    return found


def check_finite(logits: Tensor, model: str) -> None:
    """Raise ConversionError if a model's logits, shape (B, ...), are not all numbers."""
    if not bool(logits.isfinite().all()):
        raise ConversionError(
            f"{model} gives NaN or infinite logits on these images: are they scaled as the images "
            "it was trained on?"
        )
