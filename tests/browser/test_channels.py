"""Dead and noisy channels on the page, in a real browser: maps of layers and wires, and their history."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from selenium.webdriver import Chrome

from dqm.alarm import AddMask, ChannelChoice, QualityLimits
from dqm.alarm.verdicts import give_verdict
from dqm.events import EvaluationJob, FloatArray, Verdict
from dqm.reference import open_bundle
from dqm.service.evaluation import WindowEvaluator
from dqm.web import HttpServer, create_app
from tests.conftest import Once
from tests.reference import channels
from tests.world import START, make_world

from .conftest import complaints, set_media, set_width
from .test_page import text, wait_for_charts

pytestmark = pytest.mark.slow

STREAM = "chamber-1.channels"
LAST = 7
"""Number of the last window, of which a channel is masked."""

LIMITS = QualityLimits(medium_p=0.01, bad_p=0.001, min_events=50)


def with_faults(number: int) -> FloatArray:
    """Healthy at first; then a dead and a noisy wire; then a dead card as well."""
    hits = channels.healthy_hits(np.random.default_rng([5, number]))
    if number >= 3:
        hits[17] = 0.0
        hits[6] = 400.0
    if number >= 6:
        hits[24:32] = 0.0
    return hits


def judge(evaluator: WindowEvaluator, number: int) -> Verdict:
    window = channels.window_of(with_faults(number), seq=number, start=START, end=START + 10.0)
    masked = (103,) if number == LAST else ()
    job = EvaluationJob(window, "", LIMITS.medium_p, LIMITS.min_events, masked=masked)
    report = evaluator.evaluate(job)
    return give_verdict(
        window,
        report.result,
        LIMITS,
        bundle=report.bundle,
        seconds=report.seconds,
        now=START + 30.0 * number,
        explanation=report.explanation,
    )


@pytest.fixture
def url(chromium: Chrome, once: Once, tmp_path: Path) -> Iterator[str]:
    evaluator = WindowEvaluator(open_bundle(once("channels-small.dqmref", channels.channel_bundle)))
    world = make_world(tmp_path / "x.sqlite", {"": [STREAM]})
    world.judge(*(judge(evaluator, number) for number in range(LAST + 1)))
    world.know_channels(STREAM)
    choice = ChannelChoice(channels=(3,))
    world.alarm_service.apply(AddMask("3f9a21c7", STREAM, "amplifier broken", channels=choice), "maria")
    server = HttpServer(
        create_app(world.metrics, lambda: 0.0, queries=world.queries, authenticator=world.authenticator()),
        "127.0.0.1",
        0,
    )
    server.start()
    chromium.get("data:,")  # the page of another test asks its server for changes until it is left
    chromium.get_log("browser")
    set_media(chromium, scheme="light")
    set_width(chromium, 1400)
    yield f"http://{server.address}"
    chromium.get("data:,")
    server.stop()
    world.store.close()


def shoot(browser: Chrome, tmp_path: Path, name: str) -> None:
    """Keep a picture of the whole page in $DQM_ARTEFACTS, or with the test's other files."""
    folder = Path(os.environ.get("DQM_ARTEFACTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    height = browser.execute_script("return document.documentElement.scrollHeight")
    size = {"width": 1400, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    assert browser.save_screenshot(str(folder / f"{name}.png"))


def drawn_cells(browser: Chrome, chart: str) -> list[list[float | None]]:
    """Give what a heat map on the page shows, layer by layer."""
    found: list[list[float | None]] = browser.execute_script(
        "return document.getElementById(arguments[0]).data[0].z", f"chart-{chart}"
    )
    return found


def test_the_map_shows_a_dead_wire_a_noisy_wire_and_a_dead_card(
    chromium: Chrome, url: str, tmp_path: Path
) -> None:
    chromium.get(f"{url}/streams/{STREAM}")
    wait_for_charts(chromium)
    assert "9 dead, 0 low and 1 noisy of 31 channels; 1 masked: 103" in text(chromium, "#occupancy")
    assert "amplifier broken" in text(chromium, "#channel-masks")
    assert "106 3 2 400" in " ".join(text(chromium, "#channel-masks").split())
    seen, expected, ratio = (drawn_cells(chromium, f"latest-{n}") for n in (1, 2, 3))
    assert [cells[3][0] for cells in (seen, expected, ratio)] == [None] * 3, "masked"
    assert [len(seen), len(seen[0])] == [4, 8]
    assert seen[17 % 4][17 // 4] == 0
    assert seen[6 % 4][6 // 4] == 400
    assert 30.0 < (expected[17 % 4][17 // 4] or 0.0) < 50.0
    assert all(ratio[layer][wire] == 0 for layer in range(4) for wire in (6, 7))
    history = chromium.execute_script(
        "return document.getElementById('chart-history').data.filter(t => t.name.startsWith('channels'))"
        ".map(t => [t.name, t.y])"
    )
    assert history == [
        ["channels dead", [9, 9, 1, 1, 1, 0, 0, 0]],
        ["channels low", [0] * 8],
        ["channels noisy", [1, 1, 1, 1, 1, 0, 0, 0]],
    ]
    marks = chromium.execute_script(
        "return document.getElementById('chart-history').data"
        ".filter(t => t.yaxis === 'y6' || t.name === 'Good')"
        ".map(t => [t.name, t.marker.symbol, t.marker.color])"
    )
    of_good = {colour for name, _, colour in marks if name == "Good"}
    of_channels = {name: (symbol, colour) for name, symbol, colour in marks if name != "Good"}
    assert len(of_good) == 1
    assert all(colour not in of_good for _, colour in of_channels.values()), "no fault looks healthy"
    assert len(set(of_channels.values())) == 3
    assert complaints(chromium) == []
    shoot(chromium, tmp_path, "channels-stream")


def test_a_window_names_them(chromium: Chrome, url: str, tmp_path: Path) -> None:
    chromium.get(f"{url}/windows/{STREAM}/7/4")
    wait_for_charts(chromium)
    words = text(chromium, "#explanation")
    assert "ire 5 of layer 2 is dead: 0 hits where" in words
    assert "ire 2 of layer 3 is noisy, 9.2 times its rate" in words
    assert "1 channel is dead; 1 channel is noisy" in text(chromium, "#verdict")
    assert complaints(chromium) == []
    shoot(chromium, tmp_path, "channels-window")
    chromium.get(f"{url}/windows/{STREAM}/7/0")
    wait_for_charts(chromium)
    assert "Occupancy: hits of every wire" in text(chromium, "#explanation"), "of a healthy window, too"
