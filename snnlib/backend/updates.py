"""The neuron update over a block of time steps, fused and in place.

`advance` takes the currents of several steps of one layer and leaves the messages in their place.
Where numba is installed (``pip install snnlib[fast]``) the CPU does it in one pass, a block of
neurons at a time: the potentials stay in the innermost cache while time runs, so a time step costs
hardly more than a ReLU (`cpu`). On CUDA a Triton kernel does the same in registers (`cuda`; Triton
comes with CUDA builds of PyTorch). Elsewhere, for tensors that the fused kernels do not take, and
for neurons of which no fused rule is known (`Neuron.fused`), the neuron's own pure step runs. All
are tested equal to those steps, which stay the reference.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

from snnlib.backend.layer import Layer, Rounding
from snnlib.backend.layout import lies_as
from snnlib.backend.plain import tally, update
from snnlib.neurons import Neuron, State

Watch = Callable[[int, Tensor, Tensor], None]


@functools.cache
def compiled() -> ModuleType | None:
    """The compiled CPU kernels, or None where numba is absent or told not to compile."""
    try:
        from numba import config

        from snnlib.backend import cpu as kernels_cpu
    except ImportError:
        return None
    return None if getattr(config, "DISABLE_JIT", False) else kernels_cpu


@functools.cache
def compiled_cuda(device: torch.device) -> ModuleType | None:
    """The Triton kernel, or None where Triton is absent or does not do its work on the device."""
    try:
        from snnlib.backend import cuda as kernels_cuda
    except ImportError:
        return None
    try:
        fault = "" if kernels_cuda.works(device) else "its results differ from those of plain steps"
    except Exception as error:  # no C compiler for Triton, a GPU too old for it, …
        fault = f"{type(error).__name__}: {error}"
    if not fault:
        return kernels_cuda
    warnings.warn(
        f"the fused Triton kernel does not work on {device} ({fault}): neurons are updated by "
        "plain PyTorch steps, with the same results but slower",
        RuntimeWarning,
        stacklevel=2,
    )
    return None


def fits(
    state: State, current: Tensor, theta: Tensor, out: Tensor, fan_out: Tensor | None = None
) -> bool:
    """Whether fused kernels can take these arguments of `advance`; plain steps take any others.

    Potentials, counts and thresholds have one dtype, float32 or float64, and messages are no
    narrower than 32 bits beside float64. All lie on one device, without gaps and in one order.
    """
    like = state.potential
    tensors = [state.count, theta, current, out] + ([] if fan_out is None else [fan_out])
    narrowest = min(current.dtype.itemsize, out.dtype.itemsize)
    return (
        out.numel() > 0
        and all(value.device == like.device for value in tensors)
        and like.dtype == state.count.dtype == theta.dtype
        and (like.dtype == torch.float32 or (like.dtype == torch.float64 and narrowest >= 4))
        and like.shape == state.count.shape == current.shape[1:] == out.shape[1:]
        and len(current) in (1, len(out))
        and (theta.numel() == 1 or theta.dim() < like.dim())
        and (fan_out is None or fan_out.shape == like.shape[1:])
        and lies_as(like, 1, like)
        and lies_as(state.count, 1, like)
        and lies_as(current, 2, like)
        and lies_as(out, 2, like)
    )


def _fused(out: Tensor, current: Tensor) -> ModuleType | None:
    """The fused kernels for the device and the dtypes of the messages."""
    if out.device.type == "cpu":
        module = compiled()
    else:
        module = compiled_cuda(out.device) if out.device.type == "cuda" else None
    known = module is not None and {out.dtype, current.dtype} <= set(module.DTYPES)
    return module if known else None


def advance(
    neuron: Neuron,
    state: State,
    current: Tensor,
    theta: Tensor,
    out: Tensor,
    *,
    first: int = 1,
    bound: float | None = None,
    counts: bool = False,
    fan_out: Tensor | None = None,
    watch: Watch | None = None,
) -> Tensor | None:
    """Steps ``first``, ``first`` + 1, … of one layer.

    Args:
        neuron: the neuron model.
        state: potential and count, shape (B, ...); overwritten.
        current: z of every step, shape (K, B, ...), or (1, B, ...) if it is always the same.
        theta: firing threshold, broadcastable to one image's activation.
        out: messages c·θ of every step, shape (K, B, ...); may be ``current`` itself.
        first: number of the first step, for bounded activations.
        bound: upper bound of the activation (ReLU6: 6).
        counts: send the coefficients c instead of c·θ.
        fan_out: synapses reached by each neuron of an image, whole numbers; None to count nothing.
        watch: called with (step, coefficients, potentials) after every step, for records.

    Returns:
        With ``fan_out`` the sums of every step, (K, 5), whole numbers, in the order of
        `snnlib.simulation.costs.Sums`.
    """
    rule = neuron.fused if watch is None else None
    if rule is not None and fits(state, current, theta, out, fan_out):
        module = _fused(out, current)
        if module is not None:
            layer = Layer(rule, neuron.v0, theta, bound, counts, fan_out)
            return module.advance(layer, state, current, out, first)
    rows = []
    for k in range(len(out)):
        z = current[min(k, len(current) - 1)].to(state.potential.dtype)
        ceiling = None if bound is None else neuron.ceiling(bound, theta, first + k)
        coefficient = update(neuron, state, z, theta, ceiling)
        if watch is not None:
            watch(first + k, coefficient, state.potential)
        if fan_out is not None:
            rows.append(tally(coefficient, fan_out))
        out[k] = coefficient if counts else coefficient * theta
    return torch.stack(rows) if fan_out is not None else None


def tallies(coefficients: Tensor, fan_out: Tensor, whole: bool = True) -> Tensor:
    """The sums that `advance` returns, (K, 5), from coefficients of shape (K, B, ...).

    Args:
        coefficients: of every step and image.
        fan_out: synapses reached by each neuron of an image.
        whole: whether the coefficients are whole numbers.
    """
    module = compiled() if whole and coefficients.device.type == "cpu" else None
    if module is not None and coefficients.dtype in module.DTYPES:
        return module.tallies(coefficients, fan_out)
    return torch.stack([tally(coefficient, fan_out) for coefficient in coefficients])


def quantize(
    z: Tensor, theta: Tensor, steps: int, v0: float, bound: float | None, out: Tensor,
    most: float = math.inf,
) -> Tensor:  # fmt: skip
    """Mean message of memoryless neurons after ``steps`` steps: the closed form.

    Compiled on CPUs; on CUDA plain PyTorch, since it is called once a layer and run, not each step.

    N = max(0, floor(z·T/θ + v0)), at most ``most``, and for bounded activations at most
    floor(bound·T/θ + v0); the mean message is N·θ/T.

    Args:
        z: mean current, shape (B, ...).
        theta: firing threshold, broadcastable to one image's activation.
        steps: number of steps T.
        v0: initial potential, a fraction of θ.
        bound: upper bound of the activation.
        out: where the result goes, shape (B, ...); may be ``z`` itself.
        most: largest N.
    """
    module = compiled() if z.device.type == "cpu" else None
    if module is not None and z.dtype in module.DTYPES:
        module.quantize(z, theta, out, Rounding(steps, v0, bound, most))
        return out
    count = torch.floor(z.to(theta.dtype) * steps / theta + v0).clamp(0, most)
    if bound is not None:
        count = torch.minimum(count, torch.floor(bound * steps / theta + v0))
    return out.copy_(count * theta / steps)
