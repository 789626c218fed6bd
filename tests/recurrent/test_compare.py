"""The comparison: what it reads is what networks and observers say; the command shows it."""

import json

import pytest
import torch

from snnlib.__main__ import main
from snnlib.recurrent import compare, contest, crossing, tasks
from snnlib.recurrent.coder import RankCoder
from snnlib.recurrent.training import Recipe
from snnlib.zoo.sequences import Sequences


@pytest.fixture
def short(monkeypatch):
    """A task that takes no time, under the name of a real one."""

    def parts(seed):
        return tuple(tasks.bits(n, 3 * seed + i) for i, n in enumerate((300, 100, 200)))

    recipe = Recipe("every", epochs=1, batch=50, rate=0.01)
    task = contest.Task(
        "bits", "short", parts, lambda train: RankCoder(1, 2, 8), recipe, recipe, read=0.9
    )
    monkeypatch.setitem(contest.TASKS, "bits", task)
    return task


def test_readings_are_those_of_decide(short):
    """Along the sweep, from logits, what the network answers when it really stops."""
    fit, _, test = short.parts(0)
    coder = compare.train(short, fit, "first", 0)
    row = compare.measure(short, coder, test, "first", 0, fit, (0.6, 0.9))
    for reading in row["sweep"]:
        answers, times = coder.decide(test.values, threshold=reading["threshold"])
        apart = abs(reading["mean_time"] - float(times.double().mean()))
        assert apart < 0.05  # one crossing in ten thousand may tip
        assert reading["accuracy"] == pytest.approx(
            float((answers == test.labels).double().mean()), abs=0.01
        )
        assert reading["share"] == pytest.approx(reading["mean_time"] / 25)
    assert sum(row["times"]) == len(test)
    assert len(row["times"]) == 25
    assert [t["threshold"] for t in row["timing"]] == [0.6, 0.9]
    assert all(0 < t["computed"] <= 1 and t["seconds"] > 0 for t in row["timing"])


def test_a_warm_start_is_shared_and_not_changed(short):
    """Going on from a copy gives the weights that the whole training gives."""
    fit, _, _ = short.parts(0)
    start = compare.warm_start(short, fit, "every", 0)
    before = {name: value.clone() for name, value in start.state_dict().items()}
    for method in ("first", "every"):
        whole = compare.train(short, fit, method, 0).state_dict()
        shared = compare.train(short, fit, method, 0, start=start).state_dict()
        assert all(torch.equal(whole[name], shared[name]) for name in whole)
    assert all(torch.equal(before[name], value) for name, value in start.state_dict().items())


def test_noise_is_for_training_alone():
    torch.manual_seed(0)
    noise, x = contest.Noise(0.5), torch.zeros(20_000)
    assert abs(float(noise(x).std()) - 0.5) < 0.02  # 8 standard errors
    assert torch.equal(noise.eval()(x), x)


def test_variable_lengths_are_read_to_their_own_ends():
    labels = torch.tensor([0, 1])
    data = Sequences(torch.zeros(2, 3, 1), labels, ("a", "b"), torch.tensor([2, 3]))
    logits = torch.tensor([[0.1, -5.0, 9.0], [0.1, 0.2, 3.0]])[..., None]
    row = compare.read(logits, data, 0.9)
    assert (row["accuracy"], row["waited"], row["first_step"]) == (1.0, 1.0, 0.5)
    assert row["times"] == [0, 1, 1]
    assert row["share"] == 1.0


def test_observers_answer_as_their_posteriors_say(short):
    _, _, test = short.parts(0)
    row = compare.observer(short, test, 0)
    assert row["waited"] == 1.0
    sure = [r for r in row["sweep"] if r["threshold"] > 0.9375]
    assert len({r["mean_time"] for r in sure}) == 1
    assert all(r["accuracy"] == 1.0 for r in sure)
    noisy = contest.get("noisy-mean")
    found = compare.observer(noisy, tasks.noisy_mean(500, seed=0), 0)
    times = [r["mean_time"] for r in found["sweep"]]
    assert times == sorted(times)


def test_methods_begin_from_the_same_weights(short):
    fit, _, _ = short.parts(0)
    first, every = (compare.train(short, fit, method, 0) for method in ("first", "every"))
    assert not torch.equal(first.readout.weight, every.readout.weight)
    again = compare.train(short, fit, "first", 0)
    assert torch.equal(first.readout.weight, again.readout.weight)
    with pytest.raises(ValueError, match="method='luck'"):
        compare.train(short, fit, "luck", 0)


def test_standardized_features():
    x = torch.randn(50, 6, 4) * torch.tensor([1.0, 2.0, 3.0, 4.0]) + 5
    lengths = torch.randint(1, 7, (50,))
    for i, end in enumerate(lengths):
        x[i, end:] = 1e6  # padding must not count
    data = Sequences(x, torch.zeros(50, dtype=torch.int64), ("a",), lengths)
    out = contest.Standardize.of(data)(x[torch.arange(6) < lengths[:, None]])
    assert torch.allclose(out.mean(0), torch.zeros(4), atol=1e-5)
    assert torch.allclose(out.std(0), torch.ones(4), atol=1e-5)


@pytest.mark.parametrize("name", [t.name for t in contest.TASKS.values() if t.dataset is None])
def test_parts_of_drawn_tasks_share_nothing(name, monkeypatch):
    parts = contest.get(name).parts(0)
    other = contest.get(name).parts(1)
    firsts = [part.values[:50].flatten().tolist() for part in (*parts, *other)]
    assert all(a != b for i, a in enumerate(firsts) for b in firsts[:i])


@pytest.mark.parametrize("name", ["digits", "mnist-conv"])
def test_networks_take_what_their_tasks_give(name):
    fit, validation, test = contest.get("digits").parts(0)
    coder = contest.get(name).network(fit)
    logits = coder.outputs(test.values[:5])
    assert logits.shape == (5, coder.coding.steps(test.values), 10)
    assert torch.equal(crossing.first_crossing(logits, 0.0), torch.ones(5, dtype=torch.int64))
    assert len(fit) + len(validation) == 1442


def test_the_command(short, capsys):
    assert main(["rank-coding", "bits", "--json", "--quiet"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [row["method"] for row in record["rows"]] == ["first", "every", "end", "observer"]
    assert main(["rank-coding", "bits", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "rank coding" in out
    assert "without skipping" in out
    assert main(["rank-coding", "--list"]) == 0
    assert "spoken-theo" in capsys.readouterr().out
    assert main(["rank-coding", "bits", "--device", "abacus"]) == 2
    assert "abacus" in capsys.readouterr().err
    assert main(["rank-coding", "chess"]) == 2
    assert "there is no task 'chess'" in capsys.readouterr().err
    assert main(["rank-coding"]) == 2
