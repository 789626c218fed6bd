"""Data sets: exact bytes, fixed splits, a helpful error for everything that can go wrong."""

import gzip
import hashlib
import http.server
import io
import math
import os
import tarfile
import threading
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from snnlib.zoo import data, fetch, models
from snnlib.zoo.data import DatasetUnavailable, Split


@pytest.fixture
def downloads():
    """Skip where nothing can be downloaded."""
    try:
        data.torchvision()
    except ImportError as error:
        pytest.skip(f"needs torchvision: {error}")


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """A machine without data sets whose cache folder is ``tmp_path``, and without a network."""

    def unreachable(*args, **kwargs):
        raise urllib.error.URLError("no network in this test")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    monkeypatch.delenv("SNNLIB_DATA", raising=False)
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / name)
    return tmp_path


@pytest.fixture
def tiny_cifar(monkeypatch, tmp_path):
    """CIFAR-10 with 6 × 20 random records, its checksums, and the archive as bytes."""
    records = np.random.default_rng(0).integers(0, 256, (120, data.CIFAR_RECORD), np.uint8)
    records[:, 0] %= 10
    files = dict(zip(data.CIFAR_TRAIN + data.CIFAR_TEST, np.split(records, 6), strict=True))
    monkeypatch.setattr(data, "CIFAR_BATCH", 20 * data.CIFAR_RECORD)
    ordered = {}
    for names in (data.CIFAR_TRAIN, data.CIFAR_TEST):
        rows = [row.tobytes() for name in names for row in files[name]]
        rows.sort(key=lambda row: hashlib.sha256(row).digest())
        ordered[names] = hashlib.sha256(b"".join(rows)).hexdigest()
    monkeypatch.setattr(data, "CIFAR_SHA256", ordered)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, rows in files.items():
            member = tarfile.TarInfo(f"{data.CIFAR_FOLDER}/{name}")
            member.size = rows.nbytes
            tar.addfile(member, io.BytesIO(rows.tobytes()))
    monkeypatch.setattr(data, "CIFAR_MD5", hashlib.md5(archive.getvalue()).hexdigest())
    return files, archive.getvalue()


@pytest.fixture
def serve(tmp_path_factory):
    """A local web server: give it names and contents, get its address."""
    servers = []

    def start(files):
        folder = tmp_path_factory.mktemp("served")
        for name, content in files.items():
            (folder / name).write_bytes(content)

        class Quiet(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, directory=str(folder), **kwargs)

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def place(folder: Path, files) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in files.items():
        (folder / name).write_bytes(rows.tobytes())


# --- splits --------------------------------------------------------------------------------------


def test_digits_are_the_same_bytes_everywhere():
    train, test = data.load("digits")
    digest = hashlib.sha256(train.images.numpy().tobytes() + test.images.numpy().tobytes())
    assert digest.hexdigest() == "ba152889a8791d3f5162bd12648a78992f6db4d1879bbf99565100b279b107d6"
    assert (len(train), len(test)) == (1442, 355)
    assert train.images.shape[1:] == (1, 28, 28)
    assert train.classes == test.classes == tuple("0123456789")


def test_digits_are_a_bilinear_enlargement():
    from sklearn.datasets import load_digits

    small = torch.from_numpy(load_digits().images)[:, None]
    large = F.interpolate(small, size=28, mode="bilinear", align_corners=False) * 255 / 16
    train, test = data.load("digits")
    ours = torch.cat([train.images, test.images]).double()
    # The same multiset of images: compare both in an order that does not depend on rounding.
    key_large, key_ours = large.flatten(1).sum(1).argsort(), ours.flatten(1).sum(1).argsort()
    assert torch.allclose(
        large.flatten(1).sum(1)[key_large], ours.flatten(1).sum(1)[key_ours], atol=28 * 28 / 2
    )
    first = large[(load_digits().target == 0).nonzero()[0][0]]
    assert (train.images[train.labels == 0][0].double() - first).abs().max() <= 0.5 + 1e-9


def test_digits_test_split_is_stratified():
    train, test = data.load("digits")
    share = torch.bincount(test.labels) / torch.bincount(torch.cat([train.labels, test.labels]))
    assert share.min() > 0.19
    assert share.max() <= 0.2


@given(
    counts=st.lists(st.integers(1, 40), min_size=2, max_size=5),
    fraction=st.floats(0.05, 0.95),
    seed=st.integers(0, 2**32 - 1),
)
def test_validation_split_partitions_every_class(counts, fraction, seed):
    labels = torch.cat([torch.full((n,), label) for label, n in enumerate(counts)])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    number = torch.arange(len(labels), dtype=torch.int32)  # each image carries its own number
    images = number.view(torch.uint8).view(-1, 1, 2, 2)
    whole = Split(images, labels, tuple(map(str, range(len(counts)))))
    sizes = [round(fraction * n) for n in counts]
    if sizes == counts or not any(sizes):
        with pytest.raises(ValueError, match="leaves none"):
            data.validation_split(whole, fraction, seed)
        return
    fit, held = data.validation_split(whole, fraction, seed)

    def numbers(part):
        return set(part.images.reshape(len(part), 4).contiguous().view(torch.int32)[:, 0].tolist())

    assert numbers(fit) | numbers(held) == set(range(len(labels)))
    assert len(fit) + len(held) == len(labels)
    for label, n in enumerate(counts):
        assert abs(int((held.labels == label).sum()) - fraction * n) <= 0.5
    again = data.validation_split(whole, fraction, seed)
    assert torch.equal(again[1].images, held.images)


def test_validation_split_depends_on_the_seed():
    train, _ = data.load("digits")
    one, other = (data.validation_split(train, seed=s)[1] for s in (0, 1))
    assert not torch.equal(one.images, other.images)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, math.nan, "0.1", None])
def test_validation_split_rejects(fraction):
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        data.validation_split(data.load("digits")[0], fraction)


@pytest.mark.parametrize(("fraction", "part"), [(1e-6, "for validation"), (1 - 1e-6, "to fit")])
def test_validation_split_leaves_no_part_empty(fraction, part):
    with pytest.raises(ValueError, match=f"of 1442 images leaves none {part}"):
        data.validation_split(data.load("digits")[0], fraction)


@pytest.mark.parametrize("seed", [None, -1, 2**32, 0.5, "0", True])
def test_validation_split_needs_a_seed(seed):
    with pytest.raises(ValueError, match=r"seed=.* whole number from 0 to 4294967295"):
        data.validation_split(data.load("digits")[0], seed=seed)


def test_split_slices_and_takes():
    train, _ = data.load("digits")
    assert torch.equal(train[10:30:2].labels, train.labels[10:30:2])
    assert torch.equal(train.take([5, 3]).images, train.images[[5, 3]])
    assert len(train.take([])) == 0
    with pytest.raises(TypeError, match=r"split\.take"):
        train[3]
    for outside in (1442, -1443):
        with pytest.raises(IndexError, match="1442"):
            train.take([outside])
    for strange in ([0.0, 1.0], ["a"], torch.zeros(3)):
        with pytest.raises(TypeError, match="whole numbers or a mask"):
            train.take(strange)


@pytest.mark.parametrize("kind", [torch.as_tensor, np.asarray, list])
@pytest.mark.parametrize("chosen", [[0, 3, 4], [], [0, 1, 2, 3, 4]])
def test_split_takes_a_mask(kind, chosen):
    """A mask of bools means the images where it is True, not the images number 0 and 1."""
    split = data.load("digits")[0][:5]
    mask = kind([i in chosen for i in range(5)])
    assert torch.equal(split.take(mask).images, split.images[chosen])
    with pytest.raises(IndexError, match=r"one entry an image, shape \(5,\), not \(4,\)"):
        split.take(mask[:4])


def test_split_rejects_what_is_no_data_set():
    images = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    for wrong in (images.long(), images[0], images.bool()):
        with pytest.raises(ValueError, match="uint8"):
            Split(wrong, torch.zeros(len(wrong), dtype=torch.int64), ("a",))
    with pytest.raises(ValueError, match="one label an image"):
        Split(images, torch.zeros(3, dtype=torch.int64), ())
    for labels, wrong in (([0, 2], 2), ([-1, 0], -1)):
        with pytest.raises(ValueError, match=f"holds {wrong}, but there are 2 classes"):
            Split(images, torch.tensor(labels), ("a", "b"))


def test_split_of_real_numbers_gives_them_as_they_are():
    images = torch.randn(3, 1, 4, 4).double()
    split = Split(images, torch.zeros(3, dtype=torch.int64), ("a",))
    assert torch.equal(split[1:].floats(), images[1:].float())
    whole = data.load("digits")[0][:3]
    assert torch.equal(whole.floats(), data.to_float(whole.images))


def test_to_float():
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(data.to_float(every).flatten(), torch.arange(256) / 255)
    with pytest.raises(TypeError, match="uint8"):
        data.to_float(data.to_float(every))
    with pytest.raises(TypeError, match="Split"):
        data.to_float(data.load("digits")[0])


# --- what can go wrong ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("mnits", "mnist"), ("fashion-mnist", "fashion_mnist"), ("CIFAR10", "cifar10")],
)
def test_unknown_name_suggests(wrong, right):
    with pytest.raises(DatasetUnavailable, match=f"Did you mean '{right}'"):
        data.load(wrong)


def test_unknown_name_lists_all():
    with pytest.raises(DatasetUnavailable, match=r"digits, mnist, fashion_mnist, cifar10"):
        data.load("imagenet-1k-of-another-world")


@pytest.mark.parametrize("download", [True, False])
def test_a_folder_that_is_not_there_is_not_skipped(nowhere, monkeypatch, download):
    """A mistyped SNNLIB_DATA must not fall back on the cache, or download into nowhere."""
    monkeypatch.setenv("SNNLIB_DATA", str(nowhere / "mistyped"))
    with pytest.raises(DatasetUnavailable, match=r"SNNLIB_DATA=.*mistyped: there is no such"):
        data.load("mnist", download=download)
    assert list(nowhere.iterdir()) == []
    assert len(data.load("digits")[0]) == 1442, "embedded: needs no folder"


@pytest.mark.parametrize("inside", [True, False])
def test_only_files_of_the_cache_may_be_deleted(nowhere, inside):
    """What lies elsewhere may be the user's own: the message must not tell to delete it."""
    place = nowhere / "snnlib" / "data" if inside else nowhere / "mine"
    raw = place / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in data.IDX_FILES:
        (raw / file).write_bytes(bytes(10))
    with pytest.raises(DatasetUnavailable, match="is truncated") as caught:
        data.load("mnist", root=place, download=False)
    assert ("delete" in str(caught.value).lower()) == inside
    assert "SNNLIB_DATA" in str(caught.value) or inside


def test_folders_in_order(nowhere, monkeypatch):
    assert fetch.folders() == [nowhere / "snnlib" / "data"]
    monkeypatch.setenv("SNNLIB_DATA", str(nowhere / "mine"))
    assert fetch.folders() == [nowhere / "mine", nowhere / "snnlib" / "data"]
    assert fetch.folders("given") == [Path("given")]


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_missing_without_download_says_where(name, nowhere):
    with pytest.raises(DatasetUnavailable, match=f"not found in .*snnlib data {name}"):
        data.load(name, download=False)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
@pytest.mark.usefixtures("downloads")
def test_no_network(name, nowhere):
    with pytest.raises(DatasetUnavailable, match="no network in this test"):
        data.load(name)
    assert not [p for p in nowhere.rglob("*") if p.is_file()]


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_unwritable_folder(name, nowhere):
    (nowhere / "file").write_text("a file where a folder should be")
    with pytest.raises(DatasetUnavailable, match="cannot be written"):
        data.load(name, root=nowhere / "file" / "below")


def test_truncated_idx_file(nowhere):
    raw = nowhere / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in data.IDX_FILES:
        (raw / file).write_bytes(bytes(1000))
    with pytest.raises(DatasetUnavailable, match="is truncated: 1,000 bytes instead of 47,040,016"):
        data.load("mnist", root=nowhere)


def test_wrong_idx_file_of_the_right_size(nowhere):
    raw = nowhere / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in data.IDX_FILES:
        with open(raw / file, "wb") as empty:
            empty.truncate(47_040_016)
    with pytest.raises(DatasetUnavailable, match="right size but is not the file of mnist"):
        data.load("mnist", root=nowhere)


def test_damaged_gzip(nowhere):
    raw = nowhere / "MNIST" / "raw"
    raw.mkdir(parents=True)
    packed = bytearray(gzip.compress(os.urandom(2000)))
    packed[20] ^= 255
    for file in data.IDX_FILES:
        (raw / f"{file}.gz").write_bytes(packed)
    with pytest.raises(DatasetUnavailable, match="cannot be read"):
        data.load("mnist", root=nowhere)


@pytest.mark.usefixtures("downloads")
def test_wrong_download_is_rejected(nowhere, serve, monkeypatch):
    monkeypatch.undo()  # the network is back, a wrong file is at the address
    files = {f"{file}.gz": gzip.compress(b"something else") for file in data.IDX_FILES}
    mnist = data.torchvision().datasets.MNIST
    monkeypatch.setattr(mnist, "mirrors", [serve(files)])
    with pytest.raises(DatasetUnavailable, match="not found or corrupted"):
        data.load("mnist", root=nowhere)
    assert not [p for p in nowhere.rglob("*") if p.is_file()]


# --- CIFAR-10 ------------------------------------------------------------------------------------


def test_cifar_order_does_not_depend_on_the_distribution(tiny_cifar, tmp_path):
    files, _ = tiny_cifar
    place(tmp_path / "one" / data.CIFAR_FOLDER, files)
    rows = np.concatenate([files[name] for name in data.CIFAR_TRAIN])
    rows = np.random.default_rng(1).permutation(rows)
    files |= dict(zip(data.CIFAR_TRAIN, np.split(rows, 5), strict=True))
    place(tmp_path / "other" / data.CIFAR_FOLDER, files)
    one, other = (data.load("cifar10", tmp_path / n, download=False) for n in ("one", "other"))
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)


def test_cifar_keeps_label_and_image_together(tiny_cifar, tmp_path):
    files, _ = tiny_cifar
    place(tmp_path / data.CIFAR_FOLDER, files)
    _, test = data.load("cifar10", tmp_path, download=False)
    labels = {row[1:].tobytes(): int(row[0]) for row in files["test_batch.bin"]}
    for image, label in zip(test.images, test.labels, strict=True):
        assert labels[image.numpy().tobytes()] == label


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.integers(0, 20 * data.CIFAR_RECORD - 1), bit=st.integers(0, 7))
def test_cifar_notices_every_flipped_bit(where, bit, tiny_cifar, tmp_path):
    files, _ = tiny_cifar
    damaged = bytearray(files["test_batch.bin"].tobytes())
    damaged[where] ^= 1 << bit
    place(tmp_path / data.CIFAR_FOLDER, files)
    (tmp_path / data.CIFAR_FOLDER / "test_batch.bin").write_bytes(damaged)
    with pytest.raises(DatasetUnavailable, match="not CIFAR-10's images"):
        data.load("cifar10", tmp_path, download=False)


@pytest.mark.usefixtures("downloads")
def test_cifar_download_leaves_six_files_and_nothing_else(tiny_cifar, serve, tmp_path, monkeypatch):
    files, archive = tiny_cifar
    name = "cifar-10-binary.tar.gz"
    monkeypatch.setattr(data, "CIFAR_URL", serve({name: archive}) + name)
    train, test = data.load("cifar10", tmp_path)
    assert (len(train), len(test)) == (100, 20)
    folder = tmp_path / data.CIFAR_FOLDER
    assert sorted(p.name for p in folder.iterdir()) == sorted(files)
    assert all((folder / n).read_bytes() == rows.tobytes() for n, rows in files.items())


@pytest.mark.usefixtures("downloads")
def test_cifar_download_cut_short_leaves_nothing(tiny_cifar, serve, tmp_path, monkeypatch):
    name = "cifar-10-binary.tar.gz"
    monkeypatch.setattr(data, "CIFAR_URL", serve({name: tiny_cifar[1][:5000]}) + name)
    with pytest.raises(DatasetUnavailable, match="could not be downloaded"):
        data.load("cifar10", tmp_path)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


@pytest.mark.usefixtures("downloads")
def test_missing_file_is_fetched_and_the_others_are_kept(tiny_cifar, serve, tmp_path, monkeypatch):
    files, archive = tiny_cifar
    name = "cifar-10-binary.tar.gz"
    monkeypatch.setattr(data, "CIFAR_URL", serve({name: archive}) + name)
    folder = tmp_path / data.CIFAR_FOLDER
    place(folder, files)
    before = (folder / "data_batch_1.bin").stat().st_mtime_ns
    (folder / "data_batch_3.bin").unlink()
    data.load("cifar10", tmp_path)
    assert (folder / "data_batch_3.bin").read_bytes() == files["data_batch_3.bin"].tobytes()
    assert (folder / "data_batch_1.bin").stat().st_mtime_ns == before


# --- the real ones -------------------------------------------------------------------------------


@pytest.mark.dataset("mnist")
def test_mnist():
    train, test = data.load("mnist", download=False)
    assert train.images.shape == (60_000, 1, 28, 28)
    assert test.images.shape == (10_000, 1, 28, 28)
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]


@pytest.mark.dataset("fashion_mnist")
def test_fashion_mnist():
    train, test = data.load("fashion_mnist", download=False)
    assert torch.bincount(train.labels).tolist() == [6000] * 10
    assert torch.bincount(test.labels).tolist() == [1000] * 10
    assert train.classes[int(train.labels[0])] == "Ankle boot"


@pytest.mark.dataset("cifar10")
def test_cifar10():
    train, test = data.load("cifar10", download=False)
    assert torch.bincount(train.labels).tolist() == [5000] * 10
    assert torch.bincount(test.labels).tolist() == [1000] * 10
    pixels = train.images.double() / 255
    mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
    assert torch.allclose(mean, torch.tensor(models.CIFAR10[0]).double(), atol=5e-5)
    assert torch.allclose(std, torch.tensor(models.CIFAR10[1]).double(), atol=5e-5)


@pytest.mark.dataset("mnist")
def test_compressed_originals_are_read_in_place(tmp_path):
    source = next(
        f / "MNIST" / "raw"
        for f in fetch.folders()
        if (f / "MNIST" / "raw" / data.IDX_FILES[0]).is_file()
    )
    target = tmp_path / "MNIST" / "raw"
    target.mkdir(parents=True)
    for file in data.IDX_FILES[:3]:
        (target / file).symlink_to(source / file)
    labels = data.IDX_FILES[3]
    (target / f"{labels}.gz").write_bytes(gzip.compress((source / labels).read_bytes()))
    ours, theirs = data.load("mnist", tmp_path, download=False)[1], data.load("mnist")[1]
    assert torch.equal(ours.labels, theirs.labels)
