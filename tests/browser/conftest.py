"""Headless Chromium, and a daemon for it to look at."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from dqm.reference import StoredBundle

from .monitor import Monitor

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1400,900",
)


@pytest.fixture(scope="session")
def chromium(
    require_program: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(require_program("chromium"))
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(require_program("chromedriver"))))
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def monitor(
    chromium: webdriver.Chrome,  # noqa: ARG001 - without it nothing is started
    bundle: StoredBundle,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Monitor]:
    running = Monitor(tmp_path_factory.mktemp("monitor"), bundle.path)
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture(autouse=True)
def _empty_page(request: pytest.FixtureRequest) -> None:
    """Leave the page of the test before: it goes on asking its server, which may have ended."""
    if "chromium" in request.fixturenames:
        chromium: webdriver.Chrome = request.getfixturevalue("chromium")
        chromium.get("data:,")
        chromium.delete_all_cookies()
        chromium.get_log("performance")
        chromium.get_log("browser")


@pytest.fixture
def browser(chromium: webdriver.Chrome, monitor: Monitor) -> Iterator[webdriver.Chrome]:
    """The browser, dark and 1400 pixels wide; afterwards it must have asked the daemon alone."""
    set_media(chromium, scheme="dark")
    set_width(chromium, 1400)
    yield chromium
    strangers = [url for url in requested(chromium) if not url.startswith(f"{monitor.url}/")]
    assert strangers == []


@pytest.fixture
def shoot(browser: webdriver.Chrome, tmp_path: Path) -> Callable[[str], Path]:
    """Keeps pictures of the page in $DQM_ARTEFACTS, or with the test's other files."""
    folder = Path(os.environ.get("DQM_ARTEFACTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)

    def save(name: str) -> Path:
        path = folder / f"{name}.png"
        assert browser.save_screenshot(str(path))
        return path

    return save


def set_media(driver: webdriver.Chrome, *, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def set_width(driver: webdriver.Chrome, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def requested(driver: webdriver.Chrome) -> list[str]:
    """Addresses that were asked for since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [entry["params"] for entry in messages if entry["method"] == "Network.requestWillBeSent"]
    urls = [params["request"]["url"] for params in sent]
    return [url for url in urls if not url.startswith("data:")]  # these are asked of nobody


def complaints(driver: webdriver.Chrome) -> list[str]:
    """What the browser's console has to say."""
    return [entry["message"] for entry in driver.get_log("browser")]
