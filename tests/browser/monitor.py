"""A daemon as a process of its own, which tests start, feed, kill and start again."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from dqm.events import FloatArray, Origin, RunEvent, RunNotice
from dqm.stream import Sender
from dqm.web import add_user
from tests.cli.program import logged, start_dqm
from tests.ports import free_port
from tests.service.small import window_of
from tests.waiting import WAIT_SECONDS, get, wait_until

USER, PASSWORD = "maria", "correct horse"
STREAMS = ("chamber-1", "chamber-2", "chamber-3", "chamber-4", "chamber-5")


class Monitor:
    """Daemon of five streams in three groups, at addresses that stay."""

    def __init__(self, folder: Path, bundle: Path, keep: str = "") -> None:
        self.http = f"127.0.0.1:{free_port()}"
        self._folder = folder
        self._address = f"ipc://{folder}/windows.ipc"
        self._process: subprocess.Popen[bytes] | None = None
        self._seq = dict.fromkeys(STREAMS, 0)
        streams = "".join(
            f'[[streams]]\nname = "{name}"\ngroup = "muon/station-{n // 2 + 1}"\nbundle = "{bundle}"\n\n'
            for n, name in enumerate(STREAMS)
        )
        add_user(folder / "users.toml", USER, PASSWORD)
        self.config = folder / "daemon.toml"
        self.config.write_text(
            f'[daemon]\nlisten = ["{self._address}"]\nhttp = "{self.http}"\nworkers = 0\n\n'
            f'[web]\nusers = "users.toml"\n\n[keep]\n{keep}\n\n'
            f'[alarm]\ncontact = "the muon expert, 16-2345"\n\n{streams}'
        )

    @property
    def url(self) -> str:
        return f"http://{self.http}"

    def start(self) -> None:
        log = self._folder / "daemon.log"
        self._process = start_dqm("run", "daemon.toml", cwd=self._folder, log=log)
        wait_until(lambda: logged(log, "ready") is not None, "the daemon is ready")
        wait_until(lambda: get(f"{self.url}/healthz").status_code == 200, "it answers")

    def kill(self) -> None:
        """End it as a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(WAIT_SECONDS)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            assert self._process.wait(WAIT_SECONDS) == 0

    def feed(self, stream: str, *samples: FloatArray, **fields: object) -> None:
        """Send windows and wait until they are judged; `fields` are those of `window_of`."""
        self.send(stream, *samples, **fields)
        last = self._seq[stream] - 1
        path = f"{self.url}/api/v1/streams/{stream}/windows/7/{last}"
        wait_until(lambda: get(path).status_code == 200, "the windows are judged")

    def send(self, stream: str, *samples: FloatArray, **fields: object) -> None:
        """Send windows and wait until they are answered."""
        with Sender(self._address) as sender:
            for x in samples:
                seq = self._seq[stream]
                sender.send(window_of(x, stream=stream, seq=seq, origin=Origin.SIMULATED, **fields))
                self._seq[stream] += 1
            assert sender.flush(WAIT_SECONDS)

    def announce(self, event: RunEvent, stream: str, time: float) -> None:
        """Say that the run of a stream begins or ends, and wait until that is stored."""
        with Sender(self._address) as sender:
            sender.announce(RunNotice(stream, 7, "cosmics", event, time, "operator"))
            assert sender.confirm(WAIT_SECONDS)
            assert sender.run_refusals == ()
