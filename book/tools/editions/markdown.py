"""A resolved Sphinx page as Markdown that any Jupyter shows.

Sphinx has numbered and resolved everything by then, so this is a plain walk over its tree: no
directive is parsed here, and a node that it does not know is an error, so nothing gets lost.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urldefrag, urljoin

from docutils import nodes
from sphinx.locale import admonitionlabels
from sphinx_design.dropdown import dropdown_main, dropdown_title

Numbers = dict[str, dict[str, tuple[int, ...]]]


@dataclass
class Page:
    """What the text of a page depends on beside its tree.

    Args:
        url: the published address of the page, to which its links are relative.
        numbers: of equations, theorems, exercises and figures, by kind and id, as Sphinx has them.
        images: the published names of image files, by the path in the tree.
        figure: how the site calls a figure, with %s for its number.
        linked: whether references within the page become links to the published page; in a
            notebook that contains what is referred to they stay text.
    """

    url: str
    numbers: Numbers = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    figure: str = "Figure %s"
    linked: bool = False
    cited: dict[str, str] = field(default_factory=dict)  # address → entry of the bibliography

    def number(self, kind: str, node: nodes.Element) -> str:
        """The number that the site shows, "2.3"; empty where there is none."""
        known = self.numbers.get(kind, {})
        found = next((known[name] for name in node.get("ids", ()) if name in known), ())
        return ".".join(map(str, found))

    def address(self, node: nodes.Element) -> str:
        """Where a reference leads: an absolute address, or nothing if it stays in the notebook."""
        target = f"#{node['refid']}" if "refid" in node else node.get("refuri", "")
        full = urljoin(self.url, target)
        inside = urldefrag(full).url == self.url
        return "" if not target or (inside and not self.linked) else full


SPECIAL = re.compile(r"[\\`*$]|(?<![^\W_])_|_(?![^\W_])|<(?=[\w/!?])")
OPENING = re.compile(r"^(\d{1,9})([.)])(?=\s)|^([-+>#])(?=[\s#])")


def escape(text: str) -> str:
    """Text in which nothing is markup."""
    return SPECIAL.sub(lambda found: "\\" + found[0], text)


def paragraph(text: str) -> str:
    """A paragraph that does not begin like a list, a quotation or a heading."""
    return OPENING.sub(lambda m: f"{m[1]}\\{m[2]}" if m[1] else f"\\{m[3]}", text.strip())


def code(text: str) -> str:
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {text} {fence}" if longest else f"`{text}`"


def inline(node: nodes.Node, page: Page) -> str:
    """What stands within a paragraph.

    Raises:
        ValueError: a kind of node that this module does not know.
    """
    if isinstance(node, nodes.Text):
        return escape(node.astext().replace("\n", " "))
    for kinds, write in INLINE:
        if isinstance(node, kinds):
            return write(node, page)
    raise ValueError(f"{type(node).__name__} has no Markdown: {node.astext()[:60]!r}")


def within(node: nodes.Element, page: Page) -> str:
    return "".join(inline(child, page) for child in node.children)


def marked(mark: str) -> Callable[[nodes.Element, Page], str]:
    """Emphasis: the marks stand at the words, not at the spaces around them."""

    def write(node: nodes.Element, page: Page) -> str:
        text = within(node, page)
        words = text.strip()
        return text.replace(words, f"{mark}{words}{mark}", 1) if words else text

    return write


def tagged(tag: str) -> Callable[[nodes.Element, Page], str]:
    return lambda node, page: f"<{tag}>{within(node, page)}</{tag}>"


def reference(node: nodes.Element, page: Page) -> str:
    text, address = within(node, page), page.address(node)
    if node.get("reftitle") and "bibtex-citation" in node.parent.get("classes", ()):
        page.cited.setdefault(address, node["reftitle"])
    return f"[{text}]({address.replace(' ', '%20')})" if address and text.strip() else text


def image(node: nodes.Element, page: Page) -> str:
    if "only-dark" in node.get("classes", ()):  # the light one stands beside it
        return ""
    uri = page.images.get(node["uri"], node["uri"])
    alt = " ".join(node.get("alt", "").split())
    return f"![{escape(alt)}]({urljoin(page.url, uri)})"


def raw(node: nodes.Element, page: Page) -> str:
    """HTML passes, but for icons, comments and the tags that name a number for `refresh.py`."""
    html = node.astext() if node.get("format") == "html" else ""
    return re.sub(r"</?data\b[^>]*>|<!--.*?-->|<svg\b.*?</svg>", "", html, flags=re.S)


def math(node: nodes.Element, page: Page) -> str:
    return f"${' '.join(node.astext().split())}$"


def footnote_mark(node: nodes.Element, page: Page) -> str:
    return f"<sup>{node.astext()}</sup>"


INLINE: list[tuple[tuple[type, ...], Callable[[nodes.Element, Page], str]]] = [
    ((nodes.strong,), marked("**")),
    ((nodes.emphasis, nodes.title_reference), marked("*")),
    ((nodes.literal,), lambda node, page: code(node.astext())),
    ((nodes.math,), math),
    ((nodes.superscript,), tagged("sup")),
    ((nodes.subscript,), tagged("sub")),
    ((nodes.reference,), reference),
    ((nodes.footnote_reference,), footnote_mark),
    ((nodes.image,), image),
    ((nodes.raw,), raw),
    ((nodes.target, nodes.comment, nodes.substitution_definition), lambda node, page: ""),
    ((nodes.inline, nodes.abbreviation, nodes.generated), within),
]


def blocks(node: nodes.Element, page: Page) -> str:
    """All that stands in a node, one block under the other."""
    return "\n\n".join(filter(None, (block(child, page) for child in node.children)))


def block(node: nodes.Node, page: Page) -> str:
    """A paragraph, list, box, table or equation; anything else is taken for words."""
    for kinds, write in BLOCKS:
        if isinstance(node, kinds):
            return write(node, page)
    return inline(node, page)


def quote(title: str, text: str) -> str:
    """A box: a block quotation under a bold title."""
    lines = (f"**{title}**\n\n{text}" if title else text).strip().splitlines()
    return "\n".join(f"> {line}".rstrip() for line in lines)


def flat(text: str) -> str:
    """Equations on a line each: Jupyter finds them before it knows of quotations and lists."""

    def join(found: re.Match[str]) -> str:
        return f"$${' '.join(found[1].split())}$$"

    return re.sub(r"\$\$(.*?)\$\$", join, text, flags=re.S)


AMS = {"align": "aligned", "gather": "gathered", "multline": "gathered", "alignat": "alignedat"}
EQUATION = re.compile(r"\\(?:begin|end)\{equation\*?\}|\\label\{[^}]*\}")


def equation(node: nodes.Element, page: Page) -> str:
    """Display mathematics with the number of the site as its tag.

    The environment keeps JupyterLab's MyST extension from adding numbers of its own.
    """
    tex = EQUATION.sub("", node.astext()).strip()
    for name, inner in AMS.items():  # the outer ones are not allowed between dollars
        tex = re.sub(rf"\\(begin|end)\{{{name}\*?\}}", rf"\\\1{{{inner}}}", tex)
    number = page.number("displaymath", node) if node.get("number") else ""
    tag = f" \\tag{{{number}}}" if number else ""
    return f"$$\n\\begin{{equation*}}\n{tex}{tag}\n\\end{{equation*}}\n$$"


def listing(node: nodes.Element, page: Page) -> str:
    text, language = node.astext(), node.get("language", "")
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    known = "" if language in ("default", "none") else language
    return f"{fence}{known}\n{text}\n{fence}"


def items(node: nodes.Element, page: Page) -> str:
    start = node.get("start", 1) if isinstance(node, nodes.enumerated_list) else None
    written = []
    for place, item in enumerate(node.children):
        mark = "- " if start is None else f"{start + place}. "
        text = flat(blocks(item, page)).replace("\n", "\n" + " " * len(mark))
        written.append(re.sub(r"^ +$", "", mark + text, flags=re.M))
    loose = any("\n\n" in text for text in written)
    return ("\n\n" if loose else "\n").join(written)


def definitions(node: nodes.Element, page: Page) -> str:
    written = []
    for item in node.children:
        terms = [within(t, page) for t in item.children if isinstance(t, nodes.term)]
        said = [blocks(d, page) for d in item.children if isinstance(d, nodes.definition)]
        text = flat("\n\n".join([f"**{', '.join(terms)}**", *said])).replace("\n", "\n  ")
        written.append(re.sub(r"^ +$", "", f"- {text}", flags=re.M))
    return "\n\n".join(written)


def table(node: nodes.Element, page: Page) -> str:
    """A table of one line a row; what Markdown cannot hold in a cell stands on its line."""
    rows = [
        [" ".join(flat(blocks(entry, page)).split()) for entry in row.findall(nodes.entry)]
        for row in node.findall(nodes.row)
    ]
    # A bar would end the cell, in mathematics too, where "\|" would mean a double one.
    rows = [
        [
            "".join(
                part.replace("|", r"\vert " if part.startswith("$") else r"\|")
                for part in re.split(r"(\$[^$]*\$)", cell)
            )
            for cell in row
        ]
        for row in rows
    ]
    if next(node.findall(nodes.thead), None) is None:
        rows.insert(0, [""] * len(rows[0]))
    head, *body = rows
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body)]
    title = [f"**{within(t, page)}**\n" for t in node.findall(nodes.title)]
    return "\n".join([*title, *lines])


def title_of(node: nodes.Element, page: Page) -> str:
    """The title of a box: the number of theorems and exercises, then what the author wrote."""
    own = next((within(t, page) for t in node.children if isinstance(t, nodes.title)), "")
    kind = node.get("realtype") or ("exercise" if "exercise_enum" in type(node).__name__ else "")
    if kind:
        number = page.number(node.get("countertype", kind), node)
        return " ".join(f"{kind.title()} {number} {own}".split())
    return own.strip() or str(admonitionlabels.get(node.tagname, ""))


def content(node: nodes.Element) -> Iterator[nodes.Node]:
    """What is in a box beside its title; sphinx-proof and sphinx-exercise wrap it in a section."""
    for child in node.children:
        if isinstance(child, nodes.section):
            yield from child.children
        elif not isinstance(child, nodes.title):
            yield child


def box(node: nodes.Element, page: Page) -> str:
    if len(node.children) == 1 and isinstance(node.children[0], nodes.admonition):
        return box(node.children[0], page)  # sphinx-proof wraps a proof twice
    text = "\n\n".join(filter(None, (block(child, page) for child in content(node))))
    if "proof" in node.get("classes", ()) and "realtype" not in node:
        text = re.sub(r"^Proof\. ", "**Proof.** ", text)
    return quote(title_of(node, page), flat(text))


def figure(node: nodes.Element, page: Page) -> str:
    parts = (
        caption(child, page) if isinstance(child, nodes.caption) else block(child, page)
        for child in node.children
    )
    return "\n\n".join(filter(None, parts))


def caption(node: nodes.Element, page: Page) -> str:
    """The line under a figure, with the figure's number."""
    number = page.number("figure", node.parent)
    return (f"**{page.figure % number}** " if number else "") + within(node, page)


def footnote(node: nodes.Element, page: Page) -> str:
    label = next((t.astext() for t in node.children if isinstance(t, nodes.label)), "")
    rest = [block(t, page) for t in node.children if not isinstance(t, nodes.label)]
    return f"<sup>{label}</sup> " + "\n\n".join(rest)


def line_block(node: nodes.Element, page: Page) -> str:
    return "  \n".join(within(line, page) for line in node.findall(nodes.line))


BLOCKS: list[tuple[tuple[type, ...], Callable[[nodes.Element, Page], str]]] = [
    ((nodes.paragraph, nodes.attribution), lambda node, page: paragraph(within(node, page))),
    ((nodes.rubric,), lambda node, page: f"**{within(node, page)}**"),
    ((nodes.math_block,), equation),
    ((nodes.literal_block, nodes.doctest_block), listing),
    ((nodes.bullet_list, nodes.enumerated_list), items),
    ((nodes.definition_list,), definitions),
    ((nodes.table,), table),
    ((nodes.figure,), figure),
    ((nodes.footnote,), footnote),
    ((nodes.line_block,), line_block),
    ((nodes.transition,), lambda node, page: "---"),
    ((nodes.block_quote,), lambda node, page: quote("", flat(blocks(node, page)))),
    ((nodes.Admonition, nodes.topic, nodes.sidebar), box),
    ((dropdown_main,), lambda node, page: quote("", flat(blocks(node, page)))),
    ((dropdown_title,), lambda node, page: f"**{within(node, page).strip()}**"),
    ((nodes.container, nodes.compound, nodes.legend, nodes.section), blocks),
]
