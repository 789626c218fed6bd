"""A network leaves Python: in whole numbers, as chips compute, and in files that others read.

`quantize` makes the network of whole numbers that `whole_numbers` explains (with `int8` for the
processor's 8-bit instructions); `storage` writes and reads networks, `nir` writes the exchange
format of other simulators; `files` writes any file whole or not at all. Knows the record of a
network (`snnlib.graph.network`) and nothing of time.
"""
