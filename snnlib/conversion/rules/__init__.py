"""All rules of conversion; importing this package registers them.

`weighted` (layers with weights, normalization), `arithmetic` (sums, scales), `units` (ReLUs,
quantizers), `pooling` (pooling, reductions, heads), `shapes` (where messages go, what is dropped),
`refused` (what does not convert, and the way out); `pieces` are steps that several rules emit. A
rule emits nodes of `snnlib.graph` and returns the name of the last; it raises `Unsupported` for a
use that does not convert. Chapter *Converting a network*.
"""

from snnlib.conversion.rules import arithmetic, pooling, refused, shapes, units, weighted

__all__ = ["arithmetic", "pooling", "refused", "shapes", "units", "weighted"]
