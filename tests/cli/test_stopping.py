"""Commands as processes: Ctrl-C, a reader that goes away, and the end of a reader's thread."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from dqm.cli.entry import INTERRUPTED
from dqm.cli.main import READER_GONE
from tests.waiting import wait_until

from .program import ENVIRONMENT, PROGRAM, start_dqm

STOP_SECONDS = 30.0


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
        "sys.argv = ['dqm', 'history', 'verdicts.sqlite']\n"
    )
    script = PROGRAM.read_text().splitlines()[1:]
    told = subprocess.run(
        [PROGRAM.with_name("python"), "-c", code + "\n".join(script)],
        cwd=tmp_path, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (told.returncode, told.stderr) == (INTERRUPTED, "interrupted\n")


def test_the_reader_of_a_pipe_may_go_away(bundle: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    told = subprocess.run(
        [PROGRAM, "reference", "show", bundle, "--json"],
        env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=writing, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    os.close(writing)
    assert (told.returncode, told.stderr) == (READER_GONE, b"")


@pytest.mark.parametrize("line", ["run", "collect", "demo --directory"])
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


def test_a_source_without_events_ends_in_order(tmp_path: Path) -> None:
    """Arrow's thread, which read ahead in a file of Python, ended 1 of 20 such processes by SIGABRT."""
    code = (
        "import pathlib, pyarrow, sys\nfrom dqm_collectors.tables import read_csv\n"
        "path = pathlib.Path('none.csv')\n"
        "sys.exit(len(list(read_csv(path, {'a': pyarrow.float64()}, ('a', 'b')))))"
    )
    (tmp_path / "none.csv").write_text("a,b\n")
    python = PROGRAM.with_name("python")
    for _ in range(8):
        told = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, check=False)
        assert (told.returncode, told.stderr) == (0, b"")
