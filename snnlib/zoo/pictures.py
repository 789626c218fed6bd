"""Images of one's own: a folder of pictures, one folder a class, or arrays in an ``.npz`` file.

    photos/cat/1.png  photos/dog/7.jpg              classes in the order of their names
    numpy.savez("digits.npz", images=x, labels=y)   uint8 0…255, or floats as a network takes them

Both come in one random order that is always the same, so that the first N hold all classes. Nothing
is left out silently: what cannot be used is an error that names the file.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snnlib.zoo.data import DatasetUnavailable, Split

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
LAYOUTS = ("nchw", "nhwc")
_MODES = {1: "L", 3: "RGB"}  # channels → Pillow's mode
_DEEP = ("I", "F")  # modes of more than 8 bits begin so; Pillow would cut them off at 255
_MOST_CLASSES = 100_000


class Folder:
    """A folder of pictures, read when a slice of it is asked for: ``Folder("photos")[:100]``.

    Args:
        path: the folder; its folders are the classes, in the order of their names. One without a
            picture counts as a class, too.
        size: (height, width) to scale the pictures to (bilinear, as torchvision's ``Resize`` with
            both sides given); without it all must have one size.
        channels: 1 (gray) or 3 (RGB); by default 1 where all pictures are gray, else 3.

    Raises:
        DatasetUnavailable: no folder, no classes, no pictures; a file that is no picture or cannot
            be read; different sizes.
    """

    def __init__(
        self, path: Path, size: tuple[int, int] | None = None, channels: int | None = None
    ) -> None:
        self.path, self.size = path, size
        inside = [entry for entry in sorted(path.iterdir()) if not entry.name.startswith(".")]
        self.classes = tuple(entry.name for entry in inside if entry.is_dir())
        self.files: list[tuple[Path, int]] = []
        left = [entry for entry in inside if entry.is_file()]
        for label, name in enumerate(self.classes):
            for file in sorted((path / name).rglob("*")):
                if file.suffix.lower() in SUFFIXES:
                    self.files.append((file, label))
                elif file.is_file() and not file.name.startswith("."):
                    left.append(file)
        if left:
            warnings.warn(
                f"{path}: {len(left)} files are left out, as they are no pictures in the folder of "
                f"a class ({', '.join(SUFFIXES)}), such as {left[0]}",
                stacklevel=2,
            )
        if not self.files:
            raise DatasetUnavailable(
                f"{path} holds no folder with pictures: it needs one folder a class, such as "
                f"{path.name}/cat/1.png"
            )
        gray = self._look()
        self.channels = channels or (1 if gray else 3)
        order = np.random.RandomState(0).permutation(len(self.files))
        self.files = [self.files[i] for i in order]

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.files)

    def __getitem__(self, part: slice) -> Split:
        """The pictures of a slice and their labels."""
        pictures = []
        for file, _ in self.files[part]:
            with _opened(file) as picture:
                picture = picture.convert(_MODES[self.channels])
                if self.size is not None:
                    picture = picture.resize(self.size[::-1], 2)  # bilinear
                pixels = np.asarray(picture)
            pictures.append(pixels.reshape(*pixels.shape[:2], self.channels))
        labels = torch.tensor([label for _, label in self.files[part]], dtype=torch.int64)
        if not pictures:
            return Split(
                torch.zeros(0, self.channels, 1, 1, dtype=torch.uint8), labels, self.classes
            )
        images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
        return Split(images, labels, self.classes)

    def _look(self) -> bool:
        """Read the heads of all files; returns whether all pictures are gray."""
        gray, first = True, None
        for file, _ in self.files:
            with _opened(file) as picture:
                mode, side = picture.mode, picture.size
            if mode.startswith(_DEEP):
                raise DatasetUnavailable(
                    f"{file} has more than 8 bits a pixel (mode {mode}): save it with 8, or put "
                    "the values into an .npz file"
                )
            gray = gray and mode in ("1", "L", "LA")
            first = first or (file, side)
            if self.size is None and side != first[1]:
                raise DatasetUnavailable(
                    f"{file} is {side[1]} × {side[0]} pixels, {first[0]} {first[1][1]} × "
                    f"{first[1][0]}: give one size for all (--size HEIGHTxWIDTH)"
                )
        return gray


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """A picture opened by Pillow; whatever goes wrong with it names the file."""
    try:
        from PIL import Image
    except ImportError as error:
        raise DatasetUnavailable("pictures are read by Pillow: pip install pillow") from error
    try:
        with Image.open(file) as picture:
            yield picture
    except DatasetUnavailable:
        raise
    except Exception as error:  # Pillow's readers raise nearly anything on damaged files
        raise DatasetUnavailable(
            f"{file} cannot be read as a picture ({error}): repair it or take it out of the folder"
        ) from error


def read_arrays(path: Path, layout: str | None = None, labelled: bool = True) -> Split:
    """The arrays ``images`` and ``labels`` of an ``.npz`` file.

    Args:
        path: the file. ``images`` is (N, H, W), (N, C, H, W) or (N, H, W, C), uint8 or floating
            point; ``labels`` is (N,), whole numbers from 0.
        layout: "nchw" or "nhwc"; by default the side of the channels is told by its length, 1 or 3.
        labelled: whether labels are needed; if not, they may be absent.

    Raises:
        DatasetUnavailable: no such arrays in the file, or not of this kind.
    """
    arrays = _arrays(path)
    needed = ("images", "labels") if labelled else ("images",)
    if missing := [name for name in needed if name not in arrays]:
        raise DatasetUnavailable(
            f"{path} has no array {missing[0]!r} (it has {', '.join(arrays) or 'none'}): write it "
            "with numpy.savez(path, images=images, labels=labels)"
        )
    images = arrays["images"]
    if images.ndim not in (3, 4) or 0 in images.shape or images.dtype.kind not in "fu":
        raise DatasetUnavailable(
            f"{path}: images are {images.dtype} of shape {images.shape}; they must be uint8 or "
            "floating point, (N, H, W), (N, C, H, W) or (N, H, W, C)"
        )
    if images.dtype.kind == "u" and images.dtype != np.uint8:
        raise DatasetUnavailable(f"{path}: images are {images.dtype}: make them uint8 or floats")
    images = images.astype(np.uint8 if images.dtype == np.uint8 else np.float32)
    if not np.isfinite(images).all():
        raise DatasetUnavailable(f"{path}: the images hold NaN or infinite values")
    labels = arrays.get("labels", np.zeros(len(images), np.int64))
    fits = labels.shape == images.shape[:1] and labels.dtype.kind in "iu"
    if not fits or labels.min() < 0 or labels.max() >= _MOST_CLASSES:
        raise DatasetUnavailable(
            f"{path}: labels are {labels.dtype} of shape {labels.shape}; they must be whole "
            f"numbers from 0 (below {_MOST_CLASSES:,}), one for each of the {len(images)} images"
        )
    order = np.random.RandomState(0).permutation(len(images))
    images = np.ascontiguousarray(_channels_first(images, layout, path)[order])
    classes = tuple(str(label) for label in range(int(labels.max()) + 1))
    return Split(
        torch.from_numpy(images), torch.from_numpy(labels[order].astype(np.int64)), classes
    )


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # zip, header or array may be damaged, or pickled, or no zip at all
        raise DatasetUnavailable(f"{path} cannot be read as an .npz file: {error}") from error


def _channels_first(images: np.ndarray, layout: str | None, path: Path) -> np.ndarray:
    """(N, H, W) or (N, H, W, C) → (N, C, H, W)."""
    if images.ndim == 3:
        return images[:, None]
    if layout is None:
        few = [images.shape[side] in _MODES for side in (1, 3)]
        if few[0] == few[1]:
            raise DatasetUnavailable(
                f"{path}: images of shape {images.shape} may be (N, C, H, W) or (N, H, W, C): say "
                "which (--layout nchw or nhwc)"
            )
        layout = LAYOUTS[few[1]]
    return images if layout == "nchw" else images.transpose(0, 3, 1, 2)


def digests(images: Tensor) -> list[str]:
    """A short digest of each image: equal images have equal ones, others almost surely not."""
    return [
        hashlib.blake2b(image.numpy().tobytes(), digest_size=6).hexdigest()
        for image in images.cpu().contiguous()
    ]


def apart(split: Split, known: Sequence[str]) -> Split:
    """The images whose digests are not among ``known``."""
    held = set(known)
    return split.take([digest not in held for digest in digests(split.images)]) if held else split
