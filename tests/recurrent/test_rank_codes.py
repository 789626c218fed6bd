"""Codings: every pixel exactly once, brightest first; voices as loud as each other."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snnlib.recurrent.coding import Given, IntensityRank, Latency, Leveled, Trace

EVERY = torch.arange(256, dtype=torch.uint8)[None]  # one image with each gray


def frames(coding, x):
    held = coding.prepare(x)
    return coding.frames(held, 0, coding.steps(x))


@given(st.integers(1, 256))
def test_every_pixel_fires_once_brightest_first(bins):
    fired = frames(IntensityRank(bins), EVERY)  # (1, n, 256)
    assert torch.equal(fired.sum(1), torch.ones(1, 256))
    times = fired[0].argmax(0)
    assert bool((times.diff() <= 0).all())
    assert times[255] == 0
    assert times[0] == (bins - 1 if bins <= 255 else 255)
    assert int(times.unique().numel()) == min(bins, 256)


@given(st.integers(1, 256))
def test_bins_are_equally_wide(bins):
    sizes = frames(IntensityRank(bins), EVERY).sum(2)[0]
    assert float(sizes.max() - sizes.min()) <= 1


def test_real_numbers_fall_into_the_bins_of_their_grays():
    coding = IntensityRank(20)
    edges = torch.tensor([[1.0, 0.951, 0.949, 0.5001, 0.0501, 0.049, 0.0]])
    assert coding.prepare(edges).tolist() == [[0, 0, 1, 9, 18, 19, 19]]


def test_latency_leaves_the_dark_out():
    one, other = frames(IntensityRank(8), EVERY), frames(Latency(8), EVERY)
    assert torch.equal(one[:, :-1], other[:, :-1])
    assert float(other[:, -1].sum()) == 0


@given(st.integers(1, 256), st.data())
def test_a_trace_is_the_sum_of_the_race_so_far(bins, data):
    stop = data.draw(st.integers(1, bins))
    race = frames(IntensityRank(bins), EVERY)
    assert torch.equal(frames(Trace(bins, stop=stop), EVERY), race.cumsum(1)[:, :stop])
    assert Trace(bins).steps(EVERY) == bins


def test_some_steps_of_some_rows_are_those_of_all():
    x = torch.randint(0, 256, (5, 1, 4, 4), dtype=torch.uint8)
    for coding in (IntensityRank(7), Latency(7), Trace(7)):
        held = coding.prepare(x)
        part = coding.frames(held[2:4], 3, 5)
        assert torch.equal(part, coding.frames(held, 0, 7)[2:4, 3:5])
    given = Given()
    assert torch.equal(given.frames(given.prepare(x), 0, 1), x)


def test_louder_recordings_are_leveled():
    """By hand, two bands: the reference is the loudest frame so far, at least 10."""
    coding = Leveled(least=10.0, depth=6.0)
    x = torch.tensor([[[1.0, 1.0], [12.0, 12.0], [9.0, 5.0], [14.0, 14.0]]])
    goal = torch.tensor([[[-6.0, -6.0], [0.0, 0.0], [-3.0, -6.0], [0.0, 0.0]]])
    assert torch.allclose(coding.prepare(x), goal, atol=1e-5)
    loud = 11 + torch.randn(4, 20, 40, dtype=torch.float64).abs()
    one, other = coding.prepare(loud), coding.prepare(loud + 7)
    assert torch.allclose(one, other, rtol=0, atol=1e-12)


@given(st.integers(1, 19))
def test_a_leveled_frame_knows_nothing_of_the_later_ones(heard):
    x = 12 + 3 * torch.randn(3, 20, 8, dtype=torch.float64)
    changed = x.clone()
    changed[:, heard:] += 5
    assert torch.equal(Leveled().prepare(x)[:, :heard], Leveled().prepare(changed)[:, :heard])


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match="stop=9"):
        Trace(8, stop=9)
    with pytest.raises(ValueError, match="depth=0"):
        Leveled(depth=0)
    with pytest.raises(ValueError, match="least="):
        Leveled(least=float("nan"))
    with pytest.raises(ValueError, match=r"log energies \(B, T, bands\), not torch\.uint8"):
        Leveled().prepare(EVERY)
    with pytest.raises(ValueError, match="bins=0"):
        IntensityRank(0)
    with pytest.raises(ValueError, match=r"0…1, not torch\.float32 from 0 to 255"):
        IntensityRank().prepare(EVERY.float())
    with pytest.raises(ValueError, match="uint8"):
        Latency().prepare(EVERY.long())
