"""Radix code: bit for bit the rounded network, whatever the base; digits of maxima; costs."""

import math

import pytest
import torch
from reference import make
from torch import nn

import snnlib as snn
from snnlib import codes
from snnlib.codes import Radix
from snnlib.codes.radix import digits
from snnlib.codes.stream import Clock, added, changes, flow


@pytest.fixture(scope="module")
def digits_net():
    train, test = snn.data.load("digits")
    images, x = (snn.data.to_float(split.images[:200]) for split in (train, test))
    return snn.convert(snn.models.load("digits-cnn"), images), x[:12]


def random_net(seed, bounded=False):
    """Batch norm, max and average pooling, a residual sum, biases everywhere."""
    x = torch.rand(30, 1, 8, 8, generator=torch.Generator().manual_seed(seed)).double()
    balance = snn.Percentile(99.0)  # what lies above is clipped, in both
    return snn.convert(make(bounded, seed), x, balance=balance), x[:7]


@pytest.mark.parametrize("bits", range(1, 9))
def test_the_answer_is_that_of_the_rounded_network_bit_for_bit(digits_net, bits):
    net, x = digits_net
    for radix in (2, 3, 4):
        if radix > 2**bits:
            continue
        coded = Radix(net, bits, radix)
        assert radix ** (coded.digits - 1) < 2**bits <= radix**coded.digits
        assert torch.equal(coded(x).logits, coded.net(x, 1).logits)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("bounded", [False, True])
def test_so_it_is_on_random_networks(seed, bounded):
    net, x = random_net(seed, bounded)
    for bits, radix in ((1, 2), (3, 2), (4, 3), (5, 4), (6, 7), (8, 2)):
        coded = Radix(net, bits, radix)
        run = coded(x, batch=3)
        assert torch.equal(run.logits, coded.net(x, 1).logits)
        assert torch.equal(run.logits, coded(x, batch=7).logits)
    assert len(run) == 7


@pytest.mark.parametrize("radix", [2, 3, 4, 10])
def test_digits_are_found_by_comparing_and_subtracting(radix):
    """As a neuron does it: the potential against θ r^(T−t), the most significant first."""
    count, rest = 4, torch.arange(radix**4 if radix < 10 else 2000).double()
    found = digits(rest, radix, count)
    assert torch.equal(added(found, radix)[-1], rest)
    for t in range(count):
        place = radix ** (count - 1 - t)
        sent = sum((rest >= k * place).double() for k in range(1, radix))
        assert torch.equal(found[t], sent)
        rest = rest - sent * place
    assert not rest.any()


@pytest.mark.parametrize("radix", [2, 3])
def test_a_maximum_is_sent_digit_by_digit(radix):
    """No step waits for a later one: what is sent of the largest number are its digits."""
    count = 5
    numbers = torch.randint(radix**count, (40, 6), generator=torch.Generator().manual_seed(1))
    planes = digits(numbers.double(), radix, count)
    largest = added(planes, radix).amax(2)
    assert torch.equal(changes(largest, radix), digits(numbers.amax(1).double(), radix, count))


def test_constants_arrive_once():
    """A bias, and an image that goes past the first neurons, are in the sum one time."""
    net, x = random_net(0)
    graph = net.graph
    for base, at in ((1, 0), (2, 3)):
        clock = Clock(4, base, constant_at=at)

        def silent(node, planes):
            return torch.zeros_like(planes)

        out = flow(graph, x, clock, silent, lambda node, planes: None)
        quiet = graph.evaluate(x, lambda node, z: torch.zeros_like(z))
        torch.testing.assert_close(added(out, base)[-1], quiet, rtol=0, atol=1e-12)


def test_costs_are_those_of_the_digits(digits_net):
    net, x = digits_net
    layers = net.graph.spiking
    for radix in (2, 4):
        coded = Radix(net, 5, radix)
        run = coded(x, record=layers, batch=5)
        sent = [run.trace[name] for name in layers]
        assert sent[0].shape[:2] == (coded.digits, len(x))
        events = torch.stack([(planes != 0).flatten(1).sum(1) for planes in sent]).sum(0) / len(x)
        torch.testing.assert_close(run.events_by_step, events.double())
        assert float(run.events) == pytest.approx(float(events.sum()))
        assert float(run.spikes) == pytest.approx(sum(float(p.sum()) for p in sent) / len(x))
        synops, fan_outs = run.synops, coded.net.fan_outs
        total = sum(float(((run.trace[n] != 0) * fan_outs[n]).sum()) for n in layers) / len(x)
        assert float(synops.total) == pytest.approx(total)
        assert (float(synops.multiplications) > 0) == (radix > 2)
        assert synops.macs_first_layer == net(x, 1).synops().macs_first_layer
        assert 0 < float(run.bits) <= coded.digits * math.log2(radix)
        assert (run.latency, run.interval) == (len(layers) * coded.digits, coded.digits)


def test_the_longest_way_makes_the_latency():
    net, x = random_net(0)
    assert Radix(net, 5)(x).latency == 4 * 5  # relu1, relu2, relu3, relu4: the skip is shorter


def test_a_network_of_whole_numbers_is_taken_by_its_source(digits_net):
    net, x = digits_net
    assert torch.equal(Radix(net.quantize(), 3)(x).logits, Radix(net, 3)(x).logits)


class PooledFirst(nn.Module):
    """Max pooling of potentials: there is nothing to send yet."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu0 = nn.Conv2d(1, 2, 3, padding=1), nn.ReLU()
        self.conv1 = nn.Conv2d(2, 2, 3, padding=1)
        self.pool, self.relu = nn.MaxPool2d(2), nn.ReLU()
        self.flatten, self.fc = nn.Flatten(), nn.Linear(32, 3)

    def forward(self, x):
        """(B, 1, 8, 8) → (B, 3)."""
        x = self.relu(self.pool(self.conv1(self.relu0(self.conv(x)))))
        return self.fc(self.flatten(x))


@pytest.mark.parametrize("code", ["Radix", "FirstSpike", "Delta"])
def test_what_cannot_be_sent_is_refused_by_name(code):
    net = snn.convert(PooledFirst().eval(), torch.rand(4, 1, 8, 8))
    with pytest.raises(snn.ConversionError, match=r"pool \(max_pool\).*ReLU before the pooling"):
        getattr(codes, code)(net)


@pytest.mark.parametrize(
    "wrong", [{"bits": 0}, {"bits": 13}, {"radix": 1}, {"radix": 33}, {"weight_bits": 1}]
)
def test_arguments_out_of_range(digits_net, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Radix(digits_net[0], **{"bits": 5, **wrong})


CODES = {
    "digits": lambda net: Radix(net, 4),
    "changes": lambda net: codes.Delta(net, 4),
    "first spikes": lambda net: codes.FirstSpike(net),
    "first spikes in slots": lambda net: codes.FirstSpike(net, slots=8, overlap=4),
}


@pytest.mark.parametrize("code", CODES)
def test_layers_are_recorded_by_their_whole_names(digits_net, code):
    """A text is one name: no layer is meant because its name is a part of it."""
    net, x = digits_net
    coder = CODES[code](net)
    given = x[None] if code == "changes" else x
    assert coder(given, record="relu2").trace.keys() == {"relu2"}
    assert coder(given, record=None).trace == {}
    for wrong in ("relu12", ["relu1", "conv1"], ["nothing"]):
        with pytest.raises(ValueError, match="names no layer that sends: "):
            coder(given, record=wrong)


def test_accuracy_asks_for_one_label_an_image(digits_net):
    net, x = digits_net
    run, labels = Radix(net, 4)(x), torch.zeros(len(x), dtype=torch.int64)
    assert run.accuracy(labels.tolist()).shape == (1,)
    for wrong, words in (
        (labels[:, None], "labels: "), (labels[:3], "labels: "), (labels.float(), "torch.float32"),
        (labels.bool(), "torch.bool"), (labels + 10, "the classes 0 to 9"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            run.accuracy(wrong)


@pytest.mark.parametrize("code", CODES)
def test_one_value_an_image_has_no_classes(code):
    ann = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1)).eval()
    net = snn.convert(ann, torch.rand(20, 4), snn.IF())
    x = torch.rand(5, 4)
    run = CODES[code](net)(x[None] if code == "changes" else x)
    assert run.logits.shape[1:] == (5, 1)
    for asked in (lambda: run.predictions, lambda: run.accuracy(torch.zeros(5, dtype=int))):
        with pytest.raises(ValueError, match="one value and so no classes"):
            asked()
