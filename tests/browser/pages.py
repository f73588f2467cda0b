"""What a browser test asks of a page: what it fetched, what it complained of, what axe-core finds."""

import importlib.resources
import json

from selenium.webdriver.support.ui import WebDriverWait

PATIENCE = 120
"""Seconds that a page may take on a loaded machine."""


def wait(browser, until):
    """What `until(browser)` returns once it is truthy."""
    return WebDriverWait(browser, PATIENCE, poll_frequency=0.2, ignored_exceptions=[Exception]).until(until)


def forget(browser):
    """Throw away what was recorded so far."""
    browser.get_log("browser")
    browser.get_log("performance")


def complaints(browser, levels=("SEVERE",)):
    """What the page's console holds of these levels: SEVERE is an error, WARNING a warning."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] in levels]


def requests(browser):
    """URLs of everything that was requested since the last look, `data:` and `blob:` left out."""
    found = []
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            found.append(message["params"]["request"]["url"])
    return [url for url in found if not url.startswith(("data:", "blob:"))]


def offline(browser):
    """Turn the page's network off."""
    browser.execute_cdp_cmd("Network.enable", {})
    conditions = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", conditions)


def online(browser):
    """Turn it on again."""
    conditions = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", conditions)


def resize(browser, width, height):
    """A viewport of exactly this size."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def grave_faults(browser):
    """Serious and critical accessibility faults that axe-core finds, as readable lines."""
    script = importlib.resources.files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    browser.execute_script(script)
    browser.set_script_timeout(PATIENCE)
    found = browser.execute_async_script(
        "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']}).then(done);"
    )
    return [
        f"{fault['impact']} {fault['id']}: {fault['help']}: {[n['html'][:160] for n in fault['nodes'][:3]]}"
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
    ]
