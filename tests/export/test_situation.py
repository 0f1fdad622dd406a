from __future__ import annotations

from dataclasses import replace

import pytest

from dqm.errors import InputError
from dqm.events import Quality
from dqm.export import N_RECENT, Situation

from .world import START, Clock, verdict_of


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def situation(clock: Clock) -> Situation:
    return Situation(["chamber-1", "chamber-2"], clock)


def test_a_stream_without_window_is_not_known(situation: Situation) -> None:
    one = situation.find("chamber-1")
    assert (one.quality, one.reason, one.since) == (Quality.NULL, "no window since the daemon started", START)
    assert (one.last, one.recent) == (None, ())


def test_since_is_when_the_quality_began(situation: Situation) -> None:
    for seq, p in enumerate([0.5, 0.5, 1e-5, 1e-5]):
        situation.observe(verdict_of(seq=seq, p=p))
    one = situation.find("chamber-1")
    assert (one.quality, one.since) == (Quality.BAD, START + 2)
    assert one.last is not None
    assert one.last.explanation is None
    assert [w.seq for w in one.recent] == [0, 1, 2, 3]


def test_what_an_anomaly_looks_like_is_told_until_all_is_well(situation: Situation) -> None:
    said = []
    for seq, p in enumerate([0.5, 1e-5, None, 0.5]):
        situation.observe(verdict_of(seq=seq, p=p))
        said.append(situation.find("chamber-1").explained)
    looks = "looks like lowered cathode voltage, 92 %"
    assert said == ["", looks, looks, ""]


def test_the_last_windows_are_bounded(situation: Situation) -> None:
    for seq in range(3 * N_RECENT):
        situation.observe(verdict_of(seq=seq))
    assert len(situation.find("chamber-1").recent) == N_RECENT


def test_a_stale_stream_is_not_known_until_its_next_window(situation: Situation) -> None:
    situation.observe(verdict_of())
    situation.mark_stale("chamber-1", 600.0)
    version = situation.version
    situation.mark_stale("chamber-1", 600.0)
    assert situation.version == version
    one = situation.find("chamber-1")
    assert (one.quality, one.reason, one.since) == (
        Quality.NULL,
        "no window for more than 600 s",
        START + 600,
    )
    situation.observe(verdict_of(seq=1))
    assert situation.find("chamber-1").quality is Quality.GOOD
    assert situation.version > version


def test_a_restart_recalls_what_is_not_too_old(situation: Situation, clock: Clock) -> None:
    clock.time = START + 1000.0
    old = [verdict_of(seq=seq) for seq in range(3)]
    situation.recall(old, stale_seconds=600.0)
    assert situation.find("chamber-1").quality is Quality.NULL
    young = replace(verdict_of("chamber-2", p=1e-5), judged_at=START + 900.0)
    situation.recall([young], stale_seconds=600.0)
    assert situation.find("chamber-2").quality is Quality.BAD
    assert len(situation.find("chamber-1").recent) == 3


def test_an_unknown_stream_is_an_error(situation: Situation) -> None:
    for act in (situation.find, lambda name: situation.mark_stale(name, 1.0)):
        with pytest.raises(InputError, match=r"no stream 'x'.*chamber-1, chamber-2"):
            act("x")
