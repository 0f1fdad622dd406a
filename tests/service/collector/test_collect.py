"""The collector's loop, from a source to a real receiver."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
from pydantic import BaseModel
from structlog.testing import capture_logs

from dqm.config import load_collector
from dqm.errors import ConfigError, InputError, NoEventsError
from dqm.events import EventBatch, Origin, Window, WindowCut
from dqm.service.collector import collect as collecting
from dqm.service.collector.collect import CollectSummary, collect
from dqm.service.sd_notify import Notifier
from dqm.stream import Receiver, RunMessage, Sender
from tests.service.small import FEATURES, healthy_events, wait_until, window_of, write_csv

NEVER = Event()
STREAMS = '[streams]\n0 = "chamber-1"\n2 = "chamber-2"\n'


class Endless:
    """A live source without end, for the entry-point group of collectors."""

    origin = Origin.LIVE

    class Options(BaseModel):
        stop_after: int

    n_batches = 0
    stop = Event()

    def __init__(self, options: Options) -> None:
        self.options = options

    def __iter__(self) -> Iterator[EventBatch]:
        Endless.n_batches = 0
        while True:
            Endless.n_batches += 1
            if Endless.n_batches == self.options.stop_after:
                Endless.stop.set()
            yield EventBatch("0", FEATURES, np.zeros((10, 2)))


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/windows.ipc"


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> type[Endless]:
    point = EntryPoint("endless", f"{__name__}:Endless", "dqm.collectors")
    monkeypatch.setattr(
        "dqm.config.plugins.entry_points", lambda group: [point] if group == point.group else []
    )
    monkeypatch.setattr(Endless, "stop", Event())
    return Endless


@contextmanager
def receiving(address: str) -> Iterator[list[Window]]:
    """Take in windows until the block ends and no more come."""
    received: list[Window] = []
    done = Event()

    def receive(receiver: Receiver) -> None:
        while (window := receiver.receive(100)) or not done.is_set():
            if isinstance(window, RunMessage):
                receiver.answer_run(window)
            elif window:
                assert isinstance(window, Window)
                received.append(window)
                receiver.acknowledge(window)

    with Receiver([address]) as receiver:
        thread = Thread(target=receive, args=[receiver])
        thread.start()
        try:
            yield received
        finally:
            done.set()
            thread.join()


def test_windows_that_nobody_judged_count_as_lost(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Receiver, "acknowledge", lambda *_: None)
    monkeypatch.setattr(collecting, "DELIVERY_SECONDS", 0.3)
    write_csv(tmp_path / "events.csv", healthy_events(130, 1), ["0"] * 130)
    with receiving(address) as windows:
        told = run(
            tmp_path,
            address,
            f'[window]\nevents = 60\n[options]\ninputs = ["events.csv"]\n{STREAMS}',
            collector='[collector]\nname = "replay"\nrun = 591\n',
        )
    assert len(windows) == 2
    assert (told.n_sent, told.n_lost) == (2, 2)


def run(folder: Path, address: str, text: str, *, stop: Event = NEVER, collector: str = "") -> CollectSummary:
    path = folder / "collector.toml"
    path.write_text(f'{collector}connect = "{address}"\n{text}')
    return collect(load_collector(path, environ={}), path.parent, stop, clock=lambda: 1700000000.9)


def test_a_replayed_file_arrives_as_numbered_windows(tmp_path: Path, address: str) -> None:
    x = healthy_events(250, 1)
    chambers = ["0" if i % 5 else "2" for i in range(250)]
    write_csv(tmp_path / "events.csv", x, chambers)
    with receiving(address) as windows:
        told = run(
            tmp_path,
            address,
            f'[window]\nevents = 60\n[options]\ninputs = ["events.csv"]\n{STREAMS}',
            collector='[collector]\nname = "replay"\nrun = 591\nrun_type = "cosmics"\n',
        )
    assert told == CollectSummary(run=591, n_events=250, n_windows=3, n_sent=3, n_lost=0, n_left=70)
    assert [(w.stream, w.run, w.seq) for w in windows] == [
        ("chamber-1", 591, 0),
        ("chamber-1", 591, 1),
        ("chamber-1", 591, 2),
    ]
    assert {(w.origin, w.run_type, w.cut, w.n_lost) for w in windows} == {
        (Origin.REPLAYED, "cosmics", WindowCut.COUNT, 0)
    }
    sent = x[[chamber == "0" for chamber in chambers]][:180]
    np.testing.assert_array_equal(np.concatenate([w.x for w in windows]), sent)


def test_a_simulation_cut_by_time_expects_rate_times_live_time(tmp_path: Path, address: str) -> None:
    with receiving(address) as windows:
        told = run(
            tmp_path,
            address,
            "[window]\nseconds = 2.0\nexpected_rate_hz = 50.0\n"
            f"[options]\nchambers = [0, 2]\nseconds = 5.0\nrate_hz = 60.0\n{STREAMS}",
            collector='[collector]\nname = "simulate"\n',
        )
    assert told.run == 1700000000
    assert (told.n_windows, told.n_sent, told.n_lost) == (6, 6, 0)
    for stream in ("chamber-1", "chamber-2"):
        mine = [w for w in windows if w.stream == stream]
        assert [(w.seq, w.run, w.live_seconds, w.n_expected) for w in mine] == [
            (0, told.run, 2.0, 100.0),
            (1, told.run, 2.0, 100.0),
            (2, told.run, 1.0, 50.0),
        ]
        assert {w.origin for w in mine} == {Origin.SIMULATED}
        assert all(0 < len(w.x) < 250 for w in mine)
    assert told.n_events == sum(len(w.x) for w in windows)
    assert told.n_left == 0


def test_paths_start_from_the_configuration(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_csv(tmp_path / "events.csv", healthy_events(20, 1))
    (tmp_path / "configs").mkdir()
    monkeypatch.chdir("/")
    with receiving(address) as windows:
        run(
            tmp_path / "configs",
            address,
            '[window]\nevents = 10\n[options]\ninputs = ["../events.csv"]\n',
            collector='[collector]\nname = "replay"\n',
        )
    assert [w.seq for w in windows] == [0, 1]


REPLAY = '[window]\nevents = 10\n[options]\ninputs = ["events.csv"]\n'
WITHOUT_ROOM = '[collector]\nname = "replay"\nbuffer_windows = 1\n'


def test_a_replay_waits_for_the_daemon(tmp_path: Path, address: str) -> None:
    write_csv(tmp_path / "events.csv", healthy_events(100, 1))
    told: list[CollectSummary] = []
    thread = Thread(
        target=lambda: told.append(run(tmp_path, address, REPLAY, collector=WITHOUT_ROOM)), daemon=True
    )
    thread.start()
    thread.join(0.5)
    assert thread.is_alive()
    with receiving(address) as windows:
        thread.join(60)
    assert (told[0].n_sent, told[0].n_lost) == (10, 0)
    assert [w.seq for w in windows] == list(range(10))


def test_a_waiting_replay_can_be_stopped_and_tells_what_was_lost(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "DELIVERY_SECONDS", 0.1)
    write_csv(tmp_path / "events.csv", healthy_events(104, 1))
    stop = Event()
    stop.set()
    told = run(tmp_path, address, REPLAY, stop=stop, collector=WITHOUT_ROOM)
    assert (told.n_events, told.n_windows, told.n_sent, told.n_lost, told.n_left) == (104, 10, 0, 10, 4)


def test_a_live_source_never_waits(
    tmp_path: Path, address: str, endless: type[Endless], monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    confirm = Sender.confirm

    def count(self: Sender, seconds: float) -> bool:
        waits.append(endless.n_batches)
        return confirm(self, seconds)

    monkeypatch.setattr(Sender, "confirm", count)
    monkeypatch.setattr(collecting, "DELIVERY_SECONDS", 0.1)
    told = run(
        tmp_path,
        address,
        "[window]\nevents = 10\n[options]\nstop_after = 200\n",
        stop=endless.stop,
        collector='[collector]\nname = "endless"\nbuffer_windows = 5\n',
    )
    assert waits == [200]
    assert (told.n_windows, told.n_sent, told.n_lost) == (200, 0, 200)


def write_words(path: Path, n: int, *, head: int = 2) -> Path:
    """A vertical muon every millisecond; every tenth has a scintillator word."""
    muon = [(31, 97), (30, 97), (33, 292), (32, 292)]  # channel and ns: layers 1, 3, 2, 4
    rows = ["HEAD,FPGA,TDC_CHANNEL,ORBIT_CNT,BX_COUNTER,TDC_MEAS"]
    for i in range(n):
        rows += [f"{head},0,{c},{12 * i},{100 + ns // 25},{ns % 25 * 30 // 25}" for c, ns in muon]
        rows += [f"{head},0,128,{12 * i},101,3"] * (i % 10 == 0)
    path.write_text("\n".join(rows))
    return path


def test_what_is_read_and_left_out_is_logged_and_sent_with_the_windows(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "LOG_SECONDS", 0.0)
    monkeypatch.setattr(collecting, "POLL_SECONDS", 0.01)
    write_words(tmp_path / "run.csv", 2000)
    text = '[window]\nevents = 500\n[options]\ninputs = ["run.csv"]\nbatch_seconds = 0.1\nchambers = [0]\n'
    wait_for_answers = collecting._wait_for_answers

    def wait(*given: object) -> bool:
        wait_until(lambda: any(entry["event"] == "read so far" for entry in logs), "a line in the log")
        return wait_for_answers(*given)

    monkeypatch.setattr(collecting, "_wait_for_answers", wait)
    with receiving(address) as windows, capture_logs() as logs:
        told = run(tmp_path, address, text, collector='[collector]\nname = "tdc"\nrun = 1\n')
    assert told.n_events > 1000
    counts = {"words": 8200, "hits": 8000, "left_out_other_channel": 200}
    assert [w.conditions["other_words_share"] for w in windows] == pytest.approx(
        [200 / 8200] * len(windows), rel=0.01
    )
    found = [entry for entry in logs if entry.get("words") == 8200]
    assert {entry["event"] for entry in found} >= {"read so far", "run ended"}
    assert all(entry.items() >= {"run": 1, **counts}.items() for entry in found)


def test_a_source_without_any_event_is_no_success(tmp_path: Path, address: str) -> None:
    text = '[window]\nevents = 500\n[options]\ninputs = ["run.csv"]\n'
    write_words(tmp_path / "run.csv", 0)
    with pytest.raises(NoEventsError, match="collector tdc: the source ended without any event"):
        run(tmp_path, address, text, collector='[collector]\nname = "tdc"\nrun = 1\n')
    write_words(tmp_path / "run.csv", 10, head=1)
    with pytest.raises(NoEventsError, match='convention = "2018" would fit'):
        run(tmp_path, address, text, collector='[collector]\nname = "tdc"\nrun = 1\n')


def test_told_to_stop_it_ends_after_the_batch_and_delivers(
    tmp_path: Path, address: str, endless: type[Endless]
) -> None:
    with receiving(address) as windows:
        told = run(
            tmp_path,
            address,
            "[window]\nevents = 25\n[options]\nstop_after = 8\n",
            stop=endless.stop,
            collector='[collector]\nname = "endless"\n',
        )
        wait_until(lambda: len(windows) == 3, "three windows")
    assert told == CollectSummary(run=1700000000, n_events=80, n_windows=3, n_sent=3, n_lost=0, n_left=5)


def test_a_live_run_goes_on_where_its_spool_ends(
    tmp_path: Path, address: str, endless: type[Endless], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "DELIVERY_SECONDS", 0.1)
    text = "[window]\nevents = 10\n[options]\nstop_after = 3\n"
    spooled = '[collector]\nname = "endless"\nrun = 7\nspool = "spool"\n'
    told = run(tmp_path, address, text, stop=endless.stop, collector=spooled)
    assert (told.n_windows, told.n_sent, told.n_lost, told.n_spooled) == (3, 0, 0, 3)
    monkeypatch.setattr(collecting, "DELIVERY_SECONDS", 10.0)
    monkeypatch.setattr(Endless, "stop", Event())
    with receiving(address) as windows:
        told = run(tmp_path, address, text, stop=endless.stop, collector=spooled)
    assert (told.n_windows, told.n_sent, told.n_lost, told.n_spooled) == (3, 6, 0, 0)
    assert [(w.run, w.seq) for w in windows] == [(7, seq) for seq in range(6)]


@pytest.mark.usefixtures("endless")
def test_windows_are_sent_again_while_the_source_is_silent(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = Event()

    def batches(_: Endless) -> Iterator[EventBatch]:
        yield EventBatch("0", FEATURES, np.zeros((10, 2)))
        silent.wait(120)

    monkeypatch.setattr(Endless, "__iter__", batches)
    text = "[window]\nevents = 10\n[options]\nstop_after = 0\n"
    told: list[CollectSummary] = []
    config = '[collector]\nname = "endless"\n'
    thread = Thread(target=lambda: told.append(run(tmp_path, address, text, collector=config)))
    thread.start()
    try:
        for forgets in (True, False):  # the first daemon goes away without having judged anything
            with Receiver([address]) as receiver:
                begun, window = receiver.receive(60_000), receiver.receive(60_000)
                assert isinstance(begun, RunMessage)
                assert isinstance(window, Window)
                if not forgets:
                    receiver.acknowledge(window)  # so the begin, which came before, is known as well
                    silent.set()
                    ended = receiver.receive(60_000)
                    assert isinstance(ended, RunMessage)
                    receiver.answer_run(ended)
                    thread.join(60)
    finally:
        silent.set()
        thread.join()
    assert (told[0].n_sent, told[0].n_lost) == (1, 0)


def test_the_service_manager_hears_how_the_run_goes(tmp_path: Path, address: str) -> None:
    told: list[str] = []

    class Listening(Notifier):
        def _send(self, message: str) -> bool:
            told.append(message)
            return True

    write_csv(tmp_path / "events.csv", healthy_events(30, 1))
    (tmp_path / "collector.toml").write_text(
        f'[collector]\nname = "replay"\nrun = 7\nconnect = "{address}"\n{REPLAY}'
    )
    config = load_collector(tmp_path / "collector.toml", environ={})
    with Receiver([address]) as receiver:
        thread = Thread(target=collect, args=[config, tmp_path, NEVER], kwargs={"notifier": Listening({})})
        thread.start()
        wait_until(lambda: any("3 not judged yet" in line for line in told), "a status")
        for _ in range(5):
            message = receiver.receive(60_000)
            if isinstance(message, RunMessage):
                receiver.answer_run(message)
            else:
                assert isinstance(message, Window)
                receiver.acknowledge(message)
        thread.join(60)
    assert told[0] == "READY=1"
    assert any(line.startswith("STATUS=run 7: ") for line in told)
    assert "STOPPING=1" in told


@pytest.mark.parametrize(
    ("n_windows", "text"),
    [
        (0, "run 7: 0 windows sent, 0 not judged yet, 0 lost"),
        (1, "run 7: 1 window sent, 1 not judged yet, 0 lost"),
        (2, "run 7: 2 windows sent, 2 not judged yet, 0 lost"),
    ],
)
def test_counts_in_the_status_agree_with_their_nouns(n_windows: int, text: str, address: str) -> None:
    with Receiver([address]), Sender(address) as sender:
        for seq in range(n_windows):
            sender.send(window_of(seq=seq))
        assert sender.flush(10.0)
        assert collecting._describe(sender, 7) == text


@pytest.mark.parametrize(
    ("collector", "text", "error", "message"),
    [
        (
            "nothing",
            "",
            ConfigError,
            "unknown collector 'nothing'. Installed: beam, files, histograms, kafka, replay, simulate, tdc",
        ),
        ("replay", "", ConfigError, r"\[options\]: inputs: must be given"),
        ("replay", "input = ['x']", ConfigError, "did you mean 'inputs'"),
        ("replay", "inputs = ['none.csv']", InputError, r"none\.csv: .*No such file"),
        ("simulate", "chambers = [4]", ConfigError, r"chambers\[0\]: .*less than 4, got 4"),
    ],
)
def test_a_source_that_cannot_be_used_is_named(
    tmp_path: Path, address: str, collector: str, text: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(
            tmp_path,
            address,
            f"[window]\nevents = 10\n[options]\n{text}\n",
            collector=f'[collector]\nname = "{collector}"\n',
        )
