"""Runs, windows and chambers against each other, and saved figures, in a real browser on a real daemon."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from dqm.reference import StoredBundle
from tests.docs.pictures import keep_picture
from tests.service.small import N_WINDOW, faulty_events, healthy_events
from tests.waiting import get, wait_until

from .conftest import complaints, set_media, set_width
from .monitor import Monitor
from .test_page import open_live, press, sign_in, text, wait_for, wait_for_charts

pytestmark = pytest.mark.slow

N_WINDOWS = 4
FITS = "const e = document.documentElement; return e.scrollWidth <= e.clientWidth"
Shoot = Callable[[str], Path]


@pytest.fixture(scope="module")
def monitor(
    chromium: Chrome,  # noqa: ARG001 - without it nothing is started
    bundle: StoredBundle,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Monitor]:
    """A daemon that keeps everything: of chamber-1 run 7 is Good and run 8 Bad, of chamber-2 run 7 Good."""
    running = Monitor(tmp_path_factory.mktemp("compare"), bundle.path, keep="good_share = 1.0")
    try:
        running.start()
        running.feed("chamber-1", *(healthy_events(N_WINDOW, 500 + seq) for seq in range(N_WINDOWS)))
        running.feed("chamber-2", *(healthy_events(N_WINDOW, 600 + seq) for seq in range(N_WINDOWS)))
        running.send("chamber-1", *(faulty_events(N_WINDOW, 700 + seq) for seq in range(N_WINDOWS)), run=8)
        last = f"{running.url}/api/v1/streams/chamber-1/windows/8/{2 * N_WINDOWS - 1}"
        wait_until(lambda: get(last).status_code == 200, "the windows are judged")
        yield running
    finally:
        running.stop()


@pytest.fixture
def signed_in(browser: Chrome, monitor: Monitor) -> Chrome:
    browser.get(f"{monitor.url}/login?next=/compare")
    sign_in(browser)
    wait_for(browser, lambda: browser.current_url.endswith("/compare"), "one can pick")
    return browser


def shoot_all(browser: Chrome, shoot: Shoot, name: str, width: int = 1400) -> None:
    """Keep a picture of the whole page."""
    height = browser.execute_script("return document.documentElement.scrollHeight")
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    shoot(name)
    set_width(browser, width)


def compare(browser: Chrome, **fields: str) -> None:
    """Fill in the form and wait for the answer, without a reload."""
    for name, value in fields.items():
        field = browser.find_element(By.NAME, name)
        if field.tag_name != "select":
            field.clear()
        field.send_keys(value)
    browser.find_element(By.XPATH, "//button[text()='Compare']").click()
    wait_for(browser, lambda: "/compare/" in browser.current_url, "it is begun")
    wait_for(browser, lambda: text(browser, "#outcome .big"), "it is made, and the page shows it by itself")


def save(browser: Chrome, button: WebElement) -> None:
    """Press a button and wait until a file is handed out."""
    before = len(browser.execute_script("return saved"))
    button.send_keys(Keys.ENTER)
    wait_for(browser, lambda: len(browser.execute_script("return saved")) > before, "it is saved")


def test_run_against_run(signed_in: Chrome, monitor: Monitor, shoot: Shoot) -> None:
    signed_in.get(f"{monitor.url}/streams/chamber-1")
    signed_in.find_element(By.LINK_TEXT, "Compare runs or windows").click()
    signed_in.find_element(By.CSS_SELECTOR, "a[aria-label='Run 8 of chamber-1 as B']").click()
    assert "8\t0\t4" in text(signed_in, "#kept-chamber-1")
    shoot_all(signed_in, shoot, "compare-pick")
    compare(signed_in, a_runs=Keys.BACKSPACE + "7", permutations="99")
    wait_for_charts(signed_in)
    assert "They differ" in text(signed_in, "#outcome")
    assert "chamber-1, run 7: 240 events of 4 of 4 windows that were Good" in text(signed_in, "#outcome")
    names = "return document.getElementById('chart-map-1').data.map(trace => trace.name)"
    drawn = set(signed_in.execute_script(names))
    assert {"A", "B", "learned", "reference of A and B"} <= drawn
    keep_picture(signed_in, "compare_runs", last="#explanation")
    for scheme in ("dark", "light"):
        for width in (1400, 400):
            set_media(signed_in, scheme=scheme)
            set_width(signed_in, width)
            wait_for(signed_in, lambda: signed_in.execute_script(FITS), "the figures have followed")
            shoot_all(signed_in, shoot, f"compare-runs-{scheme}-{width}", width)
    assert complaints(signed_in) == []


def test_chamber_against_chamber(signed_in: Chrome, shoot: Shoot) -> None:
    compare(signed_in, a_stream="chamber-1", a_runs="7", b_stream="chamber-2", b_runs="7", permutations="99")
    wait_for_charts(signed_in)
    assert "No difference is seen" in text(signed_in, "#outcome")
    shoot_all(signed_in, shoot, "compare-chambers")


def test_window_against_window(signed_in: Chrome, monitor: Monitor) -> None:
    signed_in.get(f"{monitor.url}/windows/chamber-1/8/5")
    signed_in.find_element(By.CSS_SELECTOR, ".neighbours a[href^='/compare']").click()
    signed_in.get(
        signed_in.current_url.replace("b_stream=chamber-1", "b_stream=chamber-1&b_runs=7&b_window=0")
    )
    compare(signed_in, permutations="99")
    assert "chamber-1, run 8, window 5: 60 events of the window" in text(signed_in, "#outcome")
    assert "They differ" in text(signed_in, "#outcome")


def test_one_that_runs_is_cancelled(signed_in: Chrome, shoot: Shoot) -> None:
    for name, value in {"a_runs": "7", "b_runs": "8"}.items():
        signed_in.find_element(By.NAME, name).send_keys(value)
    field = signed_in.find_element(By.NAME, "permutations")
    field.clear()
    field.send_keys("9999", Keys.ENTER)
    wait_for(signed_in, lambda: "of 9999 permutations" in text(signed_in, "#outcome"), "it runs")
    shoot("compare-running")
    signed_in.find_element(By.XPATH, "//button[text()='Cancel']").click()
    wait_for(signed_in, lambda: "It was cancelled." in text(signed_in, "#outcome"), "it is over")


def test_figures_are_saved_with_a_name(browser: Chrome, monitor: Monitor) -> None:
    browser.get(f"{monitor.url}/windows/chamber-1/8/4")
    wait_for_charts(browser)
    browser.execute_script("""
        window.saved = [];
        HTMLAnchorElement.prototype.click = function () { window.saved.push([this.download, this.href]); };
    """)
    bars = browser.find_elements(By.CSS_SELECTOR, ".save")
    assert len(bars) == 2 + 2
    for bar in (bars[0], bars[2]):
        for button in bar.find_elements(By.TAG_NAME, "button"):
            save(browser, button)
    saved = dict(browser.execute_script("return saved"))
    page = "chamber-1-run-8-window-4"
    assert list(saved) == [
        f"{page}-b.png", f"{page}-b.svg", f"{page}-ratio-a-b.png", f"{page}-ratio-a-b.svg",
    ]  # fmt: skip
    size = browser.execute_script(
        "const n = document.getElementById('chart-map-1'); return [n.clientWidth, n.clientHeight]"
    )
    png = base64.b64decode(saved[f"{page}-b.png"].partition("base64,")[2])
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert [int.from_bytes(png[k : k + 4]) for k in (16, 20)] == [2 * length for length in size]
    assert len(png) > 5000, "something is drawn"
    svg = browser.execute_script("return decodeURIComponent(arguments[0])", saved[f"{page}-b.svg"])
    words = re.findall(r"<text[^>]*>([^<]+)</text>", svg)
    assert {"reference", "window", "learned", "b"} <= set(words)
    assert complaints(browser) == []


def test_the_history_of_a_run_is_saved_under_its_name(browser: Chrome, monitor: Monitor) -> None:
    open_live(browser, monitor, "/streams/chamber-1?run=8")
    wait_for_charts(browser)
    browser.execute_script(
        "HTMLAnchorElement.prototype.click = function () { window.saved = this.download; };"
    )
    browser.find_element(By.CSS_SELECTOR, "#charts button[data-format=png]").send_keys(Keys.ENTER)
    wait_for(browser, lambda: browser.execute_script("return window.saved"), "it is saved")
    assert browser.execute_script("return window.saved") == "chamber-1-run-8-history.png"
    press(browser, Keys.TAB)
