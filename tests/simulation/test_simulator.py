"""The simulator: memory and batches change no result, nothing is left behind, errors help."""

import copy
import itertools

import pytest
import reference
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from snnlib import (
    IF,
    Augmented,
    Bernoulli,
    Constant,
    ConversionError,
    Frames,
    Max,
    Percentile,
    Ternary,
    convert,
)

LAYERS = ("relu1", "relu2", "relu3", "relu4")
ALL_NEURONS = [
    IF(),
    IF(reset="zero"),
    Ternary(),
    Ternary(negative=0.0),
    Augmented(levels=4),
    Augmented(levels=4, negative=0.0),
    Augmented(levels=4, negative=0.0, cap=2),
]


def images(count, seed=1, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 1, 8, 8, generator=generator, dtype=torch.float64).to(dtype)


@pytest.fixture(scope="module")
def base():
    return convert(
        reference.make(), images(40, seed=2), Augmented(levels=4), balance=Percentile(99.0)
    )


def sequential(*layers):
    torch.manual_seed(0)
    return nn.Sequential(*layers).double().eval()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.sampled_from(ALL_NEURONS), st.integers(1, 12), st.sampled_from(["constant", "bernoulli"]))
def test_chunked_is_unchunked(base, neuron, batch, coding):
    net, x = base.replace(neuron=neuron), images(11)
    code = Constant() if coding == "constant" else Bernoulli(seed=4)
    whole = net(x, 5, coding=code, record=LAYERS, batch=11)
    parts = net(x, 5, coding=code, record=LAYERS, batch=batch)
    for name in LAYERS:
        assert torch.equal(whole.trace[name].coefficient, parts.trace[name].coefficient)
    assert torch.equal(whole.events, parts.events)
    assert torch.equal(whole.spikes, parts.spikes)
    assert torch.equal(whole.synops().total, parts.synops().total)
    assert torch.allclose(whole.logits, parts.logits, rtol=0, atol=1e-12)


def test_bernoulli_parts_of_a_data_set_are_the_whole(base):
    x, coding = images(9), Bernoulli(seed=7)
    whole = base(x, 6, coding=coding).logits
    parts = [base(x[:4], 6, coding=coding), base(x[4:], 6, coding=coding, first=4)]
    assert torch.allclose(whole, torch.cat([p.logits for p in parts], 1), rtol=0, atol=1e-12)
    other = base(x, 6, coding=Bernoulli(seed=8)).logits
    assert not torch.allclose(whole, other, rtol=0, atol=1e-3)


@pytest.mark.parametrize("neuron", [n for n in ALL_NEURONS if n != IF(reset="zero")], ids=str)
def test_charge_is_conserved_in_every_layer_of_a_network(base, neuron):
    """θN_T = V_0 + Σz − V_T with z taken from the layers before, as the graph connects them."""
    net = base.replace(neuron=neuron)
    ann, x, steps = net.reference, images(4), 7
    run = net(x, steps, record=LAYERS)
    theta = net.thresholds
    sums = {k: run.trace[k].coefficient.sum(0) * theta[k] for k in LAYERS}  # Σ messages
    pooled = ann.maxpool(sums["relu1"])

    def through(layer, bn, value):
        """Σ over the steps of a weighted layer and its batch norm: offsets count T times."""
        return bn(layer(value / steps)) * steps

    with torch.no_grad():
        summed = {
            "relu1": through(ann.conv1, ann.bn1, x * steps),
            "relu2": through(ann.conv2, ann.bn2, pooled),
            "relu3": through(ann.conv3, ann.bn3, sums["relu2"]) + pooled,
            "relu4": ann.fc1(ann.flatten(ann.avgpool(sums["relu3"] / steps))) * steps,
        }
    for name in LAYERS:
        held = run.trace[name].potential[-1] + sums[name]
        assert torch.allclose(held, neuron.v0 * theta[name] + summed[name], rtol=0, atol=1e-10)


@given(st.integers(0, 10**6), st.integers(2, 3), st.integers(1, 3))
@settings(max_examples=20)
def test_max_pooling_is_exact_on_cumulative_sums_of_signed_spikes(seed, size, stride):
    """After the pooling Σ messages = max of Σ messages, at every step."""
    torch.manual_seed(seed)
    ann = sequential(
        nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(size, stride), nn.Flatten(), nn.LazyLinear(4)
    )
    frames = torch.randn(6, 2, 1, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        ann(frames[0])
    net = convert(ann, frames[0], Ternary(negative=0.0), balance=Max())
    run = net(frames, 6, coding=Frames(), record=("1",))
    summed = run.trace["1"].coefficient.cumsum(0) * net.thresholds["1"]
    for t in range(6):
        with torch.no_grad():
            pooled = F.max_pool2d(summed[t], size, stride)
            expected = ann[4](ann[3](pooled) / (t + 1))
        assert torch.allclose(run.logits[t], expected, rtol=0, atol=1e-12)
    assert (run.trace["1"].coefficient < 0).any(), "without a negative spike it shows nothing"


@pytest.mark.parametrize("neuron", ALL_NEURONS, ids=str)
def test_bounded_activations_bound_the_count(neuron):
    ann = sequential(nn.Linear(4, 64), nn.ReLU6(), nn.Linear(64, 3))
    with torch.no_grad():
        ann[0].weight.mul_(12)
    x = torch.rand(50, 4, dtype=torch.float64)
    net = convert(ann, x, neuron, balance=Percentile(75.0))
    run = net(x, 9, record=("1",))
    counts, theta = run.trace["1"].coefficient.cumsum(0), net.thresholds["1"]
    for t in range(1, 10):
        ceiling = torch.floor(6 * t / theta + neuron.v0)
        assert (counts[t - 1] >= 0).all()
        assert (counts[t - 1] <= ceiling).all()
    with torch.no_grad():
        assert (ann[1](ann[0](x)) == 6).any(), "no unit at its bound: the test shows nothing"


def test_a_call_leaves_nothing_behind(base):
    x = images(5)
    weights = copy.deepcopy(base.reference.state_dict())
    before = x.clone()
    first = base(x, 6)
    base(images(7, seed=9), 3)
    again = base(x, 6)
    assert torch.allclose(first.logits, again.logits, rtol=0, atol=1e-12)
    assert torch.equal(first.events, again.events)
    assert torch.equal(x, before)
    after = base.reference.state_dict()
    assert all(torch.equal(weights[name], after[name]) for name in weights)


def test_frames_that_stay_the_same_are_constant_input(base):
    x = images(3)
    frames = x[None].expand(5, *x.shape)
    run = base(frames, 5, coding=Frames(), batch=2)
    assert torch.allclose(run.logits, base(x, 5).logits, rtol=0, atol=1e-12)
    assert torch.equal(run.events, base(x, 5).events)


@pytest.mark.parametrize("neuron", ALL_NEURONS, ids=str)
def test_only_last_is_the_last_step_without_costs(base, neuron):
    net, x = base.replace(neuron=neuron), images(8)
    full, last = net(x, 6), net(x, 6, only_last=True)
    assert last.logits.shape == (1, 8, 3)
    assert torch.allclose(last.logits[0], full.logits[-1], rtol=0, atol=1e-10)
    assert last.steps == 6
    assert last.events is None
    assert last.spikes is None
    assert last.synops() is None
    assert last.layers == []
    labels = torch.zeros(8, dtype=torch.int64)
    assert last.accuracy(labels).shape == (1,)
    with pytest.raises(ValueError, match="without only_last"):
        last.first_confident(0.5)


def test_only_last_of_memoryless_neurons_costs_one_pass(base, monkeypatch):
    net = base.replace(neuron=Augmented(levels=4, negative=0.0))
    passed = []
    evaluate = type(net.graph).evaluate

    def counted(graph, x, **options):
        passed.append(len(x))
        return evaluate(graph, x, **options)

    monkeypatch.setattr(type(net.graph), "evaluate", counted)
    net(images(4), 1000, only_last=True)
    assert sum(passed) == 4  # images, whatever number of threads shares them


def test_only_last_with_bernoulli_input_is_the_mean_of_the_spikes(base):
    net, x = base.replace(neuron=Augmented(levels=4, negative=0.0)), images(8)
    coding = Bernoulli(seed=2)
    full = net(x, 9, coding=coding)
    last = net(x, 9, coding=coding, only_last=True, batch=3)
    assert torch.allclose(last.logits[0], full.logits[-1], rtol=0, atol=1e-10)


@pytest.mark.parametrize("confidence", [0.4, 0.6, 0.99])
def test_decide_is_first_confident_of_the_whole_run(base, confidence):
    x = images(20)
    run = base(x, 10)
    expected = run.first_confident(confidence)
    for batch in (1, 7, None):
        found = base.decide(x, confidence, max_steps=10, batch=batch)
        assert torch.equal(found.step, expected.step)
        assert torch.equal(found.prediction, expected.prediction)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_reduced_precision_keeps_wide_potentials(dtype):
    ann = reference.make().float()
    net = convert(ann, images(40, 2, torch.float32), Augmented(levels=4, negative=0.0)).to(dtype)
    x = images(6, dtype=dtype)
    run = net(x, 16, record=LAYERS)
    assert net.dtype == dtype
    assert run.trace["relu1"].potential.dtype == torch.float32
    assert all(theta.dtype == torch.float32 for theta in net.thresholds.values())
    exact = convert(reference.make(), images(40, 2), Augmented(levels=4, negative=0.0))
    reached = exact(images(6), 16).logits[-1]
    error = (run.logits[-1].double() - reached).abs().max() / reached.abs().max()
    assert error < {torch.float32: 0.02, torch.float16: 0.1, torch.bfloat16: 0.1}[dtype]


def test_memory_limit_sets_the_batch_and_not_the_result(base):
    x = images(64)
    sizes = [base.chunk(len(x), memory) for memory in ("80KB", "200KB", "1MB", "1GB")]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1] == 64
    small, large = base(x, 4, memory="80KB"), base(x, 4, memory="1GB")
    assert torch.equal(small.events, large.events)
    assert torch.allclose(small.logits, large.logits, rtol=0, atol=1e-12)
    assert base.chunk(64, 80_000) == base.chunk(64, "80KB") == base.chunk(64, "80 kb")


def test_record_keeps_what_was_asked_for_and_nothing_else(base):
    run = base(images(5), 4, record=("relu2",), batch=2)
    assert list(run.trace) == ["relu2"]
    trace = run.trace["relu2"]
    assert trace.potential.shape == trace.coefficient.shape == (4, 5, 4, 4, 4)
    assert base(images(5), 4).trace == {}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda net: net(images(2), 0), ["steps=0", "at least 1"]),
        (lambda net: net(images(2), 2.5), ["steps=2.5"]),
        (lambda net: net(images(2), True), ["steps=True"]),
        (lambda net: net(images(2), 3, record=("relu9",)), ["relu9", "relu1, relu2"]),
        (lambda net: net(images(2), 3, record=("relu1",), only_last=True), ["record", "only_last"]),
        (lambda net: net(images(2), 3, memory="12 parsecs"), ["12 parsecs", "512MB"]),
        (lambda net: net(images(2), 3, memory="1B"), ["less than one image needs"]),
        (lambda net: net(images(2), 3, memory=0), ["memory=0"]),
        (lambda net: net(images(2), 3, batch=0), ["batch=0"]),
        (lambda net: net(images(2), 3, batch=1.5), ["batch=1.5"]),
        (lambda net: net.decide(images(2), 0, 3), ["confidence=0"]),
        (lambda net: net.decide(images(2), 0.5, 0), ["max_steps=0"]),
        (lambda net: net.decide(images(2), 0.5, 3, batch=0), ["batch=0"]),
        (lambda net: net.decide(images(9), 0.4, 9, coding=Bernoulli()), ["constant input"]),
        (lambda net: net(images(2) * 2, 3, coding=Bernoulli()), ["[0, 1]", "Constant()"]),
        (
            lambda net: net(images(2)[None], 3, coding=Frames()),
            ["1 frames", "steps=3"],
        ),
        (lambda net: net(images(2)[:, :, :7], 3), ["(2, 1, 7, 8)", "1, 8, 8"]),
        (lambda net: net(images(2)[0], 3), ["(1, 8, 8)"]),
        (lambda net: net(images(2)[:0], 3), ["(0, 1, 8, 8)", "B ≥ 1"]),
        (lambda net: net((images(2) * 255).to(torch.uint8), 3), ["uint8", "to_float"]),
        (lambda net: net([[1.0]], 3), ["list"]),
        (lambda net: net(images(2) / 0, 3), ["NaN or infinite"]),
        (lambda net: net(images(2, dtype=torch.float64).to("meta"), 3), ["meta", ".to("]),
        (lambda net: net(images(2), 3).first_confident(0), ["confidence=0"]),
        (lambda net: net(images(2), 3).first_confident(1.5), ["confidence=1.5"]),
        (lambda net: net(images(2), 3).accuracy(torch.zeros(3)), ["labels", "2 images"]),
    ],
)
def test_wrong_calls_say_what_and_what_to_do(base, call, words):
    with pytest.raises((ValueError, ConversionError)) as caught:
        call(base)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_float64_counts_do_not_depend_on_dtype_of_the_caller(base):
    x = images(4).float()
    assert torch.equal(base(x, 4).events, base(x.double(), 4).events)


@pytest.mark.cuda
@pytest.mark.parametrize("neuron", ALL_NEURONS, ids=str)
def test_cuda_counts_are_the_cpu_counts(base, neuron):
    net, x = base.replace(neuron=neuron), images(16)
    expected = net(x, 8, record=LAYERS, coding=Bernoulli(seed=1))
    there = copy.deepcopy(net).to("cuda")
    run = there(x.cuda(), 8, record=LAYERS, coding=Bernoulli(seed=1))
    for name in LAYERS:
        ours = run.trace[name].coefficient.cpu()
        assert torch.equal(ours, expected.trace[name].coefficient)


def test_steps_are_a_prefix_of_more_steps(base):
    """Steps are computed in blocks, and a product of other shape is summed in another order."""
    for neuron, steps in itertools.product(ALL_NEURONS, (1, 4)):
        net = base.replace(neuron=neuron)
        long, short = net(images(3), 6), net(images(3), steps)
        assert torch.allclose(long.logits[:steps], short.logits, rtol=0, atol=1e-12)
        assert torch.equal(long.events[:steps], short.events)
