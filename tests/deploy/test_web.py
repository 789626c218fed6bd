"""The page computes what snnlib computes: every count of every layer at every step, in Node."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
import web
from torch import Tensor, nn

import snnlib as snn
from snnlib.__main__ import main
from snnlib.deploy import storage

NEURONS = (snn.IF(), snn.Ternary(negative=0.0), snn.Augmented(levels=4, negative=0.5))
TIE = 1e-11  # of a threshold: nearer to it, another order of a sum may decide otherwise


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tensor]:
    """The digits network in a file with three settings of the thresholds; fifty test images."""
    train, test = snn.data.load("digits")
    x, ann = snn.data.to_float(train.images), snn.models.load("digits-cnn")
    nets = {f"{q:g}": snn.convert(ann, x, snn.IF(), balance=snn.Percentile(q)) for q in (99, 99.9)}
    path = tmp_path_factory.mktemp("web") / "digits.safetensors"
    balanced = {title: net.network.balanced for title, net in nets.items()}
    nets["99.9"].to_web(path, balanced=balanced, about="digits-cnn")
    return path, snn.data.to_float(test.images[:50])


def test_counts_of_every_layer_at_every_step_equal_snnlibs(
    digits: tuple[Path, Tensor], tmp_path: Path
) -> None:
    path, images = digits
    cases = [web.Case(path, images, 8, neuron) for neuron in NEURONS]
    cases += [web.Case(path, images[:5], 20), web.Case(path, images[:5], 6, snn.IF(0.0), "99")]
    for case, found in zip(cases, web.in_node(cases, tmp_path), strict=True):
        theirs, nearest = web.expected(case)
        assert nearest > TIE, case
        web.compare(found, theirs, case.neuron)
        assert theirs.events[-1] > 1000
        assert (theirs.multiplications[-1] > 0) == (case.neuron == NEURONS[2])


def test_ties_are_decided_alike(tmp_path: Path) -> None:
    """Potentials of exactly k/8 thresholds: where the networks above never come, by chance."""
    neurons: list[snn.IF | snn.Ternary | snn.Augmented] = [snn.IF()]
    for negative in (0.0, 0.25, 1.0):
        neurons += [snn.Ternary(negative), snn.Augmented(1, negative)]
        neurons += [snn.Augmented(1, negative, cap=2)]
    specs = [{"kind": each.kind, **vars(each)} for each in neurons]
    script = (
        "import {decide} from './spiking.js'; const all = [];"
        "for (const neuron of JSON.parse(process.argv[2]))"
        "  for (let count = 0; count < 5; count++)"
        "    for (let k = -40; k <= 40; k++) all.push(decide(neuron, k / 8, count) + 0);"
        "console.log(JSON.stringify(all));"
    )
    said = web.says(tmp_path, script, json.dumps(specs))
    potential = torch.arange(-40, 41, dtype=torch.float64) / 8
    one = torch.ones((), dtype=torch.float64)
    wanted = [
        each.decide(potential, torch.full_like(potential, count), one)
        for each in neurons
        for count in range(5)
    ]
    assert json.loads(said) == torch.cat(wanted).tolist()


# --- random networks -----------------------------------------------------------------------------


class Sum(nn.Module):
    """Two branches that meet: h + x, h − x, or 0.5 · x added."""

    def __init__(self, body: nn.Module, alpha: float) -> None:
        super().__init__()
        self.body, self.alpha = body, alpha

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(self.body(x), x, alpha=self.alpha)


class Mean(nn.Module):
    """Over height and width."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def unit(r: random.Random) -> nn.Module:
    bounded = (nn.ReLU6(), nn.Hardtanh(0.0, r.uniform(0.3, 1.0)))
    return r.choice((nn.ReLU(), nn.ReLU(), *bounded))


def convolution(r: random.Random, shape: Tensor) -> nn.Module:
    channels, height, width = shape.shape[1:]
    groups = r.choice([g for g in (1, 2, channels) if channels % g == 0])
    while True:
        kernel, dilation = (r.choice((1, 2, 3)), r.choice((2, 3))), (r.choice((1, 2)), 1)
        padding = (r.choice((0, 1)), r.choice((0, 1, 2)))
        stride = (r.choice((1, 2)), r.choice((1, 2)))
        sides = zip((height, width), padding, dilation, kernel, strict=True)
        if min(n + 2 * p - d * (k - 1) for n, p, d, k in sides) > 2:
            break
    return nn.Conv2d(
        channels, groups * r.choice((1, 2, 3)), kernel, stride, padding, dilation, groups,
        bias=r.random() < 0.7,
    )  # fmt: skip


def pooling(r: random.Random) -> nn.Module:
    padding = r.choice((0, 1))
    return r.choice((
        nn.AvgPool2d(2, padding=padding, count_include_pad=r.random() < 0.5),
        nn.AvgPool2d((2, 1), stride=1, divisor_override=3),
        nn.AdaptiveAvgPool2d((r.choice((2, 3)), 2)),
        nn.MaxPool2d(2, stride=r.choice((1, 2)), padding=padding),
        nn.MaxPool2d((1, 2)),
        nn.Sequential(nn.AvgPool2d(2, stride=1), nn.MaxPool2d(2, stride=1)),
    ))  # fmt: skip


def network(r: random.Random) -> tuple[nn.Module, Tensor]:
    """A random network with random norms, and images for it."""
    x = torch.rand(24, r.choice((1, 2, 4)), r.choice((6, 7, 9)), r.choice((6, 8)))
    layers: list[nn.Module] = []
    shape = x[:1]

    def put(layer: nn.Module) -> None:
        nonlocal shape
        layers.append(layer.eval())
        shape = layer(shape)

    if r.random() < 0.4:
        put(nn.BatchNorm2d(x.shape[1]))  # before a padded convolution it stays an affine map
    for _ in range(r.choice((1, 2, 3))):
        put(convolution(r, shape))
        if r.random() < 0.5:
            put(nn.BatchNorm2d(shape.shape[1]))
        put(unit(r))
        if r.random() < 0.4:
            side = nn.Conv2d(shape.shape[1], shape.shape[1], 3, padding=1)
            put(Sum(nn.Sequential(side, *[unit(r)] * (r.random() < 0.5)), r.choice((1, -1, 0.5))))
            put(unit(r))
        if r.random() < 0.6 and min(shape.shape[2:]) > 2:
            put(pooling(r))
    put(r.choice((nn.Flatten(), Mean())))
    if r.random() < 0.5:
        put(nn.Linear(shape.shape[1], 7))
        put(unit(r))
    put(nn.Linear(shape.shape[1], 3))
    model = nn.Sequential(*layers)
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        for value in (norm.running_mean, norm.weight, norm.bias):
            nn.init.normal_(value, 0.0, 0.5)
        nn.init.uniform_(norm.running_var, 1.0, 2.0)
    return model.eval(), x


def neuron(r: random.Random) -> snn.IF | snn.Ternary | snn.Augmented:
    v0, negative = r.choice((0.0, 0.3, 0.5)), r.choice((0.0, 0.4, 1.0))
    return r.choice((
        snn.IF(v0), snn.IF(v0, reset="zero"), snn.Ternary(negative, v0),
        snn.Augmented(r.choice((1, 3, 8)), negative, v0, r.choice((None, 2))),
    ))  # fmt: skip


def random_case(seed: int, folder: Path) -> web.Case:
    torch.manual_seed(seed)
    r = random.Random(seed)
    model, x = network(r)
    rule = r.choice((snn.Max(), snn.Percentile(98.0)))
    net = snn.convert(model, x[4:], neuron(r), balance=rule, per_channel=r.random() < 0.5)
    net = net.replace(readout=snn.Mean(first=r.choice((1, 1, 4))))
    path = folder / f"{seed}.safetensors"
    net.to_web(path, half=r.random() < 0.5)
    return web.Case(path, x[:4], 7)


@pytest.mark.filterwarnings("ignore:layer .* never fires")
def test_random_networks_run_alike(tmp_path: Path) -> None:
    """Sixty networks; one where a potential nearly meets a threshold proves nothing and is left."""
    cases = [random_case(seed, tmp_path) for seed in range(60)]
    operations, compared, late, bounded = set[str](), 0, 0, 0
    for case, found in zip(cases, web.in_node(cases, tmp_path), strict=True):
        theirs, nearest = web.expected(case)
        if nearest <= TIE:
            continue
        compared += 1
        web.compare(found, theirs, case.network.name)
        net = snn.load(case.network)
        operations |= {node.op for node in net.network.graph}
        late += net.readout != snn.Mean()
        bounded += any(node.attrs.get("bound") for node in net.network.graph)
    assert compared > 50
    assert min(late, bounded) > 5
    assert operations == {
        "input", "conv", "affine", "relu", "add", "avg_pool", "adaptive_avg_pool", "max_pool",
        "reshape", "mean", "linear",
    }  # fmt: skip


class Stepped(nn.Module):
    """A quantized ReLU of steps of a quarter, halves to even or up."""

    def __init__(self, even: bool) -> None:
        super().__init__()
        self.even = even

    def forward(self, z: Tensor) -> Tensor:
        count = torch.round(4 * z) if self.even else torch.floor(4 * z + 0.5)
        return torch.clamp(count / 4, 0.0, 1.0)


@pytest.mark.parametrize("even", [False, True])
def test_quantized_relus_are_those_of_the_library(even: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), Stepped(even), nn.Flatten(), nn.Linear(144, 3)).eval()
    x = torch.rand(20, 1, 8, 8)
    with torch.no_grad():  # whole quarters, so that halves of steps occur
        model[0].weight.copy_((8 * model[0].weight).round() / 8)
        model[0].bias.zero_()
        x = (2 * x).round() / 2
    net = snn.convert(model, x, snn.IF())
    path = net.to_web(tmp_path / "stepped.safetensors", half=False)
    (found,) = web.in_node([web.Case(path, x[:8], 4)], tmp_path)
    torch.testing.assert_close(found.ann, net.ann(x[:8]).double(), rtol=1e-5, atol=1e-5)


# --- what the file is ----------------------------------------------------------------------------


def small(*layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), *layers, nn.Flatten(), nn.LazyLinear(3))


def converted(model: nn.Module) -> snn.SpikingNetwork:
    x = torch.rand(8, 1, 8, 8)
    model(x)
    return snn.convert(model.eval(), x)


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x], 1)


def test_the_file_is_the_network_that_the_page_runs(tmp_path: Path) -> None:
    net, x = converted(small()), torch.rand(5, 1, 8, 8)
    exact = snn.load(net.to_web(tmp_path / "exact.safetensors", half=False))
    assert torch.equal(exact(x, 6).logits, net(x, 6).logits)
    rounded = snn.load(net.to_web(tmp_path / "half.safetensors"))
    before = {node.name: node for node in net.network.graph}
    for node in rounded.network.graph:
        for role, value in node.tensors.items():
            original = before[node.name].tensors[role]
            assert torch.equal(value, original.half().float() if role == "weight" else original)
            assert value.dtype == torch.float32
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "exact")]
    weights = sum(n.tensors["weight"].numel() for n in net.network.graph if "weight" in n.tensors)
    assert sizes[1] - sizes[0] > 1.5 * weights  # two bytes each, less what the header gains


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_network_of_any_type_goes_into_a_file_that_opens(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    """The page and the library read it; narrow types are widened, since neither halves them."""
    net, x = converted(small()).to(dtype), torch.rand(5, 1, 8, 8)
    loaded = snn.load(net.to_web(tmp_path / "net.safetensors"))
    wide = torch.float32 if dtype.itemsize < 4 else dtype
    assert loaded.dtype == wide
    assert torch.isfinite(loaded(x.to(wide), 4).logits).all()
    kept = storage.save(net.network, tmp_path / "kept.safetensors", half=True)
    assert snn.load(kept).dtype == dtype


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ((Twice(),), "cat"),
        ((nn.Upsample(scale_factor=2),), "upsample"),
        ((nn.AvgPool2d(4, ceil_mode=True),), "ceil_mode=True: use ceil_mode=False"),
        ((nn.MaxPool2d(2, dilation=2),), "dilated pooling"),
        ((nn.AdaptiveMaxPool2d(2),), "adaptive_max_pool"),
        ((nn.ConvTranspose2d(4, 2, 2),), "conv_transpose"),
        ((nn.Linear(6, 5), nn.ReLU()), "flatten it before"),
        ((nn.ZeroPad2d(1),), "pad"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_page_cannot_carry_is_refused_by_name(
    layers: tuple[nn.Module, ...], said: str, tmp_path: Path
) -> None:
    net, path = converted(small(*layers)), tmp_path / "net.safetensors"
    with pytest.raises(snn.ConversionError, match="a page cannot compute") as error:
        net.to_web(path)
    assert said in str(error.value)
    name = next(n.name for n in net.network.graph if f"{n.name} ({n.op})" in str(error.value))
    assert name not in ("input", "1")
    assert not path.exists()


def test_networks_of_another_kind_are_refused(tmp_path: Path) -> None:
    class Mine(snn.IF):
        def decide(self, potential: Tensor, count: Tensor, theta: Tensor) -> Tensor:
            return (potential > theta).to(potential)

    net, path = converted(small()), tmp_path / "net.safetensors"
    with pytest.raises(snn.ConversionError, match=r"net\.source"):
        net.quantize().to_web(path)
    with pytest.raises(snn.ConversionError, match="one neuron for all layers"):
        net.replace(neuron={"1": snn.IF()}).to_web(path)
    with pytest.raises(snn.CheckpointError, match="a neuron of your own"):
        net.replace(neuron=Mine()).to_web(path)
    with pytest.raises(snn.CheckpointError):
        net.to_web(tmp_path)


def test_the_command_writes_thresholds_of_several_percentiles(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "digits.safetensors"
    assert main(["export", "digits-cnn", "--web", str(path), "--percentiles", "90,99.5"]) == 0
    assert "Playground" in capsys.readouterr().out
    low, high = (web.titled(path, title) for title in ("90", "99.5"))
    assert low.keys() == high.keys() == set(snn.load(path).sizes)
    assert all(bool((low[name] < high[name]).all()) for name in low)
    again = tmp_path / "again.safetensors"
    capsys.readouterr()
    assert main(["export", str(path), "--web", str(again)]) == 0  # a saved network
    assert main(["export", str(path), "--web", str(again), "--percentiles", "99"]) == 2
    assert main(["export", "digits-cnn", "--web", "digits.bin"]) == 2
    assert "must end in .safetensors" in capsys.readouterr().err


def test_enlarged_digits_are_those_of_the_library(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    train, test = snn.data.load("digits")
    whole = {image.numpy().tobytes() for split in (train, test) for image in split.images}
    small = load_digits().images.astype(int).reshape(-1, 64).tolist()
    (tmp_path / "digits.json").write_text(json.dumps(small), encoding="utf-8")
    script = (
        "import {enlarged, offCenter} from './pictures.js'; import fs from 'node:fs';"
        "const small = JSON.parse(fs.readFileSync('digits.json'));"
        "fs.writeFileSync('all.bin', Uint8Array.from(small.flatMap(s => [...enlarged(s)])));"
        "const spot = Float64Array.from({length: 25}, (_, i) => Number(i === 5 * 3 + 1));"
        "console.log(JSON.stringify([offCenter(spot, 5), offCenter(new Float64Array(25), 5)]));"
    )
    said = web.says(tmp_path, script, modules=("pictures.js",))
    raw = (tmp_path / "all.bin").read_bytes()
    assert {raw[i : i + 784] for i in range(0, len(raw), 784)} == whole
    assert json.loads(said) == [[-1, 1], [0, 0]]


def test_files_that_are_none_are_refused_in_the_page(tmp_path: Path) -> None:
    short, other = tmp_path / "short", tmp_path / "other.safetensors"
    short.write_bytes(b"1234")
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(3)}, other)
    script = (
        "import {read} from './spiking.js'; import fs from 'node:fs';"
        "for (const name of process.argv.slice(2)) {"
        " const b = fs.readFileSync(name);"
        " try { read(b.buffer.slice(b.byteOffset, b.byteOffset + b.length)); }"
        " catch (error) { console.log(error.message); } }"
    )
    files = map(str, (short, other, Path(__file__)))
    said = web.says(tmp_path, script, *files).splitlines()
    assert len(said) == 3
    assert "shorter than its header" in said[0]
    assert all("snnlib export NETWORK --web FILE" in text for text in said[1:])


def test_the_small_controls_compute_the_librarys_neurons(tmp_path: Path) -> None:
    r, steps = random.Random(0), 30
    cases = [
        {"z": r.uniform(-0.3, 1.7), "theta": r.uniform(0.3, 1.5), "v0": r.uniform(0, 0.95),
         "steps": steps, "kind": r.choice(("if", "augmented")), "reset": "subtract"}
        for _ in range(200)
    ]  # fmt: skip
    cases += [{**case, "kind": "if", "reset": "zero"} for case in cases]
    (tmp_path / "cases.json").write_text(json.dumps(cases), encoding="utf-8")
    script = (
        "import {simulate} from './widgets.js'; import fs from 'node:fs';"
        "const cases = JSON.parse(fs.readFileSync('cases.json'));"
        "console.log(JSON.stringify(cases.map(simulate)));"
        "const {V, c} = simulate({z: 0.25, leak: 0.8, steps: 200, reset: 'zero'});"
        "console.log(JSON.stringify([V.at(-1), c.filter(Boolean).length]));"
    )
    said = web.says(tmp_path, script, modules=("spiking.js", "widgets.js"))
    all_found, leaky = map(json.loads, said.splitlines())
    for case, found in zip(cases, all_found, strict=True):
        one = snn.IF(case["v0"], case["reset"])
        neuron = one if case["kind"] == "if" else snn.Augmented(negative=0.0, v0=case["v0"])
        theta, z = (torch.tensor(case[k], dtype=torch.float64) for k in ("theta", "z"))
        state = neuron.initial(z, theta)
        for t in range(steps):
            c, state = neuron.step(state, z, theta)
            assert (float(c), float(state.potential)) == (found["c"][t], found["V"][t + 1]), case
        assert float(state.count) == found["count"]
    period = 8  # of a neuron that leaks: ⌈ln(1 − (1 − β)θ/z) / ln β⌉, chapter 1
    assert leaky[1] == 200 // period


def test_the_module_is_small() -> None:
    assert (web.STATIC / "spiking.js").stat().st_size <= 30_000
