"""The command line: what it prints, its JSON, its errors; on the embedded digits."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import snnlib as snn
from snnlib.__main__ import examples, main
from snnlib.zoo.evaluate import calibration_images, evaluate

KEYS = [
    "model", "dataset", "n", "neuron", "levels", "negative", "v0", "balance", "steps",
    "ann_accuracy", "accuracy", "events_per_image", "spikes_per_image", "neurons",
    "synops_per_image", "macs_first_layer", "ann_macs", "seconds", "images_per_second", "device",
    "dtype", "versions",
]  # fmt: skip
CPU = ["--device", "cpu"]


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    try:
        code = main(arguments)
    except SystemExit as stop:  # argparse's own errors
        code = stop.code
    out, err = capsys.readouterr()
    return code, out, err


def result(capsys, *arguments: str) -> dict:
    """The JSON object that ``evaluate`` prints."""
    code, out, err = run(capsys, "evaluate", "digits-cnn", *CPU, "--json", "--quiet", *arguments)
    assert code == 0, err
    assert out.count("\n") == 1, "one object, and nothing else, on standard output"
    return json.loads(out)


@pytest.fixture(scope="module")
def digits():
    train, test = snn.data.load("digits")
    return snn.models.load("digits-cnn"), calibration_images(train), test


SETTINGS = [
    (["--neuron", "if"], snn.IF(), snn.Percentile(99.9)),
    (
        ["--neuron", "if", "--v0", "0", "--reset", "zero", "--balance", "max"],
        snn.IF(0.0, "zero"),
        snn.Max(),
    ),
    (
        ["--neuron", "ternary", "--negative", "0.5", "--percentile", "99"],
        snn.Ternary(negative=0.5),
        snn.Percentile(99.0),
    ),
    ([], snn.Augmented(levels=4), snn.Percentile(99.9)),
    (
        ["--levels", "8", "--negative", "0", "--v0", "0.25", "--cap", "3", "--balance", "minerror"],
        snn.Augmented(8, 0.0, 0.25, 3),
        snn.MinError(levels=24),
    ),
]


@pytest.mark.parametrize(("options", "neuron", "balance"), SETTINGS, ids=lambda o: str(o)[:60])
def test_json_is_what_the_library_computes(capsys, digits, options, neuron, balance):
    ann, calibration, test = digits
    found = result(capsys, *options, "--steps", "3", "--limit", "60")
    assert list(dict.fromkeys(KEYS)) == [key for key in found if key in KEYS]
    net = snn.convert(ann, calibration, neuron, balance=balance)
    x, labels = snn.data.to_float(test.images[:60]), test.labels[:60]
    direct = net(x, 3)
    synops = direct.synops()
    with torch.no_grad():
        answers = ann(x)
    assert found["n"] == 60
    assert found["accuracy"] == pytest.approx(direct.accuracy(labels).tolist())
    assert found["agreement"] == pytest.approx(direct.agreement(answers).tolist())
    assert found["ann_accuracy"] == float((answers.argmax(1) == labels).double().mean())
    assert found["events_per_image"] == pytest.approx(direct.events.tolist())
    assert found["spikes_per_image"] == pytest.approx(direct.spikes.tolist())
    assert found["synops_per_image"] == pytest.approx(synops.total.tolist())
    assert found["energy_nj_per_image"] == pytest.approx(synops.energy().tolist())
    literature = found["literature_energy_nj_per_image"]
    assert literature == pytest.approx(synops.literature_energy.tolist())
    assert found["macs_first_layer"] == synops.macs_first_layer > 0
    assert found["ann_macs"] == synops.ann_macs > found["macs_first_layer"]
    assert found["neurons"] == sum(net.neurons.values())
    assert (found["neuron"], found["balance"]) == (neuron.kind, balance.kind)
    assert (found["levels"], found["v0"]) == (neuron.levels, neuron.v0)
    assert found["negative"] == getattr(neuron, "negative", None)
    assert (found["device"], found["dtype"], found["steps"]) == ("cpu", "float32", 3)
    assert found["versions"]["torch"] == torch.__version__


@pytest.mark.parametrize("largest", [0, 2**63 - 1])
def test_the_largest_seed_works(capsys, largest):
    options = ["--input", "bernoulli", "--steps", "1", "--limit", "5", "--seed", str(largest)]
    assert result(capsys, *options)["seed"] == largest


def test_whole_number_networks_are_evaluated_as_others(digits):
    ann, calibration, test = digits
    net = snn.convert(ann, calibration, snn.Augmented(levels=4)).quantize()
    found = evaluate(net, ann, test[:60], 3, coding=snn.Constant())
    direct = net(snn.data.to_float(test.images[:60]), 3)
    assert found.accuracy == direct.accuracy(test.labels[:60]).tolist()
    assert found.events == pytest.approx(direct.events.tolist())


def test_old_positions_of_evaluate_warn(digits):
    ann, calibration, test = digits
    net = snn.convert(ann, calibration, snn.Augmented(levels=4))
    with pytest.warns(DeprecationWarning, match="pass coding, batch by name"):
        found = evaluate(net, ann, test[:20], 2, snn.Constant(), 7)
    assert found.accuracy == evaluate(net, ann, test[:20], 2).accuracy


ENDS = {
    "shape (1,)": lambda: nn.Sequential(nn.Flatten(), nn.Linear(256, 1)),
    "shape (3, 8, 8)": lambda: nn.Conv2d(4, 3, 1),
}


@pytest.mark.parametrize(("told", "end"), ENDS.items())
def test_outputs_that_are_no_classes_are_refused(told, end):
    """One number or an image: right and wrong mean nothing there."""
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), end()).eval()
    images = torch.randint(256, (6, 1, 8, 8), dtype=torch.uint8)
    split = snn.data.Split(images, torch.tensor([0, 1] * 3), ("a", "b"))
    net = snn.convert(model, split.floats())
    with pytest.raises(ValueError, match=re.escape(told)) as caught:
        evaluate(net, model, split, 2)
    assert "net.verify" in str(caught.value)


@pytest.mark.parametrize("batch", [None, 1, 7, 33, 501])
def test_parts_of_the_data_set_change_no_number(digits, batch):
    ann, calibration, test = digits
    net = snn.convert(ann, calibration, snn.Augmented(levels=4)).double()
    split, coding = test[:80], snn.Bernoulli(seed=3)
    whole = net(snn.data.to_float(split.images).double(), 4, coding=coding)
    found = evaluate(net, ann, split, 4, coding=coding, batch=batch)
    assert found.accuracy == whole.accuracy(split.labels).tolist()
    assert found.events == pytest.approx(whole.events.tolist(), rel=1e-15)
    assert found.synops is not None
    assert torch.allclose(found.synops.total, whole.synops().total, rtol=1e-14)
    assert found.synops.macs_first_layer == 0


def test_only_last_has_one_accuracy_and_no_costs(capsys):
    options = ["--negative", "0", "--levels", "8", "--steps", "4", "--limit", "80"]
    full, last = result(capsys, *options), result(capsys, *options, "--only-last")
    assert last["accuracy"] == full["accuracy"][-1:]
    assert last["steps"] == 4
    for key in ("events_per_image", "spikes_per_image", "synops_per_image"):
        assert last[key] is None
        assert len(full[key]) == 4
        assert full[key] == sorted(full[key])
    assert last["ann_macs"] == full["ann_macs"]
    assert last["macs_first_layer"] == full["macs_first_layer"]


def test_converted_network_answers_as_the_ann(capsys):
    found = result(capsys, "--levels", "8", "--negative", "0", "--steps", "4")
    assert found["n"] == 355
    assert found["ann_accuracy"] > 0.97
    assert abs(found["accuracy"][-1] - found["ann_accuracy"]) < 0.005
    assert found["agreement"][-1] > 0.99


def test_bernoulli_depends_on_the_seed_alone(capsys):
    options = ["--input", "bernoulli", "--steps", "3", "--limit", "40", "--seed"]
    first, again = result(capsys, *options, "1"), result(capsys, *options, "1", "--batch", "9")
    other = result(capsys, *options, "2")
    assert first["seed"] == 1
    assert first["events_per_image"] == again["events_per_image"] != other["events_per_image"]
    assert first["macs_first_layer"] == 0


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_dtype_is_used_and_reported(capsys, dtype):
    found = result(capsys, "--dtype", dtype, "--limit", "50", "--negative", "0")
    assert found["dtype"] == dtype
    assert found["accuracy"][-1] > 0.9


def test_per_channel_changes_the_thresholds(capsys):
    options = ["--limit", "30", "--steps", "2"]
    layer, channel = result(capsys, *options), result(capsys, *options, "--per-channel")
    assert (layer["per_channel"], channel["per_channel"]) == (False, True)
    assert layer["events_per_image"] != channel["events_per_image"]


def test_table_has_a_line_for_every_step(capsys):
    options = ["digits-cnn", *CPU, "--steps", "5", "--limit", "50"]
    code, out, err = run(capsys, "evaluate", *options)
    found = result(capsys, "--steps", "5", "--limit", "50")
    assert code == 0
    assert "50/50" in err, "the progress bar belongs on standard error"
    head, _, rest = out.partition("\n\n")
    assert "digits-cnn on 50 test images of digits" in head
    assert f"ANN: {100 * found['ann_accuracy']:.2f} %" in head
    title, *lines = rest.partition("\n\n")[0].splitlines()
    assert title.split()[:2] == ["step", "accuracy"]
    assert [int(line.split()[0]) for line in lines] == [1, 2, 3, 4, 5]
    for line, accuracy, events in zip(
        lines, found["accuracy"], found["events_per_image"], strict=True
    ):
        assert f"{100 * accuracy:.2f} %" in line
        assert f"{events:,.0f}" in line
    code, out, _ = run(capsys, "evaluate", *options, "--only-last", "--quiet")
    (line,) = out.partition("\n\n")[2].partition("\n\n")[0].splitlines()[1:]
    assert line.split()[0] == "5"


LATE = ["--neuron", "if", "--steps", "8"]


def test_answer_from_leaves_the_first_steps_out(capsys, digits):
    """Before that step there is no answer, and costs are those of the same run."""
    ann, calibration, test = digits
    found = result(capsys, *LATE, "--answer-from", "5", "--limit", "100")
    plain = result(capsys, *LATE, "--limit", "100")
    net = snn.convert(ann, calibration, snn.IF())
    x, labels = snn.data.to_float(test.images[:100]), test.labels[:100]
    direct = net(x, 8, readout=snn.Mean(first=5))
    assert (plain["answer_from"], found["answer_from"]) == (1, 5)
    assert found["accuracy"][:4] == found["agreement"][:4] == [None] * 4
    assert found["accuracy"][4:] == pytest.approx(direct.accuracy(labels)[4:].tolist())
    assert found["agreement"][4:] == pytest.approx(direct.agreement(ann(x))[4:].tolist())
    assert None not in plain["accuracy"]
    for key in ("events_per_image", "synops_per_image", "energy_nj_per_image"):
        assert found[key] == plain[key]
    last = result(capsys, *LATE, "--answer-from", "5", "--limit", "100", "--only-last")
    assert last["accuracy"] == found["accuracy"][-1:]


def test_table_has_no_answer_before_that_step(capsys):
    options = ["digits-cnn", *CPU, *LATE, "--answer-from", "5", "--limit", "20", "--quiet"]
    code, out, _ = run(capsys, "evaluate", *options)
    assert code == 0
    head, _, rest = out.partition("\n\n")
    assert "answer: mean over steps 5 … t, so none before step 5" in head
    _, *lines = rest.partition("\n\n")[0].splitlines()
    shown = [line.split() for line in lines]
    assert [row[1:4] == ["–"] * 3 for row in shown] == [True] * 4 + [False] * 4
    assert all(float(row[-1]) > 0 for row in shown), "costs count from step 1 on"


def test_a_saved_network_answers_late(capsys, tmp_path):
    path = str(tmp_path / "late.safetensors")
    code, _, err = run(
        capsys, "convert", "digits-cnn", *LATE, "--answer-from", "5", "--output", path
    )
    assert code == 0, err
    options = [*CPU, "--json", "--quiet", "--data", "digits", "--limit", "50", "--steps", "8"]
    found = {}
    for asked in ([], ["--answer-from", "7"]):
        code, out, err = run(capsys, "evaluate", path, *options, *asked)
        assert code == 0, err
        found[len(asked)] = json.loads(out)
    assert found[0]["answer_from"] == 5
    assert found[0]["accuracy"][3] is None is not found[0]["accuracy"][4]
    assert found[2]["answer_from"] == 7, "what is asked for goes before what was saved"
    code, _, err = run(capsys, "evaluate", path, *options[:-1], "3")
    assert code == 2
    assert "read from step 5 on" in err


def test_verify_reads_the_answer_as_asked(capsys):
    options = ["verify", "digits-cnn", *CPU, *LATE, "--answer-from", "5", "--limit", "20"]
    code, out, _ = run(capsys, *options)
    assert code == 0
    (line,) = (line for line in out.splitlines() if line.startswith("agreement"))
    assert line.split()[3:6] == ["–"] * 3
    found = json.loads(run(capsys, *options, "--json")[1])
    assert found["answer_from"] == 5
    assert found["agreement"][:3] == found["output_error"][:3] == [None] * 3
    assert found["agreement"][3] > 0.9


def test_output_is_a_results_file(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "new" / "digits.json"
    found = result(capsys, "--limit", "20", "--steps", "2", "--output", "new/digits.json")
    record = json.loads(path.read_text())
    assert [entry.name for entry in path.parent.iterdir()] == ["digits.json"]
    assert record["command"].startswith("snnlib evaluate digits-cnn --device cpu --json")
    for key in ("commit", "date", "n", "seed", "hardware", "versions", "seconds"):
        assert key in record
    (stored,) = record["runs"]
    assert stored == {"label": "AugMapping", **found}


def test_output_that_cannot_be_written_is_named(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    target = tmp_path / "file" / "x.json"
    options = ["evaluate", "digits-cnn", *CPU, "--limit", "5", "--quiet", "--output", str(target)]
    code, _, err = run(capsys, *options)
    assert code == 2
    assert "x.json" in err


def test_verify_reports_graph_and_layers(capsys):
    options = ["verify", "digits-cnn", *CPU, "--steps", "9", "--limit", "20", "--negative", "0"]
    code, out, _ = run(capsys, *options)
    assert code == 0
    assert "folded ANN against original" in out
    assert "relu3" in out
    code, out, _ = run(capsys, *options, "--json")
    found = json.loads(out)
    assert found["graph_error"] < 1e-5
    assert found["steps"][:4] == [1, 2, 4, 8]
    assert [layer["name"] for layer in found["layers"]] == ["relu1", "relu2", "relu3"]
    for layer in found["layers"]:
        assert layer["error"][-1] < layer["error"][0] / 3


@pytest.mark.parametrize(("dtype", "error"), [("float64", 1e-12), ("bfloat16", 0.1)])
def test_verify_in_every_precision(capsys, dtype, error):
    options = [*CPU, "--steps", "2", "--limit", "5", "--json", "--dtype", dtype]
    code, out, err = run(capsys, "verify", "digits-cnn", *options)
    assert code == 0, err
    assert json.loads(out)["graph_error"] < error


def test_data_says_where_and_what(capsys):
    code, out, _ = run(capsys, "data", "digits")
    assert code == 0
    assert "inside scikit-learn" in out
    train, test = snn.data.load("digits")
    assert f"{len(train):,} images of 1 × 28 × 28" in out
    assert f"{len(test):,} images of 1 × 28 × 28" in out


@pytest.mark.slow
def test_train_writes_a_checkpoint_that_evaluate_reads(capsys, tmp_path):
    path = str(tmp_path / "trained.safetensors")
    options = ["--epochs", "1", "--device", "cpu", "--quiet", "--output", path]
    code, out, err = run(capsys, "train", "digits-cnn", *options)
    assert code == 0, err
    assert path in out
    assert "test images" in out
    _, record = snn.checkpoints.read(path)
    found = result(capsys, "--checkpoint", path, "--only-last", "--negative", "0")
    assert found["ann_accuracy"] == pytest.approx(record["test_accuracy"])
    assert f"{100 * found['ann_accuracy']:.2f} % of the 355 test images" in out


WRONG = [
    (["evaluate", "digits-cn"], ["digits-cn", "Did you mean 'digits-cnn'?"]),
    (["evaluate", "digits-cnn", "--neuron", "if", "--levels", "4"], ["--levels", "--neuron if"]),
    (["evaluate", "digits-cnn", "--neuron", "if", "--negative", "0"], ["--negative", "augmented"]),
    (["evaluate", "digits-cnn", "--neuron", "ternary", "--cap", "2"], ["--cap", "augmented"]),
    (["evaluate", "digits-cnn", "--reset", "zero"], ["--reset", "--neuron if"]),
    (["evaluate", "digits-cnn", "--balance", "max", "--percentile", "99"], ["--percentile"]),
    (["evaluate", "digits-cnn", "--percentile", "0"], ["q=0", "at most 100"]),
    (["evaluate", "digits-cnn", "--levels", "0"], ["levels=0"]),
    (["evaluate", "digits-cnn", "--negative", "2"], ["negative=2"]),
    (["evaluate", "digits-cnn", "--v0", "-1"], ["v0=-1"]),
    (["evaluate", "digits-cnn", "--steps", "0"], ["--steps 0"]),
    (["evaluate", "digits-cnn", "--answer-from", "0"], ["--answer-from 0", "from 1 to 8"]),
    (["evaluate", "digits-cnn", "--answer-from", "9"], ["--answer-from 9", "from 1 to 8"]),
    (["verify", "digits-cnn", "--answer-from", "65"], ["--answer-from 65", "from 1 to 64"]),
    (["verify", "digits-cnn", "--answer-from", "5", "--steps", "6"], ["steps=4", "step 5"]),
    (["evaluate", "digits-cnn", "--limit", "0"], ["--limit 0"]),
    (["evaluate", "digits-cnn", "--batch", "-3"], ["--batch -3"]),
    (["evaluate", "digits-cnn", "--device", "abacus"], ["--device abacus", "cpu"]),
    (["evaluate", "digits-cnn", "--device", "meta"], ["--device meta", "cpu"]),
    (["evaluate", "digits-cnn", "--device", "cuda:99"], ["--device cuda:99", "cpu"]),
    (["evaluate", "digits-cnn", "--device", "cpu:cpu"], ["--device cpu:cpu"]),
    (["verify", "digits-cnn", "--device", "meta"], ["--device meta", "cpu"]),
    (["train", "digits-cnn", "--device", "meta"], ["--device meta", "cpu"]),
    (["experiment", "ablations", "--device", "meta"], ["--device meta", "cpu"]),
    (["evaluate", "digits-cnn", "--seed", "1"], ["--seed", "--input bernoulli"]),
    (["evaluate", "digits-cnn", "--input", "bernoulli", "--seed", "7" * 24], ["--seed=7777"]),
    (["evaluate", "digits-cnn", "--input", "bernoulli", "--seed", "-1"], ["--seed=-1", "from 0"]),
    (["train", "digits-cnn", "--seed", "7" * 24], ["seed=7777", "from 0 to 9223372036854775807"]),
    (["support", "--output", "x.json"], ["--output", "--torchvision"]),
    (["evaluate", "digits-cnn", "--checkpoint", "no.safetensors"], ["no.safetensors"]),
    (["evaluate", "digits-cnn", "--neuron", "lif"], ["lif", "augmented"]),
    (["verify", "digits-cnn", "--steps", "0"], ["--steps 0"]),
    (["data", "minst"], ["minst", "Did you mean 'mnist'?"]),
    (["data", "mnist", "--root", "{empty}", "--no-download"], ["train-images-idx3-ubyte"]),
    (["train", "digit-cnn"], ["Did you mean 'digits-cnn'?"]),
    (["train", "digits-cnn", "--epochs", "0"], ["epochs", "at least 1"]),
    (["dance"], ["dance", "evaluate"]),
    ([], ["COMMAND"]),
]


@pytest.mark.parametrize(("arguments", "words"), WRONG, ids=lambda a: " ".join(a)[:60])
def test_wrong_input_gives_one_readable_message(capsys, tmp_path, arguments, words):
    code, out, err = run(capsys, *(a.format(empty=tmp_path) for a in arguments))
    assert code == 2
    assert out == ""
    assert "Traceback" not in err
    assert all(word in err for word in words), err


def test_damaged_checkpoint_is_named(capsys, tmp_path):
    good = Path(snn.checkpoints.ASSETS / "digits-cnn.safetensors").read_bytes()
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(good[: len(good) // 2])
    code, _, err = run(capsys, "evaluate", "digits-cnn", "--checkpoint", str(broken))
    assert code == 2
    assert "broken.safetensors" in err
    assert "truncated" in err


@pytest.mark.parametrize("command", examples())
def test_help_has_examples(capsys, command):
    code, out, _ = run(capsys, *([command] if command else []), "--help")
    assert code == 0
    assert "examples:" in out
    assert f"snnlib {command}".strip() in out


def test_examples_parse():
    """Every example that the help shows is a command that the parser takes."""
    from snnlib.__main__ import _parser

    lines = [line.strip() for text in examples().values() for line in text.splitlines()]
    shown = [line.split("   ")[0].split("snnlib ")[1] for line in lines if "snnlib " in line]
    assert len(shown) > 15
    for example in shown:
        _parser().parse_args(example.split())


def test_commands_of_the_readme_parse():
    from snnlib.__main__ import _parser

    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    blocks = "".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    shown = [
        line.partition("#")[0].split()[1:] for line in blocks.splitlines() if "snnlib " in line
    ]
    shown = [words for words in shown if words[0] != "clone"]
    assert {words[0] for words in shown} >= {"evaluate", "verify", "convert"}
    for words in shown:
        _parser().parse_args(words)


def test_module_and_exit_code_as_a_process():
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "snnlib"]
    good = subprocess.run([*command, "data", "digits"], env=environment, capture_output=True)
    bad = subprocess.run([*command, "data", "x"], env=environment, capture_output=True, text=True)
    assert good.returncode == 0
    assert bad.returncode == 2
    assert len(bad.stderr.strip().splitlines()) == 1


def test_interruption_is_no_traceback(capsys, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(snn.data, "load", interrupted)
    code, _, err = run(capsys, "data", "digits")
    assert code == 130
    assert "interrupted" in err


def test_the_table_tells_energy_in_both_accounts(capsys):
    """Relative to the ANN's: this book's, which counts wide spikes and the first layer, and the
    literature's, which does not and so is the smaller one."""
    options = ["evaluate", "digits-cnn", "--levels", "4", "--steps", "2", "--limit", "20"]
    found = result(capsys, *options[2:])
    assert main([*options, "--quiet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (head,) = (n for n, line in enumerate(lines) if "literature" in line and "SynOps" in line)
    assert lines[head].split()[-2:] == ["energy", "literature"]
    for step, line in enumerate(lines[head + 1 : head + 3]):
        ours, literature = (
            found[f"{key}energy_nj_per_image"][step] / found["ann_energy_nj"]
            for key in ("", "literature_")
        )
        assert line.split()[-2:] == [f"{ours:.2f}", f"{literature:.2f}"]
        assert ours > literature
    assert "every event is an addition" in " ".join(lines)
