"""A chamber that dies and a stream that is refused, in a real browser on a real daemon."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.support.ui import WebDriverWait

from dqm.events import WindowCut
from dqm.reference import WindowKind, calibrate
from tests.service.small import N_WINDOW, healthy_events, small_bundle
from tests.waiting import get

from .conftest import complaints, set_media, set_width
from .monitor import Monitor

pytestmark = pytest.mark.slow

DYING, REFUSED = "chamber-1", "chamber-2"
PAGES = {
    "dying": f"/streams/{DYING}",
    "dying-window": f"/windows/{DYING}/7/12",
    "dying-alarm": f"/alarms/{DYING}/rate",
    "refused": f"/streams/{REFUSED}",
    "refused-alarm": f"/alarms/{REFUSED}/refused",
    "day-overview": "/",
    "day-alarms": "/alarms",
}


@pytest.fixture(scope="module")
def monitor(chromium: Chrome, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitor]:  # noqa: ARG001 - without it nothing is started
    """A daemon after such a day."""
    folder = tmp_path_factory.mktemp("day")
    bundle = small_bundle(folder / "small.dqmref")
    kind = WindowKind(cut=WindowCut.TIME, n_expected=N_WINDOW)
    calibrate(bundle, 150, kind=kind, seed=5, n_processes=1)
    running = Monitor(folder, bundle.path)
    try:
        running.start()
        for seq, n in enumerate([64, 58, 55, 61, 66, 60, 35, 30, 12, 6, 2, 0, 0]):
            times = {"start": 1.7e9 + 10.0 * seq, "end": 1.7e9 + 10.0 * (seq + 1), "live_seconds": 10.0}
            x = healthy_events(n, 60 + seq)
            running.feed(DYING, x, cut=WindowCut.TIME, n_expected=float(N_WINDOW), **times)
        running.feed(REFUSED, *(healthy_events(N_WINDOW, 30 + seq) for seq in range(4)))
        broken = healthy_events(N_WINDOW, 40)
        broken[:2, 1] = np.nan
        running.send(REFUSED, *[broken] * 5)
        yield running
    finally:
        running.stop()


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("width", [1400, 400])
def test_a_chamber_that_dies_and_a_stream_that_is_refused_are_shown(
    browser: Chrome, monitor: Monitor, shoot: Callable[[str], Path], scheme: str, width: int
) -> None:
    set_media(browser, scheme=scheme)
    set_width(browser, width)
    found = {}
    for name, path in PAGES.items():
        browser.get(monitor.url + path)
        WebDriverWait(browser, 60.0).until(
            lambda browser: browser.execute_script(
                "return !document.querySelector('[data-chart]') || document.documentElement.dataset.drawn"
            )
        )
        found[name] = browser.execute_script("return document.body.innerText")
        sizes = "const e = document.documentElement; return [e.scrollWidth, e.clientWidth]"
        content, window = browser.execute_script(sizes)
        assert content <= window, path
        shoot(f"{name}-{scheme}-{width}")
    for name in ("dying", "dying-window", "dying-alarm", "day-overview", "day-alarms"):
        assert f"0 events where {N_WINDOW} are expected" in found[name], name
        assert "0 events, fewer than" not in found[name], name
    for name in ("refused", "refused-alarm", "day-overview", "day-alarms"):
        assert "NaN or infinity in 3.3 % of b" in found[name], name
    assert "Good for" not in found["refused"], "not beside the alarm"
    told = get(f"{monitor.url}/api/v1/streams/{REFUSED}").json()
    assert (told["quality"], told["reason"]) == ("Null", told["alarm"]["text"])
    assert (
        f'dqm_window_quality{{quality="Null",stream="{REFUSED}"}} 1.0' in get(f"{monitor.url}/metrics").text
    )
    assert complaints(browser) == []
