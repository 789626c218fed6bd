"""Every page in a real browser: mathematics, figures, animations, folded solutions, both themes."""

from __future__ import annotations

import os
import re
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
from snnlib import plots

pytestmark = [pytest.mark.slow, pytest.mark.browser]
PAGES = [*book_rules.toc(), "404", "search"]
NOTEBOOKS = [name for name in PAGES if (book_rules.ROOT / f"{name}.ipynb").is_file()]
CHAPTERS = [name for name in NOTEBOOKS if book_rules.is_chapter(Path(name))]
VIEWS = [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")]


@pytest.fixture(scope="module")
def browser(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    pytest.importorskip("selenium", reason="needs selenium: pip install -r requirements.txt")
    if shutil.which("chromedriver") is None:
        pytest.skip("needs chromedriver: install the package chromium-driver of your system")
    mathjax = book_browser.package(*book_browser.MATHJAX)
    config = yaml.safe_load((book_rules.ROOT / "_config.yml").read_text(encoding="utf-8"))
    prefix = f"/{Path(urlparse(config['repository']['url']).path).name}/"
    with book_browser.serve(site.html, mathjax, prefix) as address:
        driver = book_browser.chromium(tmp_path_factory.mktemp("profile"))
        driver.address, driver.mathjax = address, mathjax
        yield driver
        driver.quit()


@pytest.fixture(scope="module")
def shots() -> Path | None:
    """The folder for screenshots that SNNLIB_SHOTS names: the author looks at them."""
    folder = os.environ.get("SNNLIB_SHOTS")
    return Path(folder) if folder else None


@pytest.fixture(scope="module", params=PAGES)
def page(browser: Any, request: pytest.FixtureRequest) -> Any:
    """The browser with one page open, its mathematics typeset; ``said`` is the console's log."""
    browser.get_log("browser")
    browser.name_of_page = request.param
    browser.get(f"{browser.address}/{request.param}.html")
    if browser.mathjax is not None:
        browser.execute_async_script(
            "const done = arguments[0];"
            "if (!document.querySelector('.math')) return done();"
            "const wait = () => window.MathJax?.startup?.promise"
            "  ? MathJax.startup.promise.then(done) : setTimeout(wait, 50); wait();"
        )
    browser.said = [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"]
    return browser


def test_opens_without_an_error(page: Any) -> None:
    # The theme's own: it says so on the first visit, before a mode is stored.
    said = [text for text in page.said if "Got invalid theme mode" not in text]
    if page.mathjax is None:
        said = [text for text in said if "mathjax" not in text]
    assert not said, "\n".join(said)
    titles = page.execute_script("return document.querySelectorAll('article h1').length")
    assert titles == (page.name_of_page != "search")
    output = "return document.querySelectorAll('.output.error, .traceback').length"
    assert page.execute_script(output) == 0
    empty = page.execute_script(
        "return [...document.querySelectorAll('article img')]"
        ".filter(i => { i.loading = 'eager'; return i.complete && !i.naturalWidth })"
        ".filter(i => getComputedStyle(i).display !== 'none').map(i => i.src.slice(0, 90))"
    )
    assert not empty


def test_mathematics_is_typeset(page: Any) -> None:
    if page.mathjax is None:
        pytest.skip("needs MathJax: install npm, which fetches the package once")
    formulas, typeset, wrong = page.execute_script(
        "return ['span.math, div.math', '.math mjx-container', 'mjx-merror']"
        ".map(s => document.querySelectorAll(s).length)"
    )
    assert typeset >= formulas
    assert wrong == 0


def test_animations_play(page: Any) -> None:
    count = page.execute_script("return document.querySelectorAll('.snn-player').length")
    assert count > 0 or page.name_of_page not in (*NOTEBOOKS, "book/index")
    for number in range(count):
        before, after = page.execute_async_script(
            "const done = arguments[1];"
            "const player = document.querySelectorAll('.snn-player')[arguments[0]];"
            "const image = player.querySelector('img'), slider = player.querySelector('input');"
            "slider.value = 0; slider.dispatchEvent(new Event('input')); const first = image.src;"
            "player.querySelector('button').click(); const end = Date.now() + 3000;"
            "const look = () => image.src !== first || Date.now() > end"
            "  ? done([first, image.src]) : setTimeout(look, 20); look();", number,
        )  # fmt: skip
        assert before != after, f"animation {number} stands still"


def test_title_picture_plays_once_and_only_for_those_who_want_it(browser: Any) -> None:
    """WCAG 2.2.2: it stops within five seconds; it stands still where less motion is asked for."""
    shown = "return document.querySelector('.snn-hero output').textContent"
    for wish, moves in (("reduce", False), ("no-preference", True)):
        feature = {"name": "prefers-reduced-motion", "value": wish}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        browser.get(f"{browser.address}/book/index.html")
        seen = browser.execute_async_script(
            "const output = document.querySelector('.snn-hero output'), seen = [];"
            "const look = setInterval(() => seen.push(output.textContent), 100);"
            "setTimeout(() => { clearInterval(look); arguments[0](seen) }, 5000)"
        )
        last = seen[-1]
        assert last.startswith("32 steps")
        assert (len(set(seen)) > 3) == moves, seen
        assert browser.execute_script(shown) == last
        button = "return document.querySelector('.snn-hero button').textContent"
        assert browser.execute_script(button) == "Play"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_players_say_where_they_are_and_obey_the_keyboard(page: Any) -> None:
    for player in page.find_elements("css selector", ".snn-player"):
        slider = player.find_element("css selector", "input")
        said = page.execute_script(
            "arguments[0].value = arguments[0].max; arguments[0].dispatchEvent(new Event('input'));"
            "return arguments[0].getAttribute('aria-valuetext')", slider,
        )  # fmt: skip
        last = player.find_element("css selector", "output").text
        assert said == last != ""
        slider.send_keys("\ue012")  # the left arrow
        assert slider.get_attribute("aria-valuetext") not in ("", last)
        assert player.find_element("css selector", "img").get_attribute("src")


def test_nothing_plays_by_itself(page: Any) -> None:
    """WCAG 2.2.2: what starts by itself has a button that stops it, and the button says Pause."""
    for player in page.find_elements("css selector", ".snn-player"):
        playing = "if (true &&" in player.find_element("xpath", "following::script").get_attribute(
            "textContent"
        )
        button = player.find_element("css selector", "button")
        if button.is_displayed():
            assert button.text in (("Play", "Pause") if playing else ("Play",))
        else:  # play=False: the slider alone
            assert not playing


def test_figures_have_number_caption_and_a_dark_twin(page: Any) -> None:
    found = page.execute_script(
        "return [...document.querySelectorAll('.cell_output figure')].map(f => ["
        "  f.querySelector('.caption-number')?.textContent,"
        "  f.querySelector('.caption-text')?.textContent, f.querySelector('img').alt,"
        "  f.querySelectorAll('img.only-light').length, f.querySelectorAll('img.only-dark').length,"
        "  getComputedStyle(f.querySelector('.caption-text')).fontWeight])"
    )
    assert found or page.name_of_page not in CHAPTERS
    for place, (number, caption, alt, light, dark, weight) in enumerate(found, 1):
        assert number.split()[0] == "Figure"
        assert re.split(r"[ .]", number.strip())[-1] == str(place), (number, place)
        assert len(caption.split()) > 2
        assert not alt.startswith(caption.rstrip(".#")), f"needs a second sentence: {alt}"
        assert light == dark
        assert weight == "400"


PALETTE = """
const theme = arguments[0], card = arguments[1], done = arguments[2];
const shown = [...document.querySelectorAll('.cell_output figure img')]
  .filter(i => getComputedStyle(i).display !== 'none'
    && (i.closest('.snn-player') || i.className.includes('only-')));
Promise.all(shown.map(async i => {
  i.loading = 'eager'; await i.decode();
  const canvas = document.createElement('canvas').getContext('2d');
  canvas.drawImage(i, 0, 0);
  return [...canvas.getImageData(2, 2, 1, 1).data].slice(0, 3)
    .every((c, k) => Math.abs(c - card[k]) < 4) ? '' : i.src.slice(-40);
})).then(all => done(all.filter(Boolean)), error => done([String(error)]));
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_figures_lie_on_the_card_of_the_mode(page: Any, theme: plots.Mode) -> None:
    book_browser.set_view(page, 1280, theme)
    card = [int(plots.CARD[theme][i : i + 2], 16) for i in (1, 3, 5)]
    assert page.execute_async_script(PALETTE, theme, card) == []


SPILLS = """
const box = e => e.getBoundingClientRect(), bad = [];
for (const formula of document.querySelectorAll('article mjx-container[display]')) {
  if (!formula.clientWidth) continue;
  const number = formula.parentElement.querySelector(':scope > .eqno');
  const [a, b] = [box(formula), number && box(number)];
  if (a.right > innerWidth + 1 || b && b.right > innerWidth + 1) bad.push('leaves the window');
  if (b && a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1
    && b.top < a.bottom - 1) bad.push('under its number');
  if (formula.scrollWidth > formula.clientWidth + 1
    && !(getComputedStyle(formula).overflowX === 'auto' && formula.dataset.more
      && formula.tabIndex === 0 && formula.getAttribute('aria-label'))) bad.push('is cut'); }
for (const e of document.querySelectorAll('article table, article pre')) {
  const scroller = e.closest('.pst-scrollable-table-container, .table-scroll, pre');
  if (!e.clientWidth || !scroller) continue;
  if (scroller.scrollWidth > scroller.clientWidth + 1 && !(scroller.dataset.more
    && scroller.tabIndex === 0 && scroller.getAttribute('aria-label')))
    bad.push('does not say that it scrolls: ' + e.outerHTML.slice(0, 60)); }
return bad;
"""


@pytest.mark.parametrize("width", [1280, 390])
def test_what_is_wider_than_its_box_scrolls_and_says_so(page: Any, width: int) -> None:
    if page.mathjax is None:
        pytest.skip("needs MathJax: install npm, which fetches the package once")
    book_browser.set_view(page, width, "light")
    page.execute_async_script("setTimeout(arguments[0], 300)")  # what follows a change of size
    assert page.execute_script(SPILLS) == []


def test_letters_of_figures_are_readable_on_a_phone() -> None:
    """A figure of the default width is 380 points wide on a phone of 390."""
    settings = plots.parameters()
    for name in ("xtick.labelsize", "ytick.labelsize", "axes.labelsize", "legend.fontsize"):
        assert settings[name] / 72 * 380 / settings["figure.figsize"][0] >= 9, name


def test_the_first_tab_skips_to_the_text_and_focus_is_seen(page: Any) -> None:
    book_browser.set_view(page, 1280, "light")
    page.refresh()
    page.find_element("css selector", "body").send_keys("\ue004")  # tab
    text, target, outline = page.execute_script(
        "const e = document.activeElement;"
        "return [e.textContent.trim(), e.getAttribute('href'), getComputedStyle(e).outlineStyle]"
    )
    assert text.startswith("Skip to main"), text
    assert page.execute_script(f"return document.querySelectorAll('{target}').length") == 1
    assert outline != "none"


def test_solutions_open(page: Any) -> None:
    heights = page.execute_script(
        "return [...document.querySelectorAll('.solution.dropdown')].map(box => {"
        "  const height = () => box.querySelector('section').getBoundingClientRect().height;"
        "  const before = height(); box.querySelector('.toggle-button').click();"
        "  return [before, height()] })"
    )
    assert len(heights) >= 3 or page.name_of_page not in CHAPTERS
    assert all(hidden == 0 < shown for hidden, shown in heights), heights


def test_fits_and_is_photographed(page: Any, shots: Path | None) -> None:
    """Photographs, which take minutes, where SNNLIB_SHOTS names a folder for them."""
    name = page.name_of_page
    for width, theme in VIEWS:
        book_browser.set_view(page, width, theme)
        inside = page.execute_script("return document.documentElement.scrollWidth")
        if shots:
            shots.mkdir(parents=True, exist_ok=True)
            book_browser.screenshot(page, shots / f"{name.replace('/', '-')}-{width}-{theme}.jpg")
        assert inside <= width, f"{name} is {inside} points wide in a window of {width}"


def test_is_accessible(page: Any) -> None:
    """axe-core's rules for WCAG 2 A and AA, contrast aside, on what is ours of a page."""
    folder = book_browser.package(*book_browser.AXE)
    if folder is None:
        pytest.skip("needs axe-core: install npm, which fetches the package once")
    if page.name_of_page == "search":
        pytest.skip("all of this page is the theme's")
    page.execute_script((folder / "axe.min.js").read_text(encoding="utf-8"))
    off = {"color-contrast": {"enabled": False}}  # has a test of its own
    found = page.execute_async_script(
        "const done = arguments[1];"
        "axe.run({include: [['article']], exclude: [['mjx-container'], ['.citation-list']]},"
        " {runOnly: ['wcag2a', 'wcag2aa'], rules: arguments[0], resultTypes: ['violations']})"
        ".then(r => done(r.violations.map(v => v.id + ': ' + v.help + ' | '"
        " + v.nodes.slice(0, 3).map(n => n.html.slice(0, 120) + ' ' + n.failureSummary)"
        "   .join(' || '))), error => done([String(error)]))",
        off,
    )
    assert not found, "\n".join(found)


CONTRAST = """
const parse = color => (color.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
const light = rgb => rgb.slice(0, 3).map(c => c / 255)
  .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const over = (top, ground) => {  // as the browser mixes them, whatever the color space
  canvas.fillStyle = ground; canvas.fillRect(0, 0, 1, 1);
  canvas.fillStyle = top; canvas.fillRect(0, 0, 1, 1);
  return 'rgb(' + [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).join(',') + ')'; };
const grounds = new Map();
const ground = element => {
  if (!element) return getComputedStyle(document.body).backgroundColor;
  if (!grounds.has(element)) grounds.set(element,
    over(getComputedStyle(element).backgroundColor, ground(element.parentElement)));
  return grounds.get(element); };
const poor = {};
for (const element of document.querySelectorAll('article *')) {
  if (element.closest('mjx-container, svg, .only-light, .only-dark, img')) continue;
  const text = [...element.childNodes].filter(n => n.nodeType === 3 && n.data.trim());
  if (!text.length || !element.getClientRects().length) continue;
  const style = getComputedStyle(element), below = ground(element);
  const both = [over(style.color, below), below].map(color => light(parse(color)));
  const [a, b] = both.sort((x, y) => x - y);
  const large = parseFloat(style.fontSize) >= 24
    || parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700;
  const ratio = (b + 0.05) / (a + 0.05);
  if (ratio < (large ? 3 : 4.5) - 0.02)
    poor[style.color + ' on ' + below] = ratio.toFixed(2) + ' ' + element.outerHTML.slice(0, 90); }
return poor;
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(page: Any, theme: str) -> None:
    book_browser.set_view(page, 1280, theme)
    assert page.execute_script(CONTRAST) == {}
