"""A call computes the same in any surroundings, and leaves the switches of the process alone."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import pytest
import reference
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnlib import Augmented, Max, MinError, Percentile, SpikingNetwork, convert
from snnlib.backend import updates
from snnlib.backend.modes import exact_sums, full_convolutions, own_mode
from snnlib.backend.parallel import for_each
from snnlib.conversion.balance import firing_thresholds
from snnlib.conversion.trace import trace

SURROUNDINGS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "gradients": torch.enable_grad,
    "no gradients": torch.no_grad,
    "inference mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "default device": lambda: torch.device("meta"),
}


@pytest.fixture(params=SURROUNDINGS)
def around(request: pytest.FixtureRequest) -> Iterator[AbstractContextManager[object]]:
    return SURROUNDINGS[request.param]()


def mode() -> tuple[object, ...]:
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.zeros(1).device,
    )


PLAIN = False, False, False, torch.device("cpu")


def test_a_mode_of_its_own(around: AbstractContextManager[object]) -> None:
    decorated = own_mode()(mode)
    with around:
        before = mode()
        with own_mode():
            assert mode() == PLAIN
        with pytest.raises(KeyError), own_mode():
            raise KeyError
        assert decorated() == decorated() == PLAIN
        assert mode() == before
    assert mode() == (True, False, False, torch.device("cpu"))


def test_a_default_device_becomes_the_one_that_is_named() -> None:
    with own_mode("meta"):
        assert torch.zeros(1).device.type == "cpu"  # nobody set one
    with torch.device("cpu:0"), own_mode("meta"):
        assert torch.zeros(1).device.type == "cpu"
    with torch.device("meta"), own_mode("cpu"):
        assert torch.zeros(1).device.type == "cpu"


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_every_worker_has_it(around: AbstractContextManager[object], workers: int) -> None:
    modes = []
    with around:
        for_each(range(9), workers, lambda item, worker: modes.append(mode()))
    assert set(modes) == {PLAIN}


@pytest.mark.parametrize("workers", [1, 2])
def test_results_are_those_of_no_surroundings(
    around: AbstractContextManager[object], workers: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, x = torch.randn(3, 8, generator=generator), torch.randn(6, 8, generator=generator)

    def compute(x: Tensor) -> Tensor:
        result = torch.empty(len(x), 3, device="cpu")

        def work(item: int, worker: int) -> None:
            result[item] = F.linear(x[item], weight)
            result[item] += torch.arange(3)

        for_each(range(len(x)), workers, work)
        return result

    expected = compute(x)
    with around:
        made_here = torch.tensor(
            x.tolist(), device="cpu"
        )  # in inference mode, a tensor of its kind
        found = own_mode()(compute)(made_here)
        assert torch.equal(found, expected)
        found += 1  # the caller's own now
    assert not found.is_inference()
    assert not found.requires_grad


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("balance", [Max(), Percentile(99.0), MinError(4)], ids=str)
@pytest.mark.parametrize("per_channel", [False, True])
def test_thresholds_are_those_of_no_surroundings(
    around: AbstractContextManager[object], balance: Max, per_channel: bool, threads: int
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 7), nn.ReLU(), nn.Linear(7, 2)
    ).eval()
    pixels = torch.rand(20, 1, 8, 8)
    with torch.no_grad():
        model[0].bias[2] = -50.0  # type: ignore[index, union-attr, operator]  # a dead channel
    graph = trace(model, pixels[:2])
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        expected, _ = firing_thresholds(graph, pixels, balance, per_channel, batch=4)
        with around:
            images = torch.tensor(pixels.tolist(), device="cpu")
            found, _ = firing_thresholds(graph, images, balance, per_channel, batch=4)
    finally:
        torch.set_num_threads(before)
    for name, value in expected.items():
        assert torch.equal(found[name], value)
        assert not found[name].is_inference()


# --- networks ------------------------------------------------------------------------------------


def images(count: int, seed: int = 1) -> Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed), device="cpu")


@pytest.fixture(scope="module")
def net() -> SpikingNetwork:
    return convert(reference.make().float(), images(40), Augmented(levels=4, negative=0.0))


CALLS: dict[str, Callable[[SpikingNetwork, Tensor], Tensor]] = {
    "run": lambda net, x: net(x, 4, batch=2).logits,
    "events": lambda net, x: net(x, 4, batch=2).events,
    "synops": lambda net, x: net(x, 4, batch=2).synops().total,
    "record": lambda net, x: net(x, 4, record=("relu1",)).trace["relu1"].potential,
    "last step": lambda net, x: net(x, 4, only_last=True, batch=2).logits,
    "decide": lambda net, x: torch.stack([*net.decide(x, 0.5, 4)]).double(),
    "ann": lambda net, x: net.ann(x),
    "closed form": lambda net, x: net.closed_form(x, 4),
    "verify": lambda net, x: torch.tensor(net.verify(x, steps=4).agreement, device="cpu"),
    "convert": lambda net, x: convert(net.reference, x).balanced["relu3"],
    "calibrate": lambda net, x: convert(net.reference, x, calibrate_bias=True).ann(x),
    "quantize": lambda net, x: net.quantize()(x, 4, batch=2).logits,
}


@pytest.mark.parametrize("threads", [1, 2])
def test_networks_compute_the_same_in_any_surroundings(net: SpikingNetwork, threads: int) -> None:
    before, problems = torch.get_num_threads(), []
    torch.set_num_threads(threads)
    try:
        for call, compute in CALLS.items():
            expected = compute(net, images(9))
            for where, around in SURROUNDINGS.items():
                try:
                    with around():
                        found = compute(net, images(9))
                        found += 0  # a caller's own tensor, in whatever mode
                    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
                except (RuntimeError, ValueError, AssertionError) as error:
                    problems.append(f"{call}, {where}: {error}")
    finally:
        torch.set_num_threads(before)
    assert problems == []


# --- switches of the process ---------------------------------------------------------------------


def switches() -> tuple[object, ...]:
    nnpack = torch.backends.nnpack.set_flags(False)[0]
    torch.backends.nnpack.set_flags(nnpack)
    return nnpack, torch.backends.cudnn.enabled, rounds()


def rounds() -> bool:
    """Whether products of float32 matrices may be rounded."""
    if hasattr(torch.backends.mkldnn, "matmul"):
        return torch.backends.mkldnn.matmul.fp32_precision not in ("none", "ieee")
    return torch.get_float32_matmul_precision() != "highest"


OFF = False, False, False


@pytest.fixture(params=["as they are", "the other way"])
def found(request: pytest.FixtureRequest) -> Iterator[tuple[object, ...]]:
    """The switches of the process before a call, whatever they are."""
    before, precision = switches(), torch.get_float32_matmul_precision()
    if request.param == "the other way":
        torch.backends.nnpack.set_flags(not before[0])
        torch.backends.cudnn.enabled = not before[1]
        torch.set_float32_matmul_precision("medium")
    yield switches()
    torch.backends.nnpack.set_flags(before[0])
    torch.backends.cudnn.enabled = before[1]
    torch.set_float32_matmul_precision(precision)


def test_the_last_one_out_puts_the_switches_back(found: tuple[object, ...]) -> None:
    """Three callers that enter and leave in every order."""
    for order in set(itertools.permutations([0, 0, 1, 1, 2, 2])):
        inside: dict[int, ExitStack] = {}
        seen = []
        for caller in order:
            if caller in inside:
                inside.pop(caller).close()
            else:
                inside[caller] = ExitStack()
                inside[caller].enter_context(exact_sums())
            seen.append(switches() == (OFF if inside else found))
        assert all(seen), order


def test_an_error_puts_the_switches_back(found: tuple[object, ...]) -> None:
    @exact_sums()
    def fail() -> None:
        assert switches() == OFF
        raise KeyError

    for _ in range(2):
        with pytest.raises(KeyError):
            fail()
        assert switches() == found


def test_threads_share_the_switches(found: tuple[object, ...]) -> None:
    """Two of three threads leave early: the third is still exact, then all is as it was."""
    entered, left, seen = threading.Barrier(3), threading.Barrier(3), []

    def call(number: int) -> None:
        with exact_sums() if number else nullcontext():
            entered.wait()
            if number == 2:
                left.wait()
                seen.append(switches())
        if number < 2:
            left.wait()

    threads = [threading.Thread(target=call, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [OFF]
    assert switches() == found


def test_sums_are_exact_inside() -> None:
    """Elsewhere some processors round factors to bfloat16, once they are allowed to."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 1000, (64, 512), generator=generator).float()
    weight = torch.randint(-127, 128, (256, 512), generator=generator).float()
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with exact_sums():
            found = F.linear(x, weight)
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(found.double(), F.linear(x.double(), weight.double()))


def test_whole_numbers_in_two_threads(
    net: SpikingNetwork, found: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first call ends while the second one computes: that one stays exact to its end."""
    whole, advance, seen = net.quantize(), updates.advance, []
    inside, proceed = ({name: threading.Event() for name in "ab"} for _ in range(2))

    def paused(*args: Any, **options: Any) -> Any:
        name = threading.current_thread().name
        inside[name].set()
        proceed[name].wait(60)
        seen.append(switches())
        return advance(*args, **options)

    monkeypatch.setattr(updates, "advance", paused)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)  # each call computes in the thread that makes it
        calls = {
            name: threading.Thread(target=whole, args=(images(3), 2), name=name) for name in "ab"
        }
        for name, call in calls.items():
            call.start()
            inside[name].wait(60)
        for name, call in calls.items():
            proceed[name].set()
            call.join()
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {OFF}
    assert len(seen) > 4
    assert switches() == found


@pytest.mark.cuda
def test_convolutions_on_a_gpu_keep_the_bits_of_float32_where_it_counts():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 64, 16, 16, generator=generator)
    weights = torch.randn(64, 64, 3, 3, generator=generator)
    exact = F.conv2d(x.double(), weights.double(), padding=1)

    def error() -> float:
        found = F.conv2d(x.cuda(), weights.cuda(), padding=1).cpu()
        return float((found - exact).norm() / exact.norm())

    with full_convolutions():
        assert error() < 1e-6
    assert error() < 1e-2  # TF32, where the GPU has it
