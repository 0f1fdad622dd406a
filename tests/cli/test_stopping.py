"""Commands as processes: Ctrl-C, a reader that goes away, and the end of a reader's thread."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest

from dqm.cli.entry import INTERRUPTED
from dqm.cli.main import READER_GONE
from tests.ports import free_port
from tests.waiting import get, wait_until

from .program import ENVIRONMENT, PROGRAM, start_dqm

STOP_SECONDS, WHOLE_SECONDS = 30.0, 600.0


@pytest.mark.slow
def test_ctrl_c_ends_a_calibration_with_its_processes(bare: Path, tmp_path: Path) -> None:
    mine, log = shutil.copytree(bare, tmp_path / "mine"), tmp_path / "log"
    process = start_dqm(
        "reference", "calibrate", mine, "--toys", 1_000_000, "--processes", 2, cwd=tmp_path, log=log
    )
    try:
        wait_until(lambda: any(mine.glob("toys-*/*")), "the first toys")
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: all of them
        assert process.wait(STOP_SECONDS) == INTERRUPTED
    finally:
        process.kill()
    told = log.read_text()
    assert told.splitlines()[-1] == "interrupted"
    assert "Traceback" not in told
    assert not list(mine.glob(".*"))


@pytest.mark.parametrize("module", ["typer", "dqm.errors", "dqm.cli.history", "sqlalchemy"])
def test_ctrl_c_is_answered_while_the_program_is_loaded(tmp_path: Path, module: str) -> None:
    """The program asks for a module; then Ctrl-C arrives."""
    code = (
        "import os, signal, sys\n"
        "class Keyboard:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Keyboard())\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # the tests may run in the background
        "sys.argv = ['dqm', 'history', 'verdicts.sqlite']\n"
    )
    script = PROGRAM.read_text().splitlines()[1:]
    told = subprocess.run(
        [PROGRAM.with_name("python"), "-c", code + "\n".join(script)],
        cwd=tmp_path, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (told.returncode, told.stderr) == (INTERRUPTED, "interrupted\n")


def test_the_reader_of_a_pipe_may_go_away() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    told = subprocess.run(
        [PROGRAM, "dashboards", "path"],
        env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=writing, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    os.close(writing)
    assert (told.returncode, told.stderr) == (READER_GONE, b"")


def start_unread(*arguments: object, cwd: Path, stdout: int) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own, both of whose outputs go to where nobody reads them."""
    return subprocess.Popen(
        [PROGRAM, *map(str, arguments)],
        cwd=cwd, env=ENVIRONMENT | {"XDG_CACHE_HOME": str(cwd / "cache")},
        stdin=subprocess.DEVNULL, stdout=stdout, stderr=stdout,
        start_new_session=True, preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def has_processes(session: int) -> bool:
    """Whether a process of a session, which is a group, is left."""
    try:
        os.killpg(session, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def nowhere(kind: str) -> Iterator[int]:
    """Where output cannot be written."""
    reading, writing = os.pipe()
    os.close(reading)
    full = os.open("/dev/full", os.O_WRONLY)
    yield {"closed pipe": writing, "full disk": full}[kind]
    os.close(writing)
    os.close(full)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["closed pipe", "full disk"])
def test_a_daemon_whose_log_cannot_be_written_runs_until_ctrl_c(
    bundle: Path, tmp_path: Path, kind: str
) -> None:
    port = free_port()
    (tmp_path / "daemon.toml").write_text(
        f'[daemon]\nlisten = ["ipc://w.ipc"]\nhttp = "127.0.0.1:{port}"\nworkers = 0\n'
        f'[[streams]]\nname = "chamber-1"\nbundle = "{bundle}"\n'
    )
    with nowhere(kind) as output:
        process = start_unread("run", "daemon.toml", cwd=tmp_path, stdout=output)
    try:
        wait_until(lambda: is_answered(port) or process.poll() is not None, "the page")
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(STOP_SECONDS) == 0
        assert not has_processes(process.pid)
    finally:
        process.kill()


def is_answered(port: int) -> bool:
    try:
        return get(f"http://127.0.0.1:{port}/healthz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.long
@pytest.mark.parametrize(("kind", "code"), [("closed pipe", READER_GONE), ("full disk", 2)])
def test_a_demonstration_whose_output_cannot_be_written_leaves_no_process(
    tmp_path: Path, kind: str, code: int
) -> None:
    with nowhere(kind) as output:
        process = start_unread("demo", "--directory", tmp_path / "demo", cwd=tmp_path, stdout=output)
    try:
        assert process.wait(WHOLE_SECONDS) == code
        assert not has_processes(process.pid)
    finally:
        process.kill()


@pytest.mark.parametrize(
    "line",
    ["collect", *(pytest.param(line, marks=pytest.mark.slow) for line in ("run", "demo --directory"))],
)
def test_closed_outputs_stop_nothing_before_the_mistake_does(tmp_path: Path, line: str) -> None:
    """Without standard streams; the mistake is a directory, or a file in its place."""
    wrong = tmp_path / "wrong"
    wrong.touch() if "demo" in line else wrong.mkdir()
    told = subprocess.run(
        ["/bin/sh", "-c", f"exec {PROGRAM} {line} {wrong} <&- >&- 2>&-"], env=ENVIRONMENT, check=False
    )
    assert told.returncode == 2


def test_closed_outputs_are_not_given_to_files(tmp_path: Path) -> None:
    code = (
        "from dqm.cli.entry import run\nimport os, sys\nsys.argv = ['dqm', '--version']\n"
        "try:\n    run()\nexcept SystemExit:\n    file = open('file', 'w')\n    os.write(2, b'a message')\n"
        "    os._exit(file.fileno())\n"
    )
    python = PROGRAM.with_name("python")
    told = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" -c "$1" <&- >&- 2>&-', python, code], cwd=tmp_path, check=False
    )
    assert told.returncode > 2
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.slow
def test_a_source_without_events_ends_in_order(tmp_path: Path) -> None:
    """Arrow's thread, which read ahead in a file of Python, ended 1 of 20 such processes by SIGABRT."""
    code = (
        "import pathlib, sys\nfrom dqm_collectors.replay import read_features\n"
        "sys.exit(len(list(read_features(pathlib.Path('none.csv')))))"
    )
    (tmp_path / "none.csv").write_text("a,b\n")
    python = PROGRAM.with_name("python")
    for _ in range(8):
        told = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, check=False)
        assert (told.returncode, told.stderr) == (0, b"")
