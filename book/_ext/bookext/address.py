"""What follows from ``_config.yml``: the address of the site, and the theme's further options.

Theme options cannot stand in ``_config.yml``: Jupyter Book would drop its own (the repository, the
launch buttons) in their favor.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlparse


def pages_address(repository: str) -> str:
    """The address that GitHub Pages gives to the site of a repository."""
    owner, name = urlparse(repository).path.strip("/").split("/")
    return f"https://{owner.lower()}.github.io/{name}/"


THEME = {
    "show_toc_level": 2,
    "logo": {"text": "From Trained Network to Spiking Network"},
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}


def configure(app: Any, config: Any) -> None:
    config.html_theme_options.update(THEME)
    site = pages_address(config.html_theme_options["repository_url"])
    config.html_baseurl = site
    config.ogp_site_url = site
    # The page "not found" is served at any depth, so its links start at the root of the site.
    config.notfound_urls_prefix = urlparse(site).path


def setup(app: Any) -> None:
    app.connect("config-inited", configure, priority=100)
