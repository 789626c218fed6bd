"""A book of one chapter that uses every construct of the chapters, built as a small site."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parents[2]
URL = "https://example.org/book/"

OPENING = """\
(ch:small)=
# A small chapter

What is $2 \\cdot 2$? It is <data value="small-four">4</data>.

<data value="small-four">4</data> may open a line; it is **bold <data value="small-four">4</data>**.

```{admonition} Goals
:class: goals
- count, with {term}`counting`; see {ref}`ch:other` and {doc}`other`.

**Time:** 5 minutes
```

A claim {cite}`knuth1984literate`, made by {cite:t}`knuth1984literate`. Use {py:func}`count`[^note].

[^note]: A footnote with $n$.

```{margin} Aside
In the margin.
```
"""
MATHEMATICS = """\
## Mathematics

1907\\. was a year. Stars \\* and under_scores and $a|b$; `code | bar`.

$$
\\begin{aligned}
a &= b \\\\
c &= d
\\end{aligned}
$$ (eq:small-first)

- By {eq}`eq:small-first`:

  $$
  x = 1
  $$ (eq:small-second)

1. one
2. two

````{prf:theorem} Sum
:label: thm-small-sum

One and one:

$$
1 + 1 = 2
$$ (eq:small-sum)
````

````{prf:proof}
By {eq}`eq:small-sum`.
````

```{prf:algorithm} Step
:label: alg-small-step

1. Add.
2. Stop.
```

See {prf:ref}`thm-small-sum`, {prf:ref}`alg-small-step` and {numref}`fig-small-dot`.

```{figure} dot.svg
:alt: A dot in the middle of a square
:name: fig-small-dot
A dot.
```

| name | value |
|---|---|
| $\\lvert x\\rvert$ | <data value="small-four">4</data> |

```{dropdown} Folded
Under *the* fold.
```

Term
: Its definition.

> A quotation.
"""
EXERCISES = """\
## Exercises

```{exercise} Double
:label: ex-small-double
Write `double`; {ref}`ex-small-half` is next.
```
"""
SOLUTION = """\
```{solution-start} ex-small-double
:label: sol-small-double
:class: dropdown
```

Twice is the sum with itself.
"""
FILL_IN = """\
def double(x):
    # your code
    result = x + x
    return result
    # until here"""
CHECK = 'assert double(3) == 6, f"double(3) is 6, not {double(3)}: is x added to itself?"'
HALF = """\
```{exercise} Half
:label: ex-small-half
What is half of 4?
```
"""
HALF_SOLUTION = """\
```{solution} ex-small-half
:label: sol-small-half
:class: dropdown
It is two.
```
"""


def chapter() -> nbformat.NotebookNode:
    """The chapter's notebook, with the outputs of a run."""
    prefix = "application/papermill.record/"
    named = new_output(
        "display_data",
        {prefix + "text/plain": "'4'"},
        metadata={"scrapbook": {"name": "small-four", "mime_prefix": prefix}},
    )
    plot = new_code_cell("four = 2 * 2\nfour", metadata={"tags": ["hide-input"]})
    plot.outputs = [named, new_output("execute_result", {"text/plain": "4"}, execution_count=2)]
    cells = [
        new_markdown_cell(OPENING),
        new_code_cell("import sys", metadata={"tags": ["colab", "remove-cell"]}),
        plot,
        new_markdown_cell(MATHEMATICS),
        new_code_cell("eight = 2 * four", metadata={"tags": ["remove-cell"]}),
        new_code_cell("assert four == 4"),
        new_markdown_cell(EXERCISES),
        new_markdown_cell(SOLUTION),
        new_code_cell(FILL_IN, metadata={"tags": ["fill-in"]}),
        new_code_cell(CHECK, metadata={"tags": ["check"]}),
        new_code_cell("extra = double(four)"),
        new_markdown_cell("The rest of the answer is 8."),
        new_markdown_cell("```{solution-end}\n```"),
        new_markdown_cell(HALF),
        new_markdown_cell(HALF_SOLUTION),
        new_markdown_cell("## Further reading\n\n- {cite:t}`knuth1984literate`: why."),
    ]
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number:02d}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return new_notebook(
        cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}}
    )


FILES = {
    "index.md": (
        "# Book\n\n```{toctree}\n:numbered: 1\nsmall\n```\n\n```{toctree}\nother\nbare\n```\n"
    ),
    "other.md": (
        "(ch:other)=\n# Another page\n\n```{glossary}\ncounting\n  One, two, three.\n```\n\n"
        "```{py:function} count()\n```\n\n```{bibliography}\n```\n"
    ),
    "bare.ipynb": nbformat.writes(
        new_notebook(cells=[new_markdown_cell("# Bare\n\nText.", id="a")])
    ),
    "dot.svg": '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><circle r="3"/></svg>',
    "references.bib": (
        "@article{knuth1984literate, title={Literate Programming}, author={Knuth, Donald E.},"
        " journal={The Computer Journal}, year={1984}}"
    ),
}
SETTINGS: dict[str, Any] = {
    "extensions": [
        "myst_nb", "sphinx_design", "sphinx_exercise", "sphinx_proof", "sphinx_book_theme",
        "sphinxcontrib.bibtex",
    ],
    "bibtex_bibfiles": ["references.bib"],
    "bibtex_reference_style": "author_year",
    "exercise_style": "solution_follow_exercise",
    "html_baseurl": URL,
    "html_theme": "sphinx_book_theme",
    "math_numfig": True,
    "myst_enable_extensions": ["amsmath", "colon_fence", "deflist", "dollarmath", "html_image"],
    "nb_execution_mode": "off",
    "numfig": True,
    "numfig_secnum_depth": 1,
    "suppress_warnings": ["config.cache"],
}  # fmt: skip


def build(folder: Path, written: Callable[[Any, str, Any], None]) -> Path:
    """Build the site and call ``written(app, page, tree)`` for each page; the folder of HTML.

    Raises:
        AssertionError: the build warns.
    """
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace, patch_docutils

    source, html = folder / "source", folder / "html"
    source.mkdir()
    for name, text in FILES.items():
        (source / name).write_text(text, encoding="utf-8")
    nbformat.write(chapter(), source / "small.ipynb")
    warnings = io.StringIO()

    def page(app: Any, name: str, template: str, context: Any, tree: Any) -> None:
        if tree is not None:
            written(app, name, tree)

    with patch_docutils(), docutils_namespace():
        app = Sphinx(
            source, None, html, folder / "trees", "html", confoverrides=SETTINGS,
            status=None, warning=warnings,
        )  # fmt: skip
        app.connect("html-page-context", page, priority=990)
        app.build()
    assert not warnings.getvalue(), warnings.getvalue()
    return html


sys.path.insert(0, str(ROOT / "book" / "_ext"))
