"""Learning methods in the hands of strangers: what once was wrong, or ended in a bare error."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import snnlib as snn
from snnlib.events.graph import Growing, Rule
from snnlib.learning import rate_norm
from snnlib.learning.dead_zones import dead_zones
from snnlib.learning.dsr import DSR
from snnlib.learning.exact_timing import ExactTiming, latencies, spike_times
from snnlib.learning.norms import ScaleNorm, bound_weight, with_norm
from snnlib.learning.rate_norm import RateNorm, from_relu
from snnlib.learning.single_spike import SingleSpike
from snnlib.learning.sparsity import Sparse
from snnlib.learning.st_rsbp import STRSBP, even_trains
from snnlib.learning.surrogate import deep_dense, scale_to_fire, unrolled
from snnlib.learning.tandem import Tandem, tandem
from snnlib.learning.touch import SpikingReader, as_clips
from snnlib.zoo.models import Network


def chain(*layers: nn.Module, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = nn.Sequential(*(copy.deepcopy(layer) for layer in layers)).to(dtype).eval()
        for weights in made.parameters():
            nn.init.normal_(weights, 0.0, 0.5)
    return made


SMALL = (nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
X = torch.rand(50, 4, generator=torch.Generator().manual_seed(0)).double()


class TestExactTiming:
    @pytest.mark.parametrize("inputs", [3, 784])
    def test_another_number_of_inputs(self, inputs: int) -> None:
        with pytest.raises(ValueError, match=r"pass \(B, n_in, K\)"):
            ExactTiming((64, 20, 10))(latencies(torch.rand(2, inputs)))

    @pytest.mark.parametrize(
        "times",
        [torch.rand(4, 3), torch.rand(0, 3, 1),
         torch.rand(2, 3, 1).bfloat16(), torch.rand(2, 3, 1).to("meta")],
    )  # fmt: skip
    def test_times_that_do_not_fit(self, times: Tensor) -> None:
        with pytest.raises(ValueError, match="spike_times: times and weight are"):
            spike_times(times, torch.rand(2, 3), 0.1)

    @pytest.mark.parametrize("sizes", [(4,), (4, 0, 2), ()])
    def test_sizes_that_are_no_network(self, sizes: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="ExactTiming: sizes"):
            ExactTiming(sizes)

    def test_it_can_be_copied_after_training(self) -> None:
        net = ExactTiming((4, 5, 3))
        net.loss(latencies(torch.rand(6, 4)), torch.zeros(6, dtype=torch.int64)).backward()
        for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
            assert torch.equal(twin.weights[0], net.weights[0])


class TestRateNorm:
    def test_a_silent_batch_has_no_gradient(self) -> None:
        net = nn.Sequential(nn.Linear(4, 8), RateNorm(), nn.Linear(8, 3))
        nn.init.constant_(net[0].bias, -9.0)
        net(torch.rand(16, 4)).square().sum().backward()
        assert bool((net[0].weight.grad == 0).all())
        assert float(net[1].alpha.grad) == 0
        assert RateNorm().eval()(torch.tensor([[0.0, 0.5, -1.0]])).tolist() == [[0.0, 0.5, 0.0]]

    def test_its_state_is_all_there_is(self) -> None:
        ann = chain(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
        one, other = from_relu(ann, X), from_relu(ann, X[:5] * 0.5)
        other.load_state_dict(one.state_dict())
        torch.testing.assert_close(other(X), one(X), rtol=0, atol=0)

    def test_a_network_of_float64_stays_one(self) -> None:
        ann = chain(*SMALL)
        for last in range(10, 50):  # whatever the largest activation is
            net = from_relu(ann, X[:last], share=0.5)
            torch.testing.assert_close(net(X[:last]), ann(X[:last]), rtol=1e-12, atol=1e-12)
        assert {p.dtype for p in net.state_dict().values()} == {torch.float64}
        assert rate_norm.spiking(net, X).dtype == torch.float64

    def test_what_was_frozen_stays_frozen(self) -> None:
        net = from_relu(chain(*SMALL), X)
        net[0].weight.requires_grad_(False)
        rate_norm.tune(net, X, steps=2, batch=5)
        assert [p.requires_grad for p in net[0].parameters()] == [False, True]

    @pytest.mark.parametrize("quantile", [0.0, -1.0, 2.0])
    def test_quantiles_out_of_range(self, quantile: float) -> None:
        with pytest.raises(ValueError, match="quantile"):
            from_relu(chain(*SMALL), X, quantile=quantile)

    def test_no_images(self) -> None:
        with pytest.raises(ValueError, match="no images"):
            from_relu(chain(*SMALL), X[:0])


class TestNorms:
    @pytest.mark.parametrize("kind", ["l2", "l1", "top-k"])
    def test_a_constant_channel_has_a_slope(self, kind: str) -> None:
        x = torch.stack([torch.randn(8), torch.zeros(8)], 1).requires_grad_()
        ScaleNorm(2, kind)(x).square().sum().backward()
        assert x.grad is not None
        assert bool(x.grad.isfinite().all())

    def test_l2_is_batch_norm(self) -> None:
        x = torch.randn(20, 3, 5, 5, dtype=torch.float64)
        ours, theirs = ScaleNorm(3, "l2").double(), nn.BatchNorm2d(3).double()
        torch.testing.assert_close(ours(x), theirs(x))

    def test_a_channel_of_zeros_stays_one(self) -> None:
        layer = nn.Linear(4, 3)
        with torch.no_grad():
            layer.weight[1] = 0
        wanted = layer.weight.detach().clone()
        weight = bound_weight(layer).weight
        assert isinstance(weight, Tensor)
        torch.testing.assert_close(weight.detach(), wanted)
        small = nn.Linear(64, 32).half()
        with torch.no_grad():
            small.weight.mul_(0.0056 / small.weight.float().norm())
        before = small.weight.float().norm()
        torch.testing.assert_close(
            bound_weight(small).weight.float().norm(), before, rtol=0.02, atol=0
        )
        with pytest.raises(ValueError, match="ReLU has no weight"):
            bound_weight(nn.ReLU())

    def test_every_place_of_a_batch_norm_is_replaced(self) -> None:
        norm = nn.BatchNorm1d(4)
        model = with_norm(nn.Sequential(nn.Linear(4, 4), norm, nn.Linear(4, 4), norm), ScaleNorm)
        assert isinstance(model, nn.Sequential)
        assert isinstance(model[1], ScaleNorm)
        assert model[1] is model[3]
        assert isinstance(with_norm(nn.BatchNorm1d(4), ScaleNorm), ScaleNorm)


class TestTandem:
    def network(self, pool: nn.Module) -> Network:
        layers = (nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), pool, nn.Conv2d(4, 6, 3), nn.ReLU(),
                  nn.Flatten(), nn.Linear(24, 5))  # fmt: skip
        names = ("c", "r", "p", "c2", "r2", "f", "l")
        return Network(**dict(zip(names, chain(*layers), strict=True))).eval()

    @pytest.mark.parametrize(
        "pool",
        [nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveMaxPool2d(4), nn.Sequential(nn.MaxPool2d(2))],
    )
    def test_it_is_the_network_that_the_simulator_runs(self, pool: nn.Module) -> None:
        ann = self.network(pool)
        x = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(1)).double()
        net = snn.convert(ann, x, snn.IF(v0=0.5))
        made = tandem(copy.deepcopy(ann), dict(net.balanced), 6)
        logits, steps = made.over_time(x)
        torch.testing.assert_close(logits, net(x, 6).logits[-1])
        torch.testing.assert_close(steps.mean(0), logits)

    def test_its_state_says_how_many_layers_spike(self) -> None:
        ann = self.network(nn.AvgPool2d(2))
        x = torch.rand(6, 1, 8, 8).double()
        one = Tandem(ann, {"r": 0.5, "r2": 0.7}, 4)  # type: ignore[dict-item]
        one.insert()
        ann.c2.weight.requires_grad_(False)
        one.insert()
        assert not ann.c2.weight.requires_grad
        other = Tandem(copy.deepcopy(ann), {"r": torch.ones(()), "r2": torch.ones(())}, 4)
        other.load_state_dict({name: value.clone() for name, value in one.state_dict().items()})
        assert other.spiking == 2
        torch.testing.assert_close(other(x), one(x))

    def test_thresholds_are_above_zero(self) -> None:
        wrong: Any = {"r": 1.0, "r2": 0.0}
        with pytest.raises(ValueError, match="threshold of r2 is not above 0"):
            Tandem(self.network(nn.AvgPool2d(2)), wrong, 4)


class TestSixteenBits:
    def test_small_currents_are_summed(self) -> None:
        net, trains = STRSBP((1, 1), leak=1.0), torch.ones(3000, 1, 1)
        net.weights[0].data.fill_(0.001)
        wanted = net(trains)
        with torch.autocast("cpu", torch.bfloat16):
            found = net(trains)
        torch.testing.assert_close(found.float(), wanted, rtol=0.01, atol=0.01)
        net.weights[0].data.fill_(5.0)
        with torch.autocast("cpu", torch.bfloat16):
            assert float(net(torch.ones(301, 1, 1))) == 301
        found.sum().backward()
        narrow = STRSBP((3, 4, 2)).bfloat16()
        narrow(torch.ones(5, 2, 3)).sum().backward()
        assert all(p.grad is not None for p in narrow.parameters())

    def test_even_trains_are_even(self) -> None:
        x = torch.tensor([[0.3]]).bfloat16()
        assert int(even_trains(x, 400).sum()) == round(400 * float(x))


class TestSparse:
    def quiet(self) -> tuple[Sparse, Tensor]:
        ann = chain(*SMALL, dtype=torch.float32)
        x = X.float()
        net = snn.convert(ann, x, snn.Augmented(levels=4, negative=0.0))
        return dead_zones(Sparse(ann, net).eval(), x, 0.3), x

    def test_what_is_watched_is_what_is_sent(self) -> None:
        quiet, x = self.quiet()
        events = quiet.spiking(x)(x, steps=1).events
        assert events is not None
        assert float(quiet.watched(x)[2][0]) == pytest.approx(float(events[0]) / 8)

    def test_zones_upon_zones(self) -> None:
        quiet, x = self.quiet()
        again = dead_zones(quiet, x, 0.3)
        torch.testing.assert_close(again(x).mean(0), quiet.dense()(x).mean(0))


def test_readers_can_be_copied_after_training() -> None:
    net = SpikingReader(4, 3, 8)
    clips = as_clips(torch.randint(2, (2, 50, 4)), torch.tensor([50, 20]))
    net(clips).sum().backward()
    torch.testing.assert_close(copy.deepcopy(net)(clips), net(clips))


def test_rates_are_measured_and_nothing_else_happens() -> None:
    net, x = unrolled(deep_dense(4, 16, 9, norm=True), steps=4), torch.randn(6, 9)
    before = copy.deepcopy(net.state_dict())
    assert len(net.rates(x)) == 3
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    with pytest.raises(RuntimeError):
        net.rates(torch.rand(2, 5))
    assert all(layer.look is None for layer in net.spiking)
    plain = unrolled(deep_dense(3, 8, 9), steps=2)
    with pytest.raises(RuntimeError):
        scale_to_fire(plain, torch.rand(2, 5))
    assert not any(module._forward_hooks for module in plain.modules())


def test_numbers_that_make_no_network() -> None:
    ann = deep_dense(3, 8, 9)
    for steps in (0, -1, 2.5):
        with pytest.raises(ValueError, match="steps"):
            unrolled(ann, steps=steps)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="steps"):
            DSR(chain(*SMALL), steps=steps)  # type: ignore[arg-type]
    for theta in (0.0, -1.0):
        with pytest.raises(ValueError, match="theta"):
            unrolled(ann, theta=theta)
    with pytest.raises(ValueError, match="fire_at"):
        DSR(chain(*SMALL), steps=4, fire_at=2.0)
    with pytest.raises(ValueError, match="percentile"):
        SingleSpike.from_relu(chain(*SMALL), X, 4, "temporal", percentile=150.0)


def test_events_in_the_last_columns_given_as_bytes() -> None:
    graphs = [Growing((256, 256), Rule()) for _ in range(2)]
    events = ((254, 0.0), (255, 1.0), (254, 2.0))
    plain = [graphs[0].add(x, 254, t).tolist() for x, t in events]
    as_bytes: list[tuple[Any, Any, Any]] = [
        (np.uint8(x), np.uint8(254), np.float32(t)) for x, t in events
    ]
    assert [graphs[1].add(*event).tolist() for event in as_bytes] == plain == [[], [0], [0, 1]]
    for graph in (graphs[0], Growing((8, 8), Rule())):
        with pytest.raises(ValueError, match="an event at nan ms has no time"):
            graph.add(1, 1, float("nan"))
    with pytest.raises(TypeError):
        graphs[0].add(-0.5, 1, 9.0)  # type: ignore[arg-type]
