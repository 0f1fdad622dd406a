"""What ``dqm run`` tells a service manager, heard at a socket of the test's own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dqm.stream import Sender
from tests.service.small import window_of
from tests.waiting import get, wait_until

from .program import logged, start_dqm
from .test_online import write_daemon
from .test_reload import workers_of

WATCHDOG_SECONDS = 2.0
pytestmark = pytest.mark.slow


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


@dataclass(frozen=True)
class Watched:
    """A daemon that is watched, and who watches it."""

    process: subprocess.Popen[bytes]
    manager: Manager
    config: Path

    @property
    def address(self) -> str:
        return f"ipc://{self.config.parent}/windows.ipc"


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Iterator[Watched]:
    """A daemon once it has said that it is ready; at its end it says that it stops."""
    folder = tmp_path_factory.mktemp("watched")
    config, manager = write_daemon(folder, bundle), Manager(folder / "notify")
    variables = {"NOTIFY_SOCKET": f"{folder}/notify", "WATCHDOG_USEC": f"{int(WATCHDOG_SECONDS * 1e6)}"}
    process = start_dqm("run", config.name, cwd=folder, log=folder / "daemon.log", **variables)
    try:
        wait_until(lambda: process.poll() is not None or manager.hears("READY=1"), "the daemon is ready")
        assert manager.told[0] == "READY=1", "the first it says, and it listens by then"
        ready = logged(folder / "daemon.log", "ready")
        assert ready is not None
        assert get(f"http://{ready['http']}/healthz").status_code == 200
        yield Watched(process, manager, config)
        process.terminate()
        assert process.wait(60) == 0
        assert manager.listen()[-1] == "STOPPING=1"
    finally:
        process.kill()
        process.wait()
        manager.close()


def test_the_status_says_what_was_judged(watched: Watched) -> None:
    with Sender(watched.address) as sender:
        sender.send(window_of(run=41))
        assert sender.confirm(60.0)
    watched.manager.forget()
    watched.process.send_signal(signal.SIGHUP)  # a reload ends with a status, which otherwise comes every 5 s
    wait_until(lambda: watched.manager.hears("STATUS=run 41, last window "), "the status")
    assert watched.manager.hears(" judged, 0 waiting")


def test_a_reload_is_told_from_its_beginning_to_its_end(watched: Watched) -> None:
    manager = watched.manager
    manager.forget()
    watched.process.send_signal(signal.SIGHUP)
    wait_until(lambda: manager.hears("READY=1"), "the end of the reload")
    states = [told for told in manager.told if not told.startswith(("STATUS", "WATCHDOG"))]
    assert states[0].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert states[1:] == ["READY=1"]


def test_a_reload_that_is_refused_is_told_and_leaves_the_daemon_ready(watched: Watched) -> None:
    manager, sound = watched.manager, watched.config.read_text()
    watched.config.write_text(sound + "nonsense = 1\n")
    manager.forget()
    watched.process.send_signal(signal.SIGHUP)
    wait_until(lambda: manager.hears("reload refused: "), "the status says so")
    wait_until(lambda: manager.hears("READY=1"), "ready all the same")
    watched.config.write_text(sound)


def test_a_hung_worker_starves_the_watchdog(watched: Watched) -> None:
    manager = watched.manager
    with Sender(watched.address) as sender:  # the age of its verdict makes each status another text
        sender.send(window_of(run=40))
        assert sender.confirm(60.0)
    manager.forget()
    wait_until(lambda: manager.hears("WATCHDOG=1"), "fed while there is nothing to do")
    (worker,) = workers_of(watched.process)
    os.kill(worker, signal.SIGSTOP)
    try:
        with Sender(watched.address) as sender:
            sender.send(window_of(run=42))
            assert sender.flush(60.0)
            watched.process.send_signal(signal.SIGHUP)
            wait_until(lambda: manager.hears("1 waiting"), "the daemon has the window")
            manager.forget()
            # a status comes less often than the watchdog wants food
            wait_until(lambda: manager.hears("1 waiting"), "the loop turns, but no window gets done")
            assert not manager.hears("WATCHDOG=1")
            os.kill(worker, signal.SIGCONT)
            assert sender.confirm(60.0)
    finally:
        os.kill(worker, signal.SIGCONT)  # or it would outlive a failure
    wait_until(lambda: manager.hears("WATCHDOG=1"), "fed again")
