"""Evaluation of another code over a data set, in the form of `snnlib.zoo.evaluate`.

A code answers once an image (`Radix`, `FirstSpike`) or once a frame of a sequence made from it
(`Delta`), and `report` says what that cost with the fields of ``snnlib evaluate --json``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple, NotRequired, TypedDict, cast

import torch
from torch import Tensor
from tqdm import tqdm

from snnlib.codes import Coded, Delta, FirstSpike, Radix, moving
from snnlib.conversion.balance import Balance
from snnlib.simulation.coding import Constant
from snnlib.zoo.data import Split
from snnlib.zoo.evaluate import Evaluation, Measured, check_classes
from snnlib.zoo.evaluate import report as plain_report

NAMES = ("radix", "first-spike", "delta")
Code = Radix | FirstSpike | Delta
_PART = 250  # images held as floating point at a time


class Sequence(NamedTuple):
    """How an image becomes frames, for `Delta` (`snnlib.codes.moving`)."""

    frames: int = 8
    every: int = 1  # frames that the picture stands still


class Own(TypedDict):
    """What a code adds to a report; None: the code has no such thing."""

    code: str
    bits: int | None  # an activation is rounded to 2^bits levels
    radix: int | None
    slots: int | None  # None for a first spike: its time is analog
    overlap: int | None
    frames: int | None
    latency_steps: int  # from the image to the answer; windows where times are analog
    interval_steps: int  # after which the next image may enter
    bits_per_neuron: list[float] | None  # entropy of the messages so far
    clipped_per_image: float  # messages that could not hold their value
    anew_events_per_image: list[float] | None  # sending every frame anew
    anew_synops_per_image: list[float] | None
    anew_energy_nj_per_image: list[float] | None


class CodedReport(Measured, Own):
    """The fields of `snnlib.zoo.evaluate.Report`, and the code's own; an entry an answer."""

    accuracy: list[float]
    agreement: list[float]  # answered as the ANN does
    device: str
    hardware: str
    versions: dict[str, str]
    images_from: NotRequired[str]  # these two: added by ``snnlib evaluate``
    calibration_from: NotRequired[str]


def evaluate(
    code: Code,
    ann: Callable[[Tensor], Tensor],
    split: Split,
    sequence: Sequence | None = None,
    progress: bool = False,
) -> tuple[Evaluation, Coded]:
    """Run a code and the ANN over a split.

    Args:
        code: a network that sends in another code.
        ann: the network it was converted from; in float32.
        split: images and labels.
        sequence: how images become frames, for `Delta`.
        progress: show a progress bar on stderr.

    Returns:
        Accuracies and costs, one entry an answer; and what was sent, all images together.

    Raises:
        ConversionError, ValueError: as for calling the code; an empty split; or its classes are not
            the network's.
    """
    if len(split) == 0:
        raise ValueError("the split holds no image: nothing to evaluate")
    check_classes(code.net, split)
    runs, answers, seconds = [], [], 0.0
    with tqdm(total=len(split), unit="image", disable=not progress, mininterval=0.5) as bar:
        for start in range(0, len(split), _PART):
            x = split[start : start + _PART].floats().to(code.net.device)
            with torch.no_grad():
                answers.append(ann(x).argmax(1).cpu())
            began = time.perf_counter()
            runs.append(_run(code, x, sequence or Sequence(), start))
            seconds += time.perf_counter() - began
            bar.update(len(x))
    run, ann_answers = Coded.join(runs), torch.cat(answers)
    found = run.predictions.cpu()
    right, same = found == split.labels, found == ann_answers
    evaluation = Evaluation(
        n=len(split), ann_accuracy=float((ann_answers == split.labels).double().mean()),
        accuracy=right.double().mean(1).tolist(), agreement=same.double().mean(1).tolist(),
        events=run.events.tolist(), spikes=run.spikes.tolist(), synops=run.synops,
        seconds=seconds, answers=found, ann_answers=ann_answers,
    )  # fmt: skip
    return evaluation, run


def _run(code: Code, x: Tensor, sequence: Sequence, start: int) -> Coded:
    if isinstance(code, Delta):
        return code(moving(x, sequence.frames, sequence.every))
    if isinstance(code, FirstSpike):
        return code(x.to(code.net.dtype), first=start)
    return code(x)


def name_of(code: Code) -> str:
    """Of a code, as on the command line."""
    return {Radix: "radix", FirstSpike: "first-spike", Delta: "delta"}[type(code)]


def own(code: Code, run: Coded) -> Own:
    """What a code adds to a report."""
    bits, anew = run.bits, run.anew
    return {
        "code": name_of(code),
        "bits": getattr(code, "bits", None),
        "radix": getattr(code, "radix", None),
        "slots": getattr(code, "slots", None),
        "overlap": getattr(code, "overlap", None),
        "frames": len(run.logits) if isinstance(code, Delta) else None,
        "latency_steps": run.latency,
        "interval_steps": run.interval,
        "bits_per_neuron": None if bits is None else bits.tolist(),
        "clipped_per_image": run.clipped / len(run),
        "anew_events_per_image": None if anew is None else anew.events.tolist(),
        "anew_synops_per_image": None if anew is None else anew.synops.total.tolist(),
        "anew_energy_nj_per_image": None if anew is None else anew.synops.energy().tolist(),
    }


def report(
    found: Evaluation, run: Coded, code: Code, model: str, dataset: str,
    balance: Balance | None = None,
) -> CodedReport:  # fmt: skip
    """One JSON-ready object: that of `snnlib.zoo.evaluate.report`, and what is the code's own.

    ``neuron`` is the code, ``steps`` its latency (frames for `Delta`, each of which has an answer).
    """
    steps = len(run.logits) if isinstance(code, Delta) else run.latency
    told = plain_report(
        found, code.net, model, dataset=dataset, steps=steps, coding=Constant(), balance=balance
    )
    levels = code.slots if isinstance(code, FirstSpike) else 2**code.bits - 1
    nothing = {"negative": None, "v0": None, "cap": None}
    changed = {"neuron": name_of(code), "levels": levels, **nothing, "answer_from": 1}
    return cast("CodedReport", {**told, **changed, **own(code, run)})
