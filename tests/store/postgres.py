"""A real PostgreSQL server of the tests' own, reachable through a socket in a temporary directory alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from itertools import count
from pathlib import Path
from typing import Self

import pytest

_DEBIAN = Path("/usr/lib/postgresql")


class PostgresServer:
    """Runs within the block; can be stopped and started again.

    The test is skipped where PostgreSQL is not installed, or fails if ``DQM_REQUIRE_ALL=1``.
    """

    def __init__(self) -> None:
        programs = next(iter(sorted(_DEBIAN.glob("*/bin"))), None)
        initdb = programs / "initdb" if programs else shutil.which("initdb")
        if initdb is None:
            if os.environ.get("DQM_REQUIRE_ALL") == "1":
                pytest.fail("PostgreSQL is not installed, and DQM_REQUIRE_ALL=1 forbids to skip")
            pytest.skip("PostgreSQL is not installed")
        pytest.importorskip("psycopg")
        self.programs = Path(initdb).parent
        as_root = os.geteuid() == 0  # it refuses to run as root
        self._as_user = ["runuser", "-u", "postgres", "--"] if as_root else []
        self._folder = Path(tempfile.mkdtemp(prefix="dqm-pg-"))  # short: the path of a socket has 107 bytes
        if as_root:
            shutil.chown(self._folder, "postgres")
        self._numbers = count()

    def __enter__(self) -> Self:
        self._call("initdb", "-D", str(self._folder / "data"), "-A", "trust", "-N", "-U", "dqm")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if (self._folder / "data" / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self._folder)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = f"-c listen_addresses='' -k {self._folder} -c fsync=off"
        log = str(self._folder / "log")
        self._call("pg_ctl", "-D", str(self._folder / "data"), "-o", options, "-l", log, "-w", "start")

    def stop(self) -> None:
        """End it as a crash would."""
        self._call("pg_ctl", "-D", str(self._folder / "data"), "-m", "immediate", "stop")

    def make_database(self) -> str:
        """Give the URL of a new, empty database, as it stands in a configuration."""
        name = f"test{next(self._numbers)}"
        self._call("createdb", "-h", str(self._folder), "-U", "dqm", name)
        return f"postgresql://dqm@/{name}?host={self._folder}"

    def back_up(self, url: str, copy: Path) -> None:
        """Write a copy of a database."""
        subprocess.run(
            [self.programs / "pg_dump", "--format=custom", f"--file={copy}", url],
            check=True,
            capture_output=True,
        )

    def restore(self, url: str, copy: Path) -> None:
        """Put a copy in the place of what a database has."""
        options = ("--clean", "--if-exists", "--exit-on-error", f"--dbname={url}")
        subprocess.run([self.programs / "pg_restore", *options, copy], check=True, capture_output=True)

    def _call(self, program: str, *arguments: str) -> None:
        command = [*self._as_user, self.programs / program, *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd=self._folder)
