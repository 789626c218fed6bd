"""What Sphinx does not do by itself: pages that are generated from the code and the results.

Each module adds one directive; all of them read their sources when the site is built, so that no
generated page can go stale.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

# The pages describe the library of this checkout, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

MODULES = (
    "address",
    "answers",
    "chapters",
    "converts",
    "docstrings",
    "editions",
    "figures",
    "fixes",
    "glance",
    "landing",
    "mathml",
    "networks",
    "outputs",
    "paper",
    "photograph",
    "playground",
    "related",
    "reproduce",
    "stored",
    "stored_figures",
    "take_along",
    "teaching",
)


def setup(app: Any) -> dict[str, Any]:
    for name in MODULES:
        importlib.import_module(f"bookext.{name}").setup(app)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
