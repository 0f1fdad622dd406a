"""What goes wrong with every command: a message, a documented exit code, no traceback, no half of a file."""

from __future__ import annotations

import functools
import io
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from types import FrameType
from typing import Self

import numpy as np
import pytest

from dqm.alarm import AddMask, Cause, ShelveAlarm
from dqm.cli import entry
from dqm.cli.entry import INTERRUPTED
from dqm.cli.main import COMMANDS, READER_GONE, load_command
from dqm.events import Window
from dqm.store import STORE_FILE
from dqm.stream import Receiver, RunMessage
from dqm.web import HttpServer, create_app
from tests.export.grafana_server import TOKEN, FakeGrafana, serve
from tests.faults.conftest import mounted
from tests.service.small import N_WINDOW, faulty_events, healthy_events, write_csv
from tests.world import PASSWORDS, make_world, verdict_of

from .conftest import Told
from .program import call_dqm

Dqm = Callable[..., Told]
Words = Callable[[str], list[str]]

BUILD = f"--events 100 --window {N_WINDOW} --centers 20"
WRONG_INPUT = """
init west --collector replay --input events.csv --run EVENTS
doctor CONFIG
demo --directory DIRECTORY
study power DIRECTORY --quick --statistic chi-squared --processes 1
run CONFIG
collect CONFIG
check CONFIG
history CONFIG
history STORE
trend CONFIG
trend STORE
extract beam EVENTS -o out.parquet
extract replay EVENTS -o out.parquet
extract tdc EVENTS -o out.parquet
compare BUNDLE events.csv
compare bundle EVENTS
hunt EVENTS
hunt events.csv EVENTS --fractions 0.1,0.3
report CONFIG
report STORE
report BUNDLE
flags CONFIG
flags STORE
plot CONFIG -o out.png
plot STORE -o out.png
reference build EVENTS -o out --events 10 --window 10
reference channels EVENTS -o out --seconds 5
reference calibrate BUNDLE --toys 100
reference show BUNDLE
reference nuisance BUNDLE gas --rate
reference nuisance bundle gas --at 1=EVENTS
reference validate BUNDLE
reference validate bundle --at gas:1=EVENTS
reference validate bundle --later EVENTS
reference advise EVENTS
reference tune EVENTS --window 10
reference tune BUNDLE
reference build --from CONFIG --stream s --runs 1-3 -o out --window 10
reference build events.csv --like BUNDLE -o out
reference templates BUNDLE --fault late=events.csv
reference templates bundle --fault late=EVENTS
alarms list CONFIG
alarms history CONFIG
alarms ack CONFIG chamber-2 differs -c why
alarms ack-group CONFIG muon differs -c why
alarms shelve CONFIG chamber-2 differs -r why --hours 1
alarms unshelve CONFIG chamber-2 differs -c why
alarms accept CONFIG chamber-2 -c why
alarms masks CONFIG
alarms mask CONFIG muon/* -r why
alarms unmask CONFIG 3f9a -c why
certify list CONFIG
certify amend CONFIG good --run 7 -c why
certify label CONFIG trip --run 7 -c why
certify withdraw CONFIG 3 --run 7 -c why
certify sign CONFIG --run 7 -c why
certify export CONFIG --run 7
study clipping EVENTS -o out --window 10
dashboards push --url http://127.0.0.1:1 --token-file TOKEN
notify test CONFIG
run-control begin --run 7 --type physics --key KEY --daemon-key KEY
run-control end --run 7 --type physics --key KEY --daemon-key KEY
keys new west --dir DIRECTORY
store backup STORE copy
store restore new.sqlite COPY
store compact STORE
users add maria -f USERS
users role maria shifter -f USERS
users remove maria -f USERS
users list -f USERS
""".strip().splitlines()
"""Command lines; a word in capitals is an input that cannot be used."""

SUFFIXES = {"CONFIG": ".toml", "USERS": ".toml", "EVENTS": ".csv", "STORE": ".sqlite"}
WORKING = f"""
check config.toml
collect collector.toml --set collector.connect=DAEMON
history verdicts.sqlite
trend verdicts.sqlite
extract replay events.csv -o out.parquet
compare bundle events.csv --window {N_WINDOW}
hunt events.csv faulty.csv --fractions 0.1,0.9
report verdicts.sqlite -o out.html
flags verdicts.sqlite
plot verdicts.sqlite -o out.png
reference build events.csv -o out.dqmref {BUILD}
reference channels hits.csv -o out.dqmref --seconds 1
reference calibrate mine --toys 100 --processes 1
reference show bundle
reference nuisance mine gas --sigma 0.1 --rate
reference validate bundle --toys 50 --processes 1
reference advise events.csv --window 20
reference tune bundle
reference templates mine --fault late=faulty.csv
alarms list URL
alarms history URL
alarms ack URL chamber-2 differs -c why
alarms ack-group URL muon differs -c why
alarms shelve URL chamber-2 differs -r why --hours 1
alarms unshelve URL chamber-2 drift -c why
alarms accept URL chamber-2 -c why
alarms masks URL
alarms mask URL chamber-1 -r why
alarms unmask URL MASK -c why
dashboards push --url GRAFANA --token-file token
dashboards path
run-control begin --run 7 --type physics --connect DAEMON
run-control end --run 7 --type physics --connect DAEMON
keys new west --dir keys
store backup verdicts.sqlite copy
store restore new.sqlite verdicts.sqlite
store compact verdicts.sqlite
users add maria -f new.toml
users role maria shifter -f users.toml
users remove maria -f users.toml
users list -f users.toml
""".strip().splitlines()
"""Command lines that do something and say so."""

COSTLY = (
    *(f"reference {what}" for what in ("validate", "build", "calibrate", "tune", "advise", "templates")),
    "hunt",
    "study power",
)


def each(lines: list[str]) -> list[object]:
    """Command lines as parameters of a test; those that compute are slow."""
    return [pytest.param(line, marks=pytest.mark.slow if line.startswith(COSTLY) else ()) for line in lines]


ELSEWHERE = {
    *("demo", "run", "notify test", "study clipping", "study power", "init", "doctor"),
    *(f"certify {what}" for what in ("list", "amend", "label", "withdraw", "sign", "export")),
}
"""The first two go on until they are stopped: see ``test_stopping.py``; the others are in ``test_notice.py``,
``test_study.py``, ``test_init.py``, ``test_certify.py`` and ``tests/service/doctor``."""


@functools.cache
def all_commands() -> set[str]:
    """Every command that can be called, groups walked through."""
    found = set()
    for name in COMMANDS:
        command = load_command(name)
        found |= {f"{name} {inner}" for inner in getattr(command, "commands", {})} or {name}
    return found


def write_hits(path: Path) -> None:
    """Hits of 8 channels in 60 windows of 1 s."""
    hits = np.random.default_rng(1).poisson(40.0, (60, 8))
    rows = (f"{time + 0.5},{channel},{hits[time, channel]}" for time in range(60) for channel in range(8))
    path.write_text("\n".join(["time,channel,hits", *rows]) + "\n")


def command_of(line: str) -> str:
    first, second, *_ = line.split()
    return f"{first} {second}" if f"{first} {second}" in all_commands() else first


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def here(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory with a bundle and events; nothing else is known."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse\n"))
    (tmp_path / "bundle").symlink_to(bundle)
    write_csv(tmp_path / "events.csv", healthy_events(4 * N_WINDOW, 1))
    return tmp_path


def spoil(folder: Path, word: str, kind: str) -> Path:
    """Make an input that cannot be used."""
    path = folder / f"wrong{SUFFIXES.get(word, '')}"
    is_directory = word in ("BUNDLE", "DIRECTORY")
    noise = np.random.default_rng(1).bytes(5000)
    match kind:
        case "empty" if is_directory:
            path.mkdir()
        case "empty":
            path.touch(0o600)
        case "garbage" if word == "BUNDLE":
            path.mkdir()
            (path / "manifest.json").write_bytes(noise)
        case "garbage":
            path.write_bytes(noise)
            path.chmod(0o600)
        case "the other" if is_directory:
            path.write_bytes(b"")
        case "the other":
            path.mkdir()
    return path


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("study power new/folder --quick --statistic none", "unknown statistic 'none'"),
        ("study clipping events.csv -o new/folder --window 5000", "events"),
        ("demo --real events.csv --chamber none --directory new/folder", "no events of chamber none"),
        ("demo --real none.csv --directory new/folder", "none.csv"),
        ("init new/folder/west --collector replay --input events.csv --run events.csv --features c", "'c'"),
        ("init new/west --collector replay --input events.csv --run events.csv --window 100000", "events"),
        ("collect collector.toml --set collector.spool=new/spool --set collector.key=none "
         "--set collector.daemon_key=none", "none: the key cannot be read"),
        ("keys new a/b --dir new/keys", "not a valid name"),
        ("reference build events.csv -o new/x.dqmref --features c --window 20", "'c'"),
        ("reference build events.csv -o new/x.dqmref --window 100000", "events"),
    ],
)  # fmt: skip
def test_what_is_impossible_leaves_no_empty_folder(dqm: Dqm, here: Path, line: str, message: str) -> None:
    (here / "collector.toml").write_text(
        '[collector]\nname = "replay"\n[window]\nevents = 20\n[options]\ninputs = ["events.csv"]\n'
    )
    told = dqm(*line.split())
    assert told.code == 2, told
    assert message in told.err
    assert not (here / "new").exists()


def test_every_command_is_in_the_table() -> None:
    assert {command_of(line) for line in WRONG_INPUT} == all_commands() - {"dashboards path"}


@pytest.mark.parametrize("kind", ["empty", "garbage", "the other", "missing"])
@pytest.mark.parametrize("line", WRONG_INPUT)
def test_an_input_that_cannot_be_used_is_told(dqm: Dqm, here: Path, line: str, kind: str) -> None:
    (word,) = {part for part in line.replace("=", " ").split() if part.isupper()}
    path = spoil(here, word, kind)
    if word == "DIRECTORY" and kind in ("empty", "missing"):
        pytest.skip("an empty or missing directory can be used")
    if (command_of(line), kind) == ("users add", "missing") or (word, kind) == ("USERS", "empty"):
        pytest.skip("a new file of users, or an empty one, can be used")
    before = snapshot(here)
    told = dqm(*line.replace(word, str(path)).split())
    is_negative = line.startswith("check") or "the source has no events" in told.err
    assert told.code == (1 if is_negative else 2), told
    assert "Traceback" not in told.err
    assert str(path) in told.err, "which input it is"
    assert re.search("^error: |ended by an error", told.err, re.MULTILINE) or line.startswith("check")
    assert snapshot(here) == before


@pytest.fixture(scope="module")
def site(bundle: Path, bare: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that `WORKING` needs; tests work in copies of it."""
    folder = tmp_path_factory.mktemp("site")
    world = make_world(folder / STORE_FILE, {"muon": ["chamber-1", "chamber-2"]})
    world.judge(*(verdict_of("chamber-1", seq) for seq in range(5)))
    world.store.close()
    shutil.copytree(bundle, folder / "bundle")
    shutil.copytree(bare, folder / "mine")
    write_csv(folder / "events.csv", healthy_events(6 * N_WINDOW, 1))
    write_csv(folder / "faulty.csv", faulty_events(6 * N_WINDOW, 2))
    write_hits(folder / "hits.csv")
    (folder / "config.toml").write_text('[[streams]]\nname = "chamber-1"\nbundle = "bundle"\n')
    (folder / "token").touch(0o600)
    (folder / "token").write_text(TOKEN)
    (folder / "collector.toml").write_text(
        f'[collector]\nname = "replay"\nconnect = "ipc://none.ipc"\n[window]\nevents = {N_WINDOW}\n'
        '[options]\ninputs = ["events.csv"]\n'
    )
    return folder


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a daemon with a raised alarm, a shelved one and a mask."""
    (tmp_path / "daemon").mkdir()
    world = make_world(tmp_path / "daemon" / STORE_FILE, {"muon": ["chamber-1", "chamber-2"]})
    world.raise_alarm("chamber-2")
    world.alarm_service.apply(ShelveAlarm("chamber-2", Cause.DRIFT, "why", hours=1.0), "maria")
    world.alarm_service.apply(AddMask("3f9a", "muon/chamber-1", "gas leak"), "maria")
    monkeypatch.setenv("LOGNAME", "maria")
    monkeypatch.setenv("DQM_PASSWORD", PASSWORDS["maria"])
    app = create_app(world.metrics, lambda: 0.0, queries=world.queries, authenticator=world.authenticator())
    server = HttpServer(app, "127.0.0.1", 0)
    server.start()
    yield f"http://{server.address}"
    server.stop()
    world.store.close()


@pytest.fixture
def grafana() -> Iterator[str]:
    with serve(FakeGrafana()) as running:
        yield running.url


@pytest.fixture
def daemon_address(tmp_path: Path) -> Iterator[str]:
    """Where every window, begin and end of a run is acknowledged."""
    address, end = f"ipc://{tmp_path}/windows.ipc", Event()

    def answer() -> None:
        with Receiver([address]) as receiver:
            while not end.is_set():
                match receiver.receive(50):
                    case Window() as window:
                        receiver.acknowledge(window)
                    case RunMessage() as message:
                        receiver.answer_run(message)

    thread = Thread(target=answer)
    thread.start()
    yield address
    end.set()
    thread.join()


@pytest.fixture
def words(
    site: Path, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], list[str]]:
    """Give the words of a command line, and a fresh copy of the site as the working directory."""
    servers = {"URL": "url", "GRAFANA": "grafana", "DAEMON": "daemon_address"}
    addresses: dict[str, str] = {}

    def prepare(line: str) -> list[str]:
        copy = tmp_path / "site"
        shutil.rmtree(copy, ignore_errors=True)
        monkeypatch.chdir(shutil.copytree(site, copy))
        monkeypatch.setattr("sys.stdin", io.StringIO("correct horse\n"))
        for word in servers.keys() - addresses:
            if word in line:
                addresses[word] = request.getfixturevalue(servers[word])
        for word, address in addresses.items():
            line = line.replace(word, address)
        return line.replace("MASK", "3f9a").split()

    return prepare


WRITING = f"""
extract replay events.csv -o full/out.parquet
report verdicts.sqlite -o full/out.html
plot verdicts.sqlite -o full/out.png
hunt events.csv faulty.csv --fractions 0.1,0.9 --plot full/out.png
history verdicts.sqlite -o full/out.csv
history verdicts.sqlite -o full/out.parquet
trend verdicts.sqlite -o full/out.parquet
study power full --quick --statistic chi-squared --processes 1
reference build events.csv -o full/out.dqmref {BUILD}
reference calibrate full/mine --toys 100 --processes 1
reference nuisance full/mine gas --sigma 0.1 --rate
reference templates full/mine --fault late=faulty.csv
keys new west --dir full/keys
store backup verdicts.sqlite full/copy
store restore full/new.sqlite verdicts.sqlite
store compact full/verdicts.sqlite
users add maria -f full/new.toml
users role maria shifter -f full/users.toml
users remove maria -f full/users.toml
run config.toml --set daemon.data_dir=full/data --set daemon.http=127.0.0.1:0
collect collector.toml --set collector.spool=full/spool
""".strip().splitlines()
"""Command lines that write files, or begin to."""


@pytest.fixture(scope="module")
def full_disk(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A disk with a store, a bundle and users on it, and no room."""
    disk = tmp_path_factory.mktemp("disk") / "full"
    with mounted(disk, "-t", "tmpfs", "-o", "size=3m,mode=0700", "tmpfs"):
        for name in ("mine", STORE_FILE, "users.toml"):
            source = site / name
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, disk / name)
        with (disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
            while True:
                filler.write(bytes(4096))
        yield disk


@pytest.mark.parametrize("line", each(WRITING))
def test_a_full_disk_is_told_and_nothing_is_left_on_it(
    words: Words, capsys: pytest.CaptureFixture[str], full_disk: Path, line: str
) -> None:
    arguments = words(line)
    Path("full").symlink_to(full_disk)
    before = snapshot(full_disk)
    assert call_dqm(*arguments) == 2
    told = capsys.readouterr().err
    assert re.search("^error: |ended by an error", told, re.MULTILINE)
    assert {"full", "space"} & set(re.findall(r"\w+", told.replace("full/", "")))
    assert "Traceback" not in told
    left = {name for name, content in snapshot(full_disk).items() if before.get(name) != content}
    started = {"keys", "data", "data/verdicts.sqlite", "spool", "spool/windows.sqlite", "power.jsonl"}
    log = {f"{STORE_FILE}-shm", f"{STORE_FILE}-wal"}  # of SQLite
    assert not [name for name in left - started - log if not name.startswith("mine/toys-")]


def half_written() -> list[Path]:
    return [path for path in Path.cwd().rglob("*") if path.name.endswith((".tmp", ".new"))]


def test_every_command_works_in_the_table_or_elsewhere() -> None:
    assert {command_of(line) for line in WORKING} == all_commands() - ELSEWHERE


@pytest.mark.parametrize("line", each(WORKING))
def test_nothing_is_cut_off_in_a_narrow_terminal(
    words: Words, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    assert call_dqm(*words(line), columns=40) == 0
    told = capsys.readouterr().out
    assert told
    assert "…" not in told


@pytest.mark.parametrize("line", each(WORKING))
def test_a_reader_that_goes_away_ends_it_quietly(
    words: Words, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        assert call_dqm(*words(line)) == READER_GONE
    assert not {"Traceback", "error"} & set(capsys.readouterr().err.split())
    assert half_written() == []


@pytest.mark.parametrize("line", each(WORKING))
def test_output_to_a_full_disk_is_told(
    words: Words, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    with Path("/dev/full").open("w") as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        assert call_dqm(*words(line)) == 2
    told = capsys.readouterr().err
    assert re.search("^error: |ended by an error", told, re.MULTILINE)
    assert "standard output: cannot be written: No space left on device" in told
    assert "Traceback" not in told


PACKAGE = f"{Path(entry.__file__).parents[1]}/"
"""Directory of the modules of `dqm`; a checkout may have this name, too."""


class Interruption:
    """Ctrl-C at the n-th call of a function of `dqm`; 0: never."""

    def __init__(self, at: int) -> None:
        self.n_calls = 0
        self._at = at

    def __enter__(self) -> Self:
        sys.setprofile(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _count(self, frame: FrameType, event: str, _argument: object) -> None:
        name = frame.f_code.co_filename
        if event != "call" or not name.startswith(PACKAGE) or name.endswith("/cli/main.py"):
            return
        self.n_calls += 1
        if self.n_calls == self._at:
            sys.setprofile(None)
            raise KeyboardInterrupt


@pytest.mark.parametrize("line", each(WORKING))
def test_one_that_is_interrupted_half_way_says_so(
    words: Words, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    with Interruption(0) as whole:
        assert call_dqm(*words(line)) == 0
    capsys.readouterr()
    # the first time more had to be loaded; and of what a server is asked for, the second time is refused
    with Interruption(10 if "URL" in line or "GRAFANA" in line else 1 + whole.n_calls // 3):
        assert call_dqm(*words(line)) == INTERRUPTED
    told = capsys.readouterr().err
    assert "interrupted" in told.splitlines()
    assert "Traceback" not in told
    assert half_written() == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["certify", "amend", "x.toml", "great", "--run", "1", "-c", "a"], "'great' is not one of 'null'"),
        (
            ["history", "x.toml", "--since", "gestern"],
            "'gestern' is no time: give a day, or a day and a time",
        ),
    ],
)
def test_values_are_refused_in_words_of_the_program(dqm: Dqm, arguments: list[str], said: str) -> None:
    told = dqm(*arguments)
    text = " ".join(told.err.replace("│", " ").split())
    assert (told.code, said in text, "Value error" in text) == (2, True, False), text


def test_an_option_that_does_not_exist_is_answered_with_those_that_do(dqm: Dqm) -> None:
    told = dqm("report", "daemon.toml", "--stream", "chamber-1")
    assert told.code == 2
    words = " ".join(told.err.replace("│", " ").split())
    assert "No such option: --stream (Possible options: --output, --run)" in words
    told = dqm("history", "daemon.toml", "--steam", "chamber-1")
    assert "(Possible options: --stream)" in " ".join(told.err.replace("│", " ").split())
