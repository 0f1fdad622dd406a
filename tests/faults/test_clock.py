"""The clock of a running daemon put forward and back by hours."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from dqm.events import Quality
from dqm.stream import Sender
from tests.service.small import window_of
from tests.waiting import wait_until

from .conftest import Open

pytestmark = pytest.mark.slow
WAIT_SECONDS = 60.0


@pytest.fixture
def library(require_program: Callable[[str], Path]) -> Path:
    """What libfaketime puts before the C library."""
    found = sorted((require_program("faketime").parents[1] / "lib").glob("**/libfaketimeMT.so.1"))
    if not found:
        pytest.skip("libfaketime is not where its program is")
    return found[0]


def test_a_clock_put_forward_and_back_by_hours_stops_nothing(
    open_site: Open, library: Path, tmp_path: Path
) -> None:
    jump = tmp_path / "jump"
    jump.write_text("+0")
    site = open_site(
        "workers = 0",
        LD_PRELOAD=str(library), FAKETIME_TIMESTAMP_FILE=str(jump), FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1", DONT_FAKE_MONOTONIC="1",
    )  # fmt: skip
    site.start()
    hours = (0, 5, -7, 0)
    with Sender(site.address) as sender:
        for run, offset in enumerate(hours):
            jump.write_text(f"{offset:+d}h")
            for seq in range(3):
                sender.send(window_of(run=run, seq=seq))
            assert sender.confirm(WAIT_SECONDS)
            assert site.get("/healthz").status_code == 200
            assert site.metric("dqm_window_age_seconds", "chamber-1") < 60.0
    verdicts = site.verdicts()
    assert [(v.window.run, v.window.seq, v.quality) for v in verdicts] == [
        (run, seq, Quality.GOOD) for run in range(len(hours)) for seq in range(3)
    ]
    at = {v.window.run: v.judged_at for v in verdicts}
    for (before, after), (run, following) in zip(pairwise(hours), pairwise(at.values()), strict=True):
        assert following - run == pytest.approx(3600.0 * (after - before), abs=120.0)
    alarms = site.get("/api/v1/alarms").json()["alarms"]
    assert {alarm["state"] for alarm in alarms} == {"Normal"}
    wait_until(lambda: site.n_logged("judged") == 3 * len(hours), "the log")
    assert not site.events("alarm")
    site.stop()
