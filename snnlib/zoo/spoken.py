"""Spoken digits: the Free Spoken Digit Dataset, as sound and as log-mel features.

3,000 recordings at 8 kHz of the digits 0 to 9, 50 by each of six speakers (all of them men). By the
convention of the data set recordings 0 to 4 of each digit and speaker are the test set, 300 in all,
and 5 to 49 the training set. Files are named ``DIGIT_SPEAKER_NUMBER.wav``.

Source: Z. Jackson and contributors, tag v1.0.10, CC BY-SA 4.0: give credit, and share what you make
of the recordings alike. They are not part of this project.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import wave
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from snnlib.zoo.fetch import DatasetUnavailable, locate, read, repair, retrieve
from snnlib.zoo.sequences import Sequences

NAME = "spoken_digits"
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
TAKES, TEST_TAKES, RATE = 50, 5, 8000
FOLDER = Path("free-spoken-digit-dataset", "recordings")
FILES = tuple(
    f"{digit}_{speaker}_{take}.wav"
    for digit in range(10)
    for speaker in SPEAKERS
    for take in range(TAKES)
)
# SHA-256 of all names and contents, in the order of the names. An archive that a server packs on
# demand has no digest of its own that lasts.
SHA256 = "45a9b976ba3397a2fd5c70a9f2e43c34f442a3a6be47392ecfc41174b678f37e"
URL = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz"

MELS, WINDOW_MS, HOP_MS = 40, 25.0, 10.0


def recordings(root: str | Path | None = None, download: bool = True) -> dict[str, bytes]:
    """The files, in the order of `FILES`: name → content; all checked by one digest.

    Raises:
        DatasetUnavailable: a file is missing and cannot be fetched, or is not what it should be.
    """

    def fetch(folder: Path, file: str, scratch: Path) -> None:
        archive = scratch / "free-spoken-digit-dataset.tar.gz"
        if not archive.exists():  # one archive holds them all
            retrieve([URL], archive, None)
            with tarfile.open(archive) as tar:
                for member in tar:
                    inside = Path(member.name)
                    source = tar.extractfile(member) if inside.parent.name == "recordings" else None
                    if source is not None and inside.name in FILES:
                        (scratch / inside.name).write_bytes(source.read())
        if not (scratch / file).is_file():
            raise DatasetUnavailable(f"{NAME}: {URL} holds no {file}")
        os.replace(scratch / file, folder / file)

    folder = locate(NAME, FOLDER, FILES, root, download, fetch)
    held = {name: read(folder / name) for name in FILES}
    digest = hashlib.sha256()
    for name in sorted(held):
        digest.update(name.encode() + held[name])
    if digest.hexdigest() != SHA256:
        raise DatasetUnavailable(
            f"the recordings in {folder} are not those of tag v1.0.10: their digest is another. "
            f"{repair(folder)}"
        )
    return held


def waveform(content: bytes) -> Tensor:
    """The samples of a WAV file of 16 bits and one channel: int16 (samples,).

    Raises:
        DatasetUnavailable: it is of another kind.
    """
    try:
        with wave.open(io.BytesIO(content)) as file:
            kind = file.getnchannels(), file.getsampwidth(), file.getframerate()
            samples = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise DatasetUnavailable(f"{NAME}: a recording is no WAV file: {error}") from error
    if kind != (1, 2, RATE):
        raise DatasetUnavailable(f"{NAME}: a recording is not 16 bits, one channel, {RATE} Hz")
    return torch.from_numpy(np.frombuffer(samples, "<i2").astype(np.int16))


def log_mel(samples: Tensor) -> Tensor:
    """Log energies of 40 mel bands, a frame of 25 ms every 10 ms: (samples,) → float32 (T, 40).

    Computed by kaldi-native-fbank, without dither; a frame needs its own 25 ms alone, so that a
    listener who stops early has heard no more. A recording shorter than that is one frame.

    Args:
        samples: int16, or as many units.

    Raises:
        DatasetUnavailable: kaldi-native-fbank is not installed.
    """
    try:
        import kaldi_native_fbank as kaldi
    except ImportError as error:
        raise DatasetUnavailable(
            "The features of spoken digits need kaldi-native-fbank: pip install 'snnlib[audio]'"
        ) from error
    options = kaldi.FbankOptions()
    options.frame_opts.samp_freq = RATE
    options.frame_opts.dither = 0.0
    options.frame_opts.frame_length_ms = WINDOW_MS
    options.frame_opts.frame_shift_ms = HOP_MS
    options.frame_opts.snip_edges = True
    options.mel_opts.num_bins = MELS
    bank = kaldi.OnlineFbank(options)
    least = int(WINDOW_MS * RATE / 1000)
    heard = torch.zeros(max(len(samples), least))
    heard[: len(samples)] = samples
    bank.accept_waveform(RATE, heard.tolist())
    bank.input_finished()
    frames = np.stack([bank.get_frame(i) for i in range(bank.num_frames_ready)])
    return torch.from_numpy(frames.copy())  # (T, 40)


def load(root: str | Path | None = None, download: bool = True) -> Sequences:
    """All 3,000 recordings as log-mel sequences, in the order of `FILES`.

    ``info`` holds of each its ``speaker`` (an index into `SPEAKERS`) and its ``take``, 0…49.

    Raises:
        DatasetUnavailable: recordings or the library of the features are not here.
    """
    parts = [log_mel(waveform(content)) for content in recordings(root, download).values()]
    lengths = torch.tensor([len(part) for part in parts])
    names = [name.removesuffix(".wav").split("_") for name in FILES]
    return Sequences(
        torch.nn.utils.rnn.pad_sequence(parts, batch_first=True),  # (3000, T, 40)
        torch.tensor([int(digit) for digit, _, _ in names]),
        tuple("0123456789"),
        lengths,
        {
            "speaker": torch.tensor([SPEAKERS.index(speaker) for _, speaker, _ in names]),
            "take": torch.tensor([int(take) for _, _, take in names]),
        },
    )


def official(data: Sequences) -> tuple[Sequences, Sequences]:
    """The train and test sets of the data set's own convention, 2,700 and 300 recordings."""
    test = data.info["take"] < TEST_TAKES
    return data.take(~test), data.take(test)


def split(data: Sequences, held_out: str | None = None) -> tuple[Sequences, Sequences, Sequences]:
    """Recordings to fit, for choices, and for the test.

    Args:
        data: all recordings, as `load` gives them.
        held_out: the speaker whose recordings are the test set; None: the official one, recordings
            0 to 4 of everybody.

    Returns:
        To fit; validation (recordings 5 to 9 of those that are not in the test set); test.

    Raises:
        ValueError: there is no such speaker.
    """
    if held_out is not None and held_out not in SPEAKERS:
        raise ValueError(f"held_out={held_out!r} must be one of {', '.join(SPEAKERS)}")
    take = data.info["take"]
    if held_out is None:
        test = take < TEST_TAKES
    else:
        test = data.info["speaker"] == SPEAKERS.index(held_out)
    chosen = ~test & (take >= TEST_TAKES) & (take < 2 * TEST_TAKES)
    return data.take(~test & ~chosen), data.take(chosen), data.take(test)
