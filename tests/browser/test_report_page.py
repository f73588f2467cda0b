"""The reports of a real run, opened from disk with the network off, as a lead opens them on a train."""

import pytest
from pages import complaints, forget, grave_faults, offline, online, requests, resize, wait
from selenium.webdriver.common.action_chains import ActionChains

pytestmark = pytest.mark.timeout(1800)
"""The roadmap is made within the first test that reads it."""
SIZES = {"wide": (1280, 800), "narrow": (390, 844)}


@pytest.fixture(params=["phase3/report.html", "report.html"], ids=["phase", "roadmap"])
def page(request, roadmap, browser):
    """A report opened from disk at 1280 pixels, its charts drawn; the address it has."""
    address = (roadmap[0] / request.param).as_uri()
    offline(browser)
    resize(browser, *SIZES["wide"])
    forget(browser)
    browser.get(address)
    drawn = "return [...document.querySelectorAll('[data-chart]')].every((c) => c.dataset.ready === 'yes')"
    wait(browser, lambda driver: driver.execute_script(drawn))
    yield address
    online(browser)


def test_no_error_and_no_request(page, browser):
    assert complaints(browser) == []
    assert {url.split("#")[0] for url in requests(browser)} == {page}


@pytest.mark.parametrize("size", SIZES)
def test_the_verdict_and_its_reasons_stand_on_the_first_screen(page, browser, size):
    width, height = SIZES[size]
    resize(browser, width, height)
    box = browser.execute_script(
        "const found = (id) => document.getElementById(id).getBoundingClientRect().toJSON();"
        "return [found('verdict'), found('why'), document.documentElement.scrollWidth, window.scrollY]"
    )
    verdict, why, wide, scrolled = box
    assert scrolled == 0
    assert 0 <= verdict["top"] < verdict["bottom"] <= height
    assert why["top"] < height
    assert 0 <= verdict["left"] < verdict["right"] <= width
    assert wide <= width  # nothing sticks out sideways
    text = browser.find_element("id", "verdict").text
    assert text.split("\n")[0].split(" ")[0] in ("GO", "PAUSE_AND_FIX", "ARCHIVE")


@pytest.mark.parametrize("size", SIZES)
def test_axe_finds_no_serious_fault(page, browser, size):
    resize(browser, *SIZES[size])
    assert grave_faults(browser) == []


@pytest.mark.parametrize("page", ["phase3/report.html"], indirect=True, ids=["phase"])
def test_brushing_the_parallel_coordinates_keeps_the_lines_that_pass_through(page, browser):
    chart = browser.find_element("css selector", "#chart-parallel svg")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)

    def faint():
        return browser.execute_script(
            "return [...arguments[0].querySelectorAll('.mark-line path')]"
            ".map((p) => Number(p.getAttribute('opacity') ?? p.style.opacity ?? 1)).map((o) => o < 0.2)",
            chart,
        )

    before = faint()
    assert len(before) > 2
    assert not any(before)
    symbol = browser.find_elements("css selector", "#chart-parallel .mark-symbol path")[0]
    box = symbol.rect
    corner = ActionChains(browser, duration=150)
    corner.move_to_element(symbol).move_by_offset(-round(box["width"]) - 6, -round(box["height"]) - 6).click_and_hold()
    corner.move_by_offset(2 * round(box["width"]) + 12, 2 * round(box["height"]) + 12).release().perform()
    wait(browser, lambda _: any(faint()))
    assert not all(faint())
