"""Training: resuming and seeds are exact, augmentation does what it says, choices see no test."""

import io
import itertools
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from tqdm import tqdm

from snnlib.zoo import augment, checkpoints, data, models, train, training
from snnlib.zoo.recipes import RECIPES

SHORT = replace(RECIPES["digits-cnn"], epochs=3, batch=128)


@pytest.fixture(autouse=True)
def one_thread():
    """Sums in a fixed order: exact equality is asked for below."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def fit(path, **options):
    return train.fit("digits-cnn", out=path, progress=False, **{"recipe": SHORT} | options)


def same(one, other):
    a, b = checkpoints.read(one)[0], checkpoints.read(other)[0]
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# --- runs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [1, 2])
def test_resumed_equals_uninterrupted(stop, tmp_path, monkeypatch):
    whole = fit(tmp_path / "whole.safetensors")
    save = train.Run.save

    def interrupted(run, path):
        save(run, path)
        if run.epoch == stop:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train.Run, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "parts.safetensors")
    assert not (tmp_path / "parts.safetensors").exists()
    epochs = []
    train_epoch = train.Run.train_epoch
    monkeypatch.setattr(
        train.Run,
        "train_epoch",
        lambda run, *args: (epochs.append(run.epoch), train_epoch(run, *args)),
    )
    assert same(whole, fit(tmp_path / "parts.safetensors"))
    assert epochs == list(range(stop, SHORT.epochs))  # it really went on from there
    assert {p.name for p in tmp_path.iterdir()} == {"whole.safetensors", "parts.safetensors"}


def test_seed_decides_and_nothing_else(tmp_path):
    one = fit(tmp_path / "one.safetensors", epochs=1)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert same(one, fit(tmp_path / "again.safetensors", epochs=1))
    assert torch.equal(torch.get_rng_state(), state)  # the caller's random numbers are untouched
    assert not same(one, fit(tmp_path / "other.safetensors", epochs=1, seed=1))


def test_state_of_other_settings_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    run = train.Run("digits-cnn", SHORT, 0, torch.device("cpu"))
    run.save(tmp_path / "x.safetensors.state")
    with pytest.raises(ValueError, match="other settings"):
        fit(path, seed=1)
    assert fit(path, seed=1, epochs=1, resume=False).is_file()


def saved(content):
    """A file as torch writes it."""
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


SETTINGS = {"name": "digits-cnn", "seed": 0, "recipe": asdict(SHORT)}
OTHERS = {
    "junk": b"not a state",
    "a tensor": saved(torch.zeros(3)),
    "a list": saved([1, 2]),
    "an empty dict": saved({}),
    "settings alone": saved({"settings": SETTINGS}),
    "the weights of another network": saved(
        {"settings": SETTINGS, "network": {"weight": torch.zeros(2)}}
    ),
    "a pickled object": saved({"settings": SETTINGS, "network": nn.Linear(2, 2)}),
}


@pytest.mark.parametrize("content", OTHERS.values(), ids=OTHERS)
def test_a_state_of_another_kind_is_refused_and_stays(tmp_path, content):
    state = tmp_path / "x.safetensors.state"
    state.write_bytes(content)
    with pytest.raises(ValueError, match=r"not the state of a training run.*--no-resume"):
        fit(tmp_path / "x.safetensors")
    assert state.read_bytes() == content


def test_it_learns_and_records(tmp_path):
    recipe = replace(RECIPES["digits-cnn"], epochs=8, average=0.9)
    path = fit(tmp_path / "x.safetensors", recipe=recipe)
    network = models.load("digits-cnn", path)
    record = network.metadata
    train_part, test = data.load("digits")
    _, validation = data.validation_split(train_part)
    assert record["validation_accuracy"] == train.accuracy(network, validation) > 0.9
    assert record["test_accuracy"] == train.accuracy(network, test) > 0.9
    history = record["validation_history"]
    assert len(history) == 8
    assert history[record["best_epoch"] - 1] == max(history)
    assert record["command"] == f"snnlib.train.fit('digits-cnn', seed=0, recipe={recipe})"
    assert (record["dataset"], record["seed"]) == ("digits", 0)
    assert record["versions"]["torch"] == torch.__version__
    weights = checkpoints.read(path)[0]["conv2.weight"]
    assert str(weights.dtype) == f"torch.{record['storage']}"


def test_the_test_images_are_looked_at_once(tmp_path, monkeypatch):
    _, test = data.load("digits")
    seen = []
    accuracy = train.accuracy

    def spy(network, split, *args):
        seen.append(len(split))
        return accuracy(network, split, *args)

    for module in (train, training):
        monkeypatch.setattr(module, "accuracy", spy)
    fit(tmp_path / "x.safetensors")
    assert seen.count(len(test)) == 1
    assert seen.count(len(test)) + seen.count(143) == len(seen)


def test_bad_requests_fail_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "load", lambda *_: pytest.fail("loaded"))
    with pytest.raises(ValueError, match="Did you mean 'digits-cnn'"):
        train.fit("digit-cnn", out=tmp_path / "x")
    with pytest.raises(ValueError, match="at least 1"):
        fit(tmp_path / "x", epochs=0)
    for seed in (None, -1, 10**23, 1.5, "0", True):
        with pytest.raises(ValueError, match=r"seed=.* whole number from 0"):
            fit(tmp_path / "x", seed=seed)
    for device in ("meta", "mars", "cuda:99", ""):
        with pytest.raises(ValueError, match=f"device {device}: nothing can be computed there"):
            fit(tmp_path / "x", device=device)


def test_unwritable_folder(tmp_path):
    (tmp_path / "file").write_text("a file where a folder should be")
    with pytest.raises(checkpoints.CheckpointError, match="Choose another folder"):
        fit(tmp_path / "file" / "x.safetensors", epochs=1)


def test_every_network_has_a_recipe():
    assert RECIPES.keys() == set(models.NAMES)


@pytest.mark.cuda
def test_trains_on_cuda(tmp_path):
    path = fit(tmp_path / "x.safetensors", epochs=8, device="cuda")
    assert models.load("digits-cnn", path).metadata["test_accuracy"] > 0.5


def test_a_recipe_can_start_from_trained_weights():
    """Without a step of training it is the network that it starts from."""
    recipe = replace(SHORT, start="digits-cnn")
    run = train.Run("digits-cnn", recipe, 0, torch.device("cpu"))
    trained = models.load("digits-cnn").state_dict()
    assert all(torch.equal(trained[k], v) for k, v in run.network.state_dict().items())


def test_a_further_cycle_starts_from_the_checkpoint_of_the_first(tmp_path, monkeypatch):
    monkeypatch.setitem(train.FURTHER, "digits-cnn", replace(SHORT, epochs=1, rate=0.01))
    first = models.load("digits-cnn")
    where = checkpoints.ASSETS / "digits-cnn.safetensors"
    path = fit(tmp_path / "x.safetensors", recipe=None, first=where)
    record = models.load("digits-cnn", path).metadata
    assert record["recipe"]["start"] == str(where)
    assert record["first"] == first.metadata
    assert record["command"] == f"snnlib train digits-cnn --seed 0 --first {where}"
    assert record["validation_accuracy"] > 0.95  # from random weights one epoch gives far less


def test_a_further_cycle_needs_a_recipe(tmp_path):
    where = checkpoints.ASSETS / "digits-cnn.safetensors"
    with pytest.raises(ValueError, match="digits-cnn has no recipe for a further cycle"):
        fit(tmp_path / "x.safetensors", recipe=None, first=where)


def test_a_further_cycle_takes_no_other_recipe(tmp_path):
    """Else the record would name a first cycle that the weights did not come from."""
    where = checkpoints.ASSETS / "digits-cnn.safetensors"
    with pytest.raises(ValueError, match="first and recipe"):
        fit(tmp_path / "x.safetensors", recipe=SHORT, first=where)


def pupil(**options):
    """A run in float32 from random weights, and the first images of its data set."""
    run = train.Run("digits-cnn", replace(SHORT, **options), 0, torch.device("cpu"))
    run.reduced = False
    return run, data.load("digits")[0][:128]


@pytest.mark.parametrize("teachers", [1, 2])
def test_a_student_comes_closer_to_its_teachers_with_every_step(teachers):
    """The divergence is convex in the answers, with a curvature of ½ an image at most."""
    run, split = pupil(teachers=("digits-cnn",) * teachers)
    if teachers == 2:
        run.teachers[1] = models.create("digits-cnn").eval()
    x, apart = data.to_float(split.images), []
    answers = torch.zeros(len(x), 10, requires_grad=True)
    with torch.no_grad():
        goal = torch.stack([F.log_softmax(teacher(x), 1) for teacher in run.teachers]).mean(0)
    for _ in range(20):
        apart.append(run._divergence(answers, x))
        (gradient,) = torch.autograd.grad(apart[-1], answers)
        difference = (answers / 2).softmax(1) - (goal / 2).softmax(1)
        torch.testing.assert_close(gradient * len(x), 2 * difference, rtol=1e-4, atol=1e-5)
        answers = (answers - len(x) * gradient).detach().requires_grad_()
    assert all(later < earlier for earlier, later in itertools.pairwise(apart))
    assert run._divergence(goal, x).item() == pytest.approx(0, abs=1e-5)


def test_a_student_learns_as_much_from_its_teachers_as_from_the_labels(monkeypatch):
    """One step without momentum: the learning rate times the mean of both gradients."""
    run, split = pupil(teachers=("digits-cnn",), momentum=0.0, decay=0.0, average=0.0)
    weights, parts = list(run.network.parameters()), []

    def watched(loss):
        def compute(*args, **options):
            value = loss(*args, **options)
            parts.append(torch.autograd.grad(value, weights, retain_graph=True))
            return value

        return compute

    monkeypatch.setattr(training.F, "cross_entropy", watched(F.cross_entropy))
    monkeypatch.setattr(run, "_divergence", watched(run._divergence))
    before = [weight.detach().clone() for weight in weights]
    run.train_epoch(split, tqdm(disable=True))
    rate = run.optimizer.param_groups[0]["lr"]
    assert len(parts) == 2
    for weight, old, labels, teachers in zip(weights, before, *parts, strict=True):
        torch.testing.assert_close(
            old - weight, rate * (labels + teachers) / 2, rtol=1e-3, atol=1e-6
        )
        assert labels.abs().max() > 0 < teachers.abs().max()


# --- parts ---------------------------------------------------------------------------------------


@given(warmup=st.floats(0.01, 0.9), share=st.floats(0, 1))
def test_one_cycle_rises_then_falls(warmup, share):
    rate = train.one_cycle(share, warmup)
    assert 0 <= rate <= 1
    later = min(1.0, share + 0.01)
    if later <= warmup:
        assert train.one_cycle(later, warmup) >= rate
    elif share >= warmup:
        assert train.one_cycle(later, warmup) <= rate
    assert math.isclose(train.one_cycle(warmup, warmup), 1)


@pytest.mark.parametrize(
    ("about", "pays"),
    [
        ("vendor_id : AuthenticAMD\nflags : avx512f avx512_bf16", True),
        ("vendor_id : GenuineIntel\nflags : avx512f avx512_bf16", False),  # no tiles
        ("vendor_id : GenuineIntel\nflags : avx512f avx512_bf16 amx_bf16", True),
        ("vendor_id : AuthenticAMD\nflags : avx512f", False),
    ],
)
def test_bfloat16_is_chosen_where_the_processor_gains_by_it(about, pays, tmp_path, monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(training, "_CPU", tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert not training.bfloat16_pays(cpu)  # nothing is known
    (tmp_path / "cpuinfo").write_text(about)
    assert training.bfloat16_pays(cpu) is pays
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    assert not training.bfloat16_pays(cpu)


def test_running_average_forgets_the_initial_weights():
    layer = nn.Linear(1, 1, bias=False)
    average = torch.optim.swa_utils.AveragedModel(layer, multi_avg_fn=training._running(0.99))
    nn.init.constant_(layer.weight, 5.0)
    average.update_parameters(layer)
    values = []
    for value in range(200):
        nn.init.constant_(layer.weight, float(value))
        average.update_parameters(layer)
        values.append(average.module.weight.item())
    expected = 5.0
    for steps, value in enumerate(range(200), 1):
        decay = min(0.99, (1 + steps) / (10 + steps))
        expected = decay * expected + (1 - decay) * value
        assert math.isclose(values[steps - 1], expected, rel_tol=1e-4)


def test_accuracy_counts():
    labels = torch.arange(10).repeat(7)
    images = torch.zeros(70, 1, 10, 1, dtype=torch.uint8)
    images[torch.arange(70), 0, labels] = 255
    images[:5] = images[:5].flip(2)  # five wrong ones: no label is its own mirror
    split = data.Split(images, labels, tuple("0123456789"))
    network = nn.Sequential(nn.Flatten(), nn.Linear(10, 10, bias=False), nn.Dropout(0.9))
    nn.init.eye_(network[1].weight)
    assert train.accuracy(network.train(), split, batch=16) == 65 / 70
    assert network.training


@given(shift=st.integers(0, 4), seed=st.integers(0, 1000), flipped=st.booleans())
def test_shift_and_flip_equal_padding_and_cropping(shift, seed, flipped):
    """Against the plain way: mirror the picture, pad by reflection, cut a window."""
    random = np.random.default_rng(seed)
    images = torch.from_numpy(random.integers(0, 256, (3, 2, 7, 9), np.uint8))
    flip = torch.from_numpy(random.integers(0, 2, 3).astype(bool)) if flipped else None
    generator = torch.Generator().manual_seed(seed)
    moved = augment.shift_flip(images, shift, flip, generator)
    generator.manual_seed(seed)
    down = torch.randint(2 * shift + 1, (3, 1), generator=generator)
    right = torch.randint(2 * shift + 1, (3, 1), generator=generator)
    for i, image in enumerate(images.numpy()):
        wide = np.pad(image, ((0, 0), (shift, shift), (shift, shift)), mode="reflect")
        window = wide[:, down[i, 0] :, right[i, 0] :][:, :7, :9]
        if flip is not None and flip[i]:
            window = window[:, :, ::-1]
        assert np.array_equal(moved[i].numpy(), window)


@given(size=st.integers(0, 6), seed=st.integers(0, 1000))
def test_cutout_changes_one_square(size, seed):
    images = torch.rand(4, 2, 9, 8)
    cut = augment.cutout(images.clone(), size, torch.Generator().manual_seed(seed))
    changed = cut != images
    assert (cut[changed] == 0.5).all()
    for mask in changed.any(1):
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        assert int(mask.sum()) == len(rows) * len(columns)  # a filled rectangle
        assert max(len(rows), len(columns)) <= size


def test_warp_by_nothing_changes_nothing():
    images = torch.rand(3, 1, 28, 28)
    still = augment.warp(images, 0, 0, 0, torch.Generator().manual_seed(0))
    assert torch.allclose(still, images, atol=1e-5)


def test_warp_rotates_about_the_center_and_keeps_the_mass():
    images = torch.zeros(64, 1, 28, 28)
    images[:, :, 10:18, 12:16] = 1
    turned = augment.warp(images, 12, 0, 0, torch.Generator().manual_seed(0))
    assert not torch.allclose(turned, images, atol=0.1)
    assert torch.allclose(turned.sum((1, 2, 3)), images.sum((1, 2, 3)), rtol=0.05)
    rows = torch.arange(28.0)[:, None]
    center = (turned[:, 0] * rows).sum((1, 2)) / turned.sum((1, 2, 3))
    assert (center - 13.5).abs().max() < 0.1
