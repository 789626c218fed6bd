"""Data sets as uint8 tensors in memory, checked byte by byte.

Four sets of images: ``digits`` (inside scikit-learn, so it needs no network), ``mnist``,
``fashion_mnist`` and ``cifar10``; and ``spoken_digits``, sequences (`snnlib.zoo.spoken`). Files are
looked for in ``$SNNLIB_DATA``, then in the user's cache folder, in the layout of their original
distributions; what is missing is downloaded, checked and put in place whole or not at all. No
pickle is ever loaded: CIFAR-10 is read in its binary version.

>>> train, test = load("digits")
>>> train.images.shape, train.images.dtype
(torch.Size([1442, 1, 28, 28]), torch.uint8)

The splits follow the usual train and test sets, so accuracies compare with published ones.
"""

from __future__ import annotations

import difflib
import gzip
import hashlib
import os
import tarfile
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Literal, overload

import numpy as np
import torch
from torch import Tensor

from snnlib._arguments import whole
from snnlib.zoo import spoken
from snnlib.zoo.fetch import DatasetUnavailable, check, locate, read, repair, retrieve
from snnlib.zoo.sequences import Sequences
from snnlib.zoo.vision import torchvision

__all__ = [
    "NAMES",
    "DatasetUnavailable",
    "Sequences",
    "Split",
    "load",
    "to_float",
    "validation_split",
]

NAMES = ("digits", "mnist", "fashion_mnist", "cifar10")
SHAPES = {**dict.fromkeys(NAMES, (1, 28, 28)), "cifar10": (3, 32, 32)}  # of an image: (C, H, W)

DIGITS = tuple("0123456789")
GARMENTS = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
OBJECTS = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)

# SHA-256 of each uncompressed IDX file: train images, train labels, test images, test labels.
IDX_FILES = tuple(
    f"{p}-{k}-ubyte" for p in ("train", "t10k") for k in ("images-idx3", "labels-idx1")
)
IDX = {
    "mnist": (
        "MNIST",
        DIGITS,
        (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    "fashion_mnist": (
        "FashionMNIST",
        GARMENTS,
        (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
}

# CIFAR-10, binary version: records of one label byte and 3072 pixel bytes. Distributions differ in
# the order inside a split, so each split is sorted by the SHA-256 of the record: every source then
# gives the same indices, and one digest of the sorted whole proves that all images are there.
CIFAR_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
CIFAR_FOLDER = "cifar-10-batches-bin"
CIFAR_RECORD = 1 + 3 * 32 * 32
CIFAR_BATCH = 10_000 * CIFAR_RECORD
CIFAR_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
CIFAR_TEST = ("test_batch.bin",)
CIFAR_SHA256 = {
    CIFAR_TRAIN: "e47348e92e1b30ac0f7c8442987cf05d07f7556eaf7a09b8fae52543df7266c6",
    CIFAR_TEST: "c601bf85e16d3df5ce4a9a274bdaa4475e7a92eb0939ca63c602ccc780548819",
}


@dataclass(frozen=True)
class Split:
    """One part of a data set, in memory.

    Attributes:
        images: (N, C, H, W), uint8, 0 to 255; or real numbers, as a network takes them.
        labels: (N,), int64, indices into ``classes``.
        classes: the names of the classes.

    Raises:
        ValueError: another shape or type; or a label that is no index into ``classes``.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        known = self.images.dtype == torch.uint8 or self.images.is_floating_point()
        if self.images.ndim != 4 or not known:
            raise ValueError(
                "Split.images must be uint8 or floating point of shape (N, C, H, W), not "
                f"{self.images.dtype} of shape {tuple(self.images.shape)}"
            )
        if self.labels.shape != self.images.shape[:1] or self.labels.dtype != torch.int64:
            raise ValueError(
                f"Split.labels must be int64 of shape ({len(self.images)},), one label an image, "
                f"not {self.labels.dtype} of shape {tuple(self.labels.shape)}"
            )
        wrong = self.labels[(self.labels < 0) | (self.labels >= len(self.classes))]
        if len(wrong):
            raise ValueError(
                f"Split.labels holds {int(wrong[0])}, but there are {len(self.classes)} classes: "
                f"labels count them from 0 to {len(self.classes) - 1}"
            )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: slice) -> Split:
        """A contiguous part: ``train[:1000]``. For arbitrary images use :meth:`take`."""
        if not isinstance(index, slice):
            raise TypeError(
                f"a Split is cut by slices, not by {type(index).__name__}: write split[:100], "
                "split.take([3, 7]) or split.images[3]"
            )
        return Split(self.images[index], self.labels[index], self.classes)

    def take(self, indices: Tensor | np.ndarray | list[int] | list[bool]) -> Split:
        """The images at ``indices``, in that order; or those where a mask of bools is True.

        Raises:
            IndexError: an index is outside the split, or a mask has another length.
            TypeError: neither whole numbers nor bools.
        """
        where = np.asarray(indices.cpu() if isinstance(indices, Tensor) else indices)
        if where.dtype.kind == "b":
            if where.shape != (len(self),):
                raise IndexError(
                    f"a mask has one entry an image, shape ({len(self)},), not {where.shape}"
                )
            where = np.flatnonzero(where)
        elif where.dtype.kind not in "iu" and where.size:
            raise TypeError(f"indices must be whole numbers or a mask of bools, not {where.dtype}")
        elif where.size and not -len(self) <= where.min() <= where.max() < len(self):
            raise IndexError(f"indices must lie below {len(self)}, the number of images")
        chosen = torch.from_numpy(where.astype(np.int64))
        return Split(self.images[chosen], self.labels[chosen], self.classes)

    def floats(self) -> Tensor:
        """The images as float32: uint8 in [0, 1], real numbers as they are; (N, C, H, W)."""
        return to_float(self.images) if self.images.dtype == torch.uint8 else self.images.float()


_Root = str | Path | None
_Both = tuple[Sequences, Sequences]


@overload
def load(  # type: ignore[overload-overlap]
    name: Literal["spoken_digits"], root: _Root = ..., download: bool = ...
) -> _Both: ...
@overload
def load(name: str, root: _Root = ..., download: bool = ...) -> tuple[Split, Split]: ...
def load(name: str, root: _Root = None, download: bool = True) -> tuple[Split, Split] | _Both:
    """Load a data set as ``(train, test)``.

    Args:
        name: one of :data:`NAMES`; or ``"spoken_digits"``, which gives `Sequences`.
        root: the folder that holds (or will hold) the files; by default ``$SNNLIB_DATA`` and then
            the user's cache folder are searched, and a download goes to the first of them.
        download: fetch what is missing; ``False`` raises instead.

    Raises:
        DatasetUnavailable: unknown name; a file that is missing, truncated or not what it should
            be; no network; a folder that cannot be written.
    """
    if name == "digits":
        return _digits()
    if name == spoken.NAME:
        return spoken.official(spoken.load(root, download))
    known = (*NAMES, spoken.NAME)
    if name not in known:
        close = difflib.get_close_matches(str(name).lower().replace("-", "_"), known, 1, 0.4)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        message = f"There is no data set {name!r}.{hint} Choose one of {', '.join(known)}."
        raise DatasetUnavailable(message)
    if name == "cifar10":
        return _cifar10(root, download)
    return _idx(name, root, download)


def validation_split(train: Split, fraction: float = 0.1, seed: int = 0) -> tuple[Split, Split]:
    """Split ``train`` into ``(fit, validation)``, the same share of every class.

    Every choice (thresholds, epochs, levels) is made on the validation part, so that the test set
    is touched once. The stream of NumPy's ``RandomState`` is frozen by its documentation: a seed
    means the same images with every version.

    Raises:
        ValueError: ``fraction`` is not strictly between 0 and 1, or leaves one part without an
            image; ``seed`` is not a whole number below 2³².
    """
    if not isinstance(fraction, Real) or not 0 < fraction < 1:
        raise ValueError(f"fraction must lie strictly between 0 and 1, not {fraction!r}")
    random = np.random.RandomState(whole("seed", seed, 0, 2**32 - 1))
    labels = train.labels.numpy()
    held = np.zeros(len(train), dtype=bool)
    for label in range(len(train.classes)):
        members = random.permutation(np.flatnonzero(labels == label))
        held[members[: round(float(fraction) * len(members))]] = True
    if held.all() or not held.any():
        empty = "to fit" if held.all() else "for validation"
        raise ValueError(f"fraction={fraction!r} of {len(train)} images leaves none {empty}")
    return train.take(~held), train.take(held)


def to_float(images: Tensor) -> Tensor:
    """uint8 images (N, C, H, W) in 0…255 → float32 in [0, 1], what every model here takes.

    Raises:
        TypeError: ``images`` is not a uint8 tensor (it may have been converted already).
    """
    if not isinstance(images, Tensor) or images.dtype != torch.uint8:
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"to_float takes a uint8 tensor such as split.images, not {kind}")
    return images.to(torch.float32).div_(255)


# --- digits --------------------------------------------------------------------------------------


def _digits() -> tuple[Split, Split]:
    """scikit-learn's 1,797 digits of 8×8 pixels in 0…16, scaled to 28×28 in 0…255.

    Bilinear scaling by 3.5 has weights in fourteenths, so it is done in whole numbers and gives
    the same bytes on every machine. Every fifth image of a class is a test image.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DatasetUnavailable(
            "The digits come with scikit-learn, which is not installed: pip install scikit-learn"
        ) from error
    bunch = load_digits()
    weights = np.zeros((28, 8), dtype=np.int64)
    for i in range(28):
        left, rest = divmod(4 * i - 5, 14)  # the center of pixel i lies at (4i − 5)/14
        weights[i, max(left, 0)] += 14 - rest
        weights[i, min(left + 1, 7)] += rest
    small = bunch.images.astype(np.int64)
    scaled = (255 * (weights @ small @ weights.T) + 8 * 196) // (16 * 196)
    images = torch.from_numpy(scaled.astype(np.uint8))[:, None]
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    held = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        held[np.flatnonzero(bunch.target == label)[4::5]] = True
    whole = Split(images, labels, DIGITS)
    return whole.take(np.flatnonzero(~held)), whole.take(np.flatnonzero(held))


# --- MNIST and Fashion-MNIST ---------------------------------------------------------------------


def _idx(name: str, root: str | Path | None, download: bool) -> tuple[Split, Split]:
    folder_name, classes, digests = IDX[name]

    def fetch(folder: Path, file: str, scratch: Path) -> None:
        dataset = getattr(torchvision().datasets, folder_name)
        md5 = dict(dataset.resources)[f"{file}.gz"]
        retrieve([m + f"{file}.gz" for m in dataset.mirrors], scratch / f"{file}.gz", md5)
        (scratch / file).write_bytes(gzip.decompress((scratch / f"{file}.gz").read_bytes()))
        os.replace(scratch / file, folder / file)

    folder = locate(name, Path(folder_name, "raw"), IDX_FILES, root, download, fetch)
    arrays = []
    for file, digest in zip(IDX_FILES, digests, strict=True):
        raw = read(folder / file)
        images = "images" in file
        count = 60_000 if file.startswith("train") else 10_000
        expected = 16 + 28 * 28 * count if images else 8 + count
        check(folder / file, raw, expected, digest, name)
        values = np.frombuffer(raw, np.uint8, offset=16 if images else 8)
        arrays.append(torch.from_numpy(values.copy()))
    train_x, train_y, test_x, test_y = arrays
    return (
        Split(train_x.view(-1, 1, 28, 28), train_y.long(), classes),
        Split(test_x.view(-1, 1, 28, 28), test_y.long(), classes),
    )


# --- CIFAR-10 ------------------------------------------------------------------------------------


def _cifar10(root: str | Path | None, download: bool) -> tuple[Split, Split]:
    files = CIFAR_TRAIN + CIFAR_TEST

    def fetch(folder: Path, file: str, scratch: Path) -> None:
        archive = scratch / "cifar-10-binary.tar.gz"
        if not archive.exists():  # one archive holds all six files
            retrieve([CIFAR_URL], archive, CIFAR_MD5)
        with tarfile.open(archive) as tar:
            member = tar.extractfile(f"{CIFAR_FOLDER}/{file}")
            assert member is not None  # the checksum of the archive has been verified
            (scratch / file).write_bytes(member.read())
        os.replace(scratch / file, folder / file)

    folder = locate("cifar10", Path(CIFAR_FOLDER), files, root, download, fetch)
    return _cifar10_split(folder, CIFAR_TRAIN), _cifar10_split(folder, CIFAR_TEST)


def _cifar10_split(folder: Path, files: tuple[str, ...]) -> Split:
    parts = []
    for file in files:
        raw = read(folder / file)
        check(folder / file, raw, CIFAR_BATCH, None, "cifar10")
        parts.append(np.frombuffer(raw, np.uint8).reshape(-1, CIFAR_RECORD))
    records = np.concatenate(parts)
    order = sorted(range(len(records)), key=lambda i: hashlib.sha256(records[i].data).digest())
    records = records[order]
    if hashlib.sha256(records.data).hexdigest() != CIFAR_SHA256[files]:
        raise DatasetUnavailable(
            f"{', '.join(files)} in {folder} have the right size but are not CIFAR-10's images: "
            f"the digest of the ordered records is wrong. {repair(folder)}"
        )
    images = torch.from_numpy(records[:, 1:].copy()).view(-1, 3, 32, 32)
    return Split(images, torch.from_numpy(records[:, 0].astype(np.int64)), OBJECTS)
