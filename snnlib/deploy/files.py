"""Files written whole or not at all, and safetensors files read with a message that helps."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from snnlib.graph.errors import CheckpointError, FileError


def write_bytes(path: str | Path, content: bytes, error: type[FileError] = FileError) -> Path:
    """Write a file whole or not at all: a temporary neighbor, then one rename.

    A file that is there keeps its mode, a new one has the user's (umask); behind a symbolic link
    the file that it points to is written, and a pipe or a device takes the content as it is.

    Args:
        path: the file; its folder is made.
        content: what it is to hold.
        error: what is raised where it cannot be written.

    Raises:
        FileError: the folder cannot be written.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # a pipe or a device is no file to replace
            with open(path, "wb") as stream:
                stream.write(content)
            return path
        target = path.resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".writing-{secrets.token_hex(6)}")
        try:
            mode = target.stat().st_mode & 0o7777 if target.is_file() else None
            private = partial(os.open, mode=0o666 if mode is None else 0o600)
            with open(temporary, "xb", opener=private) as file:
                file.write(content)
            if mode is not None:
                temporary.chmod(mode)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, RuntimeError) as fault:  # a link that leads to itself is a RuntimeError
        reason = getattr(fault, "strerror", None) or fault
        raise error(f"{path} cannot be written: {reason}. Choose another folder.") from fault
    return path


def is_file(path: Path) -> bool:
    """Whether a file is there.

    Raises:
        CheckpointError: one may not look.
    """
    try:
        return path.is_file()
    except OSError as fault:
        raise CheckpointError(f"{path} cannot be read: {fault.strerror or fault}.") from fault


def read_safetensors(path: Path, remedy: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Header and tensors of an existing safetensors file.

    Raises:
        CheckpointError: it is truncated or of another kind; the message ends in ``remedy``.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            header = file.metadata() or {}
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is truncated or no safetensors file ({error}). {remedy}"
        ) from error


def digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over a text and tensors: names, types, shapes and every byte."""
    found = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
