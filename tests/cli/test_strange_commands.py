"""The command line in the hands of strangers: zeros, pipes, folders, names, variables."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

import snnlib as snn
from snnlib.__main__ import main
from snnlib.cli import data as data_command
from snnlib.deploy.files import write_bytes
from snnlib.zoo import checkpoints, distributed, models
from snnlib.zoo.pictures import Folder

QUIET = ["--device", "cpu", "--json", "--quiet"]
NETWORK = """
import torch
from torch import nn

def plain():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 3))

class Mod(nn.Module):
    def __init__(self):
        super().__init__()
        self.module = plain()
    def forward(self, x):
        return self.module(x)

def parallel():
    return nn.DataParallel(plain())

def lazy():
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(9), nn.ReLU(), nn.LazyLinear(3))

def nowhere():
    return plain().to("meta")

def huge():
    net = plain()
    with torch.no_grad():
        net[1].weight[0, 0] = 1e5
    return net
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of one's own, images for it as arrays and as pictures, and a converted network."""
    place = tmp_path_factory.mktemp("strange")
    (place / "nets.py").write_text(NETWORK)
    random = np.random.RandomState(0)
    images, labels = random.randint(0, 256, (60, 8, 8), dtype=np.uint8), random.randint(0, 3, 60)
    np.savez(place / "d.npz", images=images, labels=labels)
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        (place / "photos" / "abc"[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / "photos" / "abc"[label] / f"{i}.png")
    ann = nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 3)).eval()
    x = torch.from_numpy(images[:, None]).float() / 255
    snn.convert(ann, x).save(place / "net.safetensors")
    return place


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.chdir(folder)

    def ran(*words: str) -> tuple[int, str, str]:
        code = main(list(words))
        out, err = capsys.readouterr()
        return code, out, err

    return ran


REFUSED = {
    "zero": ["evaluate", "net.safetensors", "--data", "d.npz", "--negative", "0"],
    "zeros": ["evaluate", "net.safetensors", "--data", "d.npz", "--percentile", "0"],
    "zero of a code": ["evaluate", "digits-cnn", "--code", "radix", "--v0", "0"],
    "codes without one": ["evaluate", "digits-cnn", "--bits", "0"],
    "chance in none": ["evaluate", "digits-cnn", "--seed", "0"],
    "scaled export": [
        "export", "net.safetensors", "--web", "w.safetensors", "--mean", "0.5", "--std", "0.2",
    ],
    "images of an export": ["export", "net.safetensors", "--web", "w.safetensors", "--data", "d"],
    "two sources": [
        "convert", "nets.py:plain", "--data", "absent", "--calibration", "d.npz", "--output",
        "o.safetensors",
    ],
    "converted again": ["convert", "net.safetensors", "--output", "o.safetensors"],
    "other classes": ["evaluate", "digits-cnn", "--data", "photos", "--code", "radix", "--quiet"],
    "no deviation": [
        "evaluate", "nets.py:plain", "--data", "d.npz", "--mean", "0", "--std", "1e-30",
    ],
    "no values": ["evaluate", "nets.py:nowhere", "--data", "d.npz"],
    "a folder to train into": ["train", "digits-cnn", "--epochs", "1", "--output", "photos"],
    "nothing to train into": ["train", "digits-cnn", "--epochs", "1", "--output", "."],
    "a name too long": ["evaluate", f"{'x' * 300}.safetensors", "--data", "d.npz"],
    "weights too long": [
        "evaluate", "nets.py:plain", "--weights", f"{'x' * 300}.pt", "--data", "d.npz",
    ],
    "too many slots": ["evaluate", "digits-cnn", "--code", "first-spike", "--slots", "9" * 24],
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_ignored_or_end_in_a_traceback_is_refused(run: Any, name: str) -> None:
    code, out, err = run(*REFUSED[name])
    assert (code, out) == (2, "")
    assert err.startswith("snnlib: ")


def test_half_a_size_is_none(run: Any) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("evaluate", "nets.py:plain", "--data", "photos", "--size", "8x")
    assert stopped.value.code == 2


def saved(place: Path, name: str, weights: dict[Any, Any]) -> str:
    torch.save(weights, place / name)
    return name


@pytest.mark.parametrize("before", ["module.", "_orig_mod.module."])
@pytest.mark.parametrize("way", ["Mod", "parallel", "plain"])
def test_weights_fit_by_the_names_they_have(run: Any, folder: Path, way: str, before: str) -> None:
    trained = nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 3)).state_dict()
    weights = {f"{before}{name}": value for name, value in trained.items()}
    file = saved(folder, "mod.pt", weights)
    code, out, err = run("evaluate", f"nets.py:{way}", "--weights", file, "--data", "d.npz", *QUIET)
    assert code == 0, err
    code, bare, err = run(
        "evaluate", "nets.py:plain", "--weights", saved(folder, "bare.pt", trained),
        "--data", "d.npz", *QUIET,
    )  # fmt: skip
    assert json.loads(out)["ann_accuracy"] == json.loads(bare)["ann_accuracy"], err


def test_lazy_layers_take_the_shapes_of_their_weights(run: Any, folder: Path) -> None:
    trained = nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 3)).state_dict()
    file = saved(folder, "lazy.pt", trained)
    code, _, err = run("evaluate", "nets.py:lazy", "--weights", file, "--data", "d.npz", *QUIET)
    assert code == 0, err


@pytest.mark.parametrize("weights", [{0: torch.ones(1)}, {"a": {0: torch.ones(1)}}])
def test_names_are_texts(run: Any, folder: Path, weights: dict[Any, Any]) -> None:
    file = saved(folder, "numbers.pt", weights)
    code, _, err = run("evaluate", "nets.py:plain", "--weights", file, "--data", "d.npz")
    assert code == 2
    assert "holds 0 state dicts" in err


def test_sparse_weights_do_not_fit(run: Any, folder: Path) -> None:
    ann = nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 3))
    weights = ann.state_dict() | {"1.weight": ann[1].weight.detach().to_sparse()}
    file = saved(folder, "sparse.pt", weights)
    code, _, err = run("evaluate", "nets.py:plain", "--weights", file, "--data", "d.npz")
    assert (code, "does not fit nets.py" in err) == (2, True)


@pytest.mark.parametrize("std", [1e-2, 1e-4, 1e-10])
def test_small_deviations_divide_exactly(std: float) -> None:
    x = torch.full((1, 1, 1, 1), std)
    layer = models.normalization([0.0], [std], eps=0.0).eval()
    assert float(layer(x)) == pytest.approx(1.0, rel=1e-5)


def test_weights_that_float16_does_not_hold_stay_as_they_are(run: Any) -> None:
    code, _, err = run(
        "export", "nets.py:huge", "--data", "d.npz", "--web", "h.safetensors", "--half"
    )
    assert code == 0, err
    code, _, err = run("evaluate", "h.safetensors", "--data", "d.npz", *QUIET)
    assert code == 0, err


def test_percentiles_keep_their_names(run: Any) -> None:
    words = ["export", "nets.py:plain", "--data", "d.npz", "--web", "p.safetensors"]
    code, _, err = run(*words, "--percentiles", "99.99999,100")
    assert code == 0, err
    with safe_open("p.safetensors", framework="pt") as file:
        record = json.loads(file.metadata()["web"])
    assert list(record["balanced"]) == ["99.99999", "100"]


def test_a_rank_alone_counts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert distributed.rank() == 0
    assert distributed.mine([1, 2, 3]) == [1, 2, 3]
    monkeypatch.setenv("WORLD_SIZE", "x")
    with pytest.raises(ValueError, match="WORLD_SIZE='x' must be a whole number"):
        distributed.size()


def test_the_folder_that_is_named_is_the_one_that_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from snnlib.zoo import data, fetch

    empty, full = tmp_path / "empty", tmp_path / "full"
    for base in (empty, full):
        (base / "MNIST" / "raw").mkdir(parents=True)
    (full / "MNIST" / "raw" / data.IDX_FILES[0]).write_bytes(b"1")
    monkeypatch.setattr(fetch, "folders", lambda root: [empty, full])
    assert data_command._place("mnist", None) == str(full / "MNIST" / "raw")


def test_hidden_pictures_are_no_pictures(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "photos", tmp_path / "photos")
    hidden = tmp_path / "photos" / "a" / ".ipynb_checkpoints"
    hidden.mkdir()
    (hidden / "1.png").write_bytes(b"no picture")
    (tmp_path / "photos" / "a" / "._0.png").write_bytes(b"no picture")
    assert len(Folder(tmp_path / "photos")) == 60


def test_a_pipe_gets_the_content_and_stays_a_pipe(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no named pipes")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE)
    write_bytes(pipe, b"content")
    assert reader.communicate()[0] == b"content"
    assert pipe.is_fifo()


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="needs /dev/stdout")
def test_standard_output_may_be_named_as_a_file() -> None:
    code = "from snnlib.deploy.files import write_bytes; write_bytes('/dev/stdout', b'content')"
    found = piped(f'{sys.executable} -c "{code}" | cat')
    assert (found.stdout, found.stderr) == ("content", "")


@pytest.mark.parametrize("record", ["5", "null", '"x"', "[]"])
def test_records_that_are_none(tmp_path: Path, record: str) -> None:
    file = tmp_path / "x.safetensors"
    about = {"format": checkpoints.FORMAT, "record": record}
    save_file({"w": torch.ones(1)}, file, metadata=about)
    with pytest.raises(checkpoints.CheckpointError, match="damaged"):
        checkpoints.read(file)


def piped(command: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    return subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, env=environment
    )


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
@pytest.mark.parametrize("words", ["--help", "evaluate digits-cnn --limit 3 --steps 1 --quiet"])
def test_a_reader_that_has_seen_enough(words: str) -> None:
    found = piped(f"{sys.executable} -m snnlib {words} | true; exit ${{PIPESTATUS[0]}}")
    assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
@pytest.mark.parametrize(
    ("raised", "code"), [("ValueError('wrong')", 2), ("KeyboardInterrupt", 130), ("TypeError", 1)]
)
def test_an_error_is_told_where_nobody_reads_what_came_before(raised: str, code: int) -> None:
    program = (
        "import sys; from snnlib import __main__ as line; from snnlib.cli import evaluate\n"
        f"def fails(options): print('partial'); raise {raised}\n"
        "evaluate.execute = fails; sys.exit(line.main(['evaluate', 'digits-cnn']))"
    )
    found = piped(f'sleep 1 | {sys.executable} -c "{program}" | true; exit ${{PIPESTATUS[1]}}')
    assert found.returncode == code
    assert found.stderr


def test_a_program_that_calls_a_command_keeps_its_output() -> None:
    program = (
        "from snnlib.__main__ import main; print(main(['evaluate', 'x' * 300 + '.safetensors']))"
    )
    found = piped(f'{sys.executable} -c "{program}"')
    assert found.stdout.strip() == "2"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told() -> None:
    words = "evaluate digits-cnn --limit 3 --steps 1 --quiet --json"
    found = piped(f"{sys.executable} -m snnlib {words} > /dev/full")
    assert found.returncode == 2
    assert "No space left" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_without_a_place_for_messages_the_result_arrives() -> None:
    words = "evaluate digits-cnn --limit 3 --steps 1 --json"
    found = piped(f"{sys.executable} -m snnlib {words} 2>&-")
    assert found.returncode == 0
    assert json.loads(found.stdout)["n"] == 3
