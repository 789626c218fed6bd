"""The results page in a browser: one network is chosen for all of its sections."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import book_browser
import pytest

from conftest import Site

pytestmark = [pytest.mark.slow, pytest.mark.browser]
FIRST, OTHER = "cifar10-resnet", "mnist-mlp"
SHOWN = """
return [...document.querySelectorAll('.snn-of')].filter(block => block.offsetParent)
  .map(block => block.dataset.network)
"""
PER = "return document.querySelectorAll('.snn-per').length"


@pytest.fixture(scope="module")
def browser(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    pytest.importorskip("selenium", reason="needs selenium: pip install -r requirements.txt")
    if shutil.which("chromedriver") is None:
        pytest.skip("needs chromedriver: install the package chromium-driver of your system")
    with book_browser.serve(site.html, None, "/") as address:
        driver = book_browser.chromium(tmp_path_factory.mktemp("profile"))
        driver.address = f"{address}/book/results.html"
        yield driver
        driver.quit()


@pytest.fixture
def page(browser: Any) -> Any:
    """The results page as on a first visit."""
    browser.get(browser.address)
    browser.execute_script("sessionStorage.clear()")
    browser.get(browser.address)
    return browser


def menu(page: Any) -> Any:
    return page.find_element("id", "snn-network")


def choose(page: Any, network: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(menu(page)).select_by_value(network)


def test_one_network_is_shown_in_every_section(page: Any) -> None:
    groups = page.execute_script(PER)
    assert groups > 15
    shown = page.execute_script(SHOWN)
    assert len(shown) == groups
    assert shown.count(FIRST) >= 0.7 * groups  # some things are measured on few networks
    choose(page, OTHER)
    shown = page.execute_script(SHOWN)
    assert len(shown) == groups
    assert shown.count(OTHER) >= 0.6 * groups
    said = page.execute_script("return document.querySelector('.snn-chosen').textContent")
    assert said == "Shown: MNIST, fully connected (mnist-mlp)"
    chosen = "return [...document.querySelectorAll('.snn-row-on')].map(g => g.dataset.network)"
    assert page.execute_script(chosen) == [OTHER]


def test_what_was_not_measured_is_said(page: Any) -> None:
    notes = (
        "return [...document.querySelectorAll('.snn-absent')].filter(n => n.offsetParent)"
        ".map(n => n.textContent)"
    )
    before = page.execute_script(notes)
    assert all(text.startswith("Measured on") for text in before)
    choose(page, "digits-cnn")
    assert any(text.endswith("and mnist-cnn only.") for text in page.execute_script(notes))
    choose(page, "all")
    assert page.execute_script(notes) == []


def test_choice_is_in_the_address_and_survives_leaving_the_page(page: Any) -> None:
    choose(page, OTHER)
    assert page.current_url.endswith(f"?network={OTHER}")
    page.get(page.address.replace("results", "glossary"))
    page.get(page.address)
    assert menu(page).get_attribute("value") == OTHER
    page.get(f"{page.address}?network=cifar10-vgg#early-exit")
    assert menu(page).get_attribute("value") == "cifar10-vgg"
    assert page.current_url.endswith("#early-exit")
    page.get(f"{page.address}?network=%3Cb%3E")
    assert menu(page).get_attribute("value") == "cifar10-vgg"


def test_keyboard_chooses(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    page.execute_script("arguments[0].focus()", menu(page))
    menu(page).send_keys(Keys.ARROW_DOWN)
    assert menu(page).get_attribute("value") == "cifar10-vgg"
    assert "cifar10-vgg" in page.execute_script(SHOWN)


def test_choice_does_not_move_what_the_reader_looks_at(page: Any) -> None:
    top = "return document.querySelector('#disturbances h2').getBoundingClientRect().top"
    page.execute_script(
        "document.getElementById('disturbances').scrollIntoView({behavior: 'instant'})"
    )
    before = page.execute_script(top)
    assert 0 < before < 300
    page.execute_script(  # a driver that clicks may scroll by itself
        "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('change'))",
        menu(page), OTHER,
    )  # fmt: skip
    assert abs(page.execute_script(top) - before) < 2


def test_names_in_the_first_table_choose(page: Any) -> None:
    link = page.find_element("css selector", f".snn-glance a[data-network={OTHER}]")
    page.execute_script("arguments[0].click()", link)
    assert menu(page).get_attribute("value") == OTHER
    page.get(link_of(page, "fashion-cnn"))
    assert menu(page).get_attribute("value") == "fashion-cnn"


def link_of(page: Any, network: str) -> str:
    return page.execute_script(
        "return document.querySelector(`.snn-glance a[data-network=${arguments[0]}]`).href", network
    )


def test_selector_stays_in_view_and_does_not_cover_the_section(page: Any) -> None:
    for width in (1280, 390):
        book_browser.set_view(page, width, "light")
        page.execute_script(
            "document.getElementById('early-exit').scrollIntoView({behavior: 'instant'})"
        )
        bottom, top, header = page.execute_script(
            "const at = s => document.querySelector(s).getBoundingClientRect();"
            "return [at('.snn-choose').bottom, at('#early-exit h2').top,"
            " at('.bd-header-article').bottom - at('.snn-choose').top]"
        )
        assert 0 < bottom <= top + 1, width
        assert header <= 1, width


def test_all_networks_are_shown_on_request_and_without_scripts(page: Any) -> None:
    everything = page.execute_script("return document.querySelectorAll('.snn-of').length")
    choose(page, "all")
    assert len(page.execute_script(SHOWN)) == everything
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.get(page.address)
        blocks = page.find_elements("css selector", ".snn-of")
        assert len(blocks) == everything
        assert all(block.is_displayed() for block in blocks)
        assert not menu(page).is_displayed()
    finally:
        page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_figures_of_other_networks_are_not_fetched(page: Any) -> None:
    # What an earlier test has shown lies in the browser's memory and would count as fetched.
    page.execute_cdp_cmd("Network.enable", {})
    page.execute_cdp_cmd("Network.setCacheDisabled", {"cacheDisabled": True})
    page.get("about:blank")
    page.get(page.address)
    page.execute_async_script(
        "const done = arguments[0]; scrollTo({top: document.body.scrollHeight / 2, behavior:"
        " 'instant'}); setTimeout(done, 1500)"
    )
    fetched = page.execute_script(
        "return performance.getEntriesByType('resource').map(entry => entry.name)"
    )
    figures = [name.rpartition("/")[2] for name in fetched if "/_images/result-" in name]
    assert figures
    others = {name for name in figures if f"-{OTHER}-" in name or "-cifar10-vgg-" in name}
    apart = (
        "result-grid",
        "result-seenn",
    )  # all networks; and none of `FIRST`, so the next is shown
    assert {name for name in others if not name.startswith(apart)} == set()
    assert len({name.rpartition("-")[2] for name in figures}) == 1  # light, or dark
