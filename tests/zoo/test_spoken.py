"""Spoken digits: the recordings are those of the tag, splits do not overlap, features obey laws."""

import io
import math
import tarfile
import wave

import pytest
import torch

from snnlib.__main__ import main
from snnlib.zoo import data, spoken
from snnlib.zoo.data import DatasetUnavailable


def sine(hertz, seconds=0.5, amplitude=3000):
    t = torch.arange(int(seconds * spoken.RATE), dtype=torch.float64) / spoken.RATE
    return (amplitude * torch.sin(2 * math.pi * hertz * t)).round()


def wav(samples, rate=spoken.RATE):
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.short().numpy().astype("<i2").tobytes())
    return content.getvalue()


@pytest.fixture
def small(monkeypatch):
    """A data set of its own with two digits, its names and its digest."""
    import hashlib

    names = tuple(f"{d}_{s}_{k}.wav" for d in (0, 1) for s in spoken.SPEAKERS for k in range(12))
    files = {name: wav(sine(200 + 7 * i, 0.1)) for i, name in enumerate(names)}
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(name.encode() + files[name])
    monkeypatch.setattr(spoken, "FILES", names)
    monkeypatch.setattr(spoken, "SHA256", digest.hexdigest())
    return files


def place(folder, files):
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def test_found_where_it_lies(small, tmp_path, capsys):
    pytest.importorskip("kaldi_native_fbank")
    place(tmp_path / spoken.FOLDER, small)
    train, test = data.load("spoken_digits", tmp_path, download=False)
    assert (len(train), len(test)) == (2 * 6 * 7, 2 * 6 * 5)
    assert train.values.shape[2:] == (spoken.MELS,)
    assert main(["data", "spoken_digits", "--root", str(tmp_path), "--no-download"]) == 0
    assert "60 recordings of 8.0 frames" in capsys.readouterr().out


def test_a_changed_recording_is_noticed(small, tmp_path):
    changed = bytearray(small["1_theo_3.wav"])
    changed[-1] ^= 1
    place(tmp_path / spoken.FOLDER, small | {"1_theo_3.wav": bytes(changed)})
    with pytest.raises(DatasetUnavailable, match="not those of tag"):
        spoken.recordings(tmp_path, download=False)


def test_a_missing_recording_is_named(small, tmp_path):
    del small["1_theo_3.wav"]
    place(tmp_path / spoken.FOLDER, small)
    with pytest.raises(DatasetUnavailable, match=r"1_theo_3\.wav not found"):
        spoken.recordings(tmp_path, download=False)


def test_not_all_that_are_missing_are_named(tmp_path):
    with pytest.raises(DatasetUnavailable, match=r"0_george_5\.wav and 2,994 more files") as error:
        spoken.recordings(tmp_path, download=False)
    assert len(str(error.value)) < 500


def test_the_archive_is_unpacked_whole(small, tmp_path, monkeypatch):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in {**small, "README.md": b"", "9_nobody_0.wav": b""}.items():
            member = tarfile.TarInfo(f"free-spoken-digit-dataset-1.0.10/recordings/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))

    def retrieve(addresses, target, md5):
        target.write_bytes(packed.getvalue())

    monkeypatch.setattr(spoken, "retrieve", retrieve)
    assert spoken.recordings(tmp_path) == small
    left = {p.name for p in tmp_path.rglob("*") if p.is_file()}
    assert left == set(small)


def test_splits_do_not_overlap():
    n = len(spoken.FILES)
    names = [name.removesuffix(".wav").split("_") for name in spoken.FILES]
    info = {
        "speaker": torch.tensor([spoken.SPEAKERS.index(s) for _, s, _ in names]),
        "take": torch.tensor([int(k) for _, _, k in names]),
        "number": torch.arange(n),
    }
    labels = torch.tensor([int(d) for d, _, _ in names])
    every = data.Sequences(torch.zeros(n, 1), labels, tuple("0123456789"), info=info)
    for held in (None, *spoken.SPEAKERS):
        parts = spoken.split(every, held)
        numbers = torch.cat([part.info["number"] for part in parts])
        used = numbers.unique()
        assert len(used) == len(numbers)
        assert len(used) == n
        fit, validation, test = parts
        assert (len(fit), len(validation), len(test)) == (
            (2400, 300, 300) if held is None else (2250, 250, 500)
        )
        if held is None:
            assert int(test.info["take"].max()) == 4
        else:
            assert test.info["speaker"].unique().tolist() == [spoken.SPEAKERS.index(held)]
            assert spoken.SPEAKERS.index(held) not in fit.info["speaker"]
    with pytest.raises(ValueError, match="held_out='nobody'"):
        spoken.split(every, "nobody")


def test_features_obey_their_laws():
    """Twice as loud adds 2 ln 2 everywhere; a higher tone has its peak in a higher band."""
    pytest.importorskip("kaldi_native_fbank")
    one, two = spoken.log_mel(sine(700)), spoken.log_mel(2 * sine(700))
    assert one.shape == (48, 40)  # 1 + (500 − 25) // 10 frames
    strong = one > one.amax() - 10  # what is nothing but rounding of the sine stays out
    assert torch.allclose(
        (two - one)[strong], torch.full(one.shape, 2 * math.log(2))[strong], atol=0.02
    )
    peaks = [int(spoken.log_mel(sine(f))[10].argmax()) for f in (200, 400, 800, 1600, 3000)]
    assert peaks == sorted(set(peaks))
    assert spoken.log_mel(sine(300, 0.01)).shape == (1, 40)


def test_a_frame_hears_nothing_of_later_ones():
    """Who stops after t frames has heard 10 t + 15 ms: features are the same without the rest."""
    pytest.importorskip("kaldi_native_fbank")
    whole = spoken.log_mel(sine(500))
    for frames in (1, 7, 30):
        heard = sine(500)[: int((10 * frames + 15) * spoken.RATE / 1000)]
        assert torch.allclose(spoken.log_mel(heard), whole[:frames], atol=1e-5)


def test_another_kind_of_recording_is_refused():
    assert torch.equal(spoken.waveform(wav(sine(440))), sine(440).short())
    with pytest.raises(DatasetUnavailable, match="8000 Hz"):
        spoken.waveform(wav(sine(440), rate=16000))


@pytest.mark.dataset("spoken_digits")
def test_the_real_ones():
    held = spoken.recordings(download=False)
    assert len(held) == 3000
    assert len(spoken.waveform(held["0_george_0.wav"])) == 2384


@pytest.mark.dataset("spoken_digits")
def test_nothing_of_the_recordings_is_nan():
    train, test = data.load("spoken_digits", download=False)
    for part in (train, test):
        assert bool(part.values.isfinite().all())
        assert int(part.lengths.min()) >= 1
        assert int(part.lengths.max()) <= train.values.shape[1]
