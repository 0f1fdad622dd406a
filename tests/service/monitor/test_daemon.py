"""The daemon with real sockets, a real store and real HTTP."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zmq
from prometheus_client.parser import text_string_to_metric_families

from dqm.alarm import AlarmState, Cause
from dqm.config import load_daemon
from dqm.errors import BundleError, ConfigError, StoreError
from dqm.events import Origin, Quality, Verdict, Window
from dqm.reference import Bundle, Evaluation, Evaluator
from dqm.service.monitor.daemon import ROUND_SECONDS, Daemon
from dqm.store import STORE_FILE, VerdictStore, sqlite_url
from dqm.stream import Reason, Sender, encode
from tests.export.grafana_server import TOKEN, FakeGrafana, serve
from tests.service.small import FEATURES, faulty_events, healthy_events, wait_until, window_of

STREAMS = ("chamber-1", "chamber-2")
WAIT_MS = 60_000

Open = Callable[..., Daemon]
Scraped = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/windows.ipc"


@pytest.fixture
def open_daemon(bundle: Bundle, tmp_path: Path, address: str) -> Iterator[Open]:
    """Opens daemons for two streams in one data directory; clocks may be given."""
    opened: list[Daemon] = []

    def make(
        *, settings: str = "", stream: str = "", workers: int = 0, **clocks: Callable[..., Any]
    ) -> Daemon:
        path = tmp_path / "daemon.toml"
        path.write_text(
            f'[daemon]\nlisten = ["{address}"]\nhttp = "127.0.0.1:0"\nworkers = {workers}\n{settings}\n'
            + "".join(
                f'[[streams]]\nname = "{name}"\nbundle = "{bundle.path}"\n{stream}\n' for name in STREAMS
            )
        )
        daemon = Daemon(load_daemon(path, environ={}), **clocks)
        opened.append(daemon)
        return daemon

    yield make
    for daemon in opened:
        daemon.close()


@pytest.fixture
def sender(address: str) -> Iterator[Sender]:
    with Sender(address) as opened:
        yield opened


@contextmanager
def running(daemon: Daemon) -> Iterator[Event]:
    stop = Event()
    thread = Thread(target=daemon.run, args=[stop])
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(WAIT_MS / 1000)
        assert not thread.is_alive()


def send(sender: Sender, windows: Sequence[Window]) -> None:
    for window in windows:
        sender.send(window)
    assert sender.flush(WAIT_MS / 1000)


def judge(daemon: Daemon, sender: Sender, *windows: Window) -> list[Verdict | None]:
    """Send windows one by one and let the daemon take each; None where it gave no verdict."""
    told = []
    for window in windows:
        send(sender, [window])
        told.append(one(daemon.step(WAIT_MS)))
    return told


def one(verdicts: Sequence[Verdict]) -> Verdict | None:
    """Give the verdict of a single window, if there is one."""
    assert len(verdicts) <= 1
    return verdicts[0] if verdicts else None


def stored(folder: Path) -> list[Verdict]:
    with VerdictStore(sqlite_url(folder / "data" / STORE_FILE), create=False) as store:
        return list(store.select())


def sample(daemon: Daemon, name: str, **labels: str) -> float | None:
    return daemon.metrics.registry.get_sample_value(name, labels)


def scrape(daemon: Daemon) -> Scraped:
    answer = httpx.get(f"http://{daemon.http_address}/metrics", trust_env=False)
    assert answer.status_code == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def n_judged(shown: Scraped) -> float:
    return sum(value for (name, _), value in shown.items() if name == "dqm_windows_total")


def quality_of(daemon: Daemon, stream: str) -> Quality:
    """Read the one quality that is 1."""
    shown = {q: sample(daemon, "dqm_window_quality", stream=stream, quality=q.value) for q in Quality}
    assert sorted(shown.values(), key=str) == [0, 0, 0, 1]
    return next(quality for quality, value in shown.items() if value)


def test_windows_of_several_streams_are_judged_stored_and_shown(
    open_daemon: Open, sender: Sender, tmp_path: Path, bundle: Bundle
) -> None:
    daemon = open_daemon()
    healthy = [window_of(healthy_events(60, 200 + seq), seq=seq) for seq in range(3)]
    faulty = [window_of(faulty_events(60, seq), stream="chamber-2", seq=seq) for seq in range(2)]
    with running(daemon):
        send(sender, [healthy[0], faulty[0], healthy[1], faulty[1], healthy[2]])
        wait_until(lambda: n_judged(scrape(daemon)) == 5, "five windows judged")
        shown = scrape(daemon)
    verdicts = stored(tmp_path)
    assert [v.window.seq for v in verdicts if v.window.stream == "chamber-1"] == [0, 1, 2]
    assert [v.window.seq for v in verdicts if v.window.stream == "chamber-2"] == [0, 1]
    assert {v.bundle for v in verdicts} == {bundle.identifier}
    last = {v.window.stream: v for v in verdicts}
    for stream, verdict in last.items():
        label = frozenset({("stream", stream)})
        assert shown["dqm_window_p_value", label] == verdict.result.p
        assert shown["dqm_window_statistic", label] == verdict.result.t
        assert shown["dqm_window_z_score", label] == verdict.result.z
        assert shown["dqm_window_events", label] == shown["dqm_window_expected_events", label] == 60
        assert shown["dqm_window_age_seconds", label] >= 0
        assert shown["dqm_stream_info", label | {("bundle", bundle.identifier)}] == 1
        for quality in Quality:
            both = label | {("quality", quality.value)}
            assert shown["dqm_window_quality", both] == (quality is verdict.quality)
            assert shown["dqm_windows_total", both] == sum(
                v.window.stream == stream and v.quality is quality for v in verdicts
            )
    assert last["chamber-1"].result.p > 0.001
    assert last["chamber-2"].result.p < 0.01
    assert shown["dqm_test_seconds_count", frozenset()] == 5


def test_what_comes_within_a_round_is_done_together(
    open_daemon: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    paused: list[float] = []
    rounds = [0.0, 0.25 * ROUND_SECONDS, ROUND_SECONDS, 3.0 * ROUND_SECONDS]
    daemon = open_daemon(monotonic=lambda: now, pause=paused.append)
    stop = Event()

    def step(_timeout_ms: int) -> list[Verdict]:
        nonlocal now
        now += rounds.pop(0)
        if not rounds:
            stop.set()
        return []

    monkeypatch.setattr(daemon, "step", step)
    daemon.run(stop)
    assert paused == pytest.approx([ROUND_SECONDS, 0.75 * ROUND_SECONDS, 0.0, 0.0])


def test_health_is_told_over_http(open_daemon: Open) -> None:
    daemon = open_daemon()
    url = f"http://{daemon.http_address}/healthz"
    with running(daemon):
        answer = httpx.get(url, trust_env=False)
        assert (answer.status_code, answer.json()["status"]) == (200, "ok")
        assert answer.json()["streams"] == list(STREAMS)
    daemon.close()
    with pytest.raises(httpx.ConnectError):
        httpx.get(url, trust_env=False)


def test_a_verdict_is_on_disk_before_it_is_shown(
    open_daemon: Open, sender: Sender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = open_daemon()
    on_disk = []
    monkeypatch.setattr(
        daemon.metrics, "observe", lambda verdict: on_disk.append((verdict, stored(tmp_path)))
    )
    (verdict,) = judge(daemon, sender, window_of())
    assert on_disk == [(verdict, [verdict])]


def test_a_stream_nobody_configured_is_refused_and_counted(open_daemon: Open, sender: Sender) -> None:
    daemon = open_daemon()
    assert judge(daemon, sender, window_of(stream="chamber-9")) == [None]
    assert sample(daemon, "dqm_refused_messages_total", reason="unknown-stream") == 1
    assert sample(daemon, "dqm_windows_total", stream="chamber-9", quality="Null") is None


def header(**changes: object) -> bytes:
    return json.dumps(json.loads(encode(window_of())[0]) | changes).encode()


def payload(columns: dict[str, pa.Array], compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    batch = pa.record_batch(columns)
    with pa.ipc.new_stream(
        sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression=compression)
    ) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


SOUND = {name: pa.array(healthy_events(60, 1)[:, k]) for k, name in enumerate(FEATURES)}
BY_TIME = {"cut": "time", "start": 0.0, "end": 10.0, "live_seconds": 10.0, "n_expected": 60.0}
MALFORMED = {
    "one frame": ([b"garbage"], Reason.FRAMES),
    "three frames": ([header(), payload(SOUND), b""], Reason.FRAMES),
    "a delimiter": ([b"", header(), payload(SOUND)], Reason.FRAMES),
    "no JSON": ([b"\xff\x00garbage", payload(SOUND)], Reason.HEADER_JSON),
    "a long header": ([header(conditions={"c": "x" * 70_000}), payload(SOUND)], Reason.HEADER_SIZE),
    "another version": ([header(version=3), payload(SOUND)], Reason.VERSION),
    "counts below 0": ([header(version=2, counts="b", **BY_TIME), payload(SOUND)], Reason.COUNTS),
    "another format": ([header(format="dqm-windows"), payload(SOUND)], Reason.VERSION),
    "a negative number": ([header(seq=-1), payload(SOUND)], Reason.HEADER_FIELD),
    "a path as stream": ([header(stream="../chamber-1"), payload(SOUND)], Reason.HEADER_FIELD),
    "a key too many": ([header(pickle="gASV"), payload(SOUND)], Reason.HEADER_FIELD),
    "many features": ([header(features=[f"f{i}" for i in range(65)]), payload(SOUND)], Reason.FEATURE_COUNT),
    "many events": ([header(n_events=100_001), payload(SOUND)], Reason.EVENT_COUNT),
    "fewer bytes than events": ([header(n_events=1000), payload(SOUND)], Reason.PAYLOAD_SIZE),
    "no Arrow": ([header(), b"\x01" * 1500], Reason.PAYLOAD_ARROW),
    "no payload": ([header(), b""], Reason.PAYLOAD_SIZE),
    "another column": ([header(), payload({"a": SOUND["a"], "c": SOUND["b"]})], Reason.PAYLOAD_COLUMNS),
    "a null": ([header(), payload(SOUND | {"b": pa.array([None, *([0.5] * 59)])})], Reason.PAYLOAD_NULL),
    "integers": ([header(), payload(SOUND | {"b": pa.array(np.arange(60))})], Reason.PAYLOAD_DTYPE),
    "compressed": ([header(), payload(SOUND, "zstd")], Reason.PAYLOAD_COMPRESSED),
    "NaN": ([header(), payload(SOUND | {"b": pa.array([np.nan, *([0.5] * 59)])})], Reason.NOT_FINITE),
}  # fmt: skip


def test_malformed_messages_are_counted_by_reason_and_dropped(
    open_daemon: Open, sender: Sender, address: str, tmp_path: Path
) -> None:
    daemon = open_daemon()
    expected: dict[Reason, int] = {}
    with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
        stranger.linger = 0
        stranger.connect(address)
        for what, (frames, reason) in MALFORMED.items():
            stranger.send_multipart(frames)
            assert daemon.step(WAIT_MS) == [], what
            expected[reason] = expected.get(reason, 0) + 1
            counted = {r: sample(daemon, "dqm_refused_messages_total", reason=r.value) for r in Reason}
            assert {r: n for r, n in counted.items() if n} == expected, what
    by_key = {Reason.HANDSHAKE, Reason.UNKNOWN_KEY, Reason.ROUTING_ID, Reason.STREAM_NOT_ALLOWED}
    by_daemon = {Reason.UNKNOWN_STREAM, Reason.ORIGIN, Reason.IDENTITY, Reason.RUN_ENDED, Reason.RUN_TIME}
    assert set(Reason) - set(expected) == by_key | by_daemon
    (verdict,) = judge(daemon, sender, window_of())
    assert stored(tmp_path) == [verdict]


PATHS = (
    "../evil", "/etc/evil", "..", ".", ".evil", "a/b", "a\\..\\b", "chamber-1/../../evil", "chamber-1\n",
    "chamber-1\0", "~root", "${HOME}", "", "x" * 65,
)  # fmt: skip


def test_no_name_leads_out_of_the_data_directory(
    open_daemon: Open, sender: Sender, address: str, tmp_path: Path
) -> None:
    daemon = open_daemon()
    data = tmp_path / "data"

    def outside() -> set[Path]:
        return {path for path in tmp_path.rglob("*") if not path.is_relative_to(data)}

    before = outside()
    reading = {"value": 1.0, "sigma": 1.0, "time": 1.0}
    with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
        stranger.linger = 0
        stranger.connect(address)
        for name in PATHS:
            for claim in (
                {"stream": name},
                {"run_type": name},
                {"features": [name, "b"]},
                {"conditions": {name: 1.0}},
                {"auxiliary": [{"name": name, **reading}]},
            ):
                stranger.send_multipart([header(**claim), payload(SOUND)])
                assert daemon.step(WAIT_MS) == []
    refused = sample(daemon, "dqm_refused_messages_total", reason="header-field")
    assert refused == 5 * len(PATHS)
    with running(daemon):
        send(sender, [window_of(faulty_events(60, 1))])
        wait_until(lambda: list((data / "windows").rglob("*.parquet")) != [], "a window is kept")
        pages = f"http://{daemon.http_address}/windows"
        assert httpx.get(f"{pages}/chamber-1/7/0/events.parquet", trust_env=False).status_code == 200
        for name in ("..", "%2e%2e%2f%2e%2e%2fdaemon.toml", "/etc/passwd", "chamber-1%2f..%2f..%2f7"):
            answer = httpx.get(f"{pages}/{name}/7/0/events.parquet", trust_env=False)
            assert answer.status_code == 404, name
    assert outside() == before


def test_a_window_sent_twice_is_judged_once(open_daemon: Open, sender: Sender, tmp_path: Path) -> None:
    daemon = open_daemon()
    (first,) = judge(daemon, sender, window_of())
    assert sender.confirm(WAIT_MS / 1000)
    assert judge(daemon, sender, window_of()) == [None]
    assert sender.confirm(WAIT_MS / 1000)
    assert stored(tmp_path) == [first]
    assert sample(daemon, "dqm_duplicate_windows_total", stream="chamber-1") == 1
    assert sample(daemon, "dqm_windows_total", stream="chamber-1", quality="Good") == 1
    assert judge(daemon, sender, window_of(faulty_events(60, 1))) == [None], "the numbers were used again"
    assert stored(tmp_path) == [first]
    assert sample(daemon, "dqm_refused_messages_total", reason="identity") == 1
    other = judge(daemon, sender, window_of(run=8), window_of(stream="chamber-2"), window_of(seq=1))
    assert None not in other


def test_a_full_queue_makes_senders_wait_and_loses_nothing(
    open_daemon: Open, address: str, tmp_path: Path
) -> None:
    daemon = open_daemon(settings="queue_windows = 2")
    windows = [window_of(seq=seq) for seq in range(60)]
    with Sender(address) as sender:
        for window in windows:
            sender.send(window)
        deadline = time.monotonic() + WAIT_MS / 1000
        while sender.n_kept and time.monotonic() < deadline:
            daemon.step(20)
            assert sample(daemon, "dqm_queue_windows") <= 4  # two streams may have two each
            sender.pump()
        assert (sender.n_lost, sender.n_kept) == (0, 0)
    assert [v.window.seq for v in stored(tmp_path)] == list(range(60))
    assert sample(daemon, "dqm_queue_windows") == 0


def test_a_daemon_that_cannot_keep_up_skips_the_oldest_windows_and_says_so(
    open_daemon: Open, address: str, tmp_path: Path
) -> None:
    now = 0.0
    daemon = open_daemon(settings="queue_windows = 4\noverload_seconds = 60.0", monotonic=lambda: now)
    with Sender(address) as sender:
        for seq in range(40):
            sender.send(window_of(seq=seq))

        def n_answered() -> int:
            sender.pump()
            daemon.step(20)
            return 40 - sender.n_kept

        wait_until(lambda: n_answered() >= 5, "the first windows are tested")
        assert {v.quality for v in stored(tmp_path)} == {Quality.GOOD}
        now = 61.0
        wait_until(lambda: n_answered() == 40, "each window is tested or skipped")
    verdicts = stored(tmp_path)
    skipped = [v for v in verdicts if v.reason.startswith("overload")]
    assert sorted(v.window.seq for v in verdicts) == list(range(40))
    assert 3 <= len(skipped) < 34
    assert {v.quality for v in skipped} == {Quality.NULL}
    assert max(v.window.seq for v in skipped) < 39
    assert sample(daemon, "dqm_skipped_windows_total", stream="chamber-1") == len(skipped)


@pytest.mark.slow
def test_workers_judge_as_the_daemon_itself_does(open_daemon: Open, address: str, tmp_path: Path) -> None:
    windows = [window_of(healthy_events(60, seq), stream=STREAMS[seq % 2], seq=seq) for seq in range(8)]
    results = []
    for run, workers in enumerate((0, 2)):
        daemon = open_daemon(workers=workers)
        with Sender(address) as sender, running(daemon):
            send(sender, [replace(window, run=run) for window in windows])
            assert sender.confirm(WAIT_MS / 1000)
        daemon.close()
        results.append(
            {v.window.seq: (v.result, v.quality, v.bundle) for v in stored(tmp_path) if v.window.run == run}
        )
    assert results[0] == results[1]
    assert len(results[0]) == 8


def test_bad_windows_raise_an_alarm_that_survives_the_daemon(open_daemon: Open, sender: Sender) -> None:
    daemon = open_daemon()
    judge(daemon, sender, *(window_of(faulty_events(60, seq), seq=seq) for seq in range(2)))
    labels = {"stream": "chamber-1", "cause": "differs"}
    assert sample(daemon, "dqm_alarm_active", priority="P2", **labels) == 1.0
    assert sample(daemon, "dqm_alarm_state", state="Active", **labels) == 1.0
    daemon.close()
    again = open_daemon()
    assert sample(again, "dqm_alarm_active", priority="P2", **labels) == 1.0
    assert sample(again, "dqm_alarm_active", priority="P2", stream="chamber-2", cause="differs") == 0.0


def test_alarms_become_annotations(
    open_daemon: Open, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(FakeGrafana()) as grafana:
        settings = f'[grafana]\nurl = "{grafana.url}"'
        with pytest.raises(ConfigError, match="no token for Grafana"):
            open_daemon(settings=settings)
        monkeypatch.setenv("DQM_GRAFANA_TOKEN", TOKEN)
        daemon = open_daemon(settings=settings)
        judge(daemon, sender, *(window_of(faulty_events(60, seq), seq=seq) for seq in range(2)))
        daemon.close()
    (annotation,) = grafana.annotations.values()
    assert annotation["tags"] == ["dqm", "stream:chamber-1", "cause:differs", "P2", "open"]


def test_the_events_of_bad_windows_are_kept(open_daemon: Open, sender: Sender, tmp_path: Path) -> None:
    daemon = open_daemon()
    windows = [window_of(), window_of(faulty_events(60, 1), seq=1)]
    judge(daemon, sender, *windows)
    (path,) = (tmp_path / "data" / "windows").glob("*/*")
    assert path.relative_to(tmp_path / "data" / "windows") == Path("chamber-1/7-1.parquet")
    table = pq.read_table(path)
    assert np.array_equal(np.column_stack([table[name] for name in FEATURES]), windows[1].x)


def test_what_cannot_be_stored_is_kept_and_stored_when_it_can(
    open_daemon: Open, sender: Sender, tmp_path: Path
) -> None:
    now = 0.0
    daemon = open_daemon(monotonic=lambda: now)
    database = daemon._parts.store.database
    with database.transaction() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER full BEFORE INSERT ON verdicts BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
        )
    send(sender, [window_of(seq=seq) for seq in range(2)])
    for _ in range(3):
        now += 2.0
        assert daemon.step(200) == []
    sender.pump()
    assert sender.n_unconfirmed == 2
    assert stored(tmp_path) == []
    assert sample(daemon, "dqm_store_failures_total") >= 2
    with database.transaction() as connection:
        connection.exec_driver_sql("DROP TRIGGER full")
    for _ in range(3):
        now += 2.0
        daemon.step(200)
    assert [v.window.seq for v in stored(tmp_path)] == [0, 1]
    assert sender.confirm(WAIT_MS / 1000)


def test_a_window_that_the_store_cannot_be_asked_about_waits(
    open_daemon: Open, sender: Sender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    daemon = open_daemon(monotonic=lambda: now)

    def fail(*_: object) -> bool:
        raise StoreError("the server was restarted")

    with monkeypatch.context() as patch:
        patch.setattr(daemon._parts.store, "first_new", fail)
        send(sender, [window_of(seq=seq) for seq in range(3)])
        for _ in range(3):
            now += 2.0
            assert daemon.step(200) == []
        assert sample(daemon, "dqm_store_failures_total") == 3
    for _ in range(4):
        now += 2.0
        daemon.step(200)
    assert [v.window.seq for v in stored(tmp_path)] == [0, 1, 2]
    assert sender.confirm(WAIT_MS / 1000)


@pytest.mark.parametrize("hours", [3.0, -3.0])
def test_a_clock_that_jumps_raises_no_alarm_and_loses_nothing(
    open_daemon: Open, sender: Sender, hours: float
) -> None:
    wall, now = 1e9, 0.0
    daemon = open_daemon(stream="stale_seconds = 30.0", clock=lambda: wall, monotonic=lambda: now)
    before, other = judge(daemon, sender, window_of(), window_of(stream="chamber-2"))
    wall += 3600.0 * hours

    def wait(seconds: float) -> None:
        nonlocal wall, now
        for _ in range(int(seconds)):
            wall, now = wall + 1.0, now + 1.0
            daemon.step(0)

    wait(25.0)  # silence is measured anew from the jump
    assert {alarm.state for alarm in daemon._parts.alarms.alarms()} == {AlarmState.NORMAL}
    assert quality_of(daemon, "chamber-1") is quality_of(daemon, "chamber-2") is Quality.GOOD
    (after,) = judge(daemon, sender, window_of(seq=1))
    assert before is not None
    assert other is not None
    assert after is not None
    assert after.quality is Quality.GOOD
    assert after.judged_at - before.judged_at == pytest.approx(3600.0 * hours + 25.0)
    wait(25.0)
    assert quality_of(daemon, "chamber-2") is Quality.NULL
    silent = {a.stream: a.state for a in daemon._parts.alarms.alarms() if a.cause is Cause.SILENT}
    assert silent == {"chamber-1": AlarmState.NORMAL, "chamber-2": AlarmState.ACTIVE}


def test_windows_held_up_by_the_store_are_no_silence(open_daemon: Open, sender: Sender) -> None:
    wall, now = 1e9, 0.0
    daemon = open_daemon(stream="stale_seconds = 30.0", clock=lambda: wall, monotonic=lambda: now)
    judge(daemon, sender, window_of(), window_of(stream="chamber-2"))
    database = daemon._parts.store.database
    with database.transaction() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER full BEFORE INSERT ON verdicts BEGIN SELECT RAISE(ABORT, 'disk is full'); END"
        )
    assert judge(daemon, sender, window_of(seq=1)) == [None]
    assert sample(daemon, "dqm_store_failures_total") == 1
    for _ in range(40):
        wall, now = wall + 2.0, now + 2.0
        assert daemon.step(0) == []
    with database.transaction() as connection:
        connection.exec_driver_sql("DROP TRIGGER full")
    for _ in range(10):
        wall, now = wall + 2.0, now + 2.0
        daemon.step(0)
    assert {alarm.state for alarm in daemon._parts.alarms.alarms()} == {AlarmState.NORMAL}


def test_a_test_that_fails_gives_null_and_the_next_window_is_judged(
    open_daemon: Open, sender: Sender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = open_daemon()
    sound = Evaluator.evaluate

    def evaluate_or_fail(self: Evaluator, window: Window, **options: Any) -> Evaluation:
        if window.seq == 0:
            raise ZeroDivisionError("no luck")
        return sound(self, window, **options)

    monkeypatch.setattr(Evaluator, "evaluate", evaluate_or_fail)
    failed, good = judge(daemon, sender, window_of(), window_of(seq=1))
    assert failed is not None
    assert good is not None
    assert (failed.quality, failed.reason) == (Quality.NULL, "the test failed: no luck (statistic 'kernel')")
    assert good.quality is Quality.GOOD
    assert stored(tmp_path) == [failed, good]


def test_a_stream_without_windows_turns_null_until_the_next(open_daemon: Open, sender: Sender) -> None:
    now = 1e9
    daemon = open_daemon(stream="stale_seconds = 30.0", clock=lambda: now, monotonic=lambda: now)
    judge(daemon, sender, window_of(), window_of(stream="chamber-2"))

    def wait(seconds: float) -> None:
        nonlocal now
        for _ in range(int(seconds)):
            now += 1.0
            assert daemon.step(0) == []

    wait(20.0)
    judge(daemon, sender, window_of(stream="chamber-2", seq=1))
    assert quality_of(daemon, "chamber-1") is Quality.GOOD
    wait(20.0)
    assert quality_of(daemon, "chamber-1") is Quality.NULL
    assert quality_of(daemon, "chamber-2") is Quality.GOOD
    assert sample(daemon, "dqm_window_p_value", stream="chamber-1") is None
    assert sample(daemon, "dqm_window_age_seconds", stream="chamber-1") is not None
    judge(daemon, sender, window_of(seq=1))
    assert quality_of(daemon, "chamber-1") is Quality.GOOD
    assert sample(daemon, "dqm_window_p_value", stream="chamber-1") is not None


def test_lost_windows_are_in_the_verdict_and_counted(open_daemon: Open, sender: Sender) -> None:
    daemon = open_daemon()
    _, verdict = judge(daemon, sender, window_of(), window_of(seq=4, n_lost=3))
    assert verdict is not None
    assert (verdict.quality, verdict.window.n_lost) == (Quality.NULL, 3)
    assert verdict.reason == "3 windows lost before this one"
    assert sample(daemon, "dqm_lost_windows_total", stream="chamber-1") == 3


def test_gaps_and_windows_out_of_turn_are_counted(open_daemon: Open, sender: Sender) -> None:
    daemon = open_daemon()
    windows = [*(window_of(seq=seq) for seq in (0, 3, 1)), window_of(run=8), window_of(seq=4)]
    judge(daemon, sender, *windows)
    names = ("sequence_gaps_total", "missing_windows", "reordered_windows_total", "late_windows_total")
    assert [sample(daemon, f"dqm_{name}", stream="chamber-1") for name in names] == [1, 1, 1, 1]
    assert sample(daemon, "dqm_missing_windows", stream="chamber-2") == 0


def test_numbers_left_out_without_a_word_are_lost_windows_too(open_daemon: Open, address: str) -> None:
    daemon = open_daemon()
    with Sender(address) as sender:
        _, verdict = judge(daemon, sender, window_of(), window_of(seq=3))
    assert verdict is not None
    assert (verdict.quality, verdict.reason) == (Quality.NULL, "2 windows lost before this one")
    daemon.close()
    again = open_daemon()
    with Sender(address) as sender:
        (after,) = judge(again, sender, window_of(seq=5))
    assert after is not None
    assert after.reason == "1 window lost before this one"


def test_a_replayed_run_is_refused_into_a_live_one(open_daemon: Open, sender: Sender, tmp_path: Path) -> None:
    daemon = open_daemon()
    judge(daemon, sender, window_of())
    assert judge(daemon, sender, window_of(seq=1, origin=Origin.REPLAYED)) == [None]
    assert sender.confirm(WAIT_MS / 1000), "what is not answered would be sent again, one at a time"
    daemon.close()
    again = open_daemon()
    assert judge(again, sender, window_of(seq=1, origin=Origin.REPLAYED)) == [None]
    assert judge(again, sender, window_of(seq=0, origin=Origin.REPLAYED)) == [None]
    assert sample(again, "dqm_refused_messages_total", reason="origin") == 2
    assert [v.window.origin for v in stored(tmp_path)] == [Origin.LIVE]


def test_what_a_full_sender_dropped_reaches_the_verdict(open_daemon: Open, address: str) -> None:
    with Sender(address, buffer_windows=2) as sender:
        for seq in range(5):
            sender.send(window_of(seq=seq))
        daemon = open_daemon()
        assert sender.flush(WAIT_MS / 1000)
        verdicts = [one(daemon.step(WAIT_MS)) for _ in range(2)]
    assert [(v.window.seq, v.window.n_lost) for v in verdicts if v] == [(3, 3), (4, 0)]


def test_a_restart_keeps_the_verdicts_and_knows_them(open_daemon: Open, address: str, tmp_path: Path) -> None:
    first = open_daemon()
    with Sender(address) as sender:
        before = judge(first, sender, window_of(), window_of(seq=1))
    first.close()
    second = open_daemon()
    page = second._parts.statuses.find("chamber-1")
    assert quality_of(second, "chamber-1") is page.quality is Quality.GOOD
    assert page.last is not None
    assert sample(second, "dqm_window_p_value", stream="chamber-1") == page.last.result.p
    assert sample(second, "dqm_windows_total", stream="chamber-1", quality="Good") == 0.0
    with Sender(address) as sender:
        after = judge(second, sender, window_of(seq=1), window_of(seq=2))
    assert after[0] is None
    assert sample(second, "dqm_duplicate_windows_total", stream="chamber-1") == 1
    assert stored(tmp_path) == [*before, after[1]]


@pytest.mark.parametrize("away", [5.0, 7200.0])
def test_after_a_restart_silence_counts_on_and_the_page_believes_no_old_window(
    open_daemon: Open, sender: Sender, away: float
) -> None:
    now = 1e9

    def clock() -> float:
        return now

    def wait(daemon: Daemon, seconds: float) -> None:
        nonlocal now
        for _ in range(int(seconds)):
            now += 1.0
            daemon.step(0)

    first = open_daemon(stream="stale_seconds = 45.0", clock=clock, monotonic=clock)
    judge(first, sender, window_of())
    wait(first, 30.0)
    first.close()
    now += away
    second = open_daemon(stream="stale_seconds = 45.0", clock=clock, monotonic=clock)
    page = second._parts.statuses.find("chamber-1")
    believed = Quality.GOOD if away < 15.0 else Quality.NULL
    assert page.quality is quality_of(second, "chamber-1") is believed
    wait(second, 25.0)
    assert second._parts.alarms.silent_streams() == {}, "senders get 30 s to come back"
    wait(second, 10.0)
    assert set(second._parts.alarms.silent_streams()) == {"chamber-1"}
    assert quality_of(second, "chamber-1") is Quality.NULL


def test_a_stream_that_was_silent_is_so_for_page_and_alarms_after_a_restart_that_allows_more_time(
    open_daemon: Open, sender: Sender
) -> None:
    now = 1e9

    def clock() -> float:
        return now

    first = open_daemon(stream="stale_seconds = 45.0", clock=clock, monotonic=clock)
    judge(first, sender, window_of())
    for _ in range(50):
        now += 1.0
        first.step(0)
    first.close()
    second = open_daemon(stream="stale_seconds = 4500.0", clock=clock, monotonic=clock)
    silent = second._parts.alarms.silent_streams()
    page = second._parts.statuses.find("chamber-1")
    assert (page.quality, page.reason, page.is_known) == (Quality.NULL, silent["chamber-1"], False)


def test_a_stream_may_ask_for_more_events(open_daemon: Open, sender: Sender) -> None:
    daemon = open_daemon(stream="min_events = 61")
    (verdict,) = judge(daemon, sender, window_of())
    assert verdict is not None
    assert verdict.reason == "60 events, fewer than 61"


def test_a_daemon_that_cannot_start_leaves_its_address_free(
    open_daemon: Open, sender: Sender, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = tmp_path / "daemon.toml"
        open_daemon().close()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127.0.0.1:{port} is already in use"):
            Daemon(load_daemon(config, {"daemon.http": f"127.0.0.1:{port}"}, {}))
    assert judge(open_daemon(), sender, window_of()) != [None]


def test_a_second_daemon_at_one_address_is_refused(open_daemon: Open) -> None:
    open_daemon()
    with pytest.raises(ConfigError, match="is already in use"):
        open_daemon()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("data_dir = 'daemon.toml'", r"daemon\.toml: cannot make the data directory: .*\. Set"),
        ("data_dir = '/proc/none'", "/proc/none: cannot make the data directory"),
    ],
)
def test_a_daemon_that_cannot_keep_verdicts_does_not_start(
    open_daemon: Open, setting: str, message: str
) -> None:
    with pytest.raises(StoreError, match=message):
        open_daemon(settings=setting)


def test_a_missing_bundle_stops_the_daemon_before_it_starts(open_daemon: Open, tmp_path: Path) -> None:
    open_daemon().close()
    config = load_daemon(tmp_path / "daemon.toml", {}, {})
    lost = config.streams[0].model_copy(update={"bundle": tmp_path / "lost.dqmref"})
    with pytest.raises(BundleError, match=r"lost\.dqmref: no reference bundle"):
        Daemon(config.model_copy(update={"streams": (lost,)}))
