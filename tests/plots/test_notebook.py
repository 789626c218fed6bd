"""What the notebooks need: named numbers, stored results, and animations without a kernel."""

from __future__ import annotations

import base64
import io
import json
import re

import matplotlib as mpl
import pytest

mpl.use("agg")
import matplotlib.pyplot as plt
from PIL import Image

from snnlib import plots
from snnlib.plots import notebook


@pytest.fixture
def drawing():
    with plots.style():
        figure, ax = plt.subplots(figsize=(2, 1))
    calls = []

    def draw(k):
        calls.append(k)
        ax.clear()
        ax.plot([0, 1], [0, k + 1])
        return f"step {k} <b>"

    yield figure, draw, calls
    plt.close(figure)


def parts(page):
    """Head, palettes and bodies of a player's frames, and its captions."""
    found = re.search(
        r'head = "(.*?)", palettes = (\{.*?\}),\s*bodies = (\[.*?\]), captions = (\[.*?\]), page',
        page,
        re.S,
    )
    return found[1], *(json.loads(text) for text in found.groups()[1:])


def test_player_holds_every_frame_and_shows_the_last(drawing):
    figure, draw, _ = drawing
    page = notebook.player(
        figure, draw, frames=3, alt='A line that rises "steeply" & more', label="Time step"
    ).data
    head, palettes, bodies, captions = parts(page)
    assert len(bodies) == len(set(bodies)) == 3
    poster = re.search(r'src="data:image/png;base64,([^"]+)"', page)[1]
    shown = Image.open(io.BytesIO(base64.b64decode(poster))).convert("RGB")
    prefix = "data:image/png;base64,"
    for mode, same in (("light", True), ("dark", False)):
        frame = (head + palettes[mode] + bodies[-1]).removeprefix(prefix)
        picture = Image.open(io.BytesIO(base64.b64decode(frame))).convert("RGB")
        assert (picture.tobytes() == shown.tobytes()) == same, mode
    assert captions == [f"step {k} <b>" for k in range(3)]
    assert 'max="2" value="2" aria-label="Time step" aria-valuetext="step 2 &lt;b&gt;"' in page
    assert 'alt="A line that rises &quot;steeply&quot; &amp; more"' in page
    assert "step 2 &lt;b&gt;</output>" in page
    assert "@" not in re.sub(r"base64,[^\"]*", "", page), "a placeholder is left"
    assert not plt.fignum_exists(figure.number), "the figure would be shown a second time"


def test_player_waits_for_its_reader_unless_it_is_told_to_start(drawing):
    figure, draw, _ = drawing
    told = {"frames": 2, "alt": "A line that rises more steeply"}
    assert "if (false &&" in notebook.player(figure, draw, **told).data
    page = notebook.player(figure, draw, autoplay=True, **told).data
    assert 'if (true && !matchMedia("(prefers-reduced-motion: reduce)").matches)' in page
    with pytest.raises(ValueError, match="button that stops it"):
        notebook.player(figure, draw, autoplay=True, play=False, **told)


def test_player_without_a_button_is_a_slider(drawing):
    figure, draw, _ = drawing
    alt = "A line that rises more steeply"
    page = notebook.player(figure, draw, frames=2, alt=alt, play=False, label="Threshold").data
    assert '<button type="button" style="display:none;' in page
    assert 'aria-label="Threshold"' in page


def test_player_is_the_same_in_every_run(drawing):
    figure, draw, _ = drawing
    first = notebook.player(figure, draw, frames=[0, 4], alt="A line that rises more steeply").data
    again = notebook.player(figure, draw, frames=[0, 4], alt="A line that rises more steeply").data
    assert first == again


def test_player_fetches_nothing_from_elsewhere(drawing):
    figure, draw, _ = drawing
    page = notebook.player(figure, draw, frames=2, alt="A line that rises more steeply").data
    assert "http" not in page


@pytest.mark.parametrize(
    ("given", "says"),
    [({"frames": 0}, "no frame"), ({"alt": "plot"}, "what is to be seen")],
)
def test_player_refuses_what_no_reader_could_use(drawing, given, says):
    figure, draw, _ = drawing
    with pytest.raises(ValueError, match=says):
        notebook.player(figure, draw, **{"frames": 2, "alt": "A line that rises", **given})


def test_player_says_when_it_is_too_heavy(drawing, monkeypatch):
    figure, draw, _ = drawing
    monkeypatch.setattr(notebook, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="fewer frames"):
        notebook.player(figure, draw, frames=3, alt="A line that rises more steeply")


def test_glue_travels_as_the_book_reads_it(monkeypatch):
    sent = []
    monkeypatch.setattr(
        "IPython.display.publish_display_data", lambda data, metadata: sent.append((data, metadata))
    )
    notebook.glue("neurons-rate", "0.25")
    ((data, metadata),) = sent
    assert data == {"application/papermill.record/text/plain": "'0.25'"}
    assert metadata["scrapbook"]["name"] == "neurons-rate"
    with pytest.raises(TypeError, match="neurons-rate"):
        notebook.glue("neurons-rate", [0.25])


def test_glue_has_the_form_of_myst_nb(monkeypatch, tmp_path):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))  # the home may be read-only
    myst_nb = pytest.importorskip("myst_nb", reason="needs the packages that build the book")
    import IPython.display

    sent = []
    monkeypatch.setattr(
        "IPython.display.publish_display_data", lambda data, metadata: sent.append((data, metadata))
    )
    notebook.glue("x", "1.5")
    monkeypatch.setattr(
        "myst_nb.ext.glue.ipy_display",
        lambda data, raw, metadata: sent.append((data, metadata)),
    )
    assert IPython.display
    myst_nb.glue("x", "1.5", display=False)
    ours, theirs = sent
    assert ours[0] == {key: value for key, value in theirs[0].items() if "plain" in key}
    assert ours[1] == theirs[1]


def test_results_name_those_that_exist():
    with pytest.raises(FileNotFoundError, match="no result 'nothing'"):
        notebook.results("nothing")


def test_a_table_is_html_on_a_page_and_text_elsewhere():
    table = notebook.Table(["neuron", "events"], [["IF <b>", 3], ["Ternary", 15]], "Events & steps")
    assert repr(table).splitlines() == [
        "Events & steps",
        "neuron   events",
        "IF <b>        3",
        "Ternary      15",
    ]
    page = table._repr_html_()
    assert "<caption>Events &amp; steps</caption>" in page
    assert '<tr><th scope="row">IF &lt;b&gt;</th><td>3</td></tr>' in page
    assert notebook.Table(["a"], [["b"]])._repr_html_().count("caption") == 0


def test_a_table_marks_its_columns_of_words():
    rows = [["IF", "−3.2 %", "none"], ["ANN", "—", "1st"]]
    page = notebook.Table(["network", "loss", "why"], rows)._repr_html_()
    assert page.count('<td class="words">') == 0
    rows[1][2] = "late"
    page = notebook.Table(["network", "loss", "why"], rows)._repr_html_()
    assert '<th scope="col" class="words">why</th>' in page
    assert page.count('<td class="words">') == 2
    assert "<td>−3.2 %</td><td" in page
    assert "<thead>" in notebook.Table(["a", "b"], [])._repr_html_()


def test_a_table_refuses_rows_of_another_length():
    with pytest.raises(ValueError, match="1 cells, not 2"):
        notebook.Table(["neuron", "events"], [["IF"]])


def test_frames_without_a_caption_are_counted(drawing):
    """By their place, whatever they are called by."""
    figure, draw, _ = drawing
    page = notebook.player(
        figure, lambda k: draw(k) and None, frames=[0, 5, 10], alt="a line that rises more and more"
    )
    assert all(f"{at} / 3" in page.data for at in (1, 2, 3))
