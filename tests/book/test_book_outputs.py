"""What the site makes of outputs: captions from alt text, dark twins, one fold in a row."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("sphinx", reason="needs the packages that build the book")

import matplotlib as mpl

mpl.use("agg")
from bookext import outputs
from docutils import nodes
from docutils.frontend import get_default_settings
from docutils.utils import new_document
from matplotlib.figure import Figure

from snnlib import plots
from snnlib.plots import twins


@pytest.mark.parametrize(
    ("alt", "caption", "rest"),
    [
        ("Rate over current. It climbs by 0.3 a step.", "Rate over current.",
         "It climbs by 0.3 a step."),
        ("One, of 0.5 points.", "One, of 0.5 points.", "One, of 0.5 points."),
        ("Short: it falls. Then rises.", "Short: it falls.", "Then rises."),
        ("Potential over time: " + "a staircase that climbs " * 5 + "on. It falls.",
         "Potential over time.",
         "A staircase that climbs " + "a staircase that climbs " * 4 + "on. It falls."),
        ("", "", ""),
    ],
)  # fmt: skip
def test_caption_is_the_first_sentence(alt, caption, rest):
    assert outputs.caption_and_alt(alt) == (caption, rest)


def cell(source: str, shown: nodes.Node | None = None, hide: str = "input") -> nodes.container:
    made = nodes.container(nb_element="cell_code", hide_mode=hide)
    code = nodes.container("", nodes.literal_block("", source), nb_element="cell_code_source")
    made += code
    if shown is not None:
        made += nodes.container("", shown, nb_element="cell_code_output")
    return made


def document(*cells: nodes.Node) -> nodes.document:
    import docutils.parsers.rst

    made = new_document("page", get_default_settings(docutils.parsers.rst.Parser))
    made += cells
    return made


def apply(transform: Any, page: nodes.document, folder: Path = Path()) -> None:
    made = transform(page)
    env = SimpleNamespace(
        docname="page", relfn2path=lambda uri, name: (uri, str(folder / uri.lstrip("/")))
    )
    page.settings.env = env
    made.apply()


def test_folded_code_without_output_joins_the_next():
    page = document(
        cell("a"), cell("b"), cell("c", nodes.paragraph("", "shown")), cell("d"),
        nodes.paragraph("", "text"), cell("e"), cell("f", hide=""),
    )  # fmt: skip
    apply(outputs.MergedFolds, page)
    cells = [node for node in page if isinstance(node, nodes.container)]
    assert [node[0].astext().split() for node in cells] == [["a", "b", "c"], ["d"], ["e"], ["f"]]
    assert cells[0][1].astext() == "shown"


def test_an_image_gets_caption_number_and_dark_twin(tmp_path):
    with plots.style():
        figure = Figure(figsize=(1, 1))
        figure.subplots().plot([0, 1], color=plots.color("IF"))
        (tmp_path / "x.png").write_bytes(twins.as_png(figure))
    image = nodes.image(uri="/x.png", alt="A line. It climbs.")
    page = document(cell("draw()", image))
    apply(outputs.Captions, page, tmp_path)
    (figure_node,) = page.findall(nodes.figure)
    assert figure_node["classes"] == ["snn-captioned"]
    assert figure_node["ids"] == ["fig-a-line"], "Sphinx numbers what has an id"
    assert figure_node[-1].astext() == "A line."
    light, dark = page.findall(nodes.image)
    assert (light["classes"], dark["classes"]) == (["only-light"], ["only-dark"])
    assert {light["alt"], dark["alt"]} == {"It climbs."}
    assert (tmp_path / dark["uri"].lstrip("/")).read_bytes().startswith(twins.SIGNATURE)


def test_an_image_without_a_twin_serves_both_modes(tmp_path):
    (tmp_path / "x.png").write_bytes(twins.SIGNATURE)
    page = document(cell("draw()", nodes.image(uri="/x.png", alt="A line. It climbs.")))
    apply(outputs.Captions, page, tmp_path)
    (image,) = page.findall(nodes.image)
    assert image["classes"] == []


def test_a_named_figure_keeps_its_name():
    figure = nodes.figure(ids=["fig-mine"])
    player = '<div class="snn-player"><img alt="A &lt; B. So it is here." src=""></div>'
    figure += nodes.raw("", player, format="html")
    page = document(cell("play()", figure))
    apply(outputs.Captions, page)
    (found,) = page.findall(nodes.figure)
    assert found["ids"] == ["fig-mine"]
    assert found[-1].astext() == "A < B."
    assert '<img alt="So it is here."' in found[0].astext()


def test_long_lines_wrap_and_tables_scroll():
    page = document(
        cell("x", nodes.literal_block("", "short\n" + "long " * 20)),
        cell("y", nodes.literal_block("", "short")),
        cell("z", nodes.raw("", '<table class="snn-table"></table>', format="html")),
    )
    apply(outputs.Printed, page)
    wraps = ["snn-wrap" in block["classes"] for block in page.findall(nodes.literal_block)]
    assert wraps == [False, True, False, False, False]
    (table,) = page.findall(nodes.raw)
    assert table.astext() == '<div class="table-scroll"><table class="snn-table"></table></div>'
