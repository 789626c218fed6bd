"""Dense and real-valued outputs, the read-out over a window, and what a reader sees of a run."""

from typing import Any

import pytest
import reference
import torch
from torch import nn

import snnlib as snn
from snnlib.conversion.calibrate import calibrate_bias

DOUBLE = torch.float64


def images(count: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.rand(count, *shape, generator=generator, dtype=DOUBLE)


@pytest.fixture(scope="module")
def dense() -> Any:
    """A segmentation network: 4 classes at each of 6 × 5 positions."""
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 1))
    return snn.convert(ann.double().eval(), images(8, 1, 6, 5), snn.Augmented(levels=4))


@pytest.fixture(scope="module")
def single() -> Any:
    """A regression network with one output."""
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 1)).double().eval()
    return snn.convert(ann, images(20, 3), snn.Augmented(levels=4))


def test_a_dense_output_has_an_answer_at_every_position(dense: Any) -> None:
    x = images(3, 1, 6, 5)
    run = dense(x, 4)
    assert run.logits.shape == (4, 3, 4, 6, 5)
    assert run.predictions.shape == (4, 3, 6, 5)
    for t, b, i, j in ((0, 0, 0, 0), (3, 2, 5, 4), (1, 1, 2, 3)):
        assert int(run.predictions[t, b, i, j]) == int(run.logits[t, b, :, i, j].argmax())
    labels = torch.randint(4, (3, 6, 5), generator=torch.Generator().manual_seed(1))
    by_hand = [float((run.predictions[t] == labels).double().mean()) for t in range(4)]
    assert run.accuracy(labels).tolist() == pytest.approx(by_hand)
    ann = dense.ann(x)
    same = [float((run.predictions[t] == ann.argmax(1)).double().mean()) for t in range(4)]
    assert run.agreement(ann).tolist() == pytest.approx(same)
    found = dense.verify(x, steps=4)
    assert found.agreement == pytest.approx([same[0], same[1], same[3]])
    for call in (lambda: run.first_confident(0.5), lambda: dense.decide(x, 0.5, 4)):
        with pytest.raises(ValueError, match="early answers need one vector of classes"):
            call()


def test_one_output_has_an_error_and_no_classes(single: Any) -> None:
    x = images(9, 3)
    run, ann = single(x, 32), single.ann(x)
    for call in (
        lambda: run.predictions,
        lambda: run.accuracy(torch.zeros(9, dtype=torch.int64)),
        lambda: run.agreement(ann),
        lambda: run.first_confident(0.5),
    ):
        with pytest.raises(ValueError, match=r"one value and so no classes; see run\.logits"):
            call()
    with pytest.raises(ValueError, match="early answers need one vector of classes"):
        single.decide(x, 0.5, 4)
    expected = ((run.logits[-1] - ann).square().mean() / ann.square().mean()).sqrt()
    assert float(run.error(ann)[-1]) == pytest.approx(float(expected))
    assert float(run.error(ann)[-1]) < float(run.error(ann)[0])
    found = single.verify(x, steps=8)
    assert found.agreement == []
    assert found.output_error[-1] == pytest.approx(float(run.error(ann)[7]))
    assert "agreement" not in str(found)
    with pytest.raises(ValueError, match=r"outputs of shape \(9,\)"):
        run.error(ann[:, 0])


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (torch.zeros(2), "labels are torch.float32"),
        (torch.tensor([0, 3]), r"labels lie in \[0, 3\]; this network has the classes 0 to 2"),
        (torch.tensor([-1, 0]), r"labels lie in \[-1, 0\]"),
        (torch.zeros(3, dtype=torch.int64), r"labels: \(3,\) answers for 2 images"),
        (torch.zeros(2, 1, dtype=torch.int64), "labels"),
        (torch.zeros(2, dtype=torch.bool), "labels are torch.bool"),
    ],
)
def test_labels_that_are_none(labels: torch.Tensor, words: str) -> None:
    net = snn.convert(reference.make(), images(8, 1, 8, 8), snn.IF())
    with pytest.raises(ValueError, match=words):
        net(images(2, 1, 8, 8), 2).accuracy(labels)


def test_labels_from_numpy_are_labels() -> None:
    net = snn.convert(reference.make(), images(8, 1, 8, 8), snn.IF())
    run, labels = net(images(4, 1, 8, 8), 3), torch.tensor([0, 1, 2, 0])
    assert torch.equal(run.accuracy(labels.numpy()), run.accuracy(labels))
    assert run.accuracy(labels).shape == (3,)


# the read-out over a window of steps


@pytest.fixture(scope="module")
def slow() -> Any:
    return snn.convert(reference.make(), images(30, 1, 8, 8), snn.IF())


@pytest.mark.parametrize("first", [1, 2, 4, 9])
@pytest.mark.parametrize("batch", [None, 2, 5])
def test_the_late_answer_is_a_mean_over_the_last_steps(slow: Any, first: int, batch: Any) -> None:
    x, steps = images(5, 1, 8, 8), 9
    plain, late = slow(x, steps, batch=batch), slow(x, steps, readout=snn.Mean(first), batch=batch)
    totals = plain.logits * torch.arange(1, steps + 1)[:, None, None]
    for t in range(1, steps + 1):
        if t < first:
            assert late.logits[t - 1].isnan().all(), "no answer yet"
            continue
        before = totals[first - 2] if first > 1 else torch.zeros_like(totals[0])
        expected = (totals[t - 1] - before) / (t - first + 1)
        torch.testing.assert_close(late.logits[t - 1], expected, rtol=1e-10, atol=1e-12)
    assert torch.equal(late.events, plain.events), "no event more and no step more"
    last = slow(x, steps, readout=snn.Mean(first), only_last=True).logits[0]
    torch.testing.assert_close(last, late.logits[-1], rtol=1e-10, atol=1e-12)
    kept = slow.replace(readout=snn.Mean(first))
    torch.testing.assert_close(
        kept(x, steps).logits, late.logits, rtol=1e-12, atol=1e-14, equal_nan=True
    )
    early, expected_early = kept.decide(x, 0.5, steps), kept(x, steps).first_confident(0.5)
    assert torch.equal(early.step, expected_early.step)
    assert torch.equal(early.prediction, expected_early.prediction)


@pytest.mark.parametrize("coding", [snn.Constant(), snn.Bernoulli(seed=2)], ids=str)
def test_the_late_answer_in_closed_form(coding: Any) -> None:
    net = snn.convert(reference.make(), images(30, 1, 8, 8), snn.Augmented(4, negative=0.0))
    net, x = net.replace(readout=snn.Mean(first=3)), images(4, 1, 8, 8)
    stepped, at_once = net(x, 7, coding).logits[-1], net(x, 7, coding, only_last=True).logits[0]
    torch.testing.assert_close(at_once, stepped, rtol=1e-10, atol=1e-12)


def test_a_saved_network_keeps_its_read_out(slow: Any, tmp_path: Any) -> None:
    net = slow.replace(readout=snn.Mean(first=4))
    again = snn.load(net.save(tmp_path / "net.safetensors"))
    assert again.readout == snn.Mean(first=4)
    found, expected = (each(images(3, 1, 8, 8), 6).logits[3:] for each in (again, net))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("first", [0, -1, 1.5, True, "2"])
def test_no_first_step(first: Any) -> None:
    with pytest.raises(ValueError, match="Mean: first="):
        snn.Mean(first=first)


# what a reader sees


def test_representations_tell_what_it_is(dense: Any, slow: Any) -> None:
    assert repr(dense) == (
        "<SpikingNetwork 1 × 6 × 5 → 4 × 6 × 5: 1 spiking layer, 180 neurons, "
        "Augmented(levels=4, negative=1.0, v0=0.5, cap=None), float64, cpu>"
    )
    assert "whole numbers" in repr(slow.quantize())
    run = slow(images(3, 1, 8, 8), 5, record=("relu2",))
    shown = repr(run)
    assert shown.startswith("<Run of 3 images, 5 steps: logits 3 each, ")
    assert shown.endswith("events an image, recorded relu2>")
    assert "events" not in repr(slow(images(3, 1, 8, 8), 5, only_last=True))


def test_logits_of_other_classes_are_refused(dense: Any) -> None:
    """Their largest entries have the right shape, and mean nothing."""
    x = images(3, 1, 6, 5)
    run, ann = dense(x, 2), dense.ann(x)
    for wrong in (ann[:, :3], ann[:2], ann.argmax(1), torch.zeros(3)):
        with pytest.raises(ValueError, match="ann_logits"):
            run.agreement(wrong)


def test_early_answers_of_sequences_are_refused() -> None:
    """One dimension behind the classes: the softmax would run over the positions."""
    torch.manual_seed(0)
    ann = nn.Sequential(nn.Conv1d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv1d(4, 3, 1)).eval()
    x = torch.rand(6, 2, 8)
    with pytest.raises(ValueError, match="early answers need one vector of classes"):
        snn.convert(ann, x).decide(x, 0.5, 4)


@pytest.mark.parametrize("wrong", [(0, 8), (10, 0), (10, -3), (2.5, 8)])
def test_a_schedule_of_nothing_is_refused(dense: Any, wrong: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="whole number"):
        dense.schedule(*wrong)


@pytest.mark.parametrize("wrong", ["text", "bytes", "shape", "nan"])
def test_biases_are_not_corrected_on_images_of_another_kind(dense: Any, wrong: str) -> None:
    x: Any = images(3, 1, 6, 5)
    x = {"text": "images", "bytes": x.byte(), "shape": x[:, 0], "nan": x / 0 - x / 0}[wrong]
    with pytest.raises(snn.ConversionError):
        calibrate_bias(dense, x, steps=2)
