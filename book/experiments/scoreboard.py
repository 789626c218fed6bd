"""``scoreboard``: what no other result holds: bits of the best settings, energies counted twice.

``runs``: the best settings of ``accuracy-over-time`` on the first test images, with the *bits* a
neuron that their messages need (`frontier.Counts.bits`: the entropy of the spike coefficients,
silence included).

``energies``: the settings of ``frontier`` on the first validation images, with their energy counted
twice: by this book (an event with |c| > 1 is a multiplication, the analog first layer is in) and as
the literature does (every event is an addition, the first layer is left out). All their other
numbers stand in ``frontier``.
"""

from __future__ import annotations

from functools import partial

from book.experiments.frame import Cell, Context, Experiment, Labeled
from book.experiments.frontier import COUNTED_IMAGES, SETTINGS, STEPS_SLOW, count
from book.experiments.late_answer import METHODS, setting_of
from book.experiments.setting import SettingRecord
from snnlib.simulation import costs
from snnlib.zoo import models
from snnlib.zoo.data import to_float
from snnlib.zoo.evaluate import LABELS

STEPS, IF_STEPS = 32, 48  # as in accuracy-over-time
DEEP_AUGMENTED_STEPS = 8
PART = 50  # images simulated together


class BitsRun(Labeled):
    """One best setting; a number a step, sums so far."""

    neuron: str
    setting: SettingRecord
    dtype: str
    steps: int
    bits_per_neuron: list[float]


class EnergyRun(Labeled):
    """One setting of ``frontier``; numbers an image, a number a step, sums so far."""

    setting: str  # its name there
    images: str
    steps: list[int]
    synops_per_image: list[float]
    energy_nj_per_image: list[float]
    literature_nj_per_image: list[float]


def cells(network: str) -> list[Cell]:
    """A cell a neuron, and a cell a setting of the frontier."""
    found = [
        Cell(f"{network}/{kind}", partial(bits, network, kind))
        for kind in ("if", "ternary", "augmented")
    ]
    return found + [
        Cell(f"{network}/frontier/{name}", partial(energies, network, name), "energies")
        for name in SETTINGS
    ]


def literature_nj(events_at_synapses: float) -> float:
    """Energy in nanojoules of so many events at synapses, each one addition, nothing else counted.

    Args:
        events_at_synapses: SynOps (`snnlib.simulation.costs`).
    """
    return events_at_synapses * costs.AC_PICOJOULE / 1000


def bits(network: str, kind: str, context: Context) -> list[BitsRun]:
    """The bits of a best setting's messages, on test images."""
    subject = context.subject(network)
    setting = setting_of(network, METHODS[f"{kind}/best"])
    net = subject.affordably(subject.convert(setting))
    steps = IF_STEPS if kind == "if" else STEPS
    if subject.deep and kind == "augmented":
        steps = DEEP_AUGMENTED_STEPS
    found = count(net, subject.test, steps)
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


def energies(network: str, name: str, context: Context) -> list[EnergyRun]:
    """The energy of a setting of the frontier by both accountings, on validation images."""
    subject = context.subject(network)
    setting, steps = SETTINGS[name]
    if subject.slow and setting.neuron.kind == "augmented":
        steps = min(steps, STEPS_SLOW)
    net = subject.affordably(subject.convert(setting))
    split = subject.validation[:COUNTED_IMAGES]
    synops, energy = [0.0] * steps, [0.0] * steps
    for images in split.images.split(PART):
        found = net(to_float(images).to(net.device), steps).synops()
        assert found is not None
        share = len(images) / len(split)
        for total, new in ((synops, found.total), (energy, found.energy())):
            total[:] = [a + share * b for a, b in zip(total, new.tolist(), strict=True)]
    return [
        {
            "model": network,
            "label": LABELS[net.neuron.kind],
            "n": len(split),
            "images": "validation",
            "setting": name,
            "steps": list(range(1, steps + 1)),
            "synops_per_image": synops,
            "energy_nj_per_image": energy,
            "literature_nj_per_image": [literature_nj(total) for total in synops],
        }
    ]


EXPERIMENT = Experiment(
    name="scoreboard",
    summary="bits of the best settings' messages; energy of the frontier by both accountings",
    networks=models.NAMES,
    cells=cells,
)
