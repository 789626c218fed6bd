"""The file that ``snnlib evaluate --output`` writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snnlib.zoo.provenance import Made


def write(path: Path, made: Made, run: Mapping[str, Any]) -> None:
    """A results file: what was measured, by which command, when, on what."""
    from snnlib.deploy.files import write_bytes

    head = {key: run[key] for key in ("n", "seed", "seconds")}
    record = {**made, **head, "runs": [run]}
    write_bytes(path, (json.dumps(record, indent=1) + "\n").encode())
