"""Strings of 3 to 5 spoken digits, joined from recordings: where each digit lies is known exactly.

The recordings of a string are of one speaker, drawn from one part of the spoken digits
(`snnlib.zoo.spoken`), so no recording of a test string is ever trained on. Between them, and before
and after, is a pause of faint noise, as in a quiet room. Sounds are joined before features are
computed: frames at the seams hear both sides.

A network sees the frames in groups of `stack`. When group g (from 0) is complete, so many samples
have been heard::

    heard(g) = HOP · (stack · (g + 1) − 1) + WINDOW

A digit can be known for sure when its last sample is heard; the group in which that happens is
where the alignment lets it come out (`emitted`). Every frame belongs to the digit in which its
middle lies, or to none (`frame_labels`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from snnlib._arguments import whole
from snnlib.zoo import spoken
from snnlib.zoo.sequences import Sequences

FEWEST, MOST, DIGITS = 3, 5, 10
HOP = round(spoken.HOP_MS * spoken.RATE / 1000)  # samples
WINDOW = round(spoken.WINDOW_MS * spoken.RATE / 1000)
PAUSE = (160, 1200)  # samples, 20 to 150 ms
TAIL = 2000  # after the last digit: who answers late still can
NOISE = 15.0  # standard deviation; the last 50 ms of 19 in 20 recordings have 14 or more


@dataclass(frozen=True)
class Strings:
    """Joined recordings, their features and alignments; N strings, padded at their ends.

    Attributes:
        sounds: samples of each, int16, 8 kHz.
        values: log-mel frames, float32 (N, T, 40).
        frames: frames of each, int64 (N,).
        digits: what is said, int64 (N, 5).
        lengths: digits of each, int64 (N,), 3 to 5.
        begins: first sample of each digit, int64 (N, 5).
        ends: the sample after its last, int64 (N, 5).
        speakers: indices into `snnlib.zoo.spoken.SPEAKERS`, int64 (N,).
    """

    sounds: tuple[Tensor, ...]
    values: Tensor
    frames: Tensor
    digits: Tensor
    lengths: Tensor
    begins: Tensor
    ends: Tensor
    speakers: Tensor

    def __len__(self) -> int:
        return len(self.frames)

    def take(self, rows: Tensor) -> Strings:
        """Some of the strings, values no longer than the longest of them."""
        tensors = {
            name: value[rows] for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        found = replace(self, sounds=tuple(self.sounds[i] for i in rows.tolist()), **tensors)
        longest = int(found.frames.max()) if len(rows) else 0
        return replace(found, values=found.values[:, :longest])

    def said(self, i: int) -> tuple[int, ...]:
        """The digits of string i."""
        return tuple(self.digits[i, : int(self.lengths[i])].tolist())


def heard(group: Tensor, stack: int) -> Tensor:
    """Samples heard when a group of frames is complete; any shape."""
    return HOP * (stack * (group + 1) - 1) + WINDOW


def emitted(strings: Strings, stack: int) -> Tensor:
    """The group of frames in which each digit's last sample is heard, from 0: int64 (N, 5).

    Where a digit ends in what is left after the last whole group, it is that group.
    """
    first = torch.div(strings.ends - WINDOW + HOP - 1, HOP, rounding_mode="floor") + 1  # frames
    groups = torch.div(first + stack - 1, stack, rounding_mode="floor") - 1
    return groups.clamp(min=0).minimum(strings.frames[:, None] // stack - 1)


def frame_labels(strings: Strings, stack: int) -> Tensor:
    """What is said in the middle of each group of frames, or 10: nothing; int64 (N, T // stack)."""
    groups = torch.arange(strings.values.shape[1] // stack)
    middle = HOP * stack * groups + (heard(torch.zeros(()), stack) / 2).long()  # (G,) samples
    there = torch.arange(MOST) < strings.lengths[:, None]  # (N, 5)
    inside = (middle[:, None] >= strings.begins[:, None]) & there[:, None]
    inside &= middle[:, None] < strings.ends[:, None]  # (N, G, 5)
    said = (strings.digits[:, None] * inside).sum(2)
    return torch.where(inside.any(2), said, DIGITS)


def join(sounds: Sequence[Tensor], pauses: Sequence[int], seed: int) -> tuple[Tensor, list[int]]:
    """Recordings with pauses of noise around them.

    Args:
        sounds: int16, one after the other.
        pauses: samples before each, and after the last.
        seed: of the noise.

    Returns:
        Samples, int16, and where each recording begins.

    Raises:
        ValueError: there is not one pause more than there are recordings.
    """
    if len(pauses) != len(sounds) + 1:
        raise ValueError(f"{len(sounds)} recordings need {len(sounds) + 1} pauses")
    noise = torch.Generator().manual_seed(seed)
    parts, begins, at = [], [], 0
    for sound, pause in zip([*sounds, sounds[0][:0]], pauses, strict=True):
        quiet = NOISE * torch.randn(pause, generator=noise)
        parts += [quiet.round().to(torch.int16), sound]
        begins.append(at + pause)
        at += pause + len(sound)
    return torch.cat(parts), begins[:-1]


def draw(sounds: Sequence[Tensor], part: Sequences, n: int, seed: int) -> Strings:
    """Random strings from the recordings of a part.

    Args:
        sounds: of all recordings, int16.
        part: which of them to use: ``values`` (N, 1) are indices into ``sounds``, ``labels`` their
            digits, ``info["speaker"]`` who speaks.
        n: strings.
        seed: another one, other strings.
    """
    generator = torch.Generator().manual_seed(whole("seed", seed, 0))
    speakers = part.info["speaker"].unique()
    own = {int(s): (part.info["speaker"] == s).nonzero()[:, 0] for s in speakers}

    def below(limit: int) -> int:
        return int(torch.randint(limit, (), generator=generator))

    columns: dict[str, list[Tensor]] = {"digits": [], "begins": [], "ends": []}
    joined, lengths, who = [], [], []
    for _ in range(whole("n", n)):
        speaker, length = int(speakers[below(len(speakers))]), FEWEST + below(MOST - FEWEST + 1)
        rows = own[speaker][torch.randint(len(own[speaker]), (length,), generator=generator)]
        chosen = [sounds[int(part.values[row, 0])] for row in rows]
        pauses = [PAUSE[0] + below(PAUSE[1] - PAUSE[0]) for _ in rows]
        sound, begins = join(chosen, [*pauses, TAIL], below(2**31 - 1))
        ends = [begin + len(one) for begin, one in zip(begins, chosen, strict=True)]
        joined.append(sound)
        lengths.append(length)
        who.append(speaker)
        for name, values in (("digits", part.labels[rows]), ("begins", begins), ("ends", ends)):
            column = torch.zeros(MOST, dtype=torch.int64)
            column[:length] = torch.as_tensor(values)
            columns[name].append(column)
    features = [spoken.log_mel(sound) for sound in joined]
    return Strings(
        tuple(joined),
        torch.nn.utils.rnn.pad_sequence(features, batch_first=True),
        torch.tensor([len(one) for one in features]),
        lengths=torch.tensor(lengths),
        speakers=torch.tensor(who),
        **{name: torch.stack(values) for name, values in columns.items()},
    )


def parts(
    held_out: str | None = None,
    seed: int = 0,
    sizes: tuple[int, int, int] = (1500, 300, 300),
) -> tuple[Strings, Strings, Strings]:
    """Strings to fit, for choices and for the test; of recordings that are kept apart.

    Args:
        held_out: the speaker of the test strings, never trained on; None: the official split.
        seed: of the strings to fit; the others are always the same.
        sizes: how many of each.

    Raises:
        ValueError: there is no such speaker.
        DatasetUnavailable: recordings or the library of the features are not here.
    """
    sounds = [spoken.waveform(content) for content in spoken.recordings().values()]
    names = [name.removesuffix(".wav").split("_") for name in spoken.FILES]
    info = {
        "speaker": torch.tensor([spoken.SPEAKERS.index(speaker) for _, speaker, _ in names]),
        "take": torch.tensor([int(take) for _, _, take in names]),
    }
    labels = torch.tensor([int(digit) for digit, _, _ in names])
    everything = Sequences(
        torch.arange(len(names))[:, None], labels, tuple("0123456789"), info=info
    )
    # Seeds of strings to fit are never those of the other two.
    seeds = (seed + 2, 0, 1)
    first, second, third = (
        draw(sounds, part, n, s)
        for part, n, s in zip(spoken.split(everything, held_out), sizes, seeds, strict=True)
    )
    return first, second, third
