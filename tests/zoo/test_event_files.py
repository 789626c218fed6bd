"""Files of N-MNIST and N-Caltech101: every bit in its place, damage said."""

import numpy as np
import pytest

from snnlib.zoo import event_files
from snnlib.zoo.event_files import Recordings, load, read
from snnlib.zoo.fetch import DatasetUnavailable


def packed(events):
    """Events (x, y, polarity 0 or 1, µs) as the documentation has them: 40 bits, highest first."""
    return b"".join((x << 32 | y << 24 | p << 23 | t).to_bytes(5, "big") for x, y, p, t in events)


def drawn(n=30, size=(34, 34), seed=0):
    random = np.random.default_rng(seed)
    x, y, p = (random.integers(0, most, n) for most in (*size, 2))
    t = np.sort(random.integers(0, 2**23, n))
    return [tuple(map(int, event)) for event in zip(x, y, p, t, strict=True)]


def written(path, events):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(packed(events))
    return path


def test_every_bit_is_in_its_place(tmp_path):
    edges = [(0, 0, 0, 0), (255, 0, 1, 1), (0, 239, 0, 2**16), (1, 2, 1, 2**23 - 1)]
    for events in (drawn(), edges, []):
        x, y, t, p = read(written(tmp_path / "a.bin", events))
        found = zip(x, y, (p + 1) // 2, np.round(t.astype(float) * 1000), strict=True)
        assert [tuple(map(int, one)) for one in found] == events


def test_a_clock_that_ran_over(tmp_path):
    """An event with y = 240 is none: 2¹³ µs are added from there on."""
    path = written(tmp_path / "a.bin", [(1, 2, 1, 8000), (9, 240, 0, 0), (3, 4, 0, 500)])
    x, y, t, _ = read(path)
    assert list(zip(x, y, np.round(t * 1000), strict=True)) == [(1, 2, 8000), (3, 4, 8192 + 500)]
    with pytest.raises(DatasetUnavailable, match="time runs backwards"):
        read(path, overflow=False)
    later = written(tmp_path / "b.bin", [(1, 2, 1, 5), (9, 240, 0, 9)])
    assert len(read(later, overflow=False)[0]) == 2


def test_folders_are_classes(tmp_path):
    for part, label, number in (("Train", "3", 7), ("Train", "0", 2), ("Train", "0", 1),
                                ("Test", "1", 1)):  # fmt: skip
        path = tmp_path / part / label / f"{number:05d}.bin"
        written(path, drawn(n=10 + number, seed=number))
    (tmp_path / "Train" / "readme.txt").write_text("no class", encoding="utf-8")
    found = load(tmp_path)
    assert (found.classes, found.labels.tolist()) == (("0", "3"), [0, 0, 1])
    assert (found.counts.tolist(), found.size) == ([11, 12, 17], (34, 34))
    assert load(tmp_path, part="Test").classes == ("1",)
    assert load(tmp_path, limit=1).counts.tolist() == [11, 17]
    paths = [*sorted((tmp_path / "Train" / "0").glob("*.bin")), tmp_path / "Train/3/00007.bin"]
    digest = event_files.digest(paths)
    assert len(load(tmp_path, sha256=digest)) == 3
    with pytest.raises(DatasetUnavailable, match=f"have the SHA-256 {digest}"):
        load(tmp_path, sha256="0" * 64)


def test_the_other_data_set_has_no_parts(tmp_path):
    written(tmp_path / "airplanes" / "image_0001.bin", drawn(size=(240, 180)))
    found = load(tmp_path, "n-caltech101")
    assert (found.classes, found.size) == (("airplanes",), (240, 180))
    with pytest.raises(ValueError, match="name='cifar'"):
        load(tmp_path, "cifar")


def test_damage_is_said_with_its_place(tmp_path):
    with pytest.raises(DatasetUnavailable, match=r"no folder of a class.*garrickorchard"):
        load(tmp_path / "nowhere")
    with pytest.raises(DatasetUnavailable, match="cannot be read"):
        read(tmp_path / "nothing.bin")
    path = written(tmp_path / "Train" / "0" / "1.bin", drawn())
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(DatasetUnavailable, match="148 bytes are no whole number"):
        load(tmp_path)
    written(path, [(34, 0, 1, 5)])
    with pytest.raises(DatasetUnavailable, match="outside 34 × 34"):
        load(tmp_path)
    written(path, [(3, 0, 1, 5), (3, 0, 1, 4)])
    with pytest.raises(DatasetUnavailable, match="backwards"):
        load(tmp_path)


def test_some_of_the_recordings(tmp_path):
    for i in range(5):
        written(tmp_path / "Train" / str(i) / "1.bin", drawn(n=3 * i, seed=i))
    found = load(tmp_path)
    some = found.take([4, 0, 2])
    assert (some.counts.tolist(), some.labels.tolist()) == ([12, 0, 6], [4, 0, 2])
    assert np.array_equal(some.t[:12], found.t[found.starts[4] :])
    assert np.array_equal(found.take(slice(1, 3)).x, found.x[found.starts[1] : found.starts[3]])
    with pytest.raises(ValueError, match="do not fit"):
        Recordings(found.x[1:], found.y, found.t, found.p, found.starts, found.labels, (), (34, 34))
