"""One picture with two palettes: the dark twin is the light drawing in other colors."""

from __future__ import annotations

import base64
import io
import itertools

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("agg")
import matplotlib.pyplot as plt
from PIL import Image

from snnlib import plots
from snnlib.plots import twins

PHOTOGRAPH = np.add.outer(np.arange(8), np.arange(8)) / 14


@pytest.fixture
def figure():
    """Lines, markers, letters, a face and a collection in the colors of the style, and an image."""
    with plots.style():
        drawn, (left, right) = plt.subplots(1, 2, figsize=(4, 2))
        left.fill_between([0, 1], 0, [1, 2], color=plots.EXTRA[0].light, alpha=0.5)
        left.plot([0, 1], [0, 1], color=plots.color("IF"), marker="o", label="IF")
        left.scatter([0, 1], [1, 0], color=plots.color("TerMapping"))
        left.bar([0.5], [1.5], width=0.3, color=plots.color("AugMapping"), hatch="/")
        left.legend()
        right.imshow(PHOTOGRAPH, cmap="gray")
        right.set_axis_off()
        yield drawn
        plt.close(drawn)


def colors_of(picture: np.ndarray) -> set[str]:
    found = np.unique(picture.reshape(-1, 3), axis=0)
    return {f"#{r:02x}{g:02x}{b:02x}" for r, g, b in found}


def test_style_colors_become_their_dark_twins(figure):
    drawn = twins.pixels(figure, 100)
    for look in map(plots.look, ("IF", "TerMapping", "AugMapping")):
        assert look.light in colors_of(drawn["light"])
        assert look.dark in colors_of(drawn["dark"])
        assert look.light not in colors_of(drawn["dark"])
    for both in (plots.CARD, plots.INK):
        assert both["dark"] in colors_of(drawn["dark"])
        assert both["light"] not in colors_of(drawn["dark"])


@pytest.mark.parametrize("tight", [True, False])
def test_modes_lie_on_each_other_and_leave_the_figure_as_it_was(figure, tight):
    canvas, layout = figure.canvas, figure.get_layout_engine()
    first = twins.pixels(figure, 90, tight=tight)
    assert figure.canvas is canvas
    assert figure.get_layout_engine() is layout
    assert first["light"].shape == first["dark"].shape
    card, dark = ((np.array(Image.new("RGB", (1, 1), plots.CARD[m])) * 1.0) for m in plots.MODES)
    background = (first["light"] == card).all(-1)
    assert background.mean() > 0.3
    assert np.abs(first["dark"] - dark)[background].max() <= 4  # as far as an edge is rounded


def test_what_is_shown_as_an_image_is_alike_in_both(figure):
    drawn = twins.pixels(figure, 100)
    alike = (drawn["light"] == drawn["dark"]).all(-1)
    levels = set(drawn["light"][alike][:, 0].tolist())
    assert {0, 255} <= levels
    assert len(levels) >= np.unique(PHOTOGRAPH).size


@pytest.mark.parametrize(
    "color", [*itertools.product((0.0, 0.4, 1.0), repeat=3)], ids=lambda c: f"{c}"
)
def test_other_colors_keep_hue_and_contrast(color):
    twin = twins.dark(color)
    rgb = [twins._rgb(plots.CARD[mode]) for mode in plots.MODES]
    light, dark = (twins.luminance(card) + 0.05 for card in rgb)
    wanted = light / (twins.luminance(color) + 0.05) * dark
    reachable = min(max(wanted, 0.05), 1.05)  # between black and white
    assert twins.luminance(twin) + 0.05 == pytest.approx(reachable, abs=1e-4)


def test_png_carries_the_twin_and_is_an_ordinary_picture(figure):
    png = twins.as_png(figure)
    dark = twins.dark_png(png)
    assert dark is not None
    drawn = twins.pixels(figure, twins.DPI, tight=True)
    for stored, mode in ((png, "light"), (dark, "dark")):
        opened = Image.open(io.BytesIO(stored))
        opened.verify()  # checks the sums of all chunks
        shown = np.asarray(Image.open(io.BytesIO(stored)).convert("RGB")).astype(int)
        assert shown.shape == drawn[mode].shape
        assert np.abs(shown - drawn[mode]).mean() < 2
    assert twins.dark_png(dark) is None, "the twin has no twin"
    plain = io.BytesIO()
    figure.savefig(plain, format="png")
    assert len(png) < len(plain.getvalue())
    assert twins.dark_png(plain.getvalue()) is None


def test_parts_of_a_png_follow_each_other_as_base64(figure):
    (picture,) = twins.pictures([twins.pixels(figure, 50)])
    assert len(picture.head()) % 3 == 0
    for mode in plots.MODES:
        assert len(picture.palette(mode)) % 3 == 0
        joined = picture.head() + picture.palette(mode) + picture.body()
        assert Image.open(io.BytesIO(joined)).size == picture.numbers.shape[::-1]


def test_pictures_of_a_player_share_their_palettes(figure):
    one = twins.pixels(figure, 50)
    figure.axes[0].set_title("later")
    two = twins.pixels(figure, 50)
    first, second = twins.pictures([one, two], 32)
    assert first.light is second.light
    assert len(first.light) == len(first.dark) <= 32
    assert not np.array_equal(first.numbers, second.numbers)


def test_a_figure_of_another_ground_has_no_twin():
    with plots.style("dark"):
        figure = plt.figure(figsize=(1, 1))
        png = twins.as_png(figure)
        plt.close(figure)
    assert twins.dark_png(png) is None
    assert Image.open(io.BytesIO(png)).format == "PNG"


def test_notebooks_store_figures_with_their_twin(tmp_path):
    nbclient = pytest.importorskip("nbclient", reason="needs Jupyter: requirements.txt")
    nbformat = pytest.importorskip("nbformat")
    source = (
        "import matplotlib.pyplot as plt\nfrom snnlib import plots\nplots.use_style()\n"
        "plt.plot([0, 1]);\nplt.show()"
    )
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbclient.NotebookClient(book, timeout=120, resources={"metadata": {"path": tmp_path}}).execute()
    (png,) = (o.data["image/png"] for o in book.cells[0].outputs if "data" in o)
    assert twins.dark_png(base64.b64decode(png)) is not None
