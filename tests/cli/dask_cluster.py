"""A Dask cluster as a laboratory has it: scheduler and workers are programs of their own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from tests.waiting import wait_until

START_SECONDS = 60.0


class DaskCluster:
    """Processes on the loopback; they end with the block.

    Parameters
    ----------
    folder : Path
        For logs and scratch files; working directory of all.
    certificates : mapping
        Dask's configuration of them; without it nothing is encrypted.
    """

    def __init__(self, folder: Path, certificates: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.workers: list[subprocess.Popen[bytes]] = []
        self.address = ""
        settings = {
            "DASK_" + name.replace(".", "__").replace("-", "_").upper(): value
            for name, value in (certificates or {}).items()
        }
        self._environment = os.environ | settings
        self._protocol = "tls" if certificates else "tcp"

    def __enter__(self) -> Self:
        self.start_scheduler()
        return self

    def start_scheduler(self) -> None:
        """Start a scheduler; where the one before was, if there was one."""
        known = self.folder / "scheduler.json"
        known.unlink(missing_ok=True)
        where = ("--host", self.address) if self.address else ("--port", "0", "--host", "127.0.0.1")
        options = (*where, "--scheduler-file", str(known), "--protocol", self._protocol)
        self.scheduler = self._start("scheduler", *options)
        wait_until(
            lambda: known.exists() and known.read_text().endswith("}"),  # it is not written at once
            (self.folder / "scheduler.log").read_text,
            START_SECONDS,
        )
        self.address = str(json.loads(known.read_text())["address"])

    def __exit__(self, *_: object) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()

    def add_worker(self, n_threads: int, preload: str = "") -> None:
        """Start a worker, perhaps with lines of Python that change it first; it takes its time to appear."""
        options = ("--no-nanny", "--nthreads", str(n_threads), "--local-directory", "scratch")
        options += ("--host", "127.0.0.1")
        if preload:
            module = self.folder / f"preload_{len(self.workers)}.py"
            module.write_text(preload)
            options += ("--preload", module.name)
        self.workers.append(self._start("worker", self.address, "--protocol", self._protocol, *options))

    def _start(self, role: str, *options: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{role}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", role, *options, "--no-dashboard"],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )


@contextmanager
def another_service(greeting: bytes, port: int = 0) -> Iterator[str]:
    """Listen with something that is no scheduler; without a greeting it waits for the other side."""
    held = []

    def serve() -> None:
        with suppress(OSError):  # it was closed
            while True:
                connection, _ = listening.accept()
                held.append(connection)
                if greeting:
                    connection.sendall(greeting)
                    connection.close()

    with socket.create_server(("127.0.0.1", port)) as listening:
        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        try:
            yield f"tcp://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            serving.join()
            for connection in held:
                connection.close()
