"""The network as plain data, and what rewrites or writes it. Knows no time and no trained model.

Start with `graph` (what a network is), then `operations` (what a node can be) and `network` (the
record that a spiking network consists of). The rest takes such a record or graph and returns
another (`fold`) or checks it (`check`).
"""

from snnlib.graph.errors import CheckpointError, ConversionError, FileError, Problem
from snnlib.graph.graph import Graph
from snnlib.graph.operations import OPERATIONS, Node, Operation, apply, operation, rectify

__all__ = [
    "OPERATIONS",
    "CheckpointError",
    "ConversionError",
    "FileError",
    "Graph",
    "Node",
    "Operation",
    "Problem",
    "apply",
    "operation",
    "rectify",
]
