"""Strings of digits: nothing is lost in joining, alignments are exact, parts do not mix."""

import pytest
import torch

from snnlib.recurrent import strings
from snnlib.recurrent.strings import HOP, WINDOW, Strings, emitted, frame_labels, heard, join
from snnlib.zoo import spoken
from snnlib.zoo.sequences import Sequences


def tones(n=12):
    """Recordings of various lengths; the number of a recording is in every sample of it."""
    return [torch.full((900 + 370 * i,), 1000 + i, dtype=torch.int16) for i in range(n)]


def drawn(n=40, seed=0):
    pytest.importorskip("kaldi_native_fbank")
    info = {"speaker": torch.arange(12) % 2}
    part = Sequences(
        torch.arange(12)[:, None], torch.arange(12) % 10, tuple("0123456789"), info=info
    )
    return strings.draw(tones(), part, n, seed)


def by_hand(ends, frames):
    """A string of which only where its digits lie matters."""
    n = len(ends)
    return Strings(
        (), torch.zeros(1, frames, 40), torch.tensor([frames]), torch.arange(5)[None],
        torch.tensor([n]), torch.tensor([[*(e - 800 for e in ends), *[0] * (5 - n)]]),
        torch.tensor([[*ends, *[0] * (5 - n)]]), torch.tensor([0]),
    )  # fmt: skip


def test_recordings_lie_where_the_alignment_says():
    sounds, found = tones(), drawn()
    for i, sound in enumerate(found.sounds):
        assert 3 <= found.lengths[i] <= 5
        quiet = torch.ones(len(sound), dtype=torch.bool)
        for k, digit in enumerate(found.said(i)):
            inside = slice(int(found.begins[i, k]), int(found.ends[i, k]))
            number = int(sound[inside][0]) - 1000
            assert torch.equal(sound[inside], sounds[number])
            assert number % 10 == digit
            assert number % 2 == found.speakers[i]  # of one speaker
            assert strings.PAUSE[0] <= int(quiet[: inside.start].sum())
            quiet[inside] = False
        assert int(sound[quiet].abs().max()) < 10 * strings.NOISE
        assert bool(quiet[-strings.TAIL :].all())
        assert found.frames[i] == 1 + (len(sound) - WINDOW) // HOP


def test_one_seed_one_set_of_strings():
    one, same, other = drawn(5), drawn(5), drawn(5, seed=1)
    assert all(map(torch.equal, one.sounds, same.sounds))
    assert not all(a.shape == b.shape for a, b in zip(one.sounds, other.sounds, strict=True))


@pytest.mark.parametrize("stack", [1, 2, 3, 4])
def test_a_digit_comes_out_with_the_group_that_hears_its_end(stack):
    """heard(g − 1) < end ≤ heard(g): not before, and no group later."""
    for end in (*range(1000, 1300, 7), WINDOW + 20 * HOP, WINDOW + 20 * HOP + 1):
        group = emitted(by_hand([end], 60), stack)[0, 0]
        assert heard(group - 1, stack) < end <= heard(group, stack)
    last = by_hand([10**6], 61)  # what is left after the last whole group is not heard
    assert emitted(last, stack)[0, 0] == 61 // stack - 1


@pytest.mark.parametrize("stack", [1, 3])
def test_frames_are_labeled_by_their_middles(stack):
    found = by_hand([3000, 5000], 80)
    labels = frame_labels(found, stack)[0]
    assert len(labels) == 80 // stack
    for group, label in enumerate(labels.tolist()):
        middle = (HOP * stack * group + int(heard(torch.tensor(group), stack))) // 2
        said = 0 if 2200 <= middle < 3000 else 1 if 4200 <= middle < 5000 else 10
        assert label == said


def test_taking_some_keeps_them_whole():
    found = drawn(6)
    few = found.take(torch.tensor([4, 1]))
    assert few.said(0) == found.said(4)
    assert torch.equal(few.sounds[1], found.sounds[1])
    assert few.values.shape[1] == int(few.frames.max())
    whole = found.take(torch.arange(6))
    assert torch.equal(whole.values, found.values)


def test_joining_needs_a_pause_around_each():
    with pytest.raises(ValueError, match="2 recordings need 3 pauses"):
        join(tones(2), [100, 100], seed=0)


@pytest.mark.dataset("spoken_digits")
def test_parts_of_the_real_ones_do_not_mix():
    """The test strings do not depend on the seed; a held-out speaker is in no other part."""
    sizes = (6, 4, 4)
    speaker = spoken.SPEAKERS.index("theo")
    fit, validation, test = strings.parts("theo", seed=0, sizes=sizes)
    assert [len(part) for part in (fit, validation, test)] == list(sizes)
    assert speaker not in fit.speakers
    assert speaker not in validation.speakers
    assert test.speakers.unique().tolist() == [speaker]
    other = strings.parts("theo", seed=1, sizes=sizes)
    assert torch.equal(other[2].values, test.values)
    assert other[0].values.shape != fit.values.shape or not torch.equal(other[0].values, fit.values)
