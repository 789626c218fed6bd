"""Codes of networks, and calls of them, as strangers make them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import snnlib as snn
from snnlib.codes import Delta, FirstSpike, Radix

CODES: dict[str, Any] = {"radix": Radix, "delta": Delta, "first spike": FirstSpike}
X = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def converted(*between: nn.Module, **options: Any) -> snn.SpikingNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), *between, nn.Flatten())
        ann = nn.Sequential(*head, nn.Linear(head(X).shape[1], 3)).eval()
    return snn.convert(ann, X, **options)


def shown(code: str) -> torch.Tensor:
    return X[None] if code == "delta" else X


@pytest.mark.parametrize("code", CODES)
def test_biases_that_were_measured_for_other_neurons_have_no_part(code: str) -> None:
    plain = converted(neuron=snn.IF())
    corrected = converted(neuron=snn.IF(), calibrate_bias=True, calibration_steps=2)
    late = plain.replace(readout=snn.Mean(first=3))
    wanted = CODES[code](plain)(shown(code)).logits
    for net in (corrected, late):
        assert torch.equal(CODES[code](net)(shown(code)).logits, wanted)
    if code == "radix":
        coded = Radix(late)
        assert torch.equal(coded(X).logits, coded.net(X, 1).logits)


@pytest.mark.parametrize("code", CODES)
def test_what_may_be_recorded_is_recorded(code: str) -> None:
    """A maximum of the image is there from the first; a first spike has no maxima of its own."""
    for net in (converted(nn.MaxPool2d(2)), converted(nn.ZeroPad2d(1), nn.MaxPool2d(2))):
        coded = CODES[code](net)
        with pytest.raises(ValueError, match="names no layer that sends: ") as caught:
            coded(shown(code), record="nothing")
        there = str(caught.value).rpartition(": ")[2].split(", ")
        assert coded(shown(code), record=there).trace.keys() == set(there)
        assert ("2" in there or "3" in there) == (code != "first spike")


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no images": ({"batch": 0}, "batch=0 must be a whole number"),
    "half an image": ({"batch": 2.5}, "batch=2.5"),
    "a number": ({"record": 3}, "record=3 must be the name of a layer"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("code", CODES)
def test_calls_that_make_no_sense(code: str, name: str) -> None:
    options, words = WRONG[name]
    with pytest.raises(ValueError, match=words):
        CODES[code](converted())(shown(code), **options)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("net", [None, nn.ReLU(), 3])
def test_what_is_no_spiking_network_has_no_code(code: str, net: Any) -> None:
    with pytest.raises(ValueError, match=r"a code takes what snnlib\.convert returns"):
        CODES[code](net)


def test_first_spikes_of_strangers() -> None:
    net = converted()
    spikes: Any = FirstSpike(net, slots=8)
    with pytest.raises(ValueError, match="early='no' must be True or False"):
        spikes(X, early="no")
    with pytest.raises(ValueError, match="first=-1"):
        spikes(X, first=-1)
    with pytest.raises(ValueError, match="slots=1000000000 must be"):
        FirstSpike(net, slots=10**9)
    with pytest.raises(ValueError, match="where=3 must be the name of a layer"):
        FirstSpike(net, where=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="names no spiking layer"):
        FirstSpike(net, where="early")
    assert FirstSpike(net, where="1").where == {"1"}


def test_an_answer_of_one_value_does_not_settle() -> None:
    ann = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1)).eval()
    run = FirstSpike(snn.convert(ann, torch.rand(20, 4)), slots=4)(torch.rand(5, 4), early=True)
    with pytest.raises(ValueError, match="settled: the output has one value"):
        _ = run.settled


def test_no_frame_is_no_sequence() -> None:
    with pytest.raises(snn.ConversionError, match="no frame"):
        Delta(converted())(X.expand(0, *X.shape))
