"""One spelling for one word, in names and in text: American, as the field and PyTorch write."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KINDS = {".py", ".md", ".ipynb", ".yml", ".toml", ".css", ".js", ".html", ".cff", ".json", ".txt"}
STEMS = (  # of verbs in -ize
    "quanti|normali|generali|initiali|optimi|recogni|standardi|seriali|organi|summari|minimi|"
    "maximi|utili|speciali|visuali|regulari|parametri|parameteri|vectori|locali|emphasi|memori|"
    "synchroni|binari|categori|characteri|discreti|factori|finali|formali|randomi|stabili|penali|"
    "neutrali|customi|equali|centrali|populari|criticali|reali|digiti|tokeni|lineari"
)
WORDS = (
    r"colour\w*|neighbour\w*|behaviour\w*|centre\w*|centring|grey\w*|favour\w*|honour\w*|"
    r"analys(?:e|es|ed|ing)|modell\w+|labell(?!edby)\w+|cancell(?:ed|ing)|travell\w+|"
    r"signall(?:ed|ing)|licence\w*|programmes?|metres?|catalogue\w*|artefact\w*|defence\w*|"
    r"whilst|learnt|flavour\w*|fulfils?|skilful|judgement|fibres?|sceptic\w*|afterwards|(?:down|up|to)wards"
)
ENDINGS = "e|ed|es|er|ers|ing|ation|ations|able"
DATA = re.compile(r"[A-Za-z0-9+/=]{60,}")  # pictures in notebooks
BRITISH = re.compile(
    rf"(?<![a-z])(?:[a-z]*(?:{STEMS})s(?:{ENDINGS})|{WORDS})(?![a-z])", re.IGNORECASE
)
# The names of version 0.1, and what is written in other people's words.
KEPT = {
    "CHANGELOG.md": {"colour"},
    "snnlib/plots/__init__.py": {"colour"},
    "tests/plots/test_plots.py": {"colour"},
    "snnlib/recurrent/exits.py": {"towards"},
}


def files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("needs a clone: the list of files comes from git")
    return [ROOT / name for name in listed.stdout.splitlines() if Path(name).suffix in KINDS]


def test_spelling_is_american() -> None:
    found = {}
    for path in files():
        name = path.relative_to(ROOT).as_posix()
        if path == Path(__file__) or not path.exists():
            continue
        text = DATA.sub("", path.read_text(encoding="utf-8"))
        words = {w.lower() for w in BRITISH.findall(text)}
        if words - KEPT.get(name, set()):
            found[name] = sorted(words)
    assert not found, found


@pytest.mark.parametrize("word", ["quantised", "renormalisation", "LABELLED", "grey_scale"])
def test_the_other_spelling_is_noticed(word: str) -> None:
    assert BRITISH.search(word)


@pytest.mark.parametrize("word", ["exercise", "raises", "noise", "quantized", "precise", "basis"])
def test_words_that_only_look_like_it_are_left(word: str) -> None:
    assert not BRITISH.search(word)
