"""Input codings: the mean is the image, and random spikes depend on nothing but their address."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snnlib import Bernoulli, Constant, Frames

IMAGES = torch.linspace(0, 1, 6 * 16).reshape(6, 1, 4, 4)


def test_constant_is_the_image_in_every_step():
    for step in (1, 2, 100):
        assert torch.equal(Constant().frame(IMAGES, step, first=3), IMAGES)
    assert torch.equal(Constant().mean(IMAGES, 7, first=0), IMAGES)


@given(st.integers(0, 2**40), st.integers(1, 1000), st.integers(0, 10**6), st.integers(1, 5))
def test_bernoulli_depends_on_seed_image_step_and_pixel_alone(seed, step, first, cut):
    coding = Bernoulli(seed)
    whole = coding.frame(IMAGES, step, first)
    parts = [coding.frame(IMAGES[:cut], step, first), coding.frame(IMAGES[cut:], step, first + cut)]
    assert torch.equal(whole, torch.cat(parts))
    assert torch.equal(whole, Bernoulli(seed).frame(IMAGES.clone(), step, first))
    assert torch.equal(whole.double(), coding.frame(IMAGES.double(), step, first))


def test_bernoulli_sends_with_the_probability_of_the_pixel():
    p = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0]).repeat(400, 1)
    steps = 200
    mean = Bernoulli(seed=5).mean(p, steps, first=0).mean(0).double()
    assert mean[0] == 0
    assert mean[-1] == 1
    deviation = (p[0] * (1 - p[0]) / (400 * steps)).sqrt().double()
    assert ((mean - p[0]).abs() <= 4.5 * deviation + 1e-6).all()


def test_bernoulli_draws_are_independent_over_images_steps_and_pixels():
    p = torch.full((64, 1, 8, 8), 0.5)
    coding = Bernoulli(seed=1)
    spikes = torch.stack([coding.frame(p, t, 0) for t in range(1, 65)]).reshape(64, 64, 64) * 2 - 1
    bound = 4.5 / math.sqrt(spikes.numel())
    for axis in range(3):
        shifted = (spikes * spikes.roll(1, axis)).mean()
        assert abs(float(shifted)) < bound
    assert abs(float((spikes * spikes.transpose(0, 1)).triu(1).mean())) < bound


def test_bernoulli_seeds_differ_and_a_generator_gives_one():
    p = torch.full((4, 1, 8, 8), 0.5)
    assert not torch.equal(Bernoulli(0).frame(p, 1, 0), Bernoulli(1).frame(p, 1, 0))
    drawn = [Bernoulli(generator=torch.Generator().manual_seed(s)) for s in (3, 3, 4)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0].generator is None
    generator = torch.Generator().manual_seed(3)
    assert Bernoulli(generator=generator) != Bernoulli(generator=generator)


@pytest.mark.parametrize("shift", [-0.2, 0.3])
def test_bernoulli_refuses_images_that_are_no_probabilities(shift):
    with pytest.raises(ValueError, match=r"images in \[0, 1\].*Constant\(\)"):
        Bernoulli().check(IMAGES + shift, 4)


def test_mean_is_the_average_of_the_frames():
    coding = Bernoulli(seed=9)
    frames = torch.stack([coding.frame(IMAGES, t, 2) for t in range(1, 9)])
    assert torch.allclose(coding.mean(IMAGES, 8, 2), frames.mean(0))
    assert torch.allclose(Frames().mean(frames, 8, 0), frames.mean(0))


def test_frames_are_passed_on_and_counted():
    frames = torch.arange(3.0).reshape(3, 1, 1).expand(3, 2, 5)
    for step in (1, 2, 3):
        assert torch.equal(Frames().frame(frames, step, 0), frames[step - 1])
    Frames().check(frames, 3)
    with pytest.raises(ValueError, match=r"3 frames.*steps=4"):
        Frames().check(frames, 4)
