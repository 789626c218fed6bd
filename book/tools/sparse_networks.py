"""Put the sparse networks that are shipped among the checkpoints: ``python -m
book.tools.sparse_networks``.

``snnlib experiment sparsity`` keeps every network that it chooses. Of each architecture the one of
the first seed with the fewest events is taken, in the order of the results, as long as all together
stay below `MOST` bytes; the others can be made by that command.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from book.experiments.frame import FOLDER, SEED
from book.experiments.sparsity import KEPT, file_name

SHIPPED = FOLDER.parent / "checkpoints" / "sparse"
MOST = 8_000_000


def choose(record: dict[str, Any]) -> dict[str, str]:
    """By network the file's name of its sparsest choice."""
    rows = [r for r in record["runs"] if r["way"] == "trained" and r["seed"] == SEED]
    return {
        network: file_name(min(own, key=lambda r: r["events_per_neuron"]))
        for network in record["networks"]
        if (own := [r for r in rows if r["model"] == network])
    }


def ship(record: dict[str, Any], kept: Path = KEPT, shipped: Path = SHIPPED) -> list[Path]:
    """Copy what fits; returns the files.

    Raises:
        FileNotFoundError: a chosen network was not kept: the experiment was run elsewhere.
    """
    made: list[Path] = []
    for network, name in choose(record).items():
        source = kept / name
        if not source.is_file():
            raise FileNotFoundError(f"{source}: run `snnlib experiment sparsity` here first")
        if sum(path.stat().st_size for path in [*made, source]) > MOST:
            continue
        shipped.mkdir(parents=True, exist_ok=True)
        made.append(Path(shutil.copyfile(source, shipped / f"{network}.safetensors")))
    return made


def main() -> None:
    """Ship them and say which."""
    for path in ship(json.loads((FOLDER / "sparsity.json").read_text(encoding="utf-8"))):
        print(f"{path.stat().st_size / 1e6:.2f} MB  {path.parent.name}/{path.name}")


if __name__ == "__main__":
    main()
