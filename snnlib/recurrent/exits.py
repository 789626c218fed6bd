"""SEENN: every image gets its own number of steps, by its confidence or by a policy.

SEENN-I answers at the first step at which the *summed* logits are sure enough::

    z_t  = Σ_{τ ≤ t} o_τ                      o_τ: what the last layer got in step τ
    exit at the first t with s(z_t) ≥ c       s: largest softmax, or 1 − H(softmax) / ln C

A sum grows with t whatever it says, so the same image gets more confident by waiting; ``scale``
divides it, at every step by the same number or by one of its own. `snnlib.SpikingNetwork.decide`
reads the mean instead, which does not grow. With the `temperatures` of images that were put aside
the confidence of each step is about as large as the share of right answers.

SEENN-II asks a small network π before the first step: v = softmax(π(x)) over the choices of steps
T_1 < … < T_K. It is trained by the expected reward, nothing is sampled::

    loss = mean of w · Σ_k v_k (β [wrong after T_k] − 2^(1−k) [right after T_k])

with w = p / (1 − p) for images that are wrong at the first choice and 1 for the others, p the share
of those. The choice is the largest v_k.

Source: Li, Geller, Kim and Panda, *SEENN: Towards Temporal Spiking Early-Exit Neural Networks*,
NeurIPS 2023. Temperatures: Guo, Pleiss, Sun and Weinberger, *On Calibration of Modern Neural
Networks*, ICML 2017. Ours: one temperature a step, and images that have been answered leave the
batch, so that the time is saved too. Derived in chapter *Early exit*.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnlib._arguments import real, whole
from snnlib.neurons import Neuron, State
from snnlib.simulation.coding import Constant
from snnlib.simulation.early_exit import Answers, Decision, first_sure, leave
from snnlib.simulation.engine import Simulation
from snnlib.simulation.images import checked
from snnlib.simulation.network import SpikingNetwork


def confidence(summed: Tensor) -> Tensor:
    """The largest probability: summed logits (..., C) → (...)."""
    return summed.softmax(-1).amax(-1)


def certainty(summed: Tensor) -> Tensor:
    """1 − H / ln C, 0 for equal probabilities and 1 for a single one: (..., C) → (...)."""
    logs = summed.log_softmax(-1)
    return 1 + (logs.exp() * logs).sum(-1) / math.log(summed.shape[-1])


SCORES: dict[str, Callable[[Tensor], Tensor]] = {"confidence": confidence, "certainty": certainty}


def first_exit(summed: Tensor, threshold: float, score: str = "confidence") -> Decision:
    """Where SEENN-I exits, read from runs that went to their ends: summed logits (T, B, C).

    Raises:
        ValueError: the logits are no vectors of two classes or more.
    """
    _check_classes(summed[0])
    return first_sure(_score(score)(summed) >= threshold, summed.argmax(-1))


def temperatures(summed: Tensor, labels: Tensor) -> list[float]:
    """What the sums of each step must be divided by to be as sure as they are right.

    τ_t makes the mean of −ln softmax(z_t / τ_t)[label] least. That is convex in 1/τ, so its
    derivative has one change of sign, found by bisection between 10⁻³ and 10³; where all answers
    are right it may have none, and the end of that range is returned.

    Args:
        summed: summed logits (T, B, C) of images that were not trained on.
        labels: of the images, (B,).
    """
    summed = summed.double()
    right = summed.gather(-1, labels.expand(summed.shape[:2])[..., None])[..., 0]  # (T, B)
    low, high = (torch.full((len(summed),), end, dtype=torch.float64) for end in (-3.0, 3.0))
    for _ in range(50):
        middle = (low + high) / 2  # log10 τ
        shares = (summed / 10 ** middle[:, None, None]).softmax(-1)
        # d/d(1/τ); where it is above zero, 1/τ is too large.
        cold = ((shares * summed).sum(-1) - right).mean(1) > 0
        low, high = torch.where(cold, middle, low), torch.where(cold, high, middle)
    found: list[float] = (10**high).tolist()
    return found


@torch.no_grad()
def exit_early(
    images: Answers,
    most: int,
    threshold: float,
    score: str = "confidence",
    scale: float | Sequence[float] = 1.0,
) -> Decision:
    """SEENN-I on images that are no longer computed once they are answered.

    Args:
        images: on their way through time; their ``step`` gives summed logits (b, C).
        most: the step at which the rest is answered.
        threshold: c.
        score: ``"confidence"`` or ``"certainty"``.
        scale: what the sums are divided by, or that of each step.
    """
    whole("most", most)
    measure, scales = _score(score), _scales(scale, most)

    def sure(summed: Tensor, t: int) -> Tensor:
        _check_classes(summed)
        return measure(summed / scales[t - 1]) >= threshold

    return leave(images, most, sure)


def _check_classes(summed: Tensor) -> None:
    """Raise ValueError unless the logits are (B, C), C ≥ 2."""
    if summed.dim() != 2 or summed.shape[1] < 2:
        raise ValueError(
            f"early answers need one vector of classes an image, not {tuple(summed.shape[1:])}"
        )


def seenn(
    net: SpikingNetwork | Direct,
    x: Tensor,
    threshold: float,
    steps: int,
    *,
    score: str = "confidence",
    scale: float | Sequence[float] = 1.0,
    batch: int = 100,
) -> Decision:
    """SEENN-I on a converted or on a directly trained network.

    Args:
        net: of real numbers.
        x: images (B, ...), a constant input.
        threshold: c, 0…1.
        steps: T; images that never get there are answered then.
        score: ``"confidence"`` or ``"certainty"``.
        scale: what the summed logits are divided by, above 0; or that of each step, as
            `temperatures` finds it.
        batch: images simulated together.

    Raises:
        ValueError: an argument is out of range, or the network is one of whole numbers.
    """
    real("threshold", threshold, 0.0, 1.0)
    steps, batch = whole("steps", steps), whole("batch", batch)
    scales = _scales(scale, steps)
    if isinstance(net, SpikingNetwork):
        if net.whole is not None:
            raise ValueError("whole numbers: use net.decide, or the network they were made from")
        x = checked(net.network, x)
        begin: Callable[[Tensor], Answers] = partial(Simulation, net.plan(), coding=Constant())
    else:
        begin = net.begin
    found = [exit_early(begin(part), steps, threshold, score, scales) for part in x.split(batch)]
    return Decision(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def _score(name: str) -> Callable[[Tensor], Tensor]:
    if name not in SCORES:
        raise ValueError(f"score={name!r} must be one of {', '.join(SCORES)}")
    return SCORES[name]


def _scales(scale: float | Sequence[float], steps: int) -> list[float]:
    """One for each step."""
    alone = not isinstance(scale, Iterable) or getattr(scale, "ndim", 1) == 0
    found: list[Any] = [scale] * steps if alone else list(cast("Iterable[Any]", scale))
    if len(found) != steps:
        raise ValueError(f"scale: {len(found)} numbers for {steps} steps; give one for each")
    return [real("scale", float(value), 0.0, above=True) for value in found]


class Direct(nn.Module):
    """A feed-forward spiking network that is trained directly and can be stopped at any step.

    Args:
        stages: what weighs the spikes before each layer of neurons (convolution, pooling, …).
        readout: from the last spikes to logits; it sends no spikes, its inputs are summed.
        neuron: of all layers; for training one through which gradients go.
        theta: threshold of all layers.
    """

    theta: Tensor

    def __init__(
        self, stages: Sequence[nn.Module], readout: nn.Module, neuron: Neuron, theta: float = 1.0
    ) -> None:
        super().__init__()
        self.stages, self.readout = nn.ModuleList(stages), readout
        self.neuron = neuron
        self.register_buffer("theta", torch.tensor(float(theta)))

    def begin(self, x: Tensor) -> Going:
        """Images before their first step."""
        return Going(self, x)

    def forward(self, x: Tensor, steps: int) -> Tensor:
        """Summed logits after every step, shape (T, B, C); the input is constant."""
        going = self.begin(x)
        return torch.stack([going.step() for _ in range(steps)])

    def loss(self, x: Tensor, labels: Tensor, steps: int) -> Tensor:
        """Cross-entropy of each step's own logits, averaged: trained so, early sums are of use.

        Source: temporal efficient training, Deng, Li, Zhang and Gu, ICLR 2022; without its
        regularizer.
        """
        summed = self(x, steps)
        each = summed.diff(dim=0, prepend=torch.zeros_like(summed[:1]))  # (T, B, C)
        return F.cross_entropy(each.flatten(0, 1), labels.repeat(steps))


class Going:
    """Images on their way through a `Direct` network; `step` gives the summed logits so far."""

    def __init__(self, net: Direct, x: Tensor) -> None:
        self.net, self.first = net, net.stages[0](x)  # a constant input is weighed once
        self.states: list[State | None] = [None] * len(net.stages)
        self.total: Tensor | None = None

    def step(self) -> Tensor:
        net, value = self.net, self.first
        for i, stage in enumerate(net.stages):
            current = value if i == 0 else stage(value)  # (b, ...)
            state = self.states[i] or net.neuron.initial(current, net.theta)
            value, self.states[i] = net.neuron.step(state, current, net.theta)
        out = net.readout(value)  # (b, C)
        self.total = out if self.total is None else self.total + out
        return self.total

    def keep(self, which: Tensor) -> None:
        self.first = self.first[which]
        self.total = None if self.total is None else self.total[which]
        self.states = [s and type(s)(*(v[which] for v in s)) for s in self.states]


def policy_loss(scores: Tensor, right: Tensor, beta: float, first: float) -> Tensor:
    """The negative expected reward of a policy.

    Args:
        scores: π(x), shape (B, K).
        right: whether the answer after each choice of steps is right, bool (B, K).
        beta: β, the price of a wrong answer.
        first: p, the share of training images that the first choice answers rightly.
    """
    prize = 0.5 ** torch.arange(right.shape[1], device=scores.device, dtype=scores.dtype)
    price = torch.where(right, -prize, beta)  # (B, K)
    weight = torch.where(right[:, 0], 1.0, first / max(1 - first, 1e-6))
    return (weight * (scores.softmax(1) * price).sum(1)).mean()


def fit_policy(
    policy: nn.Module,
    x: Tensor,
    right: Tensor,
    *,
    beta: float = 1.0,
    epochs: int = 10,
    batch: int = 128,
    rate: float = 1e-3,
    seed: int = 0,
) -> list[float]:
    """Train a policy in place by Adam with a rate that falls along half a cosine.

    Args:
        policy: from images (B, ...) to scores (B, K).
        x: training images, as the policy takes them.
        right: whether the network's answer after each choice of steps is right, bool (N, K).
        beta: β.
        epochs: passes over the images.
        batch: images a step.
        rate: the learning rate at the start.
        seed: of the order.

    Returns:
        The mean loss of each epoch.
    """
    whole("epochs", epochs)
    whole("batch", batch)
    real("beta", beta, 0.0)
    first = float(right[:, 0].double().mean())
    optimizer = torch.optim.Adam(policy.parameters(), rate)
    generator, losses = torch.Generator().manual_seed(seed), []
    policy.train()
    parts = -(-len(x) // batch)
    for epoch in range(epochs):
        total = 0.0
        for i, rows in enumerate(torch.randperm(len(x), generator=generator).split(batch)):
            share = (epoch + i / parts) / epochs
            for group in optimizer.param_groups:
                group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * share))
            loss = policy_loss(policy(x[rows]), right[rows], beta, first)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(rows)
        losses.append(total / len(x))
    return losses


@torch.no_grad()
def follow(policy: nn.Module, net: SpikingNetwork, x: Tensor, choices: Sequence[int]) -> Decision:
    """SEENN-II: each image runs for the steps that the policy chose for it, and no longer.

    Args:
        policy: from images to scores (B, K).
        net: whose answers are taken.
        x: images (B, ...).
        choices: the steps T_1 < … < T_K.

    Raises:
        ValueError: the policy has not as many scores as there are choices.
    """
    policy.eval()
    scores = policy(x)
    if scores.shape[1] != len(choices):
        raise ValueError(f"a policy of {scores.shape[1]} scores for {len(choices)} choices")
    chosen = scores.argmax(1)
    answer = torch.zeros_like(chosen)
    for k, steps in enumerate(choices):
        rows = (chosen == k).nonzero()[:, 0]
        if len(rows):
            answer[rows] = net(x[rows], steps, only_last=True).predictions[-1]
    return Decision(torch.tensor(choices, device=x.device)[chosen], answer)
