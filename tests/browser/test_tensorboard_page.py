"""TensorBoard on a real run, started as a user starts it and opened in a real browser."""

import json
import re
import subprocess
import sys
import time
import urllib.request

import pytest
from pages import PATIENCE, resize, wait
from roadmap_run import options

from spaces import PHASES

PHASE = PHASES["phase3"].with_base(options("").changes)
pytestmark = pytest.mark.timeout(1800)
"""The roadmap is made within the first test that reads it."""


@pytest.fixture(scope="module")
def board(roadmap, tmp_path_factory):
    """The address of TensorBoard on the roadmap's phase 3."""
    folder = roadmap[0] / "phase3" / "tensorboard"
    output = tmp_path_factory.mktemp("board") / "output.txt"
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--host", "127.0.0.1", "--port", "0"]
    with output.open("w") as said:
        process = subprocess.Popen([*command, "--load_fast", "false"], stdout=said, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)/", output.read_text())):
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{found[1]}"
    finally:
        process.kill()
        process.wait()


def ask(board, route, body):
    request = urllib.request.Request(f"{board}/data/plugin/hparams/{route}", json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.loads(answer.read())


def experiment(board):
    """HParams' columns, once the server has read the runs."""
    deadline = time.monotonic() + PATIENCE
    while not (found := ask(board, "experiment", {})).get("hparamInfos"):
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    return found


def test_the_server_lists_every_objective_and_searched_key(board):
    found = experiment(board)
    assert {o.name for o in PHASE.objectives} <= {info["name"]["tag"] for info in found["metricInfos"]}
    assert {info["name"] for info in found["hparamInfos"]} == set(PHASE.ranges)


def test_the_page_of_hparams_shows_every_objective_and_searched_key(board, browser):
    experiment(board)
    resize(browser, 1600, 1400)
    browser.get(f"{board}/#hparams")
    names = {*PHASE.ranges, *(o.name for o in PHASE.objectives)}

    def all_named(driver):
        shown = driver.execute_script(
            "const texts = []; const walk = (node) => { for (const child of node.childNodes) {"
            " if (child.nodeType === 3) texts.push(child.textContent.trim());"
            " else if (child.nodeType === 1) walk(child); }"
            " if (node.shadowRoot) walk(node.shadowRoot); }; walk(document.body); return texts;"
        )
        return names <= set(shown)

    assert wait(browser, all_named)
