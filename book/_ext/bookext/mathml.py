"""Formulas as MathML: for the ePub, the PDF and a site that is read without a network.

MathJax, which sets the formulas of the site, is fetched when a page is opened. A book that is taken
along cannot do that. MathML is part of HTML and of EPUB 3, browsers draw it by themselves, and
latex2mathml makes it when the book is built.
"""

from __future__ import annotations

import functools
import html
import os
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.math import get_node_equation_number

# What latex2mathml does not know, in words that it does.
SPELLING = (
    (re.compile(r"\\(begin|end)\{aligned\}"), r"\\\1{align*}"),
    (re.compile(r"\\mathbb (\w)"), r"\\mathbb{\1}"),
    (re.compile(r"\\arg(?![a-zA-Z])"), r"\\operatorname{arg}"),
    (re.compile(r"(\\[bB]ig[lr]?)\s*\\lfloor(?![a-zA-Z])"), r"\1⌊"),
    (re.compile(r"(\\[bB]ig[lr]?)\s*\\rfloor(?![a-zA-Z])"), r"\1⌋"),
    (re.compile(r"(\\[bB]ig[lr]?)\s*\\lceil(?![a-zA-Z])"), r"\1⌈"),
    (re.compile(r"(\\[bB]ig[lr]?)\s*\\rceil(?![a-zA-Z])"), r"\1⌉"),
)
OPENING, CLOSING = "([⌊⌈{⟨", ")]⌋⌉}⟩"
THIN = '<mspace width="0.167em" />'


def _name(match: re.Match[str]) -> str:
    """A function's name: a word, with a thin space before what is not in parentheses."""
    inside, word, following = match.groups()
    space = "" if inside or re.match(r"<(mo|/)", following) else THIN
    return f"{inside or ''}<mi>{word}</mi>{space}"


def _fence(match: re.Match[str]) -> str:
    """A large parenthesis opens or closes; one that carries an exponent cannot stretch: a size."""
    before, attributes, sign = match.groups()
    size = re.search(r'minsize="([\d.]+)em"', attributes)
    if not size:
        return match[0]
    form = "prefix" if sign in OPENING else "postfix" if sign in CLOSING else "infix"
    grows = f'stretchy="true" minsize="{size[1]}em" maxsize="{size[1]}em"'
    fixed = f'stretchy="false" mathsize="{size[1]}em"'
    how = f'form="{form}" lspace="0" rspace="0" {fixed if before else grows}'
    return f"{before or ''}<mo {how}>{sign}</mo>"


# What latex2mathml leaves to taste. A bar is an accent, close to its letter; |x| does not grow.
TASTE: tuple[tuple[str, Any], ...] = (
    (
        r'<mover>(?=(?:(?!</?mover).)*<mo stretchy="true">¯)',
        '<mover accent="true">',
    ),
    (r'<mo stretchy="true">¯</mo>', '<mo stretchy="false">¯</mo>'),
    (
        r'<mo(?: stretchy="false")?>([|‖/!])</mo>',
        r'<mo stretchy="false" lspace="0" rspace="0">\1</mo>',
    ),
    (
        r"(<m(?:sub|sup|subsup)>)?"
        r'<mo((?: (?:stretchy|fence|form|minsize|maxsize)="[^"]*")+)>([^<])</mo>',
        _fence,
    ),
    (r"<m[io](?: stretchy=\S+)?>⟺</m[io]>", '<mo lspace="0.6em" rspace="0.6em">⟺</mo>'),
    (
        r"(<m(?:sub|sup|subsup|under|over)>)?"
        r'<mo(?: movablelimits="true")?>([A-Za-z]{2,})</mo>(?=(<[^>]*>))',
        _name,
    ),
)


@functools.cache
def convert(tex: str, display: bool = False) -> str:
    r"""One formula as a ``<math>`` element.

    Raises:
        ValueError: part of the formula was not understood and would be shown as TeX.

    Example:
        >>> "<mi>θ</mi>" in convert(r"\theta")
        True
    """
    from latex2mathml.converter import convert as translate

    for pattern, replacement in SPELLING:
        tex = pattern.sub(replacement, tex)
    found = translate(tex, display="block" if display else "inline")
    found = re.sub(r"&#x([0-9A-Fa-f]+);", lambda m: html.escape(chr(int(m[1], 16))), found)
    found = re.sub(r">\\([{}])</mo>", r">\1</mo>", found)  # a brace with a size
    left = re.findall(r"\\\w*|<m[io]>&</m[io]>", found)
    if left:
        raise ValueError(f"no MathML for {', '.join(sorted(set(left)))} in {tex!r}")
    for before, after in TASTE:
        found = re.sub(before, after, found)
    return found


def visit_math(self: Any, node: nodes.math) -> None:
    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def visit_displaymath(self: Any, node: nodes.math_block) -> None:
    self.body.append(self.starttag(node, "div", CLASS="math"))
    if node["number"]:
        number = get_node_equation_number(self, node)
        self.body.append(f'<span class="eqno">({number})</span>')
    self.body.append(convert(node.astext().strip(), display=True))
    self.body.append("</div>\n")
    raise nodes.SkipNode


def configure(app: Any, config: Any) -> None:
    """`SNNLIB_MATH=mathml make book`: a site that is read without a network."""
    if os.environ.get("SNNLIB_MATH") == "mathml" and not app.tags.has("paper"):
        config.html_math_renderer = "mathml"
        config.html_css_files.append(("mathml.css", {}))


def copy(app: Any, exception: Exception | None) -> None:
    if exception or app.config.html_math_renderer != "mathml" or app.builder.name != "html":
        return
    from book.press import fonts

    static = Path(app.outdir) / "_static"
    rules = (fonts.STATIC / "mathml.css").read_text(encoding="utf-8")
    (static / "mathml.css").write_text(fonts.FACE + rules, encoding="utf-8")
    (static / fonts.FILE).write_bytes(fonts.math_subset())


def setup(app: Any) -> None:
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_displaymath, None))
    app.connect("config-inited", configure, priority=900)
    app.connect("build-finished", copy)
