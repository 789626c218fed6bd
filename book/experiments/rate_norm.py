"""``rate-norm``: Rate Norm Layers with tuned thresholds beside thresholds that cost no training.

The first stage begins with the book's trained network: its ReLUs become rate norm layers whose
threshold clips nothing on training images (``relu``) or a hundredth of all activations
(``clipped``), or the network is then trained on, weights and thresholds together, for an epoch of
10,000 images at a small rate (``trained``). The second stage tunes the thresholds on training
images, for several weights Λ of the rate inference loss. Validation images choose stage one and Λ:
most answers right over the first 32 steps.

Test images then judge the choice beside IF neurons on the network as it is: balanced by the
maximum (over twice as many steps, for it needs them) and by percentiles, from zero potential and
from half a threshold, each with its late answer (``late-answer`` says how its start is chosen on
validation images). Losses are against the book's network on the same images.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import product

import torch
from torch import Tensor, nn

from book.experiments.frame import SEED, Cell, Context, Experiment, Labeled
from book.experiments.late_answer import answered, best_starts, from_starts
from book.experiments.material import material, plan_for
from book.experiments.measure import Interval, loss_intervals
from book.experiments.setting import Setting
from snnlib.conversion.balance import Balance, Max, Percentile
from snnlib.learning.loop import Plan, fit
from snnlib.learning.rate_norm import Tuned, from_relu, layers_of, spiking, tune
from snnlib.neurons import IF
from snnlib.simulation.network import SpikingNetwork
from snnlib.zoo.training import accuracy, bfloat16_pays

STEPS, CHOICE_STEPS = 64, 32
LONGER = {"max": 128}  # steps
IMAGES, VALIDATION_IMAGES, CHOICE_IMAGES = 5000, 1000, 300
FIRST_IMAGES, TUNING_IMAGES = 10_000, 4000
TUNING_STEPS, TUNING_RATE, TUNING_BATCH = 400, 0.1, 20
STARTS = ("relu", "trained", "clipped")
QUANTILE = 0.99  # of all activations of a layer, zeros included: what ``clipped`` begins with
WEIGHTS = (0.003, 0.01, 0.03, 0.1)  # Λ
PLAN, RATE = Plan(epochs=1), 0.01
POINTS = 0.5
BALANCES: dict[str, Balance] = {
    "max": Max(), "percentile-99.9": Percentile(99.9), "percentile-99": Percentile(99)
}  # fmt: skip
LABELS = {
    "max": "maximum", "percentile-99.9": "99.9th percentile", "percentile-99": "99th percentile",
    "rate-norm": "Rate Norm Layer, tuned",
}  # fmt: skip
POTENTIALS = (0.0, 0.5)


class TuningRow(Labeled):
    """One start and Λ; n counts the validation images."""

    start: str
    weight: float  # Λ
    history: list[Tuned]
    thresholds: list[float]  # θ
    ann_accuracy: float  # of the network with rate norm layers, in the limit of many steps
    steps: int
    accuracy: list[float]  # after every step, IF from zero potential
    score: float  # its mean: what chooses


class ConvertedRow(Labeled):
    """One way to get thresholds, on test images; lists have one entry a step."""

    method: str
    v0: float
    steps: int
    start: str | None  # the choice of the first stage, of rate norm
    weight: float | None  # and of Λ
    ann_accuracy: float  # of the book's network
    own_accuracy: float  # of the network that is converted
    accuracy: list[float]
    loss_interval: list[Interval]
    steps_to_points: int | None  # first step from which the loss stays within `POINTS`
    late_start: list[int]
    late_accuracy: list[float]
    late_interval: list[Interval]
    late_steps_to_points: int | None
    events_per_image: list[float]
    neurons: int
    dtype: str  # of the simulation; potentials are float32


def cells(network: str) -> list[Cell]:
    """A cell a start and Λ, then one a balance and initial potential, and one for the choice."""
    tuned = [
        Cell(f"{network}/tuning/{start}/{weight:g}", partial(tuning, network, start, weight),
             "tuning")
        for start, weight in product(STARTS, WEIGHTS)
    ]  # fmt: skip
    judged = [
        Cell(f"{network}/{balance}/{v0:g}", partial(balanced, network, balance, v0))
        for balance, v0 in product(BALANCES, POTENTIALS)
    ]
    return [*tuned, *judged, Cell(f"{network}/rate-norm", partial(best, network))]


def first_stage(network: str, start: str, context: Context) -> nn.Module:
    """The network with rate norm layers, as `STARTS` say."""
    subject, images = context.subject(network), material(network, context, FIRST_IMAGES)
    measured = images.fit[:1000].floats().to(context.device)
    net = from_relu(subject.ann, measured, quantile=QUANTILE if start == "clipped" else 1.0)
    if start == "trained":
        torch.manual_seed(SEED)
        plan = replace(plan_for(context, PLAN), reduced=bfloat16_pays(context.device))
        sgd = torch.optim.SGD(net.parameters(), RATE, momentum=0.9, nesterov=True)
        fit(
            net, sgd, images.fit, images.validation, plan, seed=SEED, label="first stage",
            state=context.state(f"{network}-first-stage"), progress=context.progress,
        )  # fmt: skip
    return net


def tuned_network(
    network: str, start: str, weight: float, context: Context
) -> tuple[nn.Module, list[Tuned]]:
    """Both stages."""
    net = first_stage(network, start, context)
    x = material(network, context, TUNING_IMAGES).fit.floats().to(context.device)
    steps = TUNING_STEPS if context.limit is None else 5
    history = tune(
        net, x, weight, steps, TUNING_RATE,
        batch=TUNING_BATCH, seed=SEED, progress=context.progress,
    )  # fmt: skip
    return net, history


def tuning(network: str, start: str, weight: float, context: Context) -> list[TuningRow]:
    """One start and Λ, judged on validation images by IF neurons from zero potential."""
    net, history = tuned_network(network, start, weight, context)
    validation = material(network, context).validation[:CHOICE_IMAGES]
    snn = context.subject(network).affordably(spiking(net, _few(network, context)))
    found = answered(snn, net, validation, CHOICE_STEPS)
    right = (found.logits.argmax(2) == validation.labels).double().mean(1)
    return [
        TuningRow(
            model=network,
            label=f"{start}, Λ = {weight:g}",
            n=len(validation),
            start=start,
            weight=weight,
            history=history,
            thresholds=[float(layer.threshold().detach()) for layer in layers_of(net)],
            ann_accuracy=accuracy(net, validation),
            steps=CHOICE_STEPS,
            accuracy=right.tolist(),
            score=float(right.mean()),
        )
    ]


def chosen(network: str, context: Context) -> TuningRow:
    """The start and Λ with most right answers on validation images."""
    rows: list[TuningRow] = [
        row for s, w in product(STARTS, WEIGHTS)
        for row in context.rows[f"{network}/tuning/{s}/{w:g}"]
    ]  # fmt: skip
    return max(rows, key=lambda row: row["score"])


def balanced(network: str, balance: str, v0: float, context: Context) -> list[ConvertedRow]:
    """The book's network, balanced without any training."""
    subject = context.subject(network)
    snn = subject.convert(Setting(IF(v0=v0), BALANCES[balance]))
    return [judge(network, balance, v0, subject.ann, snn, None, context)]


def best(network: str, context: Context) -> list[ConvertedRow]:
    """What validation images chose of the rate norm layers, a row an initial potential."""
    choice = chosen(network, context)
    net, _ = tuned_network(network, choice["start"], choice["weight"], context)
    few = _few(network, context)
    return [
        judge(network, "rate-norm", v0, net, spiking(net, few, v0), choice, context)
        for v0 in POTENTIALS
    ]


def judge(
    network: str, method: str, v0: float, ann: nn.Module, snn: SpikingNetwork,
    choice: TuningRow | None, context: Context,
) -> ConvertedRow:  # fmt: skip
    """One method on test images, answered from the first step and late.

    Args:
        network: of the book.
        method: key of `LABELS`.
        v0: initial potential.
        ann: what was converted.
        snn: what it became.
        choice: of the rate norm layers.
        context: of the run.
    """
    subject, images = context.subject(network), material(network, context)
    validation, test = images.validation[:VALIDATION_IMAGES], images.test[:IMAGES]
    snn = subject.affordably(snn)
    steps = LONGER.get(method, STEPS)
    starts = best_starts(*answered(snn, ann, validation, steps)[:2])
    found = answered(snn, ann, test, steps)
    book = answered(snn, subject.ann, test, 1).ann if choice is not None else found.ann
    reference = float((book == test.labels).double().mean())
    plain, late = found.logits.argmax(2), from_starts(found.logits, starts)
    shares, late_shares = (
        (answers == test.labels).double().mean(1).tolist() for answers in (plain, late)
    )
    return ConvertedRow(
        model=network,
        label=f"{LABELS[method]}, v0 = {v0:g}",
        n=len(test),
        method=method,
        v0=v0,
        steps=steps,
        start=choice["start"] if choice is not None else None,
        weight=choice["weight"] if choice is not None else None,
        ann_accuracy=reference,
        own_accuracy=float((found.ann == test.labels).double().mean()),
        accuracy=shares,
        loss_interval=loss_intervals(plain, book, test.labels),
        steps_to_points=_arrival(shares, reference),
        late_start=starts,
        late_accuracy=late_shares,
        late_interval=loss_intervals(late, book, test.labels),
        late_steps_to_points=_arrival(late_shares, reference),
        events_per_image=found.events,
        neurons=sum(snn.sizes.values()),
        dtype=str(snn.dtype).removeprefix("torch."),
    )


def _few(network: str, context: Context) -> Tensor:
    return material(network, context).fit[:8].floats().to(context.device)


def _arrival(shares: list[float], reference: float) -> int | None:
    """The first step from which the loss stays within `POINTS`; None: it does not."""
    late = [t for t, share in enumerate(shares, 1) if 100 * (reference - share) > POINTS + 1e-6]
    last = max(late, default=0)
    return last + 1 if last < len(shares) else None


EXPERIMENT = Experiment(
    name="rate-norm",
    summary="rate norm layers with tuned thresholds beside thresholds that cost no training",
    networks=("fashion-cnn",),
    cells=cells,
)
