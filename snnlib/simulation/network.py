"""`SpikingNetwork`: a network of spiking neurons that you can call.

It is what `snnlib.convert` returns, and a thin face of two things: the record of what it is made of
(`snnlib.graph.network`) and the simulation that runs it (`snnlib.simulation.simulate`). Calling it
simulates a number of time steps from t = 0 and leaves nothing behind: no state to reset, no weights
changed. Whatever returns a network returns another one. Chapter *Converting a network*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snnlib._arguments import whole
from snnlib._compatibility import by_name_after
from snnlib.backend.copies import copied
from snnlib.backend.modes import own_mode
from snnlib.graph.errors import ConversionError
from snnlib.graph.graph import Graph
from snnlib.graph.network import Network, Whole
from snnlib.graph.readout import Readout
from snnlib.neurons import Neuron
from snnlib.simulation import closed_form, schedule
from snnlib.simulation.coding import Coding
from snnlib.simulation.costs import Account
from snnlib.simulation.early_exit import Decision
from snnlib.simulation.images import FLOATS, checked
from snnlib.simulation.plan import Plan
from snnlib.simulation.run import Run
from snnlib.simulation.schedule import Schedule
from snnlib.simulation.simulate import Ready, Request, decide, simulate

# What a network shows of its record, by the record's names; the last two are those of snnlib 0.1.
_SHOWN = {
    name: name
    for name in (
        "graph", "neuron", "balanced", "thresholds", "sizes", "readout", "whole", "report", "dtype",
        "device",
    )
} | {"potential_dtype": "wide", "neurons": "sizes"}  # fmt: skip
_WHOLE = ("output_unit", "sums")


class SpikingNetwork:
    """A network of spiking neurons, with the topology and weights of a trained ReLU network.

    Everything is in the ANN's own units: a spike of layer l carries θ of layer l, so no weight is
    rescaled. Made by `snnlib.convert`, and by ``net.quantize()`` in whole numbers, which takes
    images in [0, 1] or uint8 and gives the same bits on every machine.

    Attributes:
        network: what it is made of, a frozen record (`snnlib.graph.network.Network`). Its fields
            and properties are shown here too: ``graph``, ``neuron``, ``balanced`` λ,
            ``thresholds`` θ, ``sizes`` (neurons of every spiking layer), ``readout``, ``report``,
            ``dtype``, ``potential_dtype``, ``device``, and ``whole``, ``output_unit``, ``sums``
            for networks of whole numbers.
        reference: the original ANN, for `verify`; None after loading from a file.
    """

    graph: Graph
    neuron: Any
    balanced: Mapping[str, Tensor]
    thresholds: Mapping[str, Tensor]
    sizes: Mapping[str, int]
    readout: Readout
    report: Mapping[str, Any]
    dtype: torch.dtype
    potential_dtype: torch.dtype
    device: torch.device
    whole: Whole | None

    def __init__(
        self,
        graph: Graph,
        neuron: Neuron | Mapping[str, Neuron],
        balanced: Mapping[str, Tensor],
        reference: nn.Module | None = None,
        report: Mapping[str, Any] | None = None,
    ) -> None:
        self._hold(Network(graph, neuron, dict(balanced), report=dict(report or {})), reference)

    def _hold(
        self, network: Network, reference: nn.Module | None, account: Account | None = None
    ) -> None:
        self.network, self.reference = network, reference
        self._ready = Ready(network, account or Account(network.graph))

    @classmethod
    def of(cls, network: Network, reference: nn.Module | None = None) -> SpikingNetwork:
        """The network of a record."""
        made = cls.__new__(cls)
        made._hold(network, reference)
        return made

    def _other(self, network: Network) -> SpikingNetwork:
        """A network made from this one; fan-outs are shared where the graph is."""
        made = SpikingNetwork.__new__(SpikingNetwork)
        same = network.graph is self.network.graph
        made._hold(network, self.reference, self._ready.account if same else None)
        return made

    def __getattr__(self, name: str) -> Any:
        if name in _SHOWN:
            return getattr(self.network, _SHOWN[name])
        if name in _WHOLE and self.network.whole is not None:
            return getattr(self.network.whole, name)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in ("network", "reference", "_ready"):
            raise AttributeError(f"{name} cannot be set: net.replace(...) makes another network")
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        net = self.network
        neuron = "neurons of several kinds" if isinstance(net.neuron, Mapping) else repr(net.neuron)
        kind = "whole numbers" if net.whole else str(net.dtype).removeprefix("torch.")
        ends = (net.graph.shapes[name] for name in ("input", net.graph.output))
        start, end = (" × ".join(map(str, shape)) for shape in ends)
        layers = f"{len(net.sizes)} spiking layer{'s' * (len(net.sizes) != 1)}"
        return (
            f"<SpikingNetwork {start} → {end}: {layers}, {sum(net.sizes.values()):,} neurons, "
            f"{neuron}, {kind}, {net.device}>"
        )

    @property
    def source(self) -> SpikingNetwork:
        """The real-valued network that a network of whole numbers was made from."""
        if self.network.whole is None:
            raise AttributeError("this is a network of real numbers; net.quantize() makes another")
        return self._other(self.network.whole.source)

    @property
    def fan_outs(self) -> dict[str, Tensor]:
        """Synapses each neuron's event reaches (`snnlib.simulation.costs.fan_outs`)."""
        account = self._ready.account
        return {name: value.to(self.device) for name, value in account.fan_outs.items()}

    @by_name_after(3)
    def __call__(
        self,
        x: Tensor,
        steps: int,
        coding: Coding | None = None,
        *,
        record: Sequence[str] = (),
        memory: str | int = "1GB",
        only_last: bool = False,
        batch: int | None = None,
        first: int = 0,
        progress: bool = False,
        readout: Readout | None = None,
    ) -> Run:
        """Simulate ``steps`` time steps from t = 0.

        Args:
            x: images, shape (B, ...) in the units the ANN was trained on; (T, B, ...) for Frames.
            steps: number of time steps T, at least 1.
            coding: `Constant` (default), `Bernoulli` or `Frames`.
            record: names of spiking layers whose potentials and coefficients to keep.
            memory: limit for the simulation's own tensors ("512MB", bytes), without the results.
            only_last: only step T's logits; no events are counted. Where the neurons are
                memoryless this costs one ANN pass (the closed form).
            batch: images simulated together, whatever ``memory`` says; chosen from ``memory`` and
                the cache by default.
            first: number of the first image, for Bernoulli coding of a part of a data set.
            progress: show a progress bar over the images.
            readout: how the answer is read: ``snnlib.Mean(first=5)`` leaves out four steps, at
                which there is no answer then; by default the network's own, the mean over all.

        Returns:
            What happened, as a `Run`.

        Raises:
            ConversionError: images of wrong shape, type or device, or not finite.
            ValueError: steps, record, memory, batch, readout or the coding's input is wrong.

        Source: Yu et al., TNNLS 2022; chapter *Converting a network*.
        """
        request = Request(
            steps, coding, record=record, memory=memory, only_last=only_last, batch=batch,
            first=first, progress=progress, readout=readout,
        )  # fmt: skip
        return simulate(self._ready, x, request)

    @by_name_after(4)
    def decide(
        self,
        x: Tensor,
        confidence: float,
        max_steps: int,
        coding: Coding | None = None,
        *,
        memory: str | int = "1GB",
        batch: int | None = None,
        readout: Readout | None = None,
    ) -> Decision:
        """Answer each image as soon as its softmax reaches ``confidence``, and stop computing it.

        Equal to ``run.first_confident(confidence)`` of a run of ``max_steps`` steps, so not before
        the read-out's first; decided images leave the batch, which saves the time of their steps.

        Args:
            x: images, shape (B, ...).
            confidence: softmax probability of the answer, above 0 and at most 1.
            max_steps: images that never get there are answered at this step.
            coding: `Constant`: the input has to be the same in every step.
            memory, batch, readout: as for calling the network.

        Returns:
            Step (1 … max_steps) and predicted class of every image, int64 tensors of shape (B,).

        Raises:
            ConversionError, ValueError: as for calling it; or the output is no vector of classes.
        """
        request = Request(
            whole("max_steps", max_steps), coding, memory=memory, batch=batch, readout=readout
        )
        return decide(self._ready, x, confidence, request)

    @own_mode()
    def ann(self, x: Tensor) -> Tensor:
        """Logits of the folded ANN, shape (B, classes)."""
        if self.network.whole is not None:
            return self.source.ann(self.checked(x))
        return self.graph.without_corrections().evaluate(self.checked(x))

    @own_mode()
    def closed_form(self, mean_input: Tensor, steps: int) -> Tensor:
        """Logits after ``steps`` steps of memoryless neurons, in one pass; shape (B, classes).

        Every ReLU becomes a rounding quantizer: N_T = max(0, floor(T z̄/θ + v0)), message θ N_T/T.

        Raises:
            ConversionError: some neurons have a memory, so there is no closed form.
        """
        if not self.network.memoryless:
            raise ConversionError(
                f"{self.neuron!r} has no closed form: what it sends depends on the order of its "
                "input. Augmented(negative=0.0, cap=None) has one"
            )
        graph, x = self.graph.laid_out(self.dtype), self.checked(mean_input)
        return closed_form.logits(self.network, graph, x, whole("steps", steps), self.readout)

    def plan(self, constant_input: bool = True) -> Plan:
        """What the engine runs, for simulations of one's own (`snnlib.simulation.engine`)."""
        return self._ready.plan(constant_input)

    def chunk(self, count: int, memory: str | int) -> int:
        """Images to simulate together, one step at a time, so as to stay within ``memory``."""
        return schedule.chunk(self.network, count, memory)

    def schedule(
        self, count: int, steps: int, memory: str | int = "1GB", batch: int | None = None
    ) -> Schedule:
        """How images and steps are cut into pieces: see `snnlib.simulation.schedule.plan`."""
        return schedule.plan(self.network, count, steps, memory, batch)

    def replace(self, **changes: Any) -> SpikingNetwork:
        """A network with another ``neuron`` (or one a layer), ``balanced`` λ or ``readout``.

        Raises:
            ConversionError: for whole numbers, whose thresholds are part of them; or the neurons
                do not fit the layers.
            ValueError: λ of wrong shape, not finite or not positive; or an unknown name.
        """
        if strange := changes.keys() - {"neuron", "balanced", "readout"}:
            raise ValueError(
                f"replace({', '.join(sorted(strange))}): it takes neuron, balanced and readout"
            )
        if self.network.whole is not None and changes.keys() - {"readout"}:
            raise ConversionError(
                "replace works on the real-valued network: use net.source.replace(...) and "
                "quantize the result"
            )
        if not isinstance(changes.get("balanced", {}), Mapping):
            raise ValueError("balanced: a mapping from each spiking layer's name to its λ")
        return self._other(replace(self.network, **changes))

    def to(self, target: torch.device | str | torch.dtype) -> SpikingNetwork:
        """The network on another device or in another floating dtype; this one stays as it is.

        Raises:
            ConversionError: there is no such device or no such floating dtype; or another dtype
                for whole numbers.
        """
        if isinstance(target, torch.dtype):
            if target not in FLOATS:
                known = ", ".join(str(dtype) for dtype in FLOATS)
                raise ConversionError(f"to({target}): a spiking network is of {known}")
            return self._other(self.network.to(target))
        try:
            device = torch.device(target)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError, TypeError) as error:
            raise ConversionError(f"to({target!r}): there is no such device here") from error
        return self._other(self.network.to(device))

    def double(self) -> SpikingNetwork:
        """The network in float64; this one stays as it is."""
        return self.to(torch.float64)

    def normalized(self) -> SpikingNetwork:
        """The equivalent network with unit thresholds: see `snnlib.deploy.normalize`."""
        from snnlib.deploy.normalize import normalized

        return self._other(normalized(self.network))

    @by_name_after(1)
    def quantize(self, weight_bits: int = 8, *, cap: int | None = None) -> SpikingNetwork:
        """The network in whole numbers, the same bits everywhere: see `snnlib.deploy.quantize`."""
        from snnlib.deploy.quantize import quantize

        return self._other(quantize(self.network, weight_bits, cap))

    def verify(self, x: Tensor, **options: Any) -> Any:
        """Check the conversion on images: see `snnlib.simulation.verify.verify`."""
        from snnlib.simulation.verify import verify

        return verify(self.network, self.checked(x), self._original(), **options)

    def _original(self) -> nn.Module | None:
        """The original ANN in the dtype and on the device of this network."""
        if self.reference is None:
            return None
        return copied(self.reference).to(self.device, self.dtype)

    def summary(self, width: int | None = None) -> str:
        """The layers as a table that fits a terminal: see `snnlib.deploy.summary`."""
        from snnlib.deploy.summary import summary

        return summary(self.network, width)

    def save(self, path: str | Path) -> Path:
        """Write the network to a safetensors file, for `snnlib.load`: `snnlib.deploy.storage`."""
        from snnlib.deploy.storage import save

        return save(self.network, path)

    def to_nir(self, path: str | Path) -> Path:
        """Write the network in the NIR exchange format: see `snnlib.deploy.nir`."""
        from snnlib.deploy.nir import to_nir

        return to_nir(self.network, path)

    def to_web(self, path: str | Path, **options: Any) -> Path:
        """Write the network to a file that a page of the book runs: see `snnlib.deploy.web`."""
        from snnlib.deploy.web import to_web

        return to_web(self.network, path, self._ready.account, **options)

    def checked(self, x: Tensor, frames: bool = False) -> Tensor:
        """Images as the network takes them, in its dtype; anything else is a ConversionError."""
        return checked(self.network, x, frames)


@by_name_after(1)
def load(path: str | Path, *, device: torch.device | str = "cpu") -> SpikingNetwork:
    """Read a spiking network that ``net.save`` wrote; it simulates exactly as the saved one did.

    Only the original ANN is gone, so `verify` compares with the folded ANN alone.

    Args:
        path: the file.
        device: where the network is to live.

    Raises:
        CheckpointError: there is no such file, or it is truncated, damaged, from a newer version,
            or no network of this library.

    Example:
        >>> import tempfile, snnlib as snn
        >>> ann = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> net = snn.convert(ann.eval(), calibration=torch.rand(10, 4))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     again = snn.load(net.save(folder + "/net.safetensors"))
        >>> x = torch.rand(3, 4)
        >>> torch.equal(net(x, steps=4).logits, again(x, steps=4).logits)
        True
    """
    from snnlib.deploy import storage

    return SpikingNetwork.of(storage.load(path)).to(device)
