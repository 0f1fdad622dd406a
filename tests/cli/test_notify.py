"""What ``dqm run`` tells a service manager, heard at a socket of the test's own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dqm.stream import Sender
from tests.service.small import window_of
from tests.waiting import get, wait_until

from .program import logged, start_dqm
from .test_online import write_daemon
from .test_reload import workers_of

WATCHDOG_SECONDS = 2.0


class Manager:
    """Stands in for systemd."""

    def __init__(self, path: Path) -> None:
        self.told: list[str] = []
        self._end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._end.bind(str(path))
        self._end.setblocking(False)

    def listen(self) -> list[str]:
        """Everything told so far, the newest last."""
        while True:
            try:
                self.told.append(self._end.recv(4096).decode())
            except BlockingIOError:
                return self.told

    def hears(self, words: str) -> bool:
        return any(words in told for told in self.listen())

    def forget(self) -> None:
        self.listen()
        self.told.clear()

    def close(self) -> None:
        self._end.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    opened = Manager(tmp_path / "notify")
    yield opened
    opened.close()


@pytest.fixture
def daemon(tmp_path: Path, bundle: Path, manager: Manager) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon that is watched, once it has said that it is ready."""
    config = write_daemon(tmp_path, bundle)
    variables = {"NOTIFY_SOCKET": f"{tmp_path}/notify", "WATCHDOG_USEC": f"{int(WATCHDOG_SECONDS * 1e6)}"}
    process = start_dqm("run", config.name, cwd=tmp_path, log=tmp_path / "daemon.log", **variables)
    wait_until(lambda: process.poll() is not None or manager.hears("READY=1"), "the daemon is ready")
    yield process
    process.kill()
    process.wait()


def test_a_daemon_tells_how_it_lives(
    daemon: subprocess.Popen[bytes], manager: Manager, tmp_path: Path
) -> None:
    assert manager.told[0] == "READY=1", "the first it says, and it listens by then"
    ready = logged(tmp_path / "daemon.log", "ready")
    assert ready is not None
    assert get(f"http://{ready['http']}/healthz").status_code == 200
    with Sender(f"ipc://{tmp_path}/windows.ipc") as sender:
        sender.send(window_of(run=41))
        assert sender.confirm(60.0)
    wait_until(lambda: manager.hears("STATUS=run 41, last window "), "the status")
    assert manager.hears(" s ago; 1 judged, 0 waiting")
    manager.forget()
    daemon.send_signal(signal.SIGHUP)
    wait_until(lambda: manager.hears("READY=1"), "the end of the reload")
    states = [told for told in manager.told if not told.startswith(("STATUS", "WATCHDOG"))]
    assert states[0].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert states[1:] == ["READY=1"]
    config = tmp_path / "daemon.toml"
    config.write_text(config.read_text() + "nonsense = 1\n")
    manager.forget()
    daemon.send_signal(signal.SIGHUP)
    wait_until(lambda: manager.hears("reload refused: "), "the status says so")
    wait_until(lambda: manager.hears("READY=1"), "ready all the same")
    daemon.terminate()
    assert daemon.wait(30) == 0
    assert manager.listen()[-1] == "STOPPING=1"


def test_a_hung_worker_starves_the_watchdog(
    daemon: subprocess.Popen[bytes], manager: Manager, tmp_path: Path
) -> None:
    wait_until(lambda: manager.hears("WATCHDOG=1"), "fed while there is nothing to do")
    (worker,) = workers_of(daemon)
    os.kill(worker, signal.SIGSTOP)
    try:
        with Sender(f"ipc://{tmp_path}/windows.ipc") as sender:
            sender.send(window_of())
            assert sender.flush(60.0)
            wait_until(lambda: manager.hears("1 waiting"), "the daemon has the window")
            manager.forget()
            time.sleep(WATCHDOG_SECONDS)
            assert not manager.hears("WATCHDOG=1"), "the loop turns, but no window gets done"
            os.kill(worker, signal.SIGCONT)
            assert sender.confirm(60.0)
    finally:
        os.kill(worker, signal.SIGCONT)  # or it would outlive a failure
    wait_until(lambda: manager.hears("WATCHDOG=1"), "fed again")
