"""Alarms of a group and their sound, in a real browser."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from dqm.alarm import AcknowledgeGroup, Cause
from dqm.events import Quality, RateResult, WindowCut
from dqm.web import HttpServer, create_app
from tests.world import PASSWORDS, World, make_world, verdict_of

from .conftest import complaints, set_media, set_width

pytestmark = pytest.mark.slow

N_CHAMBERS = 250
SILENT_SECONDS = 601.0


@dataclass
class Page:
    """A large detector, and the browser in which maria looks at it."""

    browser: Chrome
    world: World
    url: str
    folder: Path

    def wait(self, script: str, what: str) -> None:
        run = f"return {script}"
        WebDriverWait(self.browser, 30.0, poll_frequency=0.1).until(
            lambda browser: browser.execute_script(run), what
        )

    def text(self, selector: str) -> str:
        return self.browser.find_element(By.CSS_SELECTOR, selector).text

    def fall_silent(self) -> None:
        self.world.clock.time += SILENT_SECONDS
        self.world.alarm_service.tick()

    def shoot(self, name: str) -> None:
        folder = Path(os.environ.get("DQM_ARTEFACTS", self.folder))
        folder.mkdir(parents=True, exist_ok=True)
        assert self.browser.save_screenshot(str(folder / f"{name}.png"))


@pytest.fixture
def page(chromium: Chrome, tmp_path: Path) -> Iterator[Page]:
    groups = {
        f"muon/station-{s}": [f"chamber-{s * 50 + n:03}" for n in range(50)] for s in range(N_CHAMBERS // 50)
    }
    world = make_world(tmp_path / "x.sqlite", groups)
    app = create_app(world.metrics, lambda: 0.0, queries=world.queries, authenticator=world.authenticator())
    server = HttpServer(app, "127.0.0.1", 0)
    server.start()
    try:
        chromium.get("data:,")  # the page of another test asks its server for changes until it is left
        chromium.get_log("browser")
        chromium.get(f"http://{server.address}/login")
        set_width(chromium, 1400)
        chromium.execute_script("localStorage.clear()")
        for name, value in (("user", "maria"), ("password", PASSWORDS["maria"])):
            chromium.find_element(By.NAME, name).send_keys(value)
        chromium.find_element(By.CSS_SELECTOR, "main form button").click()
        made = Page(chromium, world, f"http://{server.address}", tmp_path)
        chromium.get(f"{made.url}/")
        made.wait("document.getElementById('link').innerText === 'live'", "the page is live")
        yield made
        assert complaints(chromium) == []
    finally:
        chromium.get("data:,")
        server.stop()
        world.store.close()


def test_250_chambers_that_fall_silent_are_one_alarm_and_one_acknowledgement(page: Page) -> None:
    page.fall_silent()
    page.wait("document.querySelectorAll('#respond article').length === 1", "one alarm on the overview")
    page.browser.get(f"{page.url}/alarms")
    rows = page.browser.find_elements(By.CSS_SELECTOR, "#alarms tbody tr")
    assert len(rows) == 1
    assert "muon: 250 streams" in rows[0].text
    page.browser.find_element(By.CSS_SELECTOR, "#alarms .names summary").click()
    names = page.browser.find_elements(By.CSS_SELECTOR, "#alarms .names li")
    assert [names[0].text, names[-1].text, len(names)] == ["chamber-000", "chamber-249", N_CHAMBERS]
    for scheme in ("light", "dark"):
        for width in (400, 1400):
            set_media(page.browser, scheme=scheme)
            set_width(page.browser, width)
            page.shoot(f"group-alarm-{scheme}-{width}")
    page.browser.find_element(By.XPATH, "//section[@id='alarms']//summary[text()='Acknowledge']").click()
    field = page.browser.find_element(By.CSS_SELECTOR, "#alarms form [name=comment]")
    field.send_keys("beam stop\n")
    page.wait("document.body.innerText.includes('seen by maria: beam stop')", "all are acknowledged")
    assert all(alarm.acknowledged for alarm in page.world.alarm_service.alarms() if alarm.raised_at)
    assert len(page.browser.find_elements(By.CSS_SELECTOR, "#alarms tbody tr")) == 1


def test_a_group_opens_by_itself_when_a_stream_in_it_goes_bad(page: Page) -> None:
    page.world.judge(*(verdict_of(name) for name in page.world.statuses.names))
    page.browser.get(f"{page.url}/")
    page.wait("document.getElementById('link').innerText === 'live'", "the page is live")
    groups = "[...document.querySelectorAll('#tree details.group[open]')].map(group => group.id)"
    assert page.browser.execute_script(f"return {groups}") == []
    page.world.raise_alarm("chamber-102")
    page.wait(f"{groups}.join() === 'group-muon,group-muon/station-2'", "the groups of the stream are open")
    rows = "[...document.querySelectorAll('#tree tr[data-row]')].filter(row => row.checkVisibility())"
    assert page.browser.execute_script(f"return {rows}.map(row => row.id)") == ["stream-chamber-102"]
    page.shoot("open-group")
    page.browser.find_element(By.TAG_NAME, "body").send_keys("jj")
    assert page.browser.execute_script("return document.activeElement.textContent") == "chamber-102"
    page.browser.find_element(By.CSS_SELECTOR, "#group-muon > summary").click()
    page.world.judge(verdict_of("chamber-102", 3, p=2e-9, judged_at=page.world.clock()))
    page.wait("document.querySelector('#stream-chamber-102 .strip')?.textContent.length >= 4", "it goes on")
    assert page.browser.execute_script(f"return {groups}") == ["group-muon/station-2"], (
        "it stays as it was put"
    )


def test_a_new_alarm_sounds_until_it_is_acknowledged_and_is_off_by_default(page: Page) -> None:
    beeps = "Number(document.body.dataset.beeps ?? 0)"
    page.wait("!document.getElementById('sound').hidden", "the switch is there")
    assert page.text("#sound") == "Sound off"
    page.world.raise_alarm("chamber-000")
    page.wait("document.querySelectorAll('#respond article').length === 1", "the alarm is shown")
    assert page.browser.execute_script(f"return {beeps}") == 0
    page.browser.find_element(By.ID, "sound").click()
    page.wait("document.getElementById('sound').innerText === 'Sound on'", "it is on")
    page.wait("document.body.dataset.sound === 'off'", "an alarm from before is not new")
    page.fall_silent()
    page.wait(f"document.body.dataset.sound === 'on' && {beeps} >= 2", "it beeps, and again")
    page.browser.get(f"{page.url}/alarms")  # the next page goes on when the browser lets it
    page.wait("document.body.dataset.sound === 'on'", "it goes on")
    assert page.text("#sound") == "Sound: click the page"
    page.browser.find_element(By.TAG_NAME, "h1").click()
    page.wait(f"document.getElementById('sound').innerText === 'Sound on' && {beeps} >= 1", "it beeps")
    page.world.alarm_service.apply(AcknowledgeGroup("muon", Cause.SILENT, "beam stop"), "maria")
    page.wait("document.body.dataset.sound === 'off'", "it is quiet when somebody has acknowledged")
    page.browser.find_element(By.ID, "sound").click()
    assert page.text("#sound") == "Sound off"


def test_the_history_of_a_stream_shows_its_number_of_events(page: Page) -> None:
    for seq in range(12):
        n = 490 - 40 * seq
        p = 0.4 if seq < 2 else 1e-15
        rate = RateResult(WindowCut.TIME, 488.0, uncertainty=0.02, live_seconds=10.0, p=p, z=-1.0)
        verdict = verdict_of("chamber-001", seq, judged_at=page.world.clock() + 60.0 * seq)
        quality = Quality.GOOD if seq < 2 else Quality.BAD
        changed = replace(verdict.result, n_data=n, rate=rate)
        page.world.judge(replace(verdict, result=changed, quality=quality))
    page.browser.get(f"{page.url}/streams/chamber-001")
    page.wait("document.documentElement.dataset.drawn === 'yes'", "the chart is drawn")
    assert "n / expected" in page.text("#chart-history")
    page.browser.execute_script("document.getElementById('chart-history').scrollIntoView()")
    page.shoot("number-of-events")
