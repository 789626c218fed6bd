"""Rank coding: what is skipped changes nothing, decisions are first crossings, runs resume."""

import warnings

import pytest
import torch
from torch import nn

from snnlib.recurrent import crossing
from snnlib.recurrent.coder import RankCoder
from snnlib.recurrent.coding import IntensityRank, Trace
from snnlib.recurrent.training import Ramp, Recipe, Training
from snnlib.zoo.sequences import Sequences

CELLS = ("lstm", "gru", "rnn")


def sequences(n=40, steps=9, inputs=3, classes=4, seed=0, lengths=True):
    """Random sequences that can be told apart, of various lengths."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    x = torch.randn(n, steps, inputs, generator=generator) + labels[:, None, None]
    ends = torch.randint(1, steps + 1, (n,), generator=generator) if lengths else None
    return Sequences(x, labels, tuple(map(str, range(classes))), ends)


def coder(classes=4, dtype=torch.float64, **options):
    torch.manual_seed(1)
    made = RankCoder(3, classes, 16, **options).to(dtype)
    with torch.no_grad():
        made.readout.weight.mul_(8)  # so that outputs cross at all kinds of steps
    return made


def threshold_between(network, data):
    """A threshold that many sequences cross early, none of them to the last bit."""
    every = network.outputs(data.values, data.lengths)
    top = every.abs().sigmoid()[..., 0] if every.shape[-1] == 1 else every.softmax(-1).amax(-1)
    values = top[every.any(-1)].sort().values
    middle = values[len(values) // 2 : 3 * len(values) // 4]
    widest = (middle[1:] - middle[:-1]).argmax()
    return float(middle[widest : widest + 2].mean())


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("block", [1, 2, 4])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize(("dtype", "precision"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_gradients_are_those_of_the_padded_computation(cell, block, classes, dtype, precision):
    """The law of skipping: same losses, same gradients, for fewer steps."""
    data = sequences(classes=classes)
    network = coder(classes, dtype, cell=cell, block=block, layers=2)
    p = threshold_between(network, data)
    gradients, losses, computed = [], [], []
    for skip in (True, False):
        network.zero_grad()
        run = Training(network, data, Recipe(skip=skip, entropy=0.1), torch.device("cpu"))
        loss, times, steps = run.loss(data.values, data.labels, data.lengths, p)
        loss.backward()
        gradients.append(torch.cat([w.grad.flatten() for w in network.parameters()]))
        losses.append(float(loss.detach()))
        computed.append(steps)
    assert len(times.unique()) > 1
    assert computed[0] < computed[1]
    assert losses[0] == pytest.approx(losses[1], rel=precision)
    apart = (gradients[0] - gradients[1]).abs().amax() / gradients[1].abs().amax()
    assert float(apart) < precision


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("block", [1, 3])
def test_decisions_are_the_first_crossings_of_the_padded_run(cell, block):
    data = sequences(60)
    network = coder(cell=cell, block=block)
    p = threshold_between(network, data)
    every = network.outputs(data.values, data.lengths)
    times = crossing.first_crossing(every, p, data.lengths)
    answers, when = network.decide(data.values, data.lengths, p, batch=17)
    assert torch.equal(when, times)
    assert torch.equal(answers, crossing.answer(crossing.at(every, times)))
    assert len(times.unique()) > 3
    assert bool((times <= data.lengths).all())
    # By hand, one sequence after another.
    for i in range(0, 60, 7):
        steps = range(1, int(data.lengths[i]) + 1)
        sure = [t for t in steps if every[i, t - 1].softmax(0).amax() >= p]
        assert times[i] == (sure[0] if sure else data.lengths[i])


def test_only_what_is_needed_is_computed():
    """With blocks of one step exactly Σ t* steps; with larger ones less than a block more each."""
    data = sequences()
    for block in (1, 2, 5):
        network = coder(block=block)
        found = network(data.values.double(), data.lengths, threshold_between(network, data))
        least = int(found.times.sum())
        rounded = -(-found.times // block) * block
        assert least <= found.computed <= int(rounded.clamp_max(9).sum())


def test_a_sequence_does_not_depend_on_its_company():
    """Neither on what others do nor on what lies after its own end."""
    data = sequences()
    network = coder()
    p = threshold_between(network, data)
    together = network.decide(data.values, data.lengths, p)
    padded = data.values.clone()
    for i, end in enumerate(data.lengths):
        padded[i, end:] = float("nan")
    assert torch.equal(network.decide(padded, data.lengths, p).times, together.times)
    for i in range(0, 40, 9):
        one = network.decide(data.values[i : i + 1], data.lengths[i : i + 1], p)
        assert (int(one.answers), int(one.times)) == (
            int(together.answers[i]),
            int(together.times[i]),
        )


def test_thresholds_at_their_limits():
    """Below chance everything crosses at once; a higher threshold is never crossed earlier."""
    data = sequences()
    network = coder()
    assert bool((network.decide(data.values, data.lengths, 0.25).times == 1).all())
    before = torch.zeros(40, dtype=torch.int64)
    for p in (0.0, 0.3, 0.6, 0.9, 0.99, 1.0):
        times = network.decide(data.values, data.lengths, p).times
        assert bool((times >= before).all())
        before = times


def test_one_output_and_two_outputs_are_the_same_network():
    """σ(z) is the softmax of (0, z): crossings, losses, entropies."""
    z = torch.linspace(-9, 9, 61, dtype=torch.float64)[:, None]
    both = torch.cat([torch.zeros_like(z), z], 1)
    labels = torch.arange(61) % 2
    assert torch.equal(crossing.sure(z, 0.9), crossing.sure(both, 0.9))
    assert torch.equal(crossing.answer(z), crossing.answer(both))
    for law in (crossing.entropy, lambda y: crossing.cross_entropy(y, labels)):
        assert torch.allclose(law(z), law(both), rtol=1e-12, atol=1e-12)
    flat = crossing.entropy(torch.zeros(1, 5, dtype=torch.float64))
    assert float(flat) == pytest.approx(torch.log(torch.tensor(5.0)).item())


@pytest.mark.parametrize("when", ["first", "every", "end"])
def test_a_run_that_was_interrupted_gives_the_same_weights(when, tmp_path, monkeypatch):
    data = sequences()
    recipe = Recipe(when, epochs=4, batch=16, threshold=Ramp(0.0, 0.5))
    straight = coder()
    history = straight.fit(data, recipe)
    epoch = Training.epoch

    def stopped(run, bar):
        if len(run.history) == 2:
            raise KeyboardInterrupt
        return epoch(run, bar)

    broken = coder()
    monkeypatch.setattr(Training, "epoch", stopped)
    with pytest.raises(KeyboardInterrupt):
        broken.fit(data, recipe, state=tmp_path / "run.pt")
    monkeypatch.undo()
    other = coder()
    with torch.no_grad():
        other.readout.bias.add_(1)  # what it was before does not matter: the state is taken up
    again = other.fit(data, recipe, state=tmp_path / "run.pt")
    assert [e["loss"] for e in again] == [e["loss"] for e in history]
    for a, b in zip(straight.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match=r"other settings: .*recipe"):
        coder().fit(data, Recipe(when, epochs=5), state=tmp_path / "run.pt")
    with pytest.raises(ValueError, match=r"other settings: .*data"):
        coder().fit(sequences(seed=1), recipe, state=tmp_path / "run.pt")
    (tmp_path / "run.pt").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not the state of a training run"):
        coder().fit(data, recipe, state=tmp_path / "run.pt")


def test_training_saves_steps_and_learns():
    """On an easy task: a rising threshold keeps it early, and nearly all answers are right."""
    data = sequences(400, steps=12, lengths=False)
    torch.manual_seed(0)
    network = RankCoder(3, 4, 24)
    history = network.fit(data, Recipe(epochs=12, batch=32, rate=0.01, threshold=Ramp(0.0, 0.9)))
    assert history[0]["computed"] < 0.5
    assert history[-1]["loss"] < history[0]["loss"]
    answers, times = network.decide(data.values, threshold=0.9)
    assert float((answers == data.labels).double().mean()) > 0.9
    assert float(times.double().mean()) < 6


def test_a_deadlock_is_said():
    data = sequences(lengths=False)
    with pytest.warns(UserWarning, match="hardly a sequence"):
        RankCoder(3, 4, 4).fit(data, Recipe(epochs=1, threshold=1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RankCoder(3, 4, 4).fit(data, Recipe("every", epochs=1))


def test_images_through_a_coding_and_an_encoder():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (6, 1, 8, 8), generator=generator, dtype=torch.uint8)
    encoder = nn.Sequential(nn.Conv2d(1, 2, 3), nn.GroupNorm(1, 2), nn.ReLU(), nn.Flatten())
    network = RankCoder(72, 10, 8, encoder=encoder, coding=IntensityRank(5))
    every = network.outputs(images)
    assert every.shape == (6, 5, 10)
    frames = network.coding.frames(network.coding.prepare(images), 0, 5)
    one = network.readout(network.cell(encoder(frames[:1].flatten(0, 1))[None])[0])
    assert torch.allclose(one, every[:1], atol=1e-5)
    assert network.decide(images).times.tolist() == [5] * 6


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match="one of lstm, gru, rnn"):
        RankCoder(3, 4, cell="transformer")
    with pytest.raises(ValueError, match="batch norm"):
        RankCoder(3, 4, encoder=nn.Sequential(nn.BatchNorm1d(3)))
    with pytest.raises(ValueError, match="classes=1"):
        RankCoder(3, 1)
    network, data = coder(), sequences()
    with pytest.raises(ValueError, match="made for 3 inputs"):
        network.decide(torch.zeros(2, 4, 5))
    with pytest.raises(ValueError, match="from 1 to 9"):
        network(data.values, torch.zeros(40, dtype=torch.int64))
    with pytest.raises(ValueError, match="lengths for 40"):
        network.decide(data.values, data.lengths[:3])
    with pytest.raises(ValueError, match=r"threshold=1\.5"):
        network.decide(data.values, threshold=1.5)
    with pytest.raises(ValueError, match="no sequence"):
        network.decide(data.values[:0])
    with pytest.raises(ValueError, match="4 classes, the sequences have 2"):
        network.fit(sequences(classes=2))
    with pytest.raises(ValueError, match="when="):
        Recipe("sometimes")
    with pytest.raises(ValueError, match="Ramp: end"):
        Ramp(0, 2)
    with pytest.raises(ValueError, match=r"0…1"):
        Sequences(data.values, data.labels, ("a", "b"))


def test_longer_blocks_change_nothing_but_what_is_computed(monkeypatch):
    """On a GPU blocks grow as the batch empties: same answers and gradients, fewer looks."""
    data = sequences()
    network = coder(dtype=torch.float64)
    p, found = threshold_between(network, data), []
    stride = RankCoder._stride
    for grows in (False, True):

        def look(self, rows, batch, _, grows=grows):
            return stride(self, rows, batch, grows)

        monkeypatch.setattr(RankCoder, "_stride", look)
        network.zero_grad()
        out = network(data.values, data.lengths, p)
        out.logits.square().sum().backward()
        gradient = torch.cat([w.grad.flatten() for w in network.parameters()])
        found.append((out, gradient))
    (short, one), (long, other) = found
    assert torch.equal(short.times, long.times)
    assert torch.allclose(short.logits, long.logits, rtol=0, atol=1e-12)
    assert torch.allclose(one, other, rtol=0, atol=1e-10)
    assert short.computed < long.computed


def test_images_are_shifted_in_training_alone():
    """Same seed, same shifts; every image keeps its pixels, and most move."""
    images = torch.zeros(50, 1, 9, 9, dtype=torch.uint8)
    images[:, 0, 4, 4] = 255
    data = Sequences(images, torch.zeros(50, dtype=torch.int64), ("a", "b"))
    network = RankCoder(81, 2, 4, coding=IntensityRank(3))
    run = Training(network, data, Recipe(shift=2), torch.device("cpu"))
    rows = torch.arange(50)
    one, other = (run._batch(rows, torch.Generator().manual_seed(0))[0] for _ in range(2))
    assert torch.equal(one, other)
    assert torch.equal(one.flatten(1).sum(1), images.flatten(1).sum(1))
    moved = one[:, 0].nonzero()[:, 1:] - 4
    assert int(moved.abs().amax()) == 2
    assert len(moved.unique(dim=0)) > 12  # of 25
    assert torch.equal(data.values, images)
    with pytest.raises(ValueError, match="shift=2 is for images"):
        coder().fit(sequences(), Recipe(shift=2))


def test_warped_pixels_keep_their_brightness():
    """A gray says when its pixel fires: no image gets one that it did not have, black aside."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(1, 256, (50, 1, 12, 12), dtype=torch.uint8, generator=generator)
    data = Sequences(images, torch.zeros(50, dtype=torch.int64), ("a", "b"))
    network = RankCoder(144, 2, 4, coding=IntensityRank(3))
    run = Training(network, data, Recipe(degrees=20.0, scale=0.2), torch.device("cpu"))
    warped = run._batch(torch.arange(50), generator)[0]
    assert warped.dtype == torch.uint8
    assert float((warped != images).double().mean()) > 0.5
    for before, after in zip(images, warped, strict=True):
        assert set(after.unique().tolist()) <= {0, *before.unique().tolist()}
    with pytest.raises(ValueError, match=r"degrees=20\.0 is for images"):
        coder().fit(sequences(), Recipe(degrees=20.0))
    with pytest.raises(ValueError, match="scale=1"):
        Recipe(scale=1)


def test_a_stopped_race_is_answered_at_its_last_step():
    """Nothing is sure below p = 1, so all wait; the frames are the first of the whole race."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (6, 1, 5, 5), dtype=torch.uint8)
    network = RankCoder(25, 3, 4, coding=Trace(10, stop=4))
    answers, times = network.decide(images, threshold=1.0)
    assert times.tolist() == [4] * 6
    long = RankCoder(25, 3, 4, coding=Trace(10))
    long.load_state_dict(network.state_dict())
    first, _ = long._advance(long.coding.prepare(images), 0, 4, None)  # as many products as there
    assert torch.equal(network.outputs(images), first)
    assert torch.equal(answers, first[:, 3].argmax(1))


@pytest.mark.cuda
def test_cuda_answers_as_the_cpu_does():
    data = sequences()
    network = coder()
    p = threshold_between(network, data)
    expected = network.decide(data.values, data.lengths, p)
    found = network.to("cuda").decide(data.values, data.lengths, p)
    assert torch.equal(found.times.cpu(), expected.times)
    assert torch.equal(found.answers.cpu(), expected.answers)
    network.fit(data, Recipe(epochs=1, threshold=p), device="cuda")
