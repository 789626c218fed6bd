"""What a run reports: accuracy, events, spikes, records and early answers, checked by hand."""

import pytest
import reference
import torch
from torch import nn

from snnlib import IF, Augmented, Frames, Max, Ternary, convert

LAYERS = ("relu1", "relu2", "relu3", "relu4")


def unit(*currents: float, neuron=None):
    """A network of one spiking layer whose neurons get these currents, θ = 1, and a test image."""
    ann = nn.Sequential(
        nn.Linear(1, len(currents), bias=False), nn.ReLU(), nn.Linear(len(currents), 2)
    )
    with torch.no_grad():
        ann[0].weight.copy_(torch.tensor(currents)[:, None])
    ann = ann.double().eval()
    net = convert(ann, torch.ones(1, 1, dtype=torch.float64), neuron or IF(v0=0.0), balance=Max())
    net = net.replace(balanced={"1": torch.tensor(1.0, dtype=torch.float64)})
    return net, torch.ones(1, 1, dtype=torch.float64)


def test_events_and_spikes_by_hand():
    """θ = 1, currents ½, 1 and −1 from V = 0: spikes after 2, 4 …; in every step; never."""
    net, x = unit(0.5, 1.0, -1.0)
    run = net(x, 4)
    assert run.events.tolist() == [1, 3, 4, 6]
    assert run.spikes.tolist() == [1, 3, 4, 6]
    (layer,) = run.layers
    assert (layer.name, layer.neurons, layer.events, layer.spikes) == ("1", 3, 6, 6)
    assert float(layer.threshold) == 1


def test_wide_and_negative_spikes_by_hand():
    """A coefficient of 3 is one event and three spikes; a −1 is an event and a spike."""
    wide, x = unit(3.0, 2.5, neuron=Augmented(levels=1, v0=0.0))
    run = wide(x, 2)
    assert run.events.tolist() == [2, 4]
    assert run.spikes.tolist() == [5, 11]
    signed, _ = unit(1.0, neuron=Ternary(v0=0.0))
    frames = torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64).reshape(3, 1, 1)
    run = signed(frames, 3, coding=Frames())
    assert run.events.tolist() == [1, 2, 2]
    assert run.spikes.tolist() == [1, 2, 2]


def test_events_are_a_mean_over_the_images():
    net, _ = unit(1.0)
    run = net(torch.tensor([[1.0], [0.0]], dtype=torch.float64), 2)
    assert run.events.tolist() == [0.5, 1.0]
    assert run.layers[0].events == 2


@pytest.mark.parametrize("neuron", [IF(), Ternary(negative=0.0), Augmented(levels=4)], ids=str)
def test_counts_are_those_of_the_recorded_coefficients(neuron):
    net = convert(reference.make(), torch.rand(30, 1, 8, 8, dtype=torch.float64), neuron)
    run = net(torch.rand(6, 1, 8, 8, dtype=torch.float64), 5, record=LAYERS, batch=4)
    coefficients = {name: run.trace[name].coefficient for name in LAYERS}
    sums = [c.flatten(1) for c in coefficients.values()]
    events = sum((c != 0).sum(1) for c in sums).cumsum(0).double() / 6
    spikes = sum(c.abs().sum(1) for c in sums).cumsum(0) / 6
    assert torch.equal(run.events, events)
    assert torch.equal(run.spikes, spikes)
    for layer in run.layers:
        assert layer.events == int((coefficients[layer.name] != 0).sum())
        assert layer.spikes == int(coefficients[layer.name].abs().sum())
        assert layer.neurons == coefficients[layer.name][0, 0].numel()


def test_accuracy_and_agreement_by_hand():
    x = torch.tensor([[1.0], [0.5], [0.25]], dtype=torch.float64)
    net = convert(_switch(), x, IF(v0=0.0), balance=Max())
    run = net(x, 4)
    assert run.predictions.tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 0], [1, 1, 1]]
    assert run.accuracy(torch.tensor([1, 1, 1])).tolist() == pytest.approx([1 / 3, 2 / 3, 2 / 3, 1])
    assert run.accuracy(torch.tensor([0, 0, 0])).tolist() == pytest.approx([2 / 3, 1 / 3, 1 / 3, 0])
    ann = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    assert torch.equal(run.agreement(ann), run.accuracy(torch.ones(3, dtype=torch.int64)))
    assert len(run) == 3


def _switch() -> nn.Module:
    """Answers 1 once the one neuron has sent anything, 0 before."""
    ann = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU(), nn.Linear(1, 2)).double().eval()
    with torch.no_grad():
        ann[0].weight.fill_(1.0)
        ann[2].weight.copy_(torch.tensor([[0.0], [1.0]]))
        ann[2].bias.copy_(torch.tensor([0.01, 0.0]))
    return ann


def test_first_confident_by_hand():
    x = torch.tensor([[1.0], [0.5], [0.25]], dtype=torch.float64)
    run = convert(_switch(), x, IF(v0=0.0), balance=Max())(x, 4)
    probability = run.logits.softmax(-1).amax(-1)  # 0.7 once it fires in every step, ½ before
    found = run.first_confident(0.6)
    for i in range(3):
        confident = (probability[:, i] >= 0.6).nonzero().flatten().tolist()
        assert int(found.step[i]) == (confident[0] + 1 if confident else 4)
        assert int(found.prediction[i]) == int(run.predictions[int(found.step[i]) - 1, i])
    assert found.step.tolist() == [1, 2, 4]
    assert found.prediction.tolist() == [1, 1, 1]
    assert run.first_confident(1.0).step.tolist() == [4, 4, 4]


def test_logits_are_the_mean_input_of_the_last_layer():
    net = convert(reference.make(), torch.rand(30, 1, 8, 8, dtype=torch.float64), IF())
    run = net(torch.rand(3, 1, 8, 8, dtype=torch.float64), 6, record=("relu4",))
    message = run.trace["relu4"].coefficient * net.thresholds["relu4"]
    fc = net.reference.fc2
    with torch.no_grad():
        expected = torch.stack([fc(message[: t + 1].mean(0)) for t in range(6)])
    assert torch.allclose(run.logits, expected, rtol=0, atol=1e-12)


def test_wrong_number_of_answers_is_named():
    net, x = unit(1.0)
    run = net(x, 2)
    with pytest.raises(ValueError, match=r"labels.*1 images"):
        run.accuracy(torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="ann_logits"):
        run.agreement(torch.zeros(3, 2))
