"""The networks: named layers, only what converts, and the accuracy that their record states."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from book.tools import cards
from snnlib.zoo import data, models, train

SHAPES = {"digits": (1, 28, 28), "mnist": (1, 28, 28), "fashion_mnist": (1, 28, 28)}
REPOSITORY = Path(__file__).parents[2] / "book" / "checkpoints"
PUBLISHED = [name for name in cards.files(REPOSITORY) if name != "digits-cnn"]


def image_shape(name):
    return SHAPES.get(models.dataset_of(name), (3, 32, 32))


@pytest.mark.parametrize("name", models.NAMES)
def test_networks_map_images_to_ten_classes(name):
    network = models.create(name).eval()
    assert network(torch.rand(2, *image_shape(name))).shape == (2, 10)
    assert network.metadata == {}
    assert models.dataset_of(name) in data.NAMES


@pytest.mark.parametrize("name", models.NAMES)
def test_networks_can_be_traced_and_their_layers_named(name):
    network = models.create(name).eval()
    traced = torch.fx.symbolic_trace(network)
    x = torch.rand(2, *image_shape(name))
    torch.testing.assert_close(traced(x), network(x))
    called = {node.target for node in traced.graph.nodes if node.op == "call_module"}
    relus = [n for n, m in network.named_modules() if isinstance(m, nn.ReLU)]
    assert set(relus) <= called
    assert "relu1" in relus


@pytest.mark.parametrize("name", models.NAMES)
def test_networks_use_only_what_converts_exactly(name):
    allowed = {
        *(nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.ReLU, nn.AvgPool2d, nn.AdaptiveAvgPool2d),
        *(nn.BatchNorm1d, nn.Flatten, nn.Dropout),
    }
    if name.endswith("-max"):
        allowed.add(nn.MaxPool2d)
    leaves = [m for m in models.create(name).modules() if not list(m.children())]
    assert {type(m) for m in leaves} <= allowed


def test_mlp_is_the_classical_one():
    shapes = [
        tuple(p.shape) for n, p in models.create("mnist-mlp").named_parameters() if p.ndim > 1
    ]
    assert shapes == [(1200, 784), (1200, 1200), (10, 1200)]


def test_normalization_lies_inside_and_stays():
    network = models.create("cifar10-vgg")
    x = torch.rand(4, 3, 32, 32)
    network.train()(x)  # statistics of a batch must not replace the given ones
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in models.CIFAR10)
    assert torch.allclose(network.eval().normalize(x), (x - mean) / std, atol=1e-5)


def test_residual_block_adds_its_input():
    block = models.Residual(8).eval()
    nn.init.zeros_(block.conv2.weight)  # then the block is the ReLU of its input
    x = torch.randn(2, 8, 5, 5)
    assert torch.allclose(block(x), x.relu(), atol=1e-6)


def test_fresh_networks_are_independent():
    one, other = models.create("digits-cnn"), models.create("digits-cnn")
    assert not torch.equal(one.conv1.weight, other.conv1.weight)
    assert one.metadata is not other.metadata


@pytest.mark.parametrize(
    ("wrong", "right"), [("mnist_cnn", "mnist-cnn"), ("cifar-vgg", "cifar10-vgg")]
)
def test_unknown_name_suggests(wrong, right):
    for function in (models.create, models.load, models.dataset_of):
        with pytest.raises(ValueError, match=f"Did you mean '{right}'"):
            function(wrong)


def agrees_with_its_record(name):
    """The test accuracy of the shipped weights, up to two images that rounding may turn."""
    network = models.load(name)
    assert not network.training
    _, test = data.load(network.metadata["dataset"], download=False)
    found = train.accuracy(network, test)
    assert math.isclose(found, network.metadata["test_accuracy"], abs_tol=2.5 / len(test))
    assert len(test) == network.metadata["test_images"]


def test_digits_cnn_works_without_a_network():
    agrees_with_its_record("digits-cnn")
    assert models.load("digits-cnn").metadata["test_accuracy"] > 0.98


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=[pytest.mark.dataset(models.dataset_of(name))]
            + [pytest.mark.slow] * name.startswith("cifar"),
        )
        for name in PUBLISHED
    ],
)
def test_published_weights_reach_the_accuracy_of_their_record(name):
    agrees_with_its_record(name)
