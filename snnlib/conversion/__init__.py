"""A trained ReLU network becomes a spiking one.

`convert` is the public call: `trace` makes a graph of a model by the rules of `rules` (entered in
`registry`), `balance` measures thresholds (with `least_error`), `calibrate`
corrects biases.
"""
