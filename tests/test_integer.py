"""Whole-number networks: whole everywhere, the same bits however computed, close to the network."""

import pytest
import reference
import torch
from torch import nn

from snnlib import (
    IF,
    Augmented,
    Bernoulli,
    Constant,
    ConversionError,
    Percentile,
    Ternary,
    convert,
    kernels,
)
from snnlib.graph import apply

LAYERS = ("relu1", "relu2", "relu3", "relu4")
NEURONS = [
    IF(),
    Ternary(negative=0.0),
    Augmented(levels=4),
    Augmented(levels=4, negative=0.0),
    Augmented(levels=4, negative=0.3, v0=0.3, cap=3),
]


def images(count, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 1, 8, 8, generator=generator)


@pytest.fixture(scope="module")
def base():
    """Batch norm, a residual sum, max and average pooling."""
    return convert(reference.make().float(), images(40, 2), Augmented(levels=4), Percentile(99.0))


def slowly(net, x, steps):
    """The same network in int64: sums of products of whole numbers, one output at a time."""
    graph, neuron = net.graph, net.neuron
    states, sums, sent, total, logits = {}, {}, {}, 0, []
    for _ in range(steps):
        values = {}
        for node in graph.nodes.values():
            inputs = [values[name] for name in node.inputs]
            if node.op == "input":
                value = x.double()
            elif node.op == "conv":
                value = _convolve(node, inputs[0])
            elif node.op == "linear":
                weight, bias = node.tensors["weight"].long(), node.tensors["bias"].long()
                value = ((inputs[0].long()[:, None] * weight).sum(-1) + bias).double()
            elif node.kind == "spiking":
                theta = net.thresholds[node.name]
                if node.name not in states:
                    start = neuron.initial(inputs[0], theta)
                    states[node.name] = start._replace(potential=start.potential.round())
                value, states[node.name] = neuron.step(states[node.name], inputs[0], theta)
            elif node.kind == "max":
                sums[node.name] = sums.get(node.name, 0) + inputs[0]
                largest = apply(node, [sums[node.name]])
                value, sent[node.name] = largest - sent.get(node.name, 0), largest
            else:
                value = apply(node, inputs)
            values[node.name] = value
            assert torch.equal(value, value.round()) or node.op == "input"
        total = total + values[graph.output]
        logits.append(total)
    return torch.stack(logits)


def _convolve(node, x):
    a, weight = node.attrs, node.tensors["weight"].long()
    patches = nn.functional.unfold(
        x, weight.shape[2:], a["dilation"], a["padding"], a["stride"]
    ).long()
    value = (weight.flatten(1)[None, :, :, None] * patches[:, None]).sum(2)
    if (bias := node.tensors.get("bias")) is not None:
        value = value + bias.long()[:, None]
    side = int(value.shape[2] ** 0.5)
    return value.reshape(*value.shape[:2], side, side).double()


@pytest.mark.parametrize("neuron", NEURONS, ids=str)
def test_the_run_is_integer_arithmetic(base, neuron):
    """Against int64 sums of products: the logits are the same numbers, not close ones."""
    net = base.replace(neuron=neuron).quantize()
    x, steps = torch.cat([images(3), torch.ones(1, 1, 8, 8)]), 6
    run = net(x, steps, record=LAYERS)
    times = torch.arange(1, steps + 1).double()[:, None, None]
    assert torch.equal(run.logits, slowly(net, x, steps) * net.output_unit / times)
    for name in LAYERS:
        assert torch.equal(run.trace[name].potential, run.trace[name].potential.round())
    assert sum(float(run.trace[name].coefficient.abs().sum()) for name in LAYERS) > 100


def test_everything_is_whole_and_in_range(base):
    net = base.quantize()
    for node in net.graph.nodes.values():
        for value in node.tensors.values():
            assert torch.equal(value, value.round())
        if node.kind == "weighted":
            weight = node.tensors["weight"]
            assert float(weight.abs().max()) == 127
            exact = 2**24 if weight.dtype == torch.float32 else 2**53
            assert net.sums[node.name] < exact
    for theta in net.thresholds.values():
        assert torch.equal(theta, theta.round())
        assert (theta >= 1).all()


@pytest.mark.parametrize("neuron", [Augmented(levels=4), Augmented(2, negative=0.0)], ids=str)
def test_the_sums_stay_below_what_was_foreseen(neuron):
    """Worst case: weights of one sign and images of ones drive every sum to its bound."""
    torch.manual_seed(0)
    ann = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(96, 3)
    ).eval()
    with torch.no_grad():
        for parameter in ann.parameters():
            parameter.abs_()
    net = convert(ann, images(20), neuron).quantize(cap=2)
    seen = {}
    ones = torch.ones(1, 1, 8, 8)

    def most(node, z):
        return torch.full_like(z, 2.0)

    net.graph.evaluate(ones, activation=most, visit=lambda n, v: seen.update({n.name: v}))
    for name, bound in net.sums.items():
        assert float(seen[name].abs().max()) == bound


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
def test_same_bits_for_every_batch_and_thread_count(base):
    x, before = images(13), torch.get_num_threads()
    net = base.quantize()
    expected = net(x, 9, batch=13)
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            for batch in (1, 5, 13):
                run = net(x, 9, batch=batch)
                assert torch.equal(run.logits, expected.logits)
                assert torch.equal(run.events, expected.events)
                assert torch.equal(run.synops().total, expected.synops().total)
            with torch.backends.mkldnn.flags(enabled=False):
                assert torch.equal(net(x, 9).logits, expected.logits)
    finally:
        torch.set_num_threads(before)


def test_compiled_and_plain_kernels_agree(base, monkeypatch):
    net, x = base.quantize(), images(7)
    fast = net(x, 8)
    monkeypatch.setattr(kernels, "compiled", lambda: None)
    assert torch.equal(net(x, 8).logits, fast.logits)
    assert torch.equal(net(x, 8).events, fast.events)


@pytest.mark.parametrize("neuron", NEURONS[2:], ids=str)
def test_close_to_the_network_it_came_from(base, neuron):
    net = base.replace(neuron=neuron)
    x = (images(60, 5) * 255).round() / 255
    exact, whole = net(x, 64).logits[-1].double(), net.quantize()(x, 64).logits[-1]
    assert float((exact - whole).abs().max() / exact.abs().max()) < 0.05
    fine = net.quantize(weight_bits=14)(x, 64).logits[-1]
    assert float((exact - fine).abs().max()) < float((exact - whole).abs().max()) + 0.02
    assert float((exact.argmax(1) == fine.argmax(1)).double().mean()) > 0.95


def test_uint8_images_are_the_images(base):
    net, pixels = base.quantize(), (images(5) * 255).round().to(torch.uint8)
    assert torch.equal(net(pixels, 4).logits, net(pixels.float() / 255, 4).logits)
    assert torch.equal(net(pixels, 4).logits, net(pixels.double() / 255, 4).logits)


def test_bernoulli_input_early_exit_and_only_last(base):
    net, x = base.quantize(), images(8)
    coding = Bernoulli(seed=1)
    assert torch.equal(net(x, 6, coding=coding).logits, net(x, 6, coding=coding, batch=3).logits)
    run = net(x, 6)
    found, expected = net.decide(x, 0.5, 6), run.first_confident(0.5)
    assert torch.equal(found.step, expected.step)
    assert torch.equal(found.prediction, expected.prediction)
    assert torch.equal(net(x, 6, only_last=True).logits[0], run.logits[-1])
    assert torch.equal(net(x, 6, coding=Constant()).logits, run.logits)
    assert net.ann(x).shape == (8, 3)


@pytest.mark.parametrize("name", ["digits-cnn"])
def test_accuracy_of_a_trained_network(name):
    from snnlib import data, models

    train, test = data.load("digits")
    net = convert(models.load(name), data.to_float(train.images), Augmented(4, negative=0.0))
    x, y = data.to_float(test.images), test.labels
    real, whole = net(x, 8).accuracy(y)[-1], net.quantize()(x, 8).accuracy(y)[-1]
    assert abs(float(real - whole)) <= 1.5 / len(y), "more than one image of difference"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda net: net.quantize(weight_bits=1), ["weight_bits=1", "2 to 16"]),
        (lambda net: net.quantize(weight_bits=8.0), ["weight_bits=8.0"]),
        (lambda net: net.replace(neuron=IF()).quantize(cap=3), ["cap=3", "IF"]),
        (lambda net: net.quantize().quantize(), ["quantized already"]),
        (lambda net: net.quantize().to(torch.float16), ["dtype"]),
        (lambda net: net.quantize().replace(neuron=IF()), ["net.source.replace"]),
        (lambda net: net.quantize().save("x"), ["net.source.save"]),
        (lambda net: net.quantize()(images(2) * 2, 3), ["[0, 1]"]),
        (lambda net: net.quantize(weight_bits=16, cap=2**40), ["2^53"]),
    ],
)
def test_wrong_calls_say_what_and_what_to_do(base, call, words):
    with pytest.raises((ValueError, ConversionError)) as caught:
        call(base)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_bounded_activations_are_refused():
    net = convert(reference.make(True).float(), images(10), Augmented(levels=2))
    with pytest.raises(ConversionError, match=r"bounded activation"):
        net.quantize()
