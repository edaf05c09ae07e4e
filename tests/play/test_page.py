"""The page of the playground: its tables without a browser, and a visit with one.

Run with `pytest tests/play/test_page.py`.
"""

import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from chromium import chromium
from play.random_vectors import vector_at

from taskvectors.api.generation import NextToken
from taskvectors.cli import main
from taskvectors.models import load_model
from taskvectors.play.page import likely_table, token_row
from taskvectors.vectors import Site

ROOT = Path(__file__).parents[2]
WIDTHS = {"desktop": 1280, "phone": 390}


def test_tables_show_what_there_is_and_no_markup_of_tokens() -> None:
    tokens = [NextToken(token="<b>\n", plain=0.25, edited=0.5)]
    shown = likely_table(tokens)
    assert "&lt;b&gt;\\n" in shown
    assert "--share:0.5000" in shown
    assert "+25.0" in shown
    alone = likely_table([NextToken(token="a", plain=0.25, edited=None)])
    assert "with the vector" not in alone
    row = token_row([("<s>", False), (":", True)])
    assert row.count("<li class='here'>") == 1
    assert "&lt;s&gt;" in row
    assert "the vector is here" not in token_row([("a", False)])


def test_without_gradio_the_verb_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "gradio" else find(name, *a)
    )
    assert main(["play"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == (
        "error: The playground needs gradio, which is not installed; "
        "pip install 'taskvectors[play]'"
    )


def test_a_folder_that_is_not_there_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("gradio")
    assert main(["play", "--vectors", str(tmp_path / "none")]) == 2
    assert "there is no folder" in capsys.readouterr().err


# --- a visit


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


# background jobs of a shell hand on that Ctrl-C is ignored
_PROGRAM = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from taskvectors.cli import run; run()"
)


@contextmanager
def played(*words: str) -> Iterator[subprocess.Popen[str]]:
    """`taskvectors play` on a small random model in a process of its own, ended by Ctrl-C."""
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, "play", "--model", "random", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def visited(tmp_path_factory: pytest.TempPathFactory, tiny_model: Any) -> Iterator[str]:
    """The address of a page with a vector of its model, and one of another."""
    pytest.importorskip("gradio")
    model, folder = load_model("random"), tmp_path_factory.mktemp("vectors")
    vector_at(tiny_model("gpt2"), Site(1, -1)).save(folder / "strange")
    vector_at(model, Site(2, -1), seed=5).save(folder / "mine")
    with played("--vectors", str(folder)) as process:
        yield address_of(process)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=30)
        assert process.returncode == 0
        assert said.startswith("The playground was at http://127.0.0.1:")


def address_of(process: subprocess.Popen[str]) -> str:
    """The address that it says it listens on."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        found = re.search(r"The playground is at (\S+)", line)
        if found:
            return found[1]
    raise AssertionError("".join(lines))


def wait_for(condition: Callable[[], Any]) -> Any:
    """What a condition gives once it is true; the last error after two minutes."""
    until = time.monotonic() + 120
    while True:
        try:
            found = condition()
            if found:
                return found
        except Exception:
            if time.monotonic() > until:
                raise
        assert time.monotonic() < until, "waited for too long"
        time.sleep(0.05)


class Visit:
    """One page in the browser."""

    def __init__(self, browser: Any, address: str, width: int) -> None:
        self.browser = browser
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        browser.get("about:blank")  # the page before ends what it waits for, and says so
        browser.get_log("browser")
        browser.get_log("performance")
        browser.get(address)
        wait_for(lambda: self.text("#likely") and self.written("edited"))

    def find(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def text(self, selector: str) -> str:
        return str(self.find(selector).text)

    def written(self, name: str) -> str:
        return str(self.find(f"#{name} textarea").get_attribute("value"))

    def asked_elsewhere(self) -> list[str]:
        """Addresses outside of this machine that the page has asked for."""
        messages = [
            json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance")
        ]
        asked = [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]
        own = ("http://127.0.0.1:", "data:", "blob:", "chrome:")
        assert any(address.startswith(own[0]) for address in asked)
        return [address for address in asked if not address.startswith(own)]


@pytest.mark.slow(small_models=True)
@pytest.mark.parametrize("screen", WIDTHS)
def test_the_page_opens_silently_as_wide_as_the_screen_and_asks_nobody_else(
    browser: Any, visited: str, screen: str
) -> None:
    visit = Visit(browser, visited, WIDTHS[screen])
    tabs = browser.find_elements("css selector", "button[role=tab]")
    for tab in tabs:
        tab.click()
        time.sleep(0.3)
        inner, wide = browser.execute_script(
            "return [window.innerWidth, document.documentElement.scrollWidth]"
        )
        assert wide <= inner == WIDTHS[screen]
    assert len(tabs) == 2
    assert browser.get_log("browser") == []
    assert visit.asked_elsewhere() == []


@pytest.mark.slow(small_models=True)
def test_typing_and_moving_change_what_is_shown(browser: Any, visited: str) -> None:
    from selenium.webdriver.common.keys import Keys

    visit = Visit(browser, visited, WIDTHS["desktop"])
    assert "after layer 2, at the last token, with strength 1." in visit.text("#said")
    assert len(browser.find_elements("css selector", "#tokens li.here")) == 1
    first = visit.text("#likely")

    slider = visit.find("#strength input[type=range]")
    slider.send_keys(*[Keys.ARROW_RIGHT] * 5)
    wait_for(lambda: "strength 1.5" in visit.text("#said"))
    stronger = wait_for(lambda: visit.text("#likely") != first and visit.text("#likely"))

    visit.find("#layer input[type=range]").send_keys(Keys.ARROW_LEFT)
    wait_for(lambda: "after layer 1" in visit.text("#said"))
    wait_for(lambda: visit.text("#likely") != stronger)

    n_tokens = len(browser.find_elements("css selector", "#tokens li"))
    visit.find("#query textarea, #query input").send_keys(" and more words")
    wait_for(lambda: len(browser.find_elements("css selector", "#tokens li")) > n_tokens)
    assert browser.get_log("browser") == []


@pytest.mark.slow(small_models=True)
def test_a_vector_of_another_model_is_said_in_a_sentence(browser: Any, visited: str) -> None:
    from selenium.webdriver.common.keys import Keys

    visit = Visit(browser, visited, WIDTHS["desktop"])
    box = visit.find("#vectors input")
    box.click()
    box.send_keys("strange", Keys.ENTER)
    wait_for(lambda: "was made for tiny-gpt2" in visit.text("#said"))
    assert "does not fit random" in visit.text("#said")
    wait_for(lambda: not visit.written("edited"))
    assert "with the vector" not in visit.text("#likely")


@pytest.mark.slow(small_models=True)
def test_a_learner_grows_and_its_curves_are_drawn(browser: Any, visited: str) -> None:
    from selenium.webdriver.common.keys import Keys

    visit = Visit(browser, visited, WIDTHS["desktop"])
    browser.find_elements("css selector", "button[role=tab]")[1].click()
    wait_for(lambda: visit.find("#train").is_displayed())
    steps = visit.find("#steps input[type=number]")
    steps.send_keys(Keys.CONTROL, "a")
    steps.send_keys("300", Keys.TAB)
    visit.find("#train").click()
    said = wait_for(lambda: "Finished" in visit.text("#state") and visit.text("#state"))
    assert re.match(r"Step 300 of 300, with the TVP-loss at layer 1\. \d+", said)
    lines = "return document.querySelectorAll('#errors .scatterlayer .trace path.js-line').length"
    assert wait_for(lambda: browser.execute_script(lines)) == 2
    assert browser.get_log("browser") == []


@pytest.mark.slow(small_models=True)
def test_a_port_that_is_taken_is_said() -> None:
    pytest.importorskip("gradio")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with played("--port", port) as process:
            _, said = process.communicate(timeout=120)
    assert process.returncode == 2
    assert f"can listen on 127.0.0.1, port {port}" in said.splitlines()[-1]
    assert "--port" in said.splitlines()[-1]
