"""Time that carries meaning: networks that decide when to answer. Nobody imports this room.

`crossing` is the rule (answer at the first step at which an output is sure enough) and its loss,
`coder` the recurrent network that is trained by it and stops where it has answered, `coding` turns
images into sequences, `tasks` makes the book's tasks, `observers` are the best that any network
could do on two of them. `exits` asks the same question of spiking networks.

Several answers while one listens: `strings` joins spoken digits, `lattice` is the loss over all the
times at which they could come out, `transducer` the network, `transducing` its training and marks.
"""
