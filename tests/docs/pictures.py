"""Pictures of the page for the documents: tests take them where ``DQM_PICTURES`` names a directory."""

from __future__ import annotations

import base64
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selenium.webdriver import Chrome
from selenium.webdriver.support.ui import WebDriverWait

from tests.browser.conftest import set_media
from tests.cli.program import logged, start_dqm
from tests.studies.page_load import open_browser
from tests.waiting import WAIT_SECONDS, get, wait_until

PLACE = """
    const [first, last] = [...arguments].map(one => document.querySelector(one).getBoundingClientRect());
    return {x: first.x + scrollX, y: first.y + scrollY, width: first.width,
            height: last.bottom - first.y, scale: 1};
"""


def keep_picture(
    browser: Chrome,
    name: str,
    part: str = "main",
    *,
    last: str | None = None,
    width: int = 1100,
    height: int = 1600,
    scheme: str = "light",
) -> None:
    """Keep a part of the page that is open, down to the end of `last`, if somebody asks for pictures."""
    folder = os.environ.get("DQM_PICTURES")
    if not folder:
        return
    set_media(browser, scheme=scheme)
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.refresh()
    drawn = (
        "return !document.querySelector('[data-chart]') || document.documentElement.dataset.drawn === 'yes'"
    )
    WebDriverWait(browser, 60.0).until(lambda driver: driver.execute_script(drawn))
    size["height"] = browser.execute_script("return document.documentElement.scrollHeight")
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)  # all of it is on the screen
    place = browser.execute_script(PLACE, part, last or part)
    options = {"format": "png", "clip": place}
    taken = browser.execute_cdp_cmd("Page.captureScreenshot", options)
    (Path(folder) / f"{name}.png").write_bytes(base64.b64decode(taken["data"]))


@contextmanager
def daemon(folder: Path, url: str) -> Iterator[None]:
    """Run the daemon of a directory until the end of the block."""
    log = folder / "again.log"
    process = start_dqm("run", "daemon.toml", cwd=folder, log=log)
    try:
        wait_until(lambda: logged(log, "ready") is not None, "the daemon is ready")
        wait_until(lambda: get(f"{url}/healthz").status_code == 200, "it answers")
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(WAIT_SECONDS)


def picture_pages(folder: Path, url: str, pages: dict[str, tuple[str, str, str]]) -> None:
    """Take pictures of pages of the daemon of a directory: by name path, part, last element of it."""
    with daemon(folder, url):
        browser = open_browser()
        try:
            for name, (path, part, last) in pages.items():
                browser.get(url + path)
                keep_picture(browser, name, part, last=last)
        finally:
            browser.quit()
