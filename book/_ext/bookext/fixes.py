"""Small repairs of what the extensions produce, and a check that every image has alt text."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

logger = logging.getLogger(__name__)


SAME = {"exercise-content", "solution-content", "proof-content", "proof"}


class UniqueContents(SphinxPostTransform):
    """sphinx-exercise and sphinx-proof give all boxes of a kind, or their content, the same id."""

    default_priority = 900

    def run(self, **kwargs: Any) -> None:
        for number, node in enumerate(self.document.findall(nodes.Element)):
            if SAME & set(node.get("ids", ())):
                node["ids"] = [f"{name}-{number}" if name in SAME else name for name in node["ids"]]


class AltText(SphinxPostTransform):
    """Warn of an image that tells nothing to readers who cannot see it."""

    default_priority = 901

    def run(self, **kwargs: Any) -> None:
        for image in self.document.findall(nodes.image):
            if len(image.get("alt", "").split()) < 3 and "badge" not in image.get("uri", ""):
                logger.warning(
                    "image without alt text: %s", image.get("uri"), location=image, type="bookext"
                )


def once(app: Any, pagename: str, templatename: str, context: Any, doctree: Any) -> None:
    """Inline scripts of the theme are entered twice; a second ``const`` is an error there."""
    seen: set[Any] = set()
    kept = []
    for script in context.get("script_files", []):
        name = str(getattr(script, "filename", script) or "")
        key = (name, tuple(sorted(getattr(script, "attributes", {}).items())))
        if key not in seen:
            seen.add(key)
            kept.append(script)
    context["script_files"] = kept


def setup(app: Any) -> None:
    app.connect("html-page-context", once, priority=999)
    app.add_post_transform(UniqueContents)
    app.add_post_transform(AltText)
