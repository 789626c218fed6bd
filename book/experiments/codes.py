"""``codes``: the same weights in other codes: digits, one spike a neuron, changes.

For every number of levels a code can tell apart, the thresholds are those of three balancings with
which most validation images are answered as the ANN does, the logits nearest to it where several
are as good (the network in whole numbers after one step, or rounded times; both are the ANN with
rounded activations). Then, on test images, all of them for 5 bits and for 32 slots, where a pass
does not take long:

- **radix** at 1 to 8 bits in base 2, at 5 bits in bases 3 and 4 too. Digits are sent for
  `sent_images`, where every logit is compared, bit by bit, with the network in whole numbers; the
  answers to all n images are that network's, which takes one pass instead of one a digit;
- **first spike** with analog times (thresholds from the largest activation, twice as wide) and with
  8 to 64 slots; answers while the last window is open; windows that overlap (*greedy*); jitter and
  lost spikes, in all layers and in each alone;
- **sigma-delta** at 4 bits on pictures that move by a pixel every frame, every second and fourth.

Noise, overlap and moving pictures use fewer images; the last two, and noise in single layers, are
left to the networks that are not deep. Intervals are those of `measure.INTERVAL`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NotRequired, TypedDict, cast

import torch

from book.experiments.frame import SEED, Cell, Context, Experiment, Labeled
from book.experiments.measure import INTERVAL, Interval, loss_intervals
from book.experiments.setting import BALANCES, BalanceRecord, Setting, Subject
from snnlib.codes import Coded, Delta, FirstSpike, Radix
from snnlib.codes.stream import in_whole_numbers
from snnlib.conversion.balance import Balance, Max, MinError, Percentile
from snnlib.conversion.convert import convert
from snnlib.neurons import Augmented
from snnlib.zoo import coded, models
from snnlib.zoo.data import Split
from snnlib.zoo.evaluate import Evaluation, evaluate

BITS, BASES, OTHER_BASES_AT = range(1, 9), (3, 4), 5
HEADLINE_BITS = 5
SLOTS, HEADLINE_SLOTS = (8, 16, 32, 64), 32
OVERLAPS = (0, 4, 8, 16, 24, 32)  # of 32 slots
JITTER, LOST, ALONE = (0.01, 0.02, 0.05, 0.1), (0.01, 0.05, 0.1, 0.2), 0.05
STANDS = (1, 2, 4)  # frames that a moving picture stands still
FRAMES, DELTA_BITS = 8, 4
VALIDATION_IMAGES, FEW_IMAGES = 500, 300
EXACT_IMAGES, SENT_IMAGES = 500, 100  # in float64; digit by digit
OTHER_IMAGES, DEEP_IMAGES = 1000, 500
SLOW_IMAGES = 100  # every slot, every frame is a pass
DEEP = ("cifar10-vgg", "cifar10-vgg-max", "cifar10-resnet")
BATCH = 20  # of networks in whole numbers: what fits a cache


class Choice(Labeled):
    """The balancing for so many levels, and what each was worth on validation images."""

    levels: int
    balance: BalanceRecord
    agreement: dict[str, float]  # by balancing
    error: dict[str, float]  # of the logits, relative to the ANN's; it decides where several agree


class CodeRun(Labeled, coded.Own):
    """One code on test images; lists have one entry an answer (a frame), costs are sums so far."""

    cell: NotRequired[str]
    variant: str  # what differs: bits, slots, overlap, jitter, …
    balance: BalanceRecord
    neurons: int
    ann_accuracy: float
    ann_macs: int
    accuracy: list[float]
    agreement: list[float]
    loss_interval: list[Interval]  # fractions
    events_per_image: list[float]
    events_by_step: list[float]  # in each digit, frame
    spikes_per_image: list[float]
    synops_per_image: list[float]
    energy_nj_per_image: list[float]
    literature_energy_nj_per_image: list[float]
    sent_images: NotRequired[int]  # the costs are theirs, if they are fewer than n
    equal: NotRequired[bool]  # bit for bit, to the network in whole numbers
    largest_difference: NotRequired[float]  # of a logit from the ANN's, both in float64
    early_accuracy: NotRequired[list[float]]  # after every slot of the last window
    mean_settled: NotRequired[float]  # slot of the last window from which on the answer stays
    noise: NotRequired[float]  # jitter as a fraction of the window, or share of lost spikes
    layer: NotRequired[str]  # which alone is disturbed
    every: NotRequired[int]  # frames that the picture stands still


class _Extra(TypedDict, total=False):
    """What only some runs have."""

    sent_images: int
    equal: bool
    largest_difference: float
    early_accuracy: list[float]
    mean_settled: float
    noise: float
    layer: str
    every: int


def candidates(levels: int) -> dict[str, Balance]:
    """The balancings that are tried for so many levels."""
    return {
        "percentile 99": Percentile(99.0),
        "percentile 99.9": Percentile(99.9),
        "minerror": MinError(levels),
    }


def cells(network: str) -> list[Cell]:
    """The choices, then a cell a code and setting."""
    levels = [2**bits - 1 for bits in BITS]
    found = [
        Cell(f"{network}/levels {n}", partial(choose, network, n), "choices")
        for n in sorted({*levels, *SLOTS})
    ]
    tried = [(bits, 2) for bits in BITS] + [(OTHER_BASES_AT, base) for base in BASES]
    found += [
        Cell(f"{network}/radix {bits} bits base {base}", partial(radix, network, bits, base))
        for bits, base in tried
    ]
    found.append(Cell(f"{network}/first spike exact", partial(exact, network)))
    found += [
        Cell(f"{network}/first spike {slots} slots", partial(in_slots, network, slots))
        for slots in SLOTS
    ]
    found.append(Cell(f"{network}/noise", partial(noise, network), "noise"))
    if network not in DEEP:
        found.append(Cell(f"{network}/greedy", partial(greedy, network), "greedy"))
        found += [Cell(f"{network}/delta every {n}", partial(delta, network, n)) for n in STANDS]
    return found


def choose(network: str, levels: int, context: Context) -> list[Choice]:
    """The balancing with which most validation images are answered as the ANN does."""
    subject = context.subject(network)
    split = subject.validation[: subject.affordable(VALIDATION_IMAGES)]
    neuron, x = Augmented(levels, 0.0, 0.5, levels), split.floats().to(subject.device)
    with torch.no_grad():
        logits = subject.ann(x)
    agreement, error = dict[str, float](), dict[str, float]()
    for name, balance in candidates(levels).items():
        net = subject.convert(Setting(neuron, balance))
        if levels not in SLOTS:
            net = in_whole_numbers(net, (levels + 1).bit_length() - 1, 8)
        run = net(x, 1, only_last=True)
        agreement[name] = float(run.agreement(logits)[-1])
        error[name] = float(run.error(logits)[-1])
    best = max(agreement, key=lambda name: (agreement[name], -error[name]))
    record = Setting(neuron, candidates(levels)[best]).record()["balance"]
    return [
        {
            "model": network, "label": f"{levels} levels", "n": len(split), "levels": levels,
            "balance": record, "agreement": agreement, "error": error,
        }
    ]  # fmt: skip


def setting(network: str, levels: int, context: Context) -> Setting:
    """The setting that was chosen for so many levels."""
    (row,) = context.rows[f"{network}/levels {levels}"]
    record = dict(row["balance"])
    balance = BALANCES[record.pop("kind")](**record)
    return Setting(Augmented(levels, 0.0, 0.5, levels), balance)


def radix(network: str, bits: int, base: int, context: Context) -> list[CodeRun]:
    """Digits of ``bits`` bits; all images are answered by the network in whole numbers."""
    subject, chosen = context.subject(network), setting(network, 2**bits - 1, context)
    code = Radix(subject.convert(chosen), bits, base)
    headline = base == 2 and bits == HEADLINE_BITS
    split = _images(subject, headline)
    found = evaluate(code.net, subject.ann, split, 1, batch=BATCH, only_last=True)
    sent, run = coded.evaluate(
        code, subject.ann, split[: subject.affordable(SENT_IMAGES, least=100)]
    )
    x = split[: sent.n].floats().to(subject.device)
    with torch.no_grad():
        whole = torch.cat([code.net(part, 1).logits[0] for part in x.split(BATCH)])
    costs = replace(
        found, events=sent.events, spikes=sent.spikes, synops=sent.synops, seconds=sent.seconds
    )
    extra: _Extra = {"sent_images": sent.n, "equal": bool(torch.equal(run.logits[0], whole))}
    return [_row(subject, chosen, code, costs, run, f"{bits} bits, base {base}", extra)]


def _images(subject: Subject, headline: bool) -> Split:
    """All test images for a headline, the first for the rest, fewer of deep networks."""
    if headline:
        return subject.test
    return subject.test[: DEEP_IMAGES if subject.deep else OTHER_IMAGES]


def exact(network: str, context: Context) -> list[CodeRun]:
    """Analog times: how far the logits are from those of the ANN in float64."""
    subject = context.subject(network)
    ann = models.load(network).double().to(subject.device)
    chosen = Setting(Augmented(), Max())
    net = convert(ann, subject.calibration.double(), chosen.neuron, balance=chosen.balance)
    code = FirstSpike(net)
    split = subject.test[: subject.affordable(EXACT_IMAGES)]
    found, run = coded.evaluate(code, subject.ann, split)
    farthest = 0.0
    for start in range(0, len(split), 100):
        x = split[start : start + 100].floats().double().to(subject.device)
        with torch.no_grad():
            difference = run.logits[0, start : start + 100] - ann(x)
        farthest = max(farthest, float(difference.abs().max()))
    return [
        _row(
            subject, chosen, code, found, run, "analog times",
            {"largest_difference": farthest},
        )
    ]  # fmt: skip


def in_slots(network: str, slots: int, context: Context) -> list[CodeRun]:
    """Rounded times; in the headline's slots also the answers while the last window is open."""
    subject, chosen = context.subject(network), setting(network, slots, context)
    code = FirstSpike(subject.convert(chosen), slots)
    split = _images(subject, slots == HEADLINE_SLOTS)
    found, run = coded.evaluate(code, subject.ann, split)
    few = split[: subject.affordable(FEW_IMAGES)]
    last = code(few.floats().to(code.net.device, code.net.dtype), early=True)
    assert last.early is not None
    answers = last.early.argmax(2).cpu()
    extra: _Extra = {
        "early_accuracy": (answers == few.labels).double().mean(1).tolist(),
        "mean_settled": float(last.settled.double().mean()),
    }
    return [_row(subject, chosen, code, found, run, f"{slots} slots", extra)]


def greedy(network: str, context: Context) -> list[CodeRun]:
    """Windows that overlap by more and more slots."""
    return [
        _disturbed(network, context, f"overlap {overlap}", {}, overlap=overlap)
        for overlap in OVERLAPS
    ]


def noise(network: str, context: Context) -> list[CodeRun]:
    """Jitter and lost spikes: in all layers, then in each alone."""
    rows = [
        _disturbed(network, context, f"jitter {sigma}", {"noise": sigma}, jitter=sigma)
        for sigma in JITTER
    ]
    rows += [
        _disturbed(network, context, f"lost {share}", {"noise": share}, lost=share)
        for share in LOST
    ]
    subject = context.subject(network)
    layers = subject.convert(_headline(network, context)).graph.spiking
    for layer in () if subject.deep else layers:
        alone: _Extra = {"noise": ALONE, "layer": layer}
        shaky = _disturbed(
            network, context, f"jitter {ALONE} in {layer}", alone, jitter=ALONE, where=layer
        )
        lossy = _disturbed(
            network, context, f"lost {ALONE} in {layer}", alone, lost=ALONE, where=layer
        )
        rows += [shaky, lossy]
    return rows


def _headline(network: str, context: Context) -> Setting:
    return setting(network, HEADLINE_SLOTS, context)


def _disturbed(
    network: str, context: Context, variant: str, extra: _Extra, *, overlap: int = 0,
    jitter: float = 0.0, lost: float = 0.0, where: str | None = None,
) -> CodeRun:  # fmt: skip
    subject, chosen = context.subject(network), _headline(network, context)
    code = FirstSpike(
        subject.convert(chosen), HEADLINE_SLOTS, overlap=overlap, jitter=jitter, lost=lost,
        where=None if where is None else [where], seed=SEED,
    )  # fmt: skip
    split = subject.first(FEW_IMAGES) if jitter or lost else subject.test[:SLOW_IMAGES]
    found, run = coded.evaluate(code, subject.ann, split)
    return _row(subject, chosen, code, found, run, variant, extra)


def delta(network: str, every: int, context: Context) -> list[CodeRun]:
    """Moving pictures; the answers are those of every frame sent anew."""
    subject, chosen = context.subject(network), setting(network, 2**DELTA_BITS - 1, context)
    code = Delta(subject.convert(chosen), DELTA_BITS)
    sequence = coded.Sequence(FRAMES, every)
    found, run = coded.evaluate(code, subject.ann, subject.test[:SLOW_IMAGES], sequence)
    return [_row(subject, chosen, code, found, run, f"every {every}", {"every": every})]


_LABELS = {"radix": "radix", "first-spike": "first spike", "delta": "sigma-delta"}


def _row(
    subject: Subject, chosen: Setting, code: coded.Code, found: Evaluation, run: Coded,
    variant: str, extra: _Extra | None = None,
) -> CodeRun:  # fmt: skip
    assert found.synops is not None
    split: Split = subject.test[: found.n]
    row = {
        "model": subject.name,
        "label": f"{_LABELS[coded.name_of(code)]}, {variant}",
        "n": found.n,
        "variant": variant,
        "balance": chosen.record()["balance"],
        "neurons": sum(code.net.sizes.values()),
        "ann_accuracy": found.ann_accuracy,
        "ann_macs": found.synops.ann_macs,
        "accuracy": found.accuracy,
        "agreement": found.agreement,
        "loss_interval": loss_intervals(found.answers, found.ann_answers, split.labels),
        "events_per_image": found.events,
        "events_by_step": run.events_by_step.tolist(),
        "spikes_per_image": found.spikes,
        "synops_per_image": found.synops.total.tolist(),
        "energy_nj_per_image": found.synops.energy().tolist(),
        "literature_energy_nj_per_image": found.synops.literature_energy.tolist(),
        **coded.own(code, run),
        **(extra or {}),
    }
    return cast("CodeRun", row)


EXPERIMENT = Experiment(
    name="codes",
    summary="the same weights in other codes: digits, one spike a neuron, changes",
    networks=("digits-cnn", "mnist-cnn", "fashion-cnn", "cifar10-vgg", "cifar10-resnet"),
    cells=cells,
    conclude=lambda sections: {"interval": INTERVAL},
)
