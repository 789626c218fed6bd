"""SEENN: exits are first exits of the full run, policies maximize what they should."""

import pytest
import torch
from torch import nn

import snnlib as snn
from snnlib.learning.lif import LIF
from snnlib.recurrent import exits


@pytest.fixture(scope="module")
def digits():
    train, test = snn.data.load("digits")
    ann = snn.models.load("digits-cnn").double()
    calibration = snn.data.to_float(train.images[:300]).double()
    net = snn.convert(ann, calibration, snn.Augmented(levels=2, negative=0.0))
    return net, snn.data.to_float(test.images[:90]).double(), test.labels[:90]


def direct(neuron=None):
    torch.manual_seed(0)
    stages = [nn.Linear(12, 24), nn.Linear(24, 16)]
    net = exits.Direct(stages, nn.Linear(16, 4), neuron or LIF(leak=0.5)).double()
    with torch.no_grad():
        net.readout.weight.mul_(6)  # so that sums get sure at all kinds of steps
    x = 2 * torch.randn(80, 12, dtype=torch.float64)
    return net, x


@pytest.mark.parametrize("score", exits.SCORES)
@pytest.mark.parametrize("threshold", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("scale", [1.0, 8.0])
def test_a_converted_network_exits_where_its_full_run_does(digits, score, threshold, scale):
    net, x, _ = digits
    steps = torch.arange(1, 9)[:, None, None]
    summed = net(x, 8).logits * steps
    expected = exits.first_exit(summed / scale, threshold, score)
    found = exits.seenn(net, x, threshold, 8, score=score, scale=scale, batch=37)
    assert torch.equal(found.step, expected.step)
    assert torch.equal(found.prediction, expected.prediction)


@pytest.mark.parametrize("score", exits.SCORES)
def test_a_directly_trained_network_exits_where_its_full_run_does(score):
    net, x = direct()
    with torch.no_grad():
        summed = net(x, 10)
    for threshold in (0.3, 0.9, 0.6):
        expected = exits.first_exit(summed, threshold, score)
        found = exits.seenn(net, x, threshold, 10, score=score, batch=33)
        assert torch.equal(found.step, expected.step)
        assert torch.equal(found.prediction, expected.prediction)
    assert len(expected.step.unique()) > 2


def test_sums_get_sure_by_waiting():
    """The same answer at every step: its mean stays as sure as it was, its sum does not."""
    logits = torch.randn(50, 10, dtype=torch.float64)
    summed = logits * torch.arange(1, 6)[:, None, None]
    for score in exits.SCORES.values():
        values = score(summed)
        assert bool((values.diff(dim=0) > -1e-12).all())
        assert torch.allclose(score(summed / torch.arange(1, 6)[:, None, None])[3], score(logits))
    flat, one = torch.zeros(1, 10), torch.tensor([[1e4, *[0.0] * 9]])
    assert float(exits.certainty(flat)) == pytest.approx(0.0, abs=1e-6)
    assert float(exits.certainty(one)) == pytest.approx(1.0)


def test_temperatures_minimize_the_loss_of_each_step():
    """Beside a grid; and no answer changes."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 5, (400,), generator=generator)
    signal = torch.nn.functional.one_hot(labels, 5) * torch.tensor([0.2, 1.0, 3.0])[:, None, None]
    summed = 4 * (signal + torch.randn(3, 400, 5, generator=generator)).double()
    found = exits.temperatures(summed, labels)
    for z, tau in zip(summed, found, strict=True):

        def loss(by, z=z):
            return float(torch.nn.functional.cross_entropy(z / by, labels))

        assert all(loss(tau) <= loss(tau * factor) for factor in (0.5, 0.99, 1.01, 2.0))
        gap = exits.confidence(z / tau).mean() - (z.argmax(1) == labels).double().mean()
        assert abs(float(gap)) < 0.05
    assert found == sorted(found, reverse=True)  # the more the sums say, the less they are cooled


def test_an_answer_that_is_always_right_or_of_no_use_has_the_end_of_the_range():
    labels = torch.arange(10)
    sure = 9.0 * torch.nn.functional.one_hot(labels, 10).double()
    assert exits.temperatures(torch.stack([sure, -sure]), labels) == pytest.approx([1e-3, 1e3])


def test_each_step_has_its_scale(digits):
    net, x, labels = digits
    summed = net(x, 6).logits * torch.arange(1, 7)[:, None, None]
    scale = exits.temperatures(summed, labels)
    by = torch.tensor(scale, dtype=torch.float64)[:, None, None]
    expected = exits.first_exit(summed / by, 0.9)
    found = exits.seenn(net, x, 0.9, 6, scale=scale, batch=37)
    assert torch.equal(found.step, expected.step)
    assert torch.equal(found.prediction, expected.prediction)


def test_only_who_waits_is_computed():
    """After each step the batch is exactly those images that have no answer yet."""
    net, x = direct()
    sizes = []

    class Counted(exits.Going):
        def step(self):
            sizes.append(len(self.first))
            return super().step()

    found = exits.exit_early(Counted(net, x), 10, 0.6)
    expected = [int((found.step >= t).sum()) for t in range(1, 11)]
    assert sizes == [size for size in expected if size]


def test_direct_training_learns_and_its_gradients_are_numeric_ones():
    """With a smooth spike in place of the step; then with a surrogate, a loss that falls."""
    net, x = direct(LIF(leak=0.5, spike=torch.sigmoid))
    labels = torch.arange(80) % 4
    weight = net.stages[0].weight
    net.loss(x, labels, 3).backward()
    for i, j in ((0, 0), (5, 3), (23, 11)):
        with torch.no_grad():
            before = weight[i, j].clone()
            sides = []
            for step in (1e-6, -1e-6):
                weight[i, j] = before + step
                sides.append(net.loss(x, labels, 3))
            weight[i, j] = before
        numeric = float(sides[0] - sides[1]) / 2e-6
        assert float(weight.grad[i, j]) == pytest.approx(numeric, rel=1e-4, abs=1e-8)
    net, x = direct()
    x = x + 2 * torch.nn.functional.one_hot(labels, 12)
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    losses = []
    for _ in range(60):
        loss = net.loss(x, labels, 3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_the_loss_of_a_policy_is_its_expected_cost():
    """Written out over the choices, image by image."""
    torch.manual_seed(0)
    scores = torch.randn(20, 3, dtype=torch.float64)
    right = torch.rand(20, 3) < 0.6
    total = 0.0
    for v, good in zip(scores.softmax(1), right, strict=True):
        weight = 1.0 if good[0] else 0.8 / 0.2
        total += weight * sum(float(v[k]) * (-(2.0**-k) if good[k] else 1.5) for k in range(3))
    assert float(exits.policy_loss(scores, right, 1.5, 0.8)) == pytest.approx(total / 20)


def test_a_policy_learns_who_needs_how_long():
    """Images whose first pixel says how many steps they need: it is found, nobody waits longer."""
    torch.manual_seed(0)
    need = torch.arange(300) % 3
    x = torch.nn.functional.one_hot(need, 4).float()
    right = torch.arange(3)[None] >= need[:, None]
    policy = nn.Linear(4, 3)
    losses = exits.fit_policy(policy, x, right, epochs=60, batch=50, rate=0.1)
    assert losses[-1] < losses[0]
    assert torch.equal(policy(x).argmax(1), need)


def test_who_follows_a_policy_runs_for_its_steps(digits):
    net, x, _ = digits

    class Alternate(nn.Module):
        def forward(self, images):
            return torch.nn.functional.one_hot(torch.arange(len(images)) % 2, 2).double()

    found = exits.follow(Alternate(), net, x, (1, 5))
    assert found.step.tolist() == [1, 5] * 45
    answers = net(x, 5).predictions
    expected = torch.where(found.step == 1, answers[0], answers[4])
    assert torch.equal(found.prediction, expected)


def test_what_is_wrong_is_said(digits):
    net, x, _ = digits
    with pytest.raises(ValueError, match="one of confidence, certainty"):
        exits.seenn(net, x, 0.9, 4, score="luck")
    with pytest.raises(ValueError, match="threshold=2"):
        exits.seenn(net, x, 2, 4)
    with pytest.raises(ValueError, match="3 numbers for 4 steps"):
        exits.seenn(net, x, 0.9, 4, scale=[1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="scale=0"):
        exits.seenn(net, x, 0.9, 2, scale=[1.0, 0.0])
    with pytest.raises(ValueError, match="whole numbers"):
        exits.seenn(net.quantize(), x, 0.9, 4)
