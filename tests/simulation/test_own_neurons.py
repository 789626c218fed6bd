"""Neurons of one's own: they are simulated as they are, by every way of running a network."""

import dataclasses
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import reference
import torch
from torch import Tensor

import snnlib as snn
from snnlib.neurons import Neuron, State
from snnlib.simulation.reference import Stepper

X = torch.rand(7, 1, 8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
LAYERS = ("relu1", "relu2", "relu3", "relu4")


class Silent(Neuron):
    """Never sends anything."""

    def decide(self, potential: Tensor, count: Tensor, theta: Tensor) -> Tensor:
        return torch.zeros_like(potential)


@dataclass(frozen=True)
class Reluctant(snn.IF):
    """Fires at several θ, and loses one θ by it."""

    patience: float = 3.0

    def decide(self, potential: Tensor, count: Tensor, theta: Tensor) -> Tensor:
        return (potential >= self.patience * theta).to(potential.dtype)


class Leaky(snn.Augmented):
    """Forgets a tenth of its potential at every step: another `step`."""

    def step(
        self, state: State, current: Tensor, theta: Tensor, ceiling: Tensor | None = None
    ) -> tuple[Tensor, State]:
        return super().step(State(0.9 * state.potential, state.count), current, theta, ceiling)


class Tired(NamedTuple):
    """A state with a memory of its own."""

    potential: Tensor
    count: Tensor
    rest: Tensor


class Refractory(snn.IF):
    """Silent for two steps after a spike."""

    def initial(self, current: Tensor, theta: Tensor) -> Any:
        return Tired(*super().initial(current, theta), torch.zeros_like(current))

    def step(
        self, state: Any, current: Tensor, theta: Tensor, ceiling: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        potential = state.potential + current
        fires = ((potential >= theta) & (state.rest <= 0)).to(potential)
        rest = torch.where(fires > 0, 2.0, (state.rest - 1).clamp_min(0))
        return fires, Tired(potential - fires * theta, state.count + fires, rest)


class Renamed(snn.Augmented):
    """Changes nothing but its name, so everything known of its parent holds."""


OWN = [Silent(), Reluctant(), Leaky(levels=3), Refractory(), Renamed(levels=2)]


@pytest.fixture(scope="module")
def base() -> snn.SpikingNetwork:
    return snn.convert(reference.make(True), X, snn.IF())


@pytest.mark.parametrize("neuron", OWN, ids=lambda n: type(n).__name__)
def test_every_way_of_running_gives_the_neurons_own_steps(base: Any, neuron: Neuron) -> None:
    """Recorded or not, at once or one step after another, all images or those still waiting."""
    net, steps = base.replace(neuron=neuron), 7
    run, watched = net(X, steps), net(X, steps, record=LAYERS)
    assert torch.equal(run.events, watched.events)
    stepper = Stepper(net, X)
    for t in range(steps):
        stepper.step()
        torch.testing.assert_close(run.logits[t], stepper.total / (t + 1), rtol=1e-11, atol=1e-12)
    for name in LAYERS:
        counts = watched.trace[name].coefficient.sum(0)
        assert torch.equal(counts, stepper.states[name].count)
    last = net(X, steps, only_last=True).logits[0]
    torch.testing.assert_close(last, run.logits[-1], rtol=1e-11, atol=1e-12)
    early, expected = net.decide(X, 0.6, steps), run.first_confident(0.6)
    assert torch.equal(early.step, expected.step)
    assert torch.equal(early.prediction, expected.prediction)


def test_a_neuron_that_decides_zero_sends_nothing(base: Any) -> None:
    run = base.replace(neuron=Silent())(X, 5)
    assert run.events.tolist() == [0.0] * 5
    assert run.synops().total.tolist() == [0.0] * 5


@pytest.mark.parametrize("neuron", OWN[:-1], ids=lambda n: type(n).__name__)
def test_what_changes_the_rule_inherits_no_claim_about_it(neuron: Neuron) -> None:
    assert neuron.fused is None
    assert neuron.largest == float("inf")
    assert not neuron.memoryless
    assert neuron.kind == type(neuron).__name__.lower()


def test_a_claim_of_ones_own_counts() -> None:
    class Known(Reluctant):
        def decide(self, potential: Tensor, count: Tensor, theta: Tensor) -> Tensor:
            return super().decide(potential, count, theta)

        @property
        def largest(self) -> float:
            return 1.0

    assert Known().largest == 1.0
    assert Known().fused is None
    assert Renamed(levels=2, cap=3).fused == snn.Augmented(levels=2, cap=3).fused


def test_closed_form_is_refused_where_there_is_none(base: Any) -> None:
    for neuron in (snn.IF(), snn.Augmented(negative=0.5), snn.Augmented(negative=0.0, cap=2)):
        with pytest.raises(snn.ConversionError, match="has no closed form"):
            base.replace(neuron=neuron).closed_form(X, 4)
    forgetful = Leaky(levels=4, negative=0.0)
    with pytest.raises(snn.ConversionError, match="has no closed form"):
        base.replace(neuron=forgetful).closed_form(X, 4)
    assert not forgetful.memoryless


@pytest.mark.parametrize("neuron", [Silent(), Reluctant()], ids=lambda n: type(n).__name__)
def test_what_knows_the_books_neurons_alone_refuses_others(
    base: Any, neuron: Neuron, tmp_path: Any
) -> None:
    net = base.replace(neuron=neuron)
    with pytest.raises(snn.ConversionError, match="neuron of your own"):
        net.quantize()
    with pytest.raises(snn.CheckpointError, match="neuron of your own"):
        net.save(tmp_path / "net.safetensors")
    assert list(tmp_path.iterdir()) == []
    found = net.verify(X, steps=4)
    assert len(found.layers) == len(LAYERS)
    assert type(neuron).__name__.lower() in net.summary()


def test_a_neuron_a_layer(base: Any, tmp_path: Any) -> None:
    """Each layer runs its own; counts are those of the reference; files and summaries keep them."""
    neurons = dict(zip(LAYERS, (snn.IF(), snn.Ternary(), snn.Augmented(4), Silent()), strict=True))
    net = base.replace(neuron=neurons)
    run, stepper = net(X, 5, record=LAYERS), Stepper(net, X)
    for _ in range(5):
        stepper.step()
    for name in LAYERS:
        assert torch.equal(run.trace[name].coefficient.sum(0), stepper.states[name].count)
    assert run.layers[-1].events == 0
    assert net.neuron == neurons
    neurons["relu4"] = snn.Augmented(2, negative=0.0)
    mixed = base.replace(neuron=neurons)
    again = snn.load(mixed.save(tmp_path / "net.safetensors"))
    assert again.neuron == neurons
    assert torch.equal(again(X, 5).events, mixed(X, 5).events)
    assert torch.equal(again.quantize()(X, 5).events, mixed.quantize()(X, 5).events)
    unit = mixed.normalized()
    assert all(float(theta) == 1 for theta in unit.thresholds.values())
    assert torch.equal(unit(X, 5).events, mixed(X, 5).events)


@pytest.mark.parametrize(
    ("neuron", "words"),
    [
        (snn.IF, "pass an object"),
        ("if", "pass an object"),
        ({"relu1": snn.IF()}, "none is given for relu2, relu3, relu4"),
        ({**dict.fromkeys(LAYERS, snn.IF()), "relu9": snn.IF()}, "no spiking layer 'relu9'"),
        (dict.fromkeys(LAYERS, "if"), "pass an object"),
    ],
)
def test_neurons_that_do_not_fit_are_named(base: Any, neuron: Any, words: str) -> None:
    with pytest.raises(snn.ConversionError, match=words):
        base.replace(neuron=neuron)


def test_dataclass_subclasses_keep_their_parameters(base: Any) -> None:
    patient = dataclasses.replace(Reluctant(), patience=1.0, v0=0.25)
    assert torch.equal(
        base.replace(neuron=patient)(X, 6).events, base.replace(neuron=snn.IF(0.25))(X, 6).events
    )
