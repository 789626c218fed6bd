"""The experiment on sparse networks: what it counts, chooses and keeps."""

import pytest
import torch

import snnlib as snn

pytest.importorskip("sphinx", reason="needs the packages that build the book")

from bookext import stored_tables

from book import experiments
from book.experiments import (
    activity,
    frontier,
    sparse_exits,
    sparse_methods,
    sparse_points,
    sparsity,
)
from book.tools import sparse_networks
from snnlib.learning.sparsity import restored
from snnlib.zoo import models
from snnlib.zoo.recipes import RECIPES


@pytest.fixture(scope="module")
def context():
    return experiments.Context(torch.device("cpu"), limit=20)


def test_every_cell_has_a_name_of_its_own():
    for network in models.NAMES:
        names = [cell.name for cell in sparsity.cells(network)]
        assert len(set(names)) == len(names)
        assert all(name.startswith(f"{network}/") for name in names)
    assert len(sparsity.cells("cifar10-vgg")) < len(sparsity.cells("mnist-cnn"))
    seeds = [c.name for c in sparsity.cells("mnist-cnn") if c.name.startswith("mnist-cnn/chosen/")]
    assert seeds == [f"mnist-cnn/chosen/{last}" for last in ("free", 0, 1, 2)]


def test_points_are_counted_as_elsewhere(context):
    """Events, bits and operations, against the run and the counts of ``frontier``."""
    subject = context.subject("digits-cnn")
    model = sparsity.quiet("digits-cnn", 4, None, context)
    found = sparse_points.point(model, "rounded", "validation", "free", subject)
    net = sparsity.converted(subject, 4)
    run = net(subject.validation.floats(), 1)
    neurons = sum(net.sizes.values())
    assert found["events_per_neuron"] == pytest.approx(float(run.events[0]) / neurons)
    assert found["synops_per_image"] == pytest.approx(float(run.synops().total[0]))
    theirs = frontier.count(net, subject.validation, 1)
    assert found["bits_per_neuron"] == pytest.approx(float(theirs.bits()[0]))
    assert 0 < found["where_bits"] < found["bits_per_neuron"]
    active = sum(layer["active"] * layer["neurons"] for layer in found["layers"])
    assert active / neurons == pytest.approx(found["events_per_neuron"])
    assert all(layer["silent"] <= 1 - layer["active"] for layer in found["layers"])
    assert [layer["name"] for layer in found["layers"]] == ["relu1", "relu2", "relu3"]
    ann = sparse_points.sparse_ann(model, subject.validation, subject)
    assert ann["accuracy"] == found["dense_accuracy"]
    assert ann["active"] > found["events_per_neuron"]  # what rounds to zero is not zero
    assert found["rounded_energy_nj"] < ann["energy_nj_per_image"] < found["ann_energy_nj"]
    (theirs,) = activity.measure("digits-cnn", context)
    assert ann["active"] == pytest.approx(theirs["active"], rel=1e-4)
    assert ann["macs_with_input"] == pytest.approx(theirs["macs_with_input"], rel=1e-4)


def test_the_choice_loses_little_and_costs_least():
    def row(accuracy, events, bits):
        return {"accuracy": accuracy, "dense_accuracy": 0.99, "events_per_neuron": events,
                "bits_per_neuron": bits}  # fmt: skip

    rows = [row(0.99, 0.3, 1.0), row(0.9896, 0.2, 0.9), row(0.991, 0.25, 0.8), row(0.988, 0.1, 0.1)]
    found = sparsity.cheapest(rows)
    assert found == {"events_per_neuron": rows[1], "bits_per_neuron": rows[2]}
    assert sparsity.cheapest([rows[3], row(0.98, 0.01, 0.01)]) == dict.fromkeys(found, rows[3])


def test_goals_are_for_means_of_what_lost_little():
    def row(label, accuracy, events, bits, way="trained"):
        return {"model": "mnist-cnn", "way": way, "label": label, "dense_accuracy": 0.996,
                "accuracy": accuracy, "events_per_neuron": events,
                "bits_per_neuron": bits}  # fmt: skip

    rows = [
        row("a", 0.9955, 0.06, 0.5),
        row("a", 0.9945, 0.02, 0.3),  # with the other seed a tenth of a point is lost
        row("b", 0.9960, 0.07, 0.2),
        row("c", 0.9900, 0.01, 0.1),  # loses more
        row("d", 0.9960, 0.01, 0.1, "free"),
    ]
    found = sparse_points.goals(rows)
    assert [one["found"] for one in found] == pytest.approx([0.04, 0.2])
    assert all(one["reached"] for one in found)
    assert [one["found"] for one in sparse_points.goals(rows[3:])] == [None, None]
    assert sparse_points.goals([]) == []


def test_every_stage_follows_the_one_it_starts_from():
    """So the start of a training is there when its turn comes; pressure never falls on a path."""
    for network in models.NAMES:
        seen = []
        for method in sparse_methods.methods(network).values():
            if method.start is not None:
                assert method.start in seen, method.name
                assert method.strength >= method.start.strength
                assert method.target is None or method.target < (method.start.target or 1)
            seen.append(method)
    assert sum(m.stage > 1 for m in seen) == len(seen) - 2  # control and unrounded control
    assert seen[1].name == "control, 4 levels, stage 2"


def test_epochs_of_a_path_add_up():
    first = sparse_methods.Method()
    long, short = sparse_methods.path(first, {"epochs": 10}, {"epochs": 3})
    assert [sparse_methods.epochs("fashion-cnn", m) for m in (first, long, short)] == [5, 10, 3]
    assert sparse_methods.epochs_in_all("fashion-cnn", short) == 18


def test_the_deep_networks_have_a_path_of_twenty_epochs_and_more():
    """Six at a time were not enough for the ResNet."""
    for network in ("cifar10-vgg", "cifar10-resnet"):
        ways = sparse_methods.methods(network)
        assert sparse_methods.epochs_in_all(network, ways["count, 0.7, 8 levels"]) >= 20


def test_a_stage_goes_on_from_weights_and_multipliers(context, tmp_path):
    """With no steps left to make it is where the stage before was, at its own thresholds."""
    one = experiments.Context(torch.device("cpu"), 20, scratch=tmp_path)
    first = sparsity.Method("count", target=0.4)
    before, _ = sparsity.trained("digits-cnn", first, 0, one)
    assert float(before.multipliers.sum()) > 0
    seen = []

    def look(model, *_, **__):
        seen.append({k: v.clone() for k, v in model.state_dict().items()})
        return []

    with pytest.MonkeyPatch.context() as patch:
        real = sparsity.fit
        patch.setattr(sparsity, "fit", lambda *a, **k: (look(*a), real(*a, **k))[1])
        second = sparse_methods.path(first, {"target": 0.2, "levels": 2})[0]
        sparsity.trained("digits-cnn", second, 0, one)
    now, held = seen[-1], before.state_dict()
    assert torch.equal(now["body.conv1.weight"], held["body.conv1.weight"])
    assert torch.equal(now["multipliers"], held["multipliers"])
    torch.testing.assert_close(now["body.relu1.theta"], 2 * held["body.relu1.theta"])


def test_a_teacher_is_asked_once_a_step(context):
    teacher = sparsity.answers(context.subject("digits-cnn"), 5)
    x = context.subject("digits-cnn").calibration[:4]
    first = teacher(teacher.prepare(x, 0))
    assert teacher(teacher.prepare(x, 0)) is first
    assert not torch.equal(teacher(teacher.prepare(x, 1)), first)
    assert sparsity.answers(context.subject("digits-cnn"), 5) is teacher


def test_early_answers_cost_what_their_steps_sent(context):
    """Sure of anything: one step's events. Never sure: all steps', as the run counts them."""
    subject = context.subject("digits-cnn")
    model = sparsity.quiet("digits-cnn", 4, None, context)
    rows = sparse_exits.exits(model, "rounded", subject)
    net = model.spiking(subject.calibration[:8])
    run = net(subject.test.floats(), sparse_exits.STEPS)
    neurons = sum(net.sizes.values())
    assert rows[0]["one_step"] == pytest.approx(float(run.events[0]) / neurons)
    costs = [row["events_per_neuron"] for row in rows]
    assert costs == sorted(costs)
    assert rows[0]["one_step"] <= costs[0]
    assert costs[-1] <= float(run.events[-1]) / neurons * (1 + 1e-9)
    assert sum(row["chosen"] for row in rows) == 1


def test_what_is_shipped_fits(tmp_path, monkeypatch):
    def row(network, method, events, seed=0):
        return {"way": "trained", "model": network, "method": method, "seed": seed,
                "events_per_neuron": events}  # fmt: skip

    runs = [row("a", "one, 4 levels", 0.2), row("a", "two, 4 levels", 0.1),
            row("a", "two, 4 levels", 0.01, 1), row("b", "one, 4 levels", 0.1)]  # fmt: skip
    record = {"networks": ["a", "b"], "runs": [*runs, {"way": "free"}]}
    assert sparse_networks.choose(record)["a"] == "a-two-4-levels-0.safetensors"
    with pytest.raises(FileNotFoundError, match="snnlib experiment"):
        sparse_networks.ship(record, tmp_path, tmp_path / "out")
    for name in sparse_networks.choose(record).values():
        (tmp_path / name).write_bytes(b"12345")
    monkeypatch.setattr(sparse_networks, "MOST", 9)
    (path,) = sparse_networks.ship(record, tmp_path, tmp_path / "out")
    assert path == tmp_path / "out/a.safetensors"


@pytest.mark.parametrize("network", ["mnist-cnn", "cifar10-vgg"])
def test_images_of_a_step_depend_on_seed_and_step_alone(network):
    x = torch.rand(6, *((3, 32, 32) if "cifar" in network else (1, 28, 28)))
    before = x.clone()
    prepare = sparsity.augmentation(RECIPES[network], seed=1)
    first, noise = prepare(x, 5), torch.rand(3)
    other = prepare(x, 6)
    again = prepare(x, 5)
    assert torch.equal(first, again)
    assert torch.equal(noise, torch.rand(3))  # dropout, too
    assert not torch.equal(first, other)
    assert torch.equal(x, before)  # images are not written into


def test_what_is_chosen_is_kept_and_sends_the_same(context, tmp_path, monkeypatch):
    """Chosen cells take up the state, judge weights as written; a reader gets the same events."""
    monkeypatch.setattr(sparsity, "KEPT", tmp_path)
    monkeypatch.setattr(sparsity, "methods", lambda network: {m.name: m for m in (ONE,)})
    one = experiments.Context(torch.device("cpu"), 20, scratch=tmp_path / "scratch")
    (row,) = sparsity.training("digits-cnn", ONE.name, 0, one)
    one.rows[f"digits-cnn/{ONE.name}/0"] = [row]
    model, history = sparsity.trained("digits-cnn", ONE, 0, one)  # from the state
    assert row["seconds_per_epoch"] == history[0]["seconds"]
    (found,) = sparsity.judge("digits-cnn", 0, one)
    assert (found["images"], found["seconds_per_epoch"]) == ("test", row["seconds_per_epoch"])
    early = sparsity.answered("digits-cnn", one)
    sent, exits = stored_tables.tables({"runs": [found], "exits": early})
    assert [row[1] for row in sent.rows] == ["trained"]
    assert len(exits.rows) == len(early)
    assert not list(tmp_path.glob("*.safetensors"))  # a quick look keeps nothing
    state = snn.checkpoints.narrow(model.dense().state_dict())
    model.body.load_state_dict(state, strict=False)
    sparsity.keep(model, "digits-cnn", state, found)
    (path,) = tmp_path.glob("*.safetensors")
    x = one.subject("digits-cnn").test.floats()
    net = restored(path, x[:8])
    run = net(x, 1)
    assert float(run.events[0]) / sum(net.sizes.values()) == pytest.approx(
        found["events_per_neuron"], rel=1e-3
    )
    with pytest.raises(snn.checkpoints.CheckpointError, match="no thresholds"):
        restored(snn.checkpoints.find("digits-cnn"), x[:8])


ONE = sparsity.Method("count", strength=2.0)


def test_targets_of_layers_are_shares_of_what_they_sent(context):
    method = sparsity.Method("count", target=0.5, each=True)
    model, history = sparsity.trained("digits-cnn", method, 0, context)
    assert len(history) == 1
    assert int(model.steps) == 2
    assert (method.name, ONE.name) == ("each layer to 0.5, 4 levels", "count, 2, 4 levels")
    assert bool((model.multipliers >= 0).all())
