"""The page in a real browser, on a real daemon.

All tests share one daemon, in any order: a test that feeds windows has a stream of its own, and leaves no
alarm that needs somebody.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from dqm.events import RunEvent
from dqm.web import HttpServer, create_app
from tests.cli.program import call_dqm
from tests.service.small import N_WINDOW, faulty_events, healthy_events
from tests.world import make_world, verdict_of

from .conftest import complaints, requested, set_media, set_width
from .monitor import PASSWORD, USER, Monitor

pytestmark = pytest.mark.slow

WAIT_SECONDS = 60.0
PAGES = (
    "/", "/alarms", "/alarms?show=all", "/alarms/chamber-2/differs", "/masks", "/streams/chamber-2",
    "/streams/chamber-3", "/windows/chamber-2/7/0", "/trends?stream=chamber-2", "/help", "/login",
)  # fmt: skip

CUT_OFF = """
    const stacked = innerWidth < 700 ? [...document.querySelectorAll(".stacked")] : [];
    return stacked.filter(table => table.offsetWidth > table.parentNode.offsetWidth).map(table => table.id);
"""

Shoot = Callable[[str], Path]


def wait_for(browser: Chrome, is_so: Callable[[], object], what: str) -> None:
    WebDriverWait(browser, WAIT_SECONDS, poll_frequency=0.1).until(lambda _: is_so(), what)


def text(browser: Chrome, selector: str) -> str:
    return str(
        browser.execute_script("return document.querySelector(arguments[0])?.innerText ?? ''", selector)
    )


def open_live(browser: Chrome, monitor: Monitor, path: str) -> None:
    """Open a page, mark it, and wait until it listens."""
    browser.get(monitor.url + path)
    browser.execute_script("window.marker = 'not reloaded'")
    wait_for(browser, lambda: text(browser, "#link") == "live", "the page is live")


def press(browser: Chrome, *keys: str) -> None:
    chain = ActionChains(browser)
    for key in keys:
        chain.send_keys(key)
    chain.perform()


def wait_for_charts(browser: Chrome) -> None:
    drawn = "return document.documentElement.dataset.drawn === 'yes'"
    wait_for(browser, lambda: browser.execute_script(drawn), "the charts are drawn")


def laid_out(browser: Chrome) -> dict[str, list[str]]:
    """Class and style of every chart, and how the layers of its drawing lie upon each other."""
    script = """
        const layers = chart => [...chart.querySelectorAll(".main-svg")];
        const look = chart => [chart.className, chart.getAttribute("style"),
                               ...layers(chart).map(layer => getComputedStyle(layer).position)];
        const charts = [...document.querySelectorAll("[data-chart]")];
        return Object.fromEntries(charts.map(chart => [chart.id, look(chart)]));"""
    found: dict[str, list[str]] = browser.execute_script(script)
    return found


def focused(browser: Chrome) -> str:
    return str(
        browser.execute_script("return document.activeElement.innerText || document.activeElement.name")
    )


def sign_in(browser: Chrome) -> None:
    """Fill in the form; the name has the focus."""
    wait_for(browser, lambda: focused(browser) == "user", "the form waits for a name")
    press(browser, USER, Keys.TAB, PASSWORD, Keys.ENTER)


@pytest.fixture(scope="module")
def past(monitor: Monitor) -> Monitor:
    """The daemon after a fault of chamber-2, whose alarm is acknowledged, and two windows of chamber-3."""
    monitor.feed("chamber-2", *(faulty_events(N_WINDOW, 20 + seq) for seq in range(3)))
    monitor.feed("chamber-3", faulty_events(N_WINDOW, 30), healthy_events(N_WINDOW, 31))
    answer = httpx.post(
        f"{monitor.url}/api/v1/alarms/chamber-2/differs/acknowledge",
        json={"comment": "the voltage is low"}, auth=(USER, PASSWORD), trust_env=False, timeout=WAIT_SECONDS,
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    return monitor


def test_the_overview_follows_the_windows(browser: Chrome, monitor: Monitor, shoot: Shoot) -> None:
    open_live(browser, monitor, "/?name=chamber")  # filtered, Good streams are open as well
    assert "no window since the daemon started" in text(browser, "#stream-chamber-1")
    monitor.feed("chamber-1", *(healthy_events(N_WINDOW, seed) for seq in range(3) for seed in [300 + seq]))
    wait_for(browser, lambda: "●●●" in text(browser, "#stream-chamber-1"), "three windows are shown")
    assert "Good" in text(browser, "#stream-chamber-1")
    assert text(browser, "#origins").lower() == "simulated data"
    age = text(browser, "#stream-chamber-1 time.age")
    wait_for(browser, lambda: text(browser, "#stream-chamber-1 time.age") != age, "its age ticks")
    assert browser.execute_script("return window.marker") == "not reloaded"
    assert complaints(browser) == []
    shoot("overview-healthy")
    monitor.announce(RunEvent.END, "chamber-1", 1e9)
    wait_for(browser, lambda: "Idle" in text(browser, "#stream-chamber-1 .mark"), "the run has ended")
    assert "run 7 ended at 01:46 UTC: operator" in text(browser, "#stream-chamber-1")
    assert "1 Idle" in " ".join(text(browser, "#counts").split())
    monitor.announce(RunEvent.BEGIN, "chamber-1", 2e9)
    wait_for(browser, lambda: "went on at" in text(browser, "#stream-chamber-1"), "it goes on")


def test_a_fault_is_seen_acknowledged_and_remembered(browser: Chrome, monitor: Monitor, shoot: Shoot) -> None:
    open_live(browser, monitor, "/")
    assert "No alarm needs you" in text(browser, "#respond")
    monitor.feed("chamber-4", *(faulty_events(N_WINDOW, seed) for seed in range(3)))
    wait_for(browser, lambda: "1 alarm needs you" in text(browser, "#respond"), "the alarm is shown")
    assert "chamber-4" in text(browser, "#respond article")
    assert "the muon expert, 16-2345" in text(browser, "#respond article")
    wait_for(browser, lambda: "chamber-4 differs" in text(browser, "#announcer"), "it is read out")
    assert browser.title == "(1) Overview - dqm"
    assert browser.execute_script("return window.marker") == "not reloaded"
    shoot("overview-alarm")

    press(browser, "x")
    assert focused(browser) == "Sign in"
    press(browser, Keys.ENTER)
    wait_for(browser, lambda: browser.current_url.endswith("/login?next=/"), "one has to sign in")
    shoot("login")
    press(browser, USER, Keys.TAB, "wrong horse", Keys.ENTER)
    wait_for(browser, lambda: "Wrong name or password" in text(browser, ".trouble"), "a typing error is told")
    sign_in(browser)
    wait_for(browser, lambda: browser.current_url == f"{monitor.url}/", "the overview is shown again")
    open_live(browser, monitor, "/")
    assert text(browser, "#who").split() == [USER, "expert", "Sign", "out"]
    press(browser, "x")
    assert focused(browser) == "comment"
    press(browser, "looking at the high voltage")
    monitor.feed("chamber-4", faulty_events(N_WINDOW, 9))
    wait_for(browser, lambda: "■■■■" in text(browser, "#stream-chamber-4"), "the next window is shown")
    form = browser.find_element(By.CSS_SELECTOR, "#respond form")
    assert form.find_element(By.NAME, "comment").get_property("value") == "looking at the high voltage"
    press(browser, Keys.ENTER)
    wait_for(browser, lambda: "/alarms/chamber-4/differs" in browser.current_url, "the alarm's page opens")
    assert "looking at the high voltage" in text(browser, "#alarm")
    assert [line for line in complaints(browser) if "401" not in line] == []  # of the typing error
    browser.refresh()
    assert text(browser, "#who").split() == [USER, "expert", "Sign", "out"]

    browser.get(f"{monitor.url}/")
    assert "No alarm needs you" in text(browser, "#respond")
    assert "seen by maria" in text(browser, "#stream-chamber-4")
    open_live(browser, monitor, "/")
    monitor.kill()
    wait_for(browser, lambda: "Connection to the daemon lost" in text(browser, "#lost"), "the loss is told")
    assert "old" in text(browser, "#lost")
    assert text(browser, "#link") == "not live"
    shoot("overview-lost")
    monitor.start()
    wait_for(browser, lambda: text(browser, "#link") == "live", "the page is live again by itself")
    assert not browser.find_element(By.ID, "lost").is_displayed()
    assert "seen by maria" in text(browser, "#stream-chamber-4")
    assert "Bad" in text(browser, "#stream-chamber-4")
    assert browser.execute_script("return window.marker") == "not reloaded"
    wait_for(browser, lambda: text(browser, "#who") == "Sign in", "a restart has signed everybody out")
    complaints(browser)  # of the lost connection


def test_everything_can_be_reached_by_keys(browser: Chrome, monitor: Monitor) -> None:
    open_live(browser, monitor, "/")
    press(browser, Keys.TAB)
    assert focused(browser) == "Skip to the content"
    press(browser, Keys.ENTER, "j")
    first = focused(browser)
    press(browser, "j")
    assert focused(browser) != first
    press(browser, "k")
    assert focused(browser) == first
    press(browser, "/")
    assert focused(browser) == "name"
    press(browser, "chamber-3", Keys.ENTER)
    wait_for(browser, lambda: "name=chamber-3" in browser.current_url, "the filter is applied")
    assert text(browser, "#stream-chamber-2") == ""
    press(browser, "j", Keys.ENTER)
    wait_for(browser, lambda: browser.current_url.endswith("/streams/chamber-3"), "the stream opens")
    for key, path in [("a", "/alarms"), ("m", "/masks"), ("w", "/wall"), ("?", "/help"), ("o", "/")]:
        press(browser, key)
        wait_for(browser, lambda path=path: browser.current_url == monitor.url + path, f"{key} opens {path}")
    assert complaints(browser) == []


def test_single_keys_can_be_switched_off(browser: Chrome, monitor: Monitor) -> None:
    open_live(browser, monitor, "/help")
    browser.find_element(By.ID, "keys-off").click()
    press(browser, "o")
    assert browser.current_url.endswith("/help")
    browser.find_element(By.ID, "keys-off").click()
    press(browser, "o")
    wait_for(browser, lambda: not browser.current_url.endswith("/help"), "keys work again")


def test_a_mask_is_made_and_removed(browser: Chrome, monitor: Monitor) -> None:
    open_live(browser, monitor, "/masks")
    assert browser.find_elements(By.CSS_SELECTOR, "#content form") == []
    browser.find_element(By.CSS_SELECTOR, "#new-mask .sign-in").click()
    sign_in(browser)
    wait_for(browser, lambda: browser.current_url == f"{monitor.url}/masks", "the masks are shown again")
    form = browser.find_element(By.CSS_SELECTOR, "#new-mask form")
    for name, value in [("streams", "muon/station-2/*"), ("reason", "gas leak")]:
        form.find_element(By.NAME, name).send_keys(value)
    form.submit()
    wait_for(browser, lambda: "gas leak" in text(browser, "#masks"), "the mask is listed")
    browser.find_element(By.CSS_SELECTOR, "#masks summary").click()
    browser.find_element(By.CSS_SELECTOR, "#masks input[name=comment]").send_keys("sealed", Keys.ENTER)
    wait_for(browser, lambda: "No mask" in text(browser, "#masks"), "it is gone")
    browser.find_element(By.CSS_SELECTOR, "#who button").click()
    wait_for(browser, lambda: text(browser, "#who") == "Sign in", "nobody is signed in")
    assert complaints(browser) == []


def test_charts_stay_as_drawn_when_windows_come(browser: Chrome, monitor: Monitor) -> None:
    monitor.feed("chamber-5", faulty_events(N_WINDOW, 40))
    open_live(browser, monitor, "/streams/chamber-5")
    wait_for_charts(browser)
    before = laid_out(browser)
    assert len(before) > 2
    monitor.feed("chamber-5", healthy_events(N_WINDOW, 41))
    wait_for(browser, lambda: text(browser, "#window-7-1"), "the next window is listed")
    assert laid_out(browser) == before
    assert complaints(browser) == []


def test_who_has_not_signed_in_sees_that_page_alone(chromium: Chrome, tmp_path: Path) -> None:
    world = make_world(tmp_path / "x.sqlite", {"muon": ["chamber-1"]})
    world.judge(verdict_of("chamber-1"))
    # whatever comes through a proxy comes from elsewhere
    authenticator = world.authenticator(proxies=["127.0.0.1"])
    app = create_app(world.metrics, lambda: 0.0, queries=world.queries, authenticator=authenticator)
    server = HttpServer(app, "127.0.0.1", 0)
    server.start()
    url = f"http://{server.address}"
    chromium.get(f"{url}/streams/chamber-1")
    wait_for(chromium, lambda: chromium.current_url.startswith(f"{url}/login"), "one has to sign in")
    asked = requested(chromium)
    assert f"{url}/events" not in asked
    assert text(chromium, "#origins") == ""
    assert not chromium.find_element(By.ID, "link").is_displayed()
    sign_in(chromium)
    wait_for(chromium, lambda: text(chromium, "#link") == "live", "the page is live")
    assert chromium.current_url == f"{url}/streams/chamber-1"
    world.clock.time += 8 * 3600.0 + 1.0
    world.judge(verdict_of("chamber-1", 1))
    wait_for(chromium, lambda: chromium.current_url.startswith(f"{url}/login"), "the shift is over")
    server.stop()
    world.store.close()
    complaints(chromium)


def test_a_fifth_page_of_a_browser_refreshes_itself(browser: Chrome, monitor: Monitor) -> None:
    first = browser.current_window_handle
    told = []
    for _ in range(5):
        browser.switch_to.new_window("tab")
        browser.get(monitor.url)
        wait_for(
            browser, lambda: browser.execute_script("return page.number !== null || page.polled"), "asked"
        )
        told.append(text(browser, "#link"))
    wait_for(browser, lambda: text(browser, "#link") == "every 15 s", "it says so")
    assert told[:4] == ["live"] * 4
    assert not browser.find_element(By.ID, "lost").is_displayed()
    for handle in browser.window_handles:
        if handle != first:
            browser.switch_to.window(handle)
            browser.close()
    browser.switch_to.window(first)
    assert any("503" in line for line in complaints(browser))


def test_a_report_draws_from_a_file_alone(browser: Chrome, past: Monitor, tmp_path: Path) -> None:
    assert call_dqm("report", past.config, "-o", tmp_path / "run.html") == 0
    browser.get(f"file://{tmp_path}/run.html")
    wait_for_charts(browser)
    assert len(browser.find_elements(By.CSS_SELECTOR, ".main-svg .trace")) > 5
    assert requested(browser) == [f"file://{tmp_path}/run.html"]
    assert complaints(browser) == []


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("width", [1400, 400])
def test_every_page_fits_and_draws_without_complaints(
    browser: Chrome, past: Monitor, shoot: Shoot, scheme: str, width: int
) -> None:
    set_media(browser, scheme=scheme)
    set_width(browser, width)
    for path in PAGES:
        browser.get(past.url + path)
        charts = browser.find_elements(By.CSS_SELECTOR, "[data-chart]")
        if charts:
            wait_for_charts(browser)
            plots = "return document.querySelectorAll('[data-chart] .main-svg .trace').length"
            assert browser.execute_script(plots) > 0
        sizes = "const e = document.documentElement; return [e.scrollWidth, e.clientWidth]"
        content, window = browser.execute_script(sizes)
        assert content <= window, path
        assert browser.execute_script(CUT_OFF) == [], path
        shoot(f"{scheme}-{width}{path.partition('?')[0].replace('/', '-')}")
    assert complaints(browser) == []


@pytest.mark.parametrize("width", [1400, 1300, 1100, 800])
def test_what_to_do_has_a_column_to_be_read_in(browser: Chrome, past: Monitor, width: int) -> None:
    set_width(browser, width)
    browser.get(f"{past.url}/")
    cells = browser.find_elements(By.CSS_SELECTOR, "td.advice")
    assert cells
    assert min(cell.size["width"] for cell in cells) >= 150
