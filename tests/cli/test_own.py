"""A network and images of one's own: the same numbers as from Python, no threshold from an
evaluated image, and one clear line for what does not fit."""

import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import snnlib as snn
from snnlib.__main__ import main
from snnlib.cli import own
from snnlib.zoo.pictures import digests, read_arrays

QUIET = ["--device", "cpu", "--json", "--quiet"]
COUNT = 200
NET = '''
from pathlib import Path
from torch import nn
from layers import block  # beside this file


def make_net():
    return nn.Sequential(*block(1, 8), *block(8, 16), *block(16, 32, last=True),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


class Net(nn.Module):
    """A class is a function that makes a network, too."""
    def __init__(self):
        super().__init__()
        self.body = make_net()
    def forward(self, x):
        return self.body(x)


ready = make_net()


def several(width):
    return make_net()


def number():
    return 7


def stops():
    raise RuntimeError("no weights\\nhere")


def leaves():
    raise SystemExit(3)


def real():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 9), nn.ReLU(), nn.Linear(9, 1))


def dense():
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1))


def three():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 9), nn.ReLU(), nn.Linear(9, 3))
'''
LAYERS = """
from torch import nn


def block(inputs, outputs, last=False):
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    layers = [conv, nn.BatchNorm2d(outputs), nn.ReLU()]
    return layers if last else [*layers, nn.AvgPool2d(2)]
"""


def renamed(state):
    """The weights of digits-cnn under the names of the network above."""
    order = [f"{kind}{i}" for i in (1, 2, 3) for kind in ("conv", "bn", "relu", "pool")]
    order[-1:] = ["mean", "flatten", "fc"]
    number = {name: i for i, name in enumerate(order)}
    return {
        f"{number[name.split('.')[0]]}.{name.split('.')[1]}": value for name, value in state.items()
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a network, its weights in several kinds of files, and images in several."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "my_net.py").write_text(NET)
    (folder / "layers.py").write_text(LAYERS)
    state = renamed(snn.models.load("digits-cnn").state_dict())
    save_file(state, str(folder / "w.safetensors"))
    torch.save(state, folder / "w.pt")
    torch.save({"epoch": 3, "state_dict": state, "optimizer": {"state": {}}}, folder / "nested.pth")
    torch.save({f"module.{k}": v for k, v in state.items()}, folder / "parallel.pt")
    torch.save({"model": state, "ema": state}, folder / "two.pt")
    torch.save(nn.Linear(2, 2), folder / "pickled.pt")
    torch.save({k: v for k, v in state.items() if k != "13.bias"}, folder / "short.pt")
    torch.save([1, 2], folder / "list.pt")
    (folder / "text.pt").write_text("no weights")
    test = snn.data.load("digits")[1][:COUNT]
    images, labels = test.images.numpy(), test.labels.numpy()
    np.savez(folder / "digits.npz", images=images, labels=labels)
    np.savez(folder / "last.npz", images=images.transpose(0, 2, 3, 1), labels=labels)
    np.savez(folder / "floats.npz", images=images / 255.0, labels=labels)
    np.savez(folder / "twice.npz", images=np.repeat(images, 2, 0), labels=np.repeat(labels, 2))
    np.savez(folder / "bare.npz", images=images)
    np.savez(folder / "few.npz", images=images[:4], labels=labels[:4])
    other = snn.data.load("digits")[0][:100]
    np.savez(folder / "other.npz", images=other.images.numpy())
    for label in range(10):
        (folder / "photos" / str(label)).mkdir(parents=True)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        Image.fromarray(image[0]).save(folder / "photos" / str(label) / f"{i}.png")
    return folder


@pytest.fixture
def run(capsys, home, monkeypatch):
    """Run a command in that folder; returns exit code, standard output and standard error."""
    monkeypatch.chdir(home)

    def start(*words):
        try:
            code = main(words)
        except SystemExit as stop:
            code = stop.code
        return (code, *capsys.readouterr())

    return start


def found(run, *words):
    code, out, err = run("evaluate", *words, *QUIET)
    assert code == 0, err
    return json.loads(out)


MINE = ["my_net.py:make_net", "--weights", "w.pt"]


def test_numbers_are_those_of_the_library(run, home):
    """The first fifth sets the thresholds, the others are evaluated: computed here again."""
    result = found(run, *MINE, "--data", "digits.npz", "--steps", "3")
    split = read_arrays(home / "digits.npz")
    ann = snn.models.load("digits-cnn")  # the same weights, by other names
    net = snn.convert(ann, split[:40].floats())
    direct = net(split[40:].floats(), 3)
    assert result["n"] == 160
    assert result["accuracy"] == pytest.approx(direct.accuracy(split.labels[40:]).tolist())
    assert result["events_per_image"] == pytest.approx(direct.events.tolist())
    assert result["ann_accuracy"] > 0.95
    assert (result["model"], result["dataset"]) == ("my_net.py:make_net", "digits.npz")
    assert result["calibration_images"] == 40
    assert result["calibration_from"] == "images of digits.npz"
    left = "images of digits.npz (40 others left out: they set the thresholds)"
    assert result["images_from"] == left


@pytest.mark.parametrize("weights", ["w.safetensors", "nested.pth", "parallel.pt"])
@pytest.mark.parametrize("source", ["photos", "last.npz", "floats.npz"])
def test_every_kind_of_file_gives_the_same_network(run, weights, source):
    """Where it is the order of the images that differs, the ANN's answers tell the network."""
    result = found(run, *MINE[:1], "--weights", weights, "--data", source, "--steps", "1")
    assert result["n"] == 160
    assert result["ann_accuracy"] > 0.95
    if source != "photos":  # the same order as in the other files
        assert (
            result["accuracy"]
            == found(run, *MINE, "--data", "digits.npz", "--steps", "1")["accuracy"]
        )


@pytest.mark.parametrize("made", ["Net", "ready"])
def test_a_class_or_a_network_will_do(run, made):
    words = ["--data", "digits.npz", "--steps", "1", "--limit", "10"]
    assert found(run, f"my_net.py:{made}", *words)["n"] == 10


def parts(home, monkeypatch, *words):
    """Images that set the thresholds, and images evaluated, of a command's options."""
    seen = []
    convert = own.convert
    monkeypatch.setattr(
        own, "convert", lambda m, x, *a, **k: seen.append(x) or convert(m, x, *a, **k)
    )
    monkeypatch.chdir(home)
    options = parsed("evaluate", *words)
    images = own.images_of(options)
    work = own.converted(options, images)
    split, _ = own.tried(options, images, work)
    return (seen[0] if seen else None), split


def parsed(*words) -> Namespace:
    from snnlib.__main__ import _parser

    return _parser().parse_args([*words, "--device", "cpu"])


SOURCES = [
    ["--data", "digits.npz"],
    ["--data", "photos"],
    ["--data", "twice.npz"],
    ["--data", "floats.npz", "--calibration-images", "7"],
    ["--data", "photos", "--calibration", "digits.npz", "--calibration-images", "50"],
    ["--data", "digits.npz", "--calibration", "twice.npz", "--calibration-images", "60"],
    ["--data", "digits.npz", "--calibration", "other.npz"],
    ["--data", "digits.npz", "--calibration", "digits"],
    ["--data", "digits"],
]


@pytest.mark.parametrize("limit", [[], ["--limit", "30"]], ids=" ".join)
@pytest.mark.parametrize("sources", SOURCES, ids=" ".join)
def test_no_threshold_comes_from_an_evaluated_image(home, monkeypatch, sources, limit):
    """By content, whatever the files: also where an image is there twice or in both files."""
    calibration, split = parts(home, monkeypatch, *MINE, *sources, *limit)
    assert len(calibration) >= 7
    assert len(split) == 30 if limit else len(split) >= 100
    assert not set(digests(calibration)) & set(digests(split.floats()))


def test_a_saved_network_remembers_its_calibration_images(run, home, monkeypatch, tmp_path):
    """convert, then evaluate: what `evaluate` alone gives, from another kind of file too."""
    target = str(tmp_path / "new" / "net.safetensors")
    options = ["--levels", "8", "--negative", "0"]
    code, out, err = run("convert", *MINE, "--data", "digits.npz", *options, "--output", target)
    assert code == 0, err
    assert "thresholds from 40 images of digits.npz" in out
    direct = found(run, *MINE, "--data", "digits.npz", *options, "--steps", "3")
    saved = found(run, target, "--data", "digits.npz", "--steps", "3")
    same = ["n", "accuracy", "ann_accuracy", "agreement", "events_per_image", "synops_per_image"]
    same += [
        "neuron",
        "levels",
        "negative",
        "calibration_images",
        "calibration_from",
        "images_from",
    ]
    assert {key: saved[key] for key in same} == {key: direct[key] for key in same}
    assert saved["balance"] == "Percentile(q=99.9)"
    assert saved["model"] == "net.safetensors"
    assert found(run, target, "--data", "photos", "--steps", "1")["n"] == 160
    assert found(run, target, "--data", "photos", "--limit", "150", "--steps", "1")["n"] == 150
    assert len(snn.load(target).report["calibration_digests"].split()) == 40


def test_the_book_s_networks_go_the_same_way(run, tmp_path):
    target = str(tmp_path / "net.safetensors")
    assert run("convert", "digits-cnn", "--output", target)[0] == 0
    saved = found(run, target, "--data", "digits", "--steps", "2")
    direct = found(run, "digits-cnn", "--steps", "2")
    assert saved["n"] == direct["n"] == 355
    assert saved["accuracy"] == direct["accuracy"]
    assert saved["images_from"] == "test images of digits"
    own_images = found(run, "digits-cnn", "--data", "photos", "--steps", "2")
    assert own_images["n"] == 160
    code, out, _ = run("verify", target, "--data", "digits", "--steps", "4")
    assert code == 0
    assert "no original to compare" in out


def test_of_a_data_set_nothing_is_tried_that_set_the_thresholds(run, tmp_path):
    """And a saved network gets its images as it was told, of a data set too."""
    target, few = str(tmp_path / "net.safetensors"), ("--calibration", "few.npz")
    other = found(run, "digits-cnn", "--data", "digits", *few, "--steps", "2")
    assert other["n"] == 351
    assert other["images_from"].startswith("test images of digits (4 others left out")
    assert run("convert", "digits-cnn", *few, "--output", target)[0] == 0
    plain = found(run, target, "--data", "digits", "--steps", "2")
    assert plain["n"] == 351
    scaled = found(run, target, "--data", "digits", "--steps", "2", "--mean", "0.9", "--std", "0.1")
    assert scaled["accuracy"] != plain["accuracy"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_mean_and_standard_deviation_become_part_of_the_network(home, monkeypatch, dtype, tmp_path):
    """The network sees (x − mean) / std, and takes images in [0, 1]; a saved one says so itself."""
    monkeypatch.chdir(home)
    normal = ["--mean", "0.4", "--std", "0.25", "--data", "digits.npz", "--dtype", dtype]
    options = parsed("evaluate", *MINE, *normal)
    images = own.images_of(options)
    work = own.converted(options, images)
    x = images.whole[:20].floats()
    plain = snn.models.load("digits-cnn")
    with torch.no_grad():
        expected = plain((x - 0.4) / 0.25)
        assert torch.allclose(work.ann(x), expected, rtol=1e-4, atol=1e-4)
        assert torch.allclose(
            work.net.ann(x.to(work.net.dtype)).float(), expected, rtol=1e-3, atol=1e-3
        )
    path = tmp_path / "normal.safetensors"
    work.net.save(path)
    saved = parsed("evaluate", str(path), "--data", "digits.npz")
    assert torch.allclose(
        own.converted(saved, images).ann(x).float(), expected, rtol=1e-3, atol=1e-3
    )


def test_a_saved_network_may_want_its_images_normalized(home, monkeypatch, tmp_path):
    """Saved in Python, without the normalization inside: then the images are changed."""
    monkeypatch.chdir(home)
    split = read_arrays(home / "digits.npz")
    net = snn.convert(snn.models.load("digits-cnn"), split[:9].floats())
    net.save(tmp_path / "bare.safetensors")
    words = ["--data", "digits.npz", "--mean", "0.5", "--std", "0.5"]
    _, tried = parts(home, monkeypatch, str(tmp_path / "bare.safetensors"), *words)
    assert torch.allclose(tried.images, (split.floats() - 0.5) / 0.5)


def test_verify_needs_no_labels(run):
    words = [*MINE, "--data", "bare.npz", "--steps", "4", "--limit", "20", "--device", "cpu"]
    code, out, err = run("verify", *words, "--json")
    assert code == 0, err
    result = json.loads(out)
    assert result["graph_error"] < 1e-5
    assert result["images"] == 20
    assert result["calibration_from"] == "images of bare.npz"
    code, out, _ = run("verify", *words)
    assert "folded ANN against original" in out
    assert "thresholds from images of bare.npz" in out


NPZ = ["--data", "digits.npz"]
WRONG = [
    (["my_net.py", *NPZ], ["my_net.py:FUNCTION"]),
    (["my_net.py:", *NPZ], ["no ''", "make_net", "Net"]),
    (["my_net.py:make", *NPZ], ["no 'make'", "it defines", "make_net"]),
    (["no_net.py:make", *NPZ], ["no_net.py: there is no such file"]),
    (["my_net.py:several", *NPZ], ["several() missing 1 required positional argument"]),
    (["my_net.py:number", *NPZ], ["gives int, no torch.nn.Module"]),
    (["my_net.py:stops", *NPZ], ["my_net.py, line ", "RuntimeError: no weights"]),
    (["my_net.py:leaves", *NPZ], ["my_net.py, line ", "SystemExit: 3"]),
    (["w.pt", *NPZ], ["FILE.py:FUNCTION --weights FILE"]),
    (["my_net.py:make_net"], ["--data IMAGES"]),
    (["net.safetensors", *NPZ], ["net.safetensors: there is no such file"]),
    (["w.safetensors", *NPZ], ["w.safetensors is no spiking network of snnlib"]),
    ([*MINE, "--data", "nowhere"], ["nowhere: no folder, no .npz file and no data set"]),
    ([*MINE, "--data", "minst"], ["digits, mnist, fashion_mnist, cifar10"]),
    ([*MINE, "--data", "bare.npz"], ["bare.npz has no array 'labels'"]),
    ([*MINE, "--data", "few.npz"], ["few.npz has too few images"]),
    ([*MINE, *NPZ, "--calibration", "twice.npz"], ["all of its images set the thresholds"]),
    ([*MINE, *NPZ, "--calibration-images", "0"], ["--calibration-images 0"]),
    ([*MINE, *NPZ, "--size", "28"], ["--size is for folders"]),
    ([*MINE, *NPZ, "--channels", "1"], ["--channels is for folders"]),
    ([*MINE, "--data", "photos", "--layout", "nchw"], ["--layout is for .npz files"]),
    ([*MINE, *NPZ, "--layout", "nhwc"], ["28"]),
    ([*MINE, *NPZ, "--mean", "0.5"], ["--mean and --std go together"]),
    ([*MINE, *NPZ, "--mean", "0.5,0.5", "--std", "1"], ["2 numbers for images of 1 channels"]),
    ([*MINE, *NPZ, "--mean", "0.5", "--std", "0"], ["--std 0: must be above 0"]),
    ([*MINE, *NPZ, "--mean", "half", "--std", "1"], ["--mean: invalid numbers value: 'half'"]),
    ([*MINE, *NPZ, "--mean", "nan", "--std", "1"], ["argument --mean", "nan"]),
    ([*MINE, "--data", "photos", "--size", "0"], ["argument --size", "0"]),
    ([*MINE, "--data", "photos", "--channels", "3"], ["3"]),
    (["digits-cnn", "--mean", "0.5", "--std", "1"], ["--mean is inside digits-cnn already"]),
    (["digits-cnn", "--weights", "w.safetensors"], ["not a checkpoint of snnlib", "my_net.py"]),
    (["my_net.py:make_net", *NPZ, "--weights", "no.pt"], ["no.pt: there is no such file"]),
    (["my_net.py:make_net", *NPZ, "--weights", "text.pt"], ["text.pt cannot be read as weights"]),
    (["my_net.py:make_net", *NPZ, "--weights", "list.pt"], ["list.pt holds 0 state dicts"]),
    (["my_net.py:make_net", *NPZ, "--weights", "two.pt"], ["2 state dicts ['model', 'ema']"]),
    (["my_net.py:make_net", *NPZ, "--weights", "pickled.pt"], ["may run code and is not opened"]),
    (["my_net.py:make_net", *NPZ, "--weights", "short.pt"], ["13.bias is absent there, (10,)"]),
    (["my_net.py:three", *NPZ], ["have 10 classes, the network answers with 3"]),
    (["my_net.py:three", "--data", "photos"], ["10 classes, the network answers with 3"]),
    (["my_net.py:real", *NPZ], ["shape (1,) an image: accuracy needs one number for each"]),
    (["my_net.py:dense", *NPZ], ["shape (3, 28, 28) an image", "snnlib verify"]),
]  # fmt: skip


@pytest.mark.parametrize(("words", "told"), WRONG, ids=lambda a: " ".join(a)[:70])
def test_what_does_not_fit_gives_one_readable_message(run, words, told):
    code, out, err = run("evaluate", *words, "--device", "cpu", "--quiet", "--steps", "1")
    assert code == 2
    assert out == ""
    assert "Traceback" not in err
    assert all(word in err for word in told), err


SAVED = [["--neuron", "if"], ["--levels", "4"], ["--balance", "max"], ["--percentile", "99"]]
SAVED += [["--per-channel"], ["--calibration", "digits.npz"], ["--weights", "w.pt"]]


@pytest.mark.parametrize("option", SAVED, ids=" ".join)
def test_a_saved_network_is_not_converted_again(run, option, tmp_path):
    target = str(tmp_path / "net.safetensors")
    assert run("convert", *MINE, *NPZ, "--output", target)[0] == 0
    code, _, err = run("evaluate", target, *NPZ, *option)
    assert code == 2
    assert f"{option[0]} belongs to a conversion" in err
    assert run("convert", target, *NPZ, "--output", target)[0] == 2


def test_convert_writes_safetensors_alone(run):
    code, _, err = run("convert", *MINE, *NPZ, "--output", "net.bin")
    assert code == 2
    assert "must end in .safetensors" in err
    assert not Path("net.bin").exists()


def test_nothing_is_written_beside_the_file_that_is_run(run, home):
    before = sorted(path.name for path in home.iterdir() if path.name != "__pycache__")
    assert run("verify", *MINE, *NPZ, "--steps", "1", "--limit", "5")[0] == 0
    after = sorted(path.name for path in home.iterdir() if path.name != "__pycache__")
    assert before == after
