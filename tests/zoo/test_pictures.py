"""Images of one's own: pixels and labels as they are, one order, an error for what does not fit."""

import io
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from snnlib.zoo.data import DatasetUnavailable
from snnlib.zoo.pictures import Folder, apart, digests, read_arrays

CLASSES = ("ape", "bee", "cat")


def pixels(count, channels=3, size=(6, 5), seed=0):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, *size, channels), np.uint8)


def write(folder, images, labels, suffix=".png"):
    """One folder a class; file names that sort against the order of the images."""
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        picture = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
        picture.save(folder / CLASSES[label] / f"{len(images) - i:03}{suffix}")


def same_images(split, images, labels):
    """Whether a split holds these images (N, H, W, C) with these labels, in any order."""
    ours = {
        (image.permute(1, 2, 0).numpy().tobytes(), int(label))
        for image, label in zip(split.images, split.labels, strict=True)
    }
    return ours == {(image.tobytes(), int(label)) for image, label in zip(images, labels)}  # noqa: B905


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", [".png", ".BMP", ".tif", ".ppm"])
def test_a_folder_gives_its_pixels_and_its_classes(tmp_path, channels, suffix):
    images, labels = pixels(20, channels), np.arange(20) % 3
    write(tmp_path, images, labels, suffix)
    folder = Folder(tmp_path)
    whole = folder[:]
    assert len(folder) == len(whole) == 20
    assert folder.classes == whole.classes == CLASSES
    assert whole.images.shape == (20, channels, 6, 5)
    assert whole.images.is_contiguous()
    assert same_images(whole, images, labels)
    assert set(whole.labels[:8].tolist()) == {0, 1, 2}, "the first few are of all classes"
    assert torch.equal(folder[5:9].images, whole.images[5:9]), "one order, whatever is read"
    assert len(folder[:0]) == 0


def test_gray_only_where_all_are_and_channels_decide(tmp_path):
    write(tmp_path, pixels(3, 1), [0, 1, 2])
    assert Folder(tmp_path)[:].images.shape[1] == 1
    assert Folder(tmp_path, channels=3)[:].images.shape[1] == 3
    Image.fromarray(pixels(1)[0]).save(tmp_path / "bee" / "color.png")
    assert Folder(tmp_path)[:].images.shape[1] == 3
    assert Folder(tmp_path, channels=1)[:].images.shape[1] == 1


def test_size_is_that_of_torchvision(tmp_path):
    from snnlib.zoo.vision import torchvision

    try:
        transforms = torchvision().transforms
    except ImportError as error:
        pytest.skip(f"needs torchvision: {error}")
    images = [pixels(1, size=(40, 30))[0], pixels(1, size=(9, 50), seed=1)[0]]
    write(tmp_path, images, [0, 1])
    found = Folder(tmp_path, size=(12, 16))[:]
    for image, label in zip(found.images, found.labels, strict=True):
        expected = transforms.Resize((12, 16))(Image.fromarray(images[label]))
        assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(expected))


def test_sizes_that_differ_need_one(tmp_path):
    write(tmp_path, [pixels(1, size=(6, 5))[0], pixels(1, size=(6, 7))[0]], [0, 1])
    with pytest.raises(DatasetUnavailable, match=r"2\.png is 6 × 5, .*1\.png is 6 × 7 .*--size"):
        Folder(tmp_path)
    assert Folder(tmp_path, size=(6, 5))[:].images.shape == (2, 3, 6, 5)


def damaged():
    file = io.BytesIO()
    Image.fromarray(pixels(1, size=(60, 60))[0]).save(file, "PNG")
    whole = file.getvalue()
    return {"empty": b"", "text": b"no picture", "cut": whole[: len(whole) // 2]}


@pytest.mark.parametrize("content", damaged().values(), ids=damaged())
def test_a_picture_that_cannot_be_read_is_named(tmp_path, content):
    write(tmp_path, pixels(3, size=(60, 60)), [0, 1, 2])
    (tmp_path / "bee" / "broken.png").write_bytes(content)
    with pytest.raises(DatasetUnavailable, match=r"broken\.png cannot be read as a picture"):
        Folder(tmp_path)[:]


def test_more_than_eight_bits_are_refused(tmp_path):
    """Pillow would cut 16 bits off at 255 without a word."""
    write(tmp_path, pixels(3, 1), [0, 1, 2])
    deep = np.arange(30, dtype=np.uint16).reshape(6, 5) * 2000
    Image.fromarray(deep).save(tmp_path / "ape" / "deep.png")
    with pytest.raises(DatasetUnavailable, match=r"deep\.png has more than 8 bits"):
        Folder(tmp_path)


def test_what_is_no_picture_is_said(tmp_path):
    write(tmp_path, pixels(3), [0, 1, 2])
    (tmp_path / "ape" / ".hidden").write_text("")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Folder(tmp_path)
    (tmp_path / "ape" / "notes.txt").write_text("")
    (tmp_path / "labels.csv").write_text("")
    with pytest.warns(UserWarning, match=r"2 files are left out.*labels\.csv"):
        assert len(Folder(tmp_path)) == 3


@pytest.mark.filterwarnings("ignore:.*files are left out")
def test_a_folder_without_classes(tmp_path):
    for _ in range(2):
        with pytest.raises(DatasetUnavailable, match="one folder a class"):
            Folder(tmp_path)
        Image.fromarray(pixels(1)[0]).save(tmp_path / "loose.png")


SHAPES = {
    "gray": ((7, 6, 5), None, (7, 1, 6, 5)),
    "channels last": ((7, 6, 5, 3), None, (7, 3, 6, 5)),
    "one channel last": ((7, 6, 5, 1), None, (7, 1, 6, 5)),
    "channels first": ((7, 3, 6, 5), None, (7, 3, 6, 5)),
    "said: last": ((7, 3, 4, 3), "nhwc", (7, 3, 3, 4)),
    "said: first": ((7, 3, 4, 3), "nchw", (7, 3, 4, 3)),
    "four channels": ((7, 4, 6, 5), "nchw", (7, 4, 6, 5)),
}


@pytest.mark.parametrize("dtype", ["uint8", "float32", ">f8", "float16"])
@pytest.mark.parametrize(("shape", "layout", "expected"), SHAPES.values(), ids=SHAPES)
def test_arrays_come_channels_first(tmp_path, shape, layout, expected, dtype):
    images = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    labels = np.arange(7, dtype=np.int16)
    np.savez(tmp_path / "x.npz", images=images, labels=labels)
    split = read_arrays(tmp_path / "x.npz", layout)
    assert split.images.shape == expected
    assert split.images.dtype == (torch.uint8 if dtype == "uint8" else torch.float32)
    assert split.classes == tuple("0123456")
    last = expected[2:] == shape[1:3] and len(shape) == 4 and layout != "nchw"
    first = images[:, None] if images.ndim == 3 else images
    first = first.transpose(0, 3, 1, 2) if last else first
    for image, label in zip(split.images, split.labels, strict=True):
        assert np.array_equal(image.numpy(), first[label].astype(image.numpy().dtype))


X, Y = np.zeros((4, 6, 5, 3), np.uint8), np.arange(4)
BAD = {
    "no labels": ({"images": X}, "no array 'labels' (it has images)"),
    "no images": ({"x": X, "labels": Y}, "no array 'images' (it has x, labels)"),
    "ambiguous": ({"images": X[:, :3], "labels": Y}, "--layout nchw or nhwc"),
    "two channels": ({"images": X[..., :2], "labels": Y}, "--layout nchw or nhwc"),
    "rows": ({"images": X[:, 0, 0], "labels": Y}, "shape (4, 3)"),
    "none": ({"images": X[:0], "labels": Y[:0]}, "shape (0, 6, 5, 3)"),
    "int64 images": ({"images": X.astype(int), "labels": Y}, "images are int64"),
    "uint16 images": ({"images": X.astype(np.uint16), "labels": Y}, "images are uint16"),
    "NaN": ({"images": np.full((4, 6, 5), np.nan), "labels": Y}, "NaN or infinite"),
    "too large": ({"images": np.full((4, 6, 5), 1e300), "labels": Y}, "NaN or infinite"),
    "one label less": ({"images": X, "labels": Y[:3]}, "labels are int64 of shape (3,)"),
    "one-hot": ({"images": X, "labels": np.eye(4)}, "labels are float64 of shape (4, 4)"),
    "floats": ({"images": X, "labels": Y + 0.5}, "labels are float64"),
    "negative": ({"images": X, "labels": Y - 1}, "whole numbers from 0"),
    "huge": ({"images": X, "labels": Y * 10**12}, "below 100,000"),
    "objects": ({"images": X, "labels": np.array([1, "a", None, 2], object)}, "cannot be read"),
}


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize(("arrays", "words"), BAD.values(), ids=BAD)
def test_arrays_that_do_not_fit_are_refused(tmp_path, arrays, words):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DatasetUnavailable) as caught:
        read_arrays(tmp_path / "x.npz")
    assert "x.npz" in str(caught.value)
    assert words in str(caught.value)


def test_a_file_that_is_no_npz_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, images=X, labels=Y)
    whole = path.read_bytes()
    one = io.BytesIO()
    np.save(one, X)
    for content in (b"", b"text", whole[:-30], one.getvalue()):
        path.write_bytes(content)
        with pytest.raises(DatasetUnavailable, match=r"x\.npz cannot be read as an \.npz file"):
            read_arrays(path)


def test_labels_may_be_absent_where_none_is_needed(tmp_path):
    np.savez(tmp_path / "x.npz", images=X)
    assert len(read_arrays(tmp_path / "x.npz", labeled=False)) == 4


@given(values=st.lists(st.integers(0, 5), min_size=1, max_size=12), held=st.integers(0, 12))
def test_apart_leaves_no_image_that_is_known(values, held):
    """By content: equal images are left out wherever they come from."""
    from snnlib.zoo.data import Split

    images = torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1)
    split = Split(images, torch.zeros(len(values), dtype=torch.int64), ("a",))
    left = apart(split, digests(images[:held]))
    assert left.images.flatten().tolist() == [v for v in values if v not in values[:held]]
