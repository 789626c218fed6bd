"""Models that carry things, come wrapped, or are converted in odd surroundings."""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import snnlib as snn
from snnlib.backend.copies import copied
from snnlib.conversion.registry import RULES, rule
from snnlib.conversion.trace import trace

IMAGES = torch.rand(10, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def small(*layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3), *layers)


def same(net: snn.SpikingNetwork, model: nn.Module, images: Tensor = IMAGES) -> None:
    with torch.no_grad():
        assert torch.allclose(net.ann(images), model(images), atol=1e-5)


# what models carry


def pruned(model: nn.Module) -> None:
    prune.random_unstructured(model[0], "weight", 0.5)  # type: ignore[index]
    prune.ln_structured(model[3], "weight", 0.3, n=2, dim=0)  # type: ignore[index]
    model(IMAGES)


def old_norms(model: nn.Module) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.nn.utils.weight_norm(model[0])  # type: ignore[index]
        torch.nn.utils.spectral_norm(model[3])  # type: ignore[index]
    model(IMAGES)


def parametrized(model: nn.Module) -> None:
    parametrizations.weight_norm(model[0])  # type: ignore[index]
    parametrizations.orthogonal(model[3])  # type: ignore[index]


def tensors(model: nn.Module) -> None:
    model.last = model(IMAGES)
    model.kept = {"features": [model[0](IMAGES)], "plain": torch.ones(2)}  # type: ignore[index]


def things(model: nn.Module) -> None:
    model.lock, model.rows = threading.Lock(), (i for i in range(3))
    model[0].log = {"locks": [threading.RLock()], "me": model}  # type: ignore[index]


def hooks(model: nn.Module) -> None:
    model.seen = []
    model[0].register_forward_hook(lambda m, x, y: 2 * y)  # type: ignore[index]
    model.register_forward_hook(lambda m, x, y: y + 1)
    model[3].register_forward_pre_hook(lambda m, x: (x[0] * 0.5,))  # type: ignore[index]


LOADS = (pruned, old_norms, parametrized, tensors, things, hooks)


@pytest.mark.parametrize("load", LOADS)
def test_model_that_carries(load: Callable[[nn.Module], None]) -> None:
    model = small()
    load(model.eval())
    model.eval()
    before = {name: value.detach().clone() for name, value in model.state_dict().items()}
    held = dict(vars(model))
    net = snn.convert(model, IMAGES)
    same(net, model)
    assert net.verify(IMAGES, steps=2).graph_error < 1e-5  # type: ignore[operator]
    assert vars(model) == held
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_copy_shares_what_cannot_be_copied_and_nothing_else() -> None:
    model = small().eval()
    model.lock, model.list, model.loop = threading.Lock(), [[1], torch.ones(1)], model[0].weight * 2
    twin: Any = copied(model)
    assert twin.lock is model.lock
    assert twin.list[0] is not model.list[0]
    assert twin.loop.grad_fn is None
    pairs = zip(twin.parameters(), model.parameters(), strict=True)
    assert all(one.data_ptr() != other.data_ptr() for one, other in pairs)
    model.lock_in_object = type("Foreign", (), {})()
    model.lock_in_object.lock, model.lock_in_object.model = threading.Lock(), model
    assert copied(model).lock_in_object is model.lock_in_object  # type: ignore[comparison-overlap]


class Held(nn.Module):
    """Its layer is no submodule, and in an object that cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.holder = type("Foreign", (), {"lock": threading.Lock()})()
        self.holder.lock, self.holder.layer = threading.Lock(), small()

    def parameters(self, recurse: bool = True) -> Any:
        return self.holder.layer.parameters()

    def forward(self, x: Tensor) -> Tensor:
        return self.holder.layer(x)


@pytest.mark.parametrize("make", [small, Held])
def test_network_stays_as_it_was_when_training_goes_on(make: Callable[[], nn.Module]) -> None:
    model = make().eval()
    net = snn.convert(model, IMAGES)
    before = net.ann(IMAGES)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert torch.equal(net.ann(IMAGES), before)
    if make is small:
        assert net.verify(IMAGES, steps=1).graph_error < 1e-5  # type: ignore[operator]


# wrappers


def compiled(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")  # type: ignore[return-value]


def in_place(model: nn.Module) -> nn.Module:
    model.compile(backend="eager")
    return model


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "DataParallel": nn.DataParallel,
    "compiled": compiled,
    "compiled in place": in_place,
    "both": lambda model: nn.DataParallel(compiled(model)),
    "fx": lambda model: torch.fx.symbolic_trace(model),
}


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("name", WRAPPERS)
def test_wrapped_model(name: str, depth: int) -> None:
    model = small().eval()
    wrapped = WRAPPERS[name](small().eval())
    for _ in range(depth):
        wrapped = nn.Sequential(wrapped, nn.Identity())
    net = snn.convert(wrapped.eval(), IMAGES)
    same(net, model)
    assert net.graph.spiking == ["0." * depth + "1"]
    names = [name for name, _ in wrapped.named_modules()]
    assert names == [name for name, _ in wrapped.named_modules()]  # the model itself stays wrapped


def test_compiled_function_in_forward() -> None:
    @functools.partial(torch.compile, backend="eager")
    def scaled(x: Tensor) -> Tensor:
        return F.relu(3 * x)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = small()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(scaled(x))

    model = Net().eval()
    same(snn.convert(model, IMAGES), model)


def test_layer_that_changes_its_own_stride() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            for stride in (1, 2):
                self.conv.stride = (stride, stride)
                x = F.relu(self.conv(x))
            return x

    net = snn.convert(Net().eval(), IMAGES)
    same(net, Net().eval() if False else net.reference)  # type: ignore[arg-type]
    assert [net.graph.nodes[name].attrs["stride"] for name in ("conv", "conv:2")] == [
        [1, 1],
        [2, 2],
    ]


def test_autocast_inside_forward_is_left_out() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = small()

        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return self.inner(x).float()

    model = Net().eval()
    net = snn.convert(model, IMAGES)
    assert net.dtype == torch.float32
    assert any("autocast to torch.bfloat16" in note for note in net.graph.notes)
    same(net, model.inner)
    assert 1e-5 < net.verify(IMAGES, steps=1).graph_error < 0.1  # type: ignore[operator]


# surroundings


@pytest.mark.parametrize("mode", ["plain", "inference", "autocast", "grad", "no grad"])
def test_conversion_has_its_own_mode(mode: str) -> None:
    modes: dict[str, Callable[[], Any]] = {
        "plain": torch.enable_grad, "inference": torch.inference_mode, "grad": torch.enable_grad,
        "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16), "no grad": torch.no_grad,
    }  # fmt: skip
    expected = snn.convert(small().eval(), IMAGES, calibrate_bias=True)
    with modes[mode]():
        model, images = small().eval(), IMAGES.clone()
        net = snn.convert(model, images, balance=snn.Percentile(99.9), calibrate_bias=True)
    for name, value in expected.balanced.items():
        assert torch.equal(net.balanced[name], value)
        assert not net.balanced[name].is_inference()
    assert net.graph.nodes["0"].tensors["weight"].dtype == torch.float32
    assert torch.equal(net.ann(IMAGES), expected.ann(IMAGES))


def test_conversion_ignores_the_default_device() -> None:
    model, expected = small().eval(), snn.convert(small().eval(), IMAGES)
    with torch.device("meta"):
        net = snn.convert(model, IMAGES)
        assert trace(model, IMAGES).spiking == ["1"]
    assert torch.equal(net.ann(IMAGES), expected.ann(IMAGES))


def test_several_threads_convert_at_once() -> None:
    def work(seed: int) -> bool:
        torch.manual_seed(seed)
        model = small(nn.ReLU(), nn.Linear(3, 2 + seed % 3)).eval()
        net = snn.convert(model, IMAGES)
        with torch.no_grad():
            return net.graph.spiking == ["1", "4"] and torch.allclose(
                net.ann(IMAGES), model(IMAGES), atol=1e-5
            )

    shared = small().eval()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(32)))
            nets = list(pool.map(lambda _: snn.convert(shared, IMAGES), range(16)))
    finally:
        sys.setswitchinterval(interval)
    assert all(torch.equal(net.ann(IMAGES), nets[0].ann(IMAGES)) for net in nets)


# calibration


class Stream(IterableDataset):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        return iter((image, 0) for image in IMAGES)


LABELS = torch.zeros(len(IMAGES))
SOURCES: dict[str, Callable[[], Any]] = {
    "loader": lambda: DataLoader(TensorDataset(IMAGES, LABELS), batch_size=4),
    "loader of images": lambda: DataLoader(IMAGES, batch_size=4),  # type: ignore[arg-type]
    "data set": lambda: TensorDataset(IMAGES, LABELS),
    "iterable data set": Stream,
    "list of batches": lambda: [IMAGES[:3], IMAGES[3:]],
    "generator of pairs": lambda: ([part, part] for part in IMAGES.split(3)),
}


@pytest.mark.parametrize("name", SOURCES)
def test_calibration_from_a_source_of_images(name: str) -> None:
    expected, model = snn.convert(small().eval(), IMAGES), small().eval()
    net = snn.convert(model, SOURCES[name]())
    assert net.report["images"] == len(IMAGES)
    assert net.balanced.keys() == expected.balanced.keys()
    assert all(torch.equal(net.balanced[n], expected.balanced[n]) for n in net.balanced)


def test_an_endless_source_gives_a_thousand_images() -> None:
    drawn = itertools.count()
    source = ((IMAGES, next(drawn)) for _ in itertools.count())
    assert snn.convert(small().eval(), source).report["images"] == 1000
    assert next(drawn) == 100


def test_numbers_of_numpy() -> None:
    net = snn.convert(
        small().eval(), IMAGES, snn.Augmented(levels=np.int64(2), v0=np.float32(0.5)),
        batch=np.int32(3), per_channel=np.True_, calibrate_bias=np.False_,
        calibration_steps=np.uint8(4),
    )  # fmt: skip
    assert net.report["per_channel"] is True


def test_positions_after_the_third_warn() -> None:
    with pytest.warns(DeprecationWarning, match="convert: pass balance, per_channel by name"):
        old = snn.convert(small().eval(), IMAGES, snn.IF(), snn.Max(), True)  # type: ignore[misc]
    new = snn.convert(small().eval(), IMAGES, snn.IF(), balance=snn.Max(), per_channel=True)
    assert torch.equal(old.balanced["1"], new.balanced["1"])


# rules of one's own


def test_a_rule_is_never_replaced_unless_asked() -> None:
    before = dict(RULES)
    for target in (nn.ReLU, nn.Conv2d, F.relu, "relu", torch.relu, "Tensor.relu"):
        with pytest.raises(ValueError, match=r"has a rule already: pass replace=True"):
            rule(target, becomes="nothing")(lambda b, x: x.name)
    assert before == RULES

    def emit(b: Any, m: nn.Module, x: Any) -> Any:
        return b.emit("relu", x, bound=0.25)

    try:
        rule(nn.ReLU, becomes="bounded", replace=True)(emit)
        assert trace(small().eval(), IMAGES).nodes["1"].attrs == {"bound": 0.25}
    finally:
        RULES[nn.ReLU] = before[nn.ReLU]
    assert trace(small().eval(), IMAGES).nodes["1"].attrs == {}


def test_a_rule_registered_before_the_first_conversion_stays() -> None:
    program = """if True:
        import torch
        from torch import nn
        from snnlib.conversion.registry import rule
        @rule(nn.GELU, becomes="a ReLU instead")
        def emit(b, m, x):
            return b.emit("relu", x)
        @rule(nn.ReLU6, becomes="a ReLU without its bound", replace=True)
        def emit(b, m, x):
            return b.emit("relu", x)
        import snnlib.conversion.trace
        model = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.ReLU6()).eval()
        graph = snnlib.conversion.trace.trace(model, torch.rand(2, 3))
        print([node.op for node in graph], graph.nodes["2"].attrs)
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True,
        cwd=Path(snn.__file__).parents[1], check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "['input', 'linear', 'relu', 'relu'] {}"


def test_a_rule_for_a_function_of_ones_own_is_found_by_its_caller() -> None:
    class Squares(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.erf(x)

    @rule(torch.erf, becomes="a ReLU instead")
    def emit(b: Any, input: Any) -> Any:
        return b.emit("relu", input)

    try:
        graph = trace(nn.Sequential(nn.Linear(3, 4), Squares()).eval(), torch.rand(2, 3))
        assert graph.spiking == ["1.erf"]
    finally:
        del RULES[torch.erf]
