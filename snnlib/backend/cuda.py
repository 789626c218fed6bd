"""Fused CUDA kernel (Triton): a block of neurons goes through all its time steps in registers.

The arithmetic is that of the neurons' own steps, operation by operation in the same precision, so
finite currents give the same bits: division rounds to nearest (`div_rn`; Triton's ``/`` is an
approximation in float32), and no multiplication is fused with an addition
(``enable_fp_fusion=False``), since x − c·θ rounds twice in the reference. Parameters travel in a
tensor, because Triton passes Python floats in float32. Sums are whole numbers of 64 bits: they do
not depend on any order.

**Bytes.** Each current is read once, each message written once; potential and count are read and
written once for K steps. With b bytes a message and p bytes a potential, a neuron moves a step::

    2·b + 4·p / K                 K different currents
    b + b / K + 4·p / K           one current for all K steps

in bfloat16 with float32 potentials and K = 32: 4.5 bytes. Thresholds (p bytes a neuron of one
image, one for all if uniform) and fan-outs (4 bytes) are shared by the images, so they should stay
in the cache; the sums add 40 bytes for 1024 neurons. Divided by the GPU's memory bandwidth this is
the bound to measure against.

**What has been verified**, by ``tests/backend/test_kernels_cuda.py``. In Triton's interpreter,
which runs the kernel on the CPU with NumPy, messages, potentials, counts and sums equal those of
plain PyTorch, bit for bit. That cannot show the rounding of messages to bfloat16, where the
interpreter cuts bits off: float16, and whole numbers in bfloat16, stand for it. Triton's compiler
makes code for GPUs of compute capability 8.0 and 9.0; divisions and conversions in it round to
nearest, and there is no fused multiply-add. ``pytest -m cuda`` passes on an NVIDIA H100 (PyTorch
2.11). GPUs differ: so `works` compares it with plain steps before its first use in a process, and
the dispatch stays with plain steps where they differ. One difference is known: Triton's floor takes
a subnormal V/θ (above −1.2e−38) for zero.
"""

from __future__ import annotations

import functools
import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from snnlib.backend.layer import Layer
from snnlib.backend.layout import in_memory_order
from snnlib.neurons import Augmented, State

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_BLOCK = 1024  # neurons of a program


def advance(layer: Layer, state: State, current: Tensor, out: Tensor, first: int) -> Tensor | None:
    """See `snnlib.backend.updates.advance`; the tensors are what ``fits`` lets pass."""
    like, (rule, v0, theta, bound, counts, fan_out) = state.potential, layer
    steps, total = len(out), like.numel()
    fire, capped = rule.rule != "signed", not math.isinf(rule.cap)
    bounds = [] if bound is None else [bound * t for t in range(first, first + steps)]
    given = (rule.negative, rule.cap if capped else 0.0, v0, *bounds)
    numbers = _numbers(given, like.dtype, like.device)
    programs = triton.cdiv(total, _BLOCK)
    shape = (0,) if fan_out is None else (programs, steps, 5)
    sums = torch.empty(shape, dtype=torch.int64, device=like.device)
    with torch.cuda.device_of(out):  # Triton launches on the current device
        _advance[(programs,)](
            current, out, like, state.count, _of_an_image(theta, like),
            sums if fan_out is None else _of_an_image(fan_out, like), numbers, sums,
            total, like.shape[1:].numel(), steps,
            CONSTANT=len(current) == 1, FIRE=fire, ZERO=rule.rule == "if-zero",
            FLOOR=rule.negative == 0, CAPPED=capped,
            UNIT=bound is None and (fire or rule.cap == 1), BOUNDED=bound is not None,
            COUNTS=counts, COUNTED=fan_out is not None, UNIFORM=theta.numel() == 1,
            DOUBLE=like.dtype == torch.float64, BLOCK=_BLOCK, enable_fp_fusion=False,
        )  # fmt: skip
    return None if fan_out is None else sums.sum(0)


def works(device: torch.device) -> bool:
    """Whether the kernel gives the bits of plain steps on this device, on a small layer.

    Raises:
        Exception: whatever Triton raises where it cannot compile or launch the kernel.
    """
    from snnlib.backend.plain import tally, update

    steps, size = 4, 1500
    at = torch.arange(steps * 2 * size, dtype=torch.float32, device=device)
    z = torch.sin(at * 0.7).reshape(steps, 2, size) * 2
    theta = 0.3 + torch.arange(size, dtype=torch.float32, device=device) / size
    fan_out = torch.arange(size, dtype=torch.int32, device=device)
    neuron = Augmented(levels=1, negative=0.3, cap=3)
    ours, plain = neuron.initial(z[0], theta), neuron.initial(z[0], theta)
    out = torch.empty_like(z)
    layer = Layer(neuron.fused, neuron.v0, theta, 1.5, False, fan_out)
    rows = advance(layer, ours, z, out, 1)
    same = rows is not None
    for t in range(steps):
        c = update(neuron, plain, z[t], theta, neuron.ceiling(1.5, theta, t + 1))
        same = same and torch.equal(out[t], c * theta)
        same = same and rows is not None and torch.equal(rows[t].double(), tally(c, fan_out))
    return same and all(torch.equal(a, b) for a, b in zip(ours, plain, strict=True))


@functools.lru_cache(maxsize=1024)
def _numbers(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Parameters on the device; kept, since a copy to it waits for all work under way."""
    return torch.tensor(values, dtype=dtype, device=device)


def _of_an_image(value: Tensor, like: Tensor) -> Tensor:
    """One value for each neuron of an image, as they lie in memory in ``like``; one may do."""
    if value.numel() == 1:
        return value
    return in_memory_order(value.expand(like.shape[1:])[None], 1, like)[0].contiguous()


# Triton evaluates annotations, and knows none but its own.
@triton.jit
def _divide(a, b, DOUBLE: tl.constexpr):  # type: ignore[no-untyped-def]
    return a / b if DOUBLE else tl.div_rn(a, b)  # the branch not taken is not compiled


@triton.jit
def _advance(  # type: ignore[no-untyped-def]
    current, out, potential, count, theta, fan, numbers, sums, total, neurons, steps,
    CONSTANT: tl.constexpr, FIRE: tl.constexpr, ZERO: tl.constexpr, FLOOR: tl.constexpr,
    CAPPED: tl.constexpr, UNIT: tl.constexpr, BOUNDED: tl.constexpr, COUNTS: tl.constexpr,
    COUNTED: tl.constexpr, UNIFORM: tl.constexpr, DOUBLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    start = tl.program_id(0).to(tl.int64) * BLOCK
    lane = tl.arange(0, BLOCK)
    i = start + lane
    mask = i < total
    e = ((start % neurons).to(tl.int32) + lane) % neurons  # the neuron's place in its image
    v = tl.load(potential + i, mask=mask, other=0.0)
    n = tl.load(count + i, mask=mask, other=0.0)
    zero = tl.zeros_like(v)
    one = zero + 1.0
    th = zero + tl.load(theta) if UNIFORM else tl.load(theta + e)
    if COUNTED:
        f = tl.load(fan + e).to(tl.int64)
        row = sums + tl.program_id(0).to(tl.int64) * steps * 5
    negative, cap, v0 = tl.load(numbers), tl.load(numbers + 1), tl.load(numbers + 2)
    inverse = _divide(one, th, DOUBLE) if BOUNDED else one
    source, target = current + i, out + i
    if CONSTANT:
        z = tl.load(source, mask=mask, other=0.0).to(v.dtype)
    for t in range(steps):
        if not CONSTANT:
            z = tl.load(source, mask=mask, other=0.0).to(v.dtype)
            source += total
        v += z
        if FIRE:
            c = tl.where(v >= th, one, zero)
        else:
            r = _divide(v, th, DOUBLE)
            c = tl.floor(r)
            if not FLOOR:
                up = -(tl.floor(-r - negative) + 1.0)
                c = tl.where(r >= 1.0, c, tl.where(r <= -negative, up, zero))
            if CAPPED:
                c = tl.minimum(tl.maximum(c, -cap), cap)
            c = tl.maximum(c, -n)
        if BOUNDED:
            ceiling = tl.floor(inverse * tl.load(numbers + 3 + t) + v0)
            c = tl.minimum(c, ceiling - n)
        c = tl.where(mask, c, zero)  # places beyond the layer send nothing
        sent = c * th
        if ZERO:
            v = tl.where(c != 0.0, zero, v)
        else:
            v -= sent
        n += c
        if COUNTS:
            sent = c
        tl.store(target, sent.to(out.dtype.element_ty), mask=mask)
        target += total
        if COUNTED:
            fired = c != 0.0
            events, synops = tl.sum(fired.to(tl.int64)), tl.sum(tl.where(fired, f, 0))
            tl.store(row, events)
            tl.store(row + 2, synops)
            if UNIT:  # |c| is at most 1
                tl.store(row + 1, events)
                tl.store(row + 3, events * 0)
                tl.store(row + 4, synops)
            else:
                k = tl.abs(c).to(tl.int64)
                tl.store(row + 1, tl.sum(k))
                tl.store(row + 3, tl.sum(tl.where(k > 1, f, 0)))
                tl.store(row + 4, tl.sum(k * f))
            row += 5
    tl.store(potential + i, v, mask=mask)
    tl.store(count + i, n, mask=mask)
