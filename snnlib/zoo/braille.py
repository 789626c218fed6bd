"""Braille letters under a fingertip: the published recordings, read from their files.

A fingertip of the robot iCub with 12 capacitive sensors (taxels) slides over a 3D-printed letter,
many times over each of 27: a blank and A to Z. Each taxel's signal (40 samples a second) is coded
as ON and OFF events at a threshold of 1, 2, 5 or 10 of its units.

What is documented (by the authors' repository, which writes and reads such files, and by others'
readers of the archive):

- the archive ``reading_braille_data.zip``, DOI 10.5281/zenodo.7050094, with a pickle for each
  threshold, ``data_braille_letters_th_1.pkl`` and so on;
- a recording is ``letter``, a text, and ``events``: for each of the 12 taxels two lists of times in
  seconds, ON and OFF. The authors' converter writes a list of such dictionaries; published files
  are read with pandas, so they may hold a table with these two columns.

What is assumed: ON comes first, as the authors' converter writes it (one reader of others takes it
for OFF); a taxel's events need not be in order. The recordings could not be had when this was
written: tests write tiny files in this format, and no digest of the real ones is known here. Zenodo
shows the archive's MD5: pass it.

A pickle can run programs, so nothing but plain data (lists, dictionaries, numbers, texts, NumPy
arrays) is unpickled. A table of pandas is refused with the line that turns it into such data.

Source: Müller-Cleve and others, *Braille Letter Reading: A Benchmark for Spatio-Temporal Pattern
Recognition on Neuromorphic Hardware*, Frontiers in Neuroscience 16:951164, 2022.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from snnlib._arguments import real, whole
from snnlib.zoo.fetch import DatasetUnavailable
from snnlib.zoo.sequences import Sequences

CLASSES = ("Space", *(chr(code) for code in range(ord("A"), ord("Z") + 1)))
TAXELS, THRESHOLDS = 12, (1, 2, 5, 10)
ARCHIVE, ADDRESS = "reading_braille_data.zip", "https://doi.org/10.5281/zenodo.7050094"

# What NumPy arrays and numbers are made of, under the names of NumPy 1 and 2.
_PLAIN = {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")} | {
    (module, name)
    for module in ("numpy.core.multiarray", "numpy._core.multiarray")
    for name in ("_reconstruct", "scalar")
}


class _Reader(pickle.Unpickler):
    """Unpickles plain data and refuses whatever else could be called."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _PLAIN:
            raise pickle.UnpicklingError(f"it holds {module}.{name}")
        return super().find_class(module, name)


def load(
    path: str | Path, threshold: int = 1, *, bin_ms: float = 5.0, md5: str | None = None
) -> Sequences:
    """The recordings of one threshold, as counts of events.

    Args:
        path: the archive, or one pickle out of it.
        threshold: of the coding, 1, 2, 5 or 10; which pickle of an archive to read.
        bin_ms: length of a step in ms; what falls into one is counted.
        md5: of the file at ``path``, as Zenodo shows it for the archive; None: not compared.

    Returns:
        ``values`` uint8 (N, T, 24): ON of the 12 taxels, then OFF; T steps up to the last event of
        all. ``classes`` are `CLASSES`.

    Raises:
        DatasetUnavailable: the file is not here, is not that of the MD5, or is of another format;
            says where.
        ValueError: there is no such threshold, or the step is not positive.
    """
    if threshold not in THRESHOLDS:
        raise ValueError(f"threshold={threshold!r} must be one of {THRESHOLDS}")
    real("bin_ms", bin_ms, 0.0, above=True)
    where = Path(path).expanduser()
    try:
        raw = where.read_bytes()
    except OSError as error:
        raise DatasetUnavailable(
            f"the Braille recordings are not at {where} ({error.strerror or error}): download "
            f"{ARCHIVE} from {ADDRESS} and give its path"
        ) from error
    if md5 is not None and (found := hashlib.md5(raw).hexdigest()) != md5.lower():
        raise DatasetUnavailable(f"{where} has the MD5 {found}, not {md5}: download it again")
    rows = _rows(_member(raw, threshold, where), where)
    labels, times = [], []
    for i, row in enumerate(rows):
        letter, events = _recording(row, i, where)
        labels.append(CLASSES.index(letter))
        times.append(events)
    return _binned(labels, times, bin_ms / 1000)


def _member(raw: bytes, threshold: int, where: Path) -> bytes:
    """The pickle: the file itself, or what lies in the archive under the threshold's name."""
    if not zipfile.is_zipfile(io.BytesIO(raw)):
        return raw
    name = f"data_braille_letters_th_{threshold}.pkl"
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            held = [one for one in archive.namelist() if Path(one).name == name]
            if not held:
                raise DatasetUnavailable(f"{where} holds no {name}, but {archive.namelist()[:6]}")
            return archive.read(held[0])
    except zipfile.BadZipFile as error:
        raise DatasetUnavailable(f"{where} is damaged ({error}): download it again") from error


def _rows(raw: bytes, where: Path) -> Sequence[Any]:
    """The recordings: a list of dictionaries, or a dictionary of two columns."""
    try:
        held = _Reader(io.BytesIO(raw)).load()
    except Exception as error:  # a damaged pickle can fail in any way
        remedy = (
            "Turn a table of pandas into plain data in a program that you trust: "
            f"pickle.dump(pandas.read_pickle({where.name!r}).to_dict('records'), file)"
        )
        raise DatasetUnavailable(
            f"{where} is no pickle of plain data: {error}. {remedy}"
        ) from error
    if isinstance(held, Mapping) and {"letter", "events"} <= held.keys():
        columns = zip(held["letter"], held["events"], strict=True)
        held = [{"letter": letter, "events": events} for letter, events in columns]
    if not isinstance(held, list) or not held:
        raise DatasetUnavailable(f"{where} is no list of recordings: {type(held).__name__}")
    return held


def _recording(row: Any, number: int, where: Path) -> tuple[str, list[list[np.ndarray]]]:
    """Letter, and times in seconds by taxel and polarity."""
    place = f"{where}, recording {number}"
    if not isinstance(row, Mapping) or not {"letter", "events"} <= row.keys():
        raise DatasetUnavailable(f"{place}: it has no letter and events")
    if row["letter"] not in CLASSES:
        raise DatasetUnavailable(f"{place}: {row['letter']!r} is no letter of the data set")
    taxels = row["events"]
    if len(taxels) != TAXELS or any(len(taxel) != 2 for taxel in taxels):
        raise DatasetUnavailable(f"{place}: events must be 12 taxels with ON and OFF each")
    times = [[np.asarray(part, dtype=np.float64).reshape(-1) for part in t] for t in taxels]
    together = np.concatenate([part for taxel in times for part in taxel])
    if not np.isfinite(together).all() or (together < 0).any():
        raise DatasetUnavailable(f"{place}: a time is no number of seconds of at least 0")
    return row["letter"], times


def _binned(labels: list[int], times: list[list[list[np.ndarray]]], step: float) -> Sequences:
    """Counts by step, ON of all taxels before OFF."""
    last = max((part.max(initial=0.0) for row in times for t in row for part in t), default=0.0)
    values = np.zeros((len(times), int(last / step) + 1, 2 * TAXELS), dtype=np.int64)
    for i, row in enumerate(times):
        for taxel, parts in enumerate(row):
            for polarity, part in enumerate(parts):
                steps = (part / step).astype(np.int64)
                np.add.at(values[i, :, taxel + TAXELS * polarity], steps, 1)
    counts = torch.from_numpy(values.clip(max=255).astype(np.uint8))
    return Sequences(counts, torch.tensor(labels), CLASSES)


def split(data: Sequences, seed: int = 0) -> tuple[Sequences, Sequences, Sequences]:
    """To fit, for choices and for the test: 70, 10 and 20 % of every letter's recordings.

    The data set has no split of its own; this one depends on the seed alone.
    """
    generator = torch.Generator().manual_seed(whole("seed", seed, 0))
    parts: list[list[torch.Tensor]] = [[], [], []]
    for letter in range(len(data.classes)):
        rows = (data.labels == letter).nonzero()[:, 0]
        rows = rows[torch.randperm(len(rows), generator=generator)]
        first, second = round(0.7 * len(rows)), round(0.8 * len(rows))
        for part, chosen in zip(parts, rows.tensor_split([first, second]), strict=True):
            part.append(chosen)
    fit, validation, test = (data.take(torch.cat(part)) for part in parts)
    return fit, validation, test
