"""A run is looked at, amended, labelled and signed in a real browser."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from dqm.alarm import Decision
from dqm.web import HttpServer, create_app
from tests.docs.pictures import keep_picture
from tests.world import PASSWORDS, START, World, make_world, verdict_of

from .conftest import complaints, set_media, set_width

STREAMS = [f"chamber-{n}" for n in range(1, 7)]
N_WINDOWS = 24
pytestmark = pytest.mark.slow


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A run of two hours; chamber-2 has a fault for half an hour, chamber-4 was there for a quarter."""
    made = make_world(tmp_path / "x.sqlite", {"muon": STREAMS})
    for stream in STREAMS:
        for seq in range(N_WINDOWS if stream != "chamber-4" else N_WINDOWS // 4):
            p = 2e-9 if stream == "chamber-2" and 6 <= seq < 12 else 0.4
            times = {"start": START + 300.0 * seq, "end": START + 300.0 * (seq + 1)}
            made.judge(verdict_of(stream, seq, p=p, **times))
    yield made
    made.store.close()


@pytest.fixture
def url(world: World) -> Iterator[str]:
    app = create_app(world.metrics, lambda: 0.0, queries=world.queries, authenticator=world.authenticator())
    server = HttpServer(app, "127.0.0.1", 0)
    server.start()
    yield f"http://{server.address}"
    server.stop()


def fill(browser: Chrome, form: str, **fields: str) -> None:
    """Write into the fields of a form, and send it."""
    found = browser.find_element(By.CSS_SELECTOR, f"{form} form, form{form}")
    for name, text in fields.items():
        field = found.find_element(By.NAME, name)
        if field.tag_name == "select":
            Select(field).select_by_value(text)
            continue
        field.clear()
        field.send_keys(text)
    browser.execute_script("document.body.dataset.old = 'yes'")
    found.find_element(By.TAG_NAME, "button").click()
    WebDriverWait(browser, 30.0).until(
        lambda driver: driver.execute_script(
            "return document.readyState === 'complete' && document.body.dataset.old !== 'yes'"
        )
    )


def test_an_expert_amends_labels_and_signs_a_run(
    chromium: Chrome, world: World, url: str, tmp_path: Path
) -> None:
    folder = Path(os.environ.get("DQM_ARTEFACTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    chromium.get("data:,")
    chromium.get_log("browser")
    set_media(chromium, scheme="dark")
    set_width(chromium, 1400)
    chromium.get(f"{url}/login?next=/certification")
    fill(chromium, "main", user="maria", password=PASSWORDS["maria"])
    chromium.find_element(By.LINK_TEXT, "7").click()
    proposal = chromium.find_element(By.ID, "proposal").text
    assert proposal.startswith("Proposed: good without chamber-2, chamber-4")
    fill(
        chromium,
        "#label",
        stream="chamber-2",
        windows="6-11",
        fault="HV trip",
        comment="trip at 14:43, see the log",
    )
    fill(chromium, "#amend", stream="chamber-4", quality="Bad", comment="its gas was off")
    assert len(chromium.find_elements(By.CSS_SELECTOR, "#journal tbody tr")) == 2
    fill(chromium, "#sign", comment="as proposed: HV trip of chamber-2, no gas in chamber-4")
    assert "signed by maria" in chromium.find_element(By.ID, "sign-off").text
    signed = world.queries.certification.journal(7).sign_off
    assert signed is not None
    assert (signed.decision, signed.without) == (Decision.WITHOUT, ("chamber-2", "chamber-4"))
    for scheme in ("dark", "light"):
        for width in (1400, 400):
            set_media(chromium, scheme=scheme)
            set_width(chromium, width)
            assert chromium.save_screenshot(str(folder / f"certified-run-{scheme}-{width}.png"))
            assert chromium.execute_script("return document.documentElement.scrollWidth") <= width
    keep_picture(chromium, "certified_run", last="#journal", width=1400)
    set_width(chromium, 1400)
    chromium.find_element(By.CSS_SELECTOR, "#entry-1 summary").click()
    chromium.execute_script("document.getElementById('flags').scrollIntoView()")
    assert chromium.save_screenshot(str(folder / "certified-run-flags.png"))
    fill(chromium, "#entry-1", comment="it was another chamber")
    assert "withdrawn" in chromium.find_element(By.ID, "entry-1").text
    assert "1 entry was added since" in chromium.find_element(By.ID, "sign-off").text
    chromium.get(f"{url}/certification")
    assert "more was said since" in chromium.find_element(By.ID, "run-7").text
    assert chromium.save_screenshot(str(folder / "certification.png"))
    assert complaints(chromium) == []
    chromium.get("data:,")
