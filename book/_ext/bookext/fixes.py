"""Small repairs of what the extensions produce, and a check that every image has alt text."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

logger = logging.getLogger(__name__)


class UniqueContents(SphinxPostTransform):
    """sphinx-exercise gives the content of every exercise and solution the same id."""

    default_priority = 900

    def run(self, **kwargs: Any) -> None:
        for number, section in enumerate(self.document.findall(nodes.section)):
            for name in ("exercise-content", "solution-content"):
                if section.get("ids") == [name]:
                    section["ids"] = [f"{name}-{number}"]


class AltText(SphinxPostTransform):
    """Warn of an image that tells nothing to readers who cannot see it."""

    default_priority = 901

    def run(self, **kwargs: Any) -> None:
        for image in self.document.findall(nodes.image):
            if len(image.get("alt", "").split()) < 3 and "badge" not in image.get("uri", ""):
                logger.warning(
                    "image without alt text: %s", image.get("uri"), location=image, type="bookext"
                )


def setup(app: Any) -> None:
    app.add_post_transform(UniqueContents)
    app.add_post_transform(AltText)
