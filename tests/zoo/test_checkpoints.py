"""Checkpoints: what is written comes back, damage is noticed, the error says what to do."""

import functools
import hashlib
import http.server
import json
import threading
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from book.experiments import setting
from book.tools import cards
from snnlib.graph.errors import CheckpointError
from snnlib.zoo import checkpoints, models

REPOSITORY = Path(__file__).parents[2] / "book" / "checkpoints"
SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)

dtypes = st.sampled_from([torch.float16, torch.float32, torch.float64, torch.int64, torch.uint8])
shapes = st.lists(st.integers(0, 4), max_size=4)
names = st.text("abc.01", min_size=1, max_size=6)


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """A machine with the package and no repository around it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SNNLIB_CHECKPOINTS", raising=False)
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr(checkpoints, "ASSETS", tmp_path / "package" / "snnlib" / "zoo" / "assets")
    return tmp_path


@pytest.fixture
def trained(tmp_path):
    """A small checkpoint of digits-cnn and its path."""
    torch.manual_seed(0)
    network = models.create("digits-cnn")
    record = {"architecture": "digits-cnn", "test_accuracy": 0.1}
    return checkpoints.write(tmp_path / "digits-cnn.safetensors", network.state_dict(), record)


@SHARED
@given(layout=st.dictionaries(names, st.tuples(dtypes, shapes), max_size=4), seed=st.integers(0))
def test_round_trip(layout, seed, tmp_path):
    generator = torch.Generator().manual_seed(seed % 2**63)
    state = {
        name: (100 * torch.rand(shape, generator=generator)).to(dtype)
        for name, (dtype, shape) in layout.items()
    }
    record = {"architecture": "x", "recipe": {"epochs": 3}, "history": [0.1, 1 / 3], "note": "θ ½"}
    tensors, found = checkpoints.read(checkpoints.write(tmp_path / "a.safetensors", state, record))
    assert found == record
    assert tensors.keys() == state.keys()
    for name, tensor in state.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)


@SHARED
@given(share=st.floats(0, 1, exclude_max=True))
def test_every_truncation_is_noticed(share, trained):
    content = trained.read_bytes()
    cut = trained.with_name("cut.safetensors")
    cut.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match="truncated or no safetensors file"):
        checkpoints.read(cut)


@SHARED
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_noticed_or_harmless(position, bit, trained):
    tensors, record = checkpoints.read(trained)
    content = bytearray(trained.read_bytes())
    content[int(position * len(content))] ^= 1 << bit
    damaged = trained.with_name("damaged.safetensors")
    damaged.write_bytes(content)
    try:
        other, found = checkpoints.read(damaged)
    except CheckpointError:
        pass
    else:  # white space between the words of the header
        assert found == record
        assert all(torch.equal(tensors[k], other[k]) for k in tensors)


def test_foreign_files(tmp_path):
    foreign = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(3)}, str(foreign))
    with pytest.raises(CheckpointError, match=r"not a checkpoint of snnlib.*snnlib\.convert"):
        checkpoints.read(foreign)
    save_file({"weight": torch.zeros(3)}, str(foreign), {"format": checkpoints.FORMAT})
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoints.read(foreign)
    foreign.write_text("<html>404: not found</html>")
    with pytest.raises(CheckpointError, match="no safetensors file"):
        checkpoints.read(foreign)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        checkpoints.read(tmp_path / "absent.safetensors")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        checkpoints.read(tmp_path)


def test_weights_of_another_network(trained):
    with pytest.raises(CheckpointError, match="weights of 'digits-cnn', not of 'mnist-cnn'"):
        models.load("mnist-cnn", trained)


def test_weights_that_do_not_fit(tmp_path):
    state = models.create("digits-cnn").state_dict()
    path = tmp_path / "digits-cnn.safetensors"
    for broken in (
        {k: v for k, v in state.items() if k != "conv2.weight"},
        {**state, "conv2.weight": torch.zeros(1, 2, 3, 3)},
        {**state, "conv9.weight": torch.zeros(1)},
    ):
        checkpoints.write(path, broken, {"architecture": "digits-cnn"})
        with pytest.raises(CheckpointError, match=r"does not fit .*conv[29]\.weight"):
            models.load("digits-cnn", path)


def test_narrow_halves_matrices_and_keeps_vectors():
    state = models.create("mnist-cnn").state_dict()
    for name, tensor in checkpoints.narrow(state).items():
        wide = tensor.ndim < 2
        assert tensor.dtype == (state[name].dtype if wide else torch.float16)
        assert torch.allclose(tensor.to(state[name].dtype), state[name], atol=1e-3, rtol=1e-3)


def test_interrupted_write_leaves_the_old_file(trained, monkeypatch):
    before = trained.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(CheckpointError, match="No space left"):
        checkpoints.write(trained, {}, {"architecture": "x"})
    assert trained.read_bytes() == before
    assert list(trained.parent.iterdir()) == [trained]


def test_unwritable_folder(tmp_path):
    (tmp_path / "file").write_text("a file where a folder should be")
    with pytest.raises(CheckpointError, match="cannot be written"):
        checkpoints.write(tmp_path / "file" / "x.safetensors", {}, {"architecture": "x"})


# --- finding -------------------------------------------------------------------------------------


def test_find_in_order(elsewhere, monkeypatch):
    """Each place hides those after it."""
    file = "mnist-cnn.safetensors"
    inside = elsewhere / "book" / "chapter"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    places = [
        elsewhere / "cache" / "snnlib" / "checkpoints",
        elsewhere / "package" / "book" / "checkpoints",
        elsewhere / "book" / "checkpoints",
        elsewhere / "package" / "snnlib" / "zoo" / "assets",
        elsewhere / "chosen",
    ]
    places[-1].mkdir()
    monkeypatch.setenv("SNNLIB_CHECKPOINTS", str(places[-1]))
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
        (place / file).touch()
        assert checkpoints.find("mnist-cnn") == place / file


def test_a_folder_that_is_not_there_is_not_skipped(elsewhere, monkeypatch):
    monkeypatch.setenv("SNNLIB_CHECKPOINTS", str(elsewhere / "mistyped"))
    with pytest.raises(CheckpointError, match=r"SNNLIB_CHECKPOINTS=.*mistyped: there is no such"):
        checkpoints.find("mnist-cnn")


@pytest.mark.parametrize("damage", ["truncated", "changed", "text"])
@pytest.mark.parametrize("inside", [True, False])
def test_only_files_of_the_cache_may_be_deleted(elsewhere, trained, inside, damage):
    content = {
        "truncated": trained.read_bytes()[:100],
        "changed": trained.read_bytes()[:-1] + b"!",
        "text": b"my own notes, forty pages",
    }[damage]
    folder = elsewhere / "cache" / "snnlib" / "checkpoints" if inside else elsewhere / "mine"
    folder.mkdir(parents=True)
    (folder / "thesis.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        checkpoints.read(folder / "thesis.safetensors")
    assert ("delete" in str(caught.value).lower()) == inside


def test_find_says_how_to_train(elsewhere, monkeypatch):
    monkeypatch.setattr(checkpoints, "index", dict)
    with pytest.raises(CheckpointError, match=r"no published checkpoint .* snnlib train mnist-cnn"):
        checkpoints.find("mnist-cnn")


@pytest.fixture
def published(elsewhere, trained, monkeypatch):
    """The published address is a local server; returns the index that can be changed."""
    folder = elsewhere / "served"
    folder.mkdir()
    trained.rename(folder / trained.name)
    content = (folder / trained.name).read_bytes()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    index = {"digits-cnn": {"sha256": hashlib.sha256(content).hexdigest()}}
    monkeypatch.setattr(checkpoints, "index", lambda: index)
    monkeypatch.setattr(checkpoints, "ADDRESS", f"http://127.0.0.1:{server.server_port}/")
    yield index
    server.shutdown()
    server.server_close()


def test_fetch_goes_to_the_cache(published, elsewhere):
    path = checkpoints.find("digits-cnn")
    assert path == elsewhere / "cache" / "snnlib" / "checkpoints" / "digits-cnn.safetensors"
    assert models.load("digits-cnn").metadata["test_accuracy"] == 0.1


def test_fetch_rejects_another_file(published, elsewhere):
    published["digits-cnn"]["sha256"] = "0" * 64
    with pytest.raises(CheckpointError, match="another file than the published one"):
        checkpoints.find("digits-cnn")
    assert not list((elsewhere / "cache").rglob("*.safetensors"))


def test_fetch_without_network(published, monkeypatch):
    monkeypatch.setattr(checkpoints, "ADDRESS", "http://127.0.0.1:9/")
    with pytest.raises(CheckpointError, match="SNNLIB_CHECKPOINTS"):
        checkpoints.find("digits-cnn")


def test_address_is_that_of_the_book():
    """One address, in _config.yml; the library's copy must follow it."""
    config = yaml.safe_load((REPOSITORY.parents[1] / "_config.yml").read_text(encoding="utf-8"))
    repository = config["repository"]
    owner_and_name = repository["url"].removeprefix("https://github.com/")
    raw = f"https://raw.githubusercontent.com/{owner_and_name}/{repository['branch']}"
    assert f"{raw}/book/checkpoints/" == checkpoints.ADDRESS


# --- what is published ---------------------------------------------------------------------------


def test_index_and_cards_are_those_of_the_files():
    files = cards.files(REPOSITORY)
    expected = {
        name: {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "bytes": path.stat().st_size,
        }
        for name, path in files.items()
    }
    assert json.loads(checkpoints.INDEX.read_text()) == expected
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert text == cards.render(REPOSITORY), "run: python -m book.tools.cards"


def test_macs_of_cards_are_those_of_the_results():
    """One definition: padding costs nothing. The same networks are slow and deep as before."""
    stored = json.loads((REPOSITORY.parent / "results" / "accuracy-over-time.json").read_text())
    results = {row["model"]: row["ann_macs"] for row in stored["runs"]}
    found = {name: cards._macs(name) for name in models.NAMES}
    assert found == results
    slow = {name for name, macs in found.items() if macs > setting.SLOW_MACS}
    deep = {name for name, macs in found.items() if macs > setting.DEEP_MACS}
    assert deep == {name for name in models.NAMES if name.startswith("cifar10")}
    assert slow - deep == {"fashion-cnn"}


def test_a_card_names_every_cycle_of_training():
    record = dict(models.load("digits-cnn").metadata)
    cycles = [record | {"command": f"train {number}"} for number in range(3)]
    cycles[1]["first"] = cycles[0]
    cycles[2]["first"] = cycles[1]
    card = cards._card("digits-cnn", cycles[2])
    named = [line.split("`")[1] for line in card if line.startswith("- **Cycle before**")]
    assert named == ["train 1", "train 0"]


def test_published_files_are_small_and_whole():
    files = cards.files(REPOSITORY)
    assert sum(path.stat().st_size for path in files.values()) <= 25e6
    for name, path in files.items():
        _, record = checkpoints.read(path)
        assert record["architecture"] == name
        assert record["command"].startswith(f"snnlib train {name} ")


@pytest.mark.parametrize(
    "before", ["module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."]
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_prefixes_of_wrappers_come_off(before, suffix, tmp_path):
    weights = {"conv.weight": torch.ones(2), "fc.bias": torch.zeros(1)}
    path = tmp_path / f"weights{suffix}"
    wrapped = {before + name: value for name, value in weights.items()}
    (torch.save if suffix == ".pt" else save_file)(wrapped, path)
    assert checkpoints.bare(checkpoints.weights(path)).keys() == weights.keys()
