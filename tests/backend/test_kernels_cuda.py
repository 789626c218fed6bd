"""The fused CUDA kernel against plain steps: on a GPU, in Triton's interpreter, as machine code."""

import importlib.util
import itertools
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import reference
import torch

from snnlib import IF, Augmented, Percentile, Ternary, convert
from snnlib.backend import updates
from snnlib.backend.layer import Layer
from snnlib.neurons import State

NEURONS = [
    IF(),
    IF(v0=0.2, reset="zero"),
    Ternary(),
    Ternary(negative=0.0, v0=0.0),
    Augmented(levels=4),
    Augmented(levels=4, negative=0.0),
    Augmented(levels=4, negative=0.3, v0=0.2, cap=3),
]
FLOAT, DOUBLE, BFLOAT, HALF = torch.float32, torch.float64, torch.bfloat16, torch.float16
STEPS = 4
# Thresholds a channel, channels last, counts, bounded, one current, sums: every pair of choices.
CHOICES = [
    (a, b, c, a != b, a != c, b != c) for a, b, c in itertools.product((False, True), repeat=3)
]


def laid_out(value, last):
    return value.movedim(-3, -1).contiguous().movedim(-1, -3) if last else value


def check(device, neuron, wide, dtype, choice):
    """Messages, potentials, counts and sums of the kernel and of plain steps: the same bits."""
    from snnlib.backend import cuda as kernels_cuda

    per_channel, last, counts, bounded, constant, counted = choice
    bound, frames, shape = 2.0 if bounded else None, 1 if constant else STEPS, (5, 11, 11)
    z = laid_out((2 * torch.randn(frames, 3, *shape)).to(device, dtype), last)
    theta = torch.tensor(0.7, dtype=wide)
    if per_channel:
        theta = torch.rand(5, 1, 1, dtype=wide) + 0.3
    theta = theta.to(device)
    fan_out = laid_out(torch.randint(1, 300_000, shape).int(), last).to(device)
    ours, plain = (neuron.initial(z[0].to(wide), theta) for _ in range(2))
    out = laid_out(z.new_empty(STEPS, 3, *shape), last) if constant else z.clone()
    source = z if constant else out
    assert updates.fits(ours, source, theta, out, fan_out)
    layer = Layer(neuron.fused, neuron.v0, theta, bound, counts, fan_out if counted else None)
    rows = kernels_cuda.advance(layer, ours, source, out, 2)
    case = (neuron, wide, dtype, choice)
    for t in range(STEPS):
        ceiling = None if bound is None else neuron.ceiling(bound, theta, 2 + t)
        c = updates.update(neuron, plain, z[min(t, frames - 1)].to(wide), theta, ceiling)
        assert torch.equal(out[t], (c if counts else c * theta).to(dtype)), (*case, t)
        if counted:
            assert torch.equal(rows[t].double(), updates.tally(c, fan_out)), (*case, t)
    assert torch.equal(ours.potential, plain.potential), case
    assert torch.equal(ours.count, plain.count), case
    assert (out != 0).any(), case


def huge(device):
    """Coefficients whose sums overflow 32 bits, of one neuron an image too."""
    from snnlib.backend import cuda as kernels_cuda

    for size in (1, 1500):
        z, theta = torch.full((1, 2, size), 1e9, device=device), torch.ones((), device=device)
        fan_out, neuron = torch.full((size,), 2304, device=device), Augmented()
        state = neuron.initial(z[0], theta)
        layer = Layer(neuron.fused, neuron.v0, theta, None, False, fan_out)
        rows = kernels_cuda.advance(layer, state, z, z.clone(), 1)
        n, total = 2 * size, 2 * size * 10**9
        assert rows.tolist() == [[n, total, n * 2304, n * 2304, total * 2304]]


def interpreted():
    """Every neuron and dtype with every pair of choices, in fewer runs than all combinations."""
    torch.manual_seed(0)
    dtypes = itertools.cycle([(FLOAT, FLOAT), (DOUBLE, DOUBLE), (FLOAT, HALF), (DOUBLE, FLOAT),
                              (FLOAT, BFLOAT)])  # fmt: skip
    for neuron, choice in itertools.product(NEURONS, CHOICES):
        wide, dtype = next(dtypes)
        if dtype == BFLOAT and not choice[2]:
            dtype = HALF  # the interpreter cuts off bits where a GPU rounds; counts have none there
        check("cpu", neuron, wide, dtype, choice)
    huge("cpu")
    from snnlib.backend import cuda as kernels_cuda

    assert kernels_cuda.works(torch.device("cpu"))


def machine_code():
    """PTX of the kernel for two generations of GPUs, which Triton makes without having one."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from snnlib.backend.cuda import _advance

    names = [parameter.name for parameter in _advance.params]
    flags = {name: True for name in names if name.isupper()}
    for message, wide, capability, fire in (
        ("bf16", "fp32", 80, False), ("fp16", "fp32", 90, False), ("fp32", "fp64", 90, False),
        ("bf16", "fp32", 90, True),
    ):  # fmt: skip
        flags |= dict.fromkeys(("CONSTANT", "FIRE", "ZERO", "UNIT", "UNIFORM"), fire)
        flags |= dict.fromkeys(("CAPPED", "BOUNDED", "COUNTS"), not fire)
        flags |= {"FLOOR": False, "DOUBLE": wide == "fp64", "BLOCK": 1024}
        types = dict.fromkeys(names, f"*{wide}") | dict.fromkeys(flags, "constexpr")
        types |= {"current": f"*{message}", "out": f"*{message}", "fan": "*i32", "sums": "*i64"}
        types |= {"total": "i32", "neurons": "i32", "steps": "i32"}
        source = ASTSource(_advance, types, {(names.index(k),): v for k, v in flags.items()})
        compiled = triton.compile(
            source, target=GPUTarget("cuda", capability, 32), options={"enable_fp_fusion": False}
        )
        code, size = compiled.asm["ptx"], wide[2:]
        # Triton before 3.6 flushes subnormal quotients to zero, which its floor does anyway.
        assert (re.search(rf"div\.rn(\.ftz)?\.f{size}", code) is not None) != fire
        assert f"mul.rn.f{size}" in code  # `.rn`: may not be fused with an addition
        assert not any(word in code for word in ("fma.", "div.full", "div.approx"))
        assert ("cvt.rn.bf16" in code) == (message == "bf16")


needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="Triton is not installed: pip install triton",
)


@needs_triton
@pytest.mark.parametrize("part", ["interpreted", "machine_code"])
def test_without_a_gpu(part, tmp_path):
    """Triton runs kernels on CPU tensors if told so before it is imported; it compiles for all."""
    path = os.pathsep.join(sys.path)  # what is tested here is what runs there
    env = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": path}
    env.pop("TRITON_INTERPRET", None)
    if part == "interpreted":
        env["TRITON_INTERPRET"] = "1"
    done = subprocess.run([sys.executable, __file__, part], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.cuda
@needs_triton
@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_on_a_gpu(neuron):
    torch.manual_seed(0)
    kinds = [(FLOAT, FLOAT), (DOUBLE, DOUBLE), (FLOAT, HALF), (FLOAT, BFLOAT), (DOUBLE, FLOAT)]
    for (wide, dtype), choice in itertools.product(kinds, CHOICES):
        check("cuda", neuron, wide, dtype, choice)


@pytest.mark.cuda
@needs_triton
def test_a_network_on_a_gpu(monkeypatch):
    """The kernel is used, and changes no count of a run."""
    huge("cuda")
    x = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    net = convert(reference.make(), x, Augmented(levels=4), balance=Percentile(99.0)).to("cuda")
    assert updates.compiled_cuda(torch.device("cuda", torch.cuda.current_device())) is not None
    fused = net(x.cuda(), 7)
    monkeypatch.setattr(updates, "compiled_cuda", lambda device: None)
    plain = net(x.cuda(), 7)
    assert torch.equal(fused.events, plain.events)
    assert torch.equal(fused.spikes, plain.spikes)
    assert torch.equal(fused.synops().total, plain.synops().total)


def odd():
    """Arguments of `advance` that only plain steps take: state, current, threshold, messages."""
    torch.manual_seed(0)
    z, one = torch.randn(STEPS, 3, 5, 8, 8), torch.tensor(0.7)
    last, gaps = laid_out(z, True), torch.randn(STEPS, 3, 5, 8, 16)[..., ::2]
    zeros = torch.zeros(3, 5, 8, 8)
    yield State(zeros + 0.3, zeros.clone()), last, one, z.clone()  # other order of the currents
    yield State(zeros + 0.3, zeros.clone()), z, one, torch.empty_like(last)  # of the messages
    yield State(laid_out(zeros + 0.3, True), zeros.clone()), z, one, z.clone()  # of the counts
    yield State(zeros + 0.3, zeros.clone()), gaps, one, z.clone()
    yield State(zeros + 0.3, zeros.clone()), z[:2], one, z.clone()  # the last current stays
    yield State(zeros + 0.3, zeros.clone()), z[..., :1], one, z.clone()
    yield State(zeros + 0.3, zeros.clone()), z, torch.rand(3, 1, 1, 1) + 0.3, z.clone()
    yield State(zeros + 0.3, zeros.clone()), z, one.double(), z.clone()
    yield State(zeros.double(), zeros.double()), z.bfloat16(), one.double(), z.bfloat16()


@pytest.mark.parametrize("case", list(odd()), ids=range(9))
def test_plain_steps_take_what_fused_kernels_do_not(case):
    state, current, theta, out = case
    assert not updates.fits(state, current, theta, out)
    plain, neuron = State(*(part.clone() for part in state)), Augmented(levels=2)
    current = current.clone() if current is out else current
    fan_out = torch.randint(1, 9, (5, 8, 8))
    rows = updates.advance(neuron, state, current, theta, out, fan_out=fan_out)
    for t in range(STEPS):
        z = current[min(t, len(current) - 1)].to(plain.potential.dtype)
        c, plain = neuron.step(plain, z, theta.to(z.dtype))
        assert torch.equal(out[t], (c * theta).to(out.dtype))
        assert torch.equal(rows[t], updates.tally(c, fan_out))
    assert torch.equal(state.potential, plain.potential)
    assert torch.equal(state.count, plain.count)


def test_a_gpu_without_a_working_kernel_runs_plain_steps(monkeypatch):
    """Absent: silent; failing, or with other results: a warning that says why."""
    device, find = torch.device("cuda", 0), updates.compiled_cuda.__wrapped__
    monkeypatch.delattr("snnlib.backend.cuda", raising=False)
    monkeypatch.setitem(sys.modules, "snnlib.backend.cuda", None)
    assert find(device) is None

    def fails(_):
        raise RuntimeError("Failed to find C compiler")

    for works, words in ((fails, "C compiler.*plain PyTorch"), (lambda _: False, "differ")):
        module = SimpleNamespace(works=works)
        monkeypatch.setitem(sys.modules, "snnlib.backend.cuda", module)
        monkeypatch.setattr("snnlib.backend.cuda", module, raising=False)
        with pytest.warns(RuntimeWarning, match=words):
            assert find(device) is None


if __name__ == "__main__":
    {"interpreted": interpreted, "machine_code": machine_code}[sys.argv[1]]()
