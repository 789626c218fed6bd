"""Find, fetch and check the files of a data set.

A file is looked for in the folder that the caller names, or in ``$SNNLIB_DATA`` and the user's
cache folder. What is missing is downloaded by torchvision's utilities (progress bar, checksum) into
a temporary folder beside its place and moved there when it is complete.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import socket
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from snnlib.zoo.vision import torchvision


class DatasetUnavailable(RuntimeError):
    """A data set cannot be had: the message says which file, what is wrong and what to do."""


def folders(root: str | Path | None = None) -> list[Path]:
    """Where data sets are looked for, in order; a download goes to the first."""
    if root is not None:
        return [Path(root).expanduser()]
    from platformdirs import user_cache_path

    chosen = os.environ.get("SNNLIB_DATA")
    return [*([Path(chosen).expanduser()] if chosen else []), user_cache_path("snnlib") / "data"]


def locate(
    name: str,
    inside: Path,
    files: tuple[str, ...],
    root: str | Path | None,
    download: bool,
    fetch: Callable[[Path, str, Path], None],
) -> Path:
    """The folder with all ``files``, fetched where they are missing.

    Args:
        name: of the data set, for messages.
        inside: the folder of the files below a data folder.
        files: names of the uncompressed files.
        root: the only data folder to look in; by default those of :func:`folders`.
        download: fetch what is missing.
        fetch: called with the target folder, a file's name and a temporary folder; puts the file
            into the target folder in one move.

    Raises:
        DatasetUnavailable: a file is missing and cannot be fetched or written; or ``SNNLIB_DATA``
            names no folder.
    """
    chosen = os.environ.get("SNNLIB_DATA")
    if root is None and chosen and not Path(chosen).expanduser().is_dir():
        raise DatasetUnavailable(
            f"SNNLIB_DATA={chosen}: there is no such folder. Make it (a download goes there), name "
            "the one that holds the data sets, or remove the variable."
        )
    candidates = [base / inside for base in folders(root)]
    folder = fullest(inside, files, root)
    missing = [f for f in files if not _exists(folder / f)]
    if missing and not download:
        raise DatasetUnavailable(
            f"{name}: {_named(missing)} not found in {' or '.join(map(str, candidates))}. "
            f"Fetch it with snnlib data {name}, or set SNNLIB_DATA to a folder that holds it."
        )
    if missing:
        with _scratch(folder, name) as scratch:
            for file in missing:
                try:
                    fetch(folder, file, scratch)
                except ImportError as error:
                    raise DatasetUnavailable(
                        f"{name}: {missing[0]} is not in {folder}, and the download needs "
                        f"torchvision: {error}"
                    ) from error
                except (OSError, EOFError, tarfile.TarError) as error:
                    raise DatasetUnavailable(
                        f"{name}: {file} could not be written to {folder}: {error}. Free some "
                        "space, or set SNNLIB_DATA to a folder that can be written."
                    ) from error
    return folder


def fullest(inside: Path, files: tuple[str, ...], root: str | Path | None) -> Path:
    """The folder that holds most of some files, the first of equals; arguments as of `locate`."""
    candidates = [base / inside for base in folders(root)]
    held = [sum(map(_exists, (c / f for f in files))) for c in candidates]
    return candidates[held.index(max(held))]


@contextmanager
def _scratch(folder: Path, name: str) -> Iterator[Path]:
    """A temporary folder on the same disk, so that finished files can be moved into place."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=folder, prefix=".download-")
    except OSError as error:
        raise DatasetUnavailable(
            f"{name}: the folder {folder} cannot be written ({error.strerror or error}). Set "
            "SNNLIB_DATA to a folder that can, or to one that already holds the data set."
        ) from error
    with scratch as path:
        yield Path(path)


def retrieve(addresses: list[str], target: Path, md5: str | None) -> None:
    """Download through torchvision (progress bar, checksum), from the first mirror that works.

    Without an MD5 the caller has to check what came.

    Raises:
        DatasetUnavailable: no address gave the file (with this MD5).
        ImportError: torchvision is not installed.
    """
    download_url = torchvision().datasets.utils.download_url
    patience = socket.getdefaulttimeout()
    reasons = []
    try:
        socket.setdefaulttimeout(30)  # a network that swallows packets must not hang for minutes
        for address in addresses:
            try:
                return download_url(address, str(target.parent), target.name, md5)
            except (OSError, RuntimeError, http.client.HTTPException) as error:
                target.unlink(missing_ok=True)
                reasons.append(f"{address}: {error}")
    finally:
        socket.setdefaulttimeout(patience)
    raise DatasetUnavailable(
        f"{target.name} could not be downloaded ({'; '.join(reasons)}). Check the network, or copy "
        "the file from a machine that has it and set SNNLIB_DATA to its folder. "
        "load('digits') works without a network."
    )


def _named(files: list[str], most: int = 6) -> str:
    """The names of some files, for a message: those of the first, and how many more."""
    rest = len(files) - most
    return ", ".join(files[:most]) + (f" and {rest:,} more files" if rest > 0 else "")


def _exists(path: Path) -> bool:
    return path.is_file() or path.with_name(path.name + ".gz").is_file()


def read(path: Path) -> bytes:
    """The file's bytes; a compressed neighbor (as the original distribution has it) will do.

    Raises:
        DatasetUnavailable: the file cannot be read or unpacked.
    """
    try:
        if path.is_file():
            return path.read_bytes()
        return gzip.decompress(path.with_name(path.name + ".gz").read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetUnavailable(f"{path} cannot be read: {error}. {repair(path)}") from error


def check(path: Path, raw: bytes, size: int, digest: str | None, name: str) -> None:
    """Compare a file's bytes with the size and the SHA-256 that they should have.

    Raises:
        DatasetUnavailable: they differ.
    """
    if len(raw) != size:
        wrong = "is truncated" if len(raw) < size else "is too long"
        raise DatasetUnavailable(
            f"{path} {wrong}: {len(raw):,} bytes instead of {size:,}. {repair(path)}"
        )
    if digest and hashlib.sha256(raw).hexdigest() != digest:
        raise DatasetUnavailable(
            f"{path} has the right size but is not the file of {name}: its SHA-256 is not "
            f"{digest}. {repair(path)}"
        )


def repair(path: Path) -> str:
    """The last sentence of a message about a damaged file; only our own may be deleted."""
    from platformdirs import user_cache_path

    if path.is_relative_to(user_cache_path("snnlib")):
        return "It lies in snnlib's cache: delete it and load again, it will be downloaded."
    return (
        "Put the original in its place, or let SNNLIB_DATA name a folder that holds the data set "
        "(an empty one to download it)."
    )
