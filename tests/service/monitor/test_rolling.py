"""The rolling reference in a daemon with real sockets and a real store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dqm.alarm import AcceptChange, AcknowledgeAlarm, AddMask, Alarm, AlarmState, Cause, RemoveMask
from dqm.config import load_daemon
from dqm.errors import ConfigError
from dqm.events import Quality, RollingResult, Verdict, Window
from dqm.reference import Bundle, RollingEvaluator, open_bundle
from dqm.service.monitor.daemon import Daemon
from dqm.store import STORE_FILE, VerdictStore, sqlite_url
from dqm.stream import Sender
from tests.conftest import Once
from tests.reference.channels import channel_bundle
from tests.service.small import N_WINDOW, healthy_events, window_of

K, WAIT_SECONDS = 3, 60.0
ROLLING = f"[streams.rolling]\nwindows = {K}\npermutations = 100\n"
Open = Callable[..., Daemon]


@pytest.fixture
def open_daemon(bundle: Bundle, tmp_path: Path) -> Iterator[Open]:
    opened: list[Daemon] = []

    def make(rolling: str = ROLLING, path: Path = bundle.path, workers: int = 0) -> Daemon:
        config = tmp_path / "daemon.toml"
        config.write_text(
            f'[daemon]\nlisten = ["ipc://{tmp_path}/w.ipc"]\nhttp = "127.0.0.1:0"\nworkers = {workers}\n'
            f"[alarm]\noff_delay_seconds = 0.0\n[quality]\nbad_p = 1e-16\nmedium_p = 1e-15\n"
            f'[[streams]]\nname = "chamber-1"\nbundle = "{path}"\n{rolling}'
        )
        daemon = Daemon(load_daemon(config, environ={}))
        opened.append(daemon)
        return daemon

    yield make
    for daemon in opened:
        daemon.close()


def window(seq: int, shift: float = 0.0) -> Window:
    """Give a window that may have moved; no p is so small that the bundle would not call it Good here."""
    x = healthy_events(N_WINDOW, 100 + seq)
    x[:, 0] += shift
    return window_of(x, seq=seq)


def judge(daemon: Daemon, tmp_path: Path, *windows: Window) -> list[Verdict]:
    """Send all windows at once; give their verdicts in the order in which they were stored."""
    verdicts: list[Verdict] = []
    with Sender(f"ipc://{tmp_path}/w.ipc") as sender:
        for one in windows:
            sender.send(one)
        assert sender.flush(WAIT_SECONDS)
        deadline = time.monotonic() + WAIT_SECONDS
        while len(verdicts) < len(windows):
            assert time.monotonic() < deadline, f"{len(verdicts)} of {len(windows)} windows were judged"
            verdicts += daemon.step(20)
    return verdicts


def rolling_of(verdict: Verdict) -> RollingResult:
    assert verdict.result.rolling is not None
    return verdict.result.rolling


def changed(daemon: Daemon) -> Alarm:
    return next(alarm for alarm in daemon._parts.alarms.alarms() if alarm.cause is Cause.CHANGED)


def test_a_sudden_change_that_the_bundle_calls_good_is_alarmed_until_it_is_acknowledged(
    open_daemon: Open, tmp_path: Path
) -> None:
    daemon = open_daemon("[streams.rolling]\nwindows = 6\n")
    before = judge(daemon, tmp_path, *(window(seq, -0.4) for seq in range(9)))
    assert [rolling_of(one).reason for one in before[:3]] == [
        f"{n} of 6 good windows before it" for n in (0, 0, 1)
    ]
    assert [rolling_of(one).p is None for one in before] == [True] * 7 + [False] * 2
    assert changed(daemon).state is AlarmState.NORMAL

    after = judge(daemon, tmp_path, *(window(seq, 0.4) for seq in range(9, 14)))
    assert [one.quality for one in (*before, *after)] == [Quality.GOOD] * 14
    assert all(rolling_of(one).last <= (7, 8) for one in after)  # type: ignore[operator]
    assert changed(daemon).state is AlarmState.ACTIVE
    assert " of the last 3 windows differ from the last 6 good ones (p < " in changed(daemon).text
    daemon._parts.alarms.apply(AcknowledgeAlarm("chamber-1", Cause.CHANGED, "HV moved"), "ann")

    later = judge(daemon, tmp_path, *(window(seq, 0.4) for seq in range(14, 26)))
    assert [rolling_of(one).p is None for one in later[-2:]] == [False, False]
    assert rolling_of(later[-1]).first > (7, 14)  # type: ignore[operator]
    assert changed(daemon).state is AlarmState.NORMAL


def test_a_change_of_a_masked_stream_stays_until_somebody_accepts_it(
    open_daemon: Open, tmp_path: Path
) -> None:
    daemon = open_daemon("[streams.rolling]\nwindows = 6\n")
    alarms = daemon._parts.alarms
    judge(daemon, tmp_path, *(window(seq, -0.4) for seq in range(9)))
    alarms.apply(AddMask("gas", "chamber-1", "work on the gas"), "ann")
    after = judge(daemon, tmp_path, *(window(seq, 0.4) for seq in range(9, 19)))
    assert all(rolling_of(one).last <= (7, 8) for one in after)  # type: ignore[operator]
    assert changed(daemon).state is AlarmState.MASKED

    alarms.apply(AcceptChange("chamber-1", "new bottle"), "ann")
    later = judge(daemon, tmp_path, *(window(seq, 0.4) for seq in range(19, 30)))
    assert rolling_of(later[-1]).first > (7, 18)  # type: ignore[operator]
    alarms.apply(RemoveMask("gas", "done"), "ann")
    assert changed(daemon).state is AlarmState.NORMAL


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.long)])
def test_what_a_window_is_compared_with_depends_on_the_windows_alone(
    open_daemon: Open, tmp_path: Path, bundle: Bundle, workers: int
) -> None:
    daemon = open_daemon(workers=workers)
    windows = [window(seq) for seq in range(9)]
    verdicts = judge(daemon, tmp_path, *windows)
    assert [one.window.seq for one in verdicts] == list(range(9))
    evaluator = RollingEvaluator(bundle, 100)
    for seq in range(K + 2, 9):
        expected = evaluator.evaluate(windows[seq], windows[seq - K - 1 : seq - 1])
        assert rolling_of(verdicts[seq]) == expected
    with VerdictStore(sqlite_url(tmp_path / "data" / STORE_FILE), create=False) as store:
        assert {one.window.seq: one.result.rolling for one in store.select()} == {
            one.window.seq: one.result.rolling for one in verdicts
        }


def test_after_a_restart_it_is_empty_and_says_so(open_daemon: Open, tmp_path: Path) -> None:
    daemon = open_daemon()
    judge(daemon, tmp_path, *(window(seq) for seq in range(5)))
    daemon.close()
    (verdict,) = judge(open_daemon(), tmp_path, window(5))
    assert rolling_of(verdict) == RollingResult(0, reason="0 of 3 good windows before it")


def test_verdicts_are_the_same_with_and_without_it(open_daemon: Open, tmp_path: Path) -> None:
    windows = [window(seq, shift) for seq, shift in enumerate([0.0] * 6 + [0.8] * 3)]
    told = []
    for rolling in ("", ROLLING):
        daemon = open_daemon(rolling)
        found = judge(daemon, tmp_path, *windows)
        told.append([(one.quality, one.reason, one.result.t, one.result.p) for one in found])
        daemon.close()
        (tmp_path / "data" / STORE_FILE).unlink()
    assert told[0] == told[1]


def test_a_rolling_test_that_fails_takes_no_verdict_away(
    open_daemon: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> RollingResult:
        raise MemoryError("no memory")

    daemon = open_daemon()
    judge(daemon, tmp_path, *(window(seq) for seq in range(5)))
    monkeypatch.setattr(RollingEvaluator, "evaluate", fail)
    (verdict,) = judge(daemon, tmp_path, window(5))
    assert (verdict.quality, verdict.result.p is None) == (Quality.GOOD, False)
    assert rolling_of(verdict) == RollingResult(3, reason="the test failed: MemoryError: no memory")


@pytest.mark.slow
def test_refuses_bundles_of_counted_rows(open_daemon: Open, once: Once) -> None:
    counted = open_bundle(once("channels.dqmref", channel_bundle))
    with pytest.raises(ConfigError, match="streams chamber-1: rolling: its bundle is of counted rows"):
        open_daemon(path=counted.path)


def test_refuses_a_number_of_windows_that_is_none(open_daemon: Open) -> None:
    with pytest.raises(ConfigError, match=r"windows.*greater than or equal to 2"):
        open_daemon("[streams.rolling]\nwindows = 1\n")


def test_refuses_more_events_than_can_be_divided(open_daemon: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dqm.service.monitor.resolved_config.MOST_EVENTS", 239)
    with pytest.raises(
        ConfigError, match="3 windows and the one that is tested have 240 events, at most 239"
    ):
        open_daemon()
