"""What follows from ``_config.yml``: the address of the site, and the theme's further options.

Theme options cannot stand in ``_config.yml``: Jupyter Book would drop its own (the repository, the
launch buttons) in their favor.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlparse

NOT_FOUND = """\
<h1>This neuron did not fire</h1>
<figure class="snn-hero"><svg viewBox="0 0 740 200" role="img" aria-labelledby="quiet">
<title id="quiet">A membrane potential that stays below the dashed threshold</title>
<path class="relu" d="M30 50H710"/><path class="axis" d="M30 170H710"/>
<path class="stairs"
 d="M30 170H98V148H166V126H234V137H302V115H370V104H438V126H506V110H574V90H642V112H710"/>
</svg></figure>
<p>There is no page at this address. <a href="{home}">Start at the front</a>, or use the menu, which
lists all chapters, or the search box, which finds every word of the book.</p>
"""


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
    home = urlparse(site).path
    config.notfound_urls_prefix = home
    body = NOT_FOUND.format(home=home)
    config.notfound_context = {"title": "Page not found", "body": body}


def setup(app: Any) -> None:
    app.connect("config-inited", configure, priority=100)
