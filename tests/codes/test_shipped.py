"""Every network of the book in every code: all that they are made of is handled, exactly."""

import pytest
import torch

import snnlib as snn
from snnlib.codes import Delta, FirstSpike, Radix, moving
from snnlib.zoo import checkpoints, models

SIDES = {"digits": (1, 28), "mnist": (1, 28), "fashion_mnist": (1, 28), "cifar10": (3, 32)}


@pytest.mark.parametrize("name", models.NAMES)
def test_codes_are_exact_on_the_networks_of_the_book(name):
    try:
        ann = snn.models.load(name).double()
    except checkpoints.CheckpointError as error:
        pytest.skip(str(error))
    channels, side = SIDES[models.dataset_of(name)]
    images = torch.rand(6, channels, side, side, generator=torch.Generator().manual_seed(0))
    images = images.double()
    net = snn.convert(ann, images, balance=snn.Max())
    x = images[:2]
    with torch.no_grad():
        logits = ann(x)
    run = FirstSpike(net)(x)
    assert run.clipped == 0
    assert float((run.logits[0] - logits).abs().max()) < 1e-9 * max(1.0, float(logits.abs().max()))
    assert float(run.events) <= sum(net.sizes.values())
    for base in (2, 4):
        radix = Radix(net, 5, base)
        assert torch.equal(radix(x).logits, radix.net(x, 1).logits)
    frames = moving(x, 2)
    delta = Delta(net, 4)
    for frame, found in zip(frames, delta(frames).logits, strict=True):
        assert torch.equal(found, delta.net(frame, 1).logits[0])
