"""The results page: figures and tables that say what the stored numbers say, and no more."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest
from book_rules import ROOT, contrast

pytest.importorskip("sphinx", reason="needs the packages that build the book")

from bookext import (
    answers,
    late_panels,
    modes,
    networks,
    stored,
    stored_figures,
    stored_tables,
    table,
)

from book.tools import tables as readme
from snnlib import plots

RESULTS = ROOT / "book" / "results"
LEARNED = ("surrogate-depth", "norms", "dsr", "st-rsbp", "rate-norm", "tandem", "hybrid-coding",
           "single-spike", "exact-timing", "throughput")  # fmt: skip
SEQUENCES = ("rank-coding", "touch", "transducer", "event-graph")
PAGE = (ROOT / "book" / "results.md").read_text(encoding="utf-8")
MODEL = "mnist-cnn"


def neuron(kind, **more):
    return {"neuron": {"kind": kind, **more}, "per_channel": False, "bias_steps": None}


def spiking(label, kind, accuracy, events, sizes, **more):
    steps = list(range(1, len(accuracy) + 1))
    return {
        "cell": f"{MODEL}/{kind}",
        "model": MODEL,
        "label": label,
        "levels": 8,
        "negative": 0.0,
        "n": 1000,
        "images": "validation",
        "setting": neuron(kind),
        "ann_accuracy": 0.99,
        "accuracy": accuracy,
        "steps": steps,
        "events_per_neuron": events,
        "bits_per_neuron": [3 * value for value in events],
        "energy_nj_per_image": [1000 * value for value in events],
        "literature_energy_nj_per_image": [400 * value for value in events],
        "events_by_size": sizes,
        **more,
    }


def ann(levels, accuracy, events):
    label = "ANN" if levels is None else f"ANN, {levels} levels"
    bits = 32.0 if levels is None else 2 * events
    return {
        "cell": f"{MODEL}/ann", "model": MODEL, "label": label, "levels": levels,
        "accuracy": [accuracy], "steps": [1],
        "events_per_neuron": [events], "bits_per_neuron": [bits], "energy_nj_per_image": [7000.0],
        "literature_energy_nj_per_image": [7000.0],
    }  # fmt: skip


def point(label, setting, steps, accuracy, events):
    return {
        "label": label, "setting": setting, "steps": steps, "accuracy": accuracy,
        "events_per_neuron": events, "bits_per_neuron": 3 * events, "energy_nj_per_image": 1500.0,
        "literature_energy_nj_per_image": 400.0,
    }  # fmt: skip


FRONTIER = {
    "runs": [
        spiking("IF", "if", [0.5, 0.95, 0.9895], [0.1, 0.2, 0.3], [10, 0], levels=1),
        spiking("AugMapping", "augmented", [0.9891, 0.992], [0.25, 0.7], [60, 30, 10]),
        spiking(
            "AugMapping", "augmented", [0.98], [0.4], [50, *[0] * 38, 50],
            levels=32, setting=neuron("augmented", cap=None), cell=f"{MODEL}/fine-32",
        ),
    ],
    "anns": [ann(4, 0.985, 0.22), ann(None, 0.99, 0.31)],
    "pareto": [
        {
            "model": MODEL,
            "cost": "events_per_neuron",
            "points": [
                point("ANN, 4 levels", "ann", 1, 0.985, 0.22),
                point("AugMapping", "augmented", 1, 0.9891, 0.25),
                point("AugMapping", "augmented", 2, 0.992, 0.7),
            ],
        }
    ],
}  # fmt: skip
FRONTIER["runs"][1]["setting"]["neuron"]["cap"] = 15
LAYERS = {
    "runs": [
        {
            "model": MODEL, "label": f"IF, {form}", "n": 200, "images": "validation",
            "steps": [1, 8], "layers": [
                {
                    "name": name, "error": [0.9, error],
                    "parts": {
                        "propagated": [0.5, propagated], "clipping": [0.0, 0.0],
                        "rounding": [0.8, 0.125], "unevenness": [0.0, 0.02],
                    },
                }
                for name, error, propagated in (("relu1", 0.11, 0.0), ("relu2", 0.33, 0.27))
            ],
        }
        for form in ("plain", "book")
    ]
}  # fmt: skip
STILL = {"accuracy_std": 0.0, "ann_accuracy_std": 0.0}
ROBUSTNESS = {
    "runs": [
        {
            "model": MODEL, "label": "IF", "n": 100, "steps": 64, "disturbance": "lost spikes",
            "sizes": [
                {"size": 0.0, "accuracy": 0.98, "ann_accuracy": 0.99, **STILL},
                {"size": 0.2, "accuracy": 0.75, "ann_accuracy": 0.815, **STILL},
            ],
        }
    ]
}  # fmt: skip
EXITS = {
    "runs": [
        {
            "model": MODEL, "label": "AugMapping", "n": 100, "steps": 2, "timed_images": 50,
            "ann_accuracy": 0.99, "accuracy": [0.9, 0.99], "seconds_all_steps": 1.0,
            "seconds_closed_form": 0.2,
            "sweep": [
                {
                    "confidence": confidence, "accuracy": accuracy, "mean_steps": steps,
                    "seconds": seconds, "chosen": False,
                }
                for confidence, accuracy, steps, seconds in (
                    (0.5, 0.95, 1.0, 0.4), (0.9, 0.9895, 1.25, 0.6)
                )
            ],
        }
    ]
}  # fmt: skip
ACCURACY = {
    "runs": [
        {
            "cell": f"{model}/if/{form}{end}", "model": model, "label": f"IF, {form}", "form": form,
            "n": 500, "ann_accuracy": 0.99, "accuracy": accuracy,
        }
        for model in (MODEL, "cifar10-vgg", "own-network")
        for form, accuracy in (("plain", [0.1, 0.2]), ("best", [0.5, 0.9895]))
        for end in ("", "/long")
    ]
}  # fmt: skip
ALLOCATION = {
    "choices": [
        {
            "model": MODEL, "n": 40, "images": "validation", "label": "uniform", "steps": 1,
            "scales": {"relu1": 0.25, "relu2": 0.25}, "agreement": 0.996, "events_per_image": 300.0,
            "tried": [
                {"factor": 0.5, "steps": 1, "agreement": 0.97, "events_per_image": 200.0},
                {"factor": 0.25, "steps": 1, "agreement": 0.996, "events_per_image": 300.0},
                {"factor": 0.5, "steps": 2, "agreement": 0.999, "events_per_image": 400.0},
            ],
        },
        {
            "model": MODEL, "n": 40, "images": "validation", "label": "allocated", "steps": 1,
            "scales": {"relu1": 0.25, "relu2": 0.325}, "agreement": 0.995,
            "events_per_image": 260.0,
            "moves": [{"layer": "relu2", "judged_agreement": 0.995, "events_per_image": 260.0}],
        },
    ],
    "runs": [{"model": MODEL, "n": 100, "neurons": 1000}],
    "left_out": [
        {
            "model": MODEL, "n": 40, "images": "validation", "neurons": 1000,
            "left_out": [0.0, 0.05, 0.1, 0.2], "agreement": [1.0, 0.995, 0.99, 0.7],
            "events_per_image": [310.0, 295.0, 279.0, 250.0],
        }
    ],
}  # fmt: skip
GRID = {
    "runs": [],
    "grid": [
        {
            "model": MODEL, "n": 500, "images": "validation", "balance": balance, "scope": scope,
            "levels": levels, "negative": negative, "v0": v0,
            "agreement": [0.1, 1 - miss / levels - (0.01 if negative == 1 and v0 else 0)],
        }
        for balance, miss in zip(
            ("max", "99", "99.9", "99.99", "min-error"), (0.8, 0.1, 0.2, 0.3, 0.4), strict=True
        )
        for scope in ("layer", "channel")
        for v0 in (0.0, 0.5)
        for negative in (0.0, 0.5, 1.0)
        for levels in (1, 2, 4, 8, 16)
    ],
}  # fmt: skip


def swept(label, accuracy, events, false, **more):
    return {
        "model": MODEL, "label": label, "n": 100, "ann_accuracy": 0.99, "steps": 2,
        "accuracy": accuracy, "events_per_image": events, "neurons": 10,
        "setting": neuron("ternary" if more else "if", **more),
        "silent": {"false": false, "images": 30},
    }  # fmt: skip


NEGATIVE = {
    "runs": [
        swept("IF", [0.1, 0.5], [2.0, 4.0], [0.1, 0.2]),
        swept("TerMapping", [0.2, 0.6], [2.0, 5.0], [0.1, 0.05], negative=1.0),
        swept("TerMapping", [0.2, 0.7], [2.0, 5.5], [0.1, 0.04], negative=0.75),
        swept("TerMapping", [0.3, 0.9], [3.0, 6.0], [0.1, 0.01], negative=0.0),
    ]
}


def swept_exits(label, *curves):
    """A run of ``seenn``: score, reading, mean steps and accuracies of each curve."""
    return {
        "model": MODEL, "label": label, "n": 200, "ann_accuracy": 0.99, "steps": 2,
        "accuracy": [0.9, 0.99], "setting": {}, "thresholds_of": "99 % per layer", "best": 0,
        "curves": [
            {
                "score": score, "reading": reading, "thresholds": [0.5, 0.9], "chosen": 1,
                "mean_steps": steps, "accuracy": accuracy,
            }
            for score, reading, steps, accuracy in curves
        ],
    }  # fmt: skip


SEENN = {
    "runs": [
        swept_exits(
            "SEENN-I",
            ("confidence", "sum", [1.0, 1.5], [0.9, 0.99]),
            ("confidence", "mean", [1.0, 1.75], [0.9, 0.99]),
            ("confidence", "temperature", [1.0, 1.25], [0.9, 0.9895]),
        ),
        swept_exits("SEENN-II", ("policy", "price", [1.2, 1.6], [0.9, 0.95])),
    ]
}
STORED = {
    "accuracy": ACCURACY, "frontier": FRONTIER, "coefficients": FRONTIER, "layer-errors": LAYERS,
    "robustness": ROBUSTNESS, "early-exit": EXITS, "allocation": ALLOCATION,
    "grid": GRID, "negative": NEGATIVE, "seenn": SEENN,
}  # fmt: skip


def figures(folder: Path, name: str, result: dict, network: str | None = None):
    kind = stored_figures.KINDS[name]
    (folder / f"{kind.file}.json").write_text(json.dumps(result), encoding="utf-8")
    return stored_figures.figures(kind, folder, network)


def panels(folder: Path, name: str, result: dict, network: str = MODEL):
    """Panels, legend and caption of one network."""
    return figures(folder, name, result, network).get(network, ([], [], ""))


@pytest.mark.parametrize("name", STORED)
def test_alt_texts_say_what_the_numbers_say(tmp_path, name):
    found, _, shown = panels(tmp_path, name, STORED[name])
    text = " ".join(panel.alt for panel in found)
    for words in {
        "accuracy": [
            "IF, best starts at 50.0 % and stays within 0.1 points of the ANN from step 2 on"
        ],
        "frontier": [
            "IF from 0.3 events per neuron on; AugMapping from 0.25 events per neuron on; "
            "AugMapping, |c| without bound nowhere; ANN, rounded activations nowhere; ANN from "
            "0.31 events per neuron on", "IF from 0.9 bits per neuron on", "ANN from 32 bits",
            "ANN from 7 µJ", "IF from 3 steps on; AugMapping from 1 step on",
            "The Pareto set has 3 points, 1 of them ANNs",
        ],
        "coefficients": [
            "8 levels: 60 % of the events have |c| = 1, the largest has 3",
            "32 levels, no bound: 50 % of the events have |c| = 1, the largest has 40",
        ],
        "layer-errors": [
            "From 1 to 8 steps it goes from 0.9 to 0.11 in the first layer, relu1, and from 0.9 "
            "to 0.33 in the last, relu2",
            "In the last layer, relu2: propagated 0.27, clipping 0, rounding 0.125, unevenness",
        ],
        "robustness": [
            "IF goes from 98.0 % to 75.0 % at 0.2, the ANN under the same from 99.0 % to 81.5 %"
        ],
        "early-exit": ["AugMapping from 1.25 steps", "AugMapping from 12 ms an image on"],
        "seenn": [
            "Within 0.1 points: sum from 1.5 steps on; mean from 1.75 steps on; temperature from "
            "1.25 steps on; policy nowhere"
        ],
        "allocation": [
            "takes 1 step and 0.3 events per neuron; layer by layer it is 0.26",
            "0.31 of the ANN's neurons are active; with exact values its answers hold without the "
            "smallest 5 % of them, at 0.295",
            "Uniform: 0.25 for all layers. Layer by layer: relu1 0.25, relu2 0.325",
        ],
        "negative": [
            "After 2 steps a negative threshold at 0 gives 90.0 %, one at −θ 60.0 %, for +20 % "
            "events; the ANN has 99.0 %", "20.0 % / 5.0 % / 1.0 % have a net count above zero",
            "IF from 10.0 to 20.0 %; TerMapping, negative 1 from 10.0 to 5.0 %; TerMapping, "
            "negative 0 from 10.0 to 1.0 %",
        ],
        "grid": [
            "v0 = 0.5, mnist-cnn: with 1 level they go from 10.0 % (99th percentile, one a layer) "
            "to 80.0 % (maximum, one a layer); with 16 levels they go from 0.6 %",
            "Between the second thresholds they differ by at most 0.0 points",
            "Between the second thresholds they differ by at most 1.0 points",
        ],
    }[name]:  # fmt: skip
        assert words in text
    rows = STORED[name][stored_figures.KINDS[name].section]
    assert f"{rows[0]['n']:,} {rows[0].get('images', 'test')} images" in shown


@pytest.mark.parametrize("name", STORED)
def test_panels_are_drawn_in_both_modes_the_same_each_time_and_small(tmp_path, name):
    found, keys, _ = panels(tmp_path, name, STORED[name])
    assert found
    assert keys
    for panel in found:
        light, dark = (modes.svg(panel, mode) for mode in modes.MODES)
        assert plots.CARD["light"] in light
        assert plots.CARD["dark"] in dark
        assert plots.INK["light"] not in dark
        assert modes.svg(panel, "light") == light
        assert len(light) < 36_000
        drawn = re.sub(r"\b0\.\d+", "", light)
        assert not re.search(r"\d\.\d{4}", drawn), "digits nobody sees"
        assert "<text" not in light, "letters that depend on the fonts of the reader"
    # What the legend names is drawn in some panel.
    for key in keys:
        assert any(key.look.light in modes.svg(panel, "light") for panel in found), key.label


def texts_in(color: str, svg: str) -> int:
    """How many lines of text of a drawing have this color; letters are paths."""
    styles = re.findall(rf"\.(\w+)\{{fill: {color}", svg)
    named = [f'class="{name}"' for name in styles] + [f'style="fill: {color}"']
    return sum(len(re.findall(rf"<g {name} transform", svg)) for name in named)


def test_easiest_and_hardest_images_are_shown_with_their_answers(tmp_path):
    """The digits come with the library; what is wrong is said and set off by its color."""
    right = {"image": 0, "settled": 1, "answer": 4, "label": 4, "confidence": 0.99}
    wrong = {"image": 1, "settled": 6, "answer": 8, "label": 9, "confidence": 0.4}
    row = {"model": "digits-cnn", "label": "AugMapping", "n": 2, "steps": 8}
    result = {"images": [{**row, "easiest": [right], "hardest": [wrong, right]}]}
    (easiest, hardest), _, shown = panels(tmp_path, "extremes", result, "digits-cnn")
    assert easiest.alt == "The easiest images, digits-cnn, AugMapping: 4 (step 1)."
    assert "9 answered 8 (step 6), 4 (step 1)" in hardest.alt
    assert shown == "digits-cnn: 2 test images"
    for mode in modes.MODES:
        text = modes.svg(hardest, mode)
        assert "<image" in text
        assert texts_in(plots.NEGATIVE.color(mode), text) == 2  # both lines below the wrong one
        assert len(text) < 30_000
    assert figures(tmp_path, "extremes", {"runs": []}) == {}


def test_least_says_whether_spikes_were_bounded():
    run = {"label": "AugMapping", "levels": 64, "negative": 0.0}
    settings = (neuron("augmented", cap=15), neuron("augmented", cap=None), neuron("ternary"))
    named = [stored_tables.setting(run | {"setting": setting}) for setting in settings]
    assert named == [
        "AugMapping, 64 levels, negative 0, per layer",
        "AugMapping, 64 levels, negative 0, |c| without bound, per layer",
        "AugMapping, 64 levels, negative 0, per layer",
    ]


def test_pareto_table_names_the_settings_and_their_costs():
    frontier = copy.deepcopy(FRONTIER)
    first = frontier["pareto"][0]["points"][0]
    late = point("IF, late answer", "if", 2, 0.9889, 0.2)  # of the cell that IF is in
    frontier["pareto"].append({"model": MODEL, "cost": "bits_per_neuron", "points": [first, late]})
    setting = neuron("if") | {"bias_steps": 48}
    reading = {"label": late["label"], "levels": 1, "negative": None, "setting": setting}
    frontier["runs"].append(frontier["runs"][0] | reading)
    (table,) = stored_tables._paretos(frontier)
    name, read_late = (
        "AugMapping, 8 levels, negative 0, per layer",
        "IF, late answer, per layer, biases for 48",
    )
    assert table.rows == [
        [read_late, "2", "98.89", "0.200", "0.600", "1.50", "0.40", "bits"],
        ["ANN, 4 levels", "1", "98.50", "0.220", "0.660", "1.50", "0.40", "events, bits"],
        [name, "1", "98.91", "0.250", "0.750", "1.50", "0.40", "events"],
        [name, "2", "99.20", "0.700", "2.100", "1.50", "0.40", "events"],
    ]  # fmt: skip
    assert stored_tables._paretos({"runs": []}) == []


def test_late_answers_and_skipped_zeros_have_looks_of_their_own(tmp_path):
    """One run read twice, one ANN counted twice: hollow beside filled, and named apart."""
    result = copy.deepcopy(FRONTIER)
    reading = {"label": "IF, late answer", "accuracy": [0.5, 0.9895, 0.9895]}
    result["runs"].append(result["runs"][0] | reading)
    result["anns"].insert(0, ann(None, 0.99, 0.31) | {"label": "ANN, zeros skipped"})
    found, keys, _ = panels(tmp_path, "frontier", result)
    hollow = {key.label: key.hollow for key in keys}
    assert (hollow["IF"], hollow["IF, late answer"]) == (False, True)
    assert (hollow["ANN"], hollow["ANN, zeros skipped"]) == (False, True)
    assert "IF from 3 steps on; IF, late answer from 2 steps on" in found[0].alt
    assert "zeros skipped" not in found[0].alt  # as the ANN, by this cost


def test_other_numbers_make_another_figure(tmp_path):
    changed = copy.deepcopy(FRONTIER)
    changed["runs"][1]["accuracy"][0] = 0.98
    (first, *_), *_ = panels(tmp_path, "frontier", FRONTIER)
    (second, *_), *_ = panels(tmp_path, "frontier", changed)
    assert first.alt != second.alt
    assert modes.svg(first, "light") != modes.svg(second, "light")


def test_every_network_has_its_figure_the_hardest_first(tmp_path):
    result = {"runs": ROBUSTNESS["runs"] + [ROBUSTNESS["runs"][0] | {"model": "cifar10-vgg"}]}
    found = figures(tmp_path, "robustness", result)
    assert [drawn.about for drawn in found.values()] == [
        "cifar10-vgg: 100 test images", f"{MODEL}: 100 test images",
    ]  # fmt: skip
    assert list(figures(tmp_path, "robustness", result, MODEL)) == [MODEL]
    assert list(figures(tmp_path, "accuracy", ACCURACY)) == ["cifar10-vgg", MODEL, "own-network"]


@pytest.mark.parametrize("name", STORED)
def test_nothing_stored_gives_no_figure(tmp_path, name):
    kind = stored_figures.KINDS[name]
    assert stored_figures.figures(kind, tmp_path) == {}
    assert figures(tmp_path, name, {"runs": []}) == {}
    assert figures(tmp_path, name, STORED[name], "cifar10-resnet") == {}


def test_losses_are_positive_and_lower_where_a_network_is_worse():
    from bookext.axes import loss_axis
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    loss_axis(ax, [90.0, 0.02, -0.3])
    worst, best = ax.get_ylim()
    assert worst > 90 > -0.3 > best
    labels = [ax.yaxis.get_major_formatter()(y) for y in (30, 0.1, 0, -0.1)]
    assert labels == ["30", "0.1", "0", "−0.1"]
    assert [readme.points(x) for x in (0.0002, -0.0011, 0.0, -0.00001)] == [
        "+0.02", "−0.11", "0.00", "0.00",
    ]  # fmt: skip
    assert readme.loss(0.003, (-0.001, 0.007)) == "+0.30 (−0.10 … +0.70)"


def test_rows_that_lack_keys_are_drawn_as_far_as_they_go(tmp_path):
    result = copy.deepcopy(FRONTIER)
    del result["pareto"]
    for row in result["runs"]:
        del row["setting"], row["energy_nj_per_image"], row["events_by_size"]
    found, keys, _ = panels(tmp_path, "frontier", result)
    assert len(found) == 5
    assert "Pareto set" not in {key.label for key in keys}
    assert "AugMapping" not in found[-2].alt
    assert panels(tmp_path, "coefficients", result)[0] == []


@pytest.mark.parametrize("count", [1, 2, 7, 20])
def test_shades_stand_off_the_card_and_differ(count):
    looks = plots.shades(count)
    for mode in modes.MODES:
        colors = [look.color(mode) for look in looks]
        assert len(set(colors)) == count
        assert min(contrast(color, plots.CARD[mode]) for color in colors) >= 3


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page with the directives, built in a folder that holds one result."""
    pytest.importorskip("myst_parser", reason="needs the packages that build the book")
    from sphinx.application import Sphinx

    root = tmp_path_factory.mktemp("page")
    (root / "book" / "results").mkdir(parents=True)
    (root / "book" / "results" / "frontier.json").write_text(json.dumps(FRONTIER | {"what": "x"}))
    (root / "index.md").write_text(
        "# Page\n\n```{network-selector}\n```\n\n"
        "```{result-figure} frontier\nThe *caption*.\n```\n\n"
        "```{result-figure} robustness\n```\n\n"
        "```{result-figure} frontier\n:network: cifar10-vgg\n```\n\n"
        "```{stored-tables} ablations\n```\n\n```{stored-results}\n```\n"
    )
    extensions = [
        "myst_parser",
        *(f"bookext.{n}" for n in ("stored", "stored_figures", "networks")),
    ]
    # Sphinx shares the default of this setting among the builds of a process, which add to it.
    suffixes = {".rst": "restructuredtext", ".md": "markdown"}
    settings = {"extensions": extensions, "source_suffix": suffixes}
    app = Sphinx(
        root, None, root / "out", root / "trees", "html", settings, status=None, warning=None,
        warningiserror=True,
    )  # fmt: skip
    app.build()
    return (root / "out" / "index.html").read_text(encoding="utf-8")


def test_directive_shows_panels_with_alt_text_legend_and_caption(built):
    from bs4 import BeautifulSoup

    (figure,) = BeautifulSoup(built, "html.parser").find_all("figure")
    images = figure.find_all("img")
    assert [image["class"] for image in images] == [["only-light"], ["only-dark"]] * 5
    assert all("Within 0.1 points of the ANN" in image["alt"] for image in images)
    entries = [entry.get_text() for entry in figure.find_all("li")]
    assert entries[:3] == ["IF", "AugMapping", "AugMapping, |c| without bound"]
    caption = figure.find("figcaption").get_text()
    assert caption == "mnist-cnn: 1,000 validation images. The caption."


def test_directives_say_what_is_not_measured(built):
    assert "Accuracy under disturbances is not measured yet." in built
    assert "Accuracy against its costs on cifar10-vgg is not measured yet." in built
    assert "No table of ablations: it is not measured yet." in built


def test_page_has_every_figure_and_the_tables_of_every_experiment():
    figures = re.findall(r"\{result-figure\} ([\w-]+)", PAGE)
    assert sorted(figures) == sorted(stored_figures.KINDS)
    results = stored.read(RESULTS)
    experiments = {name for name, r in results.items() if "experiment" in r}
    wanted = {name for name in experiments if stored_tables.tables(results[name])}
    if stored_tables.tables(stored.chosen(results, stored.SINGLE)):
        wanted.add(stored.SINGLE)
    assert wanted
    assert wanted <= set(re.findall(r"\{stored-tables\} ([\w-]+)", PAGE))


def test_page_has_an_answer_for_every_section_that_has_one():
    assert sorted(re.findall(r"\{result-answer\} ([\w-]+)", PAGE)) == sorted(answers.ANSWERS)
    places = [PAGE.index(f"{{{name}}}") for name in ("network-selector", "results-glance")]
    files = PAGE.index("{ref}`reproduce`")
    assert sorted([*places, PAGE.index("{result-answer}"), files]) == [
        *places, PAGE.index("{result-answer}"), files,
    ]  # fmt: skip


def test_tables_have_full_rows_and_no_twins():
    for name, result in stored.read(RESULTS).items():
        for found in stored_tables.tables(result):
            assert {len(row) for row in found.rows} == {len(found.head)}, (name, found.title)
            alone = name in SEQUENCES or name in LEARNED or found.title.startswith("goals")
            assert bool(found.network) != alone, (name, found.title)
            if name in ("ablations", "frontier", "peers"):
                said = [tuple(row[1:]) for row in found.rows]
                assert len(set(said)) == len(said), (name, found.network, found.title)
    assert table.folded([["a", "1"], ["b", "2"], ["c", "1"]]) == [["a; c", "1"], ["b", "2"]]


def test_a_table_has_headings_for_rows_and_columns_and_escapes_its_cells():
    from bs4 import BeautifulSoup

    rows = [["a < b", "1", "2"], ["c", "3", "4"]]
    page = BeautifulSoup(table.Table("t", ["n", "x", "y"], rows, MODEL).html(), "html.parser")
    assert [cell.get_text() for cell in page.select("th[scope=col]")] == ["n", "x", "y"]
    assert [cell.get_text() for cell in page.select("th[scope=row]")] == ["a < b", "c"]
    assert page.select_one("[role=group]")["aria-label"] == f"{MODEL}: t"
    long = table.Table("t", ["n", "x"], [["a", "1"]] * (table.LONGEST + 1)).html()
    assert "<details" in long
    assert "open" not in long


def test_a_label_of_one_level_is_singular():
    from bookext.results import shown

    assert shown("ANN, 1 levels") == "ANN, 1 level"
    assert shown("ANN, 11 levels") == "ANN, 11 levels"
    for found in stored_tables.tables(json.loads((RESULTS / "frontier.json").read_text())):
        assert not re.search(r"\b1 levels", found.html())


def test_targets_show_no_column_that_nothing_asks_for():
    row = {
        "model": MODEL, "label": "IF", "n": 100, "loss_points_at_most": 0.1, "steps_at_most": 8,
        "events_per_neuron_at_most": None, "step": None, "loss_points": None, "reached": False,
    }  # fmt: skip
    (found,) = stored_tables.tables({"targets": [row]})
    head = ["Run", "Images", "Asked: points lost", "Steps", "Found: points lost", "Reached"]
    assert found.head == head
    assert found.rows == [["IF", "100", "≤ 0.1", "≤ 8", "none", "no"]]
    asked = row | {"events_per_neuron_at_most": 0.6, "loss_points_at_last": -0.001}
    (found,) = stored_tables.tables({"targets": [row, asked]})
    assert [line[4] for line in found.rows] == ["", "≤ 0.6"]
    assert [line[-2] for line in found.rows] == ["", "0.00"]


def peer() -> dict:
    return {
        "model": MODEL, "label": "Other", "n": 100, "images": "test", "ann_accuracy": 0.99,
        "accuracy": [0.1, 0.2, 0.3, 0.4], "seconds": 2.5, "processor_seconds": 2.0,
    }  # fmt: skip


def test_a_late_read_out_stands_below_its_run():
    late = {"after_steps": 2, "accuracy": [0.8, 0.9]}
    (found,) = stored_tables.tables({"runs": [peer() | {"delayed_readout": late}]})
    assert found.head == ["Neuron", "Images", "1", "2", "4", "ANN", "Seconds"]
    assert found.rows[0][2:] == ["10.00", "20.00", "40.00", "99.00", "2.5"]
    assert found.rows[1][2:] == ["", "", "90.00", "99.00", ""]


def late_run() -> dict:
    late = {"start": [1, 1, 2, 3], "accuracy": [0.1, 0.3, 0.8, 0.9]}
    late["gain_interval"] = [[0.0, 0.0], [0.05, 0.15], [0.4, 0.6], [0.45, 0.55]]
    row = peer() | {"label": "IF, best", "steps": 4, "late": late}
    return {key: value for key, value in row.items() if "seconds" not in key}


def test_the_chosen_late_answer_stands_below_its_run():
    (found,) = stored_tables.tables({"runs": [late_run()]})
    assert [row[2:] for row in found.rows] == [
        ["10.00", "20.00", "40.00", "99.00"],
        ["10.00", "30.00", "90.00", "99.00"],
        ["1", "1", "3", ""],
    ]


def test_the_late_answer_is_drawn_beside_the_plain_one():
    (panel,), keys = late_panels.late({"runs": [late_run()]}, MODEL)
    assert [key.label for key in keys] == [
        "IF, late answer", "IF, from step 1", "ANN",
    ]  # fmt: skip
    assert "IF, best 40.0 % from step 1 and 90.0 % from step 3 (gain +45.0 to +55.0" in panel.alt
    for mode in modes.MODES:
        assert plots.color("IF", mode) in modes.svg(panel, mode)
    assert late_panels.late({"runs": []}, MODEL) == ([], [])


def test_an_evaluation_of_the_last_step_alone_is_no_row_over_steps():
    whole = peer() | {"events_per_image": [1.0, 2.0, 3.0, 4.0]}
    last = peer() | {"accuracy": [0.4], "events_per_image": None}
    (found,) = stored_tables.tables({"runs": [whole, last]})
    assert len(found.rows) == 1


def test_selector_names_every_network_and_blocks_are_all_there_without_scripts(built):
    from bs4 import BeautifulSoup

    page = BeautifulSoup(built, "html.parser")
    values = [option["value"] for option in page.select("select option")]
    assert values == [*networks.NAMES, "all"]
    assert page.find("label", attrs={"for": "snn-network"}).get_text() == "Network"
    assert [block["data-network"] for block in page.select(".snn-of")] == [MODEL]
    assert not page.select(".snn-of[hidden]")
    assert page.select_one(".snn-absent").get_text() == f"Measured on {MODEL} only."


def test_rank_coding_is_one_table_of_all_tasks():
    """Seeds are averaged; a sweep of thresholds is no sweep of early exits."""
    row = {
        "model": "digits", "task": "digits", "method": "first", "read": 0.95, "mean_time": 2.0,
        "share": 0.2, "first_step": 0.8, "waited": 0.9, "sweep": [{"threshold": 0.95}],
    }  # fmt: skip
    runs = [row | {"accuracy": accuracy} for accuracy in (0.94, 0.96)]
    (found,) = stored_tables.tables({"runs": runs})
    assert found.network == ""
    (cells,) = found.rows
    assert cells[:4] == ["digits, rank coding", "0.95", "2", "95.00 ± 1.41"]
    assert cells[4:6] == ["2.00 ± 0.00", "20.00 ± 0.00"]
    assert stored_tables.tables({"runs": []}) == []


def test_speakers_left_out_have_their_mean_and_their_worst():
    """Seeds are paired over the speakers before they are averaged; the first step has its seeds."""
    rows = [
        {
            "model": f"spoken-{name}", "task": f"spoken-{name}", "method": "first", "seed": seed,
            "read": 0.95, "mean_time": 9.0, "share": 0.2, "first_step": 0.1, "waited": 0.9,
            "accuracy": right,
            "sweep": [{"threshold": p, "accuracy": right + p - 0.95} for p in (0.95, 0.99)],
        }
        for name, shares in (("ann", (0.7, 0.8)), ("bob", (0.9, 0.8)))
        for seed, right in enumerate(shares)
    ]  # fmt: skip
    bins = [
        {"model": "mnist", "bins": 2, "seed": seed, "accuracy": right}
        for seed, right in enumerate((0.97, 0.99))
    ]
    _, speakers, first = stored_tables.tables({"runs": rows, "first_bin": bins})
    low, high = speakers.rows
    assert low == ["rank coding, p = 0.95", "80.00 ± 0.00", "75.00 ± 7.07", "ann"]
    assert high == ["rank coding, p = 0.99", "84.00 ± 0.00", "79.00 ± 7.07", "ann"]
    assert first.rows == [["2", "mnist", "98.00 ± 1.41"]]


def learned(label, accuracy, **more):
    return {
        "model": "fashion-cnn", "n": 1000, "label": label, "seed": 0, "epochs": 2,
        "fitted_images": 5000, "validation_accuracy": 0.9, "test_accuracy": accuracy,
        "seconds_per_epoch": 12.4, **more,
    }  # fmt: skip


def test_trained_networks_are_means_over_seeds_and_name_their_data():
    runs = [
        learned("DSR", accuracy, steps=steps, kept_megabytes=3.2, kept_batch=128)
        for steps, accuracy in ((10, 0.90), (10, 0.92), (5, 0.85))
    ]
    (found,) = stored_tables.tables({"runs": runs})
    assert (found.network, found.title) == ("", "trained on Fashion-MNIST, 1,000 test images")
    assert "Spikes a neuron" not in found.head  # nobody counted them
    ten, five = found.rows
    assert ten == ["DSR", "10", "2", "5,000 × 2", "91.00 ± 1.41", "12", "3, 128"]
    assert five[2:5] == ["1", "5,000 × 2", "85.00"]


def test_a_longer_training_is_not_another_seed():
    runs = [learned("exact", 0.97 + epochs / 1000, epochs=epochs) for epochs in (10, 20)]
    (found,) = stored_tables.tables({"runs": runs})
    assert [row[1:4] for row in found.rows] == [
        ["1", "5,000 × 10", "98.00"], ["1", "5,000 × 20", "99.00"]
    ]  # fmt: skip


def test_what_learns_for_conversion_is_told_in_points_lost():
    reading = {"validation_accuracy": 0.9, "loss_interval": [-0.001, 0.003]}
    tandem = {
        "model": "fashion-cnn", "n": 1000, "label": "tandem", "steps": 8, "ann_accuracy": 0.93,
        "full": {"start": 1, "test_accuracy": 0.925, **reading}, "spikes_per_neuron": 0.5,
        "late": {"start": 3, "test_accuracy": 0.93, **reading}, "seconds": 60.0, "insertions": [],
    }  # fmt: skip
    (found,) = stored_tables.tables({"runs": [tandem]})
    assert found.rows[0][2].startswith("+0.50")
    assert found.rows[0][4] == "3"
    rates = {
        "model": "fashion-cnn", "n": 1000, "label": "maximum", "ann_accuracy": 0.93,
        "accuracy": [0.5] * 31 + [0.92] * 33, "steps_to_points": None, "late_steps_to_points": 12,
    }  # fmt: skip
    (found,) = stored_tables.tables({"runs": [rates]})
    assert found.rows[0][1:] == ["43.00", "43.00", "43.00", "1.00", "1.00", "never", "12"]


def test_distances_and_speeds_are_one_row_a_kind():
    away = {"model": "fashion-cnn", "n": 10, "momentum": 0.9, "off_loss": 0.5, "mimic_loss": 0.1}
    rows = [away | {"seed": seed, "off": 0.02 * seed, "mimic": 0.01} for seed in (0, 1)]
    (found,) = stored_tables.tables({"distances": rows})
    assert found.rows == [["momentum 0.9", "2", "1.00", "1.00", "0.5000", "0.1000"]]
    speed = {"model": "fashion-mlp", "n": 1, "batch": 1, "precision": "float32"}
    rows = [speed | {"steps": t, "images_per_second": 1000.0 / t} for t in (1, 4)]
    (found,) = stored_tables.tables({"runs": rows})
    assert (found.head, found.rows) == (
        ["Simulator", "1", "4"], [["float32, batch 1", "1,000", "250"]]
    )  # fmt: skip


def test_forms_are_compared_on_the_same_device():
    form = {"model": "fashion-mlp", "n": 1000, "precision": "float32"}
    rows = [
        form | {"device": device, "method": method, "images_per_second": speed}
        for device, speeds in (("cpu", (1e4, 2e4)), ("cuda", (1e5, 5e5)))
        for method, speed in zip(("time", "width"), speeds, strict=True)
    ]
    (found,) = stored_tables.tables({"runs": [], "forms": rows})
    assert found.rows == [
        ["CPU, float32, batch 1,000", "10,000", "20,000", "2.0"],
        ["GPU, float32, batch 1,000", "100,000", "500,000", "5.0"],
    ]
