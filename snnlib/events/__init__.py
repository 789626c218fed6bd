"""Events as a growing graph: trained whole, run one event at a time. Nobody imports this room.

`sensor` is a simulated event camera in front of images that move, `graph` says which events are
neighbors, `aegnn` is the network (PyTorch Geometric), `asynchronous` computes again only what a new
event can change, `training` trains and measures. Recordings of real cameras are read by
`snnlib.zoo.event_files`. Nothing is imported here: only who uses `aegnn` needs PyTorch Geometric.
"""
