from __future__ import annotations

from dataclasses import replace

import pytest

from dqm.errors import InputError
from dqm.events import Quality
from dqm.web import N_RECENT, StreamStatuses
from tests.world import START, Clock, verdict_of


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def statuses(clock: Clock) -> StreamStatuses:
    return StreamStatuses(["chamber-1", "chamber-2"], clock)


def test_a_stream_without_window_is_not_known(statuses: StreamStatuses) -> None:
    one = statuses.find("chamber-1")
    assert (one.quality, one.reason, one.since) == (Quality.NULL, "no window since the daemon started", START)
    assert (one.last, statuses.recent("chamber-1")) == (None, ())


def test_since_is_when_the_quality_began(statuses: StreamStatuses) -> None:
    for seq, p in enumerate([0.5, 0.5, 1e-5, 1e-5]):
        statuses.observe(verdict_of(seq=seq, p=p))
    one = statuses.find("chamber-1")
    assert (one.quality, one.since) == (Quality.BAD, START + 2)
    assert one.last is not None
    assert one.last.window.seq == 3
    assert [w.seq for w in statuses.recent("chamber-1")] == [0, 1, 2, 3]


def test_what_an_anomaly_looks_like_is_told_until_all_is_well(statuses: StreamStatuses) -> None:
    said = []
    for seq, p in enumerate([0.5, 1e-5, None, 0.5]):
        statuses.observe(verdict_of(seq=seq, p=p))
        said.append(statuses.find("chamber-1").explained)
    looks = "looks like lowered cathode voltage, 92 %"
    assert said == ["", looks, looks, ""]


def test_a_window_that_is_bad_by_its_number_does_not_look_like_an_older_one(statuses: StreamStatuses) -> None:
    statuses.observe(verdict_of(p=1e-9))
    assert statuses.find("chamber-1").explained
    statuses.observe(replace(verdict_of(seq=1, p=1e-9), explanation=None))
    assert statuses.find("chamber-1").explained == ""


def test_the_last_windows_are_bounded(statuses: StreamStatuses) -> None:
    for seq in range(3 * N_RECENT):
        statuses.observe(verdict_of(seq=seq))
    assert len(statuses.recent("chamber-1")) == N_RECENT


def test_a_stale_stream_is_not_known_until_its_next_window(statuses: StreamStatuses, clock: Clock) -> None:
    statuses.observe(verdict_of())
    clock.time = START + 601.0
    statuses.mark_stale("chamber-1", "no window since number 0")
    version = statuses.version
    clock.time = START + 602.0
    statuses.mark_stale("chamber-1", "no window since number 0")
    assert statuses.version == version
    statuses.mark_stale("chamber-1", "no window since number 0; the last that arrived were refused")
    one = statuses.find("chamber-1")
    assert (one.quality, one.reason, one.since) == (
        Quality.NULL,
        "no window since number 0; the last that arrived were refused",
        START + 601.0,
    )
    statuses.observe(verdict_of(seq=1))
    assert statuses.find("chamber-1").quality is Quality.GOOD
    assert statuses.version > version


def test_a_restart_recalls_what_is_not_too_old(statuses: StreamStatuses, clock: Clock) -> None:
    clock.time = START + 1000.0
    old = [verdict_of(seq=seq) for seq in range(3)]
    statuses.recall(old, stale_seconds=600.0)
    one = statuses.find("chamber-1")
    assert (one.quality, one.reason, one.since) == (
        Quality.NULL,
        "no window since the daemon started",
        START + 602.0,
    )
    young = replace(verdict_of("chamber-2", p=1e-5), judged_at=START + 900.0)
    statuses.recall([young], stale_seconds=600.0)
    assert statuses.find("chamber-2").quality is Quality.BAD
    assert len(statuses.recent("chamber-1")) == 3


def test_an_unknown_stream_is_an_error(statuses: StreamStatuses) -> None:
    for act in (statuses.find, lambda name: statuses.mark_stale(name, "none came")):
        with pytest.raises(InputError, match=r"no stream 'x'.*chamber-1, chamber-2"):
            act("x")
