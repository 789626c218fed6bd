"""Recurrent spiking networks in NIR, the exchange format of neuromorphic simulators and chips.

A `SpikingReader` is a graph with a circle: input → W → neurons → read-out → output, and neurons →
R → neurons. NIR's current-based neuron is a pair of differential equations; steps of length dt
(Euler) make them ours::

    τ_syn dI/dt = −I + w_in · z        I ← (1 − dt/τ_syn) I + (w_in dt/τ_syn) z
    τ_mem dV/dt = −V + r · I           V ← (1 − dt/τ_mem) V + (r dt/τ_mem) I

so α = 1 − dt/τ_syn and β = 1 − dt/τ_mem; a file of ours has dt = 1, w_in = τ_syn and r = τ_mem.
Files of others may differ in all of these and in thresholds: since I enters V linearly, such
factors go into the rows of W and R.

What NIR has no word for stands in the file's metadata: reset by subtraction (its neuron resets to
``v_reset``), outputs that are means over the steps of a recording, and that R acts a step later.
A neuron here fires at V ≥ θ, in NIR at V > θ: no difference but for exact ties.

Source: Pedersen and others, Nature Communications 2024, whose recurrent example reads Braille.
Used in chapter *Touch and sound as events*.
"""

from __future__ import annotations

import io
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from snnlib._arguments import real
from snnlib.deploy.files import write_bytes
from snnlib.graph.errors import CheckpointError
from snnlib.learning.touch import SpikingReader

_CIRCLE = {
    ("input", "weight"),
    ("weight", "neurons"),
    ("neurons", "readout"),
    ("readout", "output"),
}
_BACK = {("neurons", "own"), ("own", "neurons")}


def to_nir(net: SpikingReader, path: str | Path) -> Path:
    """Write a recurrent network to a NIR file (HDF5), whole or not at all.

    Raises:
        ImportError: the package ``nir`` is not installed.
        CheckpointError: the file cannot be written.

    Warns:
        UserWarning: the simulator that reads the file must be told of the reset.
    """
    nir = _package()
    warnings.warn(
        "NIR's CubaLIF neuron resets to v_reset, this network by subtraction: tell the simulator "
        "that reads the file",
        stacklevel=2,
    )
    alpha, beta = _array(net.of_current.sigmoid()), _array(net.of_potential.sigmoid())
    syn, mem = 1 / (1 - alpha), 1 / (1 - beta)
    ones = np.ones_like(alpha)
    nodes = {
        "input": nir.Input({"input": np.array([net.weight.shape[1]])}),
        "weight": nir.Linear(_array(net.weight)),
        "neurons": nir.CubaLIF(
            tau_syn=syn, tau_mem=mem, r=mem.copy(), v_leak=0 * ones, v_threshold=ones,
            v_reset=0 * ones, w_in=syn.copy(),
        ),
        "readout": nir.Affine(_array(net.gain * net.out.weight), _array(net.out.bias)),
        "output": nir.Output({"output": np.array([net.out.out_features])}),
    }  # fmt: skip
    edges = set(_CIRCLE)
    if net.recurrent:
        nodes["own"] = nir.Linear(_array(net.own))
        edges |= _BACK
    metadata = {
        "reset": "subtract", "dt": 1.0, "readout": "mean over steps", "recurrent_delay": 1,
        "fires_at": "V >= 1", "written_by": "snnlib",
    }  # fmt: skip
    file = io.BytesIO()
    nir.write(file, nir.NIRGraph(nodes, sorted(edges), metadata=metadata))
    return write_bytes(path, file.getvalue(), CheckpointError)


def from_nir(
    path: str | Path, *, dt: float | None = None, reset: str | None = None
) -> SpikingReader:
    """Read a recurrent network of current-based neurons, in float64.

    Args:
        path: the file; its graph has the form that `to_nir` writes, under any names.
        dt: length of a step, in the file's units of time; None: as its metadata say.
        reset: None: as its metadata say; only ``"subtract"`` can be simulated here.

    Raises:
        ImportError: the package ``nir`` is not installed.
        CheckpointError: the file cannot be read, is of another form, or does not say what a step
            or its reset is; says which.
        ValueError: ``dt``, given or in the file, is no number above 0.
    """
    nir = _package()
    try:
        graph = nir.read(path)
    except Exception as error:  # HDF5 and NIR fail in ways of their own
        raise CheckpointError(f"{path} is no NIR file: {error}") from error
    metadata = dict(graph.metadata or {})
    step = metadata.get("dt") if dt is None else dt
    if step is None:
        raise CheckpointError(f"{path} does not say how long a step is: pass dt")
    step = real("dt", float(step), 0.0, above=True)
    kind = _text(metadata.get("reset")) if reset is None else reset
    if kind != "subtract":
        raise CheckpointError(
            f"{path}: neurons reset by {kind or 'a rule that the file does not name'}; only reset "
            "by subtraction is simulated here: pass reset='subtract' if that is what they do"
        )
    found = _roles(graph, nir, path)
    neurons = found["neurons"]
    tau = [np.asarray(t, dtype=np.float64) for t in (neurons.tau_syn, neurons.tau_mem)]
    if np.any(np.asarray(neurons.v_leak)) or any((t <= step).any() for t in tau):
        raise CheckpointError(
            f"{path}: potentials must decay to 0, time constants be longer than a step of {step:g}"
        )
    # Per neuron: what a current adds to V, in thresholds.
    factor = neurons.w_in * step / tau[0] * neurons.r * step / tau[1] / neurons.v_threshold
    weight, out = found["weight"].weight, found["readout"].weight
    net = SpikingReader(
        weight.shape[1], len(out), len(weight), recurrent="own" in found, gain=1.0
    ).double()
    bias = getattr(found["readout"], "bias", np.zeros(len(out)))
    own = found["own"].weight if "own" in found else np.zeros((len(weight), len(weight)))
    with torch.no_grad():
        for held, value in (
            (net.weight, factor[:, None] * weight), (net.own, factor[:, None] * own),
            (net.out.weight, out), (net.out.bias, bias),
            (net.of_current, _logit(tau[0], step)), (net.of_potential, _logit(tau[1], step)),
        ):  # fmt: skip
            held.copy_(torch.as_tensor(np.asarray(value, dtype=np.float64)))
    return net.eval()


def _roles(graph: Any, nir: Any, path: str | Path) -> dict[str, Any]:
    """The nodes by what they do, whatever their names."""

    def refuse(reason: str) -> CheckpointError:
        return CheckpointError(
            f"{path}: {reason}. Its graph must be input → weights → current-based neurons → "
            "weights → output, and maybe neurons → weights → neurons"
        )

    neurons = [name for name, node in graph.nodes.items() if isinstance(node, nir.CubaLIF)]
    if len(neurons) != 1:
        raise refuse(f"it has {len(neurons)} layers of current-based neurons")
    before = {a for a, b in graph.edges if b == neurons[0]}
    after = {b for a, b in graph.edges if a == neurons[0]}
    own, weight, readout = before & after, before - after, after - before
    if len(own) > 1 or len(weight) != 1 or len(readout) != 1:
        raise refuse("the neurons have other neighbors")
    names = {"neurons": neurons[0], "weight": weight.pop(), "readout": readout.pop()}
    if own:
        names["own"] = own.pop()
    for role in names.keys() - {"neurons"}:
        node = graph.nodes[names[role]]
        plain = isinstance(node, nir.Linear) or (
            isinstance(node, nir.Affine) and (role == "readout" or not np.any(node.bias))
        )
        if not plain:
            raise refuse(f"{names[role]} is {type(node).__name__}")
    ends = {name for name, node in graph.nodes.items() if isinstance(node, nir.Input | nir.Output)}
    if others := graph.nodes.keys() - names.values() - ends:
        raise refuse(f"it has {', '.join(sorted(others))} besides")
    return {role: graph.nodes[name] for role, name in names.items()}


def _logit(tau: np.ndarray, step: float) -> np.ndarray:
    """Of the decay 1 − step/τ: ln(decay / (1 − decay)) = ln(τ/step − 1)."""
    found: np.ndarray = np.vectorize(math.log)(tau / step - 1)
    return found


def _array(x: Tensor) -> np.ndarray:
    return x.detach().cpu().double().numpy()


def _text(value: Any) -> str | None:
    return value.decode() if isinstance(value, bytes) else value


def _package() -> Any:
    try:
        import nir
    except ImportError:
        raise ImportError("NIR files need the package nir: pip install 'snnlib[nir]'") from None
    return nir
