"""Other codes for the same network: what a neuron sends, with no weight trained in between.

`Radix` sends the digits of a number, `FirstSpike` one spike whose time is the number, `Delta` only
what changed since the last frame; each is a file of its own, and none knows the others. `stream`
takes messages through a network in time, `coded` is what all of them return. An answer of `Radix`
or `Delta` is, bit for bit, that of the rounded network in whole numbers; that of `FirstSpike` with
analog times is the ANN's. Chapter *Other codes* derives all three.
"""

from snnlib.codes.coded import Coded
from snnlib.codes.delta import Delta, moving
from snnlib.codes.first_spike import FirstSpike
from snnlib.codes.radix import Radix

__all__ = ["Coded", "Delta", "FirstSpike", "Radix", "moving"]
