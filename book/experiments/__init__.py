"""The book's experiments: each has a name and writes ``book/results/NAME.json``.

``snnlib experiment --list`` shows them, ``snnlib experiment NAME`` runs one. An experiment is a
list of named cells (a network, a neuron, a setting) computed one after another; a finished cell is
kept, so an interrupted run is taken up again with ``--resume``. What an experiment measures, and
how, stands at the head of its module.
"""

from __future__ import annotations

import difflib
import importlib

from book.experiments.frame import Cell, Context, Experiment, ExperimentError, run
from book.experiments.setting import Setting, Subject

__all__ = ["NAMES", "Cell", "Context", "Experiment", "ExperimentError", "Setting", "Subject"]
__all__ += ["get", "run"]

# One module each; imported when asked for.
NAMES = (
    *("accuracy-over-time", "late-answer", "negative", "ablations", "layer-errors"),
    *("early-exit", "frontier", "robustness", "allocation", "peers", "integer"),
    *("activity", "bits", "playground", "rank-coding", "seenn", "codes"),
    # networks that learn to spike
    *("surrogate-depth", "norms", "rate-norm", "dsr"),
    *("st-rsbp", "tandem", "hybrid-coding", "single-spike", "exact-timing", "throughput"),
    # beyond still images
    *("transducer", "touch", "event-graph"),
    "sparsity",
)


def get(name: str) -> Experiment:
    """The experiment of this name.

    Raises:
        ExperimentError: there is none.
    """
    if name not in NAMES:
        close = difflib.get_close_matches(name.lower().replace("_", "-"), NAMES, 1, 0.4)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ExperimentError(
            f"There is no experiment {name!r}.{hint} Choose one of {', '.join(NAMES)}."
        )
    module = importlib.import_module(f"book.experiments.{name.replace('-', '_')}")
    found: Experiment = module.EXPERIMENT
    return found
