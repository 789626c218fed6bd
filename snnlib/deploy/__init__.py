"""A network leaves the simulation: in whole numbers, as chips compute, as files, as text.

`normalize` makes thresholds 1, as many formats want it; `quantize` makes the network of whole
numbers that `whole_numbers` explains (with `int8` for the processor's 8-bit instructions);
`storage` writes and reads networks, `web` writes the file that a page of the book runs, `nir` the
exchange format of other simulators, `summary` a table; `files` writes any file whole or not at all.
Knows the record of a network (`snnlib.graph.network`) and nothing of time.
"""
