"""Reports opened from disk with the network off, as a lead opens them on a train."""

import pytest
from pages import complaints, forget, grave_faults, offline, online, requests, resize, wait
from report_folders import decided
from selenium.webdriver.common.action_chains import ActionChains

from fusion_models.files import write_whole
from search.reporting import page as pages
from search.reporting import read_run

pytestmark = pytest.mark.timeout(1800)
"""The roadmap is made within the first test that reads it."""
SIZES = {"wide": (1280, 800), "narrow": (390, 844)}
DRAWN = "return [...document.querySelectorAll('[data-chart]')].every((c) => c.dataset.ready === 'yes')"


@pytest.fixture(scope="module")
def decided_page(tmp_path_factory):
    """A page with every figure and with examples, from made-up numbers and hostile texts."""
    folder = decided(tmp_path_factory.mktemp("decided") / "phase3")
    run = read_run(folder.path)
    write_whole(folder.path / "report.html", pages.page(run, [draw(run) for draw in pages.SECTIONS]))
    return folder.path / "report.html"


@pytest.fixture(params=["phase", "roadmap", "decided"])
def page(request, browser):
    """A report opened from disk at 1280 pixels, its charts drawn: the run's own, the roadmap's, and a decided one."""
    if request.param == "decided":
        path = request.getfixturevalue("decided_page")
    else:
        path = request.getfixturevalue("roadmap")[0] / ("phase3" if request.param == "phase" else "") / "report.html"
    offline(browser)
    resize(browser, *SIZES["wide"])
    forget(browser)
    browser.get(path.as_uri())
    wait(browser, lambda driver: driver.execute_script(DRAWN))
    yield path.as_uri()
    online(browser)


def test_nothing_is_complained_of_and_nothing_requested(page, browser):
    assert complaints(browser, ("SEVERE", "WARNING")) == []
    assert {url.split("#")[0] for url in requests(browser)} == {page}
    assert browser.execute_script("return window.hacked") is None


def test_the_console_and_the_requests_of_a_page_are_seen(browser, tmp_path):
    """What the test above rests on: a page that complains and fetches is found out."""
    bad = tmp_path / "bad.html"
    bad.write_text("<script>console.warn('careful'); throw new Error('broken')</script><img src='missing.png'>")
    forget(browser)
    browser.get(bad.as_uri())
    said = []

    def complete(driver):
        """The console's entries may reach the driver after the page is loaded."""
        said.extend(complaints(driver, ("SEVERE", "WARNING")))
        return all(any(word in message for message in said) for word in ("careful", "broken"))

    wait(browser, complete)
    assert {url.rpartition("/")[2] for url in requests(browser)} == {"bad.html", "missing.png"}


@pytest.mark.parametrize("size", SIZES)
def test_the_verdict_and_its_reasons_stand_on_the_first_screen(page, browser, size):
    width, height = SIZES[size]
    resize(browser, width, height)
    verdict, why, wide, scrolled = browser.execute_script(
        "const found = (id) => document.getElementById(id).getBoundingClientRect().toJSON();"
        "return [found('verdict'), found('why'), document.documentElement.scrollWidth, window.scrollY]"
    )
    assert scrolled == 0
    assert 0 <= verdict["top"] < verdict["bottom"] <= height
    assert 0 <= verdict["left"] < verdict["right"] <= width
    assert verdict["bottom"] <= why["top"] < why["bottom"] <= height
    assert wide <= width  # nothing sticks out sideways
    text = browser.find_element("id", "verdict").text
    assert text.startswith(("GO", "PAUSE AND FIX", "ARCHIVE"))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("page", ["decided"], indirect=True)
def test_warnings_stand_above_the_reasons_and_gates_keep_within_the_page(page, browser, size):
    width, height = SIZES[size]
    resize(browser, width, height)
    warnings, why, cells = browser.execute_script(
        "const box = (e) => e.getBoundingClientRect().toJSON();"
        "return [box(document.getElementById('warnings')), box(document.getElementById('why')),"
        " [...document.querySelectorAll('#gates tbody :is(th, td)')].map(box)]"
    )
    assert 0 <= warnings["top"] < warnings["bottom"] <= why["top"] < height
    assert len(cells) > 90
    assert all(cell["left"] >= 0 and cell["right"] <= width for cell in cells)


@pytest.mark.parametrize("size", SIZES)
def test_every_chart_lies_within_the_page(request, page, browser, size):
    resize(browser, *SIZES[size])
    browser.refresh()  # charts take their width when they are drawn
    wait(browser, lambda driver: driver.execute_script(DRAWN))
    outside = browser.execute_script(
        "return [...document.querySelectorAll('.chart svg')].filter((s) => {"
        " const box = s.getBoundingClientRect(), place = s.parentElement.closest('.chart').getBoundingClientRect();"
        " return box.width < 100 || box.height < 50 || box.right > place.right + 1; })"
        ".map((s) => s.closest('.chart').id)"
    )
    drawn = browser.execute_script("return document.querySelectorAll('.chart svg').length")
    assert drawn > {"decided": 10, "phase": 0, "roadmap": -1}[request.node.callspec.params["page"]]
    assert outside == []


@pytest.mark.parametrize("size", SIZES)
def test_axe_finds_no_serious_fault(page, browser, size):
    resize(browser, *SIZES[size])
    assert grave_faults(browser) == []


@pytest.mark.parametrize("page", ["phase"], indirect=True)
def test_brushing_the_parallel_coordinates_keeps_the_lines_that_pass_through(page, browser):
    chart = browser.find_element("css selector", "#chart-parallel svg")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)

    def faint():
        return browser.execute_script(
            "return [...arguments[0].querySelectorAll('.mark-line path')]"
            ".map((p) => Number(getComputedStyle(p).strokeOpacity)).map((o) => o < 0.2)",
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
