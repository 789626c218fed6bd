"""When images leave, read from full runs: curves over thresholds, and how true confidence is.

Used by ``seenn``, whose head says what a curve and a reading are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor

from snnlib.recurrent import exits
from snnlib.simulation.early_exit import Decision

THRESHOLDS = (
    *(0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98),
    *(0.985, 0.99, 0.993, 0.995, 0.997, 0.998, 0.999, 0.9995, 0.9999, 1.0),
)
TOLERANCE = 0.001
RELIABLE_STEPS, BINS = (1, 2, 4, 8), 10


class Curve(TypedDict):
    """A sweep: of SEENN-I over thresholds, of SEENN-II over prices β."""

    score: str  # or "policy"
    reading: str  # what sums are divided by, one of `READINGS`; of a policy "price"
    scale: list[float]  # the same as a number for each step; of a policy empty
    thresholds: list[float]
    accuracy: list[float]
    mean_steps: list[float]
    by_step: list[list[int]]  # images answered after 1, 2, … steps
    right_by_step: list[list[int]]  # those of them that are answered rightly
    validation_accuracy: list[float]
    validation_steps: list[float]
    chosen: int | None  # which threshold


class Reliability(TypedDict):
    """Confidence beside the share of right answers: test images in bins of equal width."""

    reading: str
    step: int
    images: list[int]
    confidence: list[float]  # mean of each bin; 0 where it is empty
    right: list[float]  # share


class Seen(NamedTuple):
    """Summed logits after every step (T, N, C), and labels (N,)."""

    summed: Tensor
    labels: Tensor

    def accuracies(self) -> list[float]:
        """Of all images after each step."""
        found: list[float] = (self.summed.argmax(-1) == self.labels).double().mean(1).tolist()
        return found


# What the sums are divided by at each step: from the sums and labels of validation images.
READINGS: dict[str, Callable[[Seen], list[float]]] = {
    "sum": lambda seen: [1.0] * len(seen.summed),
    "sum / T": lambda seen: [float(len(seen.summed))] * len(seen.summed),
    "mean": lambda seen: [float(t) for t in range(1, len(seen.summed) + 1)],
    "temperature": lambda seen: exits.temperatures(seen.summed, seen.labels),
}


def sweep(held: Seen, seen: Seen, target: float) -> list[Curve]:
    """All curves of SEENN-I: validation images, test images, the ANN on validation images."""
    found: list[Curve] = []
    for score in exits.SCORES:
        for reading, scales in READINGS.items():
            scale = scales(held)
            by = torch.tensor(scale, dtype=torch.float64)[:, None, None]
            pairs = [
                [exits.first_exit(s.summed / by, c, score) for c in THRESHOLDS]
                for s in (held, seen)
            ]
            found.append(
                curve(score, reading, scale, list(THRESHOLDS), pairs, (held, seen), target)
            )
    return found


def curve(
    score: str, reading: str, scale: list[float], thresholds: list[float],
    decisions: list[list[Decision]], images: tuple[Seen, Seen], target: float,
) -> Curve:  # fmt: skip
    """A sweep from its decisions on validation and on test images, with what is chosen."""
    held, seen = images
    there, here = decisions
    right = [d.prediction == seen.labels for d in here]
    most = len(seen.summed)
    found: Curve = {
        "score": score,
        "reading": reading,
        "scale": scale,
        "thresholds": thresholds,
        "accuracy": [mean(good) for good in right],
        "mean_steps": [mean(d.step) for d in here],
        "by_step": [counts(d.step, most) for d in here],
        "right_by_step": [counts(d.step[g], most) for d, g in zip(here, right, strict=True)],
        "validation_accuracy": [mean(d.prediction == held.labels) for d in there],
        "validation_steps": [mean(d.step) for d in there],
        "chosen": None,
    }
    good = [
        (steps, place)
        for place, (steps, accuracy) in enumerate(
            zip(found["validation_steps"], found["validation_accuracy"], strict=True)
        )
        if accuracy >= target - TOLERANCE - 1e-9
    ]
    if good:
        found["chosen"] = min(good)[1]
    return found


def best_of(curves: list[Curve]) -> int | None:
    """The curve whose choice takes the fewest steps on validation images."""
    found = [
        (curve["validation_steps"][curve["chosen"]], place)
        for place, curve in enumerate(curves)
        if curve["chosen"] is not None
    ]
    return min(found)[1] if found else None


def reliability(held: Seen, seen: Seen) -> list[Reliability]:
    """How often an answer of some confidence is right, at a few steps, for each reading."""
    found: list[Reliability] = []
    for reading, scales in READINGS.items():
        scale = scales(held)
        for step in (t for t in RELIABLE_STEPS if t <= len(seen.summed)):
            z = seen.summed[step - 1].double() / scale[step - 1]
            sure, right = exits.confidence(z), (z.argmax(-1) == seen.labels).double()
            bins = (sure * BINS).long().clamp(max=BINS - 1)
            images = torch.bincount(bins, minlength=BINS)
            shares = [
                (torch.bincount(bins, values, minlength=BINS) / images.clamp(min=1)).tolist()
                for values in (sure, right)
            ]
            found.append(
                {
                    "reading": reading, "step": step, "images": images.tolist(),
                    "confidence": shares[0], "right": shares[1],
                }
            )  # fmt: skip
    return found


def mean(values: Tensor) -> float:
    return float(values.double().mean())


def counts(steps: Tensor, most: int) -> list[int]:
    found: list[int] = torch.bincount(steps, minlength=most + 1)[1:].tolist()
    return found
