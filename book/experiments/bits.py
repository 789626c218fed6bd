"""``bits``: how many bits the messages of the best settings need, a neuron and image.

The settings are those of ``accuracy-over-time``, which has all other costs of the same runs. *Bits*
are the least that any code without memory could send (`frontier.Counts.bits`: the entropy of a
layer's spike coefficients in each step, silence included), here of the first test images; fewer of
them on slow networks, whose layers have many neurons to count.
"""

from __future__ import annotations

from functools import partial

from book.experiments.frame import Cell, Context, Experiment, Labeled
from book.experiments.frontier import count
from book.experiments.late_answer import METHODS, setting_of
from book.experiments.setting import SettingRecord
from snnlib.zoo import models
from snnlib.zoo.evaluate import LABELS

SLOW_IMAGES = 40


class BitsRun(Labeled):
    """One best setting; bits of all steps so far, one entry a step."""

    neuron: str
    setting: SettingRecord
    dtype: str
    steps: int
    bits_per_neuron: list[float]


def cells(network: str) -> list[Cell]:
    """A cell a neuron."""
    return [
        Cell(f"{network}/{kind}", partial(measure, network, kind))
        for kind in ("if", "ternary", "augmented")
    ]


def measure(network: str, kind: str, context: Context) -> list[BitsRun]:
    """The bits of a best setting's messages, on test images."""
    subject = context.subject(network)
    method = METHODS[f"{kind}/best"]
    setting, steps = setting_of(network, method), method.steps(subject.deep)
    net = subject.affordably(subject.convert(setting))
    split = subject.test[:SLOW_IMAGES] if subject.slow else subject.test
    found = count(net, split, steps)  # of its first images
    return [
        {
            "model": network,
            "label": f"{LABELS[kind]}, best",
            "n": found.images,
            "neuron": kind,
            "setting": setting.record(),
            "dtype": str(net.dtype).removeprefix("torch."),
            "steps": steps,
            "bits_per_neuron": found.bits().tolist(),
        }
    ]


EXPERIMENT = Experiment(
    name="bits",
    summary="bits that the messages of the best settings need, after every step",
    networks=models.NAMES,
    cells=cells,
)
