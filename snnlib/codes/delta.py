"""Sigma-delta code: a neuron sends what changed since the last frame, and nothing else.

In frame f an activation is rounded to c_f; the message is Δ_f = c_f − c_{f−1} (c_0 = 0), and a
receiver keeps what it has, V_f = V_{f−1} + W Δ_f, so V_f = W c_f + b: in whole numbers the answer
to every frame is, bit for bit, the one that sending the frame anew gives. An unchanged activation
costs nothing. The pixels send their changes too, so the first layer multiplies changed pixels only.

An `snnlib.Augmented` neuron with negative = 0 that is fed changes *is* this neuron: its count is
the rounded sum of its input, and its signed spikes are the changes of that count.

Source: O'Connor and Welling, Sigma Delta Quantized Networks, ICLR 2017. Theirs: the code. Ours: the
whole numbers, in which equality is exact, pixels, and max pooling by changes of the maximum.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from snnlib._arguments import whole
from snnlib.backend.modes import exact_sums, own_mode
from snnlib.codes.coded import Coded, Tally
from snnlib.codes.stream import (
    Clock,
    added,
    changes,
    check,
    fired,
    flow,
    in_whole_numbers,
    recorded,
    senders,
)
from snnlib.graph.operations import Node, apply
from snnlib.simulation.costs import Account
from snnlib.simulation.images import checked
from snnlib.simulation.network import SpikingNetwork

_PIXEL = 255  # largest change of one


def moving(images: Tensor, frames: int, every: int = 1, reach: int = 3) -> Tensor:
    """Images that move to the right and back, a pixel at a time: shape (F, B, C, H, W).

    Args:
        images: shape (B, C, H, W); what enters from outside is zero.
        frames: F.
        every: frames a picture stands still; 1: each frame is a pixel further.
        reach: pixels to the right where it turns.
    """
    frames, every = whole("frames", frames), whole("every", every)
    reach = whole("reach", reach, most=images.shape[-1] - 1)
    there_and_back = [*range(reach), *range(reach, 0, -1)]
    width, found = images.shape[-1], []
    for frame in range(frames):
        shift = there_and_back[frame // every % len(there_and_back)]
        moved = torch.zeros_like(images)
        moved[..., shift:] = images[..., : width - shift]
        found.append(moved)
    return torch.stack(found)


class Delta:
    """A converted network that sends changes.

    Args:
        net: the network, for its weights and the balanced activations λ; its neurons do not count.
        bits: B; an activation is rounded to 2^B levels, from 0 to λ.
        weight_bits: of the weights.

    Attributes:
        net: the rounded network in whole numbers, whose answer after one step is the same.

    Raises:
        ConversionError: the network has no form in whole numbers, or pools what are no spikes.
        ValueError: an argument is out of range.

    Example:
        >>> import snnlib as snn
        >>> train, test = snn.data.load("digits")
        >>> images, x = (snn.data.to_float(split.images[:20]) for split in (train, test))
        >>> delta = Delta(snn.convert(snn.models.load("digits-cnn"), images), bits=4)
        >>> frames = moving(x, frames=3)
        >>> run = delta(frames)
        >>> [bool((run.logits[f] == delta.net(frames[f], 1).logits[0]).all()) for f in range(3)]
        [True, True, True]
    """

    def __init__(self, net: SpikingNetwork, bits: int = 4, *, weight_bits: int = 8) -> None:
        self.net, self.bits = in_whole_numbers(net, bits, weight_bits), bits
        check(self.net.graph, "a sigma-delta code")
        self.account = Account(self.net.graph)
        (self._pixels,) = (node for node in self.net.graph if node.op == "pixels")

    @own_mode()
    def __call__(self, frames: Tensor, *, record: Sequence[str] = (), batch: int = 50) -> Coded:
        """Answer every frame of sequences, shape (F, B, ...), in [0, 1] or uint8.

        Returns:
            Logits (F, B, classes); costs up to each frame; ``anew`` counts what sending all frames
            anew would send, with the pixels that are zero left out there too.

        Raises:
            ConversionError: frames of another shape, type or device, or not finite.
            ValueError: record names no layer that sends, or batch is no whole number of at least 1.
        """
        record, batch = recorded(senders(self.net.graph, False), record), whole("batch", batch)
        frames = checked(self.net.network, frames, frames=True)
        with exact_sums():
            return Coded.join([self._part(part, record) for part in frames.split(batch, 1)])

    def _part(self, x: Tensor, record: Sequence[str]) -> Coded:
        net, steps, pixels = self.net, len(x), self._pixels
        most = max(2**self.bits - 1, _PIXEL)
        tally, anew = (Tally(self.account, steps, x.device, most) for _ in range(2))
        trace: dict[str, Tensor] = {}

        def fire(node: Node, planes: Tensor) -> Tensor:
            return changes(fired(net, node, added(planes.to(net.potential_dtype), 1)))

        def sent(node: Node, planes: Tensor) -> None:
            tally.add(node.name, planes)
            anew.add(node.name, added(planes, 1))
            if node.name in record:
                trace[node.name] = planes

        shown = apply(pixels, [x.flatten(0, 1).to(net.dtype)]).unflatten(0, (steps, -1))
        moved = changes(shown)
        clock = Clock(steps, 1, constant_at=0)
        given = {pixels.name: moved}
        arriving = flow(net.graph, x[0], clock, fire, sent, given).to(net.potential_dtype)
        logits = added(arriving, 1) * net.output_unit
        again = Coded(logits, anew, self.account, first_macs=self._macs(shown))
        macs = self._macs(moved)
        return Coded(logits, tally, self.account, trace=trace, anew=again, first_macs=macs)

    def _macs(self, pixels: Tensor) -> Tensor:
        """MACs of the pixels that are not zero, up to each frame, all images, shape (F,)."""
        reached = (pixels != 0) * self.account.fan_outs["input"].to(pixels.device)
        return reached.flatten(1).sum(1).cumsum(0)
