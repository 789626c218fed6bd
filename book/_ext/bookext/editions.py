"""The notebooks to take along: written beside each chapter's page, and the links that lead there.

Colab opens notebooks from a repository, not from a site: what publishes the site pushes it to the
branch that ``editions_branch`` in _config.yml names, the notebooks in its folder ``_plain``.
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlparse

import nbformat

from book.tools import editions

FOLDER = "_plain"
MAKE = {"plain": editions.plain, "student": editions.student, "teacher": editions.teacher}
WHAT = {
    "plain": ("Notebook", "the chapter in plain Markdown, for any Jupyter"),
    "student": ("For students", "without solutions, with code to fill in and checks"),
    "teacher": ("For teachers", "the exercises and their solutions"),
}


def file_name(docname: str, edition: str) -> str:
    """``book/01_neurons`` → ``01_neurons_student.ipynb``."""
    return f"{Path(docname).name}{editions.NAMES[edition]}.ipynb"


def is_chapter(app: Any, docname: str) -> bool:
    return docname in app.env.found_docs and app.env.doc2path(docname).endswith(".ipynb")


def write(app: Any, docname: str, doctree: Any) -> list[str]:
    """The notebooks of a page, from the tree that it was just written from; which there are.

    A page without exercises has the plain one only.
    """
    source = nbformat.read(app.env.doc2path(docname), as_version=4)
    folder = Path(app.outdir) / FOLDER
    folder.mkdir(exist_ok=True)
    images = {path: f"{app.builder.imgpath}/{name}" for path, name in app.builder.images.items()}
    written = []
    for edition, make in MAKE.items():
        page = editions.Page(
            url=urljoin(app.config.html_baseurl, app.builder.get_target_uri(docname)),
            numbers=app.env.toc_fignumbers.get(docname, {}),
            images=images,
            figure=app.config.numfig_format["figure"],
            linked=edition == "teacher",
        )
        pieces = editions.pieces(doctree, page, editions.code_cells(source))
        if edition == "plain" or any(piece.role == "exercise" for piece in pieces):
            notebook = make(source, pieces, page)
            nbformat.write(notebook, folder / file_name(docname, edition))
            written.append(edition)
    return written


def launch(app: Any, docname: str) -> dict[str, str]:
    """Where the buttons lead: Colab and Binder open the plain edition."""
    theme = app.config.html_theme_options
    repository = urlparse(theme["repository_url"]).path.strip("/")
    name, hosts = file_name(docname, "plain"), theme["launch_buttons"]
    colab, binder = hosts["colab_url"].rstrip("/"), hosts["binderhub_url"].rstrip("/")
    branch, built = theme["repository_branch"], app.config.editions_branch
    # In Binder .binder/postBuild builds the site, and the editions with it.
    inside = f"lab/tree/_build/html/{FOLDER}/{name}"
    return {
        "Colab": f"{colab}/github/{repository}/blob/{built}/{FOLDER}/{name}",
        "Binder": f"{binder}/v2/gh/{repository}/{branch}?urlpath={inside}",
    }


def downloads(docname: str, written: list[str], pathto: Any) -> list[dict[str, str]]:
    """The entries of the download menu; the theme's own follow them."""
    return [
        {
            "type": "link",
            "url": pathto(f"{FOLDER}/{file_name(docname, edition)}", 1),
            "text": WHAT[edition][0],
            "tooltip": f"Notebook: {WHAT[edition][1]}",
            "icon": "fas fa-book",
            "label": f"download-{edition}-button",
        }
        for edition in written
    ]


def take_along(app: Any, docname: str, written: list[str], pathto: Any) -> str:
    """The box at a chapter's end."""
    lines = []
    for edition in written:
        name, what = WHAT[edition]
        file = file_name(docname, edition)
        link = html.escape(pathto(f"{FOLDER}/{file}", 1), quote=True)
        lines.append(f'<li><a href="{link}" download>{name}</a>: {what}</li>')
    opened = " or ".join(
        f'<a href="{html.escape(url, quote=True)}">{host}</a>'
        for host, url in launch(app, docname).items()
    )
    return (
        '<div class="admonition note snn-take-along">'
        '<p class="admonition-title">Take this chapter along</p>'
        f"<p>As notebooks, or opened in {opened}:</p>"
        f'<ul class="simple">{"".join(lines)}</ul></div>'
    )


def connect(app: Any, pagename: str, templatename: str, context: Any, doctree: Any) -> None:
    """Write the editions and put their links on the page."""
    if app.builder.name != "html" or doctree is None or not is_chapter(app, pagename):
        return
    written = write(app, pagename, doctree)
    context["body"] += take_along(app, pagename, written, context["pathto"])
    links = launch(app, pagename)
    for group in context.get("header_buttons", ()):
        if group.get("label") == "launch-buttons":
            for button in group["buttons"]:
                button["url"] = links.get(button["text"], button.get("url"))
        elif group.get("label") == "download-buttons":
            for button in group["buttons"]:
                if button["text"] == ".ipynb":
                    button.update(text="Source", tooltip="The notebook as written, in MyST")
            group["buttons"] = [
                *downloads(pagename, written, context["pathto"]),
                *group["buttons"],
            ]


def setup(app: Any) -> None:
    app.add_config_value("editions_branch", "gh-pages", "html")
    # After the theme, which makes the buttons.
    app.connect("html-page-context", connect, priority=990)
