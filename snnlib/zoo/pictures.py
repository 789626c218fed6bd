"""Images of one's own: a folder of pictures, one folder a class, or arrays in an ``.npz`` file.

    photos/cat/1.png  photos/dog/7.jpg              classes in the order of their names
    numpy.savez("digits.npz", images=x, labels=y)   uint8 0…255, or floats as a network takes them

Both come in one random order that is always the same, so that the first N hold all classes.
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
_MODES = {1: "L", 3: "RGB"}  # channels → Pillow's mode
_MOST_CLASSES = 100_000


class Folder:
    """A folder of pictures, read when a slice of it is asked for: ``Folder(path)[:100]``.

    Args:
        path: the folder; its folders are the classes, also those without a picture.
        size: (height, width) to scale the pictures to (bilinear, as torchvision's ``Resize`` with
            both sides given); without it all must have one size.
        channels: 1 (gray) or 3 (RGB); by default 1 where all pictures are gray, else 3.

    Raises:
        DatasetUnavailable: no folder holds a picture; one cannot be read, or has another size.
    """

    def __init__(
        self, path: Path, size: tuple[int, int] | None = None, channels: int | None = None
    ) -> None:
        self.size = size
        inside = [entry for entry in sorted(path.iterdir()) if not entry.name.startswith(".")]
        self.classes = tuple(entry.name for entry in inside if entry.is_dir())
        found, left = [], [entry for entry in inside if entry.is_file()]
        for label, name in enumerate(self.classes):
            for file in sorted((path / name).rglob("*")):
                if any(part.startswith(".") for part in file.relative_to(path / name).parts):
                    continue
                if file.suffix.lower() in SUFFIXES:
                    found.append((file, label))
                elif file.is_file():
                    left.append(file)
        if left:
            warnings.warn(
                f"{path}: {len(left)} files are left out, as they are no pictures in the folder of "
                f"a class ({', '.join(SUFFIXES)}), such as {left[0]}",
                stacklevel=2,
            )
        if not found:
            raise DatasetUnavailable(
                f"{path} holds no folder with pictures: it needs one folder a class, such as "
                f"{path / 'cat' / '1.png'}"
            )
        gray = self._look([file for file, _ in found])
        self.channels = channels or (1 if gray else 3)
        self.files = [found[i] for i in np.random.RandomState(0).permutation(len(found))]

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.files)

    def __getitem__(self, part: slice) -> Split:
        """The pictures of a slice and their labels."""
        pictures = [self._pixels(file) for file, _ in self.files[part]]
        stacked = np.stack(pictures) if pictures else np.zeros((0, 1, 1, self.channels), np.uint8)
        images = torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous()  # (N, C, H, W)
        labels = torch.tensor([label for _, label in self.files[part]], dtype=torch.int64)
        return Split(images, labels, self.classes)

    def _pixels(self, file: Path) -> np.ndarray:
        """A picture as uint8 (H, W, C)."""
        with _opened(file) as picture:
            picture = picture.convert(_MODES[self.channels])
            if self.size is not None:
                picture = picture.resize(self.size[::-1], 2)  # bilinear
            pixels = np.asarray(picture)
        return pixels.reshape(*pixels.shape[:2], self.channels)

    def _look(self, files: list[Path]) -> bool:
        """Read the heads of all files; returns whether all pictures are gray."""
        gray, sizes = True, {}
        for file in files:
            with _opened(file) as picture:
                mode = picture.mode
                sizes[picture.size[::-1]] = file
            if mode.startswith(("I", "F")):  # Pillow would cut it off at 255
                raise DatasetUnavailable(
                    f"{file} has more than 8 bits a pixel (mode {mode}): save it with 8, or put "
                    "the values into an .npz file"
                )
            gray = gray and mode in ("1", "L", "LA")
            if self.size is None and len(sizes) > 1:
                told = ", ".join(f"{name} is {h} × {w}" for (h, w), name in sizes.items())
                raise DatasetUnavailable(f"{told} pixels: give one size for all (--size HxW)")
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
    except Exception as error:  # Pillow's readers raise nearly anything on damaged files
        raise DatasetUnavailable(
            f"{file} cannot be read as a picture ({error}): repair it or take it out of the folder"
        ) from error


def read_arrays(path: Path, layout: str | None = None, labeled: bool = True) -> Split:
    """The arrays ``images`` and ``labels`` of an ``.npz`` file.

    Args:
        path: the file. ``images`` is (N, H, W), (N, C, H, W) or (N, H, W, C), uint8 or floating
            point; ``labels`` is (N,), whole numbers from 0.
        layout: "nchw" or "nhwc"; by default the side of the channels is told by its length, 1 or 3.
        labeled: whether labels are needed; if not, they may be absent.

    Raises:
        DatasetUnavailable: no such arrays in the file, or not of this kind.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # zip, header or array may be damaged, or pickled, or no zip at all
        raise DatasetUnavailable(f"{path} cannot be read as an .npz file: {error}") from error
    for name in ("images", "labels") if labeled else ("images",):
        if name not in arrays:
            raise DatasetUnavailable(
                f"{path} has no array {name!r} (it has {', '.join(arrays) or 'none'}): write it "
                "with numpy.savez(path, images=images, labels=labels)"
            )
    images = arrays["images"]
    known = images.dtype == np.uint8 or images.dtype.kind == "f"
    if images.ndim not in (3, 4) or 0 in images.shape or not known:
        raise DatasetUnavailable(
            f"{path}: images are {images.dtype} of shape {images.shape}; they must be uint8 or "
            "floating point, (N, H, W), (N, C, H, W) or (N, H, W, C)"
        )
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
    numbers = torch.from_numpy(labels[order].astype(np.int64))
    return Split(torch.from_numpy(images), numbers, classes)


def _channels_first(images: np.ndarray, layout: str | None, path: Path) -> np.ndarray:
    """(N, H, W) or (N, H, W, C) → (N, C, H, W)."""
    if images.ndim == 3:
        return images[:, None]
    first, last = (images.shape[side] in _MODES for side in (1, 3))
    if layout is None and first == last:
        raise DatasetUnavailable(
            f"{path}: images of shape {images.shape} may be (N, C, H, W) or (N, H, W, C): say "
            "which (--layout nchw or nhwc)"
        )
    return images if layout == "nchw" or (not layout and first) else images.transpose(0, 3, 1, 2)


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
