"""The lines and the memory of the benchmarks, and the figures drawn from them."""

import json
import sys
from xml.etree import ElementTree

import pytest
import torch

from benchmarks import figure, scaling, simulator

pytestmark = pytest.mark.filterwarnings("ignore:Matplotlib is building the font cache")


def timed(median):
    return {"median": median, "min": 0.9 * median, "max": 1.1 * median}


def record(network, *labels):
    rows = [
        {"steps": t, "floor": 0.1 * t, "times": {label: timed(0.2 * t) for label in labels}}
        for t in (1, 8, 32)
    ]
    return {"network": network, "n": 50, "rows": rows}


RECORDS = [
    record("cifar10-vgg", "snnlib IF", "snnlib Augmented", simulator.CLOSED, "spikingjelly"),
    record("six", "snnlib IF", "snnlib Augmented", simulator.CLOSED, "snntorch", "sinabs"),
]
POINTS = {"seconds": [0.1, 0.2, 0.41], **scaling.fit([1, 2, 4], [0.1, 0.2, 0.41])}
LINES = {
    "lines": {
        what: {name: {what: [1, 2, 4], **POINTS} for name in scaling.NEURONS}
        for what in ("steps", "images", "neurons")
    }
}


def test_a_straight_line_is_found():
    found = scaling.fit([1, 2, 3, 10], [3.5, 5.5, 7.5, 21.5])
    assert found["slope"] == pytest.approx(2)
    assert found["intercept"] == pytest.approx(1.5)
    assert found["r2"] == pytest.approx(1)
    assert found["largest_deviation"] < 1e-9


def test_a_curve_is_no_straight_line():
    """The line of least squares through x² on −1, 0, 1, 2 is 1 + x; a quarter of it is left."""
    found = scaling.fit([-1, 0, 1, 2], [1, 0.5, 1, 4])
    x, y = torch.tensor([-1.0, 0, 1, 2]), torch.tensor([1, 0.5, 1, 4])
    rest = y - (found["slope"] * x + found["intercept"])
    assert float(rest.sum()) == pytest.approx(0, abs=1e-6)
    assert float((rest * x).sum()) == pytest.approx(0, abs=1e-5)
    assert found["r2"] == pytest.approx(
        1 - float(rest.square().sum() / (y - y.mean()).square().sum())
    )
    assert found["r2"] < 0.8


def test_points_take_turns():
    order = []
    works = {("a", i): lambda i=i: order.append(i) for i in (1, 2, 3)}
    times = scaling.line(works, 2)
    assert order == [1, 2, 3] * 3  # the first for warming up
    assert [len(t) for t in times] == [2, 2, 2]


def test_every_line_has_its_points(monkeypatch):
    monkeypatch.setattr(scaling, "WIDTHS", ((2, 2), (2,)))
    monkeypatch.setattr(scaling, "IMAGES", 2)
    monkeypatch.setattr(scaling, "LINES", {"steps": (1, 2), "images": (1, 2), "side": (8, 16)})
    found = scaling.lines(1)["lines"]
    assert list(found) == ["steps", "images", "neurons"]
    for what, of_neurons in found.items():
        assert set(of_neurons) == {"IF", "Augmented"}
        for one in of_neurons.values():
            assert len(one[what]) == len(one["seconds"]) == 2
            ordered = zip(one["fastest"], one["seconds"], one["slowest"], strict=True)
            assert all(0 < low <= middle <= high for low, middle, high in ordered)
    assert found["neurons"]["IF"]["neurons"] == [2 * (2 * 64 + 16), 2 * (2 * 256 + 64)]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_peak_of_a_process_is_seen():
    now, before = scaling.resident()
    held = torch.ones((before - now) // 4 + 60 * 2**18)  # 60 MiB more than ever before
    after, peak = scaling.resident()
    assert peak - before > 50 * 2**20
    assert after >= 0.9 * held.nbytes
    del held
    later, kept = scaling.resident()
    assert later < after - 50 * 2**20
    assert kept > peak - 2**20  # the kernel counts in batches of pages


@pytest.mark.slow
def test_memory_is_measured_in_processes_of_their_own(monkeypatch):
    monkeypatch.setattr(scaling, "MEMORY", ("16MB", "1GB"))
    monkeypatch.setattr(scaling, "MEMORY_STEPS", (2, 4))
    found = scaling.peaks()
    assert [(row["memory"], row["steps"]) for row in found["processes"]] == [
        ("16MB", 2), ("16MB", 4), ("1GB", 2), ("1GB", 4),
    ]  # fmt: skip
    for row in found["processes"]:
        limit = 16e6 if row["memory"] == "16MB" else 1e9
        assert row["planned"] <= limit
        assert row["before"] < row["peak"] < row["before"] + 2 * limit + row["results"]
    assert set(found["peak_at_4_over_2_steps"]) == {"16MB", "1GB"}


def test_figures_show_every_simulator(tmp_path):
    (tmp_path / "scaling.json").write_text(json.dumps(LINES))
    for one in RECORDS:
        (tmp_path / f"{one['network']}-float32.json").write_text(json.dumps(one))
    call = ["--results", str(tmp_path), "--to", str(tmp_path)]
    assert figure.main(call) == 0
    for name in ("time-over-steps", "cost-lines"):
        light, dark = (tmp_path / f"{name}-{mode}.svg" for mode in ("light", "dark"))
        assert light.read_bytes() != dark.read_bytes()
        for path in (light, dark):
            assert ElementTree.parse(path).getroot().tag.endswith("svg")
            assert path.stat().st_size < 150_000
    again = {path: path.read_bytes() for path in tmp_path.glob("*.svg")}
    assert len(again) == 4
    figure.main(call)
    assert again == {path: path.read_bytes() for path in again}


def test_alt_texts_carry_the_numbers():
    text = figure.alt_text(RECORDS)
    assert "SpikingJelly 128" in text  # 0.2 s × 32 steps for 50 images
    assert "floor 64" in text
    assert "snnTorch" in text
    low = scaling.fit([1, 2, 4], [0.1, 0.2, 0.41])["r2"]
    assert figure.lines_alt_text(LINES).count(f"{int(low * 1000) / 1000:.3f}") == 3


def test_missing_results_say_which_command_makes_them(tmp_path, capsys):
    with pytest.raises(SystemExit):
        figure.main(["--results", str(tmp_path), "--to", str(tmp_path)])
    assert "python -m benchmarks.simulator --json" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.svg"))
