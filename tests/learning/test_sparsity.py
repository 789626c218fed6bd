"""Sparse networks: what training sees is what the converted network sends, event by event."""

import copy

import pytest
import torch
from torch import nn

from snnlib.conversion.convert import convert
from snnlib.learning.dead_zones import dead_zones
from snnlib.learning.loop import Plan, fit
from snnlib.learning.rounding import rounded
from snnlib.learning.sparsity import Objective, Sparse
from snnlib.neurons import IF, Augmented
from snnlib.zoo import data, models
from snnlib.zoo.models import Residual

ROUNDING = Augmented(levels=4, negative=0.0)


@pytest.fixture(scope="module")
def digits():
    """Network, converted network, images to fit and to judge; in float64."""
    train, test = data.load("digits")
    ann = models.load("digits-cnn").double()
    x = train[:200].floats().double()
    return ann, convert(ann, x, ROUNDING), x, test[:60]


def messages(model, x):
    """What every layer of a sparse network sends, in thresholds."""
    found = {}
    hooks = [
        layer.register_forward_hook(
            lambda m, given, out, n=name: found.__setitem__(n, out / m.theta)
        )
        for name, layer in zip(model.names, model.layers, strict=True)
    ]
    with torch.no_grad():
        logits = model(x)
    for hook in hooks:
        hook.remove()
    return logits, list(found.values())


def same_events(model, x):
    """Every coefficient of the converted network is the rounded one; returns its run."""
    net = model.spiking(x[:8])
    run = net(x, 1, record=tuple(net.graph.spiking))
    logits, sent = messages(model, x)
    for name, ours in zip(net.graph.spiking, sent, strict=True):
        assert torch.equal(run.trace[name].coefficient[0], ours.round())
    torch.testing.assert_close(run.logits[0], logits, rtol=1e-10, atol=1e-10)
    return run


def shaken(model):
    """Other weights and statistics than those that were converted."""
    torch.manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1 + 0.1 * torch.randn_like(p))
    return model.eval()


def test_rounding_is_what_the_converted_network_sends(digits):
    ann, net, _, test = digits
    model, x = Sparse(ann, net).eval(), test.floats().double()
    torch.testing.assert_close(model(x), net(x, 1).logits[0], rtol=1e-10, atol=1e-10)
    run = same_events(shaken(model), x)
    assert not torch.allclose(run.logits, net(x, 1).logits)
    for name, theta in model.spiking(x[:8]).thresholds.items():
        assert torch.equal(theta, net.thresholds[name])  # weights moved, thresholds did not


@pytest.mark.parametrize("per_channel", [False, True])
def test_layers_of_residual_networks_keep_their_order(per_channel):
    torch.manual_seed(0)
    ann = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), Residual(4), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Dropout(0.5), nn.Linear(12, 3),
    ).double().eval()  # fmt: skip
    x = torch.rand(40, 2, 8, 8).double()
    net = convert(ann, x, ROUNDING, per_channel=per_channel)
    model = Sparse(ann, net, of="synops").eval()
    assert model.names == ["2", "3.relu1", "3.relu2", "7"]
    same_events(shaken(model), x)


def test_shares_count_synops_and_events(digits):
    ann, net, _, test = digits
    x = test.floats().double()
    run = net(x, 1)
    measured = {"events": float(run.events[0]), "synops": float(run.synops().total[0])}
    fan_outs = {name: net.fan_outs[name].sum() for name in net.graph.spiking}
    most = {"events": sum(net.sizes.values()), "synops": float(sum(fan_outs.values()))}
    for of in ("events", "synops"):
        model = Sparse(ann, net, of=of).eval()
        with torch.no_grad():
            _, _, active = model.watched(x)
        assert float(model.shares.sum()) == pytest.approx(1)
        assert float((active * model.shares).sum()) * most[of] == pytest.approx(measured[of])


def test_the_dense_network_has_the_weights_and_its_architecture(digits):
    ann, net, _, test = digits
    model, x = Sparse(ann, net).eval(), test.floats().double()
    assert torch.equal(model.dense()(x), ann(x))
    assert model.dense().state_dict().keys() == ann.state_dict().keys()
    free = Sparse(ann, net, rounding=False).eval()
    torch.testing.assert_close(free(x), ann(x), rtol=1e-10, atol=1e-10)


# training


def trained(digits, objective, epochs=4, penalty="count", **options):
    """A network trained on some digits, in seconds; and the share of neurons that then send."""
    train, test = data.load("digits")
    ann, net = copy.deepcopy(digits[0]).float(), digits[1].to(torch.float32)
    torch.manual_seed(0)
    model = Sparse(ann, net, penalty)
    sgd = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, nesterov=True)
    fit(
        model, sgd, train[:600], test[:60], Plan(epochs=epochs, batch=30), loss=objective, **options
    )
    with torch.no_grad():
        active = model.watched(test.floats())[2]
    return model, active


@pytest.mark.parametrize("of", ["all", "each"])
def test_targets_are_reached_in_seconds(digits, of):
    """On images that it has not seen, within a fifth; before, the constraint is violated by far."""
    goal = 0.15 if of == "all" else [0.12, 0.16, 0.2]
    before = trained(digits, Objective(), epochs=1)[1]
    model, after = trained(digits, Objective(target=goal, climb=2.0, ramp=40))
    if of == "all":
        before, after = (((model.shares * d).sum())[None] for d in (before, after))
    goal = torch.tensor(goal).flatten()
    assert bool((before > 1.3 * goal).all())
    torch.testing.assert_close(after, goal, rtol=0.2, atol=0)
    assert bool((model.multipliers > 0).any())


def test_penalties_push_and_strength_orders_them(digits):
    shares = [
        float(trained(digits, Objective(strength=s, ramp=10), 2, p)[1].mean())
        for p, s in ((None, 4.0), ("count", 4.0), ("count", 16.0))
    ]
    assert shares[2] < 0.8 * shares[1] < 0.8 * 0.9 * shares[0]


def test_multipliers_know_what_is_allowed(digits):
    """None while all may be active; with nothing allowed each step adds what is active."""
    ann, net, x, _ = digits
    labels = torch.zeros(20, dtype=torch.int64)
    for target, wanted in ((1.0, 0.0), ([1.0] * 3, 0.0), (0.0, None), ([0.0] * 3, None)):
        model, objective = Sparse(ann, net).train(), Objective(target=target, climb=0.1)
        with torch.no_grad():
            active = copy.deepcopy(model).watched(x[:20])[2]
            objective(model, x[:20], labels)
            objective(model.eval(), x[:20], labels)  # judging is no step
        assert int(model.steps) == 1
        if wanted is None:
            all_of = model.shares * (model.shares * active).sum()
            wanted = 0.1 * (all_of if isinstance(target, float) else active)
        torch.testing.assert_close(model.multipliers, torch.zeros(3).double() + wanted)


def test_pressure_rises_from_where_it_was(digits):
    """The loss without the task, over steps: from ``since`` to ``strength``, then level."""
    ann, net, x, _ = digits
    labels, shares = torch.zeros(20, dtype=torch.int64), []
    model = Sparse(ann, net).train()
    objective = Objective(strength=3.0, since=1.0, ramp=4)
    for _ in range(6):
        with torch.no_grad():
            frozen = copy.deepcopy(model)
            logits, values, _ = frozen.watched(x[:20])
            loss = objective(model, x[:20], labels) - objective.task(logits, x[:20], labels)
            shares.append(float(loss / (model.shares * values).sum()))
    assert shares == pytest.approx([1.5, 2.0, 2.5, 3.0, 3.0, 3.0])


def test_a_training_goes_on_where_it_was(digits, tmp_path):
    """Multipliers, steps and ramp are in the state: interrupted and whole give one network."""

    def stop(x, step):
        if step == 35:
            raise KeyboardInterrupt
        return x

    goal = {"target": 0.1, "climb": 2.0, "ramp": 30}
    whole, _ = trained(digits, Objective(**goal), 2)
    state = {"state": tmp_path / "a.state"}
    with pytest.raises(KeyboardInterrupt):
        trained(digits, Objective(**goal, prepare=stop), 2, **state)
    again, _ = trained(digits, Objective(**goal), 2, **state)
    assert int(again.steps) == int(whole.steps) == 40
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value)
    assert float(again.multipliers.max()) > 0


def test_a_student_that_answers_as_the_teacher_has_no_loss(digits):
    ann, net, x, _ = digits
    labels = torch.zeros(20, dtype=torch.int64)
    free = Sparse(ann, net, rounding=False).eval()
    only = Objective(teacher=ann, distillation=1.0)
    assert float(only(free, x[:20], labels).detach()) == pytest.approx(0, abs=1e-9)
    assert float(only(Sparse(ann, net).eval(), x[:20], labels).detach()) > 1e-4
    plain = nn.functional.cross_entropy(ann(x[:20]), labels)
    none = Objective(teacher=ann, distillation=0.0)
    torch.testing.assert_close(none(free, x[:20], labels), plain, rtol=1e-9, atol=1e-9)


def test_wrong_use_is_named(digits):
    ann, net, x, _ = digits
    with pytest.raises(ValueError, match="does not round"):
        Sparse(ann, net.replace(neuron=IF()))
    with pytest.raises(ValueError, match=r"relu1 is no nn\.ReLU"):
        Sparse(nn.Sequential(nn.Flatten()), net)
    with pytest.raises(ValueError, match="lost"):
        dead_zones(Sparse(ann, net), x, 1.0)


# without training


def test_zones_save_events_and_lose_no_more_than_asked(digits):
    ann, net, x, test = digits
    model, events = Sparse(ann, net).eval(), []
    for lost in (0.0, 0.05, 0.25):
        quiet = dead_zones(model, x, lost)
        run = same_events(quiet, test.floats().double())
        events.append(float(run.events[0]))
        first, (kept, *_) = messages(model, x)[1][0], messages(quiet, x)[1]
        power, left = (a.transpose(0, 1).flatten(1).square().sum(1) for a in (first, kept))
        assert bool((left >= (1 - lost) * power - 1e-6).all())  # nothing comes before the first
    assert events[0] > 1.02 * events[1] > 1.02 * 1.05 * events[2]


def test_biases_give_back_what_is_missing_in_the_mean(digits):
    ann, net, x, _ = digits
    model = Sparse(ann, net).eval()
    quiet = dead_zones(model, x, 0.05)
    with torch.no_grad():
        wanted, ours, before = (m(x).mean(0) for m in (ann, quiet, model))
    torch.testing.assert_close(ours, wanted, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(before, wanted, rtol=1e-3)
    assert all(not bool(layer.shift.any()) for layer in model.layers)  # it stayed as it was
    assert not bool(quiet.layers[0].shift.any())  # before the first nothing was rounded
    biased = dead_zones(model, x, 0.0)
    assert all(bool((layer.zone == 0.5).all()) for layer in biased.layers)


@pytest.mark.parametrize("wrong", [{"penalty": "L1"}, {"penalty": "hoyr"}, {"of": "SynOps"}])
def test_words_that_are_not_there_are_refused(wrong):
    """Else another penalty would be computed, or other counts, without a word."""
    ann = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    net = convert(ann, torch.rand(50, 4), Augmented(levels=4, negative=0.0))
    with pytest.raises(ValueError, match="must be"):
        Sparse(ann, net, **wrong)
    if "penalty" in wrong:
        one = torch.ones(1)
        with pytest.raises(ValueError, match="must be one of count, hoyer, l1"):
            rounded(one[None], one, one, **wrong)
