"""The pages around the chapters: title picture, six lines, related methods, how to cite."""

from __future__ import annotations

import ast
import io
import json
import re

import numpy as np
import pytest
import yaml
from book_rules import ROOT

pytest.importorskip("sphinx", reason="needs the packages that build the book")

from bookext import chapters, landing, photograph, related

INDEX = (ROOT / "book/index.md").read_text(encoding="utf-8")
RELATED = (ROOT / "book/related.md").read_text(encoding="utf-8")
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_six_lines_run_and_print_what_the_text_says():
    (code,) = re.findall(r"```\{run-code\}\n(.*?)\n```", INDEX, re.S)
    assert len([line for line in code.splitlines() if line.strip()]) == 6
    accuracies = [float(text.rstrip("%")) for text in ast.literal_eval(landing.output_of(code))]
    assert len(accuracies) == 8
    assert accuracies[-1] > 97


def test_code_that_fails_stops_the_build():
    with pytest.raises(ZeroDivisionError):
        landing.output_of("1 / 0")


def test_the_buttons_lead_to_pages_that_are_there():
    assert (ROOT / "book" / f"{landing.RUN}.ipynb").is_file()
    assert (ROOT / "book" / f"{landing.READ}.ipynb").is_file()
    assert landing.READ + ".ipynb" == chapters.OPENING


def test_counts_of_the_title_picture_are_rounded_brightness():
    """The closed form of a constant current in [0, 1], away from ties."""
    currents = np.random.default_rng(0).uniform(size=(5, 7, 3))
    for frame in photograph.emerge(currents):
        counts = np.floor(currents * frame.steps + 0.5)
        assert frame.picture.tolist() == np.rint(255 * counts / frame.steps).tolist()
        assert frame.spikes == pytest.approx(counts.mean())


def test_title_picture_stops_by_itself_before_it_needs_a_pause():
    assert photograph.INTERVAL * len(photograph.STEPS) < 5000


def test_title_picture_shows_its_last_frame_without_scripts():
    frames = photograph.emerge(np.full((2, 4, 3), 0.5))
    sources = [f"{frame.steps}.webp" for frame in frames]
    page = photograph.hero(frames, sources, "caption")
    image = re.search(r"<img [^>]*>", page)
    assert image
    assert f'src="{sources[-1]}"' in image[0]
    assert re.search(r'class="snn-controls" hidden', page)


def test_few_colors_are_stored_exactly():
    from PIL import Image

    picture = photograph.emerge(np.random.default_rng(1).uniform(size=(40, 40, 3)), (1,))[0].picture
    image = Image.open(io.BytesIO(photograph.stored(picture)))
    assert np.asarray(image.convert("RGB")).tolist() == picture.tolist()


def test_preview_has_the_size_that_sites_expect():
    from PIL import Image

    data = photograph.preview()
    assert Image.open(io.BytesIO(data)).size == (1200, 630)
    assert len(data) < 300_000


@pytest.mark.parametrize("name", related.KINDS)
def test_measured_rows_are_those_of_the_stored_results(name):
    assert f"```{{measured}} {name}\n" in RELATED
    table = related.measured(name, ROOT / "book/results")
    assert table is not None
    assert len(table.rows) >= 3
    assert all(len(row) == len(table.head) for row in table.rows)


def test_a_measured_row_is_the_number_in_the_file(tmp_path):
    run = {"model": "mnist-cnn", "n": 100, "images": "validation", "ann_accuracy": 0.9}
    rows = [
        {**run, "axis": axis, "choice": choice, "accuracy": [0.5, 0.625, 0.7, 0.75]}
        for axis, choice in (("balance", "max"), ("balance", "99.9"), ("balance", "min-error"),
                             ("scope", "channel"))
    ]  # fmt: skip
    (tmp_path / "ablations.json").write_text(json.dumps({"runs": rows}), encoding="utf-8")
    table = related.measured("thresholds", tmp_path)
    assert table is not None
    assert table.head == ["", "1", "2", "4"]
    assert table.rows[0][1:] == ["50.0", "62.5", "75.0"]
    assert "100 validation images" in table.title
    assert "90.0 ± 5.9 %" in table.title  # 1.96 √(0.9 × 0.1 / 100)
    assert related.measured("neurons", tmp_path) is None


def test_the_rounded_ann_stands_under_the_steps_it_was_measured_at():
    run = {"model": "m", "label": "AugMapping, best", "neuron": "augmented", "headline": {}}
    run |= {"n": 10, "ann_accuracy": 0.9, "accuracy": [0.5] * 8}
    run["quantized_ann"] = {"steps": [1, 8], "accuracy": [0.25, 0.75]}
    table = related.table(related.neurons({"runs": [run]}, "m"), "m")
    assert table.head == ["", "1", "2", "4", "8"]
    assert table.rows[1][1:] == ["25.0", "", "", "75.0"]


def test_the_late_answer_stands_below_the_same_run_read_from_step_one():
    late = {"start": [1, 2], "accuracy": [0.5, 0.75], "agreement": [0.5, 0.75]}
    run = {
        "model": "m",
        "label": "IF, best",
        "n": 10,
        "ann_accuracy": 0.9,
        "accuracy": [0.5, 0.625],
    }
    runs = [run | {"late": late}, run | {"label": "AugMapping, best", "late": late}]
    table = related.table(related.late({"runs": runs}, "m"), "m")
    assert table.rows == [
        ["IF, best, from step 1", "50.0", "62.5"],
        ["IF, best, late answer", "50.0", "75.0"],
    ]


def test_every_conversion_paper_of_the_bibliography_is_on_the_page_of_related_methods():
    bib = (ROOT / "book/references.bib").read_text(encoding="utf-8")
    entries = re.findall(r"^@\w+\{([^,]+),(.*?)^\}", bib, re.M | re.S)
    title = re.compile(r"title\s*=.*(Conver|conver|ANN|Low-Latency|Early-Exit|Calibration)")
    cited = set(re.findall(r"[\w]+", " ".join(re.findall(r"\{cite(?::t)?\}`([^`]+)`", RELATED))))
    missing = {key for key, fields in entries if title.search(fields)} - cited
    assert not missing


def test_each_related_method_has_a_place_here_or_a_reason():
    for section in re.split(r"^## ", RELATED, flags=re.M)[1:]:
        entries = re.split(r"^- ", section, flags=re.M)[1:]
        unplaced = [entry for entry in entries if not re.search(r"\bHere\b|\bNo row", entry)]
        assert not unplaced or "No rows:" in section, unplaced


def test_book_is_cited_as_the_citation_file_says():
    entry = related.bibtex(CITATION)
    book = CITATION["preferred-citation"]
    title = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["title"]
    for said in (book["title"], str(book["year"]), book["url"], f"version {CITATION['version']}"):
        assert said in entry
    assert book["title"].startswith(title)
    assert book["url"] == CITATION["repository-code"]
    assert [author["name"] for author in book["authors"]] == [
        author["name"] for author in CITATION["authors"]
    ]
    assert entry.count("{") == entry.count("}")
    assert "```{cite-book}\n```" in RELATED
