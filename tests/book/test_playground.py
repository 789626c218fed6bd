"""The playground in a browser: it tells its story, on a phone, by keyboard, without a network."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import book_browser
import pytest
import torch
import web

import snnlib as snn
from conftest import Site

pytestmark = [pytest.mark.slow, pytest.mark.browser]
TAB, ENTER, RIGHT, DOWN = "\ue004", "\ue007", "\ue014", "\ue015"
NEURONS = (snn.IF(), snn.Ternary(negative=0.0), snn.Augmented(levels=4, negative=0.5))


@pytest.fixture(scope="module")
def browser(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    pytest.importorskip("selenium", reason="needs selenium: pip install -r requirements.txt")
    mathjax = book_browser.package(*book_browser.MATHJAX)
    with book_browser.serve(site.html, mathjax, "/") as address:
        driver = book_browser.chromium(tmp_path_factory.mktemp("profile"))
        driver.address = f"{address}/book/playground.html"
        driver.get(driver.address)  # the theme says once that no mode is stored
        driver.get_log("browser")
        yield driver
        driver.quit()


def until(page: Any, condition: str, seconds: float = 60) -> Any:
    """What a JavaScript expression gives once it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := page.execute_script(f"return {condition}"):
            return found
        time.sleep(0.05)
    raise AssertionError(f"{condition} is not true after {seconds} s: {status(page)}")


def open_page(page: Any, settings: str = "") -> Any:
    page.get("about:blank")
    page.get(page.address + ("#" + settings if settings else ""))
    until(page, "document.querySelector('#snn-playground.ready')")
    return page


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    yield open_page(browser)
    book_browser.set_view(browser, 1280, "light")


def part(page: Any, name: str) -> Any:
    return page.find_element("css selector", f"#snn-playground [data-part={name}]")


def knob(page: Any, name: str) -> Any:
    return page.find_element("css selector", f"#snn-playground [data-knob={name}]")


def status(page: Any) -> str:
    return page.execute_script("return document.querySelector('[data-part=status]')?.textContent")


def click(page: Any, element: Any) -> None:
    page.execute_script("arguments[0].click()", element)


def answer(page: Any, step: int) -> tuple[str, str]:
    """What the spiking network and the ANN say after a step, once it is reached."""
    until(page, f"document.getElementById('snn-playground').dataset.step == {step}"
                " && document.querySelector('[data-part=play]').textContent == 'Play'")  # fmt: skip
    return part(page, "answer").text, part(page, "ann").text


def presets(page: Any) -> list[Any]:
    return page.find_elements("css selector", "#snn-playground [data-preset]")


def test_the_story_holds(page: Any) -> None:
    """Wrong after six steps; right with spikes taken back, with numbers, and read late."""
    for button, (steps, right) in zip(
        presets(page), ((6, False), (6, True), (2, True), (16, True)), strict=True
    ):
        page.execute_script("document.getElementById('snn-playground').dataset.step = ''")
        click(page, button)
        said, ann = answer(page, steps)
        assert ann == "8"
        assert (said == "8") == right, button.text
        assert button.get_attribute("aria-pressed") == "true"
        assert (f"The ANN says 8{' too' * right}.") in status(page)
    assert "Softmax first passed 90 % at step" in status(page)


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_opens_on_any_screen_and_fetches_from_nowhere_else(
    page: Any, width: int, theme: str, tmp_path: Path
) -> None:
    page.get_log("browser")
    book_browser.set_view(page, width, theme)
    open_page(page)
    book_browser.set_view(page, width, theme)
    click(page, presets(page)[1])
    answer(page, 6)
    wide, room = page.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert wide <= room
    small = page.execute_script(
        "return [...document.querySelectorAll('#snn-playground :is(button, select, input)')]"
        ".filter(e => e.getClientRects().length).map(e => [e.getBoundingClientRect(), e.outerHTML])"
        ".filter(([box]) => box.height < 24 || box.width < 23).map(([, text]) => text)"
    )
    assert not small  # WCAG 2.5.8
    severe = [e["message"] for e in page.get_log("browser") if e["level"] == "SEVERE"]
    assert not [text for text in severe if "Got invalid theme mode" not in text]
    hosts = page.execute_script(
        "return performance.getEntriesByType('resource').map(e => new URL(e.name).host)"
    )
    assert set(hosts) == {page.execute_script("return location.host")}
    colors = page.execute_script(
        "const c = document.querySelector('.layers canvas'), d = c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data, seen = new Set();"
        "for (let i = 0; i < d.length; i += 4) seen.add(`${d[i]},${d[i+1]},${d[i+2]}`);"
        "return seen.size"
    )
    assert colors > 5


def test_maps_follow_the_mode_and_open(page: Any) -> None:
    book_browser.set_view(page, 1280, "light")
    corner = (
        "return [...document.querySelector('.layers canvas').getContext('2d')"
        ".getImageData(0, 0, 1, 1).data]"
    )
    light = page.execute_script(corner)
    book_browser.set_view(page, 1280, "dark")
    until(page, f"JSON.stringify((() => {{ {corner} }})()) != '{json.dumps(light)}'".replace(
        ", ", ","))  # fmt: skip
    layer = page.find_element("css selector", ".layers button")
    before = layer.size["width"]
    click(page, layer)
    assert layer.get_attribute("aria-expanded") == "true"
    until(page, f"document.querySelector('.layers button').clientWidth > {2 * before}")


def test_keyboard_alone(page: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    page.execute_script(
        "const before = document.querySelector('#snn-playground').previousElementSibling;"
        "before.tabIndex = -1; before.focus()"
    )

    def press(*keys: str) -> None:
        for key in keys:
            ActionChains(page).send_keys(key).perform()

    def focus() -> str:
        return page.execute_script(
            "const e = document.activeElement, d = e.dataset;"
            "return d.preset ? 'story' : d.part ?? d.knob ?? d.digit ?? e.tagName"
        )

    press(TAB)
    assert focus() == "story"
    page.execute_script("document.getElementById('snn-playground').dataset.step = ''")
    press(ENTER)
    assert answer(page, 6) == ("0", "8")
    order = []
    while focus() != "net" and len(order) < 40:
        press(TAB)
        order.append(focus())
        if order[-1] == "neuron":
            press(DOWN)
            assert knob(page, "neuron").get_attribute("value") == "ternary"
            assert answer(page, 6) == ("5", "5")
        if order[-1] == "steps":
            press(RIGHT)
            answer(page, 7)
        if order[-1] == "5":
            press(ENTER)
            assert answer(page, 6)[1] == "5"
    digits = [str(n) for n in range(10)]
    assert [name for name in order if name in digits] == digits
    assert {"play", "step", "restart", "clear", "neuron", "steps", "v0", "net"} <= set(order)
    ring = page.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
    assert ring != "none"


def stroke(page: Any, points: list[tuple[float, float]], kind: str = "touch") -> None:
    """A stroke on the pad, in fractions of its side, by pointer events."""
    page.execute_script(
        "const pad = document.querySelector('[data-part=pad]'), box = pad.getBoundingClientRect();"
        "pad.setPointerCapture = () => {};"
        "const send = (name, [x, y]) => pad.dispatchEvent(new PointerEvent(name, {bubbles: true,"
        "  cancelable: true, pointerId: 7, pointerType: arguments[1], button: 0,"
        "  clientX: box.left + x * box.width, clientY: box.top + y * box.height}));"
        "const points = arguments[0]; send('pointerdown', points[0]);"
        "for (const p of points.slice(1)) send('pointermove', p);"
        "send('pointerup', points.at(-1));",
        points, kind,
    )  # fmt: skip


@pytest.mark.parametrize("net", ["digits-cnn", "mnist-cnn"])
def test_what_is_drawn_is_answered(browser: Any, net: str) -> None:
    page = open_page(browser, f"net={net}&neuron=augmented&levels=8&negative=0&steps=4")
    assert (
        page.execute_script(
            "return getComputedStyle(document.querySelector('[data-part=pad]')).touchAction"
        )
        == "none"
    )  # a finger draws and does not scroll
    stroke(page, [(0.5, 0.15), (0.5, 0.85)])
    said, ann = answer(page, 4)
    assert said == ann == "1"
    assert "digit=" not in page.current_url
    click(page, part(page, "clear"))
    assert status(page) == "Draw a digit, or pick one."


def test_settings_live_in_the_address(browser: Any) -> None:
    wanted = {"neuron": "augmented", "steps": "5", "levels": "3", "negative": "0.25", "v0": "0.3",
              "start": "2", "balance": "99", "net": "digits-cnn"}  # fmt: skip
    page = open_page(browser, "&".join(f"{k}={v}" for k, v in wanted.items()) + "&digit=7")
    assert {name: knob(page, name).get_attribute("value") for name in wanted} == wanted
    click(page, part(page, "play"))
    answer(page, 5)
    address = page.current_url
    assert "digit=7" in address
    page.get("about:blank")
    page.get(address)
    until(page, "document.querySelector('#snn-playground.ready')")
    assert {name: knob(page, name).get_attribute("value") for name in wanted} == wanted
    page.execute_script("location.hash = 'steps=3&digit=2'")  # another link, on the same page
    until(page, "document.querySelector('[data-knob=steps]').value == 3")
    page = open_page(browser, "neuron=%3Cb%3E&steps=many&digit=99")
    assert knob(page, "neuron").get_attribute("value") == "if"


def test_a_network_of_ones_own_opens(page: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    ann = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, stride=2), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Flatten(), torch.nn.Linear(36, 4),
    )  # fmt: skip
    path = tmp_path / "mine.safetensors"
    snn.convert(ann.eval(), torch.rand(8, 3, 16, 16)).to_web(path)
    part(page, "file").send_keys(str(path))
    until(page, "document.querySelector('[data-part=about]').textContent == 'mine.safetensors'")
    answer(page, 16)
    assert len(page.find_elements("css selector", ".scores > div")) == 4
    assert page.execute_script("return document.querySelector('.layers code').textContent") == "1"
    (tmp_path / "none.safetensors").write_bytes(b"no network at all")
    part(page, "file").send_keys(str(tmp_path / "none.safetensors"))
    until(page, "document.querySelector('[data-part=status]').textContent.includes('no network')")


def test_reduced_motion_slows_the_steps_down(browser: Any) -> None:
    feature = {"name": "prefers-reduced-motion", "value": "reduce"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    try:
        page = open_page(browser, "steps=3")
        began = time.monotonic()
        click(page, part(page, "play"))
        answer(page, 3)
        assert time.monotonic() - began > 0.9  # two steps, and a pause of 0.9 s between them
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_the_first_answer_comes_soon_and_the_page_is_light(browser: Any) -> None:
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.setCacheDisabled", {"cacheDisabled": True})
    try:
        page = open_page(browser)
        first = float(page.execute_script(
            "return document.getElementById('snn-playground').dataset.answered"))  # fmt: skip
        page.execute_script(
            "const k = document.querySelector('[data-knob=net]');"
            "k.value = 'mnist-cnn'; k.dispatchEvent(new Event('change'))"
        )
        until(page, "document.querySelector('[data-part=about]').textContent == 'mnist-cnn'")
        sizes = page.execute_script(
            "return performance.getEntriesByType('resource').map(e => [e.name, e.decodedBodySize])"
        )
    finally:
        browser.execute_cdp_cmd("Network.setCacheDisabled", {"cacheDisabled": False})
    ours = {
        name: size for name, size in sizes
        if "/_static/" in name and any(word in name for word in (
            "playground", "networks/", "spiking", "pictures"))
    }  # fmt: skip
    worker = [web.STATIC / name for name in ("playground-worker.js", "spiking.js")]
    total = sum(ours.values()) + sum(path.stat().st_size for path in worker)
    print(f"first answer {first:.0f} ms; {total / 1e6:.2f} MB of the playground's own")
    assert first < 20_000
    assert 900_000 < total < 1_500_000


def test_the_browser_computes_what_snnlib_computes(
    browser: Any, site: Site, tmp_path: Path
) -> None:
    """Fifty digits and three neurons: one SHA-256 over the counts of all layers at all steps."""
    path = site.html / "_static/networks/digits-cnn.safetensors"
    shutil.copy(web.HARNESS, site.html / "_static")
    try:
        page = open_page(browser)
        _, test = snn.data.load("digits")
        images = snn.data.to_float(test.images[:50])
        for neuron in NEURONS:
            case = web.Case(path, images, 8, neuron)
            theirs, nearest = web.expected(case)
            assert nearest > 1e-11
            digest, logits = page.execute_async_script(
                "const [given, done] = arguments;"
                "(async () => {"
                "  const base = new URL('../_static/', location.href);"
                "  const [api, {simulate}] = await Promise.all(['spiking.js', 'simulate.mjs']"
                "    .map(name => import(base + name)));"
                "  const file = await fetch(base + 'networks/digits-cnn.safetensors');"
                "  const found = simulate(api, await file.arrayBuffer(), given);"
                "  const hash = await crypto.subtle.digest('SHA-256', found.counts);"
                "  return [[...new Uint8Array(hash)], found.logits];"
                "})().then(done, e => done([String(e), 0]))", case.spec(),
            )  # fmt: skip
            assert bytes(digest) == hashlib.sha256(theirs.counts.tobytes()).digest(), digest
            found = torch.tensor(logits, dtype=torch.float64).transpose(0, 1)
            torch.testing.assert_close(found, theirs.logits, rtol=0, atol=1e-11)
    finally:
        (site.html / "_static" / web.HARNESS.name).unlink()


@pytest.mark.parametrize(
    ("chapter", "label", "key", "before", "after"),
    [
        ("01_neurons", "Reset", "zero", "22 spikes", "20 spikes"),
        ("02_rates", "Neuron", "AugMapping", "ceiling at θ = 1", "no ceiling"),
    ],
)
def test_small_controls_move_without_a_kernel(
    browser: Any, chapter: str, label: str, key: str, before: str, after: str
) -> None:
    from selenium.webdriver.support.ui import Select

    browser.get(browser.address.replace("playground", chapter))
    said = ".snn-widget .said"
    until(browser, f"document.querySelector('{said}')")
    assert before in browser.find_element("css selector", said).text
    menu = browser.find_element("xpath", f"//label[contains(., '{label}')]/select")
    Select(menu).select_by_visible_text(key)
    until(browser, f"document.querySelector('{said}').textContent.includes('{after}')", 10)
    drawing = browser.find_element("css selector", ".snn-widget svg")
    assert after in drawing.get_attribute("aria-label")
    first = drawing.get_attribute("innerHTML")
    slider = browser.find_element("css selector", ".snn-widget input")
    slider.send_keys(RIGHT)
    assert drawing.get_attribute("innerHTML") != first
