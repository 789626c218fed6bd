"""Compiled CPU kernels (numba): one pass over the currents of a layer, whatever the neuron.

A block of neurons goes through all its time steps before the next block: potential and count stay
in the innermost cache, currents are read once and overwritten by the messages. The arithmetic is
that of `snnlib.neurons`, operation by operation in the same precision, so the results are the same
bits. Plain loops over contiguous arrays, so that the compiler vectorizes them; every loop below
was checked for it. bfloat16, which numba does not know, travels as the upper half of a float32.

Compiled on first use and cached on disk; all in one file, since the cache of a function is renewed
when its own file changes and not when another one does. The functions release the interpreter lock.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import numpy as np
import torch
from numba import njit, types
from numba.extending import overload
from torch import Tensor

from snnlib.backend.layer import Layer, Rounding
from snnlib.backend.layout import in_memory_order
from snnlib.neurons import State

DTYPES = (torch.float32, torch.float64, torch.bfloat16)
_BLOCK = 2048  # neurons; measured: below, calls cost; above, potentials leave the inner cache
_IF, _IF_ZERO, _SIGNED = 0, 1, 2
_EVENTS, _SPIKES, _SYNOPS, _WIDE, _UNIT = range(5)  # columns: simulation.costs.Sums
_INT32 = np.int32
_LARGEST = 2.0**30  # coefficients are cut to it before they become 32-bit integers


@functools.cache
def _no_cache() -> None:
    warnings.warn(
        "neither snnlib's folder nor your home can be written, so the compiled neuron updates are "
        "not kept: every start compiles them anew. Set NUMBA_CACHE_DIR to a folder that can be",
        RuntimeWarning,
        stacklevel=2,
    )


def _compile(function: Any) -> Any:
    """Compiled code, kept on disk where numba finds a folder for it."""
    try:
        return njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # "cannot cache function": no folder that can be written
        _no_cache()
        return njit(nogil=True, error_model="numpy")(function)


def advance(layer: Layer, state: State, current: Tensor, out: Tensor, first: int) -> Tensor | None:
    """See `snnlib.backend.updates.advance`."""
    like, theta = state.potential, layer.theta
    dtype = _numpy_dtype(like.dtype)
    rule = {"if": _IF, "if-zero": _IF_ZERO, "signed": _SIGNED}[layer.rule.rule]
    numbers = np.array([0.0, 1.0, layer.rule.negative, layer.rule.cap, layer.v0, _LARGEST], dtype)
    times = range(first, first + len(out))
    bounds = np.array([] if layer.bound is None else [layer.bound * t for t in times])
    rows = np.zeros((len(out), 5), np.int64)  # (K, 5)
    fan = np.zeros(0, np.int32) if layer.fan_out is None else _fan(layer.fan_out, like)
    _advance(
        _flat(current, 2, like), len(current), _flat(out, 2, like), _flat(like, 1, like),
        _flat(state.count, 1, like), _thresholds(theta, like), fan, numbers,
        bounds.astype(dtype), like[0].numel(), rule, layer.counts, theta.numel() == 1,
        current.data_ptr() == out.data_ptr(), rows,
    )  # fmt: skip
    return None if layer.fan_out is None else torch.from_numpy(rows)


def tallies(coefficients: Tensor, fan_out: Tensor) -> Tensor:
    """See `snnlib.backend.updates.tallies`."""
    like = coefficients[0]
    rows = np.zeros((len(coefficients), 5), np.int64)
    block = np.empty(_BLOCK, _numpy_dtype(coefficients.dtype))
    _tallies(_flat(coefficients, 2, like), _fan(fan_out, like), block, rows)
    return torch.from_numpy(rows)


def quantize(z: Tensor, theta: Tensor, out: Tensor, how: Rounding) -> None:
    """See `snnlib.backend.updates.quantize`."""
    limit = np.inf if how.bound is None else how.bound * how.steps
    values = [0.0, how.steps, how.v0, limit, how.most]
    numbers = np.array(values, _numpy_dtype(theta.dtype))
    _quantize(_flat(z, 1, z), _flat(out, 1, z), _thresholds(theta, z), z[0].numel(), numbers)


def _numpy_dtype(dtype: torch.dtype) -> Any:
    return np.float64 if dtype == torch.float64 else np.float32


def _flat(value: Tensor, lead: int, like: Tensor) -> Any:
    """The tensor's memory as a flat array; it has ``lead`` dimensions before an image's.

    ``like`` (B, ...) decides the order of the neurons.
    """
    flat = in_memory_order(value, lead, like).reshape(-1)
    if flat.data_ptr() != value.data_ptr():
        raise AssertionError("a tensor in another memory format than its layer's state")
    if flat.dtype == torch.bfloat16:
        flat = flat.view(torch.int16)
    return flat.numpy()


def _fan(fan_out: Tensor, like: Tensor) -> Any:
    flat = in_memory_order(fan_out.to(torch.int32)[None], 1, like)
    return np.ascontiguousarray(flat[0].numpy())


def _thresholds(theta: Tensor, like: Tensor) -> Any:
    """θ of every neuron of an image in memory order; of one block where all are the same."""
    size = like.shape[1:].numel()
    if theta.numel() == 1:
        return np.full(min(_BLOCK, size), theta.item(), _numpy_dtype(theta.dtype))
    flat = in_memory_order(theta.expand(like.shape[1:])[None], 1, like)
    return np.ascontiguousarray(flat[0].numpy())


def _load(source: Any, start: int, c: Any, size: int) -> None:
    raise NotImplementedError("compiled code only")


def _store(c: Any, target: Any, start: int, size: int) -> None:
    raise NotImplementedError("compiled code only")


@overload(_load)
def _load_overload(source: Any, start: int, c: Any, size: int) -> Any:
    if isinstance(source.dtype, types.Integer):  # bfloat16

        def load(source: Any, start: int, c: Any, size: int) -> None:
            bits, source = c.view(np.uint32), source[start : start + size]
            for i in range(size):
                bits[i] = np.uint32(source[i]) << np.uint32(16)

    else:

        def load(source: Any, start: int, c: Any, size: int) -> None:
            source = source[start : start + size]
            for i in range(size):
                c[i] = source[i]

    return load


@overload(_store)
def _store_overload(c: Any, target: Any, start: int, size: int) -> Any:
    if isinstance(target.dtype, types.Integer):  # bfloat16: round to nearest, ties to even

        def store(c: Any, target: Any, start: int, size: int) -> None:
            bits, target = c.view(np.uint32), target[start : start + size]
            for i in range(size):
                half = np.uint32(0x7FFF) + ((bits[i] >> np.uint32(16)) & np.uint32(1))
                target[i] = np.int16(np.uint32(bits[i] + half) >> np.uint32(16))

    else:

        def store(c: Any, target: Any, start: int, size: int) -> None:
            target = target[start : start + size]
            for i in range(size):
                target[i] = c[i]

    return store


def _block(source: Any, at: int, target: Any, to: int, c: Any, size: int, same: bool) -> Any:
    raise NotImplementedError("compiled code only")


@overload(_block)
def _block_overload(
    source: Any, at: int, target: Any, to: int, c: Any, size: int, same: bool
) -> Any:  # fmt: skip
    """Where a block is worked on: in its own place if it has the right type, else in c."""
    if target.dtype == c.dtype:

        def block(
            source: Any, at: int, target: Any, to: int, c: Any, size: int, same: bool
        ) -> Any:  # fmt: skip
            part = target[to : to + size]
            if not same:
                _load(source, at, part, size)
            return part

    else:

        def block(
            source: Any, at: int, target: Any, to: int, c: Any, size: int, same: bool
        ) -> Any:  # fmt: skip
            part = c[:size]
            _load(source, at, part, size)
            return part

    return block


def _put(c: Any, target: Any, start: int, size: int) -> None:
    raise NotImplementedError("compiled code only")


@overload(_put)
def _put_overload(c: Any, target: Any, start: int, size: int) -> Any:
    """The end of `_block`: a block that was worked on elsewhere goes to its place."""
    if target.dtype == c.dtype:

        def put(c: Any, target: Any, start: int, size: int) -> None:
            pass

    else:

        def put(c: Any, target: Any, start: int, size: int) -> None:
            _store(c, target, start, size)

    return put


# In the rules below v, n: potentials and counts from number a; c: a block of currents, which become
# coefficients; th: thresholds from number e. The slices keep indices from wrapping around, which
# would keep the loops from being vectorized.


@_compile
def _integrate_and_fire(
    v: Any, n: Any, a: int, c: Any, th: Any, e: int, size: int, numbers: Any
) -> None:  # fmt: skip
    v, n, th = v[a : a + size], n[a : a + size], th[e : e + size]
    zero, one = numbers[0], numbers[1]
    for i in range(size):
        x = v[i] + c[i]
        s = one if x >= th[i] else zero
        v[i] = x - s * th[i]
        n[i] = n[i] + s
        c[i] = s


@_compile
def _fire_and_reset(
    v: Any, n: Any, a: int, c: Any, th: Any, e: int, size: int, numbers: Any
) -> None:  # fmt: skip
    v, n, th = v[a : a + size], n[a : a + size], th[e : e + size]
    zero, one = numbers[0], numbers[1]
    for i in range(size):
        x = v[i] + c[i]
        s = one if x >= th[i] else zero
        v[i] = x if s == zero else zero
        n[i] = n[i] + s
        c[i] = s


def _wide(whole: Any) -> Any:
    """Coefficients of any size: `_signed` where rounding a quotient is all there is to decide.

    ``whole`` is floor where the negative threshold is 0; toward zero where it is θ too (the same
    below 2^24 thresholds a step).
    """

    @_compile
    def update(
        v: Any, n: Any, a: int, c: Any, th: Any, e: int, size: int, numbers: Any
    ) -> None:  # fmt: skip
        v, n, th = v[a : a + size], n[a : a + size], th[e : e + size]
        cap = numbers[3]
        for i in range(size):
            x = v[i] + c[i]
            s = whole(x / th[i])
            s = s if s < cap else cap
            s = s if s > -cap else -cap
            s = s if s > -n[i] else -n[i]
            v[i] = x - s * th[i]
            n[i] = n[i] + s
            c[i] = s

    return update


_floor, _toward_zero = _wide(np.floor), _wide(np.trunc)


@_compile
def _signed(
    v: Any, n: Any, a: int, c: Any, th: Any, e: int, size: int, numbers: Any
) -> None:  # fmt: skip
    v, n, th = v[a : a + size], n[a : a + size], th[e : e + size]
    zero, one, negative, cap = numbers[0], numbers[1], numbers[2], numbers[3]
    for i in range(size):
        x = v[i] + c[i]
        r = x / th[i]
        up = -(np.floor(-r - negative) + one)
        s = np.floor(r) if r >= one else (up if r <= -negative else zero)
        s = s if s < cap else cap
        s = s if s > -cap else -cap
        s = s if s > -n[i] else -n[i]
        v[i] = x - s * th[i]
        n[i] = n[i] + s
        c[i] = s


@_compile
def _bounded(
    v: Any, n: Any, a: int, c: Any, th: Any, e: int, size: int, numbers: Any, bound: Any, rule: int
) -> None:  # fmt: skip
    """Any of the rules with a ceiling to the count."""
    v, n, th = v[a : a + size], n[a : a + size], th[e : e + size]
    zero, one, negative, cap, v0 = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    for i in range(size):
        x = v[i] + c[i]
        r = x / th[i]
        s = np.floor(r)
        if rule != _SIGNED:
            s = one if x >= th[i] else zero
        elif negative != zero:
            up = -(np.floor(-r - negative) + one)
            s = s if r >= one else (up if r <= -negative else zero)
        if rule == _SIGNED:
            s = max(min(s, cap), -cap, -n[i])
        s = min(s, np.floor(one / th[i] * bound + v0) - n[i])
        v[i] = zero if rule == _IF_ZERO and s != zero else x - s * th[i]
        n[i] = n[i] + s
        c[i] = s


@_compile
def _tally(
    c: Any, fan: Any, low: int, size: int, rows: Any, t: int, largest: Any, narrow: int
) -> None:
    """Add a block's sums to row t: in 32 bits if every coefficient is below ``narrow``."""
    fan = fan[low : low + size]
    events, spikes, seen = _INT32(0), _INT32(0), _INT32(0)
    synops, wide, unit = _INT32(0), _INT32(0), _INT32(0)
    for i in range(size):
        s = abs(c[i])
        k = _INT32(s if s < largest else largest)
        f = fan[i]
        seen = _INT32(seen | k)
        events = _INT32(events + (_INT32(1) if k > _INT32(0) else _INT32(0)))
        spikes = _INT32(spikes + k)
        synops = _INT32(synops + (f if k > _INT32(0) else _INT32(0)))
        wide = _INT32(wide + (f if k > _INT32(1) else _INT32(0)))
        unit = _INT32(unit + _INT32(k * f))
    if seen < narrow:
        rows[t, _EVENTS] += events
        rows[t, _SPIKES] += spikes
        rows[t, _SYNOPS] += synops
        rows[t, _WIDE] += wide
        rows[t, _UNIT] += unit
        return
    for i in range(size):
        m = np.int64(abs(c[i]))
        rows[t, _EVENTS] += m > 0
        rows[t, _SPIKES] += m
        rows[t, _SYNOPS] += fan[i] if m > 0 else 0
        rows[t, _WIDE] += fan[i] if m > 1 else 0
        rows[t, _UNIT] += m * np.int64(fan[i])


@_compile
def _integrate_fire_tally(
    v: Any, n: Any, c: Any, fan: Any, th: Any, unit: Any, numbers: Any, row: Any
) -> None:  # fmt: skip
    """`_integrate_and_fire`, `_tally` and `_scale` in one, for one threshold and fewer sums."""
    zero, one = numbers[0], numbers[1]
    events, synops = _INT32(0), _INT32(0)
    for i in range(c.shape[0]):
        x = v[i] + c[i]
        fired = x >= th
        s = one if fired else zero
        v[i] = x - s * th
        n[i] = n[i] + s
        c[i] = s * unit
        events = _INT32(events + (_INT32(1) if fired else _INT32(0)))
        synops = _INT32(synops + (fan[i] if fired else _INT32(0)))
    row[_EVENTS] += events
    row[_SPIKES] += events
    row[_SYNOPS] += synops
    row[_UNIT] += synops


@_compile
def _scale(c: Any, th: Any, e: int, size: int) -> None:
    th = th[e : e + size]
    for i in range(size):
        c[i] *= th[i]


@_compile
def _narrow(fan: Any) -> int:
    """A power of two: coefficients below it are small enough for a block's sums in 32 bits."""
    largest = 1
    for i in range(fan.shape[0]):
        largest = max(largest, fan[i])
    narrow = 1
    while narrow * 2 * _BLOCK * largest < 2**31:
        narrow *= 2
    return narrow


@_compile
def _tallies(coefficients: Any, fan: Any, c: Any, rows: Any) -> None:
    neurons, steps = fan.shape[0], rows.shape[0]
    narrow, largest = _narrow(fan), c.dtype.type(_LARGEST)
    images = coefficients.shape[0] // (steps * neurons)
    for t in range(steps):
        for b in range(images):
            for low in range(0, neurons, _BLOCK):
                size = min(_BLOCK, neurons - low)
                _load(coefficients, (t * images + b) * neurons + low, c, size)
                _tally(c, fan, low, size, rows, t, largest, narrow)


@_compile
def _advance(
    current: Any, frames: int, out: Any, v: Any, n: Any, th: Any, fan: Any, numbers: Any,
    bounds: Any, neurons: int, rule: int, counts: bool, uniform: bool, same: bool, rows: Any,
) -> None:  # fmt: skip
    layer = v.shape[0]  # neurons of all images
    narrow, largest, negative = _narrow(fan), numbers[5], numbers[2]
    buffer = np.empty(_BLOCK, v.dtype)
    counted, bounded, single = fan.shape[0] > 0, bounds.shape[0] > 0, th[0]
    unit = numbers[1] if counts else single
    at_once = uniform and counted and not bounded and rule == _IF and narrow > 1
    for image in range(0, layer, neurons):
        for low in range(0, neurons, _BLOCK):
            size, a = min(_BLOCK, neurons - low), image + low
            e = 0 if uniform else low
            for t in range(rows.shape[0]):
                start = t * layer + a
                c = _block(current, min(t, frames - 1) * layer + a, out, start, buffer, size, same)
                if at_once:
                    _integrate_fire_tally(
                        v[a : a + size], n[a : a + size], c, fan[low : low + size], single, unit,
                        numbers, rows[t],
                    )  # fmt: skip
                    _put(c, out, start, size)
                    continue
                if bounded:
                    _bounded(v, n, a, c, th, e, size, numbers, bounds[t], rule)
                elif rule == _IF:
                    _integrate_and_fire(v, n, a, c, th, e, size, numbers)
                elif rule == _IF_ZERO:
                    _fire_and_reset(v, n, a, c, th, e, size, numbers)
                elif negative == 0:
                    _floor(v, n, a, c, th, e, size, numbers)
                elif negative == 1:
                    _toward_zero(v, n, a, c, th, e, size, numbers)
                else:
                    _signed(v, n, a, c, th, e, size, numbers)
                if counted:
                    _tally(c, fan, low, size, rows, t, largest, narrow)
                if not counts:
                    _scale(c, th, e, size)
                _put(c, out, start, size)


@_compile
def _quantize(z: Any, out: Any, th: Any, neurons: int, numbers: Any) -> None:
    zero, steps, v0, bound, most = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    one = steps / steps
    c = np.empty(_BLOCK, th.dtype)
    for image in range(0, z.shape[0], neurons):
        for low in range(0, neurons, _BLOCK):
            size = min(_BLOCK, neurons - low)
            e = low if th.shape[0] == neurons else 0
            _load(z, image + low, c, size)
            part = th[e : e + size]
            for i in range(size):
                k = np.floor(c[i] * steps / part[i] + v0)
                k = k if k > zero else zero
                k = k if k < most else most
                c[i] = k * part[i] / steps
            if bound < np.inf:
                for i in range(size):
                    room = np.floor(one / part[i] * bound + v0)
                    c[i] = min(c[i], room * part[i] / steps)
            _store(c, out, image + low, size)
