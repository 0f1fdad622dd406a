"""The page for people who use a keyboard alone, a screen reader, or see little contrast."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By

from dqm.alarm import AddMask
from dqm.export.report import report_bundle, report_run
from dqm.reference import StoredBundle, open_bundle
from dqm.store import WINDOWS, WindowKeeper
from dqm.web import HttpServer, create_app
from tests.conftest import Once
from tests.npm import install_package
from tests.service.small import faulty_events, window_of
from tests.waiting import wait_until
from tests.world import PASSWORDS, START, World, make_world, verdict_of

from .conftest import complaints, set_media, set_width
from .test_page import wait_for_charts

pytestmark = pytest.mark.slow

AXE = "axe-core@4.10.3"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
SIDES = {
    "a_stream": "chamber-1", "a_runs": "7", "a_taken": "anomalous",
    "b_stream": "chamber-1", "b_runs": "8", "b_taken": "anomalous",
}  # fmt: skip
PAGES = (
    "/", "/?quality=Bad", "/alarms", "/alarms?show=all", "/alarms/chamber-2/differs", "/masks",
    "/streams/chamber-2", "/streams/chamber-3", "/windows/chamber-2/7/0", "/windows/chamber-1/7/0",
    "/wall", "/wall?hours=8", "/trends", "/trends?stream=chamber-2",
    "/compare?a_stream=chamber-1&b_stream=chamber-2", "/compare/{comparison}", "/help", "/users", "/login",
    "/certification", "/certification/7", "/certification/7?stream=chamber-1&windows=1", "/nothing",
)  # fmt: skip

N_INSIDE = 8
"""Places within a field of a date and a time where the focus stops, at most."""

CHECK = """
    const done = arguments[arguments.length - 1];
    for (const details of document.querySelectorAll("details")) details.open = true;
    axe.run(document, { runOnly: arguments[0], resultTypes: ["violations"] }).then(found => done(
        found.violations.map(one => [one.id, ...one.nodes.slice(0, 3).map(node =>
            `${node.html.slice(0, 160)} :: ${[...node.any, ...node.all, ...node.none][0]?.message}`)])));
"""
"""Ask axe, with everything opened that can be."""

FOCUSABLE = """
    for (const details of document.querySelectorAll("details")) details.open = true;
    const all = "a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex='0']";
    const seen = [...document.querySelectorAll(all)].filter(node => node.checkVisibility() && !node.disabled);
    seen.forEach((node, place) => { node.dataset.place = place; });
    window.reached = [];
    window.unseen = [];
    document.addEventListener("focusin", ({ target }) => {
        window.reached.push(Number(target.dataset.place ?? -1));
        const style = getComputedStyle(target);
        if (style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 2)
            window.unseen.push(target.outerHTML.slice(0, 120));
    });
    return seen.length;
"""
"""Number what can be reached, and watch where the focus goes and whether it is seen."""


@pytest.fixture(scope="module")
def axe(once: Once, require_program: Callable[[str], Path]) -> str:
    require_program("npm")
    folder = once("axe-core", lambda path: install_package(path, AXE))
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text()


@pytest.fixture(scope="module")
def site(chromium: Chrome, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, World]]:
    """A monitor with everything on its pages, in which an admin has signed in."""
    from dqm.config import Role
    from dqm.web import set_role

    folder = tmp_path_factory.mktemp("site")
    world = make_world(
        folder / "x.sqlite", {"muon/station-1": ["chamber-1", "chamber-2"], "muon": ["chamber-3"]}
    )
    keeper = WindowKeeper(folder / WINDOWS, 10**8)
    for run in (7, 8):
        for seq in range(3):
            verdict = verdict_of(seq=seq, run=run, p=1e-9)
            world.judge(verdict)
            keeper.keep(window_of(faulty_events(80, 10 * run + seq), run=run, seq=seq), verdict)
    world.judge(verdict_of("chamber-1", 3, run=8))
    world.raise_alarm("chamber-2")
    world.alarm_service.apply(AddMask("3f9a21c7", "chamber-3", "gas leak"), "eva")
    set_role(world.users, "maria", Role.ADMIN)
    app = create_app(world.metrics, lambda: 0.0, queries=world.queries, authenticator=world.authenticator())
    server = HttpServer(app, "127.0.0.1", 0)
    server.start()
    url = f"http://{server.address}"
    chromium.get("data:,")
    chromium.delete_all_cookies()
    chromium.get(f"{url}/login")
    for name, value in (("user", "maria"), ("password", PASSWORDS["maria"])):
        chromium.find_element(By.NAME, name).send_keys(value)
    chromium.find_element(By.CSS_SELECTOR, "main form button").click()
    set_width(chromium, 1400)
    chromium.get(f"{url}/compare?" + "&".join(f"{name}={value}" for name, value in SIDES.items()))
    field = chromium.find_element(By.NAME, "permutations")
    field.clear()
    field.send_keys("99", Keys.ENTER)
    comparison = chromium.current_url.rpartition("/")[2]
    wait_until(lambda: world.queries.comparisons.find(comparison).state.is_over, "it is compared")
    yield url, world
    chromium.get("data:,")
    world.queries.comparisons.stop()
    server.stop()
    world.store.close()


def open_page(browser: Chrome, site: tuple[str, World], path: str) -> None:
    url, world = site
    (made,) = world.queries.comparisons.all()
    browser.get(url + path.format(comparison=made.identifier))
    if browser.find_elements(By.CSS_SELECTOR, "[data-chart]"):
        wait_for_charts(browser)


@pytest.mark.parametrize(("scheme", "width"), [("dark", 1400), ("light", 1400), ("dark", 400)])
@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing(
    chromium: Chrome, site: tuple[str, World], axe: str, *, path: str, scheme: str, width: int
) -> None:
    set_media(chromium, scheme=scheme)
    set_width(chromium, width)
    open_page(chromium, site, path)
    chromium.execute_script(axe)
    found: list[Any] = chromium.execute_async_script(CHECK, RULES)
    assert found == []


@pytest.mark.parametrize("path", PAGES)
def test_everything_is_reached_by_the_keyboard_and_seen(
    chromium: Chrome, site: tuple[str, World], path: str
) -> None:
    set_media(chromium, scheme="dark")
    set_width(chromium, 1400)
    open_page(chromium, site, path)
    n = chromium.execute_script(FOCUSABLE)
    n_inside = N_INSIDE * len(chromium.find_elements(By.CSS_SELECTOR, "input[type=datetime-local]"))
    # where a field has the focus at once, the way from the end to the beginning is a stop, too
    n_inside += len(chromium.find_elements(By.CSS_SELECTOR, "[autofocus]"))
    ActionChains(chromium).send_keys(*[Keys.TAB] * (n + n_inside)).perform()
    reached = list(dict.fromkeys(chromium.execute_script("return window.reached")))
    first = reached[0]  # not the skip link where a field has the focus at once
    assert reached == [*range(first, n), *range(first)], "each in the order of the page, and no trap"
    assert chromium.execute_script("return window.unseen") == []
    assert chromium.execute_script("return document.querySelector('[data-place=\"0\"]').className") == "skip"
    at = chromium.execute_script("return window.reached.at(-1)")
    ActionChains(chromium).key_down(Keys.SHIFT).send_keys(Keys.TAB).key_up(Keys.SHIFT).perform()
    assert chromium.execute_script("return window.reached.at(-1)") == (at - 1) % n, "and back"


@pytest.mark.parametrize("kind", ["run", "bundle"])
def test_axe_finds_nothing_in_reports(
    chromium: Chrome, site: tuple[str, World], bundle: StoredBundle, axe: str, tmp_path: Path, kind: str
) -> None:
    _, world = site
    path = tmp_path / "report.html"
    path.write_text(
        report_run(world.store, world.queries.history, 7, version="x", now=START)
        if kind == "run"
        else report_bundle(open_bundle(bundle.path), version="x", now=START),
        encoding="utf-8",
    )
    set_width(chromium, 1400)
    chromium.get(f"file://{path}")
    wait_for_charts(chromium)
    chromium.execute_script(axe)
    assert chromium.execute_async_script(CHECK, RULES) == []


def test_the_skip_link_leads_past_the_head(chromium: Chrome, site: tuple[str, World]) -> None:
    open_page(chromium, site, "/masks")
    ActionChains(chromium).send_keys(Keys.TAB, Keys.ENTER, Keys.TAB).perform()
    inside = "return document.getElementById('content').contains(document.activeElement)"
    assert chromium.execute_script(inside)
    assert [line for line in complaints(chromium) if "404" not in line] == []
