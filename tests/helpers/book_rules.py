"""The rules for a chapter (book/AUTHORING.md) that a program can check, one function a rule."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import yaml

from book.tools.editions.editions import ANSWER

ROOT = Path(__file__).resolve().parents[2]
CITATION_KEYS = set(
    re.findall(r"^@\w+\{([^,]+),", (ROOT / "book/references.bib").read_text(), re.M)
)
NUMBER = re.compile(r'<data value="([\w-]+)">[^<]*</data>')
MAX_LINES, MAX_WIDTH, MAX_BYTES = 15, 88, 1_500_000

Rule = Callable[["Chapter"], Iterator[str]]
RULES: list[Rule] = []


def toc() -> list[str]:
    """The files that the table of contents names."""
    content = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return [content["root"], *(c["file"] for part in content["parts"] for c in part["chapters"])]


def rule(check: Rule) -> Rule:
    RULES.append(check)
    return check


@dataclass
class Chapter:
    """A notebook, cut up for the rules."""

    notebook: nbformat.NotebookNode
    size: int = 0
    text: str = field(init=False)

    def __post_init__(self) -> None:
        self.text = "\n\n".join(c.source for c in self.notebook.cells if c.cell_type == "markdown")

    @property
    def code(self) -> list[Any]:
        return [c for c in self.notebook.cells if c.cell_type == "code"]

    @property
    def own_code(self) -> list[Any]:
        return [c for c in self.code if "colab" not in tags(c)]

    def section(self, title: str) -> str:
        found = re.search(rf"^## {title}$(.*?)(?=^## |\Z)", self.text, re.M | re.S)
        return found[1] if found else ""


def read(path: Path) -> Chapter:
    return Chapter(nbformat.read(path, as_version=4), path.stat().st_size)


def problems(chapter: Chapter, rules: Iterable[Rule] = RULES) -> list[str]:
    """Everything that is wrong with a chapter, in words."""
    return [f"{check.__name__}: {text}" for check in rules for text in check(chapter)]


def is_chapter(path: Path) -> bool:
    """Chapters have a number; other notebooks keep the rules that are no matter of teaching."""
    return re.match(r"\d\d_", path.name) is not None


def tags(cell: Any) -> list[str]:
    return list(cell.metadata.get("tags", []))


def outputs(cell: Any, mime: str) -> list[str]:
    """The cell's outputs of one type, as text."""
    found = (o.get("data", {}).get(mime) for o in cell.get("outputs", []))
    return ["".join(data) for data in found if data is not None]


def boxes(text: str, name: str) -> list[str]:
    """The contents of admonitions with a class."""
    pattern = rf"```\{{admonition\}}[^\n]*\n:class: {name}\b[^\n]*\n(.*?)\n```"
    return re.findall(pattern, text, re.S)


def words(text: str) -> int:
    return len(text.split())


@rule
def opens_with_label_title_and_question(chapter: Chapter) -> Iterator[str]:
    first = chapter.notebook.cells[0]
    opening = r"\(ch:[a-z-]+\)=\n# [^\n]+\n\n[^`\s]"
    if first.cell_type != "markdown" or not re.match(opening, first.source):
        yield "the first cell must be `(ch:name)=`, a title and the chapter's question"
    if len(re.findall(r"^# ", chapter.text, re.M)) != 1:
        yield "there must be exactly one title"


@rule
def says_goals_time_machine_data_and_what_it_builds_on(chapter: Chapter) -> Iterator[str]:
    goals = boxes(chapter.notebook.cells[0].source, "goals")
    if len(goals) != 1:
        yield f"one box of class goals is needed in the first cell, there are {len(goals)}"
        return
    if len(re.findall(r"^- ", goals[0], re.M)) < 2:
        yield "at least two goals"
    for fact in ("Time", "Machine", "Data", "Builds on"):
        if not re.search(rf"\*\*{fact}:\*\* *\S", goals[0]):
            yield f"**{fact}:** is missing"
    minutes = re.search(r"\*\*Time:\*\* (\d+) minutes", goals[0])
    if not minutes or not 5 <= int(minutes[1]) <= 90:
        yield "**Time:** N minutes, with N from 5 to 90"


@rule
def says_what_is_the_papers(chapter: Chapter) -> Iterator[str]:
    found = boxes(chapter.text, "provenance")
    if len(found) != 1 or words(found[0]) < 15:
        yield "one box of class provenance with a sentence or more"
    elif "{cite" not in found[0]:
        yield "the provenance box cites nothing"


@rule
def code_is_short_and_agrees_with_the_library(chapter: Chapter) -> Iterator[str]:
    folded = False  # inside a solution
    for number, cell in enumerate(chapter.notebook.cells):
        if cell.cell_type != "code" or "colab" in tags(cell):
            folded = "{solution-start}" in cell.source or (
                folded and "{solution-end}" not in cell.source
            )
            continue
        lines = [line for line in cell.source.splitlines() if line.strip()]
        if len(lines) > MAX_LINES and not folded and "hide-input" not in tags(cell):
            yield f"cell {number} has {len(lines)} lines"
        wide = max(map(len, lines), default=0)
        if wide > MAX_WIDTH:
            yield f"cell {number} has a line of {wide} characters"
    source = "\n".join(c.source for c in chapter.own_code)
    if not re.search(r"\b(snn|snnlib)\.[a-zA-Z]+\(|from snnlib[\w.]* import", source):
        yield "snnlib is not used"
    if "assert " not in source:
        yield "no cell asserts that the library and the text agree"


@rule
def derives_what_it_claims(chapter: Chapter) -> Iterator[str]:
    labels = re.findall(r"^\$\$ \((eq:[\w-]+)\)", chapter.text, re.M)
    if not labels:
        yield "no numbered equation"
    cited = set(re.findall(r"\{eq\}`([^`]+)`", chapter.text))
    if labels and not cited & set(labels):
        yield "no equation is referred to"
    theorems = re.findall(
        r"\{prf:(?:theorem|lemma|corollary)\}[^\n]*\n:label: ([\w-]+)", chapter.text
    )
    for label in theorems:
        if label not in re.findall(r"\{prf:ref\}`([^`]+)`", chapter.text):
            yield f"{label} is never referred to (the check should name it)"
    boxed = len(re.findall(r"\{prf:(?:theorem|lemma|corollary)\}", chapter.text))
    if boxed != len(theorems):
        yield "a theorem has no label"
    if len(re.findall(r"\{prf:proof\}", chapter.text)) < len(theorems):
        yield "a theorem has no proof"


@rule
def figures_carry_the_argument(chapter: Chapter) -> Iterator[str]:
    figures = [c for c in chapter.code if outputs(c, "image/png") or outputs(c, "image/svg+xml")]
    players = [h for c in chapter.code for h in outputs(c, "text/html") if "snn-player" in h]
    if len(figures) + len(players) < 2:
        yield "fewer than two figures"
    if not players:
        yield "no animation that plays in the page"
    for cell in figures:
        if len(outputs(cell, "image/png")) > 1:
            yield f"{cell.id}: two figures share one alt text"
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        if words(alt) < 8:
            yield f"{cell.id}: the figure's alt text is {alt!r}"
        if re.match(r"(?i)(a |the )?(plot|graph|figure|image) ", alt):
            yield f"{cell.id}: alt text says what kind of picture it is, not what is to be seen"
    for text in players:
        found = re.search(r'alt="([^"]*)"', text)
        if not found or words(found[1]) < 6:
            yield "an animation has no alt text"


@rule
def has_a_live_control(chapter: Chapter) -> Iterator[str]:
    live = [c for c in chapter.code if "live" in tags(c)]
    if not live:
        yield "no cell is tagged live"
    for cell in live:
        if not {"remove-output", "nbval-ignore-output"} <= set(tags(cell)):
            yield f"{cell.id}: a live cell also needs remove-output and nbval-ignore-output"
        if not re.search(r"interact|widgets|Slider", cell.source):
            yield f"{cell.id}: a live cell without a control"
    for cell in chapter.code:
        if re.search(r"\binteract\(|@interact", cell.source) and "live" not in tags(cell):
            yield f"{cell.id}: a control outside a live cell"


@rule
def warns_of_pitfalls(chapter: Chapter) -> Iterator[str]:
    if not boxes(chapter.text, "pitfall"):
        yield "no box of class pitfall"


@rule
def ends_with_summary_exercises_and_reading(chapter: Chapter) -> Iterator[str]:
    headings = re.findall(r"^## (.+)$", chapter.text, re.M)
    if headings[-3:] != ["Summary", "Exercises", "Further reading"]:
        yield f"the last three sections are {headings[-3:]}"
    if words(chapter.section("Summary")) < 20:
        yield "the summary is too short"


@rule
def exercises_have_solutions(chapter: Chapter) -> Iterator[str]:
    exercises = re.findall(r"^```+\{exercise(?:-start)?\}[^\n]*\n:label: (\S+)", chapter.text, re.M)
    opened = re.findall(r"^```+\{exercise(?:-start)?\}", chapter.text, re.M)
    solutions = re.findall(r"^```+\{solution(?:-start)?\} (\S+)", chapter.text, re.M)
    if not 3 <= len(exercises) <= 6:
        yield f"{len(exercises)} exercises; three to six are wanted"
    if len(opened) != len(exercises):
        yield "an exercise has no label"
    if exercises != solutions:
        yield f"exercises {exercises} and solutions {solutions} do not match in order"
    folded = re.findall(
        r"\{solution(?:-start)?\} \S+\n(?::[^\n]*\n)*?:class: dropdown", chapter.text
    )
    if len(folded) != len(solutions):
        yield "a solution is not folded (:class: dropdown)"
    if not any("solution-start" in c.source for c in chapter.notebook.cells):
        yield "no solution contains code that runs"


@rule
def further_reading_says_why(chapter: Chapter) -> Iterator[str]:
    section = chapter.section("Further reading")
    entries = [" ".join(e.split()) for e in re.split(r"^- ", section, flags=re.M)[1:]]
    if len(entries) < 3:
        yield f"{len(entries)} entries; at least three"
    for entry in entries:
        if "{cite" not in entry or words(re.sub(r"\{cite[^`]*`[^`]*`", "", entry)) < 6:
            yield f"no citation or no reason: {entry[:60]!r}"
    for keys in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", chapter.text):
        for key in keys.split(","):
            if key.strip() not in CITATION_KEYS:
                yield f"{key!r} is not in references.bib"


@rule
def was_run_from_top_to_bottom(chapter: Chapter) -> Iterator[str]:
    counts = [c.execution_count for c in chapter.code if c.source.strip()]
    if counts != list(range(1, len(counts) + 1)):
        yield f"execution counts are {counts}"
    for cell in chapter.code:
        for output in cell.outputs:
            if output.output_type == "error":
                yield f"{cell.id}: {output.ename}: {output.evalue}"
            if output.output_type == "stream" and output.name == "stderr":
                yield f"{cell.id}: writes to stderr: {output.text[:80]!r}"


@rule
def numbers_come_from_cells(chapter: Chapter) -> Iterator[str]:
    source = "\n".join(c.source for c in chapter.code)
    named = re.findall(r"""glue\(\s*f?["']([^"'{]+)["']""", source)
    cited = re.findall(NUMBER, chapter.text)
    if not cited:
        yield "no number in the text comes from a cell"
    for name in sorted(set(cited) - set(named)):
        if not re.search(r"glue\(\s*f[\"']", source):
            yield f"{name!r} is cited, but no cell names it"
    if len(named) != len(set(named)):
        yield "two cells name the same number"
    if "{glue" in chapter.text:
        yield 'a glue role is shown as its key in JupyterLab; write <data value="name"></data>'
    for formula in re.findall(r"\$\$.*?\$\$|\$[^$]*\$", chapter.text, re.S):
        if "<data" in formula:
            yield f"a named number cannot stand in mathematics: {formula[:60]}"
    prose = re.sub(r"```\{(?:exercise|solution).*?\n```", "", chapter.text, flags=re.S)
    prose = re.sub(NUMBER, "", prose)
    prose = re.sub(r"\$\$.*?\$\$|\$[^$]*\$|`[^`]*`", "", prose, flags=re.S)
    for typed in re.findall(r"\b(\d+\.\d+) ?(?:%|percent\b(?! of)|points\b)", prose):
        if typed not in ("99.9", "99.99", "99.5", "0.1"):  # percentiles and targets are choices
            yield f"{typed} looks like a measured number that was typed"


@rule
def chooses_on_validation_images(chapter: Chapter) -> Iterator[str]:
    """A cell that takes the best of several settings does not look at the test images."""
    for cell in chapter.own_code:
        chooses = re.search(r"\b(max|min|sorted)\([^\n]*\bkey=", cell.source)
        if chooses and re.search(r"\b(x_)?test\b", cell.source):
            yield f"{cell.id}: {chooses[0]!r} chooses where test images are; take validation images"


@rule
def lets_the_reader_predict(chapter: Chapter) -> Iterator[str]:
    cells = chapter.notebook.cells
    asked = [n for n, c in enumerate(cells) if boxes(getattr(c, "source", ""), "predict")]
    count = sum(len(boxes(cells[n].source, "predict")) for n in asked)
    if count < 3:
        yield f"{count} boxes of class predict; at least three"
    for place in asked:
        if not any(c.cell_type == "code" for c in cells[place + 1 : place + 3]):
            yield f"{cells[place].id}: no cell that answers follows the prediction"


@rule
def exercises_are_filled_in_and_checked(chapter: Chapter) -> Iterator[str]:
    cells, inside, count = chapter.notebook.cells, False, 0
    for place, cell in enumerate(cells):
        if cell.cell_type == "markdown":
            gate = re.match(r"`{3,}\{solution-(start|end)\}", cell.source)
            inside = gate[1] == "start" if gate else inside
        if "fill-in" not in tags(cell):
            continue
        count += 1
        if not inside:
            yield f"{cell.id}: a cell to fill in stands in a gated solution"
        answer = ANSWER.search(cell.source)
        if not answer or not answer[2].strip():
            yield f"{cell.id}: the answer stands between `# your code` and `# until here`"
        check = cells[place + 1] if place + 1 < len(cells) else cell
        if "check" not in tags(check):
            yield f"{cell.id}: the next cell must be tagged check"
    if count < 2:
        yield f"{count} exercises to fill in; at least two"
    for cell in chapter.code:
        if "check" not in tags(cell):
            continue
        asserts = [n for n in ast.walk(ast.parse(cell.source)) if isinstance(n, ast.Assert)]
        if not asserts or not all(n.msg for n in asserts):
            yield f"{cell.id}: every check is an assertion with a message that says what is wrong"


@rule
def leaves_nothing_behind(chapter: Chapter) -> Iterator[str]:
    everything = nbformat.writes(chapter.notebook)
    prose = chapter.text + "\n".join(c.source for c in chapter.own_code)
    for path in re.findall(r"/(?:home|root|tmp|work|Users)/[\w./-]+|[A-Z]:\\\\[\w\\]+", everything):
        yield f"a path of a machine: {path}"
    for note in re.findall(r"\b(?:TODO|FIXME|XXX|TBD|[Ll]orem ipsum)\b", prose):
        yield f"a leftover note: {note}"
    if chapter.size > MAX_BYTES:
        yield f"{chapter.size / 1e6:.1f} MB"


# What a page that explains, and does not teach, keeps as well.
PAGE_RULES: tuple[Rule, ...] = (
    opens_with_label_title_and_question,
    code_is_short_and_agrees_with_the_library,
    figures_carry_the_argument,
    warns_of_pitfalls,
    further_reading_says_why,
    was_run_from_top_to_bottom,
    numbers_come_from_cells,
    leaves_nothing_behind,
)


def luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)
