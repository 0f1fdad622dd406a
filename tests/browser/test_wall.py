"""The wall of a large detector, and its trends, in a real browser."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from scipy import stats
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from dqm.alarm import AddMask
from dqm.events import Quality
from dqm.web import HttpServer, create_app
from tests.docs.pictures import keep_picture
from tests.world import START, World, make_world, verdict_of

from .conftest import complaints, set_media

N_STREAMS = 1000
pytestmark = pytest.mark.slow
HOUR = 3600.0
CUT = """[...document.querySelectorAll("#signs *, #first *, #all *")].filter(
    each => each.scrollWidth > each.clientWidth + 1 && getComputedStyle(each).overflowX === "hidden"
).map(each => each.textContent)"""
"""Texts that do not fit into their places."""


@dataclass
class Wall:
    """A detector of 1000 streams, and the browser of its control room."""

    browser: Chrome
    world: World
    server: HttpServer
    folder: Path

    @property
    def url(self) -> str:
        return f"http://{self.server.address}"

    def wait(self, script: str, what: str) -> None:
        WebDriverWait(self.browser, 60.0, poll_frequency=0.1).until(
            lambda browser: browser.execute_script(f"return {script}"), what
        )

    def shoot(self, name: str) -> None:
        for scheme in ("light", "dark"):
            set_media(self.browser, scheme=scheme)
            self.save(f"{name}-{scheme}")

    def save(self, name: str) -> None:
        folder = Path(os.environ.get("DQM_ARTEFACTS", self.folder))
        folder.mkdir(parents=True, exist_ok=True)
        assert self.browser.save_screenshot(str(folder / f"{name}.png"))


def screen(browser: Chrome, width: int, height: int) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def tell_the_past(world: World, names: list[str]) -> None:
    """Half an hour in which one station was off, another without windows, and single windows bad."""
    rng = np.random.default_rng(3)
    for number, name in enumerate(names):
        for back in range(0, 30):
            chance = rng.random()
            quality = Quality.BAD if chance < 0.004 else Quality.MEDIUM if chance < 0.01 else Quality.GOOD
            if 200 <= number < 250 and 8 <= back < 14:
                quality = Quality.NULL
            if not 400 <= number < 440 or back > 5:
                world.statuses.timeline.note(name, world.clock() - 120.0 * back, quality)


@pytest.fixture
def wall(chromium: Chrome, tmp_path: Path) -> Iterator[Wall]:
    names = [f"chamber-{number:03}" for number in range(N_STREAMS)]
    groups = {f"muon/station-{k // 50:02}": names[k : k + 50] for k in range(0, N_STREAMS, 50)}
    world = make_world(tmp_path / "x.sqlite", groups)
    world.clock.time = START + HOUR
    tell_the_past(world, names)
    app = create_app(world.metrics, lambda: 0.0, queries=world.queries, authenticator=world.authenticator())
    server = HttpServer(app, "127.0.0.1", 0)
    server.start()
    try:
        chromium.get("data:,")
        chromium.get_log("browser")
        screen(chromium, 1920, 1080)
        yield Wall(chromium, world, server, tmp_path)
    finally:
        chromium.get("data:,")
        server.stop()
        world.store.close()


def test_a_thousand_streams_fit_on_one_screen_and_the_worst_come_first(wall: Wall) -> None:
    browser, world = wall.browser, wall.world
    world.judge(*(verdict_of(name, judged_at=world.clock()) for name in world.statuses.names))
    browser.get(f"{wall.url}/wall")
    wall.wait("document.getElementById('link').innerText === 'live'", "the page is live")
    assert len(browser.find_elements(By.CSS_SELECTOR, "#all a")) == N_STREAMS
    assert browser.find_element(By.ID, "first").text == "Nothing needs you."
    heights = "[document.documentElement.scrollHeight, innerHeight, document.documentElement.scrollWidth]"
    height, visible, width = browser.execute_script(f"return {heights}")
    assert (height <= visible, width <= 1920) == (True, True), "nothing must be scrolled"
    world.alarm_service.apply(AddMask("3f9a", "muon/station-07", "work on the gas"), "maria")
    for number in (13, 14, 502):
        name = f"chamber-{number:03}"
        world.judge(*(verdict_of(name, seq, p=2e-9, judged_at=world.clock()) for seq in range(1, 4)))
    world.judge(verdict_of("chamber-777", 1, p=0.004, judged_at=world.clock()))
    wall.wait("document.querySelectorAll('#first li').length === 4", "the page takes it in")
    names = [each.text for each in browser.find_elements(By.CSS_SELECTOR, "#first a b")]
    assert (set(names[:3]), names[3]) == ({"chamber-013", "chamber-014", "chamber-502"}, "chamber-777")
    assert browser.title.startswith("(3) Wall")
    letters = "parseFloat(getComputedStyle(document.querySelector('#first a b')).fontSize)"
    assert browser.execute_script(f"return {letters}") >= 25.0, "readable from afar"
    height, visible, width = browser.execute_script(f"return {heights}")
    assert (height <= visible, width <= 1920) == (True, True), "nor with the first streams"
    assert browser.execute_script(f"return {CUT}") == []
    signs = [each.text for each in browser.find_elements(By.CSS_SELECTOR, "#signs li")]
    assert {"3 alarm", "0 Bad", "1 Medium", "50 masked", "1000 streams, each counted once"} <= set(signs)
    cards = [each.text for each in browser.find_elements(By.CSS_SELECTOR, "#first .why > b")]
    assert [card.split()[0] for card in cards] == ["alarm"] * 3 + ["Medium"], "as they are counted"
    wall.shoot("wall-1000")
    keep_picture(browser, "wall", "body", width=1600, height=900)
    assert complaints(browser) == []
    browser.find_element(By.CSS_SELECTOR, "#wall-chamber-502").click()
    assert browser.current_url == f"{wall.url}/streams/chamber-502"


def test_when_the_daemon_stops_the_wall_says_how_old_it_is(wall: Wall) -> None:
    wall.browser.get(f"{wall.url}/wall?hours=8")
    wall.wait("document.getElementById('link').innerText === 'live'", "the page is live")
    wall.server.stop()
    wall.wait("!document.getElementById('lost').hidden", "the banner is there")
    assert "what you see is" in wall.browser.find_element(By.ID, "lost").text
    assert wall.browser.execute_script("return document.body.classList.contains('stale')")
    wall.shoot("wall-stopped")


def test_few_streams_are_large(chromium: Chrome, tmp_path: Path) -> None:
    world = make_world(
        tmp_path / "x.sqlite", {"muon": ["chamber-1", "chamber-2"], "rpc": ["rpc-plane-1.channels"]}
    )
    world.raise_alarm("chamber-2")
    world.judge(verdict_of("chamber-1"))
    app = create_app(world.metrics, lambda: 0.0, queries=world.queries, authenticator=world.authenticator())
    server = HttpServer(app, "127.0.0.1", 0)
    server.start()
    try:
        page = Wall(chromium, world, server, tmp_path)
        for width, name in ((1400, "wall-3"), (400, "wall-3-narrow")):
            screen(chromium, width, 900)
            chromium.get(f"{page.url}/wall")
            assert len(chromium.find_elements(By.CSS_SELECTOR, "#all a")) == 3
            assert chromium.execute_script("return document.documentElement.scrollWidth <= innerWidth")
            assert chromium.execute_script(f"return {CUT}") == []
            page.shoot(name)
    finally:
        chromium.get("data:,")
        server.stop()
        world.store.close()


def test_trends_of_thirty_runs_show_since_when(wall: Wall) -> None:
    rng = np.random.default_rng(4)
    (facts,) = wall.world.queries.bundles["chamber-013"]
    conditions = {"hv_v": (1200.0, 1200.0), "pressure_mbar": (958.0, 962.0)}
    cast(dict[str, object], wall.world.queries.bundles)["chamber-013"] = (
        facts.model_copy(update={"condition_ranges": conditions}),
    )
    with wall.world.store.database.transaction():
        for run in range(1, 31):
            for number in range(9, 17):
                for seq in range(6):
                    grown = 0.06 * max(0, (run - 16) * 6 + seq) if number == 13 else 0.0
                    z, moment = float(rng.normal() + grown), START + 600.0 * run + 60.0 * seq
                    verdict = verdict_of(
                        f"chamber-{number:03}", seq, p=max(1e-15, float(stats.norm.sf(z))), run=run,
                        judged_at=moment, start=moment, end=moment + 60.0,
                        conditions={
                            "hv_v": 1200.0 - 10.0 * (run > 15), "pressure_mbar": 960.0 + float(rng.normal()),
                        },
                    )  # fmt: skip
                    wall.world.store.append(verdict)
    for path, name in (("/trends", "trends-all"), ("/trends?stream=chamber-013", "trends-stream")):
        for scheme in ("light", "dark"):
            set_media(wall.browser, scheme=scheme)
            wall.browser.get(wall.url + path)
            wall.wait("document.documentElement.dataset.drawn === 'yes'", "the charts are drawn")
            wall.save(f"{name}-{scheme}")
        assert complaints(wall.browser) == []
    assert "strip_voltage_v" not in wall.browser.find_element(By.ID, "trend").text
    keep_picture(wall.browser, "trends_stream", last="[data-save=chart-values]")
    text = wall.browser.find_element(By.ID, "trend").text
    assert "Windows are worse since " in text
    assert "share of t_2" in text
    assert "condition differs: hv_v 1190, before 1200" in text
    assert text.index("hv_v") < text.index("drift_velocity"), "what differs comes first"
    assert len(wall.browser.find_elements(By.CSS_SELECTOR, "#trend tr.differs")) >= 5
