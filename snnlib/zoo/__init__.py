"""The book's data sets and networks: loading, training, checkpoints, evaluation.

`data` and `fetch` bring images, `models` and `checkpoints` trained networks; `train` makes them by
`recipes`; `evaluate` runs a spiking network over a data set; `provenance` says what made a number.
"""
