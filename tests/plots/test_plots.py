"""Figures: fixed looks, clear refusals, what is drawn is what was given."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("agg")
import matplotlib.pyplot as plt

from snnlib import plots


@pytest.fixture
def ax():
    with plots.style():
        figure, axes = plt.subplots()
        yield axes
        plt.close(figure)


def test_methods_keep_their_color_in_any_order(ax):
    plots.accuracy_over_time(
        ax, [1, 2], {"AugMapping, 4 levels": [0.9, 1.0], "IF": [0.1, 0.2], "TerMapping": [0, 1]}
    )
    drawn = {line.get_label(): line.get_color() for line in ax.get_lines()}
    assert drawn["IF"] == plots.color("IF")
    assert drawn["AugMapping, 4 levels"] == plots.color("AugMapping")
    assert len(set(drawn.values())) == 3


def test_two_curves_of_one_method_differ_in_line_style(ax):
    plots.accuracy_over_time(ax, [1, 2], {"IF": [0.1, 0.2], "IF, v0 = ½": [0.3, 0.4]})
    one, two = ax.get_lines()
    assert one.get_color() == two.get_color()
    assert one.get_linestyle() != two.get_linestyle()


def test_ann_is_a_dashed_line_at_its_accuracy_in_percent(ax):
    plots.accuracy_over_time(ax, [1, 2, 3], {"IF": [0.5, 0.6]}, ann=0.9)
    ann = next(line for line in ax.get_lines() if line.get_label() == "ANN")
    assert ann.get_linestyle() == "--"
    assert set(ann.get_ydata()) == {90.0}
    curve = next(line for line in ax.get_lines() if line.get_label() == "IF")
    assert np.allclose(curve.get_ydata(), [50, 60])


@pytest.mark.parametrize(
    ("curve", "says"),
    [([50.0, 60.0], "not a fraction"), ([0.1] * 4, "3 steps"), ([[0.1, 0.2]], "shape")],
)
def test_accuracies_that_cannot_be_are_refused(ax, curve, says):
    with pytest.raises(ValueError, match=says) as refused:
        plots.accuracy_over_time(ax, [1, 2, 3], {"IF": curve})
    assert "'IF'" in str(refused.value)


def test_unknown_method_has_no_color():
    with pytest.raises(KeyError, match="TerMapping"):
        plots.color("GELU")


def test_raster_draws_one_mark_an_event(ax):
    c = np.array([[1, 0, -1], [0, 3, 0]])
    plots.raster(ax, c)
    segments = [s for collection in ax.collections for s in collection.get_segments()]
    assert len(segments) == np.count_nonzero(c)
    below = [s for s in segments if s[1][1] < s[0][1]]
    assert len(below) == 1
    assert below[0][0][0] == 1  # in the first time step
    assert below[0][0][1] == 2  # neuron 2
    assert [text.get_text() for text in ax.texts] == ["+3"]
    with pytest.raises(ValueError, match=r"\(T, N\)"):
        plots.raster(ax, c[0])


def test_raster_keeps_the_colors_of_methods(ax):
    c = np.array([[1, -1, 1], [1, 1, 1]])
    plots.raster(ax, c, labels=["IF", "TerMapping", "z = 0.3"])
    drawn = {
        (mpl.colors.to_hex(color), int(segment[0][1]))
        for collection in ax.collections
        for color, segment in zip(collection.get_colors(), collection.get_segments(), strict=True)
    }
    ink = plots.POSITIVE.color()
    assert drawn == {(plots.color("IF"), 0), (plots.color("TerMapping"), 1), (ink, 2)}
    assert not {plots.POSITIVE.light, plots.NEGATIVE.light} & {
        look.light for name, look in plots.METHODS.items()
    }
    with pytest.raises(ValueError, match="3 rows and 2 methods"):
        plots.raster(ax, c, methods=["IF", "IF"])


def test_membrane_takes_the_methods_color(ax):
    plots.membrane(ax, [0.2, -0.1], [1, -1], threshold=1.0, negative=0.5, method="TerMapping")
    colors = {line.get_label(): line.get_color() for line in ax.get_lines()}
    assert colors["spike"] == colors["negative spike"] == plots.color("TerMapping")


def test_membrane_marks_spikes_of_both_signs(ax):
    plots.membrane(ax, [0.2, 0.5, -0.1], [0, 1, -1], threshold=1.0, negative=0.5)
    marks = {line.get_label(): list(line.get_xdata()) for line in ax.get_lines()}
    assert marks["spike"] == [2]
    assert marks["negative spike"] == [3]
    levels = {line.get_ydata()[0] for line in ax.get_lines() if len(set(line.get_ydata())) == 1}
    assert {1.0, -0.5} <= levels
    with pytest.raises(ValueError, match="coefficients"):
        plots.membrane(ax, [0.2, 0.5], [1])


def test_style_ends_with_the_block():
    before = mpl.rcParams["axes.facecolor"]
    with plots.style("dark"):
        assert mpl.rcParams["axes.facecolor"] == plots.CARD["dark"]
    assert mpl.rcParams["axes.facecolor"] == before


def test_a_late_answer_that_is_not_there_yet_is_not_drawn():
    figure, ax = plt.subplots()
    plots.accuracy_over_time(ax, [1, 2, 3], {"IF": [float("nan"), 0.5, 0.6]})
    with pytest.raises(ValueError, match=r"is not a fraction: 0\.5 … 1\.5"):
        plots.accuracy_over_time(ax, [1, 2, 3], {"IF": [float("nan"), 0.5, 1.5]})
    plt.close(figure)
