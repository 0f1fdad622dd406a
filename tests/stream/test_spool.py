"""Windows on disk: what was written comes back, whatever happened to process and file."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dqm.errors import FileError
from dqm.stream import Receiver, Sender, Spool
from dqm.stream.wire import header_of

from .test_backlog import identity, message_of
from .test_sockets import receive
from .windows import window_of

FILE = "windows.sqlite"


def numbers(spool: Spool) -> list[int]:
    return [message.header.seq for message in spool.load()]


def test_what_was_not_removed_comes_back_in_order(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool") as spool:
        for seq in (3, 4, 5, 6):
            spool.add(message_of(seq))
        spool.add(message_of(4))
        spool.remove([identity(4), identity(5), identity(99)])
    assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o700
    with Spool(tmp_path / "spool") as spool:
        assert spool.load() == [message_of(3), message_of(6)]
        assert (spool.n_damaged, spool.set_aside) == (0, None)


def test_a_run_is_continued_with_the_number_that_follows(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        spool.add(message_of(7))
        spool.add(message_of(2, stream="chamber-2"))
        spool.remove([identity(7)])
    with Spool(tmp_path) as spool:
        assert spool.next_numbers(591) == {"chamber-1": 8, "chamber-2": 3}
        assert spool.next_numbers(592) == {}


def test_a_second_collector_is_kept_out(tmp_path: Path) -> None:
    with (
        Spool(tmp_path),
        pytest.raises(FileError, match=r"another collector uses this spool.*its own directory"),
    ):
        Spool(tmp_path)
    Spool(tmp_path).close()


def test_a_directory_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot make the spool"):
        Spool(tmp_path / "file" / "spool")


def test_an_altered_window_is_left_out_and_counted(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        for seq in range(3):
            spool.add(message_of(seq))
    with sqlite3.connect(tmp_path / FILE) as file:
        file.execute("UPDATE windows SET payload = zeroblob(100) WHERE seq = 1")
    file.close()
    with Spool(tmp_path) as spool:
        assert numbers(spool) == [0, 2]
        assert spool.n_damaged == 1
        assert numbers(spool) == [0, 2]
        assert spool.n_damaged == 1


@pytest.mark.parametrize("damage", ["garbage", "cut", "zeros"])
def test_a_damaged_file_is_set_aside(tmp_path: Path, damage: str) -> None:
    with Spool(tmp_path) as spool:
        for seq in range(200):
            spool.add(message_of(seq))
    content = (tmp_path / FILE).read_bytes()
    damaged = {
        "garbage": b"not a database at all" * 1000,
        "cut": content[: len(content) // 2],
        "zeros": content[:8192] + bytes(len(content) - 8192),
    }[damage]
    (tmp_path / FILE).write_bytes(damaged)
    with Spool(tmp_path) as spool:
        assert spool.set_aside is not None
        assert spool.set_aside.read_bytes() == damaged
        assert numbers(spool) == []
        spool.add(message_of(1))
        assert numbers(spool) == [1]


WRITER = """
import os, signal, sys
from pathlib import Path
from dqm.stream import Spool
from tests.stream.test_backlog import message_of
spool = Spool(Path(sys.argv[1]))
for seq in range(50):
    spool.add(message_of(seq))
os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_writer(folder: Path) -> None:
    told = subprocess.run([sys.executable, "-c", WRITER, folder], cwd=Path(__file__).parents[2], check=False)
    assert told.returncode == -signal.SIGKILL


def test_a_killed_collector_leaves_all_it_had_written(tmp_path: Path) -> None:
    killed_writer(tmp_path)
    with Spool(tmp_path) as spool:
        assert numbers(spool) == list(range(50))


def test_a_torn_log_costs_its_end_alone(tmp_path: Path) -> None:
    killed_writer(tmp_path)
    log = tmp_path / f"{FILE}-wal"
    os.truncate(log, log.stat().st_size * 2 // 3)
    with Spool(tmp_path) as spool:
        kept = numbers(spool)
    assert spool.set_aside is None
    assert 20 < len(kept) < 50
    assert kept == list(range(len(kept)))


def test_a_full_spool_says_so_and_takes_windows_again_when_there_is_room(tmp_path: Path) -> None:
    with (
        Spool(tmp_path / "spool", max_bytes=2**16) as spool,
        Sender(f"ipc://{tmp_path}/w", 40, spool=spool) as sender,
    ):
        x, seq = np.zeros((300, 2)), 0
        while not sender.problem:
            sender.send(window_of(x, seq=seq))
            seq += 1
        assert "the spool fails: database or disk is full" in sender.problem
        assert sender.n_kept == seq
        with Receiver([f"ipc://{tmp_path}/w"]) as receiver:
            for _ in range(seq):
                assert sender.n_kept
                sender.flush(0.0)
                window = None
                while window is None:
                    sender.pump()
                    window = receiver.receive(20)
                receiver.acknowledge(window)  # type: ignore[arg-type]
            assert sender.confirm(5.0)
        sender.send(window_of(seq=seq))
        assert sender.problem == ""
        assert numbers(spool) == [seq]


def test_a_sender_starts_with_what_the_spool_holds(tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/w"
    with Spool(tmp_path / "spool") as spool, Sender(address, 4, spool=spool) as sender:
        for seq in range(6):
            sender.send(window_of(seq=seq))
        assert sender.n_lost == 2
    with (
        Receiver([address]) as receiver,
        Spool(tmp_path / "spool") as spool,
        Sender(address, spool=spool) as sender,
    ):
        assert sender.n_kept == 4
        sender.send(window_of(seq=5))  # as a replay that begins again would
        sender.send(window_of(seq=6))
        assert sender.flush(5.0)
        windows = [receive(receiver) for _ in range(5)]
        assert [window.seq for window in windows] == [2, 3, 4, 5, 6]
        receiver.acknowledge(windows[0])
        receiver.refuse(windows[1], "origin")
        assert not sender.confirm(0.2)
        assert sender.refusals == {"origin": 1}
        assert [message.header for message in spool.load()] == [header_of(window) for window in windows[2:]]
