"""The file that ``snnlib evaluate --output`` writes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from snnlib.zoo.provenance import Made


def stamp(options: argparse.Namespace, device: torch.device) -> Made:
    """Which command computes, where and with what; the output file by its name alone."""
    from snnlib.zoo import provenance

    output = Path(options.output or "")
    shown = [output.name if Path(w) == output.absolute() else w for w in options.arguments]
    return provenance.record(device, "numpy", command=["snnlib", *shown])


def write(path: Path, made: Made, run: Mapping[str, Any]) -> None:
    """A results file: what was measured, by which command, when, on what."""
    from snnlib.deploy.files import write_bytes

    head = {key: run[key] for key in ("n", "seed", "seconds")}
    record = {**made, **head, "runs": [run]}
    write_bytes(path, (json.dumps(record, indent=1) + "\n").encode())
