"""Checkpoints: safetensors files with the record of their training, written whole or not at all.

A file holds the tensors of a state dict and one JSON text: architecture, data set, recipe,
accuracies, seed, command, versions, hardware. safetensors itself notices a truncated file but not
a flipped bit, so the record carries the SHA-256 of the tensors and of itself; every reading checks
it.
"""

from __future__ import annotations

import hashlib
import json
import os
import urllib.error
import urllib.request
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from snnlib.deploy.files import digest, is_file, read_safetensors, write_bytes
from snnlib.graph.errors import CheckpointError as CheckpointError

FORMAT = "snnlib-checkpoint-1"
ASSETS = Path(__file__).parent / "assets"
# Where the published files lie; the name of the file follows. The index holds their SHA-256.
ADDRESS = "https://raw.githubusercontent.com/snnlib/snnlib/main/book/checkpoints/"
INDEX = ASSETS / "checkpoints.json"


def write(path: str | Path, state: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> Path:
    """Write tensors and their record to ``path``, whole or not at all.

    Args:
        path: the file; its folder is made.
        state: tensors by name (a state dict).
        metadata: what JSON can hold; ``architecture`` must be there.

    Raises:
        CheckpointError: the file cannot be written.
    """
    tensors = {k: v.detach().cpu().contiguous() for k, v in state.items()}
    record = json.dumps(
        {**metadata, "sha256": digest(json.dumps(metadata, sort_keys=True), tensors)}
    )
    return write_bytes(
        path, save(tensors, metadata={"format": FORMAT, "record": record}), CheckpointError
    )


def read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a checkpoint and its record.

    Raises:
        CheckpointError: the file is missing, truncated, damaged, or no checkpoint of this library.
    """
    path = Path(path)
    if not is_file(path):
        raise CheckpointError(f"{path}: there is no such checkpoint. Check the path.")
    header, tensors = read_safetensors(path, _repair(path))
    if header.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is a safetensors file but not a checkpoint of snnlib: its format is "
            f"{header.get('format')!r} instead of {FORMAT!r}. To convert a network of your own, "
            "load its weights into your module and call snnlib.convert on that; on the command "
            f"line: snnlib evaluate my_net.py:make_net --weights {path.name} --data IMAGES"
        )
    try:
        record = json.loads(header["record"])
        claimed = record.pop("sha256")
        sound = claimed == digest(json.dumps(record, sort_keys=True), tensors) and isinstance(
            record["architecture"], str
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        sound = False
    if not sound:
        raise CheckpointError(
            f"{path} is damaged: weights and record do not have the SHA-256 that is stored with "
            f"them. {_repair(path)}"
        )
    return tensors, record


def weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file of weights: ``.safetensors``, or PyTorch's, read as tensors alone.

    A state dict inside a dictionary is found where it is the only one. Names are as in the file:
    `bare` takes the prefixes of DataParallel and torch.compile off.

    Raises:
        CheckpointError: no such file, or no weights in it, or more than weights.
    """
    path = Path(path)
    if not is_file(path):
        raise CheckpointError(f"{path}: there is no such file of weights. Check the path.")
    if path.suffix == ".safetensors":
        _, held = read_safetensors(path, "Write the weights with safetensors.torch.save_file.")
        return held
    way = "Save them with torch.save(model.state_dict(), path)."
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"{path} cannot be read as weights alone: it is damaged, or pickles more than tensors, "
            f"which may run code and is not opened. {way}"
        ) from error
    entries = held.items() if isinstance(held, dict) else ()
    inside = {"": held} if _weights(held) else {k: v for k, v in entries if _weights(v)}
    if len(inside) != 1:
        raise CheckpointError(f"{path} holds {len(inside)} state dicts {[*inside]}. {way}")
    (found,) = inside.values()
    return dict(found)


def bare(found: Mapping[str, Tensor], wanted: Collection[str] = ()) -> dict[str, Tensor]:
    """Names without the prefixes that wrappers put before all of them, in either order."""
    for prefix in ("_orig_mod.", "module.", "_orig_mod."):
        if found.keys() == set(wanted):
            break
        if found and all(name.startswith(prefix) for name in found):
            found = {name.removeprefix(prefix): value for name, value in found.items()}
    return dict(found)


def _weights(held: object) -> bool:
    """Whether something is a state dict: names and tensors."""
    if not isinstance(held, dict) or not held:
        return False
    return all(isinstance(k, str) and isinstance(v, Tensor) for k, v in held.items())


def find(name: str) -> Path:
    """Where the checkpoint of a network is; fetched into the cache folder if nowhere.

    The order: ``$SNNLIB_CHECKPOINTS``; the package's own files; ``book/checkpoints`` of the
    repository (the working folder, those above it, and the one that the package lies in); the
    user's cache folder; the published address.

    Raises:
        CheckpointError: it is in none of these places, or ``SNNLIB_CHECKPOINTS`` names no folder.
    """
    file = f"{name}.safetensors"
    places = [ASSETS]
    if chosen := os.environ.get("SNNLIB_CHECKPOINTS"):
        places.insert(0, Path(chosen).expanduser())
        if not places[0].is_dir():
            raise CheckpointError(
                f"SNNLIB_CHECKPOINTS={chosen}: there is no such folder. Name the one that holds "
                "the checkpoints, or remove the variable."
            )
    here = Path.cwd()
    places += [base / "book" / "checkpoints" for base in (here, *here.parents, ASSETS.parents[2])]
    cached = _cache()
    for place in (*places, cached):
        if (place / file).is_file():
            return place / file
    return _fetch(name, cached / file)


def _cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("snnlib") / "checkpoints"


def _fetch(name: str, target: Path) -> Path:
    entry = index().get(name)
    if entry is None:
        raise CheckpointError(
            f"There is no published checkpoint of {name!r}. Train it: snnlib train {name}"
        )
    address = ADDRESS + target.name
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:
            content = answer.read()
    except (urllib.error.URLError, OSError) as error:
        raise CheckpointError(
            f"{target.name} is neither here nor could it be fetched from {address} ({error}). "
            f"Check the network; or copy the file into a folder and set SNNLIB_CHECKPOINTS to it; "
            f"or train it: snnlib train {name}"
        ) from error
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise CheckpointError(
            f"{address} gave another file than the published one: its SHA-256 is not "
            f"{entry['sha256']}. Try again later, or train it: snnlib train {name}"
        )
    return write_bytes(target, content, CheckpointError)


@cache
def index() -> dict[str, dict[str, Any]]:
    """The published checkpoints: for each name the SHA-256 and the size of its file."""
    return json.loads(INDEX.read_text(encoding="utf-8")) if INDEX.is_file() else {}


def narrow(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in float16; vectors (biases, batch-norm statistics) stay as they are: they are few,
    and a variance may lie outside float16's range."""
    return {
        k: v.to(torch.float16) if v.is_floating_point() and v.ndim > 1 else v
        for k, v in state.items()
    }


def _repair(path: Path) -> str:
    """What to do about a damaged file; only our own may be deleted."""
    if path.is_relative_to(_cache()):
        return "It lies in snnlib's cache: delete it and load again, it will be fetched."
    return "Give another file, or none for the published weights of one of the book's networks."
