"""Recurrent networks and early exits in the hands of strangers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import snnlib as snn
from snnlib.recurrent import crossing, tasks
from snnlib.recurrent.coder import RankCoder
from snnlib.recurrent.coding import IntensityRank
from snnlib.recurrent.exits import first_exit, follow, seenn
from snnlib.recurrent.observers import BitsObserver
from snnlib.recurrent.training import Recipe, Training
from snnlib.zoo.sequences import Sequences

X = torch.rand(6, 4, generator=torch.Generator().manual_seed(0))


def converted(*head: nn.Module) -> snn.SpikingNetwork:
    ann = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), *head).eval()
    return snn.convert(ann, X, snn.Augmented(levels=2))


@pytest.mark.parametrize("score", ["confidence", "certainty"])
def test_one_value_is_no_vector_of_classes(score: str) -> None:
    net = converted(nn.Linear(8, 1))
    with pytest.raises(ValueError, match="one vector of classes"):
        seenn(net, X, 0.9, 4, score=score)
    with pytest.raises(ValueError, match="one vector of classes"):
        first_exit(net(X, 4).logits, 0.9, score)
    with pytest.raises(ValueError, match="one vector of classes"):
        seenn(converted(nn.Linear(8, 12), nn.Unflatten(1, (3, 4))), X, 0.9, 4)


def test_numbers_of_numpy_and_others() -> None:
    net = converted(nn.Linear(8, 3))
    plain = seenn(net, X, 0.9, 4, scale=2.0)
    scales: list[Any] = [np.float32(2), np.array(2.0), torch.tensor(2.0), torch.full((4,), 2.0)]
    for scale in scales:
        assert torch.equal(seenn(net, X, 0.9, 4, scale=scale).step, plain.step)
    with pytest.raises(ValueError, match=r"steps=2\.5"):
        seenn(net, X, 0.9, 2.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a policy of 3 scores for 2 choices"):
        follow(nn.Linear(4, 3), net, X, [1, 2])


def test_training_leaves_the_random_state_alone() -> None:
    data, net = tasks.bits(60, 0, 10, 3), RankCoder(1, 2, 8)
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    net.fit(data, Recipe("every", epochs=1, batch=30))
    assert torch.equal(torch.rand(3), wanted)


def test_the_reward_of_entropy_counts_at_every_step() -> None:
    data, net = tasks.bits(60, 0, 10, 3), RankCoder(1, 2, 8)
    x, labels, _ = data.batch(torch.arange(60))
    losses = [
        Training(net, data, Recipe("every", entropy=reward), torch.device("cpu"))
        .loss(x, labels, None, 0.9)[0]
        .item()
        for reward in (0.0, 0.5)
    ]
    entropy = crossing.entropy(net.whole(x).flatten(0, 1)).mean().item()
    assert losses[0] - losses[1] == pytest.approx(0.5 * entropy, rel=1e-4)


def test_coded_images_may_have_lengths() -> None:
    images = torch.randint(256, (20, 28, 28), dtype=torch.uint8)
    data = Sequences(images, torch.arange(20) % 2, ("a", "b"), torch.full((20,), 10))
    net = RankCoder(784, 2, 8, coding=IntensityRank(20))
    history = net.fit(data, Recipe("first", epochs=1, batch=10))
    assert history


def test_more_bits_than_there_are() -> None:
    with pytest.raises(ValueError, match="8 bits are more than the 4"):
        BitsObserver(4, 3).probabilities(torch.zeros(1, 8, dtype=torch.uint8))


def test_no_sequence_has_no_outputs() -> None:
    with pytest.raises(ValueError, match="no sequence"):
        RankCoder(1, 2, 8).outputs(torch.zeros(0, 5, 1))
