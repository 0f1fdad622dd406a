"""Runs in a daemon with real sockets and a real store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dqm.config import load_daemon
from dqm.events import Quality, RunEvent, RunNotice
from dqm.reference import Bundle
from dqm.service.monitor.daemon import Daemon
from dqm.service.monitor.recorder import Recorder
from dqm.store import RunStore
from dqm.stream import Sender, SenderKeys, make_keys, read_public, read_secret
from tests.service.small import healthy_events, window_of

N_STREAMS = 250
POLL_MS = 50


class Clock:
    now = 1.7e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def open_daemon(folder: Path, bundle: Bundle, clock: Clock, keys: str = "") -> Daemon:
    path = folder / "daemon.toml"
    path.write_text(
        f'[daemon]\nlisten = ["ipc://{folder}/w"]\nhttp = "127.0.0.1:0"\nworkers = 0\n{keys}'
        + "".join(
            f'[[streams]]\nname = "chamber-{n}"\nbundle = "{bundle.path}"\nstale_seconds = 60.0\n'
            for n in range(N_STREAMS)
        )
    )
    return Daemon(load_daemon(path, environ={}), clock=clock, monotonic=clock)


@pytest.fixture
def daemon(bundle: Bundle, tmp_path: Path, clock: Clock) -> Iterator[Daemon]:
    with open_daemon(tmp_path, bundle, clock) as opened:
        yield opened


def let_pass(daemon: Daemon, clock: Clock, seconds: float) -> None:
    """Let time pass in steps that are no pause of the daemon."""
    end = clock.now + seconds
    while clock.now < end:
        clock.now += 5.0
        daemon.step(0)


def deliver(daemon: Daemon, sender: Sender) -> None:
    for _ in range(200):
        daemon.step(POLL_MS)
        if sender.confirm(0.01):
            return
    raise AssertionError(f"{sender.n_kept} windows and {sender.n_announced} borders have no answer")


def sample(daemon: Daemon, name: str, **labels: str) -> float | None:
    return daemon.metrics.registry.get_sample_value(name, labels)


@pytest.mark.slow
def test_250_streams_end_with_one_message_in_one_transaction(
    daemon: Daemon, bundle: Bundle, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded: list[int] = []
    record = Recorder.record
    monkeypatch.setattr(
        Recorder, "record", lambda self, v, runs: (recorded.append(len(runs)), record(self, v, runs))
    )
    with Sender(f"ipc://{tmp_path}/w") as sender:
        sender.announce(RunNotice("*", 591, "cosmics", RunEvent.BEGIN, clock.now))
        deliver(daemon, sender)
        let_pass(daemon, clock, 30.0)
        sender.announce(RunNotice("*", 591, "cosmics", RunEvent.END, clock.now, "operator"))
        deliver(daemon, sender)
    assert recorded == [N_STREAMS, N_STREAMS]
    let_pass(daemon, clock, 200.0)
    alarms = daemon._parts.alarms
    assert {str(activity) for activity in alarms.activities().values()} == {"Idle"}
    assert {str(alarm.state) for alarm in alarms.alarms()} <= {"Normal", "Disabled"}
    assert len(RunStore(daemon._parts.store.database).of_run(591)) == N_STREAMS
    daemon.close()
    with open_daemon(tmp_path, bundle, clock) as again:
        let_pass(again, clock, 200.0)
        activities = again._parts.alarms.activities()
        assert {str(activity) for activity in activities.values()} == {"Idle"}
        assert again._parts.statuses.find("chamber-249").reason == "run 591 ended at 22:13 UTC: operator"


def test_what_is_shown_as_present_is_of_the_present_run(daemon: Daemon, clock: Clock, tmp_path: Path) -> None:
    statuses, name = daemon._parts.statuses, "chamber-0"
    with Sender(f"ipc://{tmp_path}/w") as sender:
        sender.send(window_of(healthy_events(60, 1), stream=name, run=7))
        deliver(daemon, sender)
        assert statuses.find(name).quality is Quality.GOOD
        sender.announce(RunNotice(name, 7, "cosmics", RunEvent.END, clock.now, "operator"))
        sender.send(window_of(healthy_events(60, 2), stream=name, run=7, seq=1))  # comes late
        deliver(daemon, sender)
        ended = statuses.find(name)
        assert (ended.quality, ended.reason) == (Quality.NULL, "run 7 ended at 22:13 UTC: operator")
        assert ended.last is not None
        assert [window.seq for window in statuses.recent(name)] == [0, 1]
        assert sample(daemon, "dqm_stream_idle", stream=name) == 1.0
        assert sample(daemon, "dqm_window_p_value", stream=name) is None

        sender.announce(RunNotice("chamber-?", 8, "cosmics", RunEvent.BEGIN, clock.now))
        deliver(daemon, sender)
        begun = statuses.find(name)
        assert (begun.quality, begun.last) == (Quality.NULL, None)
        assert begun.reason == "run 8 (cosmics) began at 22:13 UTC; no window of it yet"
        sender.send(window_of(healthy_events(60, 3), stream=name, run=7, seq=2))
        deliver(daemon, sender)
        assert statuses.find(name).last is None
        assert [window.run for window in statuses.recent(name)] == [7, 7, 7]
        sender.send(window_of(healthy_events(60, 4), stream=name, run=8))
        deliver(daemon, sender)
        assert statuses.find(name).quality is Quality.GOOD
        assert sample(daemon, "dqm_window_p_value", stream=name) is not None
    assert sample(daemon, "dqm_windows_total", stream=name, quality="Good") == 4.0


def test_ends_that_cannot_be_are_refused_and_nothing_is_half_done(
    bundle: Bundle, tmp_path: Path, clock: Clock
) -> None:
    make_keys(tmp_path / "keys", "daemon")
    for name, streams in (("control", ["*"]), ("west", ["chamber-1"])):
        make_keys(tmp_path, name, streams)
        (tmp_path / f"{name}.public").rename(tmp_path / "keys" / f"{name}.public")
    daemon_key = read_public(tmp_path / "keys" / "daemon.public")

    def sender_of(name: str) -> Sender:
        return Sender(
            f"ipc://{tmp_path}/w", keys=SenderKeys(read_secret(tmp_path / f"{name}.secret"), daemon_key)
        )

    def border(event: RunEvent, seconds: float, streams: str = "*") -> RunNotice:
        return RunNotice(streams, 7, "cosmics", event, clock.now + seconds, "operator")

    begin, end = RunEvent.BEGIN, RunEvent.END
    keyed = 'keys = "keys"\nkeyed = "all"\n'
    with open_daemon(tmp_path, bundle, clock, keyed) as daemon, sender_of("control") as control:
        runs = RunStore(daemon._parts.store.database)

        def ends() -> set[float | None]:
            return {record.ended_at for record in runs.of_run(7).values()}

        def refused(sender: Sender, notice: RunNotice) -> str:
            known = len(sender.run_refusals)
            sender.announce(notice)
            deliver(daemon, sender)
            (answer,) = sender.run_refusals[known:]
            return f"{answer.reason}: {answer.what}"

        control.announce(border(begin, 0.0))
        deliver(daemon, control)
        assert refused(control, border(end, -1.0)).startswith("run-time: run 7 of chamber-0 would end at")
        with sender_of("west") as west:
            for streams in ("*", "chamber-2"):
                said = refused(west, border(end, 5.0, streams))
                assert said.startswith("stream-not-allowed: west may not end runs of stream chamber-")
        assert ends() == {None}, "nothing was ended by any of them"
        control.announce(border(end, 10.0))
        deliver(daemon, control)
        assert refused(control, border(end, 11.0)).startswith("run-ended: run 7 of chamber-0 ended already")
        control.announce(border(begin, 20.0))
        deliver(daemon, control)
        assert "before it goes on at" in refused(control, border(end, 15.0))
        assert ends() == {None}
        control.announce(border(end, 30.0))
        deliver(daemon, control)
        assert ends() == {clock.now + 30.0}
