"""A real PostgreSQL server of the tests' own, reachable through a socket in a temporary directory alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

_DEBIAN = Path("/usr/lib/postgresql")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Callable[[], str]]:
    """Gives the URL of a new, empty database each time it is called."""
    programs = next(iter(sorted(_DEBIAN.glob("*/bin"))), None)
    initdb = programs / "initdb" if programs else shutil.which("initdb")
    if initdb is None:
        if os.environ.get("DQM_REQUIRE_ALL") == "1":
            pytest.fail("PostgreSQL is not installed, and DQM_REQUIRE_ALL=1 forbids to skip")
        pytest.skip("PostgreSQL is not installed")
    pytest.importorskip("psycopg")
    bin_directory = Path(initdb).parent
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []  # it refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="dqm-pg-"))  # short: the path of a socket has 107 bytes
    if as_user:
        shutil.chown(folder, "postgres")

    def call(program: str, *arguments: str) -> None:
        subprocess.run(
            [*as_user, bin_directory / program, *arguments], check=True, capture_output=True, cwd=folder
        )

    call("initdb", "-D", str(folder / "data"), "-A", "trust", "-N", "-U", "dqm")
    options = f"-c listen_addresses='' -k {folder} -c fsync=off"
    call("pg_ctl", "-D", str(folder / "data"), "-o", options, "-l", str(folder / "log"), "-w", "start")
    numbers = count()

    def make() -> str:
        name = f"test{next(numbers)}"
        call("createdb", "-h", str(folder), "-U", "dqm", name)
        return f"postgresql+psycopg://dqm@/{name}?host={folder}"

    try:
        yield make
    finally:
        call("pg_ctl", "-D", str(folder / "data"), "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of a new store of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/verdicts.sqlite"
    made: str = request.getfixturevalue("postgres")()
    return made
