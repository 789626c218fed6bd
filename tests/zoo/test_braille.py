"""Braille recordings: read from files as the authors write them, and from nothing that runs."""

import hashlib
import pickle
import zipfile

import numpy as np
import pytest
import torch

from snnlib.zoo import braille
from snnlib.zoo.fetch import DatasetUnavailable


def recordings(n=6, seed=0):
    """As the authors' converter has them: a list of {letter, events}, times of ON and OFF."""
    drawn = np.random.default_rng(seed)
    return [
        {
            "letter": braille.CLASSES[i % 27],
            "events": [
                [np.sort(drawn.uniform(0, 1.2, drawn.integers(4))).tolist() for _ in range(2)]
                for _ in range(12)
            ],
        }
        for i in range(n)
    ]


def written(path, held):
    path.write_bytes(pickle.dumps(held))
    return path


def test_every_event_is_counted_in_its_step(tmp_path):
    rows = recordings()
    found = braille.load(written(tmp_path / "th1.pkl", rows), bin_ms=5)
    assert found.values.shape[2] == 24
    assert found.classes[0] == "Space"
    assert [found.classes[label] for label in found.labels] == [row["letter"] for row in rows]
    for i, row in enumerate(rows):
        for taxel, parts in enumerate(row["events"]):
            for polarity, times in enumerate(parts):
                counts = found.values[i, :, taxel + 12 * polarity]
                steps = [int(t / 0.005) for t in times]
                assert int(counts.sum()) == len(times)
                assert all(counts[step] == steps.count(step) for step in steps)
    coarse = braille.load(tmp_path / "th1.pkl", bin_ms=25)
    assert torch.equal(coarse.values.sum(1), found.values.sum(1))


def test_the_archive_holds_a_file_for_each_threshold(tmp_path):
    path = tmp_path / braille.ARCHIVE
    with zipfile.ZipFile(path, "w") as archive:
        for i, theta in enumerate((1, 2)):
            name = f"reading/data_braille_letters_th_{theta}.pkl"
            archive.writestr(name, pickle.dumps(recordings(2 + i)))
    assert [len(braille.load(path, theta)) for theta in (1, 2)] == [2, 3]
    with pytest.raises(DatasetUnavailable, match="holds no data_braille_letters_th_5"):
        braille.load(path, 5)
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    assert len(braille.load(path, md5=digest.upper())) == 2
    with pytest.raises(DatasetUnavailable, match=f"has the MD5 {digest}"):
        braille.load(path, md5="0" * 32)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DatasetUnavailable):
        braille.load(path)


def test_columns_and_arrays_are_read_too(tmp_path):
    rows = recordings(3)
    arrays = [[[np.array(part) for part in taxel] for taxel in row["events"]] for row in rows]
    columns = {"letter": [row["letter"] for row in rows], "events": arrays}
    one = braille.load(written(tmp_path / "a.pkl", rows))
    other = braille.load(written(tmp_path / "b.pkl", columns))
    assert torch.equal(one.values, other.values)


class Runs:
    """A pickle of this would call print."""

    def __reduce__(self):
        return print, ("it ran",)


def test_nothing_is_run(tmp_path, capsys):
    path = written(tmp_path / "bad.pkl", [Runs()])
    with pytest.raises(DatasetUnavailable, match=r"holds builtins\.print.*to_dict"):
        braille.load(path)
    assert capsys.readouterr().out == ""


def broken(change):
    row = recordings(1)[0]
    change(row)
    return [row]


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({"letter": []}, "no list of recordings: dict"),
        ([], "no list of recordings"),
        ([7], "recording 0: it has no letter"),
        (broken(lambda row: row.update(letter="Ä")), "'Ä' is no letter"),
        (broken(lambda row: row["events"].pop()), "12 taxels"),
        (broken(lambda row: row["events"][3].pop()), "ON and OFF"),
        (broken(lambda row: row["events"][3][0].append(-1.0)), "at least 0"),
        (broken(lambda row: row["events"][3][0].append(float("nan"))), "at least 0"),
    ],
)
def test_another_format_is_refused_with_its_place(tmp_path, held, said):
    with pytest.raises(DatasetUnavailable, match=said):
        braille.load(written(tmp_path / "x.pkl", held))


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(DatasetUnavailable, match=r"download reading_braille_data\.zip from https"):
        braille.load(tmp_path / "nowhere.zip")
    path = tmp_path / "text.pkl"
    path.write_text("hello", encoding="utf-8")
    with pytest.raises(DatasetUnavailable, match="no pickle of plain data"):
        braille.load(path)
    with pytest.raises(ValueError, match="threshold=3"):
        braille.load(path, 3)
    with pytest.raises(ValueError, match="bin_ms"):
        braille.load(path, bin_ms=0)


def test_each_letter_is_in_every_part_and_no_recording_in_two(tmp_path):
    data = braille.load(written(tmp_path / "many.pkl", recordings(27 * 10)))
    numbered = braille.Sequences(torch.arange(270)[:, None], data.labels, data.classes)
    parts = braille.split(numbered)
    assert [len(part) for part in parts] == [189, 27, 54]
    assert torch.equal(torch.cat([p.values[:, 0] for p in parts]).sort().values, torch.arange(270))
    for part, count in zip(parts, (7, 1, 2), strict=True):
        assert torch.equal(part.labels.bincount(minlength=27), torch.full((27,), count))
    assert torch.equal(braille.split(numbered)[2].values, parts[2].values)
