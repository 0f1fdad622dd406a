"""``dqm collect`` from files that grow: writer and collector are killed, and no row is lost or sent twice."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
import uproot

from dqm.config import load_collector
from dqm.errors import ConfigError
from dqm.events import RunEvent, RunNotice, Window
from dqm.service.collector.collect import collect
from dqm.stream import Receiver, RunMessage
from tests.stream.forgetful import receiving
from tests.waiting import wait_until

PROGRAM = Path(sys.executable).with_name("dqm")
WAIT_SECONDS = 120.0
WINDOW = 40
WRITER = """
import sys, time
import numpy as np
import uproot

folder, run = sys.argv[1], int(sys.argv[2])
chance = np.random.default_rng(run)
with uproot.recreate(f"{folder}/run{run}_cosmics.root") as file:
    file.mktree("daq/events", {"number": np.float64, "half": np.float64})
    n = 0
    while n < int(sys.argv[3]):
        k = int(chance.integers(1, 60))
        number = run * 1e6 + np.arange(n, n + k)
        file["daq/events"].extend({"number": number, "half": number / 2})
        n += k
        time.sleep(chance.uniform(0, 0.02))
"""
CONFIG = """
[collector]
name = "files"
connect = "ipc://{folder}/w"
[window]
events = 40
[options]
inputs = ["{folder}/data"]
state = "{folder}/state.json"
name_pattern = 'run(?P<run>\\d+)_(?P<run_type>[a-z]+)\\.root'
tree = "daq/events"
batch_rows = 7
poll_seconds = 0.1
patience_seconds = 1.0
columns = {{ number = "number", half = {{ column = "half", scale = 2.0 }} }}
derive = {{ zero = "half - number" }}
[streams]
0 = "left"
"""


def configured(folder: Path) -> Path:
    (folder / "data").mkdir(exist_ok=True)
    path = folder / "collector.toml"
    path.write_text(CONFIG.format(folder=folder))
    return path


def readable(path: Path) -> int:
    """Entries that a file has which nobody writes; -1 if its writer was killed while it wrote its header."""
    try:
        with uproot.open(path) as file:
            return len(file["daq/events"]["number"].array(library="np"))
    except (ValueError, OSError, KeyError):
        return -1


@contextmanager
def collecting(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (config.parent / "log").open("ab") as log:
        process = subprocess.Popen([PROGRAM, "collect", config], stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("n_kills", [2, pytest.param(25, marks=pytest.mark.long)])
def test_no_entry_is_lost_or_sent_twice_by_a_killed_collector_and_writer(
    tmp_path: Path, n_kills: int
) -> None:
    chance = np.random.default_rng(n_kills)
    config = configured(tmp_path)
    with receiving(f"ipc://{tmp_path}/w", chance) as received:
        for run in range(1, n_kills + 1):
            writer = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path / "data", str(run), "4000"])
            try:
                with collecting(config):
                    n = len(received)
                    wait_until(lambda n=n: len(received) > n + 2, (tmp_path / "log").read_text, WAIT_SECONDS)
                    time.sleep(chance.uniform(0.0, 0.7))  # the kill comes at any moment
            finally:
                writer.kill()
                writer.wait()
        last = [sys.executable, "-c", WRITER, tmp_path / "data", str(n_kills + 1), "1000"]
        subprocess.run(last, check=True)
        sizes = {run: readable(tmp_path / "data" / f"run{run}_cosmics.root") for run in range(1, n_kills + 2)}
        n_last = (sizes[n_kills + 1] // 7) * 7 // WINDOW

        def last_of(received: list[Window]) -> set[int]:
            return {w.seq for w in received if w.run == n_kills + 1}

        with collecting(config):
            wait_until(
                lambda: len(last_of(received)) >= n_last, (tmp_path / "log").read_text, WAIT_SECONDS * n_kills
            )
    whole = {(w.run, w.seq): w for w in received}
    assert all(whole[w.run, w.seq].digest == w.digest for w in received)
    assert {(w.stream, w.run_type, w.names) for w in received} == {
        ("left", "cosmics", ("number", "half", "zero"))
    }
    for run, n_entries in sizes.items():
        windows = [whole[key] for key in sorted(whole) if key[0] == run]
        numbers_of_windows = [w.seq for w in windows]
        assert numbers_of_windows == list(range(len(windows))), (tmp_path / "log").read_text()[-20_000:]
        numbers = np.concatenate([np.empty(0), *(w.x[:, 0] for w in windows)])
        assert np.array_equal(numbers, run * 1e6 + np.arange(len(numbers)))
        assert all((w.x[:, 1] == w.x[:, 0]).all() and not w.x[:, 2].any() for w in windows)
        if n_entries >= 0 and run <= n_kills:
            assert len(windows) == n_entries // WINDOW
    print(  # noqa: T201
        f"{n_kills} kills of each: {len(whole)} windows of {len(sizes)} runs, {len(received)} arrivals, "
        f"{sum(n < 0 for n in sizes.values())} files without a readable header, 0 lost, 0 twice"
    )


def write_runs(folder: Path) -> None:
    for run in (9, 10):
        rows = "".join(f"{run * 1e6 + k},{k / 2}\n" for k in range(100))
        (folder / "data" / f"run{run}_cosmics.csv").write_text(f"number,half\n{rows}")


def of_text(text: str) -> str:
    """Let a configuration read text, which takes no process of its own."""
    return text.replace(r"\.root", r"\.csv").replace('tree = "daq/events"\n', "")


@contextmanager
def collected_here(config: Path) -> Iterator[tuple[list[Window], list[RunNotice], Thread]]:
    """Collect in a thread, and acknowledge what comes."""
    windows: list[Window] = []
    notices: list[RunNotice] = []
    over, stop = Event(), Event()

    def receive() -> None:
        with Receiver([f"ipc://{config.parent}/w"]) as receiver:
            while not over.is_set():
                message = receiver.receive(20)
                if isinstance(message, Window):
                    windows.append(message)
                    receiver.acknowledge(message)
                elif isinstance(message, RunMessage):
                    notices.append(message.notice)
                    receiver.answer_run(message)

    receiver = Thread(target=receive)
    collector = Thread(target=collect, args=(load_collector(config, environ={}), config.parent, stop))
    receiver.start()
    collector.start()
    try:
        yield windows, notices, collector
    finally:
        stop.set()
        collector.join()
        over.set()
        receiver.join()


RUNS = [(run, seq, "cosmics") for run in (9, 10) for seq in (0, 1)]
BORDERS = [(9, RunEvent.BEGIN), (9, RunEvent.END), (10, RunEvent.BEGIN)]


def test_a_run_is_ended_when_the_next_one_begins(tmp_path: Path) -> None:
    config = configured(tmp_path)
    config.write_text(of_text(config.read_text()))
    write_runs(tmp_path)
    with collected_here(config) as (windows, notices, _):
        wait_until(lambda: len(windows) >= 4 and len(notices) >= 3, "windows and notices")
    assert [(w.run, w.seq, w.run_type) for w in windows] == RUNS
    assert [(n.run, n.event) for n in notices] == BORDERS
    assert notices[1].why == "the next run began"


def test_the_last_window_in_time_of_a_run_comes_when_the_next_one_begins(tmp_path: Path) -> None:
    config = configured(tmp_path)
    timed = of_text(config.read_text()).replace("events = 40", "seconds = 40\nexpected_rate_hz = 1")
    config.write_text(timed.replace("columns = {", 'columns = { time = "clock",'))
    for run in (9, 10):
        rows = "".join(f"{1000 * run + k},{k},{k / 2}\n" for k in range(105))
        (tmp_path / "data" / f"run{run}_cosmics.csv").write_text(f"clock,number,half\n{rows}")
    with collected_here(config) as (windows, notices, _):
        wait_until(lambda: len(windows) >= 5 and len(notices) >= 3, "windows and notices")
    assert [(w.run, w.seq, w.n_events) for w in windows] == [
        (9, 0, 40), (9, 1, 40), (9, 2, 25), (10, 0, 40), (10, 1, 40)
    ]  # fmt: skip


def test_a_replay_of_run_files_has_their_runs(tmp_path: Path) -> None:
    config = configured(tmp_path)
    text = of_text(config.read_text()).replace('name = "files"', 'name = "replay"')
    own = ("state", "batch_rows", "poll_seconds", "patience_seconds")
    config.write_text("\n".join(line for line in text.splitlines() if not line.startswith(own)))
    write_runs(tmp_path)
    with collected_here(config) as (windows, notices, collector):
        collector.join(WAIT_SECONDS)
    assert [(w.run, w.seq, w.run_type) for w in windows] == RUNS
    assert [(n.run, n.event) for n in notices] == [*BORDERS, (10, RunEvent.END)]


def test_a_run_number_beside_those_of_the_files_is_refused(tmp_path: Path) -> None:
    config = configured(tmp_path)
    config.write_text(config.read_text().replace('name = "files"', 'name = "files"\nrun = 7'))
    with pytest.raises(
        ConfigError, match=r"\[collector\] run: run is 7, but the names of the files give the runs"
    ):
        collect(load_collector(config, environ={}), tmp_path, Event())
