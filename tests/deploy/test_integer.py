"""Whole-number networks: whole everywhere, the same bits however computed, close to the network."""

import json
import math
import subprocess
import sys
from fractions import Fraction

import pytest
import reference
import torch
from clocks import always_faster
from torch import nn

import snnlib
from snnlib import (
    IF,
    Augmented,
    Bernoulli,
    Constant,
    ConversionError,
    Percentile,
    Ternary,
    convert,
)
from snnlib.backend import updates
from snnlib.deploy import int8
from snnlib.graph.operations import apply

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
    return convert(
        reference.make().float(), images(40, 2), Augmented(levels=4), balance=Percentile(99.0)
    )


def slowly(net, x, steps):
    """The same network in int64: sums of products of whole numbers, one output at a time."""
    graph, neuron = net.graph, net.neuron
    states, sums, sent, total, logits = {}, {}, {}, 0, []
    for step in range(1, steps + 1):
        values = {}
        for node in graph.nodes.values():
            inputs = [values[name] for name in node.inputs]
            if node.op == "input":
                value = x.double()
            elif node.op in ("conv", "conv_int8"):
                value = _convolve(node, inputs[0])
            elif node.op == "linear":
                weight, bias = node.tensors["weight"].long(), node.tensors["bias"].long()
                value = ((inputs[0].long()[:, None] * weight).sum(-1) + bias).double()
            elif node.kind == "spiking":
                theta = net.thresholds[node.name]
                if node.name not in states:
                    start = neuron.initial(inputs[0], theta)
                    states[node.name] = start._replace(potential=start.potential.round())
                ceiling = _ceiling(node, theta, neuron.v0, step)
                value, states[node.name] = neuron.step(states[node.name], inputs[0], theta, ceiling)
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


def _ceiling(node, theta, v0, step):
    """floor(bound · t / θ + v0) in fractions: no rounding at all."""
    if (bound := node.attrs.get("bound")) is None:
        return None
    assert bound == int(bound)
    exact = Fraction(int(bound)) * step / Fraction(int(theta)) + Fraction(v0)
    return torch.tensor(float(math.floor(exact)), dtype=torch.float64)


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


def test_bits_of_eight_and_of_float32_agree(base, bounded, monkeypatch):
    """Convolutions in 8-bit instructions, where the machine has them, and in float32."""
    monkeypatch.setattr(int8, "time", always_faster())
    int8._pays.cache_clear()
    for source in (base, bounded):
        net, x = source.quantize(), images(7)
        assert {node.op for node in net.graph} >= {"conv", "conv_int8"}
        fast = net(x, 8, record=LAYERS)
        with monkeypatch.context() as without:
            without.setattr(int8, "_has_kernels", lambda: False)
            slow = net(x, 8, record=LAYERS)
        assert torch.equal(fast.logits, slow.logits)
        for name in LAYERS:
            assert torch.equal(fast.trace[name].potential, slow.trace[name].potential)


def test_compiled_and_plain_kernels_agree(base, monkeypatch):
    net, x = base.quantize(), images(7)
    fast = net(x, 8)
    monkeypatch.setattr(updates, "compiled", lambda: None)
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
    from snnlib.zoo import data, models

    train, test = data.load("digits")
    net = convert(models.load(name), data.to_float(train.images), Augmented(4, negative=0.0))
    x, y = data.to_float(test.images), test.labels
    real, whole = net(x, 8).accuracy(y)[-1], net.quantize()(x, 8).accuracy(y)[-1]
    assert abs(float(real - whole)) <= 1.5 / len(y), "more than one image of difference"


def deep_and_linear():
    """Sums of sums of sums: without a neuron in between nothing bounds them."""
    layers = [nn.Linear(8, 8) for _ in range(4)]
    return convert(nn.Sequential(*layers, nn.ReLU()).eval(), torch.rand(9, 8), Augmented())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda net: net.quantize(weight_bits=1), ["weight_bits=1", "2 to 16"]),
        (lambda net: net.quantize(weight_bits=8.0), ["weight_bits=8.0"]),
        (lambda net: net.replace(neuron=IF()).quantize(cap=3), ["cap=3", "IF"]),
        (lambda net: net.quantize().quantize(), ["quantized already"]),
        (lambda net: net.quantize().to(torch.float16), ["dtype"]),
        (lambda net: net.quantize().replace(neuron=IF()), ["net.source.replace"]),
        (lambda net: net.quantize().normalized(), ["net.source.normalized"]),
        (lambda net: net.quantize()(images(2) * 2, 3), ["[0, 1]"]),
        (lambda net: net.quantize(cap=2**24), ["cap=16777216", "2^24"]),
        (lambda net: deep_and_linear().quantize(weight_bits=16), ["2^53", "weight_bits"]),
    ],
)
def test_wrong_calls_say_what_and_what_to_do(base, call, words):
    with pytest.raises((ValueError, ConversionError)) as caught:
        call(base)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.fixture(scope="module")
def bounded():
    return convert(reference.make(True).float(), images(40, 2), Augmented(levels=4))


@pytest.mark.parametrize("neuron", [*NEURONS, IF(v0=0.0), IF(reset="zero")], ids=str)
def test_bounded_activations_in_integer_arithmetic(bounded, neuron, monkeypatch):
    net = bounded.replace(neuron=neuron).quantize()
    x, steps = torch.cat([images(3), torch.ones(1, 1, 8, 8)]), 9
    run = net(x, steps, record=LAYERS)
    times = torch.arange(1, steps + 1).double()[:, None, None]
    if getattr(neuron, "reset", "subtract") == "subtract":
        assert torch.equal(run.logits, slowly(net, x, steps) * net.output_unit / times)
    counts = run.trace["relu1"].coefficient.cumsum(0)
    node, theta = net.graph.nodes["relu1"], net.thresholds["relu1"]
    for step in range(1, steps + 1):
        assert bool((counts[step - 1] <= _ceiling(node, theta, neuron.v0, step)).all())
    last = _ceiling(node, theta, neuron.v0, steps)
    if isinstance(neuron, Augmented) and neuron.cap is None:
        assert bool((counts[-1] == last).any()), "no neuron reached its ceiling"
    assert torch.equal(net(x, steps).logits, run.logits)
    assert torch.equal(net(x, steps, batch=1).logits, run.logits)
    monkeypatch.setattr(updates, "compiled", lambda: None)
    assert torch.equal(net(x, steps).logits, run.logits)


def test_the_ceiling_of_a_bounded_network_is_that_of_the_real_one(bounded):
    net = bounded.quantize()
    real, whole = (bounded.graph.nodes["relu1"].attrs["bound"], net.graph.nodes["relu1"].attrs)
    theta = net.thresholds["relu1"]
    assert theta.numel() == 1
    assert math.log2(float(theta)).is_integer()
    ratio = float(real / bounded.thresholds["relu1"])
    assert whole["bound"] / float(theta) == pytest.approx(ratio, rel=2e-3)
    x = (images(60, 5) * 255).round() / 255
    exact, found = bounded(x, 64).logits[-1].double(), net(x, 64).logits[-1]
    assert float((exact - found).abs().max() / exact.abs().max()) < 0.05


def test_bounded_activations_with_a_threshold_a_channel_say_what_to_do():
    net = convert(reference.make(True).float(), images(10), Augmented(2), per_channel=True)
    with pytest.raises(ConversionError, match=r"relu1.*per_channel=False"):
        net.quantize()


@pytest.mark.parametrize("pool", [nn.AvgPool2d(8), nn.AdaptiveAvgPool2d(1)], ids=str)
def test_sums_beyond_float32_are_added_in_float64(pool):
    """The last convolution does not need float64, but the pooling of its outputs does."""
    torch.manual_seed(0)
    ann = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 3, 3, padding=1), pool, nn.Flatten()
    ).eval()
    with torch.no_grad():
        for parameter in ann.parameters():
            parameter.abs_()
    net = convert(ann, images(20), Augmented(4)).quantize(weight_bits=15)
    assert net.graph.nodes["2"].tensors["weight"].dtype == torch.float32
    x = 1 - images(5) / 50
    whole = slowly(net, x, 3)
    assert whole.max() > 2**24
    times = torch.arange(1, 4).double()[:, None, None]
    assert torch.equal(net(x, 3).logits, whole * net.output_unit / times)


def test_a_calibrated_bias_stays_exact(base):
    """The bias current is eight times finer than the sums that it is added to."""
    net = convert(
        reference.make().float(), images(40, 2), Augmented(4), calibrate_bias=True
    ).quantize(weight_bits=12)  # fmt: skip
    assert any(node.attrs.get("correction") for node in net.graph.nodes.values())
    x = images(4)
    expected = slowly(net, x, 3) * net.output_unit / torch.arange(1, 4).double()[:, None, None]
    assert torch.equal(net(x, 3).logits, expected)


def test_max_pooling_of_sums_beyond_float32_is_refused():
    ann = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(27, 3)
    ).eval()
    net = convert(ann, images(10), Augmented(4))
    net.quantize()
    with pytest.raises(ConversionError, match=r"max_pool.*2\^24.*weight_bits"):
        net.quantize(weight_bits=16)


def test_a_channel_without_weights_keeps_its_bias():
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3)).eval()
    with torch.no_grad():
        ann[0].weight[1] = 0
        ann[0].bias[1] = 0.3
    x = (images(10) * 255).round() / 255
    net = convert(ann, x, Augmented(4))
    real, whole = net(x, 16).logits[-1].double(), net.quantize()(x, 16).logits[-1]
    assert float((real - whole).abs().max() / real.abs().max()) < 0.03


@pytest.mark.parametrize("kind", ["base", "bounded"])
def test_saved_and_loaded_to_the_bit(kind, request, tmp_path):
    net = request.getfixturevalue(kind).quantize()
    again = snnlib.load(net.save(tmp_path / "net.safetensors"))
    assert again.network.whole is not None
    x = images(9)
    for value, other in (
        (net(x, 7).logits, again(x, 7).logits),
        (net(x, 7).events, again(x, 7).events),
        (net.source(x, 7).logits, again.source(x, 7).logits),
        (net.ann(x), again.ann(x)),
        (net.output_unit, again.output_unit),
    ):
        assert torch.equal(value, other)
    assert again.sums == net.sums
    assert again.neuron == net.neuron


def test_a_fresh_process_loads_and_computes_the_same(base, tmp_path):
    net, x = base.quantize(), images(3)
    net.save(tmp_path / "net.safetensors")
    torch.save(x, tmp_path / "x.pt")
    program = (
        "import sys, torch, snnlib; net = snnlib.load(sys.argv[1]); x = torch.load(sys.argv[2]);"
        "print((net(x, 5).logits * 5 / net.output_unit).round().long()[-1].tolist())"
    )
    call = [
        sys.executable,
        "-c",
        program,
        str(tmp_path / "net.safetensors"),
        str(tmp_path / "x.pt"),
    ]
    answer = subprocess.run(call, capture_output=True, text=True, check=True)
    expected = (net(x, 5).logits * 5 / net.output_unit).round().long()[-1]
    assert json.loads(answer.stdout) == expected.tolist()


def test_weights_are_stored_as_integers(base, tmp_path):
    from safetensors import safe_open

    path = base.quantize().save(tmp_path / "net.safetensors")
    with safe_open(str(path), "pt") as file:
        held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    weights = [v for k, v in held.items() if k.startswith("whole/") and k.endswith("/weight")]
    assert len(weights) == 5
    assert all(value.dtype == torch.int8 for value in weights)
    rest = [v for k, v in held.items() if k.startswith("whole/") and "output_unit" not in k]
    assert all(not value.is_floating_point() for value in rest)


def test_a_damaged_whole_number_file_is_noticed(base, tmp_path):
    path = base.quantize().save(tmp_path / "net.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(snnlib.CheckpointError, match="damaged"):
        snnlib.load(path)
