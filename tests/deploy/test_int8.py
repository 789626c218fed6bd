"""Convolutions in 8-bit instructions: exact for every shape, on every processor.

    python tests/deploy/test_int8.py [COUNT] [SEED]

tries so many shapes on this processor, or on less of it (ONEDNN_MAX_CPU_ISA=AVX2, …).
"""

import gc
import json
import os
import random
import subprocess
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from clocks import always_faster
from torch.nn.functional import conv2d

from snnlib.backend.modes import exact_sums
from snnlib.deploy import int8
from snnlib.graph.operations import OPERATIONS, Node, apply, count_paths

# groups, channels, outputs, kernel, stride, padding, dilation, image, batch: what oneDNN 3.12 gets
# wrong if it is left to pad and to subtract (VNNI and AMX), and at the end also if not (AMX)
HARD = [
    (3, 3, 99, (1, 3), (1, 1), (0, 0), (1, 1), (5, 5), 2),
    (2, 2, 66, (3, 3), (3, 3), (2, 2), (1, 1), (9, 13), 8),
    (8, 8, 40, (2, 5), (2, 1), (6, 6), (1, 1), (4, 4), 33),
    (17, 17, 68, (3, 3), (2, 2), (6, 6), (1, 1), (1, 7), 33),
    (48, 48, 96, (3, 1), (1, 2), (6, 6), (1, 1), (1, 1), 64),
    (48, 48, 240, (4, 4), (1, 2), (3, 1), (3, 3), (8, 8), 1),
    (3, 48, 99, (5, 5), (2, 1), (4, 4), (1, 1), (2, 3), 1),
    (1, 17, 5, (3, 3), (2, 2), (2, 2), (1, 2), (7, 1), 3),
    (2, 2, 66, (2, 5), (1, 2), (0, 0), (1, 1), (5, 5), 3),
    (1, 32, 32, (3, 3), (2, 2), (0, 0), (1, 1), (9, 3), 48),
    (1, 16, 96, (1, 3), (1, 2), (0, 0), (3, 3), (7, 7), 1),
]
LIMITS = [
    {"ATEN_CPU_CAPABILITY": "default"},
    {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"},
    {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"},
    {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX"},
]


def shapes(count, seed):
    """Random shapes of convolutions; small ones, and at least one window sees the image."""
    rng = random.Random(seed)
    while count:
        groups = rng.choice([1, 1, 1, 2, 3, 4, 16, 17, 32])
        channels, outputs = (groups * rng.choice([1, 2, 3, 5, 8, 16, 33]) for _ in range(2))
        kernel = rng.choice(
            [(1, 1), (1, 1), (2, 2), (3, 3), (3, 3), (4, 4), (5, 5), (1, 3), (5, 2)]
        )
        stride = rng.choice([(1, 1), (1, 1), (2, 2), (2, 2), (3, 3), (1, 2), (2, 1)])
        padding = rng.choice([(0, 0), (1, 1), (1, 1), (2, 2), (4, 4), (0, 2), (3, 1)])
        dilation = rng.choice([(1, 1), (1, 1), (1, 1), (2, 2), (3, 3), (1, 2)])
        image = rng.choice(
            [(1, 1), (2, 3), (1, 7), (7, 1), (4, 4), (5, 5), (8, 8), (9, 3), (14, 14)]
        )
        batch = rng.choice([1, 1, 2, 3, 8, 33, 48])
        case = groups, channels, outputs, kernel, stride, padding, dilation, image, batch
        work = batch * outputs * channels // groups * kernel[0] * kernel[1] * image[0] * image[1]
        if work < 10**7 and all(map(_sees, kernel, stride, padding, dilation, image)):
            count -= 1
            yield case


def _sees(kernel, stride, padding, dilation, side):
    """Whether a window sees a pixel, along one side. PyTorch itself crashes where none does."""
    starts = range(-padding, side + padding - dilation * (kernel - 1), stride)
    return any(0 <= start + i * dilation < side for start in starts for i in range(kernel))


def made(case, seed=0, zero=int8.MOST):
    """A convolution of random whole numbers, and images for it."""
    groups, channels, outputs, kernel, stride, padding, dilation, image, batch = case
    generator = torch.Generator().manual_seed(seed)

    def draw(most, *shape):
        return torch.randint(-most, most + 1, shape, generator=generator).float()

    weight = draw(127, outputs, channels // groups, *kernel)
    weight[0] = 127
    weight[outputs // 2] = -127
    x = draw(zero, batch, channels, *image)
    x[batch // 2] = zero * x[batch // 2].sign()
    attrs = {
        "stride": list(stride), "padding": list(padding), "dilation": list(dilation),
        "groups": groups, "zero": zero,
    }  # fmt: skip
    tensors = {"weight": weight, "bias": draw(5000, outputs)}
    return Node("c", "conv_int8", ("x",), attrs, tensors), x


def exact(node, x):
    """The same in float64."""
    a, (weight, bias) = node.attrs, (node.tensors.get(role) for role in ("weight", "bias"))
    bias = None if bias is None else bias.double()
    where = a["stride"], a["padding"], a["dilation"], a["groups"]
    return conv2d(x.double(), weight.double(), bias, *where)


def sweep(count, seed):
    """Shapes that are wrong, and the share that was computed in 8 bits."""
    wrong, original, eight = [], int8._convolve, set()

    def convolve(node, *args):
        eight.add(node.name)
        return original(node, *args)

    int8._convolve = convolve
    cases = [*HARD, *shapes(count, seed)]
    for number, case in enumerate(cases):
        node, x = made(case, number, zero=random.Random(number).choice([1, 16, 64]))
        node = replace(node, name=str(number))
        for images in (x, x.contiguous(memory_format=torch.channels_last)):
            if not torch.equal(apply(node, [images]).double(), exact(node, x)):
                wrong.append(case)
    used = len(eight - {"trial"}) / len(cases)
    return {"wrong": wrong, "in_eight_bits": used, "has_kernels": int8._has_kernels()}


@pytest.fixture(autouse=True)
def sums_of_products():
    """As in a run of a whole-number network: NNPACK's convolutions in float32 are none."""
    with exact_sums():
        yield


@pytest.fixture
def eight_bits(monkeypatch):
    """Calls of the 8-bit kernel, which is used wherever it is exact."""
    calls, original = [], int8._convolve
    monkeypatch.setattr(int8, "time", always_faster())
    monkeypatch.setattr(int8, "_convolve", lambda *args: calls.append(args) or original(*args))
    int8._pays.cache_clear()
    yield calls
    int8._pays.cache_clear()


def check(found):
    assert found["wrong"] == []
    assert (0.8 if found["has_kernels"] else 0) <= found["in_eight_bits"] <= found["has_kernels"]


def test_every_shape_is_exact(eight_bits, monkeypatch):
    monkeypatch.setattr(int8, "_convolve", int8._convolve)  # `sweep` replaces it
    check(sweep(100, 0))


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: "=".join(*limit.items()))
def test_every_shape_is_exact_with_fewer_instructions(limit):
    """In a process of its own: the libraries read the limits when they are loaded."""
    kept = {k: v for k, v in os.environ.items() if k not in ("ONEDNN_MAX_CPU_ISA", "PYTHONPATH")}
    env = {**kept, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", **limit}
    call = [sys.executable, __file__, "50", "1"]
    done = subprocess.run(call, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    check(found)
    assert not (found["has_kernels"] and "ATEN_CPU_CAPABILITY" in limit)


def largest_sums(bias=1023.0):
    """A 1×1 convolution whose bound, 2 · 64 · 127 · 1032 + bias, is 2^24 − 1."""
    node, x = made((1, 1032, 17, (1, 1), (1, 1), (0, 0), (1, 1), (3, 3), 3))
    node.tensors["weight"].copy_(127 * node.tensors["weight"].sign())
    node.tensors["weight"][:2] = 127.0
    node.tensors["weight"][1:3] *= -1
    node.tensors["bias"].fill_(bias)
    x[0] = int8.MOST
    return node, x


def test_the_largest_sums_are_exact(eight_bits):
    node, x = largest_sums()
    assert int8.takes(node, int8.MOST)
    value = apply(node, [x])
    assert torch.equal(value.double(), exact(node, x))
    assert value.max() == 64 * 127 * 1032 + 1023
    assert bool(eight_bits) == int8._has_kernels()


def test_what_could_be_larger_is_refused(eight_bits):
    """AMX kernels round 2^24 + 1 to 2^24, and two products of 129 · 127 do not fit in 16 bits."""
    node, x = largest_sums(bias=1024.0)
    small, _ = made((1, 2, 3, (3, 3), (1, 1), (1, 1), (1, 1), (4, 4), 2))
    assert not int8.takes(node, int8.MOST)
    assert int8.takes(node, int8.MOST - 1)
    assert int8.takes(small, int8.MOST)
    assert not int8.takes(small, int8.MOST + 1)
    wide = {"weight": small.tensors["weight"] * 2}
    assert not int8.takes(replace(small, tensors=wide), 1)
    assert not int8.takes(replace(small, op="conv_transpose"), 1)
    flat = replace(small, tensors={"weight": small.tensors["weight"].flatten(2)})
    assert not int8.takes(flat, 1)
    for refused in (node, replace(small, attrs={**small.attrs, "zero": 100})):
        images = x if refused is node else torch.full((2, 2, 4, 4), 100.0)
        assert torch.equal(apply(refused, [images]).double(), exact(refused, images))
    assert all(call[0].name == "trial" for call in eight_bits)


PLAIN = (1, 8, 16, (3, 3), (1, 1), (1, 1), (1, 1), (6, 6), 4)


def _missing(*_):
    raise AttributeError("no such operator")


def _one_wrong(node, x, packed, rows):
    value = apply(replace(node, op="conv"), [x]).clone()
    value[-1, -1, -1, -1] += 1
    return value


@pytest.mark.parametrize("kernel", [_missing, _one_wrong])
def test_a_kernel_that_is_missing_or_wrong_is_not_used(kernel, eight_bits, monkeypatch):
    node, x = made(PLAIN)
    monkeypatch.setattr(int8, "_convolve", kernel)
    assert torch.equal(apply(node, [x]).double(), exact(node, x))


def test_a_kernel_that_is_slower_is_not_used(eight_bits, monkeypatch):
    node, x = made(PLAIN)
    times = iter([0, 2, 2, 4, 4, 6, 6, 7])  # three times two seconds, against one
    monkeypatch.setattr(int8, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    assert torch.equal(apply(node, [x]).double(), exact(node, x))
    assert {call[0].name for call in eight_bits} <= {"trial"}


@pytest.mark.parametrize("zero", [1, int8.MOST])
@pytest.mark.parametrize("with_bias", [True, False])
def test_weights_may_be_shared(zero, with_bias, eight_bits):
    """What is kept for a weight belongs to one zero, bias, stride, … of the nodes that hold it."""
    node, x = made(PLAIN, zero=zero)
    held = dict(node.tensors) if with_bias else {"weight": node.tensors["weight"]}
    others = [
        replace(node, tensors=held),
        replace(node, tensors=held, attrs={**node.attrs, "zero": 9 + zero // 2}),
        replace(node, tensors=held, attrs={**node.attrs, "stride": [2, 2], "padding": [0, 1]}),
    ]
    for _ in range(2):
        for other in (node, *others):
            images = x.clamp(-other.attrs["zero"], other.attrs["zero"])
            assert torch.equal(apply(other, [images]).double(), exact(other, images))


def test_packed_weights_live_as_long_as_the_weights(eight_bits):
    gc.collect()
    before = len(int8._packed)
    node, x = made(PLAIN)
    apply(node, [x])
    assert len(int8._packed) == before + int8._has_kernels()
    eight_bits.clear()
    del node
    gc.collect()
    assert len(int8._packed) == before


def test_threads_that_meet_new_weights_at_once(eight_bits):
    """They may all try the shape and pack; they all get the same numbers."""
    nodes = [made(PLAIN, seed) for seed in range(20)]
    expected, wrong = [exact(*pair) for pair in nodes], []
    ready = threading.Barrier(6)

    def work():
        ready.wait()
        for (node, x), value in zip(nodes, expected, strict=True):
            if not torch.equal(apply(node, [x]).double(), value):
                wrong.append(node)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert wrong == []


def test_few_batches_need_a_trial():
    sizes = {batch: int8._filled_up(batch) for batch in range(1, 257)}
    assert all(batch <= size <= 1.25 * batch for batch, size in sizes.items())
    assert len(set(sizes.values())) == 28


def test_it_has_the_paths_of_a_convolution():
    """Paths are counted with any weights and inputs, beyond what 8 bits hold."""
    node, x = made(PLAIN)
    x = 1000 + x.double()
    found = count_paths(node, [x])
    assert torch.equal(found, count_paths(replace(node, op="conv"), [x]))
    assert OPERATIONS["conv_int8"].kind == "weighted"


if __name__ == "__main__":
    int8.time = always_faster()
    count, seed = [*sys.argv[1:], "500", "0"][:2]
    with exact_sums():
        print(json.dumps(sweep(int(count), int(seed))))
