"""Spelling of everything that a reader reads, against a dictionary and the list tests/words.txt."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from book_rules import ROOT

PAGES = sorted(
    path
    for pattern in ("*.md", "book/*.md", "book/*.ipynb")
    for path in ROOT.glob(pattern)
    if not path.name.startswith("LICENSE")
)
WORDS = ROOT / "tests" / "words.txt"


def allowed() -> set[str]:
    lines = WORDS.read_text(encoding="utf-8").splitlines()
    return {line.strip().lower() for line in lines if line.strip() and not line.startswith("#")}


def prose(path: Path) -> str:
    """What is written for people: no code, no mathematics, no addresses, no markup."""
    if path.suffix == ".ipynb":
        cells = nbformat.read(path, as_version=4).cells
        alts = (c.metadata.get("mystnb", {}).get("image", {}).get("alt", "") for c in cells)
        text = "\n\n".join([*(c.source for c in cells if c.cell_type == "markdown"), *alts])
    else:
        text = path.read_text(encoding="utf-8")
    text = re.sub(r"^(`{3,})(?:\w+|\{eval-rst\})?\n.*?^\1", " ", text, flags=re.M | re.S)
    text = re.sub(r"^ *`{3,}.*$|^:[\w-]+:.*$|^\([\w:-]+\)=$", " ", text, flags=re.M)
    text = re.sub(r"\$\$.*?\$\$(?: *\([\w:-]+\))?|\$[^$\n]+\$", " ", text, flags=re.S)
    text = re.sub(r"\{[\w:]+\}`([^`<]*?) <[^`]*>`", r" \1 ", text)
    text = re.sub(r"\{(?!term|index)[\w:]+\}`[^`]*`|(?<!\})``?[^`]+``?", " ", text)
    text = re.sub(r"\{[\w:]+\}", " ", text)
    text = re.sub(r"\]\([^)]*\)|<[^>]+>|https?://\S+|&\w+;|\S+@\S+", " ", text)
    return text.replace("’", "'")


def vocabulary(text: str) -> set[str]:
    found = set()
    for word in re.findall(r"(?<![\w@./-])[A-Za-zéèïö]+(?:'[a-z]+)?(?![\w@/])", text):
        word = re.sub(r"'s$|s'$", "", word)
        if len(word) > 2 and (word.islower() or word.istitle()):
            found.add(word.lower())
    return found


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_words_are_spelled_right(path: Path) -> None:
    spellchecker = pytest.importorskip(
        "spellchecker", reason="needs pyspellchecker: pip install -r requirements.txt"
    )
    checker = spellchecker.SpellChecker(language="en")
    unknown = checker.unknown(vocabulary(prose(path)) - allowed()) - allowed()
    unknown = {word for word in unknown if not checker.known([word.removesuffix("s")])}
    assert not unknown, f"correct these, or add what is right to tests/words.txt: {sorted(unknown)}"


def test_word_list_is_sorted() -> None:
    lines = [w for w in WORDS.read_text(encoding="utf-8").splitlines() if not w.startswith("#")]
    assert lines == sorted(set(lines), key=str.lower)


def test_a_misspelling_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("A neuron with a treshold sends `spkies` and $\\lamda$.", encoding="utf-8")
    with pytest.raises(AssertionError, match="treshold"):
        test_words_are_spelled_right(page)
    assert "spkies" not in prose(page)
