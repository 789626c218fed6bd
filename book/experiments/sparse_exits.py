"""Early answers of a sparse network: an image leaves as soon as it is sure, in events an answer.

A second step of constant input sends what the first one rounded away. With a confidence, only the
images that are unsure after one step pay for it (chapter *Early exit*).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from book.experiments.frame import Labeled
from book.experiments.setting import Subject
from snnlib.learning.sparsity import Sparse
from snnlib.simulation.early_exit import first_sure
from snnlib.zoo.data import Split

STEPS, PART = 3, 50
CONFIDENCES = (0.5, 0.7, 0.9, 0.95, 0.99, 0.999, 1.0)
VALIDATION, TEST = 2000, 2000  # images at most
LOSS = 0.0005  # accuracy that the chosen confidence may cost on validation images


class Exit(Labeled):
    """One confidence, on test images; it is chosen on validation images."""

    levels: int
    confidence: float
    chosen: bool
    accuracy: float
    dense_accuracy: float
    mean_steps: float
    events_per_neuron: float  # an answer
    one_step: float  # events a neuron of the first step


def exits(model: Sparse, label: str, subject: Subject) -> list[Exit]:
    """The sweep over confidences; with 1 all images take all steps, unless they round to sure.

    Args:
        model: in evaluation mode.
        label: as tables call it.
        subject: the network that it was made from.
    """
    validation, test = subject.validation[:VALIDATION], subject.test[:TEST]
    chosen = _choose(*_observe(model, validation, subject)[:2], validation.labels)
    confidence, answers, events = _observe(model, test, subject)
    with torch.no_grad():
        parts = [subject.ann(test[k : k + PART].floats().to(subject.device)).argmax(1).cpu()
                 for k in range(0, len(test), PART)]  # fmt: skip
    dense = float((torch.cat(parts) == test.labels).double().mean())
    rows: list[Exit] = []
    for bar in CONFIDENCES:
        step, answer = first_sure(confidence >= bar, answers)
        taken = torch.arange(1, STEPS + 1)[:, None] <= step  # (T, n)
        rows.append(
            {
                "model": subject.name,
                "label": label,
                "n": len(test),
                "levels": model.neuron.levels,
                "confidence": bar,
                "chosen": bar == chosen,
                "accuracy": float((answer == test.labels).double().mean()),
                "dense_accuracy": dense,
                "mean_steps": float(step.double().mean()),
                "events_per_neuron": float((events * taken).sum(0).mean()),
                "one_step": float(events[0].mean()),
            }
        )
    return rows


def _observe(model: Sparse, split: Split, subject: Subject) -> tuple[Tensor, Tensor, Tensor]:
    """Confidence, answers, and events a neuron of every step, shapes (T, n)."""
    net = model.spiking(subject.calibration[:8])
    neurons = sum(net.sizes.values())
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    for start in range(0, len(split), PART):
        x = split[start : start + PART].floats().to(net.device)
        run = net(x, STEPS, record=tuple(net.graph.spiking))
        sent = [
            cast(Tensor, trace.coefficient).ne(0).flatten(2).sum(2) for trace in run.trace.values()
        ]
        share = torch.stack(sent).sum(0).double() / neurons
        sure = run.logits.softmax(-1).amax(-1)
        found.append((sure.cpu(), run.predictions.cpu(), share.cpu()))
    confidence, answers, events = (torch.cat(each, 1) for each in zip(*found, strict=True))
    return confidence, answers, events


def _choose(confidence: Tensor, answers: Tensor, labels: Tensor) -> float:
    """The smallest confidence that costs no more than `LOSS` of the best step's accuracy."""
    whole = float((answers == labels).double().mean(1).max())
    for bar in CONFIDENCES[:-1]:
        right = first_sure(confidence >= bar, answers).prediction == labels
        if float(right.double().mean()) >= whole - LOSS - 1e-9:
            return bar
    return CONFIDENCES[-1]
