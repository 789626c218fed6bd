"""What each experiment measures, by its laws, on a few digits; the frame has its own tests."""

import pytest
import torch
from torch import nn

import snnlib as snn
from book import experiments
from book.experiments import (
    Setting,
    ablations,
    accuracy_over_time,
    activity,
    allocation,
    early_exit,
    frontier,
    late_answer,
    layer_errors,
    negative,
    robustness,
)
from snnlib.simulation import costs
from snnlib.simulation.reference import Stepper
from snnlib.zoo import models


@pytest.fixture(scope="module")
def digits():
    train, test = snn.data.load("digits")
    ann = snn.models.load("digits-cnn").double()
    images = snn.data.to_float(train.images[:200]).double()
    return ann, images, snn.data.to_float(test.images[:30]).double()


@pytest.fixture(scope="module")
def context():
    return experiments.Context(torch.device("cpu"), limit=20)


def test_every_axis_of_the_ablations_passes_through_the_center(context):
    """The point that the axes share is the same setting, so it has the same numbers on each."""
    center = {"v0": "0.5", "negative": "0", "levels": "4"}
    rows = []
    for axis, choice in center.items():
        found = ablations.along("digits-cnn", axis, context)
        assert [row["choice"] for row in found] == [name for name, *_ in ablations.AXES[axis]]
        rows += [row for row in found if row["choice"] == choice]
    assert len(rows) == len(center)
    for row in rows:
        assert row["accuracy"] == rows[0]["accuracy"]
        assert row["events_per_image"] == rows[0]["events_per_image"]
        assert row["setting"] == rows[0]["setting"]


def test_ablations_name_every_cell_once():
    for network in models.NAMES:
        names = [cell.name for cell in ablations.cells(network)]
        assert len(set(names)) == len(names)
    assert len(ablations.cells("digits-cnn")) == len(ablations.cells("mnist-cnn")) + 10


def test_slow_networks_run_in_bfloat16_where_that_pays(context, monkeypatch):
    subject = context.subject("digits-cnn")
    assert not subject.slow
    assert not subject.deep
    (short,) = accuracy_over_time.measure("digits-cnn", "if", "plain", context)
    assert (short["dtype"], short["steps"]) == ("float32", accuracy_over_time.IF_STEPS)
    monkeypatch.setattr(experiments.setting, "SLOW_MACS", 0)
    monkeypatch.setattr(experiments.setting, "bfloat16_pays", lambda device: True)
    assert subject.slow
    (row,) = accuracy_over_time.measure("digits-cnn", "if", "plain", context)
    assert (row["dtype"], row["steps"]) == ("bfloat16", accuracy_over_time.IF_STEPS)
    assert row["ann_accuracy"] == short["ann_accuracy"]
    (wide,) = accuracy_over_time.measure("digits-cnn", "augmented", "plain", context)
    assert wide["dtype"] == "float32"
    assert subject.convert(Setting(snn.IF(v0=0.0), snn.Max())).dtype == torch.float32
    for what in robustness.KINDS:
        (run,) = robustness.measure("digits-cnn", "ternary", what, context)
        assert run["dtype"] == "bfloat16"
        assert run["sizes"][0]["ann_accuracy"] == short["ann_accuracy"]
        assert abs(run["sizes"][0]["accuracy"] - short["ann_accuracy"]) <= 0.05


def test_calibrated_biases_belong_to_one_neuron(context):
    """A correction measured for one neuron is not reused for another with the same thresholds."""
    subject = context.subject("digits-cnn")
    nets = [subject.convert(Setting(neuron, bias_steps=4)) for neuron in (snn.IF(), snn.Ternary())]
    first, second = (
        {
            name: node.tensors["shift"]
            for name, node in net.graph.nodes.items()
            if "shift" in node.tensors
        }
        for net in nets
    )
    assert first.keys() == second.keys()
    assert any(not torch.equal(first[name], second[name]) for name in first)
    assert subject.convert(Setting(snn.IF())).graph.nodes.keys().isdisjoint(first)


def test_early_exit_is_what_the_network_decides(context):
    subject = context.subject("digits-cnn")
    net = subject.convert(early_exit.SETTINGS["augmented"][0]).double()
    found = early_exit.observe(net, subject, subject.test, 4)
    x = snn.data.to_float(subject.test.images).double()
    for confidence in (0.5, 0.9, 0.999):
        step, answer = found.exit(confidence)
        decision = net.decide(x, confidence, 4)
        assert torch.equal(step, decision.step)
        assert torch.equal(answer, decision.prediction)


def test_early_exit_sweep(context):
    (row,) = early_exit.measure("digits-cnn", "augmented", context)
    sweep = row["sweep"]
    assert [r["confidence"] for r in sweep] == list(early_exit.CONFIDENCES)
    steps = [r["mean_steps"] for r in sweep]
    assert steps == sorted(steps)
    assert sum(r["chosen"] for r in sweep) <= 1
    for r in sweep:
        counts = r["images_by_step"]
        assert sum(counts) == row["n"] == 20
        mean = sum(t * count for t, count in enumerate(counts, 1)) / 20
        assert mean == pytest.approx(r["mean_steps"])
    assert row["seconds_all_steps"] > 0
    assert row["seconds_closed_form"] > 0


def test_images_are_easy_whose_answer_is_settled_early(context):
    answers = torch.tensor([[1, 0, 2], [1, 2, 0], [1, 2, 2]])  # steps × images
    sure = early_exit.Sure(torch.ones(3, 3), answers, answers[-1], answers[-1])
    assert sure.settled().tolist() == [1, 2, 3]
    (row,) = early_exit.order("digits-cnn", "ternary", context)
    subject = context.subject("digits-cnn")
    setting, steps = early_exit.SETTINGS["ternary"]
    run = subject.convert(setting)(snn.data.to_float(subject.test.images), steps)
    for one in (*row["easiest"], *row["hardest"]):
        mine = run.predictions[:, one["image"]]
        assert one["answer"] == mine[-1]
        assert (mine[one["settled"] - 1 :] == mine[-1]).all()
        assert one["settled"] == 1 or mine[one["settled"] - 2] != mine[-1]
    assert row["hardest"][0]["settled"] >= row["easiest"][-1]["settled"]


def test_no_confidence_is_chosen_where_none_keeps_the_accuracy():
    labels = torch.zeros(10, dtype=torch.int64)
    answers = torch.stack([labels + 1, labels])  # wrong at first, right in the end
    late = early_exit.Sure(torch.tensor([[0.6], [0.9]]).expand(2, 10), answers, labels, labels)
    assert early_exit.choose(late) == 0.7
    rash = early_exit.Sure(torch.ones(2, 10), answers, labels, labels)
    assert early_exit.choose(rash) is None


def test_layer_errors_are_those_of_the_theory(context):
    """Memoryless neurons know no unevenness and no clipping; the first layer inherits nothing."""
    (row,) = layer_errors.measure("digits-cnn", "augmented/book", context)
    assert row["steps"] == [1, 2, 4, 8, 16, 32, 64]
    first = row["layers"][0]["parts"]
    assert max(first["propagated"]) < 1e-5
    for layer in row["layers"]:
        assert max(layer["parts"]["clipping"]) == 0
        assert max(layer["parts"]["unevenness"]) < 0.05  # rounding of the sum in float32 alone
        assert layer["error"][-1] < layer["error"][0]


def test_entropy_is_the_bits_of_equal_choices():
    counts = torch.tensor([[4, 4, 4, 4], [0, 7, 0, 0], [1, 1, 0, 0]])
    assert frontier.entropy(counts).tolist() == pytest.approx([2.0, 0.0, 1.0])


def test_pareto_set_is_what_no_point_beats():
    random = torch.Generator().manual_seed(0)
    draws = torch.randint(8, (60, 2), generator=random).tolist()
    points = [{"cost": cost, "accuracy": accuracy} for cost, accuracy in draws]

    def beaten(p):
        return any(
            q["cost"] <= p["cost"] and q["accuracy"] >= p["accuracy"] and q != p for q in points
        )

    expected = {tuple(p.values()) for p in points if not beaten(p)}
    assert {tuple(p.values()) for p in frontier.best(points, "cost")} == expected


def test_frontier_finds_the_cheapest_spikes_that_keep_the_accuracy(monkeypatch):
    monkeypatch.setattr(models, "dataset_of", lambda name: None)

    def row(accuracy, cost):
        costs = {name: [cost * (i + 1) for i in range(len(accuracy))] for name in frontier.COSTS}
        return {"label": "x", "accuracy": accuracy, "agreement": [1.0] * len(accuracy), **costs}

    rows = {f"net/{name}": [row([0.5, 0.9296, 0.93], 2.0)] for name in frontier.SETTINGS}
    rows["net/if-best"] = [row([0.9294, 0.93], 1.9)]
    rows["net/ann"] = [row([0.6], 1.0), row([0.93], 1.0)]  # cheaper, but it has no spikes
    context = experiments.Context(torch.device("cpu"), None, rows)
    for found in frontier.cheapest("net", context).values():
        assert (found["setting"], found["accuracy"], found["steps"]) == ("if-best", 0.93, 3.8)
    for kept in frontier.pareto("net", context):
        assert [p["accuracy"] for p in kept["points"]] == [0.93]
    rows["net/ternary-best"] = [{**row([0.93], 0.1), "agreement": [0.99]}]  # right by luck
    found = frontier.cheapest("net", context).values()
    assert {point["setting"] for point in found} == {"if-best"}
    rows["net/ann"] = [row([0.94], 1.0)]
    assert frontier.cheapest("net", context) == {}


def test_frontier_measures_the_least_on_test_images(context, monkeypatch):
    names = ("ternary-layer", "augmented-4-1", "augmented-12-channel")
    monkeypatch.setattr(frontier, "SETTINGS", {name: frontier.SETTINGS[name] for name in names})
    for cell in frontier.cells("digits-cnn"):
        context.rows[cell.name] = cell.compute(context)
    subject = context.subject("digits-cnn")
    assert [row["cost"] for row in context.rows["digits-cnn/least"]] == list(frontier.LEAST)
    for row in context.rows["digits-cnn/least"]:
        chosen, steps = row["chosen"], row["chosen"]["steps"]
        assert row["steps"] == list(range(1, steps + 1))
        net = subject.convert(frontier.SETTINGS[chosen["setting"]][0])
        run = net(snn.data.to_float(subject.test.images), steps)
        assert row["accuracy"][-1] == pytest.approx(float(run.accuracy(subject.test.labels)[-1]))


def test_frontier_reads_its_baselines_late_too(context):
    """Two readings of one run cost the same; the start was not chosen on the images that judge."""
    rows = frontier.measure("digits-cnn", "ternary-best", context)
    plain, late = rows
    assert [row["label"] for row in rows] == ["TerMapping", "TerMapping, late answer"]
    for cost in frontier.COSTS:
        assert plain[cost] == late[cost]
        assert len(late[cost]) == len(late["start"]) == len(late["accuracy"])
    assert late["accuracy"] != plain["accuracy"]
    subject = context.subject("digits-cnn")
    setting = Setting.of(plain["setting"])
    assert setting == late_answer.setting_of("digits-cnn", late_answer.METHODS["ternary/best"])
    net = subject.convert(setting)
    run = net(subject.validation.floats(), len(late["start"]))
    assert plain["energy_nj_per_image"] == pytest.approx(run.synops().energy().tolist())
    literature = run.synops().literature_energy.tolist()
    assert plain["literature_energy_nj_per_image"] == pytest.approx(literature)
    seen = subject.training[: frontier.START_IMAGES]
    chosen = late_answer.answered(net, subject.ann, seen, len(late["start"]))
    assert late["start"] == late_answer.best_starts(chosen.logits, chosen.ann)
    (wide,) = frontier.measure("digits-cnn", "augmented-4-0", context)
    assert "start" not in wide


def test_frontier_measures_a_late_answer_on_test_images(context, monkeypatch):
    monkeypatch.setattr(frontier, "SETTINGS", {"if-layer": frontier.SETTINGS["if-layer"]})
    for name in ("if-layer", "ann"):
        (cell,) = (c for c in frontier.cells("digits-cnn") if c.name == f"digits-cnn/{name}")
        context.rows[cell.name] = cell.compute(context)
    plain, late = context.rows["digits-cnn/if-layer"]
    plain["agreement"] = [0.0] * len(plain["agreement"])  # so the late answer is chosen
    rows = frontier.least("digits-cnn", context)
    assert [row["label"] for row in rows] == ["IF, late answer"] * len(rows) != []
    for row in rows:
        assert row["chosen"]["label"] == late["label"]
        assert len(row["start"]) == row["chosen"]["steps"]


def test_frontier_counts_what_was_sent(digits):
    """The histogram of |c| holds every event once, and as many spikes as the run counts."""
    _, images, _ = digits
    _, test = snn.data.load("digits")
    neuron = snn.Augmented(levels=4, negative=0.5, cap=15)
    net = snn.convert(snn.models.load("digits-cnn"), images.float(), neuron)
    counts = frontier.count(net, test[:25], 3)
    run = net(snn.data.to_float(test.images[:25]), steps=3)
    sizes = counts.sizes()
    assert sum(sizes) == round(25 * float(run.events[-1]))
    assert sum(c * n for c, n in enumerate(sizes, 1)) == round(25 * float(run.spikes[-1]))
    wide = net.replace(neuron=snn.Augmented(levels=64, negative=0.0))
    counts, run = frontier.count(wide, test[:25], 1), wide(snn.data.to_float(test.images[:25]), 1)
    sizes = counts.sizes()
    assert len(sizes) > 60
    assert sum(c * n for c, n in enumerate(sizes, 1)) == round(25 * float(run.spikes[-1]))
    bits = frontier.count(net, test[:25], 3).bits()
    assert 0 < float(bits[0]) < float(bits[1]) < float(bits[2]) < 15


def test_frontier_treats_the_quantized_ann_as_one_step(context):
    """With the same levels and cap, the first step of an augmented network is the quantized ANN."""
    setting = Setting(snn.Augmented(levels=4, negative=0.0, cap=4))
    subject = context.subject("digits-cnn")
    net = subject.convert(setting)
    found = frontier._one_pass(net, subject, rounded=True)
    run = net(snn.data.to_float(subject.validation.images), steps=1)
    synops = run.synops()
    assert found.accuracy == pytest.approx(float(run.accuracy(subject.validation.labels)[0]))
    assert found.active == pytest.approx(float(run.events[0]) / sum(net.neurons.values()))
    assert found.bits == pytest.approx(float(frontier.count(net, subject.validation, 1).bits()[0]))
    # Behind a pool, one product of a mean stands for an operation of each of its spikes.
    assert synops.macs_first_layer < found.macs < synops.macs_first_layer + float(synops.total[0])


def test_frontier_has_the_exact_ann_with_its_zeros_and_without(context):
    *_, skipping, whole = frontier.quantized_anns("digits-cnn", context)
    assert (skipping["label"], whole["label"]) == ("ANN, zeros skipped", "ANN")
    for cost in ("energy_nj_per_image", "literature_energy_nj_per_image"):
        assert skipping[cost][0] < whole[cost][0]
    (counted,) = activity.measure("digits-cnn", context)
    energy = counted["macs_with_input"] * costs.MAC_PICOJOULE / 1000
    assert skipping["energy_nj_per_image"] == pytest.approx([energy])
    assert {**skipping, "label": "", **dict.fromkeys(frontier.COSTS)} == {
        **whole, "label": "", **dict.fromkeys(frontier.COSTS)
    }  # fmt: skip


def test_undisturbed_networks_answer_as_ever(context):
    """Size 0 is the plain network, whatever the disturbance and its simulator."""
    subject = context.subject("digits-cnn")
    setting, steps = robustness.SETTINGS["augmented"]
    x = snn.data.to_float(subject.test.images)
    net = subject.convert(setting)
    expected = net(x, steps).accuracy(subject.test.labels)[-1]
    with torch.no_grad():
        ann = (subject.ann(x).argmax(1) == subject.test.labels).double().mean()
    for what in robustness.KINDS:
        (row,) = robustness.measure("digits-cnn", "augmented", what, context)
        assert row["sizes"][0]["accuracy"] == pytest.approx(float(expected))
        assert row["sizes"][0]["ann_accuracy"] == pytest.approx(float(ann))
        assert row["sizes"][-1]["draws"] == robustness.DRAWS


def test_disturbances_are_as_large_as_they_say(digits):
    ann, images, x = digits
    net = snn.convert(ann, images, snn.Augmented(levels=4, negative=0.0))
    generator = torch.Generator().manual_seed(0)
    noisy = robustness.noisy_weights(net.graph, 0.1, generator)
    node = next(n for n in net.graph if n.kind == "weighted" and n.tensors["weight"].numel() > 1000)
    ratio = noisy.nodes[node.name].tensors["weight"] / node.tensors["weight"] - 1
    assert float(ratio[node.tensors["weight"] != 0].std()) == pytest.approx(0.1, rel=0.1)
    for probability in (0.01, 0.2):
        kept = robustness.survivors(torch.ones(400, 251), probability, generator)
        assert float(kept.double().mean()) == pytest.approx(1 - probability, rel=0.01)
        by_column = kept.double().mean(0)  # no pattern from four values out of one random number
        assert float(by_column.std()) == pytest.approx(float(kept.double().std()) / 20, rel=0.15)
    everything = robustness.lost_spikes(net, x, 2, 1.0, 0)  # no spike arrives: one answer to all
    assert all(len(answers.unique()) == 1 for answers in everything)


class LossyStepper(Stepper):
    """Lost events in the plain simulator: message by message, step by step."""

    def _fire(self, name, bound, current):
        message = super()._fire(name, bound, current)
        return message * robustness.survivors(message, 0.3, self.generator)


@pytest.mark.parametrize("neuron", [snn.IF(), snn.Augmented(levels=4)])
def test_lost_spikes_agree_with_the_plain_simulator(neuron, monkeypatch):
    """Same draws, same losses: the sender has reset, nobody receives."""
    monkeypatch.setattr(robustness, "_BLOCK", 1)
    torch.manual_seed(0)
    layers = (m for _ in range(3) for m in (nn.Linear(20, 20), nn.ReLU()))
    ann = nn.Sequential(*layers).double().eval()
    x = torch.rand(robustness._TOGETHER, 20).double()
    net = snn.convert(ann, torch.rand(50, 20).double(), neuron)
    plain = LossyStepper(net, x)
    plain.generator = torch.Generator().manual_seed(7)
    for _ in range(10):
        plain.step()
    answers, _ = robustness.lost_spikes(net, x, 10, 0.3, 7)
    undisturbed = net(x, 10).predictions[-1]
    assert torch.equal(answers, plain.total.argmax(1))
    assert not torch.equal(answers, undisturbed)


def test_allocation_saves_events_and_keeps_the_answers(context):
    subject = context.subject("digits-cnn")
    net = subject.convert(allocation.START)
    split = subject.validation
    states = allocation.uniform(net, subject, split)
    events = [state.judged.events for state in states]
    assert events == sorted(events)
    held = allocation.AGREEMENT + allocation.MARGIN
    start = next(state for state in states if state.judged.holds(held))
    uniform = allocation.scaled(net, start.scales)
    assert allocation.measure(uniform, subject, split, start.steps) == start.judged
    best, moves = allocation.search(net, subject, start, split, split)
    assert best.judged.holds(held)
    assert best.judged.events < start.judged.events
    passed = [move["events_per_image"] for move in moves if move["judged_agreement"] >= 0.996]
    assert best.judged.events == min(passed)
    for name, theta in allocation.scaled(net, best.scales).thresholds.items():
        torch.testing.assert_close(theta, net.thresholds[name] * best.scales[name])


def test_allocation_is_judged_on_images_that_the_search_has_not_seen():
    """On the judges' images, which the search never simulates, nothing may be worse than asked."""
    context = experiments.Context(torch.device("cpu"), limit=None)
    rows = allocation.choose("digits-cnn", context)
    subject = context.subject("digits-cnn")
    half = len(subject.validation) // 2
    judges = subject.validation[half : half + allocation.JUDGED]
    for row in rows:
        net = allocation.scaled(subject.convert(allocation.START), row["scales"])
        found = allocation.measure(net, subject, judges, row["steps"])
        assert (found.agreement, found.events) == (row["agreement"], row["events_per_image"])
        assert row["n"] == len(judges)
    assert rows[1]["events_per_image"] <= rows[0]["events_per_image"]
    tried = rows[0]["tried"]
    assert len(tried) == len(allocation.UNIFORM) * len(allocation.STEPS)
    held = [one for one in tried if one["agreement"] >= 0.996 - 1e-9]
    assert rows[0]["events_per_image"] == min(one["events_per_image"] for one in held)


def test_leaving_out_activations_begins_at_the_ann_and_never_adds_events(context):
    subject = context.subject("digits-cnn")
    net = subject.convert(allocation.START)
    (row,) = allocation.left_out("digits-cnn", context)
    judges = allocation.seen_and_judges(subject)[1]
    active = []
    net.graph.evaluate(
        snn.data.to_float(judges.images),
        visit=lambda node, value: (
            active.append(int((value > 0).sum())) if node.kind == "spiking" else None
        ),
    )
    assert row["agreement"][0] == 1.0
    assert row["events_per_image"][0] == pytest.approx(sum(active) / len(judges))
    assert row["events_per_image"] == sorted(row["events_per_image"], reverse=True)
    for share, events in zip(row["left_out"][:5], row["events_per_image"], strict=False):
        # nearly: the bounds come from training images, and each layer changes those after it
        assert events / row["events_per_image"][0] == pytest.approx(1 - share, abs=0.04)
    assert row["agreement"][-1] < 1.0


def transient(steps: int, off: int) -> torch.Tensor:
    """Running means, (T, 2, 2): the output's input favors class 1 until step ``off``, then 0."""
    inputs = torch.zeros(steps, 2, 2)
    inputs[:off, :, 1] = 5.5
    inputs[off:, :, 0] = 1.0
    t = torch.arange(1, steps + 1)[:, None, None]
    return inputs.cumsum(0) / t


def test_the_start_is_the_first_after_the_transient():
    logits, answers = transient(12, off=3), torch.zeros(2, dtype=torch.int64)
    starts = late_answer.best_starts(logits, answers)
    assert starts[:3] == [1, 1, 1], "nothing is right yet: the earliest stays"
    # One step of the transient weighs more than five later ones, and less than six.
    assert starts[3:] == [4] * 5 + [3] * 4
    found = late_answer.from_starts(logits, starts)
    assert found.shape == (12, 2)
    assert (found[3:] == 0).all()


def test_no_start_is_chosen_where_nothing_is_gained():
    logits = transient(6, off=0)
    assert late_answer.best_starts(logits, torch.zeros(2, dtype=torch.int64)) == [1] * 6


def test_windows_of_the_means_are_those_of_a_run_that_reads_late(digits):
    """t m_t − (s − 1) m_{s−1}, without another run."""
    ann, images, x = digits
    net = snn.convert(ann, images, snn.IF())
    plain, starts = net(x, 8).logits, [1, 2, 1, 3, 2, 6, 4, 5]
    total, found = late_answer.sums(plain), late_answer.from_starts(plain, starts)
    for t, start in enumerate(starts, 1):
        late = net(x, t, readout=snn.Mean(start)).logits[-1]
        window = (total[t] - total[start - 1]) / (t - start + 1)
        torch.testing.assert_close(window, late, rtol=1e-10, atol=1e-10)
        assert torch.equal(found[t - 1], late.argmax(1))


def test_the_late_answer_is_chosen_on_validation_images(context, monkeypatch):
    """Both readings are of one run, so costs are stored once; test images have no say."""
    (row,) = late_answer.measure("digits-cnn", "if/best", context)
    assert row["validation_images"] == row["n"] == 20
    assert row["late"]["accuracy"][7] > row["accuracy"][7] + 0.3
    assert all(1 <= start <= t for t, start in enumerate(row["late"]["start"], 1))
    for key in ("accuracy", "agreement", "loss_interval"):
        assert len(row[key]) == len(row["late"][key]) == row["steps"]
    assert row["events_per_image"] == sorted(row["events_per_image"])
    subject = context.subject("digits-cnn")
    monkeypatch.setattr(subject, "test", subject.test[5:9])
    (again,) = late_answer.measure("digits-cnn", "if/best", context)
    assert again["n"] == 4
    assert again["late"]["start"] == row["late"]["start"]


def test_methods_near_the_best_setting_keep_its_thresholds():
    best, zero = (
        late_answer.setting_of("digits-cnn", late_answer.METHODS[name])
        for name in ("if/best", "if/zero")
    )
    assert zero.neuron == snn.IF(v0=0.0)
    assert (zero.balance, zero.per_channel) == (best.balance, best.per_channel)
    assert zero.bias_steps is None, "biases are calibrated for one neuron"
    with pytest.raises(experiments.ExperimentError, match="accuracy-over-time first"):
        late_answer.setting_of("six", late_answer.METHODS["if/best"])


def test_silent_neurons_are_followed_by_the_definition(digits):
    """Counts from the recorded coefficients, and the ANN's activations, give the same shares."""
    ann, images, x = digits
    for neuron in (snn.IF(), snn.Ternary(negative=0.0)):
        net = snn.convert(ann, images, neuron)
        split = snn.data.Split(x, torch.zeros(len(x), dtype=torch.int64), ("0",))
        found = {**negative.watched(net, split, 6)}
        layers = tuple(net.thresholds)
        run, zero = net(x, steps=6, record=layers), negative.silence(net, x)
        activations, a = {}, x
        for name, layer in ann.named_children():
            activations[name] = a = layer(a)
        sent = {name: run.trace[name].coefficient for name in layers}
        for name in layers:
            assert torch.equal(zero[name], activations[name] == 0)
        silent = torch.cat([sent[name][:, zero[name]] for name in layers], 1)
        everything = torch.cat([sent[name].flatten(1) for name in layers], 1)
        events = (everything != 0).sum(1).cumsum(0)
        shares = {
            "false": (silent.cumsum(0) > 0).double().mean(1),
            "events": (silent != 0).sum(1).cumsum(0) / events,
            "taken_back": (everything < 0).sum(1).cumsum(0) / events,
        }
        for key, share in shares.items():
            assert found[key] == pytest.approx(share.tolist(), abs=1e-6), key
        assert found["neurons"] == pytest.approx(silent.shape[1] / everything.shape[1])


def test_the_negative_threshold_is_all_that_differs(context):
    """IF never takes back; the sweep shares thresholds, start and images; 0 takes back the most."""
    rows = [negative.measure("digits-cnn", name, context)[0] for name in ("if", "ternary/1")]
    rows += negative.measure("digits-cnn", "ternary/0", context)
    settings = [{**row["setting"], "neuron": row["setting"]["neuron"]["v0"]} for row in rows]
    assert settings[0] == settings[1] == settings[2]
    back = [row["silent"]["taken_back"][-1] for row in rows]
    assert back[0] == 0 < back[1] < back[2]
    plain = rows[0]["silent"]["false"]
    assert plain == sorted(plain), "an IF neuron's count cannot come down"
    for row in rows:
        assert row["validation"]["images"] == row["validation_images"] == 20
        for part in (row["validation"]["agreement"], row["silent"]["events"], row["accuracy"]):
            assert len(part) == row["steps"]


def test_fewer_images_where_a_pass_takes_long(context):
    subject = context.subject("digits-cnn")
    assert subject.affordable(*negative.TEST_IMAGES) == negative.TEST_IMAGES[0]
    names = [cell.name for cell in negative.cells("mnist-cnn")]
    assert names[0] == "mnist-cnn/if"
    assert len(set(names)) == len(names) == 1 + len(negative.NEGATIVES)
