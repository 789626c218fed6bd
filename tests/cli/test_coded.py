"""``snnlib evaluate --code``: what the library computes, the fields of ``evaluate``, refusals."""

import json

import pytest
import torch

import snnlib as snn
from snnlib.__main__ import main
from snnlib.codes import Delta, FirstSpike, Radix, moving
from snnlib.zoo import coded
from snnlib.zoo.evaluate import calibration_images, evaluate

FEW = ["--device", "cpu", "--limit", "30"]


def run(capsys, *arguments):
    """Exit code, standard output and standard error of ``evaluate`` on a few digits."""
    code = main(["evaluate", "digits-cnn", *FEW, "--quiet", *arguments])
    return code, *capsys.readouterr()


def result(capsys, *arguments):
    code, out, err = run(capsys, "--json", *arguments)
    assert code == 0, err
    return json.loads(out)


@pytest.fixture(scope="module")
def digits():
    train, test = snn.data.load("digits")
    ann, images = snn.models.load("digits-cnn"), calibration_images(train)
    return ann, images, snn.data.to_float(test.images[:30]), test.labels[:30]


def test_support_says_what_every_code_sends(capsys):
    """Every name that --code takes has its line, and what is refused stands there too."""
    from snnlib.cli import support

    assert set(support.CODES) == set(coded.NAMES)
    text = support.operations()
    assert all(f"--code {name}\n" in text for name in coded.NAMES)
    assert "NO: max pooling of potentials" in text


def test_radix_is_what_the_library_computes(capsys, digits):
    ann, images, x, labels = digits
    found = result(capsys, "--code", "radix", "--bits", "4", "--radix", "4")
    run = Radix(snn.convert(ann, images), 4, 4)(x)
    assert found["accuracy"] == run.accuracy(labels).tolist()
    assert found["events_per_image"] == pytest.approx(run.events.tolist())
    assert found["synops_per_image"] == pytest.approx(run.synops.total.tolist())
    assert found["energy_nj_per_image"] == pytest.approx(run.synops.energy().tolist())
    literature = run.synops.literature_energy.tolist()
    assert found["literature_energy_nj_per_image"] == pytest.approx(literature)
    assert found["bits_per_neuron"] == pytest.approx(run.bits.tolist())
    told = [found[name] for name in ("code", "bits", "radix", "latency_steps", "interval_steps")]
    assert told == ["radix", 4, 4, 6, 2]


def test_first_spike_is_exact_without_slots_and_rounded_with(capsys, digits):
    ann, images, x, labels = digits
    found = result(capsys, "--code", "first-spike")
    assert (found["slots"], found["dtype"], found["balance"]) == (None, "float64", "max")
    assert found["accuracy"] == [found["ann_accuracy"]]
    assert found["agreement"] == [1.0]
    assert found["clipped_per_image"] == 0
    assert found["bits_per_neuron"] is None
    rounded = result(capsys, "--code", "first-spike", "--slots", "8", "--balance", "minerror")
    net = snn.convert(ann, images, snn.Augmented(levels=8), balance=snn.MinError(8))
    run = FirstSpike(net, 8)(x)
    assert rounded["accuracy"] == run.accuracy(labels).tolist()
    assert rounded["events_per_image"] == pytest.approx(run.events.tolist())
    assert (rounded["slots"], rounded["latency_steps"]) == (8, 24)


def test_delta_answers_every_frame(capsys, digits):
    ann, images, x, labels = digits
    found = result(capsys, "--code", "delta", "--frames", "3")
    run = Delta(snn.convert(ann, images), 4)(moving(x, 3))
    assert found["accuracy"] == run.accuracy(labels).tolist()
    assert found["events_per_image"] == pytest.approx(run.events.tolist())
    assert found["anew_events_per_image"] == pytest.approx(run.anew.events.tolist())
    assert len(found["accuracy"]) == found["steps"] == found["frames"] == 3


@pytest.mark.parametrize("code", coded.NAMES)
def test_the_fields_are_those_of_evaluate(capsys, code):
    """Whoever reads one reads the others."""
    plain = result(capsys, "--steps", "1")
    found = result(capsys, "--code", code)
    assert plain.keys() <= found.keys()
    assert found.keys() - plain.keys() == coded.Own.__annotations__.keys()
    assert found["neuron"] == code


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--code", "radix"], "5 bits, base 2, 5 digits a layer; an answer takes 15 steps"),
        (["--code", "first-spike", "--slots", "8"], "8 slots a layer; an answer takes 24 slots"),
        (["--code", "first-spike"], "analog times; an answer takes 3 windows"),
        (["--code", "delta", "--frames", "2"], "anew: every frame sent anew"),
    ],
)
def test_the_table_says_what_was_done(capsys, arguments, shown):
    code, out, err = run(capsys, *arguments)
    assert code == 0, err
    assert shown in " ".join(out.split())
    assert max(map(len, out.splitlines())) < (140 if "delta" in arguments else 125)
    (head,) = (line for line in out.splitlines() if "accuracy" in line and "events" in line)
    assert head.count("energy") == head.count("literature") == 1 + ("delta" in arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--bits", "5"], "--bits belongs to --code radix or delta"),
        (["--code", "delta", "--slots", "4"], "--slots does not apply to --code delta, but to"),
        (["--code", "radix", "--steps", "4"], "--steps is of neurons in time"),
        (["--code", "radix", "--neuron", "if"], "--neuron is of neurons in time"),
        (["--code", "radix", "--only-last"], "--only-last does not apply"),
        (["--code", "radix", "--input", "bernoulli"], "takes the image as it is"),
        (["--code", "radix", "--bits", "0"], "bits=0 must be a whole number"),
        (["--code", "delta", "--frames", "0"], "--frames 0: must be"),
    ],
)
def test_what_does_not_go_together_is_refused(capsys, arguments, said):
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert said in err


def test_a_saved_network_is_coded_too(capsys, tmp_path, digits):
    ann, images, x, labels = digits
    net = snn.convert(ann, images)
    path = net.save(tmp_path / "net.safetensors")
    arguments = ["evaluate", str(path), "--data", "digits", *FEW, "--quiet", "--json"]
    assert main([*arguments, "--code", "radix", "--bits", "3"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] == Radix(net, 3)(x).accuracy(labels).tolist()


def test_the_result_is_written_with_its_command(capsys, tmp_path):
    path = tmp_path / "radix.json"
    assert run(capsys, "--code", "radix", "--output", str(path))[0] == 0
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["command"].endswith("--code radix --output radix.json")
    assert record["runs"][0]["code"] == record["runs"][0]["label"] == "radix"


def test_parts_of_a_split_are_one_result(digits, monkeypatch):
    ann, images, *_ = digits
    _, test = snn.data.load("digits")
    code = FirstSpike(snn.convert(ann, images), 8, jitter=0.05)
    whole, _ = coded.evaluate(code, ann, test[:25])
    monkeypatch.setattr(coded, "_PART", 10)
    parts, run = coded.evaluate(code, ann, test[:25])
    assert torch.equal(parts.answers, whole.answers)
    assert parts.events == whole.events
    assert len(run) == parts.n == 25
    plain = evaluate(code.net, ann, test[:25], 1)
    assert parts.ann_accuracy == plain.ann_accuracy
    assert torch.equal(parts.ann_answers, plain.ann_answers)
    with pytest.raises(ValueError, match="no image"):
        coded.evaluate(code, ann, test[:0])
