"""Pictures of the demonstration, and a maker for every picture of the documents."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import httpx
import pytest

from tests.cli.program import start_dqm
from tests.studies.page_load import open_browser
from tests.waiting import get, wait_until

from .pictures import keep_picture
from .test_commands import PAGES
from .walk import ROOT

MAKERS = {
    "calibration": "tests/studies/calibration.py",
    "cells": "tests/studies/cells.py",
    "certified_run": "tests/browser/test_certification.py",
    "compare_runs": "tests/browser/test_compare.py",
    "hunt_p": "tests/studies/hunt.py",
    "live_times": "tests/studies/live_times.py",
    "maps": "tests/test_front_door.py",
    "neural_clipping": "tests/studies/neural.py",
    "overview": "tests/docs/test_demo_pictures.py",
    "power": "dqm/cli/study.py",
    "trends_stream": "tests/browser/test_wall.py",
    "tutorial_maps": "tests/docs/test_walks.py",
    "tutorial_stream": "tests/docs/test_walks.py",
    "tutorial_validation": "tests/docs/test_walks.py",
    "wall": "tests/browser/test_wall.py",
    "window_time": "tests/benchmarks/limits.py",
}
"""What makes each picture: tests where ``DQM_PICTURES`` names a directory, programs where they are told."""

PICTURE = re.compile(r"!\[[^\]]+\]\([\w./-]*images/(\w+)\.png\)")


def test_every_picture_has_a_maker_and_a_place() -> None:
    shown = {name for page in PAGES for name in PICTURE.findall((ROOT / page).read_text())}
    assert {path.stem for path in (ROOT / "docs" / "images").iterdir()} == shown == MAKERS.keys()
    for name, maker in MAKERS.items():
        assert re.search(rf'"{name}(\.png)?"', (ROOT / maker).read_text()), f"{maker} does not make {name}"


@pytest.mark.long
@pytest.mark.skipif("DQM_PICTURES" not in os.environ, reason="DQM_PICTURES names no directory for pictures")
def test_pictures_of_the_demonstration(tmp_path: Path) -> None:
    log = tmp_path / "demo.log"
    process = start_dqm(
        "demo", "--directory", tmp_path / "demo", cwd=tmp_path, log=log,
        XDG_CACHE_HOME=str(tmp_path / "cache"),
    )  # fmt: skip
    try:
        daemon = tmp_path / "demo" / "daemon.toml"
        wait_until(daemon.exists, "the references are made", seconds=900.0)
        address = re.search(r'^http = "(.*)"$', daemon.read_text(), re.MULTILINE)
        assert address
        url = f"http://{address[1]}"
        wait_until(lambda: n_bad(url) >= 3, "three streams are Bad", seconds=400.0)
        browser = open_browser()
        try:
            browser.get(url)
            keep_picture(browser, "overview", "body", last="#tree", width=1400, scheme="dark")
        finally:
            browser.quit()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60.0)


def n_bad(url: str) -> int:
    """Streams that are Bad; none while the page does not answer."""
    try:
        answer = get(f"{url}/api/v1/overview")
    except httpx.TransportError:  # it starts
        return 0
    return int(answer.json()["qualities"]["Bad"]) if answer.status_code == 200 else 0
