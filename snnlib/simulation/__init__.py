"""A network in time: what it sends, what it answers, what it costs.

`network` is the public face. Behind it: `simulate` cuts a call into pieces (`schedule`), `engine`
takes a piece through time, `run` holds what came out, `costs` counts. `coding` is how images enter,
`early_exit` when to answer, `closed_form` what needs no time at all; `reference` says the same
slowly, and `verify` looks through it.
"""
