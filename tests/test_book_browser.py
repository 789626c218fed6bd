"""Every page in a real browser: mathematics, figures, animations, folded solutions, both themes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import book_browser
import book_rules
import pytest
import yaml

from conftest import Site

pytestmark = [pytest.mark.slow, pytest.mark.browser]
PAGES = [*book_rules.toc(), "404", "search"]
CHAPTERS = [name for name in PAGES if (book_rules.ROOT / f"{name}.ipynb").is_file()]
VIEWS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]


@pytest.fixture(scope="module")
def browser(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    pytest.importorskip("selenium", reason="needs selenium: pip install -r requirements.txt")
    if shutil.which("chromedriver") is None:
        pytest.skip("needs chromedriver: install the package chromium-driver of your system")
    driver = book_browser.chromium(tmp_path_factory.mktemp("profile"))
    mathjax = book_browser.package(*book_browser.MATHJAX)
    config = yaml.safe_load((book_rules.ROOT / "_config.yml").read_text(encoding="utf-8"))
    prefix = f"/{Path(urlparse(config['repository']['url']).path).name}/"
    with book_browser.serve(site.html, mathjax, prefix) as address:
        driver.address, driver.mathjax = address, mathjax
        yield driver
    driver.quit()


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the screenshots of this run are: the author looks at them."""
    return tmp_path_factory.mktemp("screenshots")


def visit(driver: Any, name: str) -> None:
    driver.get_log("browser")
    driver.get(f"{driver.address}/{name}.html")
    if driver.mathjax is not None:
        driver.execute_async_script(
            "const done = arguments[0];"
            "if (!document.querySelector('.math')) return done();"
            "const wait = () => window.MathJax?.startup?.promise"
            "  ? MathJax.startup.promise.then(done) : setTimeout(wait, 50); wait();"
        )


@pytest.mark.parametrize("name", PAGES)
def test_page_opens_without_an_error(browser: Any, name: str) -> None:
    visit(browser, name)
    said = [e for e in browser.get_log("browser") if e["level"] == "SEVERE"]
    # The theme's own: it says so on the first visit, before a mode is stored.
    said = [entry for entry in said if "Got invalid theme mode" not in entry["message"]]
    if browser.mathjax is None:
        said = [entry for entry in said if "mathjax" not in entry["message"]]
    assert not said, "\n".join(entry["message"] for entry in said)
    titles = "return document.querySelectorAll('article h1').length"
    assert browser.execute_script(titles) == (name != "search")
    output = "return document.querySelectorAll('.output.error, .traceback').length"
    assert browser.execute_script(output) == 0
    empty = browser.execute_script(
        "return [...document.querySelectorAll('article img')]"
        ".filter(i => { i.loading = 'eager'; return i.complete && !i.naturalWidth })"
        ".filter(i => getComputedStyle(i).display !== 'none').map(i => i.src.slice(0, 90))"
    )
    assert not empty


@pytest.mark.parametrize("name", PAGES)
def test_mathematics_is_typeset(browser: Any, name: str) -> None:
    if browser.mathjax is None:
        pytest.skip("needs MathJax: install npm, which fetches the package once")
    visit(browser, name)
    formulas, typeset, wrong = browser.execute_script(
        "return ['span.math, div.math', '.math mjx-container', 'mjx-merror']"
        ".map(s => document.querySelectorAll(s).length)"
    )
    assert typeset >= formulas
    assert wrong == 0


@pytest.mark.parametrize("name", CHAPTERS)
def test_animation_plays(browser: Any, name: str) -> None:
    visit(browser, name)
    count = browser.execute_script("return document.querySelectorAll('.snn-player').length")
    assert count > 0
    for number in range(count):
        before, after = browser.execute_async_script(
            "const done = arguments[1];"
            "const player = document.querySelectorAll('.snn-player')[arguments[0]];"
            "const image = player.querySelector('img'), slider = player.querySelector('input');"
            "slider.value = 0; slider.dispatchEvent(new Event('input')); const first = image.src;"
            "player.querySelector('button').click();"
            "setTimeout(() => done([first, image.src]), 1200)", number,
        )  # fmt: skip
        assert before != after, f"animation {number} stands still"


@pytest.mark.parametrize("name", CHAPTERS)
def test_solution_opens(browser: Any, name: str) -> None:
    visit(browser, name)
    hidden, shown = browser.execute_script(
        "const box = document.querySelector('.solution.dropdown');"
        "const height = () => box.querySelector('section').getBoundingClientRect().height;"
        "const before = height(); box.querySelector('.toggle-button').click();"
        "return [before, height()]"
    )
    assert hidden == 0
    assert shown > 0


@pytest.mark.parametrize("name", PAGES)
def test_page_fits_and_is_photographed(browser: Any, shots: Path, name: str) -> None:
    visit(browser, name)
    for width, theme in VIEWS:
        book_browser.set_view(browser, width, theme)
        inside = browser.execute_script("return document.documentElement.scrollWidth")
        target = shots / f"{name.replace('/', '-')}-{width}-{theme}.jpg"
        book_browser.screenshot(browser, target)
        assert inside <= width, f"{name} is {inside} points wide in a window of {width}"
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("name", [name for name in PAGES if name != "search"])
def test_page_is_accessible(browser: Any, name: str) -> None:
    """axe-core's rules for WCAG 2 A and AA, contrast among them, on what is ours of a page."""
    folder = book_browser.package(*book_browser.AXE)
    if folder is None:
        pytest.skip("needs axe-core: install npm")
    visit(browser, name)
    browser.execute_script((folder / "axe.min.js").read_text(encoding="utf-8"))
    everything = {"type": "tag", "values": ["wcag2a", "wcag2aa"]}
    contrast = {"type": "rule", "values": ["color-contrast"]}
    for theme, rules in (("light", everything), ("dark", contrast)):
        book_browser.set_view(browser, 1280, theme)
        found = browser.execute_async_script(
            "const done = arguments[1];"
            "axe.run({include: [['article']], exclude: [['mjx-container'], ['.citation-list']]},"
            " {runOnly: arguments[0], resultTypes: ['violations']})"
            ".then(r => done(r.violations.map(v => v.id + ': ' + v.help + ' | '"
            " + v.nodes.slice(0, 3).map(n => n.html.slice(0, 120) + ' ' + n.failureSummary)"
            "   .join(' || '))), error => done([String(error)]))",
            rules,
        )
        assert not found, f"{theme}:\n" + "\n".join(found)
